package ops

import (
	"fmt"
	"math"

	"github.com/freshet-io/freshet/inference"
)

func scalerOps() []Entry {
	ml := func(op string, c Compile) Entry {
		return Entry{Domain: "ai.onnx.ml", Op: op, Min: 1, Max: MaxMLOpset, InMin: 1, InMax: 1, OutMax: 1, Compile: c}
	}
	return []Entry{ml("Scaler", compileScaler), ml("Normalizer", compileNormalizer), ml("Imputer", compileImputer), ml("Binarizer", compileBinarizer)}
}

// columns is the size of the last dimension.
func columns(t *Tensor) int {
	if len(t.Shape) == 0 {
		return 1
	}
	return t.Shape[len(t.Shape)-1]
}

func compileScaler(n *Node) (Kernel, error) {
	if err := n.types(0, numberTypes...); err != nil {
		return nil, err
	}
	scale, err := n.floatsAttr("scale")
	if err != nil {
		return nil, err
	}
	offset, err := n.floatsAttr("offset")
	if err != nil {
		return nil, err
	}
	if len(scale) == 0 {
		scale = []float32{1}
	}
	if len(offset) == 0 {
		offset = []float32{0}
	}
	n.result(0, inference.Float32)
	return byNumber(n.In[0].Type, scaler[float32](scale, offset), scaler[float64](scale, offset), scaler[int64](scale, offset), scaler[int32](scale, offset))
}

func scaler[T Number](scale, offset []float32) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		x := Data[T](in[0])
		w := columns(in[0])
		if len(scale) != 1 && len(scale) != w || len(offset) != 1 && len(offset) != w {
			return fmt.Errorf("%d scales and %d offsets for %d features", len(scale), len(offset), w)
		}
		d, err := Alloc[float32](f, out[0], in[0].Shape...)
		if err != nil {
			return err
		}
		if len(scale) == w && len(offset) == w && w > 0 {
			for at := 0; at < len(x); at += w {
				row := x[at : at+w]
				to := d[at : at+w]
				s, o := scale[:w], offset[:w]
				for j, v := range row {
					to[j] = (float32(v) - o[j]) * s[j]
				}
			}
			return nil
		}
		for i, v := range x {
			d[i] = (float32(v) - offset[i%w%len(offset)]) * scale[i%w%len(scale)]
		}
		return nil
	}
}

func compileNormalizer(n *Node) (Kernel, error) {
	norm, err := n.stringAttr("norm", "MAX")
	if err != nil {
		return nil, err
	}
	fn := map[string]func([]float32){"MAX": normMax, "L1": normL1, "L2": normL2}[norm]
	if fn == nil {
		return nil, fmt.Errorf("norm %q, expected MAX, L1 or L2", norm)
	}
	n.result(0, inference.Float32)
	if err := n.types(0, numberTypes...); err != nil {
		return nil, err
	}
	return func(f *Frame, in, out []*Tensor) error {
		rows, width, err := matrix(in[0])
		if err != nil {
			return err
		}
		d, err := Alloc[float32](f, out[0], in[0].Shape...)
		if err != nil {
			return err
		}
		copy(d, f.floats(in[0]))
		for r := range rows {
			fn(d[r*width : (r+1)*width])
		}
		return nil
	}, nil
}

// The norms follow ONNX Runtime: MAX is the largest value, not the largest magnitude.

func normMax(x []float32) {
	top := float32(-math.MaxFloat32)
	for _, v := range x {
		if top < v {
			top = v
		}
	}
	divide(x, top)
}

func normL1(x []float32) {
	var sum float32
	for _, v := range x {
		sum += abs(v)
	}
	divide(x, sum)
}

func normL2(x []float32) {
	var sum float32
	for _, v := range x {
		sum += v * v
	}
	if sum == 0 {
		return
	}
	for i, v := range x {
		y := float32(math.Sqrt(float64(v * v / sum)))
		if v < 0 {
			y = -y
		}
		x[i] = y
	}
}

func divide(x []float32, by float32) {
	if by == 0 {
		return
	}
	for i := range x {
		x[i] /= by
	}
}

func compileImputer(n *Node) (Kernel, error) {
	floats, err := n.floatsAttr("imputed_value_floats")
	if err != nil {
		return nil, err
	}
	from, err := n.floatAttr("replaced_value_float", 0)
	if err != nil {
		return nil, err
	}
	ints, err := n.intsAttr("imputed_value_int64s")
	if err != nil {
		return nil, err
	}
	fromInt, err := n.intAttr("replaced_value_int64", 0)
	if err != nil {
		return nil, err
	}
	d := n.In[0].Type
	n.result(0, d)
	switch {
	case d == inference.Float32 && len(floats) > 0:
		return imputer(floats, from), nil
	case d == inference.Float64 && len(floats) > 0:
		return imputer(convertTo(make([]float64, len(floats)), floats), float64(from)), nil
	case d == inference.Int64 && len(ints) > 0:
		return imputer(ints, fromInt), nil
	case d == inference.Int32 && len(ints) > 0:
		return imputer(convertTo(make([]int32, len(ints)), ints), int32(fromInt)), nil
	}
	return nil, unsupported("an input of %v with %d imputed floats and %d integers", d, len(floats), len(ints))
}

func imputer[T Number](values []T, from T) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		w := columns(in[0])
		if len(values) != 1 && len(values) != w {
			return fmt.Errorf("%d imputed values for %d features", len(values), w)
		}
		x := Data[T](in[0])
		d, err := Alloc[T](f, out[0], in[0].Shape...)
		if err != nil {
			return err
		}
		for i, v := range x {
			if v == from || v != v && from != from {
				v = values[0]
				if len(values) > 1 {
					v = values[i%w]
				}
			}
			d[i] = v
		}
		return nil
	}
}

func compileBinarizer(n *Node) (Kernel, error) {
	t, err := n.floatAttr("threshold", 0)
	if err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	return byNumber(n.In[0].Type, unary(above(t)), unary(above(float64(t))), unary(aboveInt[int64](t)), unary(aboveInt[int32](t)))
}

func above[T Float](t T) func(T) T {
	return func(v T) T {
		if v > t {
			return 1
		}
		return 0
	}
}

func aboveInt[T int64 | int32](t float32) func(T) T {
	return func(v T) T {
		if float64(v) > float64(t) {
			return 1
		}
		return 0
	}
}
