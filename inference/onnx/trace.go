package onnx

import (
	"slices"

	"github.com/freshet-io/freshet/inference/onnx/internal/ops"
	"github.com/freshet-io/freshet/inference/onnx/internal/wire"
)

// A column is followed from the inputs to the outputs, for explanations. Up to a source, trees or
// linear functions, each column is made of one value of the inputs, its origin. Behind sources
// each column is a form.

// form is a column of an output: the link of constant + Σ scale × the target of a source.
type form struct {
	link     ops.Link
	constant float64
	terms    []term
}

type term struct {
	source *site
	target int
	scale  float64
}

// site is a source in the graph.
type site struct {
	*ops.Source
	slot  int // of its input
	input int // index of the graph's input that this is, or −1
	// steps make the slot's value.
	steps []int
	// origins are the places of the columns among the values of all inputs.
	origins []int32
	index   int // in program.sites
}

// traced is what is known of a value's columns: origins or forms, or neither. Of three dimensions
// the columns are those of all places in the middle one.
type traced struct {
	rank    int
	middle  int // size of the second dimension of three
	origins []int32
	forms   []form
}

const (
	maxTraced = 1 << 16 // columns of a value that is followed
	maxTerms  = 1024    // sources of one column
	maxSites  = 1024
	// maxKept bounds the columns and terms of all values together: a file's author must not decide what
	// loading it costs.
	maxKept = 1 << 22
)

type tracer struct {
	pl     *planner
	values map[*value]traced
	kept   int
}

// trace finds the forms of the outputs.
func (pl *planner) trace() error {
	p := pl.p
	t := tracer{pl: pl, values: map[*value]traced{}}
	for k, info := range p.inputInfo {
		width := 1
		for d, n := range info.Dims {
			if d > 0 && (n < 0 || n > maxTraced) {
				return nil
			}
			if d > 0 {
				width *= int(n)
			}
			if width > maxTraced-p.width {
				return nil
			}
		}
		if !info.HasShape || len(info.Dims) == 0 {
			return nil
		}
		v := traced{rank: len(info.Dims), origins: make([]int32, width)}
		for i := range v.origins {
			v.origins[i] = int32(p.width + i)
		}
		p.width += width
		if len(info.Dims) <= 2 {
			t.values[pl.values[p.inputInfo[k].Name].resolve()] = v
		}
	}
	for _, i := range pl.order {
		t.node(i)
	}
	for _, o := range pl.model.Graph.Outputs {
		var forms []form
		if v := pl.values[o.Name]; v != nil {
			forms = t.values[v.resolve()].forms
		}
		p.forms = append(p.forms, forms)
	}
	t.settle()
	return nil
}

// settle keeps the sites that outputs are made of, and finds the steps that make their inputs.
func (t *tracer) settle() {
	p := t.pl.p
	all := p.sites
	p.sites = nil
	used := map[*site]bool{}
	for _, forms := range p.forms {
		for _, f := range forms {
			for _, term := range f.terms {
				used[term.source] = true
			}
		}
	}
	steps := map[int][]int{}
	for _, s := range all {
		if !used[s] {
			continue
		}
		s.index = len(p.sites)
		p.sites = append(p.sites, s)
		if s.input >= 0 {
			continue
		}
		if _, known := steps[s.slot]; !known {
			steps[s.slot] = p.upTo(s.slot)
		}
		s.steps = steps[s.slot]
	}
}

// upTo lists the steps that a slot's value needs, in order.
func (p *program) upTo(slot int) []int {
	need := map[int]bool{slot: true}
	var out []int
	for k, s := range slices.Backward(p.steps) {
		if !slices.ContainsFunc(s.out, func(o int) bool { return o >= 0 && need[o] }) {
			continue
		}
		out = append(out, k)
		for _, in := range s.in {
			need[in] = true
		}
	}
	slices.Reverse(out)
	return out
}

// node follows the columns through a node.
func (t *tracer) node(i int) {
	n := &t.pl.model.Graph.Nodes[i]
	if len(n.Inputs) == 0 || len(n.Outputs) == 0 || n.Outputs[0] == "" && len(n.Outputs) < 2 {
		return
	}
	var in []traced
	var consts []*ops.Tensor
	for _, name := range n.Inputs {
		if name == "" {
			in, consts = append(in, traced{}), append(consts, nil)
			continue
		}
		v := t.pl.values[name].resolve()
		in, consts = append(in, t.values[v]), append(consts, v.Const)
	}
	if src := t.pl.sources[i]; src != nil {
		t.source(n, in[0], src)
		return
	}
	if n.Domain == "" && n.Op == "Sum" || n.Op == "Concat" || n.Op == "FeatureVectorizer" {
		t.set(n, t.several(n, in, consts))
		return
	}
	live := -1
	for k := range in {
		if consts[k] == nil && n.Inputs[k] != "" {
			if live >= 0 {
				t.set(n, t.two(n, in))
				return
			}
			live = k
		}
	}
	if live < 0 || in[live].rank == 0 {
		return
	}
	t.set(n, t.one(n, in[live], live, consts))
}

func (t *tracer) set(n *wire.Node, v traced) {
	if v.rank == 0 || n.Outputs[0] == "" || len(v.forms) > maxTraced || len(v.origins) > maxTraced {
		return
	}
	at := t.pl.values[n.Outputs[0]]
	if at.resolve() == at { // not the input under another name
		t.keep(at, v)
	}
}

// keep remembers a value's columns while there is room.
func (t *tracer) keep(at *value, v traced) {
	t.kept += len(v.origins) + len(v.forms)
	for _, f := range v.forms {
		t.kept += len(f.terms)
	}
	if t.kept <= maxKept {
		t.values[at] = v
	}
}

// source turns origins into forms.
func (t *tracer) source(n *wire.Node, in traced, src func() *ops.Source) {
	if in.rank != 2 || len(in.origins) == 0 || len(t.pl.p.sites) == maxSites || t.kept > maxKept {
		return
	}
	s := src()
	if s == nil || s.Trees == nil && s.Features() != len(in.origins) || s.Features() > len(in.origins) {
		return
	}
	if s.Output >= len(n.Outputs) || n.Outputs[s.Output] == "" {
		return
	}
	p := t.pl.p
	v := t.pl.values[n.Inputs[0]].resolve()
	if v.slot < 0 {
		return
	}
	for _, w := range s.Linear {
		t.kept += len(w)
	}
	at := &site{Source: s, slot: v.slot, input: slices.Index(p.inputs, v.slot), origins: in.origins}
	p.sites = append(p.sites, at)
	out := traced{rank: 2}
	for _, c := range s.Scores {
		out.forms = append(out.forms, form{link: c.Link, constant: c.Constant, terms: []term{{at, c.Target, c.Scale}}})
	}
	t.keep(t.pl.values[n.Outputs[s.Output]], out)
}
