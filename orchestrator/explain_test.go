package orchestrator

import (
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run go test ./orchestrator -update", err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-golden +got):\n%s", name, d)
	}
}

func TestAccountsReadLikeAnEngineers(t *testing.T) {
	full := fullEntry()
	full.ID = 42
	full.Act = &Act{Time: noon.Add(time.Second)}
	full.Outcome = &Outcome{
		Until: noon.Add(5 * time.Minute), Known: KnownArrivals | KnownLate | KnownOldest | KnownLag | KnownWorkers,
		Arrivals: 3620, Late: 0.0004, Fresh: 4200 * time.Millisecond, Oldest: 6100 * time.Millisecond, Lag: 812,
		WorkerSeconds: 3744, Cost: 0.3744, Ready: 63 * time.Second,
	}
	full.Notes, full.Round.Note, full.Round.Demand.Note = nil, "", ""

	full.Round.Capacity.Partitions = 24

	refused := fullEntry()
	refused.ID = 43
	refused.After = refused.Before
	refused.After.Workers = 9
	refused.Round.Decided = Decision{Workers: 9, Reason: "9 do what is expected"}
	refused.Round.Rails = nil
	refused.Act = &Act{Time: noon.Add(10 * time.Second), Error: "scale deployment/scorer: timeout", ErrorKind: "transient"}
	refused.Notes = []string{"the actuator did not take 9 workers: scale deployment/scorer: timeout"}
	refused.Outcome = &Outcome{Until: noon.Add(90 * time.Second)}

	dark := &Entry{
		ID: 44, Kind: KindRound, Time: noon, Unit: "card-fraud", Pilot: "horizon", Mode: ModeAct, Expires: noon.Add(time.Minute),
		Round: &Round{
			Signals: Signals{Time: noon.Add(-8 * time.Minute)}, Stale: 8 * time.Minute, Capacity: full.Round.Capacity, Objective: full.Round.Objective,
			Decided: Decision{Hold: true, Workers: 10, Reason: "signals are 8m0s old; orders stay as they are."},
			Final:   Decision{Hold: true, Workers: 10},
			Rails:   []Bite{{RailStale, 10, 10, "signals are 8m0s old; orders stay as they are"}},
		},
		Before: Orders{Workers: 10}, After: Orders{Workers: 10},
		Notes: []string{"no signals: get http://prometheus:9090: connection refused"},
	}
	shadow := &Entry{
		ID: 45, Kind: KindRound, Time: noon, Unit: "card-fraud", Pilot: "keda", Mode: ModeObserve,
		Round: &Round{
			Signals:   Signals{Time: noon, Window: 30 * time.Second, Known: KnownLag | KnownWorkers, Lag: 120, Ready: 1},
			Objective: full.Round.Objective, Decided: Decision{Workers: 2, Reason: "a lag of 120 against 64 a worker: 2"},
		},
		Before: Orders{Workers: 1}, After: Orders{Workers: 2},
	}
	undo := &Entry{
		ID: 46, Kind: KindUndo, Time: noon, Unit: "card-fraud", Pilot: "horizon", Mode: ModeAct, Of: 42, By: "ann", Why: "the database behind cannot take so many",
		Before: full.After, Expires: noon.Add(15 * time.Minute), Act: &Act{Time: noon},
	}
	for name, e := range map[string]*Entry{"explain-full": full, "explain-refused": refused, "explain-dark": dark, "explain-shadow": shadow, "explain-undo": undo} {
		t.Run(name, func(t *testing.T) { golden(t, name+".txt", Explain(e)) })
	}
}

func TestAnAccountOfAnythingIsText(t *testing.T) {
	for _, e := range []*Entry{
		{}, {Kind: KindRound, Round: &Round{}}, {Kind: KindStart},
		{Kind: KindRound, Round: &Round{Demand: Demand{Rates: [][]float64{{}}, Levels: []float64{0.5}, Step: 1}, Decided: Decision{Candidates: make([]Candidate, 3)}}, Outcome: &Outcome{Known: KnownAll, Ready: -1}},
	} {
		if Explain(e) == "" {
			t.Errorf("nothing about %+v", e)
		}
	}
}
