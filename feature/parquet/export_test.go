package parquet

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// openJournal makes a journal with topics of so many partitions.
func openJournal(t *testing.T, topics map[string]int) *broker.Broker {
	t.Helper()
	j, err := journal.Open(t.TempDir(), journal.Options{Sync: journal.SyncEvery(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(j, broker.Options{})
	t.Cleanup(func() { b.Close() })
	for name, n := range topics {
		if err := b.CreateTopic(t.Context(), broker.TopicConfig{Name: name, Partitions: n}); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// publish stores payloads as the results of a pipeline.
func publish(t *testing.T, b *broker.Broker, topic, pipeline string, payloads ...string) {
	t.Helper()
	var recs []event.Record
	for i, p := range payloads {
		recs = append(recs, event.Record{
			Key: []byte(strconv.Itoa(i)), Value: []byte(p),
			Headers: event.Headers(nil).AppendString("ce_source", "/freshet/"+pipeline),
		})
	}
	if _, err := b.Publish(t.Context(), topic, recs); err != nil {
		t.Fatal(err)
	}
}

var floatFeatures = []Feature{{Column: Column{"a", event.Float}}, {Column: Column{"n", event.Int}}, {Column: Column{"s", event.String}}, {Column: Column{"b", event.Bool}}, {Column: Column{"at", event.Time}}}

func options(t *testing.T, topics ...string) Options {
	return Options{Pipeline: "p", Topics: topics, Features: floatFeatures, Dir: filepath.Join(t.TempDir(), "out"), Contract: "1.2.3"}
}

func mustExport(t *testing.T, b *broker.Broker, o Options) (*Summary, *exported) {
	t.Helper()
	sum, err := Export(t.Context(), b, o)
	if err != nil {
		t.Fatal(err)
	}
	if l := leftovers(t, o.Dir); l != nil {
		t.Errorf("left beside the export: %v", l)
	}
	e := readExport(t, o.Dir)
	if int64(len(e.rows)) != sum.Rows || len(e.files) != sum.Files {
		t.Errorf("the summary says %d rows in %d files, there are %d in %d", sum.Rows, sum.Files, len(e.rows), len(e.files))
	}
	return sum, e
}

// TestRowsHaveTheValuesOfTheirResults compares random results with their rows, bit for bit.
func TestRowsHaveTheValuesOfTheirResults(t *testing.T) {
	b := openJournal(t, map[string]int{"all": 3, "some": 1})
	rnd := rand.New(rand.NewPCG(1, 2))
	start := time.Date(2018, 3, 31, 22, 0, 0, 0, time.UTC).UnixNano()
	want := map[string]map[string]any{}
	var all, some []string
	for i := range 3000 {
		at := start + int64(i)*5e9 + rnd.Int64N(1e9)
		row := map[string]any{"id": fmt.Sprint("e", i), "time": at, "fallback": false, "features_complete": true}
		null := func() bool { return rnd.IntN(5) == 0 }
		f := map[string]any{"a": nil, "n": nil, "s": nil, "b": nil, "at": nil}
		if !null() {
			v := math.Float64frombits(rnd.Uint64())
			if math.IsNaN(v) || math.IsInf(v, 0) || rnd.IntN(2) == 0 {
				v = float64(rnd.IntN(100000)) / 100
			}
			f["a"] = v
		}
		if !null() {
			f["n"] = rnd.Int64() - rnd.Int64()
		}
		if !null() {
			f["s"] = []string{"", "plain", "quote\"s", "ümläut\n", "\u0000"}[rnd.IntN(5)]
		}
		if !null() {
			f["b"] = rnd.IntN(2) == 0
		}
		result := map[string]any{"id": fmt.Sprint("r", i), "source_id": row["id"], "time": time.Unix(0, at).UTC().Format(time.RFC3339Nano),
			"model": "m", "version": fmt.Sprint(rnd.IntN(2)), "score": float64(float32(rnd.Float64())), "route": "scored", "contract": "1.2.3",
			"outputs": map[string]any{"label": rnd.IntN(2)}, "features": f}
		for k, v := range f {
			row[k] = v
		}
		if !null() {
			ns := rnd.Int64N(math.MaxInt64)
			f["at"] = time.Unix(0, ns).UTC().Format(time.RFC3339Nano)
			row["at"] = ns
		}
		for _, k := range []string{"model", "version", "score", "route", "contract"} {
			row[k] = result[k]
		}
		row["label"] = int64(result["outputs"].(map[string]any)["label"].(int))
		row["result_id"], row["key"], row["arrival"] = result["id"], nil, nil
		text, err := json.Marshal(result)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(text))
		if i%10 == 0 {
			some = append(some, string(text))
		}
		want[row["id"].(string)] = row
	}
	publish(t, b, "all", "p", all...)
	publish(t, b, "some", "p", some...)
	o := options(t, "all", "some")
	o.Outputs = []Column{{"score", event.Float}, {"label", event.Int}}
	o.Models = map[string]string{"m@0": "abc"}
	sum, got := mustExport(t, b, o)
	if sum.Rows != 3000 || sum.Duplicates != 300 || sum.Unreadable != 0 || sum.Foreign != 0 {
		t.Errorf("got %+v", sum)
	}
	for id, r := range got.rows {
		if r["published"].(int64) <= 0 {
			t.Fatalf("row %s: published %v", id, r["published"])
		}
		delete(r, "published")
	}
	if d := cmp.Diff(want, got.rows); d != "" {
		t.Errorf("rows (-results +export):\n%.2000s", d)
	}
	about := map[string]string{"freshet.pipeline": "p", "freshet.contract": "1.2.3", "freshet.contract_digest": "",
		"freshet.features": `["a","n","s","b","at"]`, "freshet.models": `{"m@0":"abc","m@1":null}`}
	if d := cmp.Diff(about, got.about); d != "" {
		t.Errorf("the file about itself (-want +got):\n%s", d)
	}
	if got.files[0] != "date=2018-03-31/hour=22/part-0.parquet" || len(got.files) != 5 {
		t.Errorf("files: %v", got.files)
	}
}

// result writes a small result.
func result(id, at, rest string) string {
	return fmt.Sprintf(`{"id":"r-%s","source_id":%q,"time":%q%s}`, id, id, at, rest)
}

func TestARepeatedResultIsOneRow(t *testing.T) {
	b := openJournal(t, map[string]int{"first": 1, "second": 1})
	publish(t, b, "second", "p", `{"id":"other","source_id":"1","time":"2018-04-01T00:00:00Z","features":{}}`)
	publish(t, b, "first", "p", result("1", "2018-04-01T00:00:00Z", ""))
	// Many hours later the first hour comes again: one row of it is known, one is new.
	for h := range 10 {
		publish(t, b, "first", "p", result(fmt.Sprint("h", h), fmt.Sprintf("2018-04-01T%02d:30:00Z", h), ""))
	}
	publish(t, b, "first", "p", result("h0", "2018-04-01T00:30:00Z", ""), result("late", "2018-04-01T00:40:00Z", ""), result("h0", "2018-04-01T00:30:00Z", ""))
	o := options(t, "first", "second")
	o.held = 3
	sum, got := mustExport(t, b, o)
	if sum.Rows != 12 || sum.Duplicates != 3 {
		t.Errorf("got %+v", sum)
	}
	if id := got.rows["1"]["result_id"]; id != "r-1" {
		t.Errorf("the row of both topics is %v, expected that of the first topic", id)
	}
	if !slices.Contains(got.files, "date=2018-04-01/hour=00/part-1.parquet") || len(got.files) != 11 {
		t.Errorf("files: %v", got.files)
	}
}

func TestOnlyEventTimesWithinTheBoundsAreWritten(t *testing.T) {
	b := openJournal(t, map[string]int{"out": 2})
	for i, at := range []string{"2018-03-31T23:59:59.999999999Z", "2018-04-01T00:00:00Z", "2018-04-01T23:59:59Z", "2018-04-02T00:00:00Z", "1969-12-31T23:59:59Z"} {
		publish(t, b, "out", "p", result(fmt.Sprint(i), at, ""))
	}
	o := options(t, "out")
	o.From, o.To = time.Date(2018, 4, 1, 0, 0, 0, 0, time.UTC), time.Date(2018, 4, 2, 0, 0, 0, 0, time.UTC)
	sum, got := mustExport(t, b, o)
	if sum.Outside != 3 || got.rows["1"] == nil || got.rows["2"] == nil || len(got.rows) != 2 {
		t.Errorf("got %+v, rows %v", sum, got.rows)
	}
	o = options(t, "out")
	if _, got = mustExport(t, b, o); got.files[0] != "date=1969-12-31/hour=23/part-0.parquet" || len(got.rows) != 5 {
		t.Errorf("files: %v", got.files)
	}
}

func TestWhatIsNoResultIsCountedAndNamed(t *testing.T) {
	b := openJournal(t, map[string]int{"out": 1})
	publish(t, b, "out", "q", result("theirs", "2018-04-01T00:00:00Z", ""))
	publish(t, b, "out", "p", "not JSON", "[1]", `{"source_id":"x"}`, `{"time":"2018-04-01T00:00:00Z"}`, `{"source_id":"x","time":"noon"}`,
		"{\"source_id\":\"\xff\",\"time\":\"2018-04-01T00:00:00Z\"}", "", result("ours", "2018-04-01T00:00:00Z", ""))
	sum, _ := mustExport(t, b, options(t, "out"))
	if sum.Rows != 1 || sum.Foreign != 1 || sum.Unreadable != 7 || sum.FirstUnreadable != "topic out, partition 0, position 1" {
		t.Errorf("got %+v", sum)
	}
}

func TestATopicWithoutResultsIsAnExportWithoutRows(t *testing.T) {
	b := openJournal(t, map[string]int{"out": 4})
	sum, got := mustExport(t, b, options(t, "out"))
	if sum.Rows != 0 || sum.First != nil || len(got.files) != 0 {
		t.Errorf("got %+v", sum)
	}
}

// TestColumnsAreLearntFromTheResults has results of an earlier version of the pipeline.
func TestColumnsAreLearntFromTheResults(t *testing.T) {
	b := openJournal(t, map[string]int{"out": 1})
	at := func(h int) string { return fmt.Sprintf("2018-04-01T%02d:00:00Z", h) }
	publish(t, b, "out", "p",
		result("1", at(0), `,"features":{"a":1,"old":7,"gone":null}`),
		result("2", at(1), `,"features":{"a":2.5,"old":0.5,"n":1,"id":"x"},"outputs":{"extra":true}`),
		result("3", at(2), `,"score":"high","features":{"a":3,"n":1.5,"b":3,"big":12345678901234567890},"feature_times":{"a":"2018-03-01T00:00:00Z","m.risk":"2018-03-02T00:00:00Z"}`),
		result("4", at(3), `,"score":0.5,"features":{"b":true,"s":12,"at":"noon","hour":1},"features_complete":false,"fallback":true,"arrival":"2018-04-01T03:00:01Z"`))
	o := options(t, "out")
	o.Outputs = []Column{{"score", event.Float}}
	sum, got := mustExport(t, b, o)
	if d := cmp.Diff([]string{"a", "n", "s", "b", "at", "old", "feature.id", "big", "feature.hour"}, sum.Features); d != "" {
		t.Errorf("features:\n%s", d)
	}
	ns := func(month time.Month, day int) int64 {
		return time.Date(2018, month, day, 0, 0, 0, 0, time.UTC).UnixNano()
	}
	for id, want := range map[string]map[string]any{
		"1": {"a": 1.0, "old": 7.0, "n": nil, "extra": nil, "features_complete": true, "a@time": nil},
		"2": {"a": 2.5, "old": 0.5, "n": 1.0, "feature.id": "x", "id": "2", "extra": true},
		"3": {"a": 3.0, "n": 1.5, "b": "3", "score": "high", "big": 12345678901234567890.0, "a@time": ns(3, 1), "m.risk@time": ns(3, 2)},
		"4": {"b": "true", "score": "0.5", "s": "12", "at": "noon", "feature.hour": int64(1), "features_complete": false, "fallback": true,
			"arrival": ns(4, 1) + 3*nsHour + 1e9},
	} {
		for k, v := range want {
			if g, there := got.rows[id][k]; g != v || !there {
				t.Errorf("row %s: %s is %v (%T), expected %v (%T)", id, k, g, g, v, v)
			}
		}
	}
	if _, there := got.rows["1"]["gone"]; there {
		t.Error("a feature that is always null has a column")
	}
}

func TestDelayedFeaturesSayAsOfWhen(t *testing.T) {
	b := openJournal(t, map[string]int{"out": 1})
	publish(t, b, "out", "p",
		result("1", "2018-04-08T00:00:00Z", `,"features":{"risk":0.5}`),
		result("2", "2018-04-08T01:00:00Z", `,"features":{"risk":0.5},"feature_times":{"risk":"2018-03-01T00:00:00Z"}`))
	o := options(t, "out")
	o.Features = []Feature{{Column: Column{"risk", event.Float}, Delay: 7 * 24 * time.Hour}, {Column: Column{"m.x", event.Float}, Timed: true}}
	_, got := mustExport(t, b, o)
	if v := got.rows["1"]["risk@time"]; v != time.Date(2018, 4, 1, 0, 0, 0, 0, time.UTC).UnixNano() {
		t.Errorf("as of %v", v)
	}
	if v := got.rows["2"]["risk@time"]; v != time.Date(2018, 3, 1, 0, 0, 0, 0, time.UTC).UnixNano() {
		t.Errorf("as of %v", v)
	}
	if v, there := got.rows["1"]["m.x@time"]; v != nil || !there {
		t.Errorf("a look-up without a time has %v", v)
	}
}

func labelContract(t *testing.T) *contract.Contract {
	t.Helper()
	c, err := contract.Parse("labels", []byte(`{"$schema":"https://json-schema.org/draft/2020-12/schema",
		"x-freshet":{"id":"label","key":"tx","time":{"field":"known"}}, "type":"object","required":["tx","known"],
		"properties":{"label":{"type":"string"},"tx":{"type":"integer"},"known":{"type":"string"},"fraud":{"type":"integer"},"by":{"type":["string","null"]},"sure":{"type":"boolean"},"loss":{"type":"number"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheLastLabelIsJoined(t *testing.T) {
	b := openJournal(t, map[string]int{"out": 2, "labels": 3})
	for i := range 4 {
		publish(t, b, "out", "p", result(fmt.Sprint(i), "2018-04-01T00:00:00Z", ""))
	}
	publish(t, b, "labels", "x",
		`{"tx":1,"known":"2018-04-08T00:00:00Z","fraud":1,"by":"bank","sure":true,"loss":12.5}`,
		`{"tx":2,"known":"2018-04-08T00:00:00Z","fraud":1}`,
		`{"tx":2,"known":"2018-04-10T00:00:00Z","fraud":0,"by":null,"loss":0.1}`,
		`{"tx":2,"known":"2018-04-09T00:00:00Z","fraud":1,"by":"late"}`,
		`{"tx":99,"known":"2018-04-09T00:00:00Z","fraud":1}`, `{"tx":"no"}`)
	o := options(t, "out")
	o.Labels = &Labels{Topic: "labels", Contract: labelContract(t), Event: "tx", Default: map[string]any{"fraud": 0.0, "sure": false}}
	sum, got := mustExport(t, b, o)
	if d := cmp.Diff(&LabelSummary{Read: 6, Invalid: 1, Joined: 2}, sum.Labels); d != "" {
		t.Errorf("labels:\n%s", d)
	}
	day := func(d int) int64 { return time.Date(2018, 4, d, 0, 0, 0, 0, time.UTC).UnixNano() }
	for id, want := range map[string][]any{
		"0": {nil, int64(0), nil, false, nil},
		"1": {day(8), int64(1), "bank", true, 12.5},
		"2": {day(10), int64(0), nil, nil, 0.1},
	} {
		var have []any
		for _, c := range []string{"label_time", "label.fraud", "label.by", "label.sure", "label.loss"} {
			have = append(have, got.rows[id][c])
		}
		if d := cmp.Diff(want, have); d != "" {
			t.Errorf("row %s:\n%s", id, d)
		}
	}
	for _, c := range []string{"label.tx", "label.label", "label.known"} {
		if _, there := got.rows["0"][c]; there {
			t.Errorf("%s is a column", c)
		}
	}
}

func TestAnHourOfManyRowsHasSeveralRowGroups(t *testing.T) {
	b := openJournal(t, map[string]int{"out": 1})
	const n = 1010
	payloads := make([]string, n)
	for i := range payloads {
		payloads[i] = result(strconv.Itoa(i), "2018-04-01T00:00:00Z", `,"features":{"a":`+strconv.Itoa(i)+`.5,"s":"`+strconv.Itoa(i)+`"}`)
	}
	publish(t, b, "out", "p", payloads...)
	o := options(t, "out")
	o.group = 100
	_, got := mustExport(t, b, o)
	if len(got.rows) != n || len(got.files) != 1 || got.groups != 11 {
		t.Errorf("%d rows in %d groups of %v", len(got.rows), got.groups, got.files)
	}
	for i := range n {
		if r := got.rows[strconv.Itoa(i)]; r["a"] != float64(i)+0.5 || r["s"] != strconv.Itoa(i) {
			t.Fatalf("row %d: %v", i, r)
		}
	}
}

func TestAMissingTopicIsNotFound(t *testing.T) {
	b := openJournal(t, nil)
	o := options(t, "out")
	if _, err := Export(t.Context(), b, o); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("got %v", err)
	}
	if l := leftovers(t, o.Dir); l != nil {
		t.Errorf("left: %v", l)
	}
	if _, err := os.Stat(o.Dir); err == nil {
		t.Error("the folder is there")
	}
}

// TestRunsOfSeveralTasksMakeOneFileAnHour has results of three tasks one after the other, as they lie in a topic.
func TestRunsOfSeveralTasksMakeOneFileAnHour(t *testing.T) {
	b := openJournal(t, map[string]int{"out": 1})
	for task := range 3 {
		for h := range 24 {
			publish(t, b, "out", "p", result(fmt.Sprint(task, "-", h), fmt.Sprintf("2018-04-01T%02d:%02d:00Z", h, task), ""))
		}
	}
	if _, got := mustExport(t, b, options(t, "out")); len(got.files) != 24 || len(got.rows) != 72 {
		t.Errorf("%d rows in %d files", len(got.rows), len(got.files))
	}
}
