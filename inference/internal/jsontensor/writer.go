package jsontensor

import (
	"encoding/json"
	"math"
	"strconv"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// NaN says how numbers go out that JSON does not have.
type NaN uint8

const (
	// NaNNull writes NaN as null; infinities are Invalid.
	NaNNull NaN = iota
	// NaNLiteral writes NaN, Infinity and -Infinity.
	NaNLiteral
	// NaNRefuse makes rows with any of them Invalid.
	NaNRefuse
)

// NaNNames are the names of the ways in settings, in their order.
var NaNNames = []string{"null", "literal", "refuse"}

// AppendFlat writes all values of a tensor as one list.
func (p NaN) AppendFlat(out []byte, t *inference.Tensor, count int) ([]byte, error) {
	return p.list(out, t, []int{count}, 0)
}

// AppendNested writes a tensor as lists of lists, by its shape.
func (p NaN) AppendNested(out []byte, t *inference.Tensor) ([]byte, error) {
	return p.list(out, t, t.Shape, 0)
}

func (p NaN) list(out []byte, t *inference.Tensor, shape []int, from int) ([]byte, error) {
	width := 1
	for _, d := range shape[1:] {
		width *= d
	}
	out = append(out, '[')
	var err error
	for i := range shape[0] {
		if i > 0 {
			out = append(out, ',')
		}
		if len(shape) > 1 {
			out, err = p.list(out, t, shape[1:], from+i*width)
		} else {
			out, err = p.element(out, t, from+i)
		}
		if err != nil {
			return out, err
		}
	}
	return append(out, ']'), nil
}

func (p NaN) element(out []byte, t *inference.Tensor, i int) ([]byte, error) {
	switch t.Type {
	case inference.Float32:
		return p.float(out, float64(t.F32[i]), 32)
	case inference.Float64:
		return p.float(out, t.F64[i], 64)
	case inference.Int64:
		return strconv.AppendInt(out, t.I64[i], 10), nil
	case inference.Int32:
		return strconv.AppendInt(out, int64(t.I32[i]), 10), nil
	case inference.Bool:
		return strconv.AppendBool(out, t.Bool[i]), nil
	}
	return AppendText(out, t.Str[i]), nil
}

// AppendText writes a text.
func AppendText(out []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // no string is one
		return append(out, `""`...)
	}
	return append(out, b...)
}

// float writes a number so that it reads back as the same.
func (p NaN) float(out []byte, v float64, bits int) ([]byte, error) {
	special := ""
	switch {
	case v != v:
		special = "NaN"
	case math.IsInf(v, 1):
		special = "Infinity"
	case math.IsInf(v, -1):
		special = "-Infinity"
	default:
		format := byte('f')
		if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
			format = 'e'
		}
		return strconv.AppendFloat(out, v, format, -1, bits), nil
	}
	switch {
	case p == NaNLiteral:
		return append(out, special...), nil
	case p == NaNNull && v != v:
		return append(out, "null"...), nil
	}
	return out, errkind.Errorf(errkind.Invalid, "JSON has no %s: choose how it goes out with the option nan", special)
}
