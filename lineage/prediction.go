package lineage

import (
	"sort"
	"strings"

	"github.com/freshet-io/freshet/event"
)

// Prediction is one row of a Message, with all that is known of it. Times are
// Unix nanoseconds, 0 where not known.
type Prediction struct {
	Source *Source
	// ID and Key are the event's, Result is the id of its result.
	ID, Key, Result string
	// Partition and Position say where the event lies on Source.Topic.
	Partition int32
	Position  int64
	// Time is the event's, Arrival when the broker took it, Published when the
	// record was stored beside its result.
	Time, Arrival, Published int64
	// Route is the name of the route taken; "" without routes.
	Route string
	// Trace is the event's traceparent; "" without.
	Trace    string
	Features []Value
	Steps    []Answer
}

// Value is a named value of a prediction.
type Value struct {
	Name string
	// Value is a float64, int64, bool or string; an int64 for a time; nil is no value.
	Value any
	Kind  event.Kind
	// Newest is the time of the newest event that can be in it, in Unix nanoseconds: that
	// of the scored event less Feature.Delay, or that of the row that was looked up.
	// 0 is not known.
	Newest int64
}

// Answer is what one infer step said of one event.
type Answer struct {
	Arm     Arm
	Path    Path
	Outputs []Value
	Call    Call
	// Called says that there was a call.
	Called bool
	// Shadows are what other versions would have said.
	Shadows []ShadowAnswer
	// Explained is nil where the answer has no explanation; Inputs name its values.
	Explained *Explained
	Inputs    []string
}

// ShadowAnswer is what a shadow said.
type ShadowAnswer struct {
	Arm   Arm
	Score float64
}

// Len returns the number of rows.
func (m *Message) Len() int { return m.Rows }

// At returns row i; its texts alias the message.
func (m *Message) At(i int) Prediction {
	b := &m.Batch
	p := Prediction{
		Source: m.Source, ID: b.IDs[i], Key: b.Keys[i], Result: string(b.Results[i]),
		Partition: b.Partition[i], Position: b.Position[i], Time: b.Time[i], Arrival: b.Arrival[i],
		Published: m.Published, Trace: b.Trace[i],
	}
	if r := b.Route[i]; r >= 0 && r < len(m.Source.Routes) {
		p.Route = m.Source.Routes[r]
	}
	for j := range m.Source.Features {
		f := &m.Source.Features[j]
		v := valueOf(b.Features[j], i)
		v.Newest = b.newest(f, i)
		p.Features = append(p.Features, v)
	}
	for j := range b.Steps {
		p.Steps = append(p.Steps, b.Steps[j].at(&m.Source.Steps[j], i))
	}
	return p
}

// newest is the time of the newest event that can be in a feature.
func (b *Batch) newest(f *Feature, i int) int64 {
	switch {
	case f.Lookup >= 0 && b.Lookups[f.Lookup].IsNull(i):
		return 0
	case f.Lookup >= 0:
		return b.Lookups[f.Lookup].Ints[i]
	default:
		return b.Time[i] - f.Delay
	}
}

func valueOf(c *event.Column, i int) Value {
	v := Value{Name: c.Name, Kind: c.Kind}
	if c.IsNull(i) {
		return v
	}
	switch c.Kind {
	case event.Float:
		v.Value = c.Floats[i]
	case event.Bool:
		v.Value = c.Bools[i]
	case event.String:
		v.Value = c.Strings[i]
	default:
		v.Value = c.Ints[i]
	}
	return v
}

func (a *Answers) at(s *Step, i int) Answer {
	out := Answer{Path: a.Path[i]}
	if at := int(a.Arm[i]); at < len(a.Arms) {
		out.Arm = a.Arms[at]
	}
	for _, c := range a.Outputs {
		out.Outputs = append(out.Outputs, valueOf(c, i))
	}
	if len(a.Calls) > 0 && int(a.Called[i]) < len(a.Calls) {
		out.Call, out.Called = a.Calls[a.Called[i]], true
	}
	for at := sort.Search(len(a.Shadow), func(j int) bool { return a.Shadow[j].Row >= i }); at < len(a.Shadow) && a.Shadow[at].Row == i; at++ {
		sh := ShadowAnswer{Score: a.Shadow[at].Score}
		if arm := int(a.Shadow[at].Arm); arm < len(a.Arms) {
			sh.Arm = a.Arms[arm]
		}
		out.Shadows = append(out.Shadows, sh)
	}
	if at := sort.Search(len(a.Explained), func(j int) bool { return a.Explained[j].Row >= i }); at < len(a.Explained) && a.Explained[at].Row == i {
		x := a.Explained[at]
		x.Row = 0 // it stands alone here
		out.Explained, out.Inputs = &x, s.Inputs
	}
	return out
}

// clone is p without the bytes of the message that it came from.
func (p Prediction) clone() Prediction {
	p.ID, p.Key, p.Trace = strings.Clone(p.ID), strings.Clone(p.Key), strings.Clone(p.Trace)
	own := func(vs []Value) {
		for i := range vs {
			if t, ok := vs[i].Value.(string); ok {
				vs[i].Value = strings.Clone(t)
			}
		}
	}
	own(p.Features)
	for i := range p.Steps {
		own(p.Steps[i].Outputs)
	}
	return p
}
