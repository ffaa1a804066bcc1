package ops

import (
	"math"

	"github.com/freshet-io/freshet/inference"
)

func arithmeticOps() []Entry {
	two := func(op string, least int, c Compile) Entry {
		return Entry{Op: op, Min: least, Max: MaxOpset, InMin: 2, InMax: 2, OutMax: 1, Compile: c}
	}
	many := func(op string, least int, c Compile) Entry {
		return Entry{Op: op, Min: least, Max: MaxOpset, InMin: 1, InMax: -1, OutMax: 1, Compile: c}
	}
	return []Entry{
		two("Add", 7, numeric(addRun[float32], addRun[float64], addRun[int64], addRun[int32])),
		two("Sub", 7, numeric(subRun[float32], subRun[float64], subRun[int64], subRun[int32])),
		two("Mul", 7, numeric(mulRun[float32], mulRun[float64], mulRun[int64], mulRun[int32])),
		two("Div", 7, compileDiv),
		two("Pow", 7, compilePow),
		two("PRelu", 9, numeric(lift(prelu[float32]), lift(prelu[float64]), lift(prelu[int64]), lift(prelu[int32]))),
		two("Equal", 7, compileEqual),
		two("Less", 7, comparison(less[float32], less[float64], less[int64], less[int32])),
		two("LessOrEqual", 12, comparison(lessEq[float32], lessEq[float64], lessEq[int64], lessEq[int32])),
		two("Greater", 7, comparison(greater[float32], greater[float64], greater[int64], greater[int32])),
		two("GreaterOrEqual", 12, comparison(greaterEq[float32], greaterEq[float64], greaterEq[int64], greaterEq[int32])),
		two("And", 7, logical(func(a, b bool) bool { return a && b })),
		two("Or", 7, logical(func(a, b bool) bool { return a || b })),
		two("Xor", 7, logical(func(a, b bool) bool { return a != b })),
		many("Sum", 6, variadic(false, addRun[float32], addRun[float64], addRun[int64], addRun[int32])),
		many("Mean", 6, variadic(true, addRun[float32], addRun[float64], nil, nil)),
		many("Max", 6, variadic(false, lift(maxOf[float32]), lift(maxOf[float64]), lift(maxOf[int64]), lift(maxOf[int32]))),
		many("Min", 6, variadic(false, lift(minOf[float32]), lift(minOf[float64]), lift(minOf[int64]), lift(minOf[int32]))),
		{Op: "Where", Min: 9, Max: MaxOpset, InMin: 3, InMax: 3, OutMax: 1, Compile: compileWhere},
	}
}

// sameTypes checks that all inputs have the type of the first.
func (n *Node) sameTypes() error {
	for i, v := range n.In {
		if v == nil {
			continue
		}
		if v.Type != n.In[0].Type {
			return unsupported("input %d is %v, input 0 is %v", i, v.Type, n.In[0].Type)
		}
	}
	return nil
}

type run[T, R Elem] = func(d []R, a, b []T)

func numeric(f32 run[float32, float32], f64 run[float64, float64], i64 run[int64, int64], i32 run[int32, int32]) Compile {
	return func(n *Node) (Kernel, error) {
		if err := n.sameTypes(); err != nil {
			return nil, err
		}
		n.result(0, n.In[0].Type)
		return byNumber(n.In[0].Type, dyadic(f32), dyadic(f64), dyadic(i64), dyadic(i32))
	}
}

func comparison(f32 func(a, b float32) bool, f64 func(a, b float64) bool, i64 func(a, b int64) bool, i32 func(a, b int32) bool) Compile {
	return func(n *Node) (Kernel, error) {
		if err := n.sameTypes(); err != nil {
			return nil, err
		}
		n.result(0, inference.Bool)
		return byNumber(n.In[0].Type, dyadic(lift(f32)), dyadic(lift(f64)), dyadic(lift(i64)), dyadic(lift(i32)))
	}
}

func less[T Number](a, b T) bool      { return a < b }
func lessEq[T Number](a, b T) bool    { return a <= b }
func greater[T Number](a, b T) bool   { return a > b }
func greaterEq[T Number](a, b T) bool { return a >= b }
func equal[T Elem](a, b T) bool       { return a == b }

func compileEqual(n *Node) (Kernel, error) {
	if err := n.sameTypes(); err != nil {
		return nil, err
	}
	n.result(0, inference.Bool)
	switch n.In[0].Type {
	case inference.Bool:
		return dyadic(lift(equal[bool])), nil
	case inference.String:
		return dyadic(lift(equal[string])), nil
	}
	return byNumber(n.In[0].Type, dyadic(lift(equal[float32])), dyadic(lift(equal[float64])), dyadic(lift(equal[int64])), dyadic(lift(equal[int32])))
}

func logical(fn func(a, b bool) bool) Compile {
	return func(n *Node) (Kernel, error) {
		for i := range 2 {
			if err := n.types(i, inference.Bool); err != nil {
				return nil, err
			}
		}
		n.result(0, inference.Bool)
		return dyadic(lift(fn)), nil
	}
}

// The four runs that matter for speed are written out.

func addRun[T Number](d, a, b []T) {
	switch {
	case len(a) == len(d) && len(b) == len(d):
		for i := range d {
			d[i] = a[i] + b[i]
		}
	case len(a) == len(d):
		s := b[0]
		for i := range d {
			d[i] = a[i] + s
		}
	default:
		s := a[0]
		for i := range d {
			d[i] = s + b[i]
		}
	}
}

func subRun[T Number](d, a, b []T) {
	switch {
	case len(a) == len(d) && len(b) == len(d):
		for i := range d {
			d[i] = a[i] - b[i]
		}
	case len(a) == len(d):
		s := b[0]
		for i := range d {
			d[i] = a[i] - s
		}
	default:
		s := a[0]
		for i := range d {
			d[i] = s - b[i]
		}
	}
}

