package console

import (
	"context"
	"errors"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/internal/histogram"
	"github.com/freshet-io/freshet/model"
	"github.com/freshet-io/freshet/pipeline"
)

var update = flag.Bool("update", false, "write the golden files")

func counted(values ...int64) histogram.Snapshot {
	var h histogram.Histogram
	for _, v := range values {
		h.Record(v)
	}
	return h.Snapshot()
}

// full is a pipeline in which everything has happened.
func full() pipeline.Stats {
	ms := int64(time.Millisecond)
	return pipeline.Stats{
		Name: "card-fraud", Model: "fraud-risk", Version: "1.0.0",
		Source: "transactions", Target: 500 * time.Millisecond, Consumed: 1000, Processed: 996, Predictions: 990, DeadLetters: map[string]uint64{"schema": 8, "late": 2},
		Failures: 3, Fallbacks: 3, ExpressionFaults: 1, LookupMisses: 15,
		Late: 2, LatePolicy: pipeline.LateDeadLetter, Filled: 40, LateReadings: 6, Repeats: 1, SourceRepeats: 4,
		Bridges: []pipeline.BridgeStats{
			{Topic: "transactions", URL: "amqp://host/", In: true, Carried: 990, Repeats: 3},
			{Topic: "scored", URL: "postgres://host/db", Carried: 980, Refused: 2},
		},
		Freshness: counted(3*ms, 4*ms, 1000*ms), SinceArrival: counted(2*ms, 3*ms, 900*ms),
		FeatureLookup: counted(ms / 20), BatchRows: counted(100, 900), Running: 10 * time.Second,
		Steps: []pipeline.StepStats{{
			Name: "fraud-risk", Paths: map[string]uint64{"scored": 980, "fallback_rule": 10}, Explained: 12, Unexplained: 1,
			Versions: []pipeline.VersionStats{{Model: "fraud-risk", Version: "1.0.0", Role: "champion", Predictions: 900}, {Model: "fraud-risk", Version: "1.1.0", Role: "canary", Predictions: 90}},
			Served: []pipeline.ServedStats{{
				Model: "fraud-risk", Version: "1.0.0", Role: "champion", Batch: counted(64), Seconds: counted(ms),
				Flushes: map[string]uint64{"full": 2, "idle": 5}, BusySeconds: 5, Instances: 2,
			}},
			Status: model.Status{Swaps: 1, Rollout: &model.Rollout{Version: "1.1.0", Role: model.Canary, Share: 0.1}},
		}},
		Stages: []pipeline.StageStats{
			{Topic: "transactions", By: "customer_id", Keys: 50, Bytes: 6000, Held: 4, Watermarks: map[int]int64{0: 1522540800e9, 1: 1522540800.5e9}},
			{Topic: "card-fraud-by-terminal_id", By: "terminal_id", Keys: 100, Bytes: 12000, Store: true, StoredKeys: 900, StoredBytes: 50000, Watermarks: map[int]int64{0: 1522540790e9}},
		},
		Tables: []pipeline.TableStats{
			{Name: "countries", Found: 990, Missing: 10},
			{
				Name: "merchants", Found: 985, Missing: 10, Failed: 5, Staleness: counted(30e9, 7200e9),
				Server: &pipeline.ServerStats{Hits: 800, Misses: 200, Evicted: 7, Invalid: 1, Requests: 12, Repeats: 2, Errors: 3, Seconds: counted(ms, 2*ms)},
			},
		},
		CheckpointBytes: 4096, CheckpointAt: time.Unix(1522540800, 0),
	}
}

// scrape is what /metrics says of a pipeline.
func scrape(t *testing.T, s pipeline.Stats, lags func(context.Context) ([]pipeline.StageLag, error)) []string {
	t.Helper()
	c := newCollector(s.Name, func() pipeline.Stats { return s }, lags)
	c.now = func() time.Time { return time.Unix(1522540812, 0) }
	reg := prometheus.NewRegistry()
	reg.MustRegister(c)
	var out []string
	for l := range strings.Lines(newFixture(t, Options{Metrics: reg}).do("GET", "/metrics", "").Body.String()) {
		if strings.Contains(l, "freshet_") {
			out = append(out, l)
		}
	}
	return out
}

func twoStages(context.Context) ([]pipeline.StageLag, error) {
	return []pipeline.StageLag{
		{Topic: "transactions", Lag: broker.Lag{Records: 12, OldestAge: 3 * time.Millisecond}, Stored: 1012},
		{Topic: "card-fraud-by-terminal_id", Lag: broker.Lag{Records: 2, OldestAge: time.Second}, Stored: -1},
	}, nil
}

func TestMetricsOfAPipelineAreThoseThatAreDocumented(t *testing.T) {
	lines := scrape(t, full(), twoStages)
	path := filepath.Join("testdata", "metrics.golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run go test ./console -update", err)
	}
	if d := cmp.Diff(string(want), strings.Join(lines, "")); d != "" {
		t.Errorf("metrics (-golden +got):\n%s", d)
	}
	doc, err := os.ReadFile("../docs/http-api.md")
	if err != nil {
		t.Fatal(err)
	}
	documented, there := map[string]bool{}, map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(freshet_\\w+)[`{]").FindAllSubmatch(doc, -1) {
		documented[string(m[1])] = true
	}
	for _, l := range lines {
		if rest, ok := strings.CutPrefix(l, "# TYPE "); ok {
			name, _, _ := strings.Cut(rest, " ")
			there[name] = true
		}
	}
	if d := cmp.Diff(slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(there))); d != "" {
		t.Errorf("metrics (-docs/http-api.md +/metrics):\n%s", d)
	}
}

func TestMetricsOfAPipelineThatHasNotBegunAreThereWithoutLag(t *testing.T) {
	lines := scrape(t, pipeline.Stats{Name: "p"}, func(context.Context) ([]pipeline.StageLag, error) {
		return nil, errors.New("no such topic")
	})
	all := strings.Join(lines, "")
	for _, want := range []string{"freshet_events_total{pipeline=\"p\"} 0\n", "freshet_late_events_total{pipeline=\"p\",policy=\"score\"} 0\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in:\n%s", want, all)
		}
	}
	for _, unknown := range []string{"freshet_consumer_lag", "freshet_checkpoint_age_seconds", "freshet_lookup_requests_total", "freshet_watermark_seconds"} {
		if strings.Contains(all, unknown) {
			t.Errorf("%s is given before it is known", unknown)
		}
	}
}
