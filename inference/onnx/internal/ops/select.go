package ops

import (
	"fmt"

	"github.com/freshet-io/freshet/inference"
)

func selectOps() []Entry {
	e := func(op string, least, most, inMin, inMax, outMax int, c Compile) Entry {
		return Entry{Op: op, Min: least, Max: most, InMin: inMin, InMax: inMax, OutMax: outMax, Compile: c}
	}
	return []Entry{
		e("Concat", 4, MaxOpset, 1, -1, 1, compileConcat),
		e("Split", 2, 12, 1, 1, -1, compileSplit),
		e("Split", 13, MaxOpset, 1, 2, -1, compileSplit),
		e("Slice", 1, 9, 1, 1, 1, compileSliceAttrs),
		e("Slice", 10, MaxOpset, 3, 5, 1, compileSlice),
		e("Gather", 1, MaxOpset, 2, 2, 1, compileGather),
		e("GatherElements", 11, MaxOpset, 2, 2, 1, compileGatherElements),
	}
}

func compileConcat(n *Node) (Kernel, error) {
	if !n.has("axis") {
		return nil, fmt.Errorf("attribute axis is missing")
	}
	axis, err := n.intAttr("axis", 0)
	if err != nil {
		return nil, err
	}
	for i, v := range n.In {
		if v == nil {
			return nil, fmt.Errorf("input %d is missing", i)
		}
	}
	if err := n.sameTypes(); err != nil {
		return nil, err
	}
	k := len(n.In)
	n.result(0, n.In[0].Type)
	return byElem(n.In[0].Type, concat[float32](axis, k), concat[float64](axis, k), concat[int64](axis, k), concat[int32](axis, k), concat[bool](axis, k), concat[string](axis, k))
}

func concat[T Elem](axis int64, count int) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		first := in[0].Shape
		a, err := axisOf(axis, len(first))
		if err != nil {
			return err
		}
		var shape [MaxRank]int
		rank := copy(shape[:], first)
		shape[a] = 0
		for i, t := range in[:count] {
			fits := len(t.Shape) == rank
			for d := 0; fits && d < rank; d++ {
				fits = d == a || t.Shape[d] == first[d]
			}
			if !fits {
				return fmt.Errorf("input %d has shape %v, input 0 has %v", i, append([]int(nil), t.Shape...), append([]int(nil), first...))
			}
			shape[a] += t.Shape[a]
		}
		d, err := Alloc[T](f, out[0], shape[:rank]...)
		if err != nil {
			return err
		}
		outer, _, inner := around(shape[:rank], a)
		width := shape[a] * inner
		at := 0
		for _, t := range in[:count] {
			x := Data[T](t)
			w := t.Shape[a] * inner
			if w == 1 {
				for o, v := range x[:outer] {
					d[o*width+at] = v
				}
			} else {
				for o := range outer {
					copy(d[o*width+at:], x[o*w:(o+1)*w])
				}
			}
			at += w
		}
		return nil
	}
}

func compileSplit(n *Node) (Kernel, error) {
	axis, err := n.intAttr("axis", 0)
	if err != nil {
		return nil, err
	}
	sizes, err := n.intsAttr("split")
	if err != nil {
		return nil, err
	}
	parts, err := n.intAttr("num_outputs", int64(len(n.Out)))
	if err != nil {
		return nil, err
	}
	if parts != int64(len(n.Out)) {
		return nil, fmt.Errorf("num_outputs is %d, the node has %d outputs", parts, len(n.Out))
	}
	s := &split{axis: axis, sizes: sizes, second: n.in(1) != nil, parts: len(n.Out)}
	if s.second {
		if err := n.types(1, inference.Int64); err != nil {
			return nil, err
		}
	}
	for i := range n.Out {
		n.result(i, n.In[0].Type)
	}
	return byElem(n.In[0].Type, splitKernel[float32](s), splitKernel[float64](s), splitKernel[int64](s), splitKernel[int32](s), splitKernel[bool](s), splitKernel[string](s))
}

type split struct {
	axis   int64
	sizes  []int64
	second bool
	parts  int
}

