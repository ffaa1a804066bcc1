package jsontensor

import (
	"fmt"
	"math"
	"strconv"
)

// isNumber holds a token against JSON's grammar of numbers, which is narrower than
// what strconv takes.
func isNumber(t []byte) bool {
	i := 0
	digits := func() bool {
		from := i
		for i < len(t) && t[i] >= '0' && t[i] <= '9' {
			i++
		}
		return i > from
	}
	if i < len(t) && t[i] == '-' {
		i++
	}
	switch {
	case i < len(t) && t[i] == '0':
		i++
	case !digits():
		return false
	}
	if i < len(t) && t[i] == '.' {
		if i++; !digits() {
			return false
		}
	}
	if i < len(t) && (t[i] == 'e' || t[i] == 'E') {
		if i++; i < len(t) && (t[i] == '+' || t[i] == '-') {
			i++
		}
		if !digits() {
			return false
		}
	}
	return i == len(t)
}

// whole reads a whole number within 64 bits, written without a fraction or exponent.
func whole(t []byte) (int64, bool) {
	if !isNumber(t) {
		return 0, false
	}
	n, err := strconv.ParseInt(string(t), 10, 64)
	return n, err == nil
}

// float reads a number of the given size in bits. A number beyond it is an error: it
// would become an infinity.
func (r *Reader) float(bits int) (float64, error) {
	t := r.token()
	if isNumber(t) {
		v, err := strconv.ParseFloat(string(t), bits)
		if err != nil {
			return 0, fmt.Errorf("%s does not fit into %d bits", t, bits)
		}
		return v, nil
	}
	switch string(t) {
	case "null":
		if r.Null {
			return math.NaN(), nil
		}
	case "NaN":
		if r.Literal {
			return math.NaN(), nil
		}
	case "Infinity":
		if r.Literal {
			return math.Inf(1), nil
		}
	case "-Infinity":
		if r.Literal {
			return math.Inf(-1), nil
		}
	}
	return 0, fmt.Errorf("expected a number, not %s", r.shown(t))
}
