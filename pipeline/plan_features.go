package pipeline

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

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
	if p.scored {
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

func (p *planner) lookupFeature(it *FeatureItem) {
	l, what := it.Lookup, "feature "+it.Name
	table := p.tables[l.Table]
	if table == nil {
		names := make([]string, 0, len(p.spec.Tables))
		for _, t := range p.spec.Tables {
			names = append(names, t.Name)
		}
		remedy := didYouMean(l.Table, names)
		if len(names) == 0 {
			remedy = "declare it: `tables: {" + l.Table + ": {file: …, key: …}}`"
		}
		p.fault(l.tablePos, "unknown-table", remedy, "%s: there is no table %q", what, l.Table)
	}
	key := p.find(l.Key, l.keyPos, what)
	if key >= 0 && p.plan.columns[key].kind != event.String && p.plan.columns[key].kind != event.Int {
		p.fault(l.keyPos, "field-type", "choose a text or an integer field", "%s: the key %q is a %s", what, l.Key, p.plan.columns[key].kind)
	}
	readable := table != nil && table.known
	lp := &lookupPlan{key: key, at: -1}
	var ages []int
	for i, f := range l.Fields {
		if name, ok := strings.CutSuffix(f, ageSuffix); ok && slices.Contains(l.Fields, name) {
			ages = append(ages, i)
			continue
		}
		kind := event.Float
		if readable {
			var found bool
			if kind, found = table.kind(f); !found {
				p.fault(l.fieldPos[i], "unknown-field", didYouMean(f, table.names()), "%s: the table %q has no column %q", what, l.Table, f)
				readable = false
			}
		}
		out := p.add(it.Name+"."+f, kind, it.pos)
		p.plan.results = append(p.plan.results, out)
		lp.out, lp.fields, lp.kinds = append(lp.out, out), append(lp.fields, f), append(lp.kinds, kind)
		var def *Literal
		if d, ok := l.Default[f]; ok {
			if def = &d; !d.fits(kind) && readable {
				p.fault(d.pos, "field-type", fmt.Sprintf("write a %s", kind), "%s: the default of %q is a %s, and the column a %s", what, f, d.Kind, kind)
			}
		}
		lp.defaults = append(lp.defaults, def)
	}
	if !readable {
		return
	}
	lp.spec = table.spec
	lp.found = p.add(it.Name+" found", event.Bool, it.pos)
	if lp.spec.hasTimes() {
		lp.at = p.add(it.Name+" time", event.Time, it.pos)
	}
	p.plan.lookups = append(p.plan.lookups, lp)
	p.step(lp)
	for _, i := range ages {
		if c, ok := p.ageColumn(it.Name+"."+l.Fields[i], l.fieldPos[i], what); ok && c >= 0 {
			p.plan.results = append(p.plan.results, c)
		}
	}
}

// ageSuffix behind a looked-up field's name names its age in seconds.
const ageSuffix = "@age"

// ageColumn finds or makes the column with the age of a looked-up value. It is
// not ok where the name is not that of an age.
func (p *planner) ageColumn(name string, pos Pos, what string) (column int, ok bool) {
	field, ok := strings.CutSuffix(name, ageSuffix)
	if !ok {
		return -1, false
	}
	for _, l := range p.plan.lookups {
		for _, c := range l.out {
			if p.plan.columns[c].name != field {
				continue
			}
			if l.at < 0 {
				p.fault(pos, "no-time", "add `time: FIELD` to the table", "%s: the rows of the table %q have no time, so there is no %s", what, l.spec.Name, name)
				return -1, true
			}
			age := p.add(name, event.Float, pos)
			l.ages = append(l.ages, age)
			return age, true
		}
	}
	return -1, false
}

// hasTimes reports whether the table's rows carry the time of their values.
func (t *Table) hasTimes() bool {
	return t.Time != "" || t.Topic != "" || strings.HasPrefix(t.URL, "feast+")
}

// mentions reports whether the source of an expression uses a name.
func mentions(src, name string) bool {
	return regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(src)
}
