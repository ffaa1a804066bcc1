package ops

import "github.com/freshet-io/freshet/inference"

func compileWhere(n *Node) (Kernel, error) {
	if err := n.types(0, inference.Bool); err != nil {
		return nil, err
	}
	if n.In[1].Type != n.In[2].Type {
		return nil, unsupported("inputs of %v and %v", n.In[1].Type, n.In[2].Type)
	}
	n.result(0, n.In[1].Type)
	switch n.In[1].Type {
	case inference.Float32:
		return whereKernel[float32], nil
	case inference.Float64:
		return whereKernel[float64], nil
	case inference.Int64:
		return whereKernel[int64], nil
	case inference.Int32:
		return whereKernel[int32], nil
	case inference.Bool:
		return whereKernel[bool], nil
	}
	return whereKernel[string], nil
}

// whereKernel lays the second input down, then the third where the condition is false.
func whereKernel[T Elem](f *Frame, in, out []*Tensor) error {
	var p pairing
	if err := pair(&p, in[1].Shape, in[2].Shape); err != nil {
		return err
	}
	shape, rank := p.shape, p.rank
	if err := pair(&p, in[0].Shape, shape[:rank]); err != nil {
		return err
	}
	shape, rank = p.shape, p.rank
	d, err := Alloc[T](f, out[0], shape[:rank]...)
	if err != nil {
		return err
	}
	c, x, y := in[0].Bool, Data[T](in[1]), Data[T](in[2])
	if err := pair(&p, in[1].Shape, shape[:rank]); err != nil {
		return err
	}
	p.each(func(i, a, _ int) {
		for m := range p.n[0] {
			d[i+m] = x[a+m*p.sa[0]]
		}
	})
	// The three tensors may take different loops over the result, so where the third's
	// elements lie is noted first.
	if err := pair(&p, in[2].Shape, shape[:rank]); err != nil {
		return err
	}
	at := f.positions(len(d))
	p.each(func(i, a, _ int) {
		for m := range p.n[0] {
			at[i+m] = a + m*p.sa[0]
		}
	})
	if err := pair(&p, in[0].Shape, shape[:rank]); err != nil {
		return err
	}
	p.each(func(i, a, _ int) {
		for m := range p.n[0] {
			if !c[a+m*p.sa[0]] {
				d[i+m] = y[at[i+m]]
			}
		}
	})
	return nil
}

// positions is a buffer of indexes, good until the next call of intsOf.
func (f *Frame) positions(n int) []int {
	if cap(f.ints) < n {
		f.ints = make([]int, n)
	}
	return f.ints[:n]
}
