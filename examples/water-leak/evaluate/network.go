package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/examples/water-leak/network"
)

// found is what the alerts of a simulated network were worth.
type found struct {
	methods []method
	truth   []bool
	// leaks, and how many of them had an alert and a work order.
	leaks, alerted, ordered int
	// falseAlerts and falseOrders are stretches of alerts and work orders without a leak.
	falseAlerts, falseOrders int
}

// evaluateNetwork runs the pipeline on a simulated network and prints what came out.
func evaluateNetwork(w io.Writer, pipeline, dir string, c network.Config) (*found, error) {
	c.Leaks = true
	readings, leaks := network.Simulate(c)
	results, err := stream(dir, pipeline, "scored-telemetry", func(w *json.Encoder) error {
		for i := range readings {
			if err := w.Encode(&readings[i]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(results, func(a, b result) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), a.Time.Compare(b.Time))
	})

	s := &study{share: 0.999}
	if s.table, err = network.Features(readings); err != nil {
		return nil, err
	}
	if len(s.table.Keys) != len(results) {
		return nil, fmt.Errorf("%d results for %d rows of the series", len(results), len(s.table.Keys))
	}
	at := map[string]map[int64]*result{}
	for i := range results {
		r := &results[i]
		if at[r.Key] == nil {
			at[r.Key] = map[int64]*result{}
		}
		at[r.Key][r.Time.UnixNano()] = r
	}
	begin := network.Start.Add(network.Quiet).UnixNano()
	groups := map[string]int{}
	ours := method{name: "the pipeline", limit: 1}
	filled := 0
	for i, key := range s.table.Keys {
		r := at[key][s.table.Times[i]]
		if r == nil || r.filled() != s.table.Filled[i] {
			return nil, fmt.Errorf("area %s at %s: result %+v; the row's flag is %v", key, time.Unix(0, s.table.Times[i]).UTC(), r, s.table.Filled[i])
		}
		if r.filled() {
			filled++
		}
		if _, ok := groups[key]; !ok {
			groups[key] = len(groups)
		}
		s.group = append(s.group, groups[key])
		s.usual = append(s.usual, s.table.Times[i] < begin)
		s.tested = append(s.tested, s.table.Times[i] >= begin)
		s.truth = append(s.truth, leakOf(leaks, key, r.Time) >= 0)
		if s.table.Times[i] >= begin {
			ours.scores = append(ours.scores, r.Score)
		}
	}
	f := &found{leaks: len(leaks), truth: s.truths()}
	fmt.Fprintf(w, "%d areas, %d days: %d readings; series of %d rows, %d of them filled and flagged\n\n", c.Areas, c.Days, len(readings), len(results), filled)
	f.print(w, results, leaks)

	two, err := s.table.Indices("flow", "pressure")
	if err != nil {
		return nil, err
	}
	own, err := s.table.Indices(network.Inputs...)
	if err != nil {
		return nil, err
	}
	drop := s.table.Column("pressure_drop")
	// The pipeline's conditions beside its score hold for the methods on the model's inputs too.
	conditional := func(m method) method {
		row := 0
		for i, tested := range s.tested {
			if !tested {
				continue
			}
			if !(s.table.Columns[own[0]][i] >= 0.05) || !(s.table.Columns[drop][i] > 0) {
				m.scores[row] = 0
			}
			row++
		}
		return m
	}
	f.methods = []method{conditional(ours),
		s.try("threshold rule, flow and pressure, 3 deviations", rule, two, false, 3),
		s.try("isolation forest, flow and pressure, 0.5", forest, two, false, 0.5),
		s.try("threshold rule, flow and pressure", rule, two, false, 0),
		s.try("isolation forest, flow and pressure", forest, two, false, 0),
		conditional(s.try("threshold rule, same inputs and conditions", rule, own, true, 0)),
		conditional(s.try("isolation forest, same inputs and conditions", forest, own, true, 0)),
	}
	report(w, f.methods, f.truth)
	return f, nil
}

// leakOf is the leak of an area at a time; −1 without.
func leakOf(leaks []network.Leak, area string, t time.Time) int {
	return slices.IndexFunc(leaks, func(l network.Leak) bool {
		return l.Area == area && !t.Before(l.Start) && t.Before(l.Repaired)
	})
}

// print writes the leaks with the time until their first alert and work order,
// and counts what was false.
func (f *found) print(w io.Writer, results []result, leaks []network.Leak) {
	alert, order := make([]*result, len(leaks)), make([]*result, len(leaks))
	var lastFalse *result
	for i := range results {
		r := &results[i]
		if r.Route == "usual" {
			continue
		}
		l := leakOf(leaks, r.Key, r.Time)
		if l < 0 {
			if lastFalse == nil || lastFalse.Key != r.Key || r.Time.Sub(lastFalse.Time) > time.Hour {
				f.falseAlerts++
			}
			if lastFalse = r; r.Route == "work-order" {
				f.falseOrders++
			}
			continue
		}
		if alert[l] == nil {
			alert[l] = r
			f.alerted++
		}
		if order[l] == nil && r.Route == "work-order" {
			order[l] = r
			f.ordered++
		}
	}
	after := func(r *result, l network.Leak) string {
		if r == nil {
			return "none"
		}
		return "after " + r.Time.Sub(l.Start).Round(time.Minute).String()
	}
	for i, l := range leaks {
		fmt.Fprintf(w, "%s  leak of %5.2f m³/h from %s for %8s: alert %s, work order %s\n", l.Area, l.Flow, l.Start.Format("2006-01-02 15:04"),
			l.Repaired.Sub(l.Start), after(alert[i], l), after(order[i], l))
	}
	fmt.Fprintf(w, "\n%d leaks: %d with an alert, %d with a work order; without a leak: %d stretches of alerts, %d work-order events\n\n",
		f.leaks, f.alerted, f.ordered, f.falseAlerts, f.falseOrders)
}
