package ops

import (
	"fmt"
	"sort"

	"github.com/freshet-io/freshet/inference"
)

func compileTopK(n *Node) (Kernel, error) {
	axis, err := n.intAttr("axis", -1)
	if err != nil {
		return nil, err
	}
	largest, err := n.intAttr("largest", 1)
	if err != nil {
		return nil, err
	}
	n.ignore("sorted")
	n.result(0, n.In[0].Type)
	n.result(1, inference.Int64)
	return byNumber(n.In[0].Type, topK[float32](axis, largest != 0), topK[float64](axis, largest != 0), topK[int64](axis, largest != 0), topK[int32](axis, largest != 0))
}

// ranking sorts indexes by value, then by index.
type ranking[T Number] struct {
	at      []int
	value   func(i int) T
	largest bool
}

func (r *ranking[T]) Len() int      { return len(r.at) }
func (r *ranking[T]) Swap(i, j int) { r.at[i], r.at[j] = r.at[j], r.at[i] }
func (r *ranking[T]) Less(i, j int) bool {
	a, b := r.value(r.at[i]), r.value(r.at[j])
	switch {
	case a != b && (a == a || b == b):
		if a != a || b != b { // NaN counts as larger than anything
			return (a != a) == r.largest
		}
		return (a > b) == r.largest
	}
	return r.at[i] < r.at[j]
}

func topK[T Number](axis int64, largest bool) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		list, err := f.intsOf(in[1])
		if err != nil || len(list) != 1 {
			return fmt.Errorf("k is not one integer")
		}
		count := list[0]
		a, err := axisOf(axis, len(in[0].Shape))
		if err != nil {
			return err
		}
		outer, n, inner := around(in[0].Shape, a)
		if count < 0 || count > n {
			return fmt.Errorf("the first %d of %d elements", count, n)
		}
		var shape [MaxRank]int
		rank := copy(shape[:], in[0].Shape)
		shape[a] = count
		var values, spare Tensor
		vt, it := out[0], out[1]
		if vt == nil {
			vt = &values
		}
		if it == nil {
			it = &spare
		}
		v, err := Alloc[T](f, vt, shape[:rank]...)
		if err != nil {
			return err
		}
		ix, err := Alloc[int64](f, it, shape[:rank]...)
		if err != nil {
			return err
		}
		x := Data[T](in[0])
		r := ranking[T]{at: f.positions(n), largest: largest}
		for o := range outer {
			for i := range inner {
				r.value = func(j int) T { return x[(o*n+j)*inner+i] }
				for j := range r.at {
					r.at[j] = j
				}
				sort.Sort(&r)
				for j, k := range r.at[:count] {
					to := (o*count+j)*inner + i
					v[to], ix[to] = r.value(k), int64(k)
				}
			}
		}
		return nil
	}
}
