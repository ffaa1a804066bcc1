package pipeline

import (
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/model"
)

// inferPlan is an infer step with its names resolved, and the steps behind it.
type inferPlan struct {
	spec    *Infer
	index   int
	service *model.Service
	// meta is the champion's when the plan was made; later versions fit it.
	meta inference.Metadata
	// inputs holds, for each model input, what fills its row.
	inputs  []inputPlan
	outputs []outputPlan
	score   int // column of the output called score; -1 without
	// target is the score, as explanations name it.
	target    inference.Target
	fallbacks []fallbackPlan
	label     string    // the labels' field that scores are compared with; "" for none
	key       int       // column whose values are dealt to arms; -1: the event's key
	explain   *exprPlan // condition of explanations; nil: always
	after     []planStep
}

// reads are the columns that the step takes.
func (ip *inferPlan) reads() (cs []int) {
	for _, in := range ip.inputs {
		cs = append(cs, in.columns...)
	}
	if ip.key >= 0 {
		cs = append(cs, ip.key)
	}
	for _, f := range ip.fallbacks {
		for _, r := range f.rule {
			if r.expr != nil {
				cs = append(cs, r.expr.vars...)
			}
		}
	}
	if ip.explain != nil {
		cs = append(cs, ip.explain.vars...)
	}
	return cs
}

// inputPlan is what fills one input of a model: columns side by side, or a vector.
type inputPlan struct {
	columns []int
	vector  int // -1 without
}

type outputPlan struct {
	name    string
	tensor  int // index of the model output
	element int // index within a row
	column  int // -1: a vector
	vector  int
	f32     bool
}

// vectorDef is a whole row of a model's output.
type vectorDef struct {
	name  string
	width int // -1 where the model leaves it open
}

// fallbackPlan is one of a step's fallbacks; one field is set.
type fallbackPlan struct {
	previous bool
	cached   bool
	rule     []rulePlan
	value    *float64
}

type rulePlan struct {
	column int
	expr   *exprPlan
}

// Models are the champions of the infer steps: their digests by name@version.
func (p *Plan) Models() map[string]string {
	m := map[string]string{}
	for _, ip := range p.infers {
		sv := ip.service.Acquire()
		c := sv.Champion()
		m[c.Name+"@"+c.Version] = c.Digest
		sv.Release()
	}
	return m
}

// main is the step whose model a result names: the one that gives the score, else
// the last; nil without any.
func (p *Plan) main() *inferPlan {
	for _, ip := range p.infers {
		if ip.score >= 0 {
			return ip
		}
	}
	if n := len(p.infers); n > 0 {
		return p.infers[n-1]
	}
	return nil
}
