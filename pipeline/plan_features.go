package pipeline

import (
	"fmt"
	"math"
	"regexp"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
)

// featureStep plans the features of a step in their order.
func (p *planner) featureStep(st *Features) {
	for i := range st.Items {
		it := &st.Items[i]
		switch {
		case it.Window != nil:
			p.windowFeature(it)
		case it.Expr != nil:
			x := p.program(it.Expr, "feature "+it.Name)
			kind := event.Float
			if x != nil {
				kind = x.program.Kind()
			}
			out := p.add(it.Name, kind, it.pos)
			p.plan.results = append(p.plan.results, out)
			if x != nil {
				x.out = out
				p.step(x)
			}
		case it.Lookup != nil:
			p.lookupFeature(it)
		}
		delete(p.later, it.Name)
	}
}

func (p *planner) windowFeature(it *FeatureItem) {
	w, what := it.Window, "feature "+it.Name
	if p.scored() {
		p.fault(it.pos, "window-after-infer", "move it to a features step before infer", "%s is a window, and windows are computed before the model", what)
	}
	wp := &windowPlan{
		by: w.By, field: -1, unlabelled: math.NaN(), def: w.Default,
		window: feature.Window{
			Name: it.Name, Aggregate: w.Aggregate, Shape: w.Shape, Field: w.Field, Kind: event.Float,
			Over: w.Over, Delay: w.Delay, Panes: w.Panes, Q: w.Q, Sketch: w.Sketch,
		},
	}
	p.windowKey(wp, it, what)
	p.windowField(wp, it, what)
	if w.Where != nil {
		p.windowWhere(wp, it, what)
	}
	kind := wp.window.OutKind()
	if d := w.Default; d != nil && !d.fits(kind) {
		p.fault(d.pos, "field-type", fmt.Sprintf("write a %s", kind), "%s: the default is a %s, and the feature a %s", what, d.Kind, kind)
	}
	wp.out = p.add(it.Name, kind, it.pos)
	p.plan.results = append(p.plan.results, wp.out)
	p.step(wp)
}

// windowKey finds the key that a window goes by.
func (p *planner) windowKey(wp *windowPlan, it *FeatureItem, what string) {
	w := it.Window
	if wp.by == "" {
		wp.by = p.key
	}
	switch {
	case wp.by == "":
		p.fault(it.pos, "no-key", "add `key: FIELD` to source, a key to the contract, or `by: FIELD` to the window", "%s needs a key, and the source has none", what)
	case wp.by != p.key:
		if c := p.find(wp.by, w.byPos, what+".by"); c >= 0 {
			if k := p.plan.columns[c].kind; k != event.String && k != event.Int {
				p.fault(w.byPos, "field-type", "choose a text or an integer field", "%s.by: %q is a %s", what, wp.by, k)
			}
		}
	}
}

// windowField finds what a window aggregates: a column of the events, or a field of the labels.
func (p *planner) windowField(wp *windowPlan, it *FeatureItem, what string) {
	w := it.Window
	if w.Field == "" {
		return
	}
	var kind event.Kind
	if f, ok := p.labelField(w.Field); ok {
		kind = f.Kind
		wp.window.Label = true
		wp.unlabelled = p.unlabelled(w.Field)
		l := p.spec.Labels
		if l.Key != "" {
			wp.byKey = true
			if wp.by != l.Key {
				p.fault(it.pos, "label-key", "write `by: "+l.Key+"`, or join the labels by event", "%s: %q is a field of the labels, which are joined by %q, and the window goes by %q", what, w.Field, l.Key, wp.by)
			}
		}
		if !wp.window.Exact() {
			p.fault(it.pos, "label-window", "write over: without panes", "%s: %q is a field of the labels, and those are aggregated in exact sliding windows only", what, w.Field)
		}
	} else {
		if wp.field = p.find(w.Field, w.fieldPos, what); wp.field < 0 {
			return
		}
		kind = p.plan.columns[wp.field].kind
	}
	switch w.Aggregate {
	case feature.Count, feature.Rate, feature.First, feature.Last, feature.Distinct, feature.SinceLast:
		wp.window.Kind = kind
		return
	}
	switch kind {
	case event.Float, event.Int, event.Bool:
	case event.String:
		p.fault(w.fieldPos, "field-type", "choose a numeric field, or count, first, last or distinct", "%s: %q is a %s, which has no %s", what, w.Field, kind, w.Aggregate)
	default:
		p.fault(w.fieldPos, "field-type", "choose a numeric field, or make a number of it with an expression", "%s: %q is a %s, which windows do not take", what, w.Field, kind)
	}
}

// windowWhere makes the window aggregate a column that has values only where the condition holds.
func (p *planner) windowWhere(wp *windowPlan, it *FeatureItem, what string) {
	w := it.Window
	if wp.window.Label {
		p.fault(w.Where.pos, "label-window", "take where out, or make the label say it", "%s: where looks at events, and %q is a field of the labels", what, w.Field)
		return
	}
	x := p.program(w.Where, what+".where", event.Bool)
	if x == nil {
		return
	}
	x.out = p.add(it.Name+" where", event.Bool, w.Where.pos)
	p.step(x)
	m := &maskPlan{cond: x.out, field: wp.field}
	kind := event.Int
	if wp.field >= 0 {
		kind = p.plan.columns[wp.field].kind
	}
	m.out = p.add(it.Name+" masked", kind, w.Where.pos)
	p.step(m)
	wp.field, wp.window.Field = m.out, p.plan.columns[m.out].name
	if w.Field == "" {
		wp.window.Kind = event.Int
	}
}

// fits reports whether the literal can be a value of a column of the kind.
func (l *Literal) fits(k event.Kind) bool {
	switch k {
	case event.Int:
		return l.Kind == event.Float && l.Float == math.Trunc(l.Float)
	case event.Time:
		return false
	}
	return l.Kind == k
}

// mentions reports whether the source of an expression uses a name.
func mentions(src, name string) bool {
	return regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(src)
}
