package cli

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/bench/policies"
)

// arrivals writes a trace of an hour and a half with a burst, a minute a line.
func arrivals(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("minute,count\n")
	for i := range 90 {
		n := 600 + 200*math.Sin(float64(i)/15)
		if i > 70 && i < 75 {
			n *= 3
		}
		fmt.Fprintf(&b, "%d,%.0f\n", i, n)
	}
	path := filepath.Join(t.TempDir(), "clicks.csv")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPoliciesAreComparedOnAFile(t *testing.T) {
	file := arrivals(t)
	page := filepath.Join(t.TempDir(), "report.html")
	out := must(t, "", "bench", "policies", "--trace", file, "--policies", "kpa,foresight", "--seeds", "1", "--objective", "20s@0.95", "--report", page, "--output", "json")
	var r policies.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Traces) != 1 || r.Traces[0].Name != "clicks" || r.World.Objective != "20s@0.95" || len(r.Traces[0].Lines) != 4 || r.Seeds != 1 {
		t.Errorf("%+v", r)
	}
	html, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(html), "kpa tuned") || !strings.Contains(string(html), "<svg") {
		t.Error("the page has no table or no picture")
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(page), ".report-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
}

func TestTextAndMarkdownNameEveryPolicy(t *testing.T) {
	folder := filepath.Dir(arrivals(t))
	for _, output := range []string{"text", "markdown"} {
		out := must(t, "", "bench", "policies", folder, "--policies", "foresight", "--seeds", "1", "--output", output)
		for _, want := range []string{policies.OursName, "foresight", "clicks", "World", "late on every trace"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is missing", output, want)
			}
		}
	}
}

func TestForecastersAreCompared(t *testing.T) {
	file := arrivals(t)
	out := must(t, "", "bench", "forecasts", "--trace", file, "--lead", "1m,5m", "--members", "last,ridge,lstm")
	for _, want := range []string{"clicks", "ensemble", "last", "ridge", "lstm", "5m0s", "pinball"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	lines := strings.Split(strings.TrimSpace(must(t, "", "bench", "forecasts", file, "--lead", "1m", "--members", "last", "--output", "json")), "\n")
	var l forecastLine
	if err := json.Unmarshal([]byte(lines[0]), &l); err != nil || len(lines) != 2 || l.Forecaster != "ensemble" || l.Lead != 60 || !(l.Pinball > 0) {
		t.Errorf("%+v (%v) of %d lines", l, err, len(lines))
	}
}

func TestComparisonsRefuseWhatTheyCannotDo(t *testing.T) {
	file := arrivals(t)
	for _, tc := range []struct {
		args string
		want string
		code int
	}{
		{"policies --objective 30s", "--objective", exitUsage},
		{"policies --objective 30s@1.5", "--objective", exitUsage},
		{"policies --trace absent.csv", "absent.csv", exitUsage},
		{"policies --policies kedda --trace " + file, `did you mean "keda"`, exitUsage},
		{"policies --seeds 0 --trace " + file, "--seeds", exitUsage},
		{"policies --output xml", "--output", exitUsage},
		{"policies --start-up -1s --trace " + file, "start-up", exitUsage},
		{"policies --report absent/x.html --trace " + file, "--report", exitUsage},
		{"forecasts --members moon --trace " + file, "moon", exitUsage},
		{"forecasts --lead -1m --trace " + file, "--lead", exitUsage},
	} {
		got := exec(t, "", append([]string{"bench"}, strings.Fields(tc.args)...)...)
		if got.code != tc.code || !strings.Contains(got.err, tc.want) {
			t.Errorf("bench %s: code %d, %s", tc.args, got.code, got.err)
		}
	}
}
