package feature

import "math"

// moments is what a standard deviation is computed from: the values' differences
// from a centre c, summed, and their squares, summed, both in double-double
// arithmetic with a bound of what rounding lost. The centre keeps the squares from
// cancelling; it moves, and all is summed anew, when they nevertheless do
// (see settleMoments). The square of a difference is exact in two or three parts by
// fused multiply-add.
type moments struct {
	c          float64
	s1, l1, e1 float64 // of the differences: high and low word, bound
	s2, l2, e2 float64 // of their squares
	n          uint32
}

const (
	tinyMoment = 0x1p-450 // below, squares lose digits
	lossy      = 0x1p-100 // relative loss of one operation, with room
	goodMoment = 0x1p-56  // relative loss that does not show in the result
)

// add counts a value in. The first is the centre.
func (m *moments) add(x float64) {
	if m.n == 0 {
		*m = moments{c: x}
	}
	m.n++
	m.put(x, 1)
}

// remove counts a value out.
func (m *moments) remove(x float64) {
	if m.n--; m.n == 0 {
		*m = moments{}
		return
	}
	m.put(x, -1)
}

func (m *moments) put(x, sign float64) {
	d, f := twoSum(x, -m.c)
	if a := math.Abs(d); a != 0 && (a < tinyMoment || !(a < math.MaxFloat64)) {
		m.e2 = math.Inf(1)
		return
	}
	p := d * d
	m.s1, m.l1, m.e1 = accumulate(m.s1, m.l1, m.e1, sign*d, sign*f)
	m.s2, m.l2, m.e2 = accumulate(m.s2, m.l2, m.e2, sign*p, sign*math.FMA(d, d, -p))
	if f != 0 {
		g := 2 * d * f
		m.s2, m.l2, m.e2 = accumulate(m.s2, m.l2, m.e2, sign*g, sign*(math.FMA(2*d, f, -g)+f*f))
		m.e2 += math.Abs(g) * lossy
	}
}

// accumulate adds a + b to a double-double and widens its bound by what was lost.
func accumulate(hi, lo, bound, a, b float64) (float64, float64, float64) {
	for _, x := range [...]float64{a, b} {
		if x == 0 {
			continue
		}
		h, e := twoSum(hi, x)
		l, r := twoSum(lo, e)
		hi, lo = twoSum(h, l)
		if r != 0 {
			bound += math.Abs(r) * (1 + 0x1p-50)
		}
	}
	if hi-hi != 0 || lo-lo != 0 {
		return 0, 0, math.Inf(1)
	}
	return hi, lo, bound
}

// variance returns the sample variance of n ≥ 2 values; ok is false where it may
// be off in a digit that shows.
func (m *moments) variance() (v float64, ok bool) {
	n := float64(m.n)
	// n·Σd² − (Σd)², in double-double.
	a := n * m.s2
	al := math.FMA(n, m.s2, -a) + n*m.l2
	b := m.s1 * m.s1
	bl := math.FMA(m.s1, m.s1, -b) + 2*m.s1*m.l1
	d, e := twoSum(a, -b)
	v = d + (e + (al - bl))
	bound := n*m.e2 + 2*math.Abs(m.s1)*m.e1 + a*lossy
	if bound == 0 {
		return 0, m.s1 == 0 // all values are the centre
	}
	if !(bound <= v*goodMoment) {
		return 0, false
	}
	return v / (n * (n - 1)), true
}

// settleMoments moves the centre to the mean of a window's values and sums anew
// where rounding could show. It is part of taking a row in, so that a replay does it too.
func (w *Windows) settleMoments(k uint32, spanIndex int, a accumulator) {
	m := &w.keyMoments(k)[a.slot]
	if m.n < 2 {
		return
	}
	if _, ok := m.variance(); ok {
		return
	}
	block := w.view(w.ring(k))
	from, to := w.extent(k, spanIndex)
	c, ok := w.total(block, from, to, a.col, m.n, true)
	if !ok {
		return
	}
	*m = moments{c: c, n: m.n}
	for s := from; s != to; s++ {
		if v := block.at(s)[1+a.col]; v != nullFloat {
			m.put(math.Float64frombits(v), 1)
		}
	}
}

// deviation returns the sample standard deviation of the n ≥ 2 values of a range,
// in two passes: the mean as a double-double, then the squares of the differences from it.
func (w *Windows) deviation(block view, from, to uint32, col int, n uint32) float64 {
	big := 0.0
	for s := from; s != to; s++ {
		if v := block.at(s)[1+col]; v != nullFloat {
			big = max(big, math.Abs(math.Float64frombits(v)))
		}
	}
	if big == 0 {
		return 0
	}
	_, exp := math.Frexp(big)
	// Scaled, the largest value lies in [½, 1): nothing overflows, and what
	// underflows does not count.
	w.exp.reset()
	for s := from; s != to; s++ {
		if v := block.at(s)[1+col]; v != nullFloat {
			w.exp.add(math.Ldexp(math.Float64frombits(v), -exp))
		}
	}
	hi := w.exp.round()
	w.exp.add(-hi)
	lo := w.exp.round()
	m := hi / float64(n)
	ml := (math.FMA(-m, float64(n), hi) + lo) / float64(n)
	s2, l2 := 0.0, 0.0
	for s := from; s != to; s++ {
		v := block.at(s)[1+col]
		if v == nullFloat {
			continue
		}
		d, e := twoSum(math.Ldexp(math.Float64frombits(v), -exp), -m)
		d, e = twoSum(d, e-ml)
		p := d * d
		s2, l2, _ = accumulate(s2, l2, 0, p, math.FMA(d, d, -p)+2*d*e)
	}
	return math.Ldexp(math.Sqrt((s2+l2)/(float64(n)-1)), exp)
}
