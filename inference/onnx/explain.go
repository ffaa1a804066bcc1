package onnx

import (
	"context"
	"fmt"
	"sync"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/attribution"
	"github.com/freshet-io/freshet/inference/onnx/internal/ops"
)

// background is what a sample says of the model, and the plans made from it.
type background struct {
	covers []attribution.Covers // by site, for trees
	means  [][]float64          // by site, for linear functions

	mu    sync.RWMutex
	plans map[planKey]*explanation
}

type planKey struct {
	target inference.Target
	method inference.Method
}

// explanation is a target explained by a method; it is immutable.
type explanation struct {
	link  inference.Link
	base  float64
	parts []part
}

// part is what one source gives.
type part struct {
	site  *site
	plan  *attribution.Plan
	paths *attribution.Paths
	// weights of a linear function and the means of its features.
	weights, mean []float64
}

// explainer is the memory of one Explain at a time.
type explainer struct {
	instance *instance // for steps in front of sources, nil until needed
	frame    ops.Frame // where there are none
	x        []float64
	shapley  attribution.Scratch
	walk     attribution.Walk
}

// explainBlock is how many rows are explained between two looks at the context.
const explainBlock = 256

// Methods offers TreeSHAP and PathAttribution for a score of trees, or LinearAttribution for one of linear functions, once
// there is a background: files do not hold usable covers. The score is the target itself, or the
// target is its logistic function (Link), or it is one of several scores that a softmax turns into probabilities; there
// Raw is the score of the target's class, with Link Identity.
//
// Sums, differences, constant multiples and choices of columns behind the trees are followed. In front of them may
// be what makes each column of one input value: scaling, imputation, casts, functions of one number, columns put together
// or chosen, one-hot codes, whose attributions are added up. Trees that take the least or greatest leaf, or
// that are larger than about 500 levels or a million nodes, and anything else in the graph are not explained.
func (m *Model) Methods(t inference.Target) []inference.Method {
	if m.background.Load() == nil {
		return nil
	}
	f := m.form(t)
	if f == nil {
		return nil
	}
	trees, linear, shapley, paths := false, false, true, true
	for _, term := range f.terms {
		if e := term.source.Trees; e != nil {
			trees = true
			shapley, paths = shapley && e.ShapleyFits(), paths && e.PathsFit()
		} else {
			linear = true
		}
	}
	switch {
	case trees && linear:
		return nil
	case linear:
		return []inference.Method{inference.LinearAttribution}
	}
	var out []inference.Method
	if shapley {
		out = append(out, inference.TreeSHAP)
	}
	if paths {
		out = append(out, inference.PathAttribution)
	}
	return out
}

// form is how the target adds up; nil where that is not known.
func (m *Model) form(t inference.Target) *form {
	if t.Output < 0 || t.Output >= len(m.prog.forms) || t.Element < 0 || t.Element >= len(m.prog.forms[t.Output]) {
		return nil
	}
	if f := &m.prog.forms[t.Output][t.Element]; len(f.terms) > 0 {
		return f
	}
	return nil
}

// SetBackground counts the covers of all nodes and takes the means of all features that models add up, NaN left
// out, from the sample. It is Invalid for a sample without rows or of another shape than the
// inputs; it may have more rows than a batch.
func (m *Model) SetBackground(in []inference.Tensor) (err error) {
	defer m.internal(&err)
	rows, err := m.check(in)
	if err == nil && rows == 0 {
		err = invalid("a background without rows")
	}
	if err != nil {
		return fmt.Errorf("set background: %w", err)
	}
	x, err := m.acquire(context.Background())
	if err != nil {
		return err
	}
	defer func() { m.explainers <- x }()
	defer x.forget()
	b := &background{
		plans:  map[planKey]*explanation{},
		covers: make([]attribution.Covers, len(m.prog.sites)), means: make([][]float64, len(m.prog.sites)),
	}
	for k, s := range m.prog.sites {
		t, err := x.input(m, s, in)
		if err != nil {
			return fmt.Errorf("set background: %w", m.errInfer(err))
		}
		frame, width := x.frameOf(), len(s.origins)
		x.x = s.Values(frame, t, x.x)
		if s.Trees != nil {
			b.covers[k] = s.Trees.Cover(x.x, rows, width)
		} else {
			b.means[k] = means(x.x, rows, width)
		}
		x.forget()
	}
	m.background.Store(b)
	return nil
}