func mulRun[T Number](d, a, b []T) {
	switch {
	case len(a) == len(d) && len(b) == len(d):
		for i := range d {
			d[i] = a[i] * b[i]
		}
	case len(a) == len(d):
		s := b[0]
		for i := range d {
			d[i] = a[i] * s
		}
	default:
		s := a[0]
		for i := range d {
			d[i] = s * b[i]
		}
	}
}

func divRun[T Number](d, a, b []T) {
	switch {
	case len(a) == len(d) && len(b) == len(d):
		for i := range d {
			d[i] = a[i] / b[i]
		}
	case len(a) == len(d):
		s := b[0]
		for i := range d {
			d[i] = a[i] / s
		}
	default:
		s := a[0]
		for i := range d {
			d[i] = s / b[i]
		}
	}
}

func compileDiv(n *Node) (Kernel, error) {
	if err := n.sameTypes(); err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	return byNumber(n.In[0].Type, dyadic(divRun[float32]), dyadic(divRun[float64]), divInts[int64], divInts[int32])
}

func divInts[T int64 | int32](f *Frame, in, out []*Tensor) error {
	for _, v := range Data[T](in[1]) {
		if v == 0 {
			return valueError("a division of integers by zero")
		}
	}
	return run2(f, out[0], in[0], in[1], divRun[T])
}

func prelu[T Number](x, slope T) T {
	if x < 0 {
		return slope * x
	}
	return x
}

// maxOf and minOf give NaN where either is NaN.
func maxOf[T Number](a, b T) T {
	if a > b || a != a {
		return a
	}
	return b
}

func minOf[T Number](a, b T) T {
	if a < b || a != a {
		return a
	}
	return b
}

// compilePow allows an exponent of another type than the base.
func compilePow(n *Node) (Kernel, error) {
	n.result(0, n.In[0].Type)
	switch n.In[1].Type {
	case inference.Float32:
		return powOf[float32](n.In[0].Type)
	case inference.Float64:
		return powOf[float64](n.In[0].Type)
	case inference.Int64:
		return powOf[int64](n.In[0].Type)
	case inference.Int32:
		return powOf[int32](n.In[0].Type)
	}
	return nil, unsupported("an exponent of %v", n.In[1].Type)
}

func powOf[E Number](base inference.DataType) (Kernel, error) {
	return byNumber(base, powKernel[float32, E], powKernel[float64, E], powKernel[int64, E], powKernel[int32, E])
}

func powKernel[T, E Number](f *Frame, in, out []*Tensor) error {
	x, y := Data[T](in[0]), Data[E](in[1])
	var p pairing
	if err := pair(&p, in[0].Shape, in[1].Shape); err != nil {
		return err
	}
	d, err := Alloc[T](f, out[0], p.shape[:p.rank]...)
	if err != nil {
		return err
	}
	p.each(func(i, j, k int) {
		for m := range p.n[0] {
			b, e := x[j+m*p.sa[0]], y[k+m*p.sb[0]]
			switch e {
			case 1:
				d[i+m] = b
			case 2:
				d[i+m] = b * b
			case 3:
				d[i+m] = b * b * b
			default:
				d[i+m] = T(math.Pow(float64(b), float64(e)))
			}
		}
	})
	return nil
}

// variadic folds any number of inputs; mean divides by their number.
func variadic(mean bool, f32 run[float32, float32], f64 run[float64, float64], i64 run[int64, int64], i32 run[int32, int32]) Compile {
	return func(n *Node) (Kernel, error) {
		for i := range n.In {
			if n.In[i] == nil {
				return nil, unsupported("an omitted input")
			}
		}
		if err := n.sameTypes(); err != nil {
			return nil, err
		}
		n.result(0, n.In[0].Type)
		if len(n.In) == 1 {
			return nil, nil
		}
		k := len(n.In)
		if k > 1<<16 {
			return nil, unsupported("%d inputs", k)
		}
		var kernel Kernel
		switch n.In[0].Type {
		case inference.Float32:
			kernel = foldKernel(k, mean, f32)
		case inference.Float64:
			kernel = foldKernel(k, mean, f64)
		case inference.Int64:
			if i64 != nil {
				kernel = foldKernel(k, mean, i64)
			}
		case inference.Int32:
			if i32 != nil {
				kernel = foldKernel(k, mean, i32)
			}
		}
		if kernel == nil {
			return nil, unsupported("element type %v", n.In[0].Type)
		}
		return kernel, nil
	}
}

func foldKernel[T Number](k int, mean bool, r run[T, T]) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		var shape [MaxRank]int
		rank := copy(shape[:], in[0].Shape)
		var p pairing
		for _, t := range in[1:k] {
			if err := pair(&p, shape[:rank], t.Shape); err != nil {
				return err
			}
			shape, rank = p.shape, p.rank
		}
		d, err := Alloc[T](f, out[0], shape[:rank]...)
		if err != nil {
			return err
		}
		for i, t := range in[:k] {
			if err := pair(&p, shape[:rank], t.Shape); err != nil {
				return err
			}
			y := Data[T](t)
			p.each(func(at, _, b int) {
				to, from := d[at:at+p.n[0]], span(y, b, p.n[0], p.sb[0])
				switch {
				case i > 0:
					r(to, to, from)
				case len(from) == len(to):
					copy(to, from)
				default:
					for m := range to {
						to[m] = from[0]
					}
				}
			})
		}
		if mean {
			for i := range d {
				d[i] /= T(k)
			}
		}
		return nil
	}
}
