package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"slices"
)

// method is one detector's scores of the rows that all detectors are compared on.
type method struct {
	name string
	// limit: a row with a greater score is an alarm.
	limit  float64
	scores []float64
}

// outcome counts rows.
type outcome struct{ hit, missed, falseAlarm, quiet int }

func (m *method) against(truth []bool, limit float64) (o outcome) {
	for i, s := range m.scores {
		switch {
		case truth[i] && s > limit:
			o.hit++
		case truth[i]:
			o.missed++
		case s > limit:
			o.falseAlarm++
		default:
			o.quiet++
		}
	}
	return o
}

func (o outcome) f1() float64 { return ratio(2*o.hit, 2*o.hit+o.missed+o.falseAlarm) }

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// ascending is the rows' numbers in the order of their scores.
func (m *method) ascending() []int {
	order := make([]int, len(m.scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(m.scores[a], m.scores[b]) })
	return order
}

// hindsight is the greatest F1 that any limit would have given.
func (m *method) hindsight(truth []bool) float64 {
	o := m.against(truth, math.Inf(-1)) // every row is an alarm
	best := o.f1()
	order := m.ascending()
	for i, row := range order {
		if truth[row] {
			o.hit, o.missed = o.hit-1, o.missed+1
		} else {
			o.falseAlarm, o.quiet = o.falseAlarm-1, o.quiet+1
		}
		if i+1 < len(order) && m.scores[order[i+1]] > m.scores[row] {
			best = max(best, o.f1())
		}
	}
	return best
}

// area is the area under the ROC curve: how often an anomalous row scores higher than another.
func (m *method) area(truth []bool) float64 {
	order := m.ascending()
	rank, positives := 0.0, 0
	for i := 0; i < len(order); {
		end := i
		for end < len(order) && m.scores[order[end]] == m.scores[order[i]] {
			end++
		}
		for _, row := range order[i:end] {
			if truth[row] {
				rank += float64(i+end+1) / 2 // ties share their ranks, which count from 1
				positives++
			}
		}
		i = end
	}
	negatives := len(order) - positives
	if positives == 0 || negatives == 0 {
		return 0
	}
	return (rank - float64(positives)*float64(positives+1)/2) / float64(positives) / float64(negatives)
}

// report prints a table of the methods.
func report(w io.Writer, methods []method, truth []bool) {
	fmt.Fprintf(w, "%-63s %6s %9s %6s %11s %6s %9s\n", "", "F1", "precision", "recall", "false alarm", "AUC", "best F1")
	line := func(name string, o outcome, area, best float64) {
		fmt.Fprintf(w, "%-63s %6.3f %9.3f %6.3f %11.3f %6.3f %9.3f\n", name, o.f1(), ratio(o.hit, o.hit+o.falseAlarm),
			ratio(o.hit, o.hit+o.missed), ratio(o.falseAlarm, o.falseAlarm+o.quiet), area, best)
	}
	for i := range methods {
		m := &methods[i]
		line(m.name, m.against(truth, m.limit), m.area(truth), m.hindsight(truth))
	}
	always := method{scores: make([]float64, len(truth))}
	o := always.against(truth, -1)
	line("always an alarm", o, 0.5, o.f1())
}
