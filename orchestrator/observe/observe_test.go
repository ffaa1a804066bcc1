package observe

import (
	"context"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

var nan = math.NaN()

func at(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }

// steady is a pipeline at second s that serves 100 events a second with two instances of
// which one is busy.
func steady(s float64) Counters {
	return Counters{
		Time: at(s), Processed: 100 * s, Read: 100*s + 4, Results: 100 * s, Overdue: 2 * s, Arrived: nan, Lag: 10, Oldest: 0.1, Busy: s, Places: 2,
		Calls: 10 * s, Rows: 100 * s, Seconds: s, Processes: 1,
		Freshness: []Bucket{{0.1, 50 * s}, {0.2, 100 * s}, {math.Inf(1), 100 * s}},
	}
}

func TestSignalsAreWhatHappenedSinceTheCountersBefore(t *testing.T) {
	m := Meter{Quantile: 0.75}
	first := m.Signals(steady(10))
	want := orchestrator.Signals{Time: at(10), Lag: 10, InFlight: 4, Oldest: 100 * time.Millisecond, Known: orchestrator.KnownLag | orchestrator.KnownInFlight | orchestrator.KnownOldest}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("the first (-want +got):\n%s", diff)
	}
	now := steady(20)
	now.Lag = 60
	want = orchestrator.Signals{
		Time: at(20), Window: 10 * time.Second, Arrivals: 105, Served: 100, Lag: 60, InFlight: 4, Oldest: 100 * time.Millisecond,
		Busy: 0.5, Batch: 10, Late: 0.02, Fresh: 150 * time.Millisecond, Calls: []orchestrator.Call{{Rows: 10, Seconds: 0.1, N: 100}},
		Known: orchestrator.KnownAll &^ (orchestrator.KnownPartitions | orchestrator.KnownWorkers),
	}
	if diff := cmp.Diff(want, m.Signals(now)); diff != "" {
		t.Errorf("the second (-want +got):\n%s", diff)
	}
	// A broker that counts knows better.
	a, b := steady(30), steady(40)
	a.Arrived, b.Arrived = 5000, 6200
	m.Signals(a)
	if s := m.Signals(b); s.Arrivals != 120 {
		t.Errorf("1,200 events were stored in 10 s: %+v", s)
	}
}

func TestWhatCannotBeTrustedIsUnknown(t *testing.T) {
	const rates = orchestrator.KnownArrivals | orchestrator.KnownServed | orchestrator.KnownBusy | orchestrator.KnownLate | orchestrator.KnownCalls
	for name, change := range map[string]func(*Counters){
		"a process began again":        func(c *Counters) { c.Processed = 5 },
		"a process is gone":            func(c *Counters) { c.Processes = 0 },
		"the clock stands":             func(c *Counters) { c.Time = at(10) },
		"the clock jumped back":        func(c *Counters) { c.Time = at(3) },
		"nothing is known but the lag": func(c *Counters) { c.Processed, c.Results, c.Busy, c.Calls = nan, nan, nan, nan },
	} {
		m := Meter{Quantile: 0.99}
		m.Signals(steady(10))
		c := steady(20)
		change(&c)
		if s := m.Signals(c); s.Known&rates != 0 || !s.Known.Has(orchestrator.KnownLag) {
			t.Errorf("%s: %+v", name, s)
		}
	}
	m := Meter{Quantile: 0.99}
	m.Signals(steady(10))
	c := steady(20)
	c.Lag = nan
	if s := m.Signals(c); s.Known.Has(orchestrator.KnownLag) || s.Known.Has(orchestrator.KnownArrivals) || !s.Known.Has(orchestrator.KnownServed) {
		t.Errorf("without the lag: %+v", s)
	}
	// The window behind an unknown one is known again.
	m.Signals(steady(30))
	if s := m.Signals(steady(40)); s.Arrivals != 100 {
		t.Errorf("%+v", s)
	}
}

func TestQuantilesOfBuckets(t *testing.T) {
	b := []Bucket{{1, 10}, {2, 10}, {4, 30}, {math.Inf(1), 40}}
	for _, c := range []struct{ q, want float64 }{{0.125, 0.5}, {0.25, 1}, {0.5, 3}, {0.75, 4}, {0.99, 4}} {
		if got := quantile(nil, b, c.q); got != c.want {
			t.Errorf("quantile %v is %v, want %v", c.q, got, c.want)
		}
	}
	if got := quantile(b, b, 0.5); got != 0 {
		t.Errorf("without values: %v", got)
	}
}

