package pipeline

import (
	"maps"
	"slices"

	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
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

// seriesPlan is the resample step: rows of its columns take the place of the readings.
type seriesPlan struct {
	spec   *Resample
	fields []int // in the decoder's order
	out    []int
	flag   int // -1 without
}

// columns are those that the series has.
func (s *seriesPlan) columns() []int {
	if s.flag < 0 {
		return s.out
	}
	return append(slices.Clone(s.out), s.flag)
}

// resampleStep plans the series. Behind it only its columns and the time are known.
func (p *planner) resampleStep(st *Resample) {
	s := &seriesPlan{spec: st, flag: -1}
	if st.By != "" && st.By != p.key {
		p.fault(st.byPos, "other-key", "use the source's key: "+p.key, "resample is by %q, but the source's key is %q", st.By, p.key)
	}
	if p.key == "" {
		p.fault(st.pos, "no-key", "add `key: FIELD` to source, or a key to the contract", "resample makes a series for each key, and the source has none")
	}
	var kinds []event.Kind
	for _, f := range st.Fields {
		c := p.find(f.Name, f.pos, "resample.fields")
		if c < 0 {
			return
		}
		kind := p.plan.columns[c].kind
		if f.Fill == feature.FillLinear && kind != event.Float && kind != event.Int {
			p.fault(f.pos, "field-type", "write last or none", "resample.fields: %q is a %s, and only numbers can be filled by a straight line", f.Name, kind)
		}
		if f.Fill == feature.FillLinear {
			kind = event.Float
		}
		s.fields = append(s.fields, slices.IndexFunc(p.plan.decode, func(d decodedField) bool { return d.column == c }))
		kinds = append(kinds, kind)
	}
	// The readings' columns are the decoder's alone from here on: the series' have their names.
	for _, d := range p.plan.decode {
		p.plan.columns[d.column].name = "reading " + d.path
	}
	p.plan.series = s
	for i, f := range st.Fields {
		s.out = append(s.out, p.add(f.Name, kinds[i], f.pos))
	}
	if st.Flag != "" {
		s.flag = p.add(st.Flag, event.Bool, st.pos)
		p.plan.results = append(p.plan.results, s.flag)
	}
}
