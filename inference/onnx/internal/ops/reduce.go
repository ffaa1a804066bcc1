package ops

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/freshet-io/freshet/inference"
)

func reduceOps() []Entry {
	var out []Entry
	add := func(op string, inputSince int, c Compile) {
		out = append(out,
			Entry{Op: op, Min: 1, Max: inputSince - 1, InMin: 1, InMax: 1, OutMax: 1, Compile: c},
			Entry{Op: op, Min: inputSince, Max: MaxOpset, InMin: 1, InMax: 2, OutMax: 1, Compile: c})
	}
	add("ReduceSum", 13, reduction(0, func(s, v float64) float64 { return s + v }, nil))
	add("ReduceMean", 18, reduction(0, func(s, v float64) float64 { return s + v }, func(s float64, n int) float64 { return s / float64(n) }))
	add("ReduceMax", 18, reduction(math.Inf(-1), func(s, v float64) float64 { return maxOf(s, v) }, nil))
	add("ReduceMin", 18, reduction(math.Inf(1), func(s, v float64) float64 { return minOf(s, v) }, nil))
	add("ReduceProd", 18, reduction(1, func(s, v float64) float64 { return s * v }, nil))
	add("ReduceL1", 18, reduction(0, func(s, v float64) float64 { return s + math.Abs(v) }, nil))
	add("ReduceL2", 18, reduction(0, func(s, v float64) float64 { return s + v*v }, func(s float64, _ int) float64 { return math.Sqrt(s) }))
	add("ReduceSumSquare", 18, reduction(0, func(s, v float64) float64 { return s + v*v }, nil))
	add("ReduceLogSum", 18, reduction(0, func(s, v float64) float64 { return s + v }, func(s float64, _ int) float64 { return math.Log(s) }))
	add("ReduceLogSumExp", 18, compileLogSumExp)
	return append(out,
		Entry{Op: "ArgMax", Min: 1, Max: MaxOpset, InMin: 1, InMax: 1, OutMax: 1, Compile: argCompile(greater[float64])},
		Entry{Op: "ArgMin", Min: 1, Max: MaxOpset, InMin: 1, InMax: 1, OutMax: 1, Compile: argCompile(less[float64])},
		Entry{Op: "CumSum", Min: 11, Max: MaxOpset, InMin: 2, InMax: 2, OutMax: 1, Compile: compileCumSum},
		Entry{Op: "TopK", Min: 10, Max: MaxOpset, InMin: 2, InMax: 2, OutMax: 2, Compile: compileTopK},
	)
}

// axes says which dimensions a reduction removes.
type axes struct {
	list   []int64 // nil: all, or none where noop
	keep   bool
	noop   bool
	second bool // the list is input 1
}

func (n *Node) axesAttr() (a axes, err error) {
	if a.list, err = n.intsAttr("axes"); err != nil {
		return a, err
	}
	keep, err := n.intAttr("keepdims", 1)
	if err != nil {
		return a, err
	}
	noop, err := n.intAttr("noop_with_empty_axes", 0)
	if err != nil {
		return a, err
	}
	a.keep, a.noop, a.second = keep != 0, noop != 0, n.in(1) != nil
	return a, nil
}

// mask resolves the axes for a tensor's rank: a bit per dimension to reduce.
func (a *axes) mask(f *Frame, in []*Tensor) (uint32, error) {
	rank := len(in[0].Shape)
	var m uint32
	count := 0
	mark := func(x int64) error {
		i, err := axisOf(x, rank)
		if err == nil {
			m |= 1 << i
			count++
		}
		return err
	}
	if a.second {
		list, err := f.intsOf(in[1])
		if err != nil {
			return 0, err
		}
		for _, x := range list {
			if err := mark(int64(x)); err != nil {
				return 0, err
			}
		}
	}
	for _, x := range a.list {
		if err := mark(x); err != nil {
			return 0, err
		}
	}
	if count == 0 && !a.noop {
		m = 1<<rank - 1
	}
	return m, nil
}

