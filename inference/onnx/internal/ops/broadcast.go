package ops

import "fmt"

// pairing is how two tensors are read together under broadcasting, as a nest of
// loops whose strides are 0 where a tensor repeats.
type pairing struct {
	rank     int
	shape    [MaxRank]int // of the result
	dims     int          // loops left after merging
	n        [MaxRank]int
	sa, sb   [MaxRank]int
	elements int
}

// pair works out the pairing of shapes a and b.
func pair(p *pairing, a, b []int) error {
	p.rank = max(len(a), len(b))
	if p.rank > MaxRank {
		return fmt.Errorf("more than %d dimensions", MaxRank)
	}
	at := func(s []int, i int) int {
		if i += len(s) - p.rank; i >= 0 {
			return s[i]
		}
		return 1
	}
	for i := range p.rank {
		x, y := at(a, i), at(b, i)
		switch {
		case x == y || y == 1:
			p.shape[i] = x
		case x == 1:
			p.shape[i] = y
		default:
			return fmt.Errorf("shapes %v and %v do not fit together", append([]int(nil), a...), append([]int(nil), b...))
		}
	}
	// From the innermost dimension outwards, merging a dimension into the loop below where
	// both tensors continue through it.
	p.dims, p.elements = 0, 1
	strideA, strideB := 1, 1
	for i := p.rank - 1; i >= 0; i-- {
		n, x, y := p.shape[i], at(a, i), at(b, i)
		p.elements *= n
		if n == 1 {
			continue
		}
		sa, sb := strideA, strideB
		if x == 1 {
			sa = 0
		}
		if y == 1 {
			sb = 0
		}
		strideA *= x
		strideB *= y
		if k := p.dims - 1; k >= 0 && sa == p.sa[k]*p.n[k] && sb == p.sb[k]*p.n[k] {
			p.n[k] *= n
			continue
		}
		p.n[p.dims], p.sa[p.dims], p.sb[p.dims] = n, sa, sb
		p.dims++
	}
	if p.dims == 0 {
		p.n[0], p.sa[0], p.sb[0], p.dims = 1, 1, 1, 1
	}
	return nil
}

// each calls inner for every run of the innermost loop with the offsets of the result and of
// both tensors.
func (p *pairing) each(inner func(d, a, b int)) {
	if p.elements == 0 {
		return
	}
	var at [MaxRank]int
	d, a, b := 0, 0, 0
	for {
		inner(d, a, b)
		d += p.n[0]
		k := 1
		for ; k < p.dims; k++ {
			at[k]++
			a += p.sa[k]
			b += p.sb[k]
			if at[k] < p.n[k] {
				break
			}
			a -= p.sa[k] * p.n[k]
			b -= p.sb[k] * p.n[k]
			at[k] = 0
		}
		if k == p.dims {
			return
		}
	}
}

// span is the part of s that a run of n elements with the stride reads: one where it is 0.
func span[T any](s []T, at, n, stride int) []T {
	if stride == 0 {
		return s[at : at+1]
	}
	return s[at : at+n]
}

// run2 combines two tensors; run gets operands as long as the result or of length one.
func run2[T, R Elem](f *Frame, out, a, b *Tensor, run func(d []R, a, b []T)) error {
	x, y := Data[T](a), Data[T](b)
	if sameShape(a.Shape, b.Shape) {
		d, err := Alloc[R](f, out, a.Shape...)
		if err == nil {
			run(d, x, y)
		}
		return err
	}
	var p pairing
	if err := pair(&p, a.Shape, b.Shape); err != nil {
		return err
	}
	d, err := Alloc[R](f, out, p.shape[:p.rank]...)
	if err != nil {
		return err
	}
	p.each(func(i, j, k int) {
		run(d[i:i+p.n[0]], span(x, j, p.n[0], p.sa[0]), span(y, k, p.n[0], p.sb[0]))
	})
	return nil
}

func sameShape(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i, n := range a {
		if b[i] != n {
			return false
		}
	}
	return true
}

// lift makes a run of a function of two elements.
func lift[T, R Elem](fn func(a, b T) R) func(d []R, a, b []T) {
	return func(d []R, a, b []T) {
		switch {
		case len(a) == len(d) && len(b) == len(d):
			for i := range d {
				d[i] = fn(a[i], b[i])
			}
		case len(a) == len(d):
			for i := range d {
				d[i] = fn(a[i], b[0])
			}
		case len(b) == len(d):
			for i := range d {
				d[i] = fn(a[0], b[i])
			}
		default:
			for i := range d {
				d[i] = fn(a[0], b[0])
			}
		}
	}
}

// dyadic is the kernel of a run over two inputs.
func dyadic[T, R Elem](run func(d []R, a, b []T)) Kernel {
	return func(f *Frame, in, out []*Tensor) error { return run2(f, out[0], in[0], in[1], run) }
}
