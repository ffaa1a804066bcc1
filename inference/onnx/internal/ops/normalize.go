package ops

import (
	"fmt"
	"math"

	"github.com/freshet-io/freshet/inference"
)

func normalizeOps() []Entry {
	return []Entry{
		{Op: "Softmax", Min: 1, Max: 12, InMin: 1, InMax: 1, OutMax: 1, Compile: softmaxCompile(true, false)},
		{Op: "Softmax", Min: 13, Max: MaxOpset, InMin: 1, InMax: 1, OutMax: 1, Compile: softmaxCompile(false, false)},
		{Op: "LogSoftmax", Min: 1, Max: 12, InMin: 1, InMax: 1, OutMax: 1, Compile: softmaxCompile(true, true)},
		{Op: "LogSoftmax", Min: 13, Max: MaxOpset, InMin: 1, InMax: 1, OutMax: 1, Compile: softmaxCompile(false, true)},
		{Op: "BatchNormalization", Min: 7, Max: MaxOpset, InMin: 5, InMax: 5, OutMax: 5, Compile: compileBatchNorm},
		{Op: "LayerNormalization", Min: 17, Max: MaxOpset, InMin: 2, InMax: 3, OutMax: 3, Compile: compileLayerNorm},
	}
}

// softmaxCompile: before operator set 13 all dimensions from axis on are one.
func softmaxCompile(flat, log bool) Compile {
	return func(n *Node) (Kernel, error) {
		otherwise := int64(-1)
		if flat {
			otherwise = 1
		}
		axis, err := n.intAttr("axis", otherwise)
		if err != nil {
			return nil, err
		}
		n.result(0, n.In[0].Type)
		return byNumber(n.In[0].Type, softmaxKernel[float32](axis, flat, log), softmaxKernel[float64](axis, flat, log), nil, nil)
	}
}

func softmaxKernel[T Float](axis int64, flat, log bool) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		shape := in[0].Shape
		rank := len(shape)
		k := int(min(max(axis, -100), 100))
		if k < 0 {
			k += rank
		}
		if k < 0 || k > rank || k == rank && !flat {
			return fmt.Errorf("axis %d of a tensor of %d dimensions", axis, rank)
		}
		outer, n, inner := product(shape[:k]), product(shape[k:]), 1
		if !flat {
			outer, n, inner = around(shape, k)
		}
		d, err := Alloc[T](f, out[0], shape...)
		if err != nil {
			return err
		}
		copy(d, Data[T](in[0]))
		if inner == 1 && !log {
			for o := range outer {
				softmaxRow(d[o*n : (o+1)*n])
			}
			return nil
		}
		for o := range outer {
			for i := range inner {
				softmaxColumn(d[o*n*inner+i:], n, inner, log)
			}
		}
		return nil
	}
}

// softmaxColumn works on n elements, step apart.
func softmaxColumn[T Float](x []T, n, step int, log bool) {
	top := math.Inf(-1)
	for j := range n {
		top = maxOf(top, float64(x[j*step]))
	}
	sum := 0.0
	for j := range n {
		sum += math.Exp(float64(x[j*step]) - top)
	}
	for j := range n {
		v := float64(x[j*step]) - top
		if log {
			x[j*step] = T(v - math.Log(sum))
		} else {
			x[j*step] = T(math.Exp(v) / sum)
		}
	}
}

func compileBatchNorm(n *Node) (Kernel, error) {
	if err := n.sameTypes(); err != nil {
		return nil, err
	}
	eps, err := n.floatAttr("epsilon", 1e-5)
	if err != nil {
		return nil, err
	}
	training, err := n.intAttr("training_mode", 0)
	if err != nil {
		return nil, err
	}
	n.ignore("momentum")
	for _, o := range n.Out[1:] {
		if o != nil {
			training = 1
		}
	}
	if spatial, err := n.intAttr("spatial", 1); training != 0 || spatial != 1 || err != nil {
		return nil, unsupported("training mode or spatial=0")
	}
	n.result(0, n.In[0].Type)
	return byNumber(n.In[0].Type, batchNorm[float32](eps), batchNorm[float64](eps), nil, nil)
}

func batchNorm[T Float](eps float32) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		shape := in[0].Shape
		if len(shape) < 1 {
			return fmt.Errorf("a scalar input")
		}
		channels, inner := 1, 1
		if len(shape) > 1 {
			channels, inner = shape[1], product(shape[2:])
		}
		for i := 1; i < 5; i++ {
			if len(Data[T](in[i])) != channels {
				return fmt.Errorf("input %d has %d elements for %d channels", i, len(Data[T](in[i])), channels)
			}
		}
		x := Data[T](in[0])
		d, err := Alloc[T](f, out[0], shape...)
		if err != nil {
			return err
		}
		scale, bias, mean, variance := Data[T](in[1]), Data[T](in[2]), Data[T](in[3]), Data[T](in[4])
		s := f.doubles(channels)
		for c := range channels {
			s[c] = float64(scale[c]) / math.Sqrt(float64(variance[c])+float64(eps))
		}
		at := 0
		for range shape[0] {
			for c := range channels {
				a, m, b := s[c], float64(mean[c]), float64(bias[c])
				for range inner {
					d[at] = T((float64(x[at])-m)*a + b)
					at++
				}
			}
		}
		return nil
	}
}

func compileLayerNorm(n *Node) (Kernel, error) {
	if err := n.sameTypes(); err != nil {
		return nil, err
	}
	axis, err := n.intAttr("axis", -1)
	if err != nil {
		return nil, err
	}
	eps, err := n.floatAttr("epsilon", 1e-5)
	if err != nil {
		return nil, err
	}
	n.ignore("stash_type")
	for i := range n.Out {
		n.result(i, n.In[0].Type)
	}
	return byNumber(n.In[0].Type, layerNorm[float32](axis, eps), layerNorm[float64](axis, eps), nil, nil)
}

func layerNorm[T Float](axis int64, eps float32) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		shape := in[0].Shape
		k, err := axisOf(axis, len(shape))
		if err != nil {
			return err
		}
		outer, n := product(shape[:k]), product(shape[k:])
		scale := Data[T](in[1])
		var bias []T
		if in[2] != nil {
			bias = Data[T](in[2])
		}
		if len(scale) != n || bias != nil && len(bias) != n {
			return unsupported("a scale or bias of another shape than the normalised dimensions")
		}
		x := Data[T](in[0])
		d, err := Alloc[T](f, out[0], shape...)
		if err != nil {
			return err
		}
		var means, invs []T
		var stat [MaxRank]int
		copy(stat[:], shape[:k])
		for i := k; i < len(shape); i++ {
			stat[i] = 1
		}
		if out[1] != nil {
			if means, err = Alloc[T](f, out[1], stat[:len(shape)]...); err != nil {
				return err
			}
		}
		if out[2] != nil {
			if invs, err = Alloc[T](f, out[2], stat[:len(shape)]...); err != nil {
				return err
			}
		}
		for o := range outer {
			row := x[o*n : (o+1)*n]
			mean, square := 0.0, 0.0
			for _, v := range row {
				mean += float64(v)
			}
			mean /= float64(n)
			for _, v := range row {
				e := float64(v) - mean
				square += e * e
			}
			inv := 1 / math.Sqrt(square/float64(n)+float64(eps))
			if means != nil {
				means[o] = T(mean)
			}
			if invs != nil {
				invs[o] = T(inv)
			}
			for j, v := range row {
				y := (float64(v) - mean) * inv * float64(scale[j])
				if bias != nil {
					y += float64(bias[j])
				}
				d[o*n+j] = T(y)
			}
		}
		return nil
	}
}

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
