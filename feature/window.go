package feature

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Aggregate is what a window computes over its rows.
type Aggregate uint8

const (
	// Count is the number of rows, or, with a field, of its values.
	Count Aggregate = iota
	// Sum is the sum of the field's values; 0 over no values, null beyond the largest float64.
	Sum
	// Mean is Sum divided by the number of values; null over no values.
	Mean
	// Min is the smallest value; null over no values.
	Min
	// Max is the largest value; null over no values.
	Max
	// Last is the newest row's value that is not null; null over no values.
	Last
	// Distinct is the number of different values.
	Distinct
	// First is the oldest row's value that is not null; null over no values.
	First
	// StdDev is the sample standard deviation (divisor n−1); null over fewer than two values.
	StdDev
	// Rate is the number of rows, or of the field's values, divided by the window's length in seconds.
	Rate
	// SinceLast is the time in seconds since the row before this one, in the
	// order of the window; null where the window holds no other row.
	SinceLast
	// Quantile is the Window.Q-quantile of the values by t-digest; null over no values.
	Quantile
	// Decayed is the sum of the values, each halved for every Window.Over that
	// it is old; 0 over no values. It has no far end.
	Decayed
	// Duration is the time in seconds from the session's first row to this one.
	Duration
)

var aggregateNames = [...]string{
	"count", "sum", "mean", "min", "max", "last", "distinct", "first",
	"stddev", "rate", "since_last", "quantile", "decayed", "duration",
}

// String returns the aggregate's name as it is written in pipelines.
func (a Aggregate) String() string {
	if int(a) < len(aggregateNames) {
		return aggregateNames[a]
	}
	return fmt.Sprintf("aggregate(%d)", uint8(a))
}

// Aggregates lists the names of all aggregates.
func Aggregates() []string { return slices.Clone(aggregateNames[:]) }

// ParseAggregate returns the aggregate with the given name.
func ParseAggregate(name string) (Aggregate, error) {
	if i := slices.Index(aggregateNames[:], name); i >= 0 {
		return Aggregate(i), nil
	}
	return 0, errkind.Errorf(errkind.Config, "no aggregate %q: use one of %v", name, aggregateNames)
}

// Shape is how a window's rows are chosen.
type Shape uint8

const (
	// Sliding holds the rows of the last Over, exactly.
	Sliding Shape = iota
	// Panes is Sliding, kept as Window.Panes sums a key instead of its rows: it
	// holds the rows of the panes that began less than Over ago.
	Panes
	// Tumbling holds the rows since the last multiple of Over, counted from the Unix epoch.
	Tumbling
	// Session holds the rows since the last silence of Over or more.
	Session
)

// Window is one aggregate over the rows of a key in a span of event time.
type Window struct {
	// Name is the feature's name; it has no influence on the state.
	Name      string
	Aggregate Aggregate
	Shape     Shape
	// Field names the column aggregated; empty for Count, Rate, SinceLast and
	// Duration over all rows.
	Field string
	// Kind is the column's kind. Sum, Mean, Min, Max, StdDev, Quantile and
	// Decayed need Float; Count, Rate, First, Last and Distinct take any kind.
	Kind event.Kind
	// Over is the window's length, in nanoseconds of event time; the far end is
	// open. It is the silence that ends a Session and the half-life of Decayed.
	Over time.Duration
	// Delay moves a Sliding window into the past: it holds the rows with
	// Delay ≤ age < Delay + Over. Both ends are those of an age: with a delay
	// the row itself is not in.
	Delay time.Duration
	// Panes is the number of panes of a window of that shape.
	Panes int
	// Q is the quantile, between 0 and 1.
	Q float64
	// Sketch lets Distinct be estimated (HyperLogLog, standard error 0.8 %);
	// not with Sliding.
	Sketch bool
	// Label says that the field is one of the labels', not of the rows.
	Label bool
}

// Exact reports whether the window is computed from rows that are kept, by
// Windows; the others are computed from sums, by Sums.
func (w *Window) Exact() bool {
	return w.Shape == Sliding && w.Aggregate != Quantile && w.Aggregate != Decayed && w.Aggregate != Duration
}

// OutKind is the kind of the window's result.
func (w *Window) OutKind() event.Kind {
	switch w.Aggregate {
	case Count, Distinct:
		return event.Int
	case First, Last:
		return w.Kind
	}
	return event.Float
}

// Field is a column that Update wants.
type Field struct {
	Name string
	Kind event.Kind
}

// formatVersion is the first byte of deltas and snapshots.
const formatVersion = 1

// maxFields bounds the columns of one Windows: null marks lie in one word.
const maxFields = 64

// op is one window, compiled: where its state lies in a key's arrays.
type op struct {
	agg   Aggregate
	kind  event.Kind
	span  int // index into plan.spans
	field int // index into plan.fields; -1 for Count
	slot  int // index into sums, distincts, extremes or lasts, by agg
}

// span is one window length with the accumulators that end with it.
type span struct {
	over uint64
	sums []accumulator
	dist []accumulator
}

// accumulator is one per-key slot fed by a field.
type accumulator struct{ field, slot int }

// extreme is one monotonic queue, shared by all windows on the field.
type extreme struct {
	field int
	max   bool
	span  int // the longest span that reads it
}