func splitKernel[T Elem](s *split) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		a, err := axisOf(s.axis, len(in[0].Shape))
		if err != nil {
			return err
		}
		outer, n, inner := around(in[0].Shape, a)
		sizes := s.sizes
		if s.second {
			sizes = in[1].I64
		}
		even := (n + s.parts - 1) / s.parts
		if len(sizes) != 0 && len(sizes) != s.parts {
			return fmt.Errorf("%d sizes for %d outputs", len(sizes), s.parts)
		}
		x := Data[T](in[0])
		at := 0
		for k := range s.parts {
			size := min(even, n-at)
			if len(sizes) > 0 {
				if sizes[k] < 0 || sizes[k] > int64(n-at) {
					return fmt.Errorf("the sizes do not add up to %d", n)
				}
				size = int(sizes[k])
			}
			if k == s.parts-1 && at+size != n {
				return fmt.Errorf("the sizes do not add up to %d", n)
			}
			if out[k] != nil {
				var shape [MaxRank]int
				rank := copy(shape[:], in[0].Shape)
				shape[a] = size
				d, err := Alloc[T](f, out[k], shape[:rank]...)
				if err != nil {
					return err
				}
				for o := range outer {
					copy(d[o*size*inner:(o+1)*size*inner], x[(o*n+at)*inner:])
				}
			}
			at += size
		}
		return nil
	}
}

func compileGather(n *Node) (Kernel, error) {
	axis, err := n.intAttr("axis", 0)
	if err != nil {
		return nil, err
	}
	if err := n.types(1, intTypes...); err != nil {
		return nil, err
	}
	c := n.In[1].Const != nil
	n.result(0, n.In[0].Type)
	return byElem(n.In[0].Type, gather[float32](axis, c), gather[float64](axis, c), gather[int64](axis, c), gather[int32](axis, c), gather[bool](axis, c), gather[string](axis, c))
}

// indexes reads an integer tensor as indexes into n elements; negative ones count from the
// end. A constant that is out of range is the model's fault, not a value's.
func (f *Frame) indexes(t *Tensor, n int, constant bool) ([]int, error) {
	ix, err := f.intsOf(t)
	if err != nil {
		return nil, err
	}
	for i, v := range ix {
		if v < 0 {
			v += n
		}
		if v < 0 || v >= n {
			if constant {
				return nil, fmt.Errorf("index %d into %d elements", ix[i], n)
			}
			return nil, valueError("index %d into %d elements", ix[i], n)
		}
		ix[i] = v
	}
	return ix, nil
}

func gather[T Elem](axis int64, constant bool) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		from := in[0].Shape
		a, err := axisOf(axis, len(from))
		if err != nil {
			return err
		}
		outer, n, inner := around(from, a)
		ix, err := f.indexes(in[1], n, constant)
		if err != nil {
			return err
		}
		var shape [2 * MaxRank]int
		rank := copy(shape[:], from[:a])
		rank += copy(shape[rank:], in[1].Shape)
		rank += copy(shape[rank:], from[a+1:])
		x := Data[T](in[0])
		d, err := Alloc[T](f, out[0], shape[:rank]...)
		if err != nil {
			return err
		}
		at := 0
		for o := range outer {
			for _, j := range ix {
				from := (o*n + j) * inner
				at += copy(d[at:at+inner], x[from:from+inner])
			}
		}
		return nil
	}
}

func compileGatherElements(n *Node) (Kernel, error) {
	axis, err := n.intAttr("axis", 0)
	if err != nil {
		return nil, err
	}
	if err := n.types(1, intTypes...); err != nil {
		return nil, err
	}
	c := n.In[1].Const != nil
	n.result(0, n.In[0].Type)
	return byElem(n.In[0].Type, gatherElements[float32](axis, c), gatherElements[float64](axis, c), gatherElements[int64](axis, c), gatherElements[int32](axis, c), gatherElements[bool](axis, c), gatherElements[string](axis, c))
}

func gatherElements[T Elem](axis int64, constant bool) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		from, to := in[0].Shape, in[1].Shape
		a, err := axisOf(axis, len(from))
		if err != nil {
			return err
		}
		if len(to) != len(from) {
			return fmt.Errorf("indexes of %d dimensions for %d", len(to), len(from))
		}
		var strides [MaxRank]int
		size := 1
		for i := len(from) - 1; i >= 0; i-- {
			if i != a && to[i] > from[i] {
				return fmt.Errorf("indexes of shape %v for %v", append([]int(nil), to...), append([]int(nil), from...))
			}
			strides[i] = size
			size *= from[i]
		}
		ix, err := f.indexes(in[1], from[a], constant)
		if err != nil {
			return err
		}
		x := Data[T](in[0])
		d, err := Alloc[T](f, out[0], to...)
		if err != nil {
			return err
		}
		step := strides[a]
		strides[a] = 0
		accumulate(to, strides[:], func(i, at int) { d[i] = x[at+ix[i]*step] })
		return nil
	}
}
