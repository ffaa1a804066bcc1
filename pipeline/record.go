package pipeline

import (
	"slices"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lineage"
)

// recorder writes the records of a frame's predictions, one message a frame. It
// belongs to one task.
type recorder struct {
	plan      *Plan
	encoder   *lineage.Encoder
	partition int
	limit     int // greatest message; 0 for none

	batch   lineage.Batch
	rows    []int32        // that became predictions
	scratch []event.Column // of columns with other rows between
	place   []int          // by row of the frame, its place in rows
}

// LineageSource is what the pipeline's predictions have in common.
func (p *Plan) LineageSource() *lineage.Source {
	s := &lineage.Source{Pipeline: p.Spec.Name, Config: p.digest, Topic: p.Spec.Source.Topic, Contract: p.Spec.Source.Contract}
	if v := p.Contract.Version; v != "" {
		s.Contract += " " + v
	}
	for _, c := range p.results {
		s.Features = append(s.Features, p.featureOf(c))
	}
	for _, ip := range p.infers {
		st := lineage.Step{Inputs: ip.names(p)}
		for _, o := range ip.recorded() {
			st.Outputs = append(st.Outputs, o.name)
		}
		s.Steps = append(s.Steps, st)
	}
	for _, r := range p.routes {
		s.Routes = append(s.Routes, r.name)
	}
	return s
}

// recorded are the outputs that records hold, the score first: all but vectors.
func (ip *inferPlan) recorded() (outputs []outputPlan) {
	for _, o := range ip.outputs {
		switch {
		case o.column < 0:
		case o.column == ip.score:
			outputs = slices.Insert(outputs, 0, o)
		default:
			outputs = append(outputs, o)
		}
	}
	return outputs
}

// featureOf says what is known of the time of a column's values.
func (p *Plan) featureOf(c int) lineage.Feature {
	f := lineage.Feature{Name: p.columns[c].name, Lookup: -1}
	timed := 0
	for _, l := range p.lookups {
		if l.at < 0 {
			continue
		}
		if slices.Contains(l.out, c) || slices.Contains(l.ages, c) {
			f.Lookup = timed
		}
		timed++
	}
	for _, st := range p.stages {
		for _, s := range st.steps {
			g, ok := s.(*windowsPlan)
			if !ok {
				continue
			}
			if i := slices.Index(g.out, c); i >= 0 && i < len(g.config.Windows) {
				f.Delay, f.Window = int64(g.config.Windows[i].Delay), int64(g.config.Windows[i].Over)
			}
		}
	}
	return f
}

func newRecorder(p *Plan, partition, limit int) *recorder {
	r := &recorder{plan: p, encoder: lineage.NewEncoder(p.LineageSource()), partition: partition, limit: limit, scratch: make([]event.Column, len(p.columns))}
	r.batch.Steps = make([]lineage.Answers, len(p.infers))
	return r
}

// write makes the frame's messages.
func (r *recorder) write(f *frame) {
	f.records, f.recorded = f.records[:0], f.recorded[:0]
	r.rows, r.place = r.rows[:0], sized(r.place, f.rows.N)
	for row := range f.rows.N {
		if !f.skip[row] {
			r.place[row] = len(r.rows)
			r.rows = append(r.rows, int32(row))
		} else {
			r.place[row] = -1
		}
	}
	if len(r.rows) == 0 {
		return
	}
	r.fill(f)
	// A message of a whole frame is far below the limit of any broker, unless
	// features are long texts.
	r.encode(f, 0, r.batch.N)
}

// encode writes rows as one message, or as two halves where that is too large.
func (r *recorder) encode(f *frame, from, to int) {
	if to-from > r.encoder.MaxRows() {
		mid := from + (to-from)/2
		r.encode(f, from, mid)
		r.encode(f, mid, to)
		return
	}
	at := len(f.recorded)
	f.recorded = r.encoder.AppendRows(f.recorded, &r.batch, from, to)
	if r.limit > 0 && len(f.recorded)-at > r.limit-recordMargin && to-from > 1 {
		f.recorded = f.recorded[:at]
		mid := from + (to-from)/2
		r.encode(f, from, mid)
		r.encode(f, mid, to)
		return
	}
	f.records = append(f.records, event.Record{Value: f.recorded[at:len(f.recorded):len(f.recorded)]})
}

// recordMargin is what a broker may add to a message.
const recordMargin = 1024

func (r *recorder) fill(f *frame) {
	b := &r.batch
	n := len(r.rows)
	b.N = n
	b.IDs, b.Keys, b.Results, b.Trace = b.IDs[:0], b.Keys[:0], b.Results[:0], b.Trace[:0]
	b.Partition, b.Position = b.Partition[:0], b.Position[:0]
	b.Time, b.Arrival, b.Route = b.Time[:0], b.Arrival[:0], b.Route[:0]
	for _, row := range r.rows {
		partition, position, headers := f.place(int(row), r.partition)
		b.IDs, b.Keys = append(b.IDs, f.rows.ID[row]), append(b.Keys, f.rows.Key[row])
		b.Results = append(b.Results, f.results[row])
		b.Partition, b.Position = append(b.Partition, int32(partition)), append(b.Position, position)
		b.Time, b.Arrival = append(b.Time, f.rows.Time[row]), append(b.Arrival, f.rows.Arrival[row])
		b.Route = append(b.Route, f.route[row])
		trace := ""
		if v, ok := headers.Get("traceparent"); ok {
			trace = string(v)
		}
		b.Trace = append(b.Trace, trace)
	}
	b.Features, b.Lookups = b.Features[:0], b.Lookups[:0]
	for _, c := range r.plan.results {
		b.Features = append(b.Features, r.column(f, c))
	}
	for _, l := range r.plan.lookups {
		if l.at >= 0 {
			b.Lookups = append(b.Lookups, r.column(f, l.at))
		}
	}
	for i, ip := range r.plan.infers {
		r.answers(f, ip, &f.scorings[i], &b.Steps[i])
	}
}

// column is a frame's column with the rows of the batch only.
func (r *recorder) column(f *frame, c int) *event.Column {
	if len(r.rows) == f.rows.N {
		return f.columns[c]
	}
	s := &r.scratch[c]
	s.Kind = f.columns[c].Kind
	s.Take(f.columns[c], r.rows)
	return s
}

func (r *recorder) answers(f *frame, ip *inferPlan, sc *scoring, a *lineage.Answers) {
	a.Arms, a.Arm, a.Path, a.Called = a.Arms[:0], a.Arm[:0], a.Path[:0], a.Called[:0]
	for _, arm := range sc.arms {
		x := lineage.Arm{Model: arm.Name, Version: arm.Version, Digest: arm.Digest, Role: arm.Role.String(), Rollout: arm.Rollout}
		a.Arms = append(a.Arms, x)
	}
	for _, row := range r.rows {
		a.Arm, a.Path, a.Called = append(a.Arm, sc.arm[row]), append(a.Path, sc.path[row]), append(a.Called, sc.call[row])
	}
	a.Calls = sc.calls
	a.Outputs = a.Outputs[:0]
	for _, o := range ip.recorded() {
		a.Outputs = append(a.Outputs, r.column(f, o.column))
	}
	a.Shadow, a.Explained = a.Shadow[:0], a.Explained[:0]
	for _, x := range sc.shadowed {
		if x.Row = r.place[x.Row]; x.Row >= 0 {
			a.Shadow = append(a.Shadow, x)
		}
	}
	for _, x := range sc.explained {
		if x.Row = r.place[x.Row]; x.Row >= 0 {
			a.Explained = append(a.Explained, x)
		}
	}
}
