package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/examples/water-leak/network"
)

// recordings finds the recordings of SKAB's first valve, or skips.
func recordings(t *testing.T) string {
	t.Helper()
	const name = "water/skab/valve1"
	dirs := []string{os.Getenv("FRESHET_SHARED_DATA")}
	if wd, err := os.Getwd(); err == nil {
		for d := wd; ; d = filepath.Dir(d) {
			dirs = append(dirs, filepath.Join(d, "shared", "data"))
			if d == filepath.Dir(d) {
				break
			}
		}
	}
	for _, d := range dirs {
		if _, err := os.Stat(filepath.Join(d, name, "0.csv")); d != "" && err == nil {
			return filepath.Join(d, name)
		}
	}
	const message = "NOT RUN: the recordings are absent: set FRESHET_SHARED_DATA to the folder that holds " + name
	if strings.Contains(os.Getenv("FRESHET_REQUIRE"), "data") {
		t.Fatal(message)
	}
	t.Skip(message)
	return ""
}

// lines logs what is written to it.
type lines struct{ t *testing.T }

func (l lines) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

func TestThePipelineFindsTheTestBedsAnomaliesBetterThanPlainMethods(t *testing.T) {
	methods, truth, err := evaluateTestbed(lines{t}, recordings(t), t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	f1 := map[string]float64{}
	for i := range methods {
		f1[methods[i].name] = methods[i].against(truth, methods[i].limit).f1()
	}
	ours := f1["the pipeline"]
	if ours < 0.8 {
		t.Errorf("F1 is %.3f: want at least 0.8", ours)
	}
	for name, v := range f1 {
		if name != "the pipeline" && v > ours {
			t.Errorf("%s: F1 is %.3f, more than the pipeline's %.3f", name, v, ours)
		}
	}
}

func TestThePipelineFindsLeaksInASimulatedNetwork(t *testing.T) {
	f, err := evaluateNetwork(lines{t}, "../pipeline.yaml", t.TempDir(), network.Config{Areas: 4, Days: 22, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	if f.leaks < 4 || f.alerted < f.leaks-1 || f.ordered < f.leaks-1 {
		t.Errorf("%d leaks, %d with an alert, %d with a work order", f.leaks, f.alerted, f.ordered)
	}
	if share := ratio(f.methods[0].against(f.truth, 1).falseAlarm, len(f.truth)); share > 0.01 {
		t.Errorf("%.2f %% of the rows are false alarms", 100*share)
	}
}

func TestMeasuresAreThoseOfTheDefinition(t *testing.T) {
	m := method{scores: []float64{1, 2, 3, 3, 5, 6}}
	truth := []bool{false, true, false, true, true, false}
	if diff := cmp.Diff(outcome{hit: 2, missed: 1, falseAlarm: 2, quiet: 1}, m.against(truth, 2), cmp.AllowUnexported(outcome{})); diff != "" {
		t.Error(diff)
	}
	if got := m.against(truth, 2).f1(); got != 4.0/7 {
		t.Errorf("F1: got %v", got)
	}
	// Of the nine pairs four are in order, and one is a tie: 2>1, 3>1, 5>1, 5>3, and 3=3.
	if got := m.area(truth); got != 4.5/9 {
		t.Errorf("area: got %v", got)
	}
	if got := m.hindsight(truth); got != 0.75 {
		t.Errorf("best F1: got %v", got)
	}
	if none := m.area(make([]bool, 6)); none != 0 {
		t.Errorf("area without anomalies: got %v", none)
	}
}

func TestEpisodesEndWithAPause(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	results := []result{{Time: at(0), Score: 1}, {Time: at(1), Score: 3, Features: map[string]any{"filled": true}}, {Time: at(2)}, {Time: at(3), Score: 2}, {Time: at(9), Score: 2}}
	got := episodes(results, func(i int) bool { return results[i].Score > 0 }, 2*time.Second)
	want := []episode{{at(0), at(3), 3, 1, 3}, {at(9), at(9), 1, 0, 2}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(episode{})); diff != "" {
		t.Error(diff)
	}
}

func TestDamagedRecordingsAreRefused(t *testing.T) {
	head := "datetime;" + strings.Join(sensors, ";") + ";anomaly;changepoint\n"
	row := "2020-03-09 10:14:33;1;2;3;4;5;6;7;8;0.0;0.0\n"
	for name, text := range map[string]string{
		"no rows": head, "another head": "time;x\n" + row, "a short row": head + "2020-03-09 10:14:33;1\n",
		"no time": head + "yesterday;1;2;3;4;5;6;7;8;0.0;0.0\n", "no number": head + strings.Replace(row, ";3;", ";three;", 1),
	} {
		path := filepath.Join(t.TempDir(), "0.csv")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if e, err := readExperiment(path, "x"); err == nil {
			t.Errorf("%s: got %+v", name, e)
		}
	}
}
