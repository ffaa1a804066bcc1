package pipeline

import (
	"maps"
	"slices"

	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/event"
)

// labels loads the contract of the labels and checks what joins them.
func (p *planner) labels() {
	l := p.spec.Labels
	if l == nil {
		return
	}
	c, err := contract.Load(p.spec.path(l.Contract))
	if err != nil {
		p.contractFault(l.contractPos, l.Contract, err)
		return
	}
	names := fieldNames(c)
	check := func(field string, pos Pos, what string) {
		if field == "" {
			return
		}
		f, ok := c.Field(field)
		switch {
		case !ok:
			p.fault(pos, "unknown-field", didYouMean(field, names), "%s: the contract %s has no field %q", what, l.Contract, field)
		case what != "labels.time.field" && f.Kind != event.String && f.Kind != event.Int:
			p.fault(pos, "field-type", "choose a text or an integer field", "%s: %q is a %s", what, field, f.Kind)
		}
	}
	check(l.Event, l.eventPos, "labels.event")
	check(l.Key, l.keyPos, "labels.key")
	check(l.TimeField, l.timePos, "labels.time.field")
	for _, name := range slices.Sorted(maps.Keys(l.Default)) {
		d := l.Default[name]
		if _, ok := c.Field(name); !ok {
			p.fault(d.pos, "unknown-field", didYouMean(name, names), "labels.default: the contract %s has no field %q", l.Contract, name)
		} else if d.Kind == event.String {
			p.fault(d.pos, "field-type", "write a number, true or false", "labels.default: the default of %q is a text, and windows aggregate numbers", name)
		}
	}
	if l.Event != "" && p.plan.Contract.ID == "" && p.spec.Source.ID == "" {
		p.fault(l.eventPos, "no-id", "add `id: FIELD` to source, or an id to its contract", "labels.event joins labels to events by the event's id, and the source's events have none")
	}
	p.plan.LabelContract = c
}

// labelField finds a field of the labels that a window aggregates. A name that
// events have as well is the event's.
func (p *planner) labelField(name string) (contract.Field, bool) {
	if p.plan.LabelContract == nil || name == "" {
		return contract.Field{}, false
	}
	if slices.ContainsFunc(p.plan.columns, func(c columnDef) bool { return c.name == name }) {
		return contract.Field{}, false
	}
	if _, ok := p.plan.Contract.Field(name); ok && p.plan.series == nil {
		return contract.Field{}, false
	}
	return p.plan.LabelContract.Field(name)
}

// labelOptions are those of the decoder of a stage's labels.
func (p *Plan) labelOptions(st *stagePlan) contract.Options {
	l := p.Spec.Labels
	o := contract.Options{ID: l.Event, Key: l.Key, Time: l.timeRule(p.LabelContract), MaxBytes: p.Spec.Source.MaxBytes, Fields: st.labels}
	if l.Event == "" {
		o.ID = p.LabelContract.ID
	}
	return o
}
