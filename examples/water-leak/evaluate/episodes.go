package main

import (
	"fmt"
	"io"
	"slices"
	"time"
)

// episode is a stretch of rows of one key with an alert or, in truth, an anomaly.
type episode struct {
	from, to     time.Time
	rows, filled int
	peak         float64
}

// episodes joins those results of one key, in order of time, that are marked and follow each other within the pause.
func episodes(results []result, marked func(i int) bool, pause time.Duration) (all []episode) {
	for i := range results {
		if !marked(i) {
			continue
		}
		r := &results[i]
		if n := len(all); n == 0 || r.Time.Sub(all[n-1].to) > pause {
			all = append(all, episode{from: r.Time})
		}
		e := &all[len(all)-1]
		e.to, e.rows, e.peak = r.Time, e.rows+1, max(e.peak, r.Score)
		if r.filled() {
			e.filled++
		}
	}
	return all
}

// print writes what was sent and filled, and the alerts of each recording with the truth beside them.
func (b *testbed) print(w io.Writer, results []result) {
	sent, lost, filled, orders := 0, 0, 0, 0
	for _, e := range b.experiments {
		for _, l := range e.lost {
			if l {
				lost++
			} else {
				sent++
			}
		}
	}
	for _, r := range results {
		if r.filled() {
			filled++
		}
		if r.Route == "work-order" {
			orders++
		}
	}
	fmt.Fprintf(w, "%d recordings: %d readings sent, %d left out at random; series of %d rows, %d of them filled and flagged; %d work-order events\n\n",
		len(b.experiments), sent, lost, len(results), filled, orders)
	for n, e := range b.experiments {
		// The rows of a recording follow each other.
		from := slices.Index(b.group, n)
		to := from
		for to < len(results) && b.group[to] == n {
			to++
		}
		rows, gaps := results[from:to], 0
		for i := range rows {
			if rows[i].filled() {
				gaps++
			}
		}
		fmt.Fprintf(w, "%s, %s, %d of %d rows filled\n", e.name, rows[0].Time.Format(time.DateOnly), gaps, len(rows))
		for _, t := range episodes(rows, func(i int) bool { return b.tested[from+i] && b.truth[from+i] }, time.Minute) {
			fmt.Fprintf(w, "  anomaly  %s to %s\n", t.from.Format(time.TimeOnly), t.to.Format(time.TimeOnly))
		}
		for _, a := range episodes(rows, func(i int) bool { return b.tested[from+i] && rows[i].Route != "usual" }, 30*time.Second) {
			fmt.Fprintf(w, "  alert    %s to %s, highest score %.1f, %d of %d rows filled\n",
				a.from.Format(time.TimeOnly), a.to.Format(time.TimeOnly), a.peak, a.filled, a.rows)
		}
	}
	fmt.Fprintln(w)
}