// internal turns a panic into an error.
func (m *Model) internal(err *error) {
	if r := recover(); r != nil {
		*err = m.errInfer(fmt.Errorf("%w: %v: please report it with the model", errInternal, r))
	}
}

// means are the columns' means over the values that are not missing.
func means(x []float64, rows, width int) []float64 {
	out := make([]float64, width)
	for i := range out {
		n := 0
		for r := range rows {
			if v := x[r*width+i]; v == v {
				n++
				out[i] += (v - out[i]) / float64(n)
			}
		}
	}
	return out
}

// plan returns the explanation of a target, made when it is first asked for.
func (m *Model) plan(b *background, t inference.Target, method inference.Method) *explanation {
	key := planKey{t, method}
	b.mu.RLock()
	e := b.plans[key]
	b.mu.RUnlock()
	if e != nil {
		return e
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.plans[key]; e != nil {
		return e
	}
	f := m.form(t)
	e = &explanation{base: f.constant}
	if f.link == ops.LogisticLink {
		e.link = inference.Logistic
	}
	for _, term := range f.terms {
		s := term.source
		p := part{site: s}
		if s.Trees == nil {
			p.mean = b.means[s.index]
			for i, w := range s.Linear[term.target] {
				w *= term.scale
				p.weights = append(p.weights, w)
				if w != 0 {
					e.base += w * p.mean[i]
				}
			}
			e.parts = append(e.parts, p)
			continue
		}
		shapley := method == inference.TreeSHAP
		p.paths = attribution.NewPaths(s.Trees, b.covers[s.index], s.LeafNodes(), term.target, term.scale, !shapley)
		if shapley {
			p.plan = attribution.NewPlan(s.Trees, b.covers[s.index], term.target, term.scale)
		}
		e.base += p.paths.Base()
		e.parts = append(e.parts, p)
	}
	b.plans[key] = e
	return e
}

// Explain attributes the target of every row; see inference.Explainer and Methods. It has memory of its own,
// so that it takes no instance from Infer, and allocates only where a batch is larger than those before, or for the
// first explanation of a target.
func (m *Model) Explain(ctx context.Context, in []inference.Tensor, t inference.Target, method inference.Method, a *inference.Attributions) (err error) {
	defer m.internal(&err)
	b := m.background.Load()
	if b == nil || !m.offers(t, method) {
		return errkind.Errorf(errkind.Unsupported, "explain %s: method %v is not offered for element %d of output %d", m.meta.Name, method, t.Element, t.Output)
	}
	rows, err := m.checkBatch(in)
	if err != nil {
		return err
	}
	x, err := m.acquire(ctx)
	if err != nil {
		return err
	}
	defer func() { m.explainers <- x }()
	e := m.plan(b, t, method)
	width := m.prog.width
	a.Method, a.Link, a.Width = method, e.link, width
	a.Base, a.Raw, a.Values = fill(a.Base, rows, e.base), fill(a.Raw, rows, 0), fill(a.Values, rows*width, 0)
	for k := range e.parts {
		if rows == 0 {
			break
		}
		if err := x.part(ctx, m, &e.parts[k], in, rows, a); err != nil {
			return m.errInfer(err)
		}
	}
	constant := m.form(t).constant
	for r := range a.Raw {
		a.Raw[r] += constant
	}
	return nil
}

func (m *Model) offers(t inference.Target, method inference.Method) bool {
	f := m.form(t)
	if f == nil {
		return false
	}
	for _, term := range f.terms {
		e := term.source.Trees
		switch method {
		case inference.TreeSHAP:
			if e == nil || !e.ShapleyFits() {
				return false
			}
		case inference.PathAttribution:
			if e == nil || !e.PathsFit() {
				return false
			}
		case inference.LinearAttribution:
			if e != nil {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// fill sets n values.
func fill(s []float64, n int, v float64) []float64 {
	if cap(s) < n {
		s = make([]float64, n)
	}
	s = s[:n]
	for i := range s {
		s[i] = v
	}
	return s
}

// acquire waits for an explainer.
func (m *Model) acquire(ctx context.Context) (*explainer, error) {
	select {
	case <-m.closed:
		return nil, m.errClosed()
	default:
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("explain %s: %w", m.meta.Name, err)
	}
	select {
	case x := <-m.explainers:
		return x, nil
	case <-m.closed:
		return nil, m.errClosed()
	case <-ctx.Done():
		return nil, fmt.Errorf("explain %s: %w", m.meta.Name, ctx.Err())
	}
}

// input is the tensor that a site reads; forget lets go of it.
func (x *explainer) input(m *Model, s *site, in []inference.Tensor) (*ops.Tensor, error) {
	if s.input >= 0 {
		return &in[s.input], nil
	}
	if x.instance == nil {
		x.instance = newInstance(m.prog)
	}
	i := x.instance
	i.take(in)
	for _, k := range s.steps {
		if err := i.step(k); err != nil {
			return nil, err
		}
	}
	t := &i.vals[s.slot]
	if rows := in[0].Shape[0]; len(t.Shape) != 2 || t.Shape[0] != rows || t.Shape[1] != len(s.origins) {
		return nil, invalid("the input of trees or linear functions has shape %v, expected %d×%d", append([]int(nil), t.Shape...), rows, len(s.origins))
	}
	return t, nil
}

func (x *explainer) forget() {
	if x.instance != nil {
		x.instance.forget()
	}
}

func (x *explainer) frameOf() *ops.Frame {
	if x.instance != nil {
		return &x.instance.frame
	}
	return &x.frame
}

// part adds what one source gives to all rows.
func (x *explainer) part(ctx context.Context, m *Model, p *part, in []inference.Tensor, rows int, a *inference.Attributions) error {
	s := p.site
	t, err := x.input(m, s, in)
	if err != nil {
		return err
	}
	defer x.forget()
	f, width := x.frameOf(), len(s.origins)
	if a.Method != inference.PathAttribution {
		x.x = s.Values(f, t, x.x)
	}
	for first := 0; first < rows; first += explainBlock {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(explainBlock, rows-first)
		out, raw := a.Values[first*a.Width:(first+n)*a.Width], a.Raw[first:first+n]
		if p.paths == nil {
			p.linear(x.x[first*width:(first+n)*width], out, raw, a.Width)
			continue
		}
		x.walk = attribution.Walk{Paths: p.paths, Raw: raw}
		if p.plan == nil {
			x.walk.Out, x.walk.Stride, x.walk.To = out, a.Width, s.origins
		}
		s.Leaves(f, t, first, n, width, &x.walk)
		x.walk = attribution.Walk{}
		if p.plan != nil {
			p.plan.Shapley(&x.shapley, x.x[first*width:(first+n)*width], n, width, out, a.Width, s.origins)
		}
	}
	return nil
}

// linear adds weight × (value − mean) to the origin of every column, and weight × value to raw.
func (p *part) linear(x, out, raw []float64, stride int) {
	width := len(p.weights)
	for r := range raw {
		row, to := x[r*width:(r+1)*width], out[r*stride:(r+1)*stride]
		for i, w := range p.weights {
			raw[r] += w * row[i]
			to[p.site.origins[i]] += w * (row[i] - p.mean[i])
		}
	}
}
