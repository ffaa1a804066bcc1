package ops

import (
	"fmt"

	"github.com/freshet-io/freshet/inference"
)

// slicing is one slice per dimension: start, step, count.
type slicing struct {
	start, step, count [MaxRank]int
}

func (s *slicing) reset(shape []int) {
	for i, n := range shape {
		s.start[i], s.step[i], s.count[i] = 0, 1, n
	}
}

// set cuts dimension k of the shape to [start:end:step].
func (s *slicing) set(shape []int, k int, start, end, step int) error {
	if step == 0 {
		return fmt.Errorf("a slice in steps of 0")
	}
	n := shape[k]
	at := func(v, lo, hi int) int {
		if v < 0 {
			v += n
		}
		return max(lo, min(v, hi))
	}
	if step > 0 {
		a, b := at(start, 0, n), at(end, 0, n)
		s.start[k], s.count[k] = a, 0
		if b > a {
			s.count[k] = (b-a-1)/step + 1
		}
	} else {
		a, b := at(start, 0, n-1), at(end, -1, n-1)
		s.start[k], s.count[k] = a, 0
		if a > b && n > 0 {
			if step < -n {
				step = -n
			}
			s.count[k] = (a-b-1)/-step + 1
		}
	}
	s.step[k] = step
	return nil
}

func sliceRun[T Elem](f *Frame, out, in *Tensor, s *slicing) error {
	rank := len(in.Shape)
	x := Data[T](in)
	d, err := Alloc[T](f, out, s.count[:rank]...)
	if err != nil || len(d) == 0 {
		return err
	}
	var strides [MaxRank]int
	base, size := 0, 1
	for i := rank - 1; i >= 0; i-- {
		base += s.start[i] * size
		strides[i] = s.step[i] * size
		if s.count[i] <= 1 {
			strides[i] = 0 // a huge step that is never taken
		}
		size *= in.Shape[i]
	}
	accumulate(s.count[:rank], strides[:], func(i, at int) { d[i] = x[base+at] })
	return nil
}

func sliceOf(d inference.DataType, fill func(f *Frame, in []*Tensor, s *slicing) error) (Kernel, error) {
	return byElem(d, sliceKernel[float32](fill), sliceKernel[float64](fill), sliceKernel[int64](fill), sliceKernel[int32](fill), sliceKernel[bool](fill), sliceKernel[string](fill))
}

func sliceKernel[T Elem](fill func(f *Frame, in []*Tensor, s *slicing) error) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		s := &f.slicing
		s.reset(in[0].Shape)
		if err := fill(f, in, s); err != nil {
			return err
		}
		return sliceRun[T](f, out[0], in[0], s)
	}
}

func compileSliceAttrs(n *Node) (Kernel, error) {
	starts, err := n.intsAttr("starts")
	if err != nil {
		return nil, err
	}
	ends, err := n.intsAttr("ends")
	if err != nil {
		return nil, err
	}
	axes, err := n.intsAttr("axes")
	if err != nil {
		return nil, err
	}
	if len(starts) != len(ends) || len(axes) != 0 && len(axes) != len(starts) {
		return nil, fmt.Errorf("%d starts, %d ends and %d axes", len(starts), len(ends), len(axes))
	}
	n.result(0, n.In[0].Type)
	return sliceOf(n.In[0].Type, func(_ *Frame, in []*Tensor, s *slicing) error {
		for i := range starts {
			axis := int64(i)
			if len(axes) > 0 {
				axis = axes[i]
			}
			k, err := axisOf(axis, len(in[0].Shape))
			if err != nil {
				return err
			}
			if err := s.set(in[0].Shape, k, clampInt(starts[i]), clampInt(ends[i]), 1); err != nil {
				return err
			}
		}
		return nil
	})
}

// intAt is element i of an integer tensor.
func intAt(t *Tensor, i int) int {
	if t.Type == inference.Int32 {
		return int(t.I32[i])
	}
	return clampInt(t.I64[i])
}

func compileSlice(n *Node) (Kernel, error) {
	for i := 1; i < len(n.In); i++ {
		if n.In[i] != nil {
			if err := n.types(i, intTypes...); err != nil {
				return nil, err
			}
		}
	}
	n.result(0, n.In[0].Type)
	return sliceOf(n.In[0].Type, func(_ *Frame, in []*Tensor, s *slicing) error {
		count := Len(in[1])
		for i, t := range in[1:5] {
			if t != nil && Len(t) != count {
				return fmt.Errorf("input %d has %d elements, the starts have %d", i+1, Len(t), count)
			}
		}
		for i := range count {
			axis, step := i, 1
			if in[3] != nil {
				axis = intAt(in[3], i)
			}
			if in[4] != nil {
				step = intAt(in[4], i)
			}
			k, err := axisOf(int64(axis), len(in[0].Shape))
			if err != nil {
				return err
			}
			if err := s.set(in[0].Shape, k, intAt(in[1], i), intAt(in[2], i), step); err != nil {
				return err
			}
		}
		return nil
	})
}
