package ops

import (
	"fmt"

	"github.com/freshet-io/freshet/inference"
)

func matrixOps() []Entry {
	return []Entry{
		{Op: "Gemm", Min: 7, Max: MaxOpset, InMin: 2, InMax: 3, OutMax: 1, Compile: compileGemm},
		{Op: "MatMul", Min: 1, Max: MaxOpset, InMin: 2, InMax: 2, OutMax: 1, Compile: compileMatMul},
	}
}

// maxWork bounds the multiplications of one product, so that a hostile model cannot hold an
// instance for hours.
const maxWork = 1 << 36

// multiply adds a×b to c: a is m×k, b is k×n, c is m×n, row after row.
func multiply[T Number](c, a, b []T, m, n, k int) {
	for i := range m {
		row := c[i*n : (i+1)*n]
		for p, v := range a[i*k : (i+1)*k] {
			for j, w := range b[p*n : (p+1)*n] {
				row[j] += v * w
			}
		}
	}
}

// transpose writes the rows×cols matrix a as cols×rows.
func transpose[T Elem](to, a []T, rows, cols int) []T {
	to = to[:rows*cols]
	for i := range rows {
		for j, v := range a[i*cols : (i+1)*cols] {
			to[j*rows+i] = v
		}
	}
	return to
}

func workable(f *Frame, m, n, k int) error {
	if m <= 0 || n <= 0 || k <= 0 {
		return nil
	}
	if m > maxWork/n/k {
		return fmt.Errorf("a matrix product of %d×%d×%d is too much work", m, n, k)
	}
	return f.Spend(m * n * k / 16) // a multiplication costs less than touching an element
}

type gemm struct {
	alpha, beta    float32
	transA, transB bool
	turned         *Tensor // constant B, transposed
}

// turn transposes a matrix.
func turn(t *Tensor) *Tensor {
	r, c := t.Shape[0], t.Shape[1]
	out := &Tensor{Type: t.Type, Shape: []int{c, r}}
	switch t.Type {
	case inference.Float32:
		out.F32 = transpose(make([]float32, r*c), t.F32, r, c)
	case inference.Float64:
		out.F64 = transpose(make([]float64, r*c), t.F64, r, c)
	case inference.Int64:
		out.I64 = transpose(make([]int64, r*c), t.I64, r, c)
	case inference.Int32:
		out.I32 = transpose(make([]int32, r*c), t.I32, r, c)
	}
	return out
}

func compileGemm(n *Node) (Kernel, error) {
	if err := n.sameTypes(); err != nil {
		return nil, err
	}
	var g gemm
	var err error
	if g.alpha, err = n.floatAttr("alpha", 1); err != nil {
		return nil, err
	}
	if g.beta, err = n.floatAttr("beta", 1); err != nil {
		return nil, err
	}
	a, err := n.intAttr("transA", 0)
	if err != nil {
		return nil, err
	}
	b, err := n.intAttr("transB", 0)
	if err != nil {
		return nil, err
	}
	n.ignore("broadcast")
	g.transA, g.transB = a != 0, b != 0
	n.result(0, n.In[0].Type)
	n.Source = func() *Source { return gemmSource(n, &g) }
	if n.constMatrix(1) && !g.transA && g.alpha == 1 {
		d := newDense(n.In[1].Const, g.transB)
		c := n.in(2)
		if c == nil || g.beta == 1 && c.Const != nil && d.SetBias(c.Const) {
			n.Dense = d
			return d.run, nil
		}
	}
	if b := n.In[1].Const; b != nil && g.transB && len(b.Shape) == 2 { // turned once, not in every run
		g.turned = turn(b)
	}
	return byNumber(n.In[0].Type, gemmKernel[float32](g), gemmKernel[float64](g), gemmKernel[int64](g), gemmKernel[int32](g))
}

