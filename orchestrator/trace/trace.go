// Package trace has arrivals over time: read from files of several forms, scaled, cut, and drawn
// at random around their rates.
package trace

import "time"

// Trace is how many events arrived in each of a row of equal steps.
type Trace struct {
	Name  string
	Start time.Time
	Step  time.Duration
	// Counts are events in each step. Not whole numbers where a trace was scaled or is a
	// mean. NaN where nothing is known: a hole.
	Counts []float64
}

// Duration is the time that the trace covers.
func (t *Trace) Duration() time.Duration { return time.Duration(len(t.Counts)) * t.Step }

// End is where it ends.
func (t *Trace) End() time.Time { return t.Start.Add(t.Duration()) }
