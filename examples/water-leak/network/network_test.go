package network

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheSameSeedGivesTheSameNetwork(t *testing.T) {
	c := Config{Areas: 3, Days: 21, Seed: 5, Leaks: true}
	a, leaksA := Simulate(c)
	b, leaksB := Simulate(c)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(leaksA, leaksB); diff != "" {
		t.Error(diff)
	}
	c.Seed = 6
	if other, _ := Simulate(c); cmp.Equal(a, other) {
		t.Error("another seed gives the same")
	}
}

func TestTelemetryHasWhatTelemetryHas(t *testing.T) {
	readings, leaks := Simulate(Config{Areas: 12, Days: 42, Seed: 1, Leaks: true})
	if !slices.IsSortedFunc(readings, func(a, b Reading) int { return a.Time.Compare(b.Time) }) {
		t.Error("readings are not in order of time")
	}
	ids, newest := map[string]bool{}, map[string]time.Time{}
	nulls, gaps, outages := 0, 0, 0
	for _, r := range readings {
		if ids[r.ID] {
			t.Fatalf("%s is there twice", r.ID)
		}
		ids[r.ID] = true
		if r.Flow == nil || r.Pressure == nil {
			nulls++
		}
		if last, ok := newest[r.Area]; ok {
			if !r.Time.After(last) {
				t.Fatalf("%s is not after the reading before it", r.ID)
			}
			switch gap := r.Time.Sub(last); {
			case gap > 30*time.Minute:
				outages++
			case gap > 6*time.Minute:
				gaps++
			}
		}
		newest[r.Area] = r.Time
	}
	t.Logf("%d readings, %d with a null, %d gaps, %d outages, %d leaks", len(readings), nulls, gaps, outages, len(leaks))
	if len(newest) != 12 || nulls < 1000 || gaps < 1000 || outages < 50 || len(leaks) < 6 {
		t.Error("something is missing")
	}
	for _, l := range leaks {
		if l.Start.Before(Start.Add(Quiet)) || !l.Repaired.After(l.Start) || l.Flow <= 0 {
			t.Errorf("leak %+v", l)
		}
	}
}

func TestALeakRaisesTheFlowAndLowersThePressure(t *testing.T) {
	readings, leaks := Simulate(Config{Areas: 5, Days: 28, Seed: 1, Leaks: true})
	table, err := Features(readings)
	if err != nil {
		t.Fatal(err)
	}
	l := leaks[0]
	for _, column := range []string{"flow_excess", "flow_excess_6h", "pressure_drop"} {
		var during, before, n, m float64
		for i, v := range table.Columns[table.Column(column)] {
			switch at := time.Unix(0, table.Times[i]); {
			case table.Keys[i] != l.Area:
			case at.After(l.Start.Add(3*time.Hour)) && at.Before(l.Repaired):
				during, n = during+v, n+1
			case at.After(Start.Add(Quiet/2)) && at.Before(l.Start):
				before, m = before+v, m+1
			}
		}
		if during, before = during/n, before/m; during < before+0.05 {
			t.Errorf("%s: %v during the leak, %v before it", column, during, before)
		}
	}
}
