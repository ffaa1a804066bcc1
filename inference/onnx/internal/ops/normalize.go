package ops

import (
	"fmt"
	"math"
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
		if len(d) == 0 {
			return nil
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
