package ops

import (
	"fmt"
	"math"
	"slices"

	"github.com/freshet-io/freshet/inference"
)

func shapeOps() []Entry {
	e := func(op string, least, most, inMin, inMax, outMax int, c Compile) Entry {
		return Entry{Op: op, Min: least, Max: most, InMin: inMin, InMax: inMax, OutMax: outMax, Compile: c}
	}
	v := func(en Entry) Entry { en.View = true; return en }
	return []Entry{
		v(e("Reshape", 5, MaxOpset, 2, 2, 1, compileReshape)),
		v(e("Flatten", 1, MaxOpset, 1, 1, 1, compileFlatten)),
		v(e("Squeeze", 1, 12, 1, 1, 1, compileSqueeze)),
		v(e("Squeeze", 13, MaxOpset, 1, 2, 1, compileSqueeze)),
		v(e("Unsqueeze", 1, 12, 1, 1, 1, compileUnsqueeze)),
		v(e("Unsqueeze", 13, MaxOpset, 2, 2, 1, compileUnsqueeze)),
		e("Shape", 1, MaxOpset, 1, 1, 1, compileShape),
		e("Size", 1, MaxOpset, 1, 1, 1, compileSize),
		e("Transpose", 1, MaxOpset, 1, 1, 1, compileTranspose),
		e("Expand", 8, MaxOpset, 2, 2, 1, compileExpand),
		e("Tile", 6, MaxOpset, 2, 2, 1, compileTile),
		e("Range", 11, MaxOpset, 3, 3, 1, compileRange),
	}
}

// byElem picks the kernel for any type.
func byElem(d inference.DataType, f32, f64, i64, i32, b, s Kernel) (Kernel, error) {
	switch d {
	case inference.Bool:
		return b, nil
	case inference.String:
		return s, nil
	}
	return byNumber(d, f32, f64, i64, i32)
}

// sharing is a kernel that only changes the shape.
func sharing(reshape func(f *Frame, in []*Tensor, shape []int) ([]int, error)) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		shape, err := reshape(f, in, f.shape[:0])
		if err != nil {
			return err
		}
		if n, ok := Size(f.MaxElements, shape); len(shape) > MaxRank || !ok || n != Len(in[0]) {
			return fmt.Errorf("cannot make shape %v of %v", slices.Clone(shape), slices.Clone(in[0].Shape))
		}
		view(out[0], in[0], shape)
		return nil
	}
}

func compileReshape(n *Node) (Kernel, error) {
	if err := n.types(1, inference.Int64); err != nil {
		return nil, err
	}
	zero, err := n.intAttr("allowzero", 0)
	if err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	return sharing(func(f *Frame, in []*Tensor, shape []int) ([]int, error) {
		want := in[1].I64
		if len(want) > MaxRank {
			return nil, fmt.Errorf("a shape of %d dimensions, at most %d are supported", len(want), MaxRank)
		}
		open, known := -1, 1
		for i, d := range want {
			switch {
			case d == 0 && zero == 0:
				if i >= len(in[0].Shape) {
					return nil, fmt.Errorf("shape %v keeps dimension %d of %v", slices.Clone(want), i, slices.Clone(in[0].Shape))
				}
				d = int64(in[0].Shape[i])
			case d == -1 && open < 0:
				open = i
				shape = append(shape, 1)
				continue
			}
			if d < 0 || d > int64(f.MaxElements) {
				return nil, fmt.Errorf("shape %v", slices.Clone(want))
			}
			shape = append(shape, int(d))
			if d > 0 && known > math.MaxInt/int(d) {
				return nil, fmt.Errorf("shape %v", slices.Clone(want))
			}
			known *= int(d)
		}
		if open >= 0 {
			if known == 0 {
				return nil, fmt.Errorf("shape %v of %v leaves a size open", slices.Clone(want), slices.Clone(in[0].Shape))
			}
			shape[open] = Len(in[0]) / known
		}
		return shape, nil
	}), nil
}

func compileFlatten(n *Node) (Kernel, error) {
	axis, err := n.intAttr("axis", 1)
	if err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	return sharing(func(_ *Frame, in []*Tensor, shape []int) ([]int, error) {
		k, rank := axis, int64(len(in[0].Shape))
		if k < 0 {
			k += rank
		}
		if k < 0 || k > rank {
			return nil, fmt.Errorf("axis %d of a tensor of %d dimensions", axis, rank)
		}
		return append(shape, product(in[0].Shape[:k]), product(in[0].Shape[k:])), nil
	}), nil
}

