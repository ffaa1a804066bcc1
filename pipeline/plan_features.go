package pipeline

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
)

// featureStep plans the features of a step in their order. Windows that follow
// each other share one state and one pass over the rows, as long as none of
// them aggregates what another feature of the step computes first.
func (p *planner) featureStep(st *Features) {
	var open *windowsPlan // the group that more windows may join
	for i := range st.Items {
		it := &st.Items[i]
		switch {
		case it.Window != nil:
			open = p.windowFeature(it, open)
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

func (p *planner) windowFeature(it *FeatureItem, group *windowsPlan) *windowsPlan {
	w, what := it.Window, "feature "+it.Name
	if p.scored {
		p.fault(it.pos, "window-after-infer", "move it to a features step before infer", "%s is a window, and windows are computed before the model", what)
	}
	switch {
	case p.key == "":
		p.fault(it.pos, "no-key", "add `key: FIELD` to source, or a key to the contract", "%s needs a key, and the source has none", what)
	case w.By != "" && w.By != p.key:
		if _, ok := p.plan.Contract.Field(w.By); !ok {
			p.fault(w.byPos, "unknown-field", didYouMean(w.By, fieldNames(p.plan.Contract)), "%s.by: there is no field %q", what, w.By)
		} else {
			p.fault(w.byPos, "other-key", "use the source's key, or make a second pipeline whose source has this key", "%s is by %q, but the source's key is %q", what, w.By, p.key)
		}
	}
	fw := feature.Window{Name: it.Name, Aggregate: w.Aggregate, Field: w.Field, Over: w.Over, Kind: event.Float}
	column := -1
	if w.Field != "" {
		if column = p.find(w.Field, w.fieldPos, what); column >= 0 {
			kind := p.plan.columns[column].kind
			anyKind := w.Aggregate == feature.Last || w.Aggregate == feature.Distinct
			switch kind {
			case event.Float, event.Int:
				if anyKind {
					fw.Kind = kind
				}
			case event.String:
				fw.Kind = kind
				if !anyKind {
					p.fault(w.fieldPos, "field-type", "choose a numeric field, or last or distinct", "%s: %q is a %s, which has no %s", what, w.Field, kind, w.Aggregate)
				}
			default:
				p.fault(w.fieldPos, "field-type", "choose a numeric field, or make a number of it with an expression", "%s: %q is a %s, which windows do not take", what, w.Field, kind)
			}
		}
	}
	if group == nil || column >= 0 && p.computedSince(column, group) {
		group = &windowsPlan{}
		p.step(group)
	}
	group.windows = append(group.windows, fw)
	out := p.add(it.Name, windowKind(fw), it.pos)
	group.out = append(group.out, out)
	p.plan.results = append(p.plan.results, out)
	return group
}

// windowKind is the kind of a window's result.
func windowKind(w feature.Window) event.Kind {
	switch w.Aggregate {
	case feature.Count, feature.Distinct:
		return event.Int
	case feature.Last:
		return w.Kind
	}
	return event.Float
}

// computedSince reports whether a column is computed after the group's place.
func (p *planner) computedSince(column int, g *windowsPlan) bool {
	if slices.ContainsFunc(p.plan.decode, func(d decodedField) bool { return d.column == column }) {
		return false
	}
	return column >= g.out[0]
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
	readable := table != nil && table.table != nil
	lp := &lookupPlan{key: key}
	for i, f := range l.Fields {
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
		lp.out = append(lp.out, out)
		var def *Literal
		if d, ok := l.Default[f]; ok {
			if def = &d; d.Kind != kind && readable {
				p.fault(d.pos, "field-type", fmt.Sprintf("write a %s", kind), "%s: the default of %q is a %s, and the column a %s", what, f, d.Kind, kind)
			}
		}
		lp.defaults = append(lp.defaults, def)
	}
	if !readable {
		return
	}
	var err error
	if lp.table, err = feature.LoadTable(p.spec.path(table.spec.File), table.spec.Key, l.Fields); err != nil {
		p.fault(l.tablePos, "table", "", "%s: %v", what, err)
		return
	}
	p.step(lp)
}

// mentions reports whether the source of an expression uses a name.
func mentions(src, name string) bool {
	return regexp.MustCompile(`\b` + regexp.QuoteMeta(name) + `\b`).MatchString(src)
}
