package main

import (
	"fmt"
	"math"

	"github.com/freshet-io/freshet/examples/water-leak/anomaly"
	"github.com/freshet-io/freshet/examples/water-leak/telemetry"
)

// study is the rows that methods are compared on.
type study struct {
	table *telemetry.Table
	// group is each row's source: a recording, or an area.
	group []int
	// usual rows are known to be so, and fitted to; tested rows are scored.
	usual, tested []bool
	// truth says which rows are anomalous.
	truth []bool
	// share of the usual rows score below the limit, for methods without a limit of their own.
	share float64
}

// only returns the marked rows of one group or, with −1, of all.
func (s *study) only(marked []bool, group int, columns []int) (rows [][]float64) {
	for i, m := range marked {
		if m && (group < 0 || s.group[i] == group) {
			rows = append(rows, s.table.Row(i, columns))
		}
	}
	return rows
}

// truths is the truth of the tested rows.
func (s *study) truths() (truth []bool) {
	for i, t := range s.tested {
		if t {
			truth = append(truth, s.truth[i])
		}
	}
	return truth
}

// fit makes a score from usual rows.
type fit func(rows [][]float64) func(row []float64) float64

func rule(rows [][]float64) func([]float64) float64 { return anomaly.FitRule(rows).Score }

func forest(rows [][]float64) func([]float64) float64 {
	return anomaly.GrowForest(rows, 100, 256, 1).Score
}

// try fits a method to the usual rows, of each group or of all together, and
// scores the tested ones. Without a limit, it is where the share of the usual rows score below.
func (s *study) try(name string, f fit, columns []int, together bool, limit float64) method {
	m := method{name: name, limit: limit, scores: make([]float64, len(s.group))}
	groups := 1
	for _, g := range s.group {
		groups = max(groups, g+1)
	}
	var usual []float64
	var score func([]float64) float64
	for g := range groups {
		if !together || g == 0 {
			of := g
			if together {
				of = -1
			}
			score = f(complete(s.only(s.usual, of, columns)))
		}
		for i := range s.group {
			if s.group[i] != g || !s.usual[i] && !s.tested[i] {
				continue
			}
			row := s.table.Row(i, columns)
			if hasNull(row) {
				continue // nothing to say: never an alarm
			}
			m.scores[i] = score(row)
			if s.usual[i] {
				usual = append(usual, m.scores[i])
			}
		}
	}
	if limit == 0 {
		m.name = fmt.Sprintf("%s, limit at %g %%", name, 100*s.share)
		m.limit = anomaly.Quantile(usual, s.share)
	}
	m.scores = s.ofTested(m.scores)
	return m
}

// ofTested is the values of the tested rows.
func (s *study) ofTested(values []float64) (tested []float64) {
	for i, t := range s.tested {
		if t {
			tested = append(tested, values[i])
		}
	}
	return tested
}

func complete(rows [][]float64) (kept [][]float64) {
	for _, r := range rows {
		if !hasNull(r) {
			kept = append(kept, r)
		}
	}
	return kept
}

func hasNull(row []float64) bool {
	for _, v := range row {
		if math.IsNaN(v) {
			return true
		}
	}
	return false
}
