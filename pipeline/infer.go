package pipeline

import (
	"context"
	"math"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
)

// scorer hands the rows of frames to the model and takes the answers back.
type scorer struct {
	plan     *inferPlan
	columns  []columnDef
	model    *inference.Model
	meta     inference.Metadata
	target   time.Duration
	fallback *exprStep
	rule     event.Column

	partition int
}

func newScorer(p *Plan, m *inference.Model, partition int) *scorer {
	s := &scorer{partition: partition, plan: p.infer, columns: p.columns, model: m, meta: m.Metadata(), target: p.Spec.Freshness.Target}
	if fb := p.infer.fallback; fb != nil {
		s.fallback = newExprStep(fb)
		s.fallback.out = &s.rule
	}
	return s
}

// submit sends every row of the frame to the model, in runs of at most its
// greatest batch. It blocks while the model's queue is full.
func (s *scorer) submit(ctx context.Context, f *frame) error {
	f.busy = 0
	for from := 0; from < f.rows.N; from += s.model.MaxBatch() {
		to := min(from+s.model.MaxBatch(), f.rows.N)
		if f.busy == len(f.requests) {
			f.requests = append(f.requests, &inference.Request{In: make([]inference.Tensor, len(s.meta.Inputs))})
		}
		r := f.requests[f.busy]
		for i := range r.In {
			s.fill(&r.In[i], s.meta.Inputs[i], s.plan.inputs[i], f, from, to)
		}
		// Rows that were late when they arrived do not hold a batch open.
		r.Deadline = time.Unix(0, f.rows.Arrival[from]).Add(s.target)
		if err := s.model.Submit(ctx, r); err != nil {
			return err
		}
		f.busy++
	}
	return nil
}

// fill writes columns side by side into a row-major tensor.
func (s *scorer) fill(t *inference.Tensor, sig inference.Signature, columns []int, f *frame, from, to int) {
	n, k := to-from, len(columns)
	t.Name, t.Type = sig.Name, sig.Type
	t.Shape = append(append(t.Shape[:0], n), k)
	switch sig.Type {
	case inference.Float32:
		t.F32 = sized(t.F32, n*k)
		for j, c := range columns {
			floats(f.columns[c], from, to, t.F32[j:], k)
		}
	case inference.Float64:
		t.F64 = sized(t.F64, n*k)
		for j, c := range columns {
			floats(f.columns[c], from, to, t.F64[j:], k)
		}
	case inference.Int64:
		t.I64 = sized(t.I64, n*k)
		for j, c := range columns {
			ints(f.columns[c], from, to, t.I64[j:], k)
		}
	case inference.Int32:
		t.I32 = sized(t.I32, n*k)
		for j, c := range columns {
			ints(f.columns[c], from, to, t.I32[j:], k)
		}
	case inference.Bool:
		t.Bool = sized(t.Bool, n*k)
		for j, c := range columns {
			for i := from; i < to; i++ {
				t.Bool[(i-from)*k+j] = truth(f.columns[c], i)
			}
		}
	case inference.String:
		t.Str = sized(t.Str, n*k)
		for j, c := range columns {
			for i := from; i < to; i++ {
				t.Str[(i-from)*k+j] = f.columns[c].Strings[i]
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

// collect waits for the answers, writes them into the frame's columns, and
// turns rows that the model refused over to the fallback or to dead letters.
// It always waits for every request, for they belong to the model until then.
func (s *scorer) collect(f *frame) (failed int) {
	for i := range s.plan.outputs {
		f.columns[s.plan.outputs[i].column].Reset(f.rows.N)
	}
	from := 0
	for _, r := range f.requests[:f.busy] {
		_ = r.Wait(context.Background()) // cannot fail: the context is never done
		n := r.In[0].Rows()
		err := r.Err
		for i := 0; err == nil && i < len(s.plan.outputs); i++ {
			o := &s.plan.outputs[i]
			err = gather(f.columns[o.column], from, &r.Out[o.tensor], o.element)
		}
		if err != nil {
			for i := range n {
				s.refuse(f, from+i, r.Attempts, err)
			}
			failed += n
		} else {
			for _, bad := range r.Failed {
				s.refuse(f, from+bad.Row, r.Attempts, bad.Err)
			}
			failed += len(r.Failed)
		}
		from += n
	}
	if s.fallback != nil && len(f.fallback) > 0 {
		s.fallback.fill(f)
		score := f.columns[s.plan.score]
		for i, use := range f.fallback {
			if !use {
				continue
			}
			if s.rule.IsNull(i) {
				f.refuse(i, s.partition, "inference", "infer", 1,
					errkind.New(errkind.Permanent, "the model failed, and its fallback has no value for this event"))
				continue
			}
			switch s.rule.Kind {
			case event.Int:
				score.Floats[i] = float64(s.rule.Ints[i])
			default:
				score.Floats[i] = s.rule.Floats[i]
			}
		}
	}
	return failed
}

// refuse takes a row that the model did not score.
func (s *scorer) refuse(f *frame, row, attempts int, err error) {
	if s.fallback == nil {
		f.refuse(row, s.partition, "inference", "infer", attempts, err)
		return
	}
	for len(f.fallback) < f.rows.N {
		f.fallback = append(f.fallback, false)
	}
	f.fallback[row] = true
	for i := range s.plan.outputs {
		f.columns[s.plan.outputs[i].column].SetNull(row)
	}
	f.columns[s.plan.score].Null[row] = false
}

// gather copies one element of each row of a tensor into a column.
func gather(c *event.Column, from int, t *inference.Tensor, element int) error {
	n := t.Rows()
	stride := 1
	for _, d := range t.Shape[1:] {
		stride *= d
	}
	if element >= stride {
		return errkind.Errorf(errkind.Permanent, "the model's output %q has %d values a row, and element %d is wanted", t.Name, stride, element)
	}
	at := element
	for i := from; i < from+n; i++ {
		switch t.Type {
		case inference.Float32:
			c.Floats[i] = float64(t.F32[at])
		case inference.Float64:
			c.Floats[i] = t.F64[at]
		case inference.Int64:
			c.Ints[i] = t.I64[at]
		case inference.Int32:
			c.Ints[i] = int64(t.I32[at])
		case inference.Bool:
			c.Bools[i] = t.Bool[at]
		case inference.String:
			c.Strings[i] = t.Str[at]
		}
		at += stride
	}
	return nil
}