func gemmKernel[T Number](g gemm) Kernel {
	return func(f *Frame, in, out []*Tensor) error {
		a, b := in[0], in[1]
		if len(a.Shape) != 2 || len(b.Shape) != 2 {
			return fmt.Errorf("inputs of %d and %d dimensions, expected matrices", len(a.Shape), len(b.Shape))
		}
		m, k := a.Shape[0], a.Shape[1]
		if g.transA {
			m, k = k, m
		}
		kb, n := b.Shape[0], b.Shape[1]
		if g.transB {
			kb, n = n, kb
		}
		if k != kb {
			return fmt.Errorf("a product of %d×%d and %d×%d", m, k, kb, n)
		}
		if err := workable(f, m, n, k); err != nil {
			return err
		}
		shape := [2]int{m, n}
		y, err := Alloc[T](f, out[0], shape[:]...)
		if err != nil {
			return err
		}
		x, w := Data[T](a), Data[T](b)
		if g.transA {
			x = transpose(make([]T, len(x)), x, k, m)
		}
		if g.turned != nil {
			w = Data[T](g.turned)
		} else if g.transB {
			w = transpose(make([]T, len(w)), w, n, k)
		}
		clear(y)
		multiply(y, x, w, m, n, k)
		if g.alpha != 1 {
			for i := range y {
				y[i] = T(float64(y[i]) * float64(g.alpha))
			}
		}
		if in[2] == nil || g.beta == 0 {
			return nil
		}
		var p pairing
		if err := pair(&p, shape[:], in[2].Shape); err != nil || !sameShape(p.shape[:p.rank], shape[:]) {
			return fmt.Errorf("input C of shape %v does not fit %d×%d", append([]int(nil), in[2].Shape...), m, n)
		}
		c := Data[T](in[2])
		p.each(func(i, _, b int) {
			for j := range p.n[0] {
				v := c[b+j*p.sb[0]]
				if g.beta != 1 {
					v = T(float64(v) * float64(g.beta))
				}
				y[i+j] += v
			}
		})
		return nil
	}
}

func compileMatMul(n *Node) (Kernel, error) {
	if err := n.sameTypes(); err != nil {
		return nil, err
	}
	n.result(0, n.In[0].Type)
	if b := n.In[1].Const; b != nil {
		n.Source = func() *Source { return matrixSource(b, false, 1, nil) }
	}
	if n.constMatrix(1) {
		n.Dense = newDense(n.In[1].Const, false)
		n.Dense.any = true
		return n.Dense.run, nil
	}
	return byNumber(n.In[0].Type, matMulKernel[float32], matMulKernel[float64], matMulKernel[int64], matMulKernel[int32])
}

func matMulKernel[T Number](f *Frame, in, out []*Tensor) error {
	sa, sb := in[0].Shape, in[1].Shape
	if len(sa) == 0 || len(sb) == 0 {
		return fmt.Errorf("a product with a scalar")
	}
	m, k, kb, n := 1, sa[len(sa)-1], sb[0], 1
	var outerA, outerB []int
	if len(sa) > 1 {
		m, outerA = sa[len(sa)-2], sa[:len(sa)-2]
	}
	if len(sb) > 1 {
		kb, n, outerB = sb[len(sb)-2], sb[len(sb)-1], sb[:len(sb)-2]
	}
	if k != kb {
		return fmt.Errorf("a product of %v and %v", append([]int(nil), sa...), append([]int(nil), sb...))
	}
	x, w := Data[T](in[0]), Data[T](in[1])
	// One matrix for all: the rows of every stack together are one product.
	if len(outerB) == 0 && len(sa) > 1 {
		for _, d := range outerA {
			m *= d
		}
		outerA = nil
	}
	var p pairing
	if err := pair(&p, outerA, outerB); err != nil {
		return err
	}
	if err := workable(f, max(p.elements, 1)*m, n, k); err != nil {
		return err
	}
	var shape [MaxRank + 2]int
	rank := 0
	if len(outerB) == 0 && len(sa) > 1 {
		rank = copy(shape[:], sa[:len(sa)-1])
	} else {
		rank = copy(shape[:], p.shape[:p.rank])
		if len(sa) > 1 {
			shape[rank] = m
			rank++
		}
	}
	if len(sb) > 1 {
		shape[rank] = n
		rank++
	}
	y, err := Alloc[T](f, out[0], shape[:rank]...)
	if err != nil {
		return err
	}
	// The vectors of a machine are worth the packing of each matrix.
	if z, ok := any(y).([]float32); ok && m > 1 && n > 1 && k > 0 {
		x32, w32 := in[0].F32, in[1].F32
		p.each(func(d, a, b int) {
			for i := range p.n[0] {
				at, u, v := (d+i)*m*n, (a+i*p.sa[0])*m*k, (b+i*p.sb[0])*k*n
				f.packed.Repack(w32[v:v+k*n], k, n)
				f.packed.Mul(z[at:at+m*n], x32[u:u+m*k], m, nil, false)
			}
		})
		return nil
	}
	clear(y)
	p.each(func(d, a, b int) {
		for i := range p.n[0] {
			at, u, v := (d+i)*m*n, (a+i*p.sa[0])*m*k, (b+i*p.sb[0])*k*n
			multiply(y[at:at+m*n], x[u:u+m*k], w[v:v+k*n], m, n, k)
		}
	})
	return nil
}