// axesOf reads axes from the attribute or, from operator set 13 on, from input 1.
func (n *Node) axesOf() (func(f *Frame, in []*Tensor, rank int) (uint32, int, error), error) {
	list, err := n.intsAttr("axes")
	if err != nil {
		return nil, err
	}
	second := n.in(1) != nil
	if second {
		if err := n.types(1, intTypes...); err != nil {
			return nil, err
		}
	}
	return func(f *Frame, in []*Tensor, rank int) (mask uint32, count int, err error) {
		mark := func(x int64) error {
			k, err := axisOf(x, rank)
			if err != nil {
				return err
			}
			if mask&(1<<k) != 0 {
				return fmt.Errorf("axis %d is there twice", k)
			}
			mask |= 1 << k
			count++
			return nil
		}
		for _, x := range list {
			if err := mark(x); err != nil {
				return 0, 0, err
			}
		}
		if second {
			ints, err := f.intsOf(in[1])
			if err != nil {
				return 0, 0, err
			}
			for _, x := range ints {
				if err := mark(int64(x)); err != nil {
					return 0, 0, err
				}
			}
		}
		return mask, count, nil
	}, nil
}

func compileSqueeze(n *Node) (Kernel, error) {
	read, err := n.axesOf()
	if err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	return sharing(func(f *Frame, in []*Tensor, shape []int) ([]int, error) {
		mask, count, err := read(f, in, len(in[0].Shape))
		if err != nil {
			return nil, err
		}
		for i, d := range in[0].Shape {
			switch {
			case count == 0 && d == 1:
			case mask&(1<<i) == 0:
				shape = append(shape, d)
			case d != 1:
				return nil, fmt.Errorf("dimension %d has %d elements, not one", i, d)
			}
		}
		return shape, nil
	}), nil
}

func compileUnsqueeze(n *Node) (Kernel, error) {
	read, err := n.axesOf()
	if err != nil {
		return nil, err
	}
	known := -1
	if a, _ := n.intsAttr("axes"); n.in(1) == nil {
		known = len(a)
	}
	n.result(0, n.In[0].Type)
	return sharing(func(f *Frame, in []*Tensor, shape []int) ([]int, error) {
		more := known
		if more < 0 {
			more = Len(in[1])
		}
		rank := len(in[0].Shape) + more
		if rank > MaxRank {
			return nil, fmt.Errorf("%d dimensions, at most %d are supported", rank, MaxRank)
		}
		mask, _, err := read(f, in, rank)
		if err != nil {
			return nil, err
		}
		from := in[0].Shape
		for i := range rank {
			if mask&(1<<i) != 0 {
				shape = append(shape, 1)
			} else {
				shape = append(shape, from[0])
				from = from[1:]
			}
		}
		return shape, nil
	}), nil
}

func compileShape(n *Node) (Kernel, error) {
	start, err := n.intAttr("start", 0)
	if err != nil {
		return nil, err
	}
	end, err := n.intAttr("end", math.MaxInt64)
	if err != nil {
		return nil, err
	}
	n.result(0, inference.Int64)
	return func(f *Frame, in, out []*Tensor) error {
		shape := in[0].Shape
		rank := int64(len(shape))
		at := func(v int64) int64 {
			if v < 0 {
				v += rank
			}
			return max(0, min(v, rank))
		}
		a, b := at(start), at(end)
		d, err := Alloc[int64](f, out[0], int(max(b-a, 0)))
		for i := range d {
			d[i] = int64(shape[int(a)+i])
		}
		return err
	}, nil
}

func compileSize(n *Node) (Kernel, error) {
	n.result(0, inference.Int64)
	return func(f *Frame, in, out []*Tensor) error {
		d, err := Alloc[int64](f, out[0])
		if err == nil {
			d[0] = int64(product(in[0].Shape))
		}
		return err
	}, nil
}

func compileTranspose(n *Node) (Kernel, error) {
	perm, err := n.intsAttr("perm")
	if err != nil {
		return nil, err
	}
	has := n.has("perm")
	var seen uint32
	for _, p := range perm {
		if len(perm) > MaxRank || p < 0 || p >= int64(len(perm)) || seen&(1<<p) != 0 {
			return nil, fmt.Errorf("perm %v is not a permutation", perm)
		}
		seen |= 1 << p
	}
	n.result(0, n.In[0].Type)
	return byElem(n.In[0].Type, transposeKernel[float32](perm, has), transposeKernel[float64](perm, has), transposeKernel[int64](perm, has),
		transposeKernel[int32](perm, has), transposeKernel[bool](perm, has), transposeKernel[string](perm, has))
}

