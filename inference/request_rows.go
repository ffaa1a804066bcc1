package inference

import "time"

// travelling is the number of rows that the cache did not answer.
func (r *Request) travelling() int { return r.rows - r.hits }

// row is the row of the request that travels as number k.
func (r *Request) row(k int) int {
	if r.hits == 0 {
		return k
	}
	return int(r.miss[k])
}

// expired asks the clock only where it matters.
func (r *Request) expired(now func() time.Time) bool {
	return !r.Expires.IsZero() && !now().Before(r.Expires)
}

// answered hands the request back to its caller.
func (r *Request) answered(now time.Time) {
	r.Answered = now
	close(r.done)
}

// forget makes all rows travel, those answered by the cache too.
func (r *Request) forget() {
	r.hits, r.miss, r.Cached = 0, r.miss[:0], r.Cached[:0]
	r.Failed = r.Failed[:0]
}

// take copies n rows of the answer, from row at, to those that travelled as
// number first and following. False means that rows answered by the cache or by
// another call have another shape.
func (r *Request) take(out []Tensor, at, n, first int) bool {
	r.Out = resize(r.Out, len(out))
	if n == r.rows {
		for i := range out {
			r.Out[i].set(&out[i], at, n)
		}
		return true
	}
	for i := range out {
		o, u := &r.Out[i], &out[i]
		if len(o.Shape) == 0 {
			o.prepare(u, r.rows)
		}
		if !sameRow(o.Shape, u.Shape) {
			return false
		}
		for k := range n {
			o.copyRow(r.row(first+k), u, at+k)
		}
	}
	return true
}

// alike reports whether rows of both can lie side by side.
func alike(a, b []Tensor) bool {
	for i := range a {
		if !sameRow(a[i].Shape, b[i].Shape) {
			return false
		}
	}
	return true
}

// sameRow compares shapes without their first dimension.
func sameRow(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 1; i < len(a); i++ {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
