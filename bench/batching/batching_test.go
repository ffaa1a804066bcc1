package batching

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var (
	tableFile = flag.String("table", "", "write the table to this file")
	traceDir  = flag.String("arrivals", "", "folder with the traces of arrivals")
	traceRows = flag.Int("rows", 8000, "rows of each run of the table")
)

const objective = 100 * time.Millisecond

func testServer() Server {
	return Server{Fixed: 10 * time.Millisecond, PerRow: 200 * time.Microsecond, Jitter: 0.1, Instances: 1, Largest: 256}
}

func TestDeadlineBatchingKeepsTheObjectiveForTheFewestCalls(t *testing.T) {
	s := testServer()
	all := policies()
	for _, share := range []float64{0.05, 0.3, 0.6} {
		a := Poisson(4000, 1).At(share * s.Most())
		ours := Simulate(t, s, all[deadlineName][0], a, objective)
		if ours.P99 > 102 {
			t.Errorf("load %v: 99 of 100 rows within %v ms", share, ours.P99)
		}
		idle := Simulate(t, s, all[idleName][0], a, objective)
		if float64(ours.Calls) > 0.6*float64(idle.Calls) {
			t.Errorf("load %v: %d calls, without a wait %d", share, ours.Calls, idle.Calls)
		}
		for _, p := range slices.Concat(all[waitName], all[sizeName]) {
			if r := Simulate(t, s, p, a, objective); r.P99 <= 100 && float64(r.Calls) < 0.85*float64(ours.Calls) {
				t.Errorf("load %v: %s keeps the objective with %d calls, deadline batching with %d", share, p.Name, r.Calls, ours.Calls)
			}
		}
	}
}

func TestTracesAreRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	a, err := Trace(write("times.csv", "TIMESTAMP,A\n2023-11-16 18:15:46.6805900,1\n2023-11-16 18:15:50.9951690,2\n"), 10, 1)
	if err != nil || len(a) != 2 || a[1] != 4314579*time.Microsecond {
		t.Errorf("%v %v", a, err)
	}
	a, err = Trace(write("counts.csv", "minute,count\n0,10\n1,30\n"), 4000, 1)
	first, _ := slices.BinarySearch(a, time.Second)
	if err != nil || !slices.IsSorted(a) || len(a) < 3600 || len(a) > 4400 || first < 850 || first > 1150 {
		t.Errorf("%d arrivals, %d of them in the first interval: %v", len(a), first, err)
	}
	if _, err := Trace(write("none.csv", "nothing\n"), 10, 1); err == nil {
		t.Error("a file without arrivals is read")
	}
	if a := Poisson(10000, 3).At(250); a.Rate() < 249 || a.Rate() > 251 {
		t.Errorf("%v a second", a.Rate())
	}
}

func TestTable(t *testing.T) {
	if *tableFile == "" {
		t.Skip("no -table FILE is given")
	}
	loads := map[string]Arrivals{"poisson": Poisson(*traceRows, 1), "bursty": Bursty(*traceRows, 1)}
	if *traceDir != "" {
		traces, err := Traces(*traceDir, *traceRows, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(traces) == 0 {
			t.Fatalf("no trace lies in %s", *traceDir)
		}
		for name, a := range traces {
			loads[name] = a
		}
	}
	tab := Compare(t, testServer(), objective, loads, []float64{0.05, 0.2, 0.5})
	b, err := json.MarshalIndent(tab, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*tableFile, append(b, '\n'), 0o600); err != nil {
		t.Fatal(err)
	}
}