func transposeKernel[T Elem](perm []int64, has bool) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		from := in[0].Shape
		rank := len(from)
		if has && len(perm) != rank {
			return fmt.Errorf("perm %v for a tensor of %d dimensions", perm, rank)
		}
		var strides, shape, step [MaxRank]int
		size := 1
		for i := rank - 1; i >= 0; i-- {
			strides[i] = size
			size *= from[i]
		}
		for i := range rank {
			p := rank - 1 - i
			if has {
				p = int(perm[i])
			}
			shape[i], step[i] = from[p], strides[p]
		}
		x := Data[T](in[0])
		d, err := Alloc[T](f, out[0], shape[:rank]...)
		if err != nil {
			return err
		}
		if rank == 0 {
			copy(d, x)
			return nil
		}
		n, by := shape[rank-1], step[rank-1]
		accumulate(shape[:rank-1], step[:], func(i, at int) {
			to := d[i*n : (i+1)*n]
			if by == 1 {
				copy(to, x[at:at+n])
				return
			}
			for j := range to {
				to[j] = x[at]
				at += by
			}
		})
		return nil
	}
}

func compileExpand(n *Node) (Kernel, error) {
	if err := n.types(1, inference.Int64); err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	return byElem(n.In[0].Type, expand[float32], expand[float64], expand[int64], expand[int32], expand[bool], expand[string])
}

func expand[T Elem](f *Frame, in, out []*Tensor) error {
	shape, err := f.intsOf(in[1])
	if err != nil {
		return err
	}
	var p pairing
	if _, ok := Size(f.MaxElements, shape); !ok || len(shape) > MaxRank {
		return fmt.Errorf("shape %v is negative or larger than the limit of %d elements", slices.Clone(shape[:min(len(shape), MaxRank)]), f.MaxElements)
	}
	if err := pair(&p, in[0].Shape, shape); err != nil {
		return err
	}
	x := Data[T](in[0])
	d, err := Alloc[T](f, out[0], p.shape[:p.rank]...)
	if err != nil {
		return err
	}
	p.each(func(i, a, _ int) {
		for m := range p.n[0] {
			d[i+m] = x[a+m*p.sa[0]]
		}
	})
	return nil
}

func compileTile(n *Node) (Kernel, error) {
	if err := n.types(1, inference.Int64); err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	return byElem(n.In[0].Type, tile[float32], tile[float64], tile[int64], tile[int32], tile[bool], tile[string])
}

func tile[T Elem](f *Frame, in, out []*Tensor) error {
	repeats, err := f.intsOf(in[1])
	if err != nil {
		return err
	}
	from := in[0].Shape
	if len(repeats) != len(from) {
		return fmt.Errorf("%d repeats for %d dimensions", len(repeats), len(from))
	}
	var shape, strides [MaxRank]int
	size := 1
	for i := len(from) - 1; i >= 0; i-- {
		if repeats[i] < 0 || repeats[i] > f.MaxElements || from[i] > 0 && repeats[i] > math.MaxInt/from[i] {
			return fmt.Errorf("%d repeats of dimension %d", repeats[i], i)
		}
		shape[i] = from[i] * repeats[i]
		strides[i] = size
		size *= from[i]
	}
	x := Data[T](in[0])
	d, err := Alloc[T](f, out[0], shape[:len(from)]...)
	if err != nil {
		return err
	}
	var at [MaxRank]int
	for i := range d {
		j := 0
		for k := range from {
			j += at[k] % from[k] * strides[k]
		}
		d[i] = x[j]
		for k := len(from) - 1; k >= 0; k-- {
			if at[k]++; at[k] < shape[k] {
				break
			}
			at[k] = 0
		}
	}
	return nil
}

func compileRange(n *Node) (Kernel, error) {
	if err := n.sameTypes(); err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	return byNumber(n.In[0].Type, rangeKernel[float32], rangeKernel[float64], rangeKernel[int64], rangeKernel[int32])
}

func rangeKernel[T Number](f *Frame, in, out []*Tensor) error {
	for i, t := range in[:3] {
		if Len(t) != 1 {
			return fmt.Errorf("input %d has %d elements, expected one", i, Len(t))
		}
	}
	start, limit, delta := Data[T](in[0])[0], Data[T](in[1])[0], Data[T](in[2])[0]
	if delta == 0 || delta != delta {
		return valueError("a range in steps of %v", delta)
	}
	count := math.Ceil((float64(limit) - float64(start)) / float64(delta))
	if !(count <= float64(f.MaxElements)) {
		return valueError("a range of %v elements", count)
	}
	d, err := Alloc[T](f, out[0], int(max(count, 0)))
	for i := range d {
		d[i] = start + T(i)*delta
	}
	return err
}
