package trace

import (
	"math"
	"time"
)

// Trace is how many events arrived in each of a row of equal steps.
type Trace struct {
	Name  string
	Start time.Time
	Step  time.Duration
	// Counts are events in each step. Not whole numbers where a trace was scaled or is a
	// mean. NaN where nothing is known: a hole.
	Counts []float64
	// Notes say what a reader mended or had to assume.
	Notes []string
}

// Duration is the time that the trace covers.
func (t *Trace) Duration() time.Duration { return time.Duration(len(t.Counts)) * t.Step }

// End is where it ends.
func (t *Trace) End() time.Time { return t.Start.Add(t.Duration()) }

// Mean is the mean rate over the steps that are known, in events a second; 0
// where none is.
func (t *Trace) Mean() float64 {
	sum, n := 0.0, 0
	for _, c := range t.Counts {
		if !math.IsNaN(c) {
			sum += c
			n++
		}
	}
	if n == 0 || t.Step <= 0 {
		return 0
	}
	return sum / (float64(n) * t.Step.Seconds())
}

// Holes is how many steps are unknown.
func (t *Trace) Holes() int {
	n := 0
	for _, c := range t.Counts {
		if math.IsNaN(c) {
			n++
		}
	}
	return n
}

// Scale returns the trace with its counts multiplied so that Mean is mean events a
// second. A trace without events stays without.
func (t *Trace) Scale(mean float64) *Trace {
	factor := 1.0
	if m := t.Mean(); m > 0 && mean > 0 && !math.IsInf(mean, 1) {
		factor = mean / m
	}
	s := *t
	s.Counts = make([]float64, len(t.Counts))
	for i, c := range t.Counts {
		s.Counts[i] = c * factor
	}
	return &s
}

// Slice returns the steps that begin in from until before to, counted from
// Start. It shares Counts with t. Bounds outside of the trace are moved to its ends.
func (t *Trace) Slice(from, to time.Duration) *Trace {
	at := func(d time.Duration) int {
		if t.Step <= 0 || d <= 0 {
			return 0
		}
		// Rounded up: a step belongs to the slice that it begins in.
		n := d / t.Step
		if n*t.Step < d {
			n++
		}
		return int(min(n, time.Duration(len(t.Counts))))
	}
	i := at(from)
	j := max(i, at(to))
	s := *t
	s.Start = t.Start.Add(time.Duration(i) * t.Step)
	s.Counts = t.Counts[i:j:j]
	return &s
}

// Thirds parts the trace after its first third: one to tune by, the rest to judge by.
func (t *Trace) Thirds() (first, rest *Trace) {
	cut := time.Duration(len(t.Counts)/3) * t.Step
	return t.Slice(0, cut), t.Slice(cut, t.Duration())
}