// plan is the compiled definition: windows that can share state do.
type plan struct {
	ops      []op
	fields   []Field
	spans    []span // ascending by length
	sums     int
	dists    int
	distinct []int // fields counted by value
	extremes []extreme
	lasts    []int  // fields whose newest value is tracked
	masked   bool   // an entry carries a word of null marks
	strings  bool   // there is a String field
	stride   int    // words of an entry: time, fields, null marks
	horizon  uint64 // age at which an entry is dropped
	print    uint64
}

func newPlan(c Config) (*plan, error) {
	ws, retain := c.Windows, c.Retain
	if len(ws) == 0 {
		return nil, errkind.New(errkind.Config, "no windows: give at least one")
	}
	if retain < 0 {
		return nil, errkind.Errorf(errkind.Config, "retain %v: must not be negative", retain)
	}
	p := &plan{}
	var overs []uint64
	for i := range ws {
		if err := ws[i].check(); err != nil {
			return nil, err
		}
		overs = append(overs, uint64(ws[i].Over))
	}
	slices.Sort(overs)
	overs = slices.Compact(overs)
	for _, o := range overs {
		p.spans = append(p.spans, span{over: o})
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "freshet windows %d retain %d\n", formatVersion, retain)
	for i := range ws {
		fmt.Fprintf(h, "%v %q %v %d\n", ws[i].Aggregate, ws[i].Field, ws[i].Kind, ws[i].Over)
		p.add(&ws[i], slices.Index(overs, uint64(ws[i].Over)))
	}
	if len(p.fields) > maxFields {
		return nil, errkind.Errorf(errkind.Config, "windows use %d fields: at most %d are possible for one key", len(p.fields), maxFields)
	}
	p.number()
	p.print = h.Sum64()
	p.horizon = overs[len(overs)-1] + uint64(retain)
	p.stride = 1 + len(p.fields)
	for _, f := range p.fields {
		p.masked = p.masked || needsMask(f.Kind)
		p.strings = p.strings || f.Kind == event.String
	}
	if p.masked {
		p.stride++
	}
	return p, nil
}

func (w *Window) check() error {
	switch {
	case int(w.Aggregate) >= len(aggregateNames):
		return errkind.Errorf(errkind.Config, "window %q: unknown aggregate %d", w.Name, w.Aggregate)
	case w.Over <= 0:
		return errkind.Errorf(errkind.Config, "window %q: length %v must be positive", w.Name, w.Over)
	case w.Kind > event.Time:
		return errkind.Errorf(errkind.Config, "window %q: unknown field kind %d", w.Name, uint8(w.Kind))
	case w.Aggregate == Count:
		if w.Field != "" {
			return errkind.Errorf(errkind.Config, "window %q: count takes no field, got %q", w.Name, w.Field)
		}
	case w.Field == "":
		return errkind.Errorf(errkind.Config, "window %q: %v needs a field", w.Name, w.Aggregate)
	case w.Aggregate <= Max && w.Kind != event.Float:
		return errkind.Errorf(errkind.Config, "window %q: %v needs a number, but %q is a %v", w.Name, w.Aggregate, w.Field, w.Kind)
	}
	return nil
}

// add compiles one window, sharing whatever slots exist already. Slots of sums
// and distinct counts are numbered later, span by span.
func (p *plan) add(w *Window, s int) {
	o := op{agg: w.Aggregate, kind: w.Kind, span: s, field: -1}
	if w.Aggregate != Count {
		o.field = indexOrAdd(&p.fields, Field{w.Field, w.Kind})
	}
	switch w.Aggregate {
	case Sum, Mean:
		indexOrAdd(&p.spans[s].sums, accumulator{field: o.field})
	case Distinct:
		indexOrAdd(&p.spans[s].dist, accumulator{field: o.field})
		indexOrAdd(&p.distinct, o.field)
	case Min, Max:
		o.slot = slices.IndexFunc(p.extremes, func(e extreme) bool {
			return e.field == o.field && e.max == (w.Aggregate == Max)
		})
		if o.slot < 0 {
			o.slot = len(p.extremes)
			p.extremes = append(p.extremes, extreme{field: o.field, max: w.Aggregate == Max})
		}
		p.extremes[o.slot].span = max(p.extremes[o.slot].span, s)
	case Last:
		o.slot = indexOrAdd(&p.lasts, o.field)
	}
	p.ops = append(p.ops, o)
}

// number gives the accumulators of each span consecutive slots.
func (p *plan) number() {
	for s := range p.spans {
		for i := range p.spans[s].sums {
			p.spans[s].sums[i].slot = p.sums
			p.sums++
		}
		for i := range p.spans[s].dist {
			p.spans[s].dist[i].slot = p.dists
			p.dists++
		}
	}
	for i := range p.ops {
		o := &p.ops[i]
		list := p.spans[o.span].sums
		switch o.agg {
		case Distinct:
			list = p.spans[o.span].dist
		case Sum, Mean:
		default:
			continue
		}
		for _, a := range list {
			if a.field == o.field {
				o.slot = a.slot
			}
		}
	}
}

func indexOrAdd[T comparable](s *[]T, v T) int {
	if i := slices.Index(*s, v); i >= 0 {
		return i
	}
	*s = append(*s, v)
	return len(*s) - 1
}

// needsMask reports whether a kind's words cannot express null by themselves:
// a Float's null is NaN, a String's is the id 0.
func needsMask(k event.Kind) bool { return k != event.Float && k != event.String }
