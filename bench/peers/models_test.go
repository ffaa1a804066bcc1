package main

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bench/batching"
	"github.com/freshet-io/freshet/inference"
)

func TestFiguresOfBenchmarksAreRead(t *testing.T) {
	names, figures := benchFigures([]byte(`goos: linux
BenchmarkLoop/batch=1-2     	       2	         0.9500 ratio	     28625 rows/s
BenchmarkLoop/batch=32-2    	       2	         0.9800 ratio
BenchmarkLoop/batch=1-2     	       2	         0.9700 ratio	     28000 rows/s
PASS
`))
	if want := []string{"BenchmarkLoop/batch=1", "BenchmarkLoop/batch=32"}; !reflect.DeepEqual(names, want) {
		t.Errorf("%v, expected %v", names, want)
	}
	want := map[string]map[string][]float64{
		"BenchmarkLoop/batch=1":  {"ratio": {0.95, 0.97}, "rows/s": {28625, 28000}},
		"BenchmarkLoop/batch=32": {"ratio": {0.98}},
	}
	if !reflect.DeepEqual(figures, want) {
		t.Errorf("%v, expected %v", figures, want)
	}
}

func TestTableOfBatchingIsSummedUp(t *testing.T) {
	g := batchingGroup(&batching.Table{
		Server: batching.Server{Fixed: time.Millisecond, PerRow: time.Microsecond}, Objective: 100, Loads: 3, Kept: 2, Deadline: 3, Setting: "wait 20ms",
		Gains: []batching.Gain{
			{Arrivals: "a", Against: "fixed wait", Calls: 2, Busy: 1.5},
			{Arrivals: "b", Against: "fixed wait", Calls: 4, Busy: 2.5},
		},
		Throughput: []batching.Throughput{
			{Arrivals: "a", Policy: "deadline", Rate: 90}, {Arrivals: "a", Policy: "fixed size", Rate: 60},
			{Arrivals: "b", Policy: "deadline", Rate: 80}, {Arrivals: "b", Policy: "fixed size"},
		},
	})
	got := map[string]spread{}
	for _, r := range g.Rows {
		got[r.Name] = r.Value
	}
	want := map[string]spread{
		"calls saved: fixed wait ÷ deadline":                            {3, 2, 4},
		"the server's time saved: fixed wait ÷ deadline":                {2, 1.5, 2.5},
		"greatest load that keeps the objective: deadline ÷ fixed size": {1.5, 1.5, 1.5},
		"greatest load, a: deadline":                                    single(90),
		"greatest load, b: deadline":                                    single(80),
		"loads of 3 within the objective: deadline":                     single(3),
		"loads of 3 within the objective: one fixed wait":               single(2),
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, expected %v", got, want)
	}
	for _, r := range g.Rows {
		if strings.Contains(r.Note, "fixed size 0") {
			t.Errorf("%s: a way that keeps no objective has a rate: %s", r.Name, r.Note)
		}
	}
}

func TestAttributionsThatDoNotAddUpAreRefused(t *testing.T) {
	a := &inference.Attributions{Width: 2, Base: []float64{1, 1}, Values: []float64{1, 2, 3, 4}, Raw: []float64{4, 8}}
	if err := addsUp(a); err != nil {
		t.Error(err)
	}
	a.Raw[1] = 9
	if err := addsUp(a); err == nil || !strings.Contains(err.Error(), "row 1") {
		t.Errorf("%v", err)
	}
}
