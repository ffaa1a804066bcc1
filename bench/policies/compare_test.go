package policies

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

var update = flag.Bool("update", false, "rewrite golden files")

func generated(t testing.TB, kind string, length time.Duration) *trace.Trace {
	t.Helper()
	tr, err := trace.Generate(kind, 1, length)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// small is a comparison of a few seconds.
func small(t testing.TB) Config {
	return Config{
		World:    DefaultWorld(),
		Traces:   []*trace.Trace{generated(t, "smooth", 75*time.Minute), generated(t, "bursts", 75*time.Minute)},
		Policies: []string{"static", "static-peak", "kpa", "foresight"},
		Seeds:    2,
	}
}

func TestComparisonOfRulesIsAsBefore(t *testing.T) {
	r, err := Compare(context.Background(), small(t))
	if err != nil {
		t.Fatal(err)
	}
	// Ours is better every week; what the rules of others do stays.
	var b bytes.Buffer
	for _, tr := range r.Traces {
		tr.Lines = slices.DeleteFunc(tr.Lines, func(l Line) bool { return l.Group == Ours })
		b.WriteString(tr.Name + "\n  " + tr.about() + "\n\n")
		var s strings.Builder
		c := tr.lineCells()
		c.text(&s)
		b.WriteString(s.String() + "\n")
	}
	path := filepath.Join("testdata", "small.txt")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("run go test ./bench/policies -update if this is meant:\n%s", d)
	}
}

func TestTheSameComparisonGivesTheSameReportOnAnyNumberOfCores(t *testing.T) {
	var texts []string
	for _, workers := range []int{1, 3} {
		c := small(t)
		c.Traces = c.Traces[1:]
		c.Policies = []string{"keda"}
		c.Workers = workers
		done := 0
		c.Progress = func(d, total int, _ string) {
			if done++; d != done || d > total {
				t.Errorf("%d of %d after %d", d, total, done-1)
			}
		}
		r, err := Compare(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := r.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		if err := r.WritePage(&b); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, b.String())
	}
	if d := cmp.Diff(texts[0], texts[1]); d != "" {
		t.Error(d)
	}
}

func TestNobodyWhoIsNeverLateCostsLessThanTheBound(t *testing.T) {
	c := small(t)
	c.Policies, c.Traces, c.Seeds = []string{"all"}, c.Traces[1:], 1
	r, err := Compare(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, tr := range r.Traces {
		for _, l := range tr.Lines {
			if l.Late.Mean == 0 && l.Cost.Mean < 1 {
				t.Errorf("%s: %s is never late at %.4f of the bound", tr.Name, l.Policy, l.Cost.Mean)
			}
			if l.Group == Offline && (l.Late.Mean > 0.01 || l.Cost.Mean > 2) {
				t.Errorf("%s: %s is late by %g at %.3f of the bound", tr.Name, l.Policy, l.Late.Mean, l.Cost.Mean)
			}
		}
		if tr.line(tr.Best) == nil || tr.line(OursName) == nil {
			t.Errorf("%s: the best is %q", tr.Name, tr.Best)
		}
	}
}

func TestAblationShowsEveryPart(t *testing.T) {
	c := small(t)
	c.Traces = c.Traces[1:]
	c.Policies, c.Ablation, c.Seeds = []string{"static"}, true, 1
	r, err := Compare(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"floor only", "forecast by last", "forecast by day", "forecast by holt-winters", "forecast by arima", "forecast by harmonic", "forecast by ridge", "forecast by lstm",
		"not calibrated", "fixed batch", "ppo alone", "ppo in rails",
	} {
		l := r.Traces[0].line(name)
		if l == nil || l.Group != Ablation || !(l.Cost.Mean > 0) || math.IsNaN(l.Late.Mean) {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

func TestComparisonEndsWhenItIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	c := small(t)
	runs := 0
	c.Progress = func(int, int, string) {
		if runs++; runs == 5 {
			cancel()
		}
	}
	_, err := Compare(ctx, c)
	if !errors.Is(err, context.Canceled) || runs > 5+16 {
		t.Errorf("%v after %d runs", err, runs)
	}
}

func TestComparisonsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Config){
		"no trace":            func(c *Config) { c.Traces = nil },
		"a short trace":       func(c *Config) { c.Traces[0] = &trace.Trace{Name: "x", Step: time.Second, Counts: []float64{1, 2}} },
		"an unknown policy":   func(c *Config) { c.Policies = []string{"kedda"} },
		"negative seeds":      func(c *Config) { c.Seeds = -1 },
		"no target":           func(c *Config) { c.World.Objective.Target = 0 },
		"nobody busy":         func(c *Config) { c.World.Busy = 0 },
		"busy without end":    func(c *Config) { c.World.Busy = math.Inf(1) },
		"a negative start-up": func(c *Config) { c.World.Capacity.StartUp = -time.Second },
		"a negative part":     func(c *Config) { c.Longest = -1 },
	} {
		c := small(t)
		spoil(&c)
		if _, err := Compare(context.Background(), c); !errkind.Is(err, errkind.Config) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOnlyPartOfLongTracesIsTakenWhereAsked(t *testing.T) {
	c := small(t)
	c.Policies, c.Longest, c.Seeds = []string{"foresight"}, 15*time.Minute, 1
	r, err := Compare(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	tr := r.Traces[0]
	if tr.Tuned != 0.25 || tr.Judged != 0.25 || !strings.Contains(strings.Join(tr.Notes, " "), "left out") {
		t.Errorf("%g h tuned, %g h judged, notes %q", tr.Tuned, tr.Judged, tr.Notes)
	}
}

func TestReportsAreSoundJSON(t *testing.T) {
	var b bytes.Buffer
	if err := fixed().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back.Traces[0].Lines[1].Cost.Mean != 1.5 || back.Ours != OursName {
		t.Errorf("%+v", back)
	}
}