// reduced is the shape without the marked dimensions, and the strides of the result by dimension
// of the input.
func reduced(shape []int, mask uint32, keep bool) (out [MaxRank]int, rank int, strides [MaxRank]int) {
	size := 1
	for i := len(shape) - 1; i >= 0; i-- {
		if mask&(1<<i) == 0 {
			strides[i] = size
			size *= shape[i]
		}
	}
	for i, n := range shape {
		switch {
		case mask&(1<<i) == 0:
			out[rank] = n
			rank++
		case keep:
			out[rank] = 1
			rank++
		}
	}
	return out, rank, strides
}

func reduction(start float64, step func(s, v float64) float64, finish func(s float64, n int) float64) Compile {
	return func(n *Node) (Kernel, error) {
		a, err := n.axesAttr()
		if err != nil {
			return nil, err
		}
		n.result(0, n.In[0].Type)
		return byNumber(n.In[0].Type,
			reduceKernel[float32](a, start, step, finish), reduceKernel[float64](a, start, step, finish),
			reduceKernel[int64](a, start, step, finish), reduceKernel[int32](a, start, step, finish))
	}
}

// reduceKernel accumulates in float64, which is exact for the integers that models hold
// (below 2^53).
func reduceKernel[T Number](a axes, start float64, step func(s, v float64) float64, finish func(float64, int) float64) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		mask, err := a.mask(f, in)
		if err != nil {
			return err
		}
		x := Data[T](in[0])
		shape, rank, strides := reduced(in[0].Shape, mask, a.keep)
		d, err := Alloc[T](f, out[0], shape[:rank]...)
		if err != nil {
			return err
		}
		acc := f.doubles(len(d))
		for i := range acc {
			acc[i] = start
		}
		count := 0
		if len(d) > 0 {
			count = len(x) / len(d)
		}
		if suffix(mask, len(in[0].Shape)) {
			for i := range acc {
				s := start
				for _, v := range x[i*count : (i+1)*count] {
					s = step(s, float64(v))
				}
				acc[i] = s
			}
		} else {
			accumulate(in[0].Shape, strides[:], func(i, to int) { acc[to] = step(acc[to], float64(x[i])) })
		}
		for i, s := range acc {
			if finish != nil {
				s = finish(s, count)
			}
			d[i] = T(s)
		}
		return nil
	}
}

// suffix reports whether the last dimensions, and no others, are marked.
func suffix(mask uint32, rank int) bool {
	kept := bits.TrailingZeros32(mask | 1<<rank)
	return mask == 1<<rank-1<<kept
}

// doubles is a float64 buffer, good until the kernel returns.
func (f *Frame) doubles(n int) []float64 {
	if cap(f.f64) < n {
		f.f64 = make([]float64, n)
	}
	return f.f64[:n]
}

// accumulate visits every element with the offset that the strides give it.
func accumulate(shape []int, strides []int, visit func(i, to int)) {
	n := product(shape)
	var at [MaxRank]int
	to := 0
	for i := range n {
		visit(i, to)
		for k := len(shape) - 1; k >= 0; k-- {
			at[k]++
			to += strides[k]
			if at[k] < shape[k] {
				break
			}
			to -= strides[k] * shape[k]
			at[k] = 0
		}
	}
}

func compileLogSumExp(n *Node) (Kernel, error) {
	a, err := n.axesAttr()
	if err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	return byNumber(n.In[0].Type, logSumExp[float32](a), logSumExp[float64](a), nil, nil)
}