// metrics is a page of a running pipeline, as the console's test keeps it.
func metrics(t testing.TB) string {
	b, err := os.ReadFile(filepath.Join("..", "..", "console", "testdata", "metrics.golden"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestAPageOfMetricsIsRead(t *testing.T) {
	c, err := Parse(strings.NewReader(metrics(t)), "card-fraud")
	if err != nil {
		t.Fatal(err)
	}
	if c.Processed != 996 || c.Read != 1000 || c.Results != 990 || c.Overdue != 1 || c.Lag != 12 || c.Oldest != 1 || c.Busy != 5 || c.Calls != 1 || c.Rows != 64 || c.Seconds != 0.001 {
		t.Errorf("%+v", c)
	}
	if n := len(c.Freshness); n == 0 || c.Freshness[n-1].Count != 3 {
		t.Errorf("freshness %v", c.Freshness)
	}
	if _, err := Parse(strings.NewReader(metrics(t)), "card-frau"); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("another name: %v", err)
	}
	if _, err := Parse(strings.NewReader("<html>"), "card-fraud"); err == nil {
		t.Error("a page of HTML was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(metrics(f))
	f.Add("freshet_pipeline_info{pipeline=\"card-fraud\",source=\"t\"} 1\nfreshet_consumer_lag{pipeline=\"card-fraud\",topic=\"t\"} NaN\n")
	f.Fuzz(func(t *testing.T, page string) {
		c, err := Parse(strings.NewReader(page), "card-fraud")
		if err != nil {
			return
		}
		var m Meter
		m.Signals(Counters{Time: at(1), Processes: 1})
		c.Time = at(2)
		s := m.Signals(c)
		for _, v := range []float64{s.Arrivals, s.Served, s.Lag, s.Busy, s.Late} {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 && v != s.Served {
				t.Errorf("%+v of %+v", s, c)
			}
		}
	})
}

func TestProcessesAreAddedUpAndTheLagIsCountedOnce(t *testing.T) {
	page := metrics(t)
	var down bool
	serve := func(bad *bool) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if bad != nil && *bad || r.Header.Get("Authorization") != "Bearer secret" || r.URL.Path != "/metrics" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			io.WriteString(w, page)
		}))
		t.Cleanup(s.Close)
		return s
	}
	a, b := serve(nil), serve(&down)
	url := "http://:secret@" + strings.TrimPrefix(a.URL, "http://") + "," + strings.TrimPrefix(b.URL, "http://")
	s, err := Scrape(url, "card-fraud", 0.99, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	now := at(0)
	s.now = func() time.Time { now = now.Add(10 * time.Second); return now }
	if _, err := s.Observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	page = strings.Replace(page, `freshet_stored_records_total{pipeline="card-fraud",topic="transactions"} 1012`, `freshet_stored_records_total{pipeline="card-fraud",topic="transactions"} 1212`, 1)
	got, err := s.Observe(t.Context())
	if err != nil || got.Arrivals != 20 || got.Lag != 12 {
		t.Errorf("200 events in 10 s of two processes: %+v, %v", got, err)
	}
	down = true
	if got, err = s.Observe(t.Context()); err != nil || got.Known.Has(orchestrator.KnownArrivals) || !got.Known.Has(orchestrator.KnownLag) {
		t.Errorf("one process is gone: %+v, %v", got, err)
	}
	s.token = "wrong"
	if _, err = s.Observe(t.Context()); !errkind.Is(err, errkind.Config) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("with a wrong token: %v", err)
	}
}

// asPrometheus answers queries with a page's samples, as Prometheus's HTTP API does.
func asPrometheus(t *testing.T, page *string, when *float64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		type result struct {
			Metric map[string]string `json:"metric"`
			Values [][2]any          `json:"values"`
		}
		var out []result
		for line := range strings.Lines(*page) {
			name, rest, ok := strings.Cut(strings.TrimSpace(line), "{")
			if !ok || strings.HasPrefix(line, "#") {
				continue
			}
			labels, value, _ := strings.Cut(rest, "} ")
			m := map[string]string{"__name__": name, "instance": "a:1", "job": "freshet"}
			for l := range strings.SplitSeq(labels, ",") {
				k, v, _ := strings.Cut(l, "=")
				m[k] = strings.Trim(v, `"`)
			}
			out = append(out, result{m, [][2]any{{*when - 1, "0"}, {*when, value}}})
		}
		json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": "matrix", "result": out}})
	}
}

func TestPrometheusTellsTheSameAsThePage(t *testing.T) {
	page, when := metrics(t), 1000.0
	srv := httptest.NewServer(asPrometheus(t, &page, &when))
	defer srv.Close()
	s, err := Prometheus("prometheus+"+srv.URL, "card-fraud", 0.5, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	one, err := Parse(strings.NewReader(page), "card-fraud")
	if err != nil {
		t.Fatal(err)
	}
	one.Time = time.Unix(1000, 0)
	if diff := cmp.Diff(one, s.meter.last); diff != "" {
		t.Errorf("counters of the page and of Prometheus (-page +Prometheus):\n%s", diff)
	}
	// Until the next scrape nothing new is known, and the signals are as old as the last one.
	got, err := s.Observe(t.Context())
	if err != nil || got.Known.Has(orchestrator.KnownArrivals) || !got.Time.Equal(time.Unix(1000, 0)) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.query(context.Background(), "up"); err != nil {
		t.Error(err)
	}
	s.pipeline = "other"
	page = ""
	if _, err := s.Observe(t.Context()); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("a pipeline that nobody runs: %v", err)
	}
}
