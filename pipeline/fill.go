package pipeline

import (
	"math"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
)

// filler writes rows of a frame into tensors. It belongs to one goroutine.
type filler struct {
	inputs  []inputPlan
	vectors []vectorOf
	scratch []event.Column // columns of runs whose rows do not lie side by side
}

// vectorOf says where a vector's values are.
type vectorOf struct{ step, vector int }

func newFiller(p *Plan, ip *inferPlan) filler {
	fl := filler{inputs: ip.inputs, vectors: make([]vectorOf, len(p.vectors))}
	for _, x := range p.infers {
		for _, o := range x.outputs {
			if o.column < 0 {
				fl.vectors[o.vector] = vectorOf{x.index, o.vector}
			}
		}
	}
	return fl
}

// fill makes the request's inputs those of a run's rows.
func (fl *filler) fill(req *inference.Request, sigs []inference.Signature, f *frame, r *run) {
	if len(req.In) != len(sigs) {
		req.In = make([]inference.Tensor, len(sigs))
	}
	for i := range sigs {
		in := &fl.inputs[i]
		if in.vector >= 0 {
			at := fl.vectors[in.vector]
			fillVector(&req.In[i], sigs[i], &f.scorings[at.step].vectors[at.vector], r)
			continue
		}
		fl.fillInput(&req.In[i], sigs[i], in.columns, f, r)
	}
}

// fillInput writes columns side by side into a row-major tensor.
func (fl *filler) fillInput(t *inference.Tensor, sig inference.Signature, columns []int, f *frame, r *run) {
	n, k := r.n, len(columns)
	t.Name, t.Type = sig.Name, sig.Type
	t.Shape = append(t.Shape[:0], n)
	if len(sig.Shape) > 0 {
		t.Shape = append(t.Shape, k)
	}
	switch sig.Type {
	case inference.Float32:
		t.F32 = sized(t.F32, n*k)
	case inference.Float64:
		t.F64 = sized(t.F64, n*k)
	case inference.Int64:
		t.I64 = sized(t.I64, n*k)
	case inference.Int32:
		t.I32 = sized(t.I32, n*k)
	case inference.Bool:
		t.Bool = sized(t.Bool, n*k)
	case inference.String:
		t.Str = sized(t.Str, n*k)
	}
	for j, at := range columns {
		c, from := f.columns[at], r.from
		if r.rows != nil {
			if fl.scratch == nil {
				fl.scratch = make([]event.Column, len(f.columns))
			}
			s := &fl.scratch[at]
			s.Kind = c.Kind
			s.Take(c, r.rows)
			c, from = s, 0
		}
		to := from + n
		switch sig.Type {
		case inference.Float32:
			floats(c, from, to, t.F32[j:], k)
		case inference.Float64:
			floats(c, from, to, t.F64[j:], k)
		case inference.Int64:
			ints(c, from, to, t.I64[j:], k)
		case inference.Int32:
			ints(c, from, to, t.I32[j:], k)
		case inference.Bool:
			for i := from; i < to; i++ {
				t.Bool[(i-from)*k+j] = truth(c, i)
			}
		case inference.String:
			for i := from; i < to; i++ {
				t.Str[(i-from)*k+j] = c.Strings[i]
			}
		}
	}
}

// fillVector makes a tensor of whole rows of an earlier model's output; a row
// without one is NaN.
func fillVector(t *inference.Tensor, sig inference.Signature, v *vector, r *run) {
	w := v.width
	t.Name, t.Type = sig.Name, sig.Type
	t.Shape = append(t.Shape[:0], r.n)
	if known := rowElements(sig); known == w && len(sig.Shape) > 1 {
		t.Shape = append(t.Shape, sig.Shape...)
	} else {
		t.Shape = append(t.Shape, w)
	}
	if sig.Type == inference.Float32 {
		t.F32 = sized(t.F32, r.n*w)
	} else {
		t.F64 = sized(t.F64, r.n*w)
	}
	for i := range r.n {
		row := r.row(i)
		for j, x := range v.values[row*w : (row+1)*w] {
			if v.null[row] {
				x = math.NaN()
			}
			if sig.Type == inference.Float32 {
				t.F32[i*w+j] = float32(x)
			} else {
				t.F64[i*w+j] = x
			}
		}
	}
}

func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// floats writes a column's rows with a stride; a row without a value is NaN.
func floats[T float32 | float64](c *event.Column, from, to int, dst []T, stride int) {
	at := 0
	switch c.Kind {
	case event.Float:
		for _, v := range c.Floats[from:to] {
			dst[at] = T(v)
			at += stride
		}
	case event.Int:
		for _, v := range c.Ints[from:to] {
			dst[at] = T(v)
			at += stride
		}
	case event.Bool:
		for _, v := range c.Bools[from:to] {
			dst[at] = 0
			if v {
				dst[at] = 1
			}
			at += stride
		}
	}
	if c.Null != nil {
		for i, null := range c.Null[from:to] {
			if null {
				dst[i*stride] = T(math.NaN())
			}
		}
	}
}

func ints[T int32 | int64](c *event.Column, from, to int, dst []T, stride int) {
	for i := from; i < to; i++ {
		var v T
		switch c.Kind {
		case event.Int:
			v = T(c.Ints[i])
		case event.Float:
			v = T(c.Floats[i])
		case event.Bool:
			if c.Bools[i] {
				v = 1
			}
		}
		dst[(i-from)*stride] = v
	}
}

func truth(c *event.Column, i int) bool {
	switch c.Kind {
	case event.Bool:
		return c.Bools[i]
	case event.Int:
		return c.Ints[i] != 0
	}
	return c.Floats[i] != 0
}