func logSumExp[T Float](a axes) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		mask, err := a.mask(f, in)
		if err != nil {
			return err
		}
		x := Data[T](in[0])
		shape, rank, strides := reduced(in[0].Shape, mask, a.keep)
		d, err := Alloc[T](f, out[0], shape[:rank]...)
		if err != nil {
			return err
		}
		acc := f.doubles(2 * len(d))
		top, sum := acc[:len(d)], acc[len(d):]
		for i := range top {
			top[i], sum[i] = math.Inf(-1), 0
		}
		accumulate(in[0].Shape, strides[:], func(i, to int) { top[to] = maxOf(top[to], float64(x[i])) })
		for i, v := range top {
			if math.IsInf(v, 0) {
				top[i] = 0 // exp(Inf) says it all
			}
		}
		accumulate(in[0].Shape, strides[:], func(i, to int) { sum[to] += math.Exp(float64(x[i]) - top[to]) })
		for i := range d {
			d[i] = T(math.Log(sum[i]) + top[i])
		}
		return nil
	}
}

// around splits a shape at an axis: outer × n × inner.
func around(shape []int, axis int) (outer, n, inner int) {
	return product(shape[:axis]), shape[axis], product(shape[axis+1:])
}

func argCompile(better func(a, b float64) bool) Compile {
	return func(n *Node) (Kernel, error) {
		axis, err := n.intAttr("axis", 0)
		if err != nil {
			return nil, err
		}
		keep, err := n.intAttr("keepdims", 1)
		if err != nil {
			return nil, err
		}
		last, err := n.intAttr("select_last_index", 0)
		if err != nil {
			return nil, err
		}
		n.result(0, inference.Int64)
		return byNumber(n.In[0].Type, argKernel[float32](axis, keep != 0, last != 0, better), argKernel[float64](axis, keep != 0, last != 0, better),
			argKernel[int64](axis, keep != 0, last != 0, better), argKernel[int32](axis, keep != 0, last != 0, better))
	}
}

func argKernel[T Number](axis int64, keep, last bool, better func(a, b float64) bool) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		k, err := axisOf(axis, len(in[0].Shape))
		if err != nil {
			return err
		}
		x := Data[T](in[0])
		outer, n, inner := around(in[0].Shape, k)
		if n == 0 {
			return fmt.Errorf("no elements along axis %d", k)
		}
		shape, rank, _ := reduced(in[0].Shape, 1<<k, keep)
		d, err := Alloc[int64](f, out[0], shape[:rank]...)
		if err != nil {
			return err
		}
		for o := range outer {
			for i := range inner {
				best, value := 0, float64(x[o*n*inner+i])
				for j := 1; j < n; j++ {
					if v := float64(x[(o*n+j)*inner+i]); better(v, value) || last && v == value {
						best, value = j, v
					}
				}
				d[o*inner+i] = int64(best)
			}
		}
		return nil
	}
}

func compileCumSum(n *Node) (Kernel, error) {
	exclusive, err := n.intAttr("exclusive", 0)
	if err != nil {
		return nil, err
	}
	reverse, err := n.intAttr("reverse", 0)
	if err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	return byNumber(n.In[0].Type, cumSum[float32](exclusive != 0, reverse != 0), cumSum[float64](exclusive != 0, reverse != 0),
		cumSum[int64](exclusive != 0, reverse != 0), cumSum[int32](exclusive != 0, reverse != 0))
}

func cumSum[T Number](exclusive, reverse bool) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		list, err := f.intsOf(in[1])
		if err != nil || len(list) != 1 {
			return fmt.Errorf("the axis is not one integer")
		}
		k, err := axisOf(int64(list[0]), len(in[0].Shape))
		if err != nil {
			return err
		}
		x := Data[T](in[0])
		d, err := Alloc[T](f, out[0], in[0].Shape...)
		if err != nil {
			return err
		}
		outer, n, inner := around(in[0].Shape, k)
		for o := range outer {
			for i := range inner {
				var sum T
				for j := range n {
					if reverse {
						j = n - 1 - j
					}
					at := (o*n+j)*inner + i
					if exclusive {
						d[at] = sum
						sum += x[at]
					} else {
						sum += x[at]
						d[at] = sum
					}
				}
			}
		}
		return nil
	}
}
