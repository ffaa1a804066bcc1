package inference

import (
	"context"
	"encoding/binary"
	"hash/fnv"
	"math/rand/v2"
	"sync"

	"github.com/freshet-io/freshet/errkind"
)

// Evaluator is what can be asked for outputs: a Driver, or a *Model, whose
// deadlines, limits and breaker then hold for explanations too.
type Evaluator interface {
	Metadata() Metadata
	Infer(ctx context.Context, in, out []Tensor) error
}

// Sampled explains any model by calls of it: Shapley values sampled by
// permutations (Štrumbelj and Kononenko, 2014), each taken forwards and
// backwards (antithetic; Mitchell, Cooper, Frank and Holmes, 2022). A
// permutation begins at a row of the background and takes the explained row's values over one by
// one, numbers, truth values and strings alike; what the output moves by is the value's. So base plus
// attributions is the output, whatever the number of permutations.
//
// The same row with the same seed has the same explanation in any batch: the
// permutations are drawn from the seed and the row's bytes, the background's rows from the seed.
// A row costs (values − 1) × permutations + 1 rows of calls. permutations below 2 means 2; an odd
// number is made even. Without background no method is offered.
func Sampled(e Evaluator, background []Tensor, permutations int, seed uint64) (Explainer, error) {
	s := &sampled{model: e, meta: e.Metadata(), pairs: max(1, (permutations+1)/2), seed: seed}
	if background != nil {
		if err := s.SetBackground(background); err != nil {
			return nil, err
		}
	}
	return s, nil
}

type sampled struct {
	model Evaluator
	meta  Metadata
	pairs int
	seed  uint64

	mu         sync.Mutex
	background []Tensor
	starts     []int                // the row of the background that each pair begins at
	outputs    map[Target][]float64 // of the background's rows
}

