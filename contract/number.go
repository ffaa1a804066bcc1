package contract

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
)

// number is a JSON number as read: mant × 10^exp, negated if neg.
type number struct {
	start, end int
	mant       uint64 // valid unless long
	exp        int
	neg        bool
	long       bool // more digits than mant holds
	whole      bool // written without fraction and exponent
}

var pow10 = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22}

var pow10int = [...]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19}

// number reads a number into s.num.
func (s *scanner) number(i int) int {
	b := s.b
	n := number{start: i, whole: true}
	if i < len(b) && b[i] == '-' {
		n.neg = true
		i++
	}
	first := i
	var mant uint64
	for i < len(b) {
		c := b[i] - '0'
		if c > 9 {
			break
		}
		mant = mant*10 + uint64(c)
		i++
	}
	digits := i - first
	if digits == 0 {
		if n.neg {
			return s.syntax(i, "a digit")
		}
		return s.syntax(i, "a value")
	}
	if b[first] == '0' && digits > 1 {
		return s.fail(ReasonInvalidJSON, n.start, "number with a leading zero")
	}
	if i < len(b) && b[i] == '.' {
		n.whole = false
		i++
		from := i
		for i < len(b) {
			c := b[i] - '0'
			if c > 9 {
				break
			}
			mant = mant*10 + uint64(c)
			i++
		}
		if i == from {
			return s.syntax(i, "a digit")
		}
		digits += i - from
		n.exp = from - i
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		n.whole = false
		i++
		negative := false
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			negative = b[i] == '-'
			i++
		}
		from, e := i, 0
		for i < len(b) && b[i]-'0' <= 9 {
			e = min(e*10+int(b[i]-'0'), 1e6)
			i++
		}
		if i == from {
			return s.syntax(i, "a digit")
		}
		if e > maxExponent {
			return s.outOfRange(n.start, i)
		}
		if negative {
			e = -e
		}
		n.exp += e
	}
	n.mant, n.end = mant, i
	n.long = digits > 19
	if i-n.start > maxNumberBytes {
		return s.outOfRange(n.start, i)
	}
	s.num = n
	if digits+n.exp > 308 {
		if f, ok := s.num.parse(b); !ok || math.IsInf(f, 0) {
			return s.outOfRange(n.start, i)
		}
	}
	return i
}

func (s *scanner) outOfRange(start, end int) int {
	return s.fail(ReasonInvalidJSON, start, fmt.Sprintf("number %s is larger than a double holds, or its exponent beyond %d, or longer than %d characters",
		shorten(s.b[start:end]), maxExponent, maxNumberBytes))
}

func (n *number) text(b []byte) string { return view(b[n.start:n.end]) }

// exact reports whether two numbers for which it holds are equal whenever their
// doubles are: 15 digits survive the way through a double.
func (n *number) exact() bool {
	return !n.long && n.mant < 1e15 && n.exp >= -22 && n.exp <= 22
}

// float is the nearest double. Clinger's fast path: a mantissa and a power of ten
// that are both exact make a correctly rounded product or quotient (W. D. Clinger,
// "How to Read Floating Point Numbers Accurately", 1990).
func (n *number) float(b []byte) float64 {
	if !n.long && n.mant < 1<<53 && n.exp >= -22 && n.exp <= 22 {
		f := float64(n.mant)
		if n.exp < 0 {
			f /= pow10[-n.exp]
		} else {
			f *= pow10[n.exp]
		}
		if n.neg {
			f = -f
		}
		return f
	}
	f, _ := n.parse(b)
	return f
}

func (n *number) parse(b []byte) (float64, bool) {
	f, err := strconv.ParseFloat(n.text(b), 64)
	return f, err == nil
}

// int is the number as an int64. integer says that it is mathematically an
// integer, fits that it is one that an int64 holds.
func (n *number) int(b []byte) (v int64, integer, fits bool) {
	if n.long {
		if n.whole {
			return 0, true, false // 20 digits or more without leading zeros
		}
		r, ok := new(big.Rat).SetString(n.text(b))
		if !ok || !r.IsInt() {
			return 0, false, false
		}
		return r.Num().Int64(), true, r.Num().IsInt64()
	}
	m, e := n.mant, n.exp
	if m == 0 {
		return 0, true, true
	}
	for e < 0 {
		if m%10 != 0 {
			return 0, false, false
		}
		m /= 10
		e++
	}
	for ; e > 0; e-- {
		if m > math.MaxUint64/10 {
			return 0, true, false
		}
		m *= 10
	}
	switch {
	case n.neg && m <= 1<<63:
		return -int64(m), true, true
	case !n.neg && m < 1<<63:
		return int64(m), true, true
	}
	return 0, true, false
}

// limit is a number from the schema.
type limit struct {
	number
	text []byte
	f    float64
	i    int64
	fits bool // i is the number
}

// newLimit reads the JSON number text.
func newLimit(text string) (*limit, bool) {
	s := scanner{b: []byte(text)}
	if end := s.number(0); end != len(text) {
		return nil, false
	}
	l := &limit{number: s.num, text: s.b, f: s.num.float(s.b)}
	l.i, _, l.fits = s.num.int(s.b)
	return l, true
}

// compare orders the number n of payload b, whose double is f, against the
// limit: −1, 0 or 1. It is exact.
func (l *limit) compare(n *number, b []byte, f float64) int {
	if f < l.f {
		return -1
	}
	if f > l.f {
		return 1
	}
	if n.exact() && l.exact() {
		return 0
	}
	if l.fits {
		if v, _, fits := n.int(b); fits {
			switch {
			case v < l.i:
				return -1
			case v > l.i:
				return 1
			}
			return 0
		}
	}
	return rat(n.text(b)).Cmp(rat(view(l.text)))
}

// rat is a number that scanner.number has passed, exactly.
func rat(text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return new(big.Rat)
	}
	return r
}

// divides reports whether n is an integer multiple of the limit, exactly.
func (l *limit) divides(n *number, b []byte) bool {
	if !n.long && !l.long {
		m, k := n.mant, l.mant
		var ok bool
		switch d := n.exp - l.exp; {
		case m == 0 && k != 0:
			return true
		case d >= 0:
			m, ok = scale(m, d)
		default:
			k, ok = scale(k, -d)
		}
		if ok && k != 0 {
			return m%k == 0
		}
	}
	k := rat(view(l.text))
	if k.Sign() == 0 {
		return false
	}
	return new(big.Rat).Quo(rat(n.text(b)), k).IsInt()
}

// scale is m × 10^d; ok says that it fits.
func scale(m uint64, d int) (_ uint64, ok bool) {
	if d >= len(pow10int) || (m != 0 && m > math.MaxUint64/pow10int[d]) {
		return 0, false
	}
	return m * pow10int[d], true
}
