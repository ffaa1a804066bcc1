package feature

import "math"

// sum is a running sum of float64 values, added and removed in any order, in
// double-double arithmetic (T. J. Dekker, "A floating-point technique for
// extending the available precision", 1971; D. E. Knuth's TwoSum). err bounds
// what rounding has lost so far; it stays 0 while the values' digits fit in the
// 106 bits, which is the ordinary case. When it could reach the last bit of the
// result, the window is summed anew (see settle in push.go).
type sum struct {
	hi, lo float64
	err    float32
	n      uint32 // values in the sum
}

func twoSum(a, b float64) (s, e float64) {
	s = a + b
	bb := s - a
	return s, (a - (s - bb)) + (b - bb)
}

func (s *sum) add(x float64) {
	hi, e := twoSum(s.hi, x)
	lo, r := twoSum(s.lo, e)
	s.hi, s.lo = twoSum(hi, lo)
	if r != 0 { // also where r is NaN, after an overflow
		s.err = widen(s.err, r)
	}
}

// widen adds |r| to a bound, rounding up; an overflow makes it infinite.
func widen(bound float32, r float64) float32 {
	e := float64(bound) + math.Abs(r)
	if !(e <= math.MaxFloat32/2) {
		return float32(math.Inf(1))
	}
	f := float32(e)
	if float64(f) <= e {
		f = math.Nextafter32(f, float32(math.Inf(1)))
	}
	return f
}

// exact reports whether hi is the sum's value to within less than an ulp.
func (s *sum) exact() bool { return float64(s.err) <= math.Abs(s.hi)*0x1p-60 }

// broken reports whether the sum overflowed on the way, so that only the values can tell.
func (s *sum) broken() bool { return math.IsInf(float64(s.err), 1) }

// expansion sums exactly: a list of doubles of growing magnitude whose bits do
// not overlap (J. R. Shewchuk, "Adaptive precision floating-point arithmetic",
// 1997). Values are scaled down where a sum would overflow.
type expansion struct {
	parts []float64
	over  bool
}

func (x *expansion) reset() { x.parts, x.over = x.parts[:0], false }

func (x *expansion) add(v float64) {
	i := 0
	for _, p := range x.parts {
		hi, lo := twoSum(v, p)
		if lo != 0 {
			x.parts[i] = lo
			i++
		}
		v = hi
	}
	if math.IsInf(v, 0) || math.IsNaN(v) {
		x.over = true
		v = 0
	}
	x.parts = append(x.parts[:i], v)
}

// round returns the exact sum, rounded once to nearest, ties to even.
func (x *expansion) round() float64 {
	n := len(x.parts)
	if n == 0 {
		return 0
	}
	n--
	hi, lo := x.parts[n], 0.0
	for n > 0 && lo == 0 {
		n--
		hi, lo = twoSum(hi, x.parts[n])
	}
	// Half an ulp left over and more of the same sign below: the tie was none.
	if n > 0 && (lo < 0) == (x.parts[n-1] < 0) && x.parts[n-1] != 0 {
		if y := lo * 2; (hi+y)-hi == y {
			hi += y
		}
	}
	return hi
}
