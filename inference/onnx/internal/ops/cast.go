package ops

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/inference"
)

func castOps() []Entry {
	return []Entry{
		{Op: "Identity", Min: 1, Max: MaxOpset, InMin: 1, InMax: 1, OutMax: 1, Compile: compileIdentity},
		{Op: "Dropout", Min: 7, Max: MaxOpset, InMin: 1, InMax: 3, OutMax: 2, Compile: compileDropout},
		{Op: "Cast", Min: 6, Max: MaxOpset, InMin: 1, InMax: 1, OutMax: 1, Compile: compileCast},
		{Op: "CastLike", Min: 15, Max: MaxOpset, InMin: 2, InMax: 2, OutMax: 1, Compile: compileCastLike},
	}
}

func compileIdentity(n *Node) (Kernel, error) {
	n.result(0, n.in(0).Type)
	return nil, nil
}

// compileDropout drops nothing: this is inference.
func compileDropout(n *Node) (Kernel, error) {
	n.ignore("ratio", "seed")
	if t := n.in(2); t != nil && (t.Const == nil || len(t.Const.Bool) != 1 || t.Const.Bool[0]) {
		return nil, unsupported("training mode")
	}
	if len(n.Out) > 1 && n.Out[1] != nil {
		return nil, unsupported("the mask output")
	}
	n.result(0, n.in(0).Type)
	return nil, nil
}

func compileCast(n *Node) (Kernel, error) {
	to, err := n.intAttr("to", 0)
	if err != nil {
		return nil, err
	}
	n.ignore("saturate", "round_mode") // both are about 8-bit floats
	d, ok := TypeFromWire(int(min(max(to, 0), 1000)))
	if !ok {
		return nil, unsupported("a cast to ONNX type %d; supported are float32, float64, int64, int32, bool and string", to)
	}
	return castTo(n, d)
}

func compileCastLike(n *Node) (Kernel, error) {
	n.ignore("saturate", "round_mode")
	return castTo(n, n.in(1).Type)
}

func castTo(n *Node, d inference.DataType) (Kernel, error) {
	n.result(0, d)
	from := n.in(0).Type
	if from == d {
		return nil, nil
	}
	switch d {
	case inference.Float32:
		return castFrom[float32](from)
	case inference.Float64:
		return castFrom[float64](from)
	case inference.Int64:
		return castFrom[int64](from)
	case inference.Int32:
		return castFrom[int32](from)
	case inference.Bool:
		return castToBool(from)
	}
	return castToString(from)
}

func castFrom[T Number](from inference.DataType) (Kernel, error) {
	switch from {
	case inference.Float32:
		return castKernel(number[T, float32]), nil
	case inference.Float64:
		return castKernel(number[T, float64]), nil
	case inference.Int64:
		return castKernel(number[T, int64]), nil
	case inference.Int32:
		return castKernel(number[T, int32]), nil
	case inference.Bool:
		return castKernel(func(b bool) (T, error) {
			if b {
				return 1, nil
			}
			return 0, nil
		}), nil
	case inference.String:
		return castKernel(parse[T]), nil
	}
	return nil, unsupported("a cast from %v", from)
}

func castKernel[T, S Elem](convert func(S) (T, error)) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		src := Data[S](in[0])
		dst, err := Alloc[T](f, out[0], in[0].Shape...)
		if err != nil {
			return err
		}
		for i, v := range src {
			if dst[i], err = convert(v); err != nil {
				return err
			}
		}
		return nil
	}
}

// number converts as x86-64 does: what does not fit an integer becomes the smallest one.
func number[T, S Number](v S) (T, error) {
	var one T = 1
	if one/2 != 0 { // to a float
		return T(v), nil
	}
	f := float64(v)
	var s S = 1
	if s/2 == 0 { // from an integer
		return T(v), nil
	}
	if !(f >= math.MinInt64 && f < math.MaxInt64) {
		lowest := int64(math.MinInt64)
		if typeOf[T]() == inference.Int32 {
			lowest = math.MinInt32
		}
		return T(lowest), nil
	}
	if typeOf[T]() == inference.Int32 && !(f > math.MinInt32-1 && f < math.MaxInt32+1) {
		lowest := int64(math.MinInt32)
		return T(lowest), nil
	}
	return T(v), nil
}

// parse reads a number from a string.
func parse[T Number](s string) (T, error) {
	s = strings.TrimSpace(s)
	var one T = 1
	if one/2 == 0 {
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, valueError("cannot cast %q to an integer", s)
		}
		return T(v), nil
	}
	bits := 32
	if typeOf[T]() == inference.Float64 {
		bits = 64
	}
	v, err := strconv.ParseFloat(s, bits)
	if err != nil && !math.IsInf(v, 0) {
		return 0, valueError("cannot cast %q to a number", s)
	}
	return T(v), nil
}

func castToBool(from inference.DataType) (Kernel, error) {
	switch from {
	case inference.Float32:
		return castKernel(func(v float32) (bool, error) { return v != 0, nil }), nil
	case inference.Float64:
		return castKernel(func(v float64) (bool, error) { return v != 0, nil }), nil
	case inference.Int64:
		return castKernel(func(v int64) (bool, error) { return v != 0, nil }), nil
	case inference.Int32:
		return castKernel(func(v int32) (bool, error) { return v != 0, nil }), nil
	}
	return nil, unsupported("a cast from %v to bool", from)
}

func castToString(from inference.DataType) (Kernel, error) {
	switch from {
	case inference.Float32:
		return castKernel(func(v float32) (string, error) { return floatString(float64(v), 8, 32), nil }), nil
	case inference.Float64:
		return castKernel(func(v float64) (string, error) { return floatString(v, 17, 64), nil }), nil
	case inference.Int64:
		return castKernel(func(v int64) (string, error) { return strconv.FormatInt(v, 10), nil }), nil
	case inference.Int32:
		return castKernel(func(v int32) (string, error) { return strconv.FormatInt(int64(v), 10), nil }), nil
	case inference.Bool:
		return castKernel(func(v bool) (string, error) {
			if v {
				return "1", nil
			}
			return "0", nil
		}), nil
	}
	return nil, unsupported("a cast from %v to string", from)
}

// floatString writes a number as printf's %.8g and %.17g do.
func floatString(v float64, digits, bits int) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "INF"
	case math.IsInf(v, -1):
		return "-INF"
	}
	s := strconv.FormatFloat(v, 'e', digits-1, bits)
	mantissa, exp, _ := strings.Cut(s, "e")
	e, _ := strconv.Atoi(exp)
	if e >= -4 && e < digits {
		s = strconv.FormatFloat(v, 'f', digits-1-e, bits)
		if strings.Contains(s, ".") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return s
	}
	if strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	return mantissa + "e" + exp
}

// ErrValue marks an error that depends on the values of the inputs, not on their shapes.
type ErrValue struct{ msg string }

func (e *ErrValue) Error() string { return e.msg }

func valueError(format string, args ...any) error {
	return &ErrValue{fmt.Sprintf(format, args...)}
}
