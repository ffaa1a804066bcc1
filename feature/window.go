package feature

import (
	"fmt"
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

func (w *Window) check() error {
	switch {
	case int(w.Aggregate) >= len(aggregateNames):
		return errkind.Errorf(errkind.Config, "window %q: unknown aggregate %d", w.Name, w.Aggregate)
	case w.Over <= 0:
		return errkind.Errorf(errkind.Config, "window %q: length %v must be positive", w.Name, w.Over)
	case w.Delay < 0:
		return errkind.Errorf(errkind.Config, "window %q: delay %v must not be negative", w.Name, w.Delay)
	case w.Delay+w.Over < 0:
		return errkind.Errorf(errkind.Config, "window %q: delay and length together are beyond 292 years", w.Name)
	case w.Kind > event.Time:
		return errkind.Errorf(errkind.Config, "window %q: unknown field kind %d", w.Name, uint8(w.Kind))
	case w.Field == "" && !w.Aggregate.countsRows():
		return errkind.Errorf(errkind.Config, "window %q: %v needs a field", w.Name, w.Aggregate)
	case w.Kind != event.Float && w.Aggregate.computes():
		return errkind.Errorf(errkind.Config, "window %q: %v needs a number, but %q is a %v", w.Name, w.Aggregate, w.Field, w.Kind)
	}
	return nil
}

// countsRows reports whether the aggregate can do without a field.
func (a Aggregate) countsRows() bool {
	return a == Count || a == Rate || a == SinceLast || a == Duration
}

// computes reports whether the aggregate takes its values as numbers.
func (a Aggregate) computes() bool {
	switch a {
	case Sum, Mean, Min, Max, StdDev, Quantile, Decayed:
		return true
	}
	return false
}