func (s *sampled) SetBackground(in []Tensor) error {
	if _, err := s.rows(in); err != nil {
		return err
	}
	n := in[0].Rows()
	if n == 0 {
		return errkind.Errorf(errkind.Invalid, "explain model %q: the background has no rows", s.meta.Name)
	}
	kept := make([]Tensor, len(in))
	for i := range in {
		kept[i].set(&in[i], 0, n)
	}
	starts := rand.New(rand.NewPCG(s.seed, 1)).Perm(n)
	if len(starts) > s.pairs {
		starts = starts[:s.pairs]
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.background, s.starts, s.outputs = kept, starts, map[Target][]float64{}
	return nil
}

func (s *sampled) Methods(t Target) []Method {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.background == nil || t.Output < 0 || t.Output >= len(s.meta.Outputs) || t.Element < 0 || s.meta.Outputs[t.Output].Type == String {
		return nil
	}
	if size, known := s.meta.Outputs[t.Output].size(); known && t.Element >= size {
		return nil
	}
	return []Method{SampledShapley}
}

// size is the number of elements of a row, where no size is left open.
func (s *Signature) size() (n int, known bool) {
	n = 1
	for _, d := range s.Shape {
		if d < 0 {
			return 0, false
		}
		n *= d
	}
	return n, true
}

// rows checks tensors against the metadata; width is the number of values of a row.
func (s *sampled) rows(in []Tensor) (width int, err error) {
	if len(in) == 0 || len(in) != len(s.meta.Inputs) {
		return 0, errkind.Errorf(errkind.Invalid, "explain model %q: %d inputs, not %d", s.meta.Name, len(in), len(s.meta.Inputs))
	}
	for i := range in {
		t := &in[i]
		if t.Type != s.meta.Inputs[i].Type || t.elements() < 0 || t.elements() != t.length() || t.Rows() != in[0].Rows() {
			return 0, errkind.Errorf(errkind.Invalid, "explain model %q: input %q is %d elements of %v for the shape %v",
				s.meta.Name, s.meta.Inputs[i].Name, t.length(), t.Type, t.Shape)
		}
		width += t.rowSize()
	}
	return width, nil
}

func (s *sampled) Explain(ctx context.Context, in []Tensor, t Target, method Method, a *Attributions) error {
	if method != SampledShapley || len(s.Methods(t)) == 0 {
		return errkind.Errorf(errkind.Unsupported, "explain model %q: %v is not offered for element %d of output %d", s.meta.Name, method, t.Element, t.Output)
	}
	width, err := s.rows(in)
	if err != nil {
		return err
	}
	s.mu.Lock()
	back, starts, known := s.background, s.starts, s.outputs[t]
	s.mu.Unlock()
	for i := range in {
		if !sameRow(in[i].Shape, back[i].Shape) {
			return errkind.Errorf(errkind.Invalid, "explain model %q: rows of input %q have the shape %v, those of the background %v",
				s.meta.Name, s.meta.Inputs[i].Name, in[i].Shape[1:], back[i].Shape[1:])
		}
	}
	walk := &walk{s: s, ctx: ctx, target: t, width: width, in: make([]Tensor, len(in)), mixed: make([]Tensor, len(in)), out: make([]Tensor, len(s.meta.Outputs))}
	if known == nil {
		for _, b := range starts {
			if err := walk.add(back, b); err != nil {
				return err
			}
		}
		if known, err = walk.values(); err != nil {
			return err
		}
		s.mu.Lock()
		s.outputs[t] = known
		s.mu.Unlock()
	}
	n := in[0].Rows()
	a.Method, a.Link, a.Width = SampledShapley, Identity, width
	a.Base, a.Raw, a.Values = zeros(a.Base, n), zeros(a.Raw, n), zeros(a.Values, n*width)
	for row := range n {
		if err := walk.explain(in, row, back, starts, known, a); err != nil {
			return err
		}
	}
	return nil
}

// walk collects rows to be evaluated, and evaluates them in calls as large as they may be.
type walk struct {
	s      *sampled
	ctx    context.Context
	target Target
	width  int
	in     []Tensor
	out    []Tensor
	mixed  []Tensor // a row on its way from the background to the explained one
	found  []float64
}

// most is the number of rows of one call.
func (w *walk) most() int {
	if n := w.s.meta.MaxBatch; n > 0 {
		return n
	}
	return 256
}

// add puts one row of ts at the end.
func (w *walk) add(ts []Tensor, row int) error {
	if w.in[0].Rows() >= w.most() {
		if err := w.flush(); err != nil {
			return err
		}
	}
	for i := range w.in {
		if w.in[i].Rows() == 0 {
			w.in[i].set(&ts[i], row, 1)
		} else {
			w.in[i].appendRows(&ts[i], row, 1)
		}
	}
	return nil
}

// put sets value v of the mixed row to that of a row of ts.
func (w *walk) put(v int, ts []Tensor, row int) {
	for i := range w.mixed {
		t, u := &w.mixed[i], &ts[i]
		size := t.rowSize()
		if v >= size {
			v -= size
			continue
		}
		from := row*size + v
		switch t.Type {
		case Float32:
			t.F32[v] = u.F32[from]
		case Float64:
			t.F64[v] = u.F64[from]
		case Int64:
			t.I64[v] = u.I64[from]
		case Int32:
			t.I32[v] = u.I32[from]
		case Bool:
			t.Bool[v] = u.Bool[from]
		case String:
			t.Str[v] = u.Str[from]
		}
		return
	}
}

func (w *walk) flush() error {
	n := w.in[0].Rows()
	if n == 0 {
		return nil
	}
	if err := w.s.model.Infer(w.ctx, w.in, w.out); err != nil {
		return err
	}
	o := &w.out[w.target.Output]
	size := 0
	if o.Rows() == n && o.elements() == o.length() {
		size = o.rowSize()
	}
	if w.target.Element >= size {
		return errkind.Errorf(errkind.Permanent, "explain model %q: output %q has the shape %v for %d rows, and element %d is explained",
			w.s.meta.Name, w.s.meta.Outputs[w.target.Output].Name, o.Shape, n, w.target.Element)
	}
	for r := range n {
		w.found = append(w.found, o.number(r*size+w.target.Element))
	}
	for i := range w.in {
		w.in[i].truncate()
		w.in[i].Shape[0] = 0
	}
	return nil
}

// values are the outputs of all rows added since the last time.
func (w *walk) values() ([]float64, error) {
	err := w.flush()
	found := w.found
	w.found = nil
	return found, err
}

// number is an element as a number; true is 1.
func (t *Tensor) number(i int) float64 {
	switch t.Type {
	case Float32:
		return float64(t.F32[i])
	case Float64:
		return t.F64[i]
	case Int64:
		return float64(t.I64[i])
	case Int32:
		return float64(t.I32[i])
	case Bool:
		if t.Bool[i] {
			return 1
		}
	}
	return 0
}

// explain attributes one row.
func (w *walk) explain(in []Tensor, row int, back []Tensor, starts []int, known []float64, a *Attributions) error {
	h := fnv.New64a()
	_, _ = h.Write(appendRowKey(binary.LittleEndian.AppendUint64(nil, w.s.seed), in, row))
	random := rand.New(rand.NewPCG(w.s.seed, h.Sum64()))
	if err := w.add(in, row); err != nil {
		return err
	}
	orders := make([][]int, w.s.pairs)
	for p := range orders {
		order := random.Perm(w.width)
		orders[p] = order
		b := starts[p%len(starts)]
		for _, forwards := range []bool{true, false} {
			// What lies between the background's row and the explained one.
			for i := range w.mixed {
				w.mixed[i].set(&back[i], b, 1)
			}
			for k := range w.width - 1 {
				w.put(at(order, k, forwards), in, row)
				if err := w.add(w.mixed, 0); err != nil {
					return err
				}
			}
		}
	}
	f, err := w.values()
	if err != nil {
		return err
	}
	raw, next := f[0], 1
	values := a.Values[row*w.width:][:w.width]
	base := 0.0
	for p, order := range orders {
		start := known[p%len(starts)]
		base += start
		for _, forwards := range []bool{true, false} {
			before := start
			for k := range w.width {
				after := raw
				if k < w.width-1 {
					after = f[next]
					next++
				}
				values[at(order, k, forwards)] += after - before
				before = after
			}
		}
	}
	for v := range values {
		values[v] /= float64(2 * len(orders))
	}
	a.Base[row], a.Raw[row] = base/float64(len(orders)), raw
	return nil
}

// at is the value that the walk takes over as number k.
func at(order []int, k int, forwards bool) int {
	if forwards {
		return order[k]
	}
	return order[len(order)-1-k]
}
