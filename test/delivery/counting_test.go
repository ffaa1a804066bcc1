package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// ideal is a source topic and its results as they should be: 400 events on 4
// partitions by customer, 40 ms between two publications.
func ideal(t *testing.T) (acked []numbered, source, results []stored) {
	t.Helper()
	start := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	counted, sums := map[string]float64{}, map[string]float64{}
	for seq := range 400 {
		n := eventOf(seq, start, 10*time.Millisecond)
		acked = append(acked, n)
		rec, err := n.record()
		if err != nil {
			t.Fatal(err)
		}
		partition := int(n.Customer[len(n.Customer)-1]) % 4
		features := map[string]float64{}
		for i, name := range []string{"customer", "terminal"} {
			key := n.keys()[i]
			counted[key]++
			sums[key] += n.Amount
			features[name+"_count"], features[name+"_sum"] = counted[key], sums[key]
		}
		source = append(source, stored{partition, 0, rec.Value})
		results = append(results, resultOf(t, partition, int64(seq)*40_000_000, result{ID: "r/" + n.ID, SourceID: n.ID, Features: features}))
	}
	byPartition := func(a, b stored) int { return a.Partition - b.Partition }
	slices.SortStableFunc(source, byPartition)
	slices.SortStableFunc(results, byPartition)
	return acked, source, results
}

func resultOf(t *testing.T, partition int, at int64, r result) stored {
	t.Helper()
	value, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return stored{partition, at, value}
}

func TestCountsFindWhatIsWrong(t *testing.T) {
	change := func(s stored, f func(*result)) stored {
		var r result
		if err := json.Unmarshal(s.Value, &r); err != nil {
			t.Fatal(err)
		}
		f(&r)
		return resultOf(t, s.Partition, s.Time, r)
	}
	clean := counts{In: 400, Gap: 0.04}
	for _, tt := range []struct {
		name string
		harm func(source, results []stored) ([]stored, []stored)
		want func(c *counts)
	}{
		{"nothing", func(s, r []stored) ([]stored, []stored) { return s, r }, func(*counts) {}},
		{"a lost result", func(s, r []stored) ([]stored, []stored) { return s, slices.Delete(r, 60, 61) }, func(c *counts) { c.Lost, c.Gap = 1, 0.08 }},
		{"a repeated result", func(s, r []stored) ([]stored, []stored) { return s, append(r, r[7]) }, func(c *counts) { c.Repeats = 1 }},
		{"a repeat with another id", func(s, r []stored) ([]stored, []stored) {
			return s, append(r, change(r[7], func(r *result) { r.ID = "other" }))
		}, func(c *counts) { c.Repeats, c.RepeatsByID = 1, 1 }},
		{"a wrong count", func(s, r []stored) ([]stored, []stored) {
			r[9] = change(r[9], func(r *result) { r.Features["customer_count"]-- })
			return s, r
		}, func(c *counts) { c.WrongFeatures = 1 }},
		{"a wrong sum", func(s, r []stored) ([]stored, []stored) {
			r[9] = change(r[9], func(r *result) { r.Features["terminal_sum"] += 0.25 })
			return s, r
		}, func(c *counts) { c.WrongFeatures = 1 }},
		{"no features", func(s, r []stored) ([]stored, []stored) {
			r[9] = change(r[9], func(r *result) { r.Features = nil })
			return s, r
		}, func(c *counts) { c.WrongFeatures = 1 }},
		{"an event twice on the source, counted twice", func(s, r []stored) ([]stored, []stored) {
			last := s[len(s)-1] // so that no later event counts it
			return append(s, last), append(r, r[len(r)-1])
		}, func(c *counts) { c.RepeatsIn, c.Repeats = 1, 1 }},
		{"a late result", func(s, r []stored) ([]stored, []stored) {
			r[len(r)-1].Time += int64(3 * time.Second)
			return s, r
		}, func(c *counts) { c.Gap = 3.08 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			acked, source, results := ideal(t)
			source, results = tt.harm(source, results)
			want := clean
			tt.want(&want)
			got, examples := count(acked, source, results, func(n *numbered) string { return n.Customer }, 0)
			if tt.name == "a late result" {
				want.Gap = got.Gap // which depends on whose it was
				if got.Gap < 2.9 {
					t.Errorf("the gap is %v", got.Gap)
				}
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got)\n%s\n%s", d, strings.Join(examples, "\n"))
			}
		})
	}
}

func TestCountsFindResultsOutOfOrder(t *testing.T) {
	acked, source, results := ideal(t)
	var of []int // the results of one customer
	for i, r := range results {
		var got result
		if err := json.Unmarshal(r.Value, &got); err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(acked, func(n numbered) bool { return n.ID == got.SourceID && n.Customer == "c-7" }) {
			of = append(of, i)
		}
	}
	results[of[1]].Value, results[of[3]].Value = results[of[3]].Value, results[of[1]].Value
	got, _ := count(acked, source, results, func(n *numbered) string { return n.Customer }, 0)
	if got.OutOfOrder != 2 { // the two that now come after the last
		t.Errorf("%d results out of order, want 2", got.OutOfOrder)
	}
}

func TestNewerFindingReplacesTheOlder(t *testing.T) {
	all := merge(nil, finding{Broker: "kafka", Fault: "none", Pipeline: "window", Rate: 1})
	all = merge(all, finding{Broker: "journal", Fault: "none", Pipeline: "window", Rate: 2})
	all = merge(all, finding{Broker: "kafka", Fault: "none", Pipeline: "window", Rate: 3})
	var got []string
	for _, f := range all {
		got = append(got, fmt.Sprint(f.Broker, f.Rate))
	}
	if d := cmp.Diff([]string{"journal2", "kafka3"}, got); d != "" {
		t.Error(d)
	}
}

func TestPageShowsWhatWasFoundAndWhatFailed(t *testing.T) {
	found := []finding{
		{Broker: "kafka", Version: "4.1.0", Fault: "worker-kill", Pipeline: "window", Rate: 300, Counts: counts{In: 3600, RepeatsIn: 10, Repeats: 10, Gap: 1.25}},
		{Broker: "kafka", Version: "4.1.0", Fault: "none", Pipeline: "shuffle", Rate: 300, Failed: "worker 0: ended\nmore"},
	}
	var page bytes.Buffer
	if err := writePage(&page, found); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"## kafka", "Version 4.1.0; 300 events/s",
		"| worker-kill | window | 3600 (+10 sent twice) | 0 | 10 | 0 | 0 | 0 | 1.2 |\n",
		"| none | shuffle | failed: worker 0: ended | | | | | | |\n",
		"## redis\n\nNot run yet.\n",
	} {
		if !strings.Contains(page.String(), want) {
			t.Errorf("the page lacks %q:\n%s", want, page.String())
		}
	}
	if found[0].sound() != true || found[1].sound() {
		t.Error("sound is a cell without losses, and no failed one")
	}
}
