package export

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/lineage"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// payment is the record of the i-th payment: three calls of four, a canary every fourth time.
func payment(i int) *lineage.Record {
	at := noon.Add(time.Duration(i) * time.Second)
	arrival, answered, published := at.Add(time.Millisecond), noon.Add(time.Duration(i/4*4+3)*time.Second+5*time.Millisecond), at.Add(4*time.Second)
	fresh := published.Sub(at).Seconds()
	version, role := "1", "champion"
	if i >= 8 {
		version, role = "2", "canary"
	}
	r := &lineage.Record{
		Pipeline: "fraud", Config: "c0ffee", Contract: "payment 1.0.0",
		Event: lineage.EventRecord{
			ID: string(rune('a' + i)), Key: "k", Topic: "payments", Partition: 1, Position: int64(i),
			Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033" + string("0123456789abcdef"[i]) + "1-01",
		},
		Result:   lineage.Result{ID: "r", Route: "scored"},
		Times:    lineage.Times{Event: at, Arrival: &arrival, Inference: &answered, Published: &published, Freshness: &fresh},
		Features: []lineage.Shown{{Name: "amount", Value: 1.5 * float64(i), Newest: &at}, {Name: "country", Value: "de"}, {Name: "risk", Value: "NaN", Newest: &at, DelaySeconds: 60}},
		Answers: []lineage.Answered{{
			Model: "risk", Version: version, Digest: "d" + version, Role: role, Path: "scored", Outputs: []lineage.Shown{{Name: "score", Value: 0.25}},
			Call: &lineage.Called{Answered: answered, BatchRows: 4, Flush: "idle", Attempts: 1},
		}},
	}
	if i%2 == 0 {
		r.Answers[0].Explanation = &lineage.Explanation{Method: "path", Link: "identity", Base: 0.1, Raw: 0.25, Attributions: []lineage.Attributed{{Input: "amount", Attribution: 0.15}}}
	}
	return r
}

func TestARunIsWhatAVersionAnsweredInAnInterval(t *testing.T) {
	o := &OpenLineage{Namespace: "shop", Every: time.Hour, Tables: []string{"merchants"}, Outputs: map[string][]string{"scored": {"scores", "all"}}, Version: "1.2.3"}
	back := &OpenLineage{Namespace: "shop", Every: time.Hour, Tables: []string{"merchants"}, Outputs: map[string][]string{"scored": {"scores", "all"}}, Version: "1.2.3"}
	for i := range 12 {
		o.Add(payment(i))
		back.Add(payment(11 - i))
	}
	events, err := o.Events()
	if err != nil {
		t.Fatal(err)
	}
	again, err := back.Events()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(events, again); d != "" {
		t.Errorf("another order gives other events:\n%s", d)
	}
	if len(events) != 4 {
		t.Fatalf("%d events, want a START and a COMPLETE of two versions", len(events))
	}
	var e struct {
		EventType, EventTime, Producer, SchemaURL string
		Run                                       struct {
			RunID  string `json:"runId"`
			Facets map[string]map[string]any
		}
		Job struct {
			Namespace, Name string
			Facets          map[string]map[string]any
		}
		Inputs, Outputs []struct {
			Namespace, Name      string
			Facets, OutputFacets map[string]map[string]any
		}
	}
	if err := json.Unmarshal(events[3], &e); err != nil {
		t.Fatal(err)
	}
	if e.EventType != "COMPLETE" || e.EventTime != "2026-01-31T12:00:15Z" || e.Producer == "" || !strings.Contains(e.SchemaURL, "/2-0-2/") ||
		!regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(e.Run.RunID) ||
		e.Job.Namespace != "shop" || e.Job.Name != "fraud" || e.Job.Facets["jobType"]["processingType"] != "STREAMING" {
		t.Errorf("event: %s", events[3])
	}
	if m := e.Run.Facets["freshet_model"]; m["version"] != "2" || m["digest"] != "d2" || m["role"] != "canary" {
		t.Errorf("model: %v", m)
	}
	if p := e.Run.Facets["freshet_predictions"]; p["rows"] != 4.0 || p["maxFreshnessSeconds"] != 4.0 {
		t.Errorf("predictions: %v", p)
	}
	if n := e.Run.Facets["nominalTime"]; n["nominalStartTime"] != "2026-01-31T12:00:00Z" || n["nominalEndTime"] != "2026-01-31T13:00:00Z" {
		t.Errorf("nominal time: %v", n)
	}
	if len(e.Inputs) != 2 || e.Inputs[0].Name != "payments" || e.Inputs[0].Facets["freshet_contract"]["contract"] != "payment 1.0.0" || e.Inputs[1].Name != "merchants" {
		t.Errorf("inputs: %+v", e.Inputs)
	}
	if len(e.Outputs) != 2 || e.Outputs[1].Name != "scores" || e.Outputs[1].OutputFacets["outputStatistics"]["rowCount"] != 4.0 {
		t.Errorf("outputs: %+v", e.Outputs)
	}
	for name, f := range e.Run.Facets {
		if f["_producer"] == nil || f["_schemaURL"] == nil {
			t.Errorf("facet %s lacks what every facet has", name)
		}
	}
}

func TestEventsArePostedAndFailByKind(t *testing.T) {
	status, got := 201, 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || !json.Valid(b) || r.Header.Get("Authorization") != "Bearer s3cret" {
			t.Errorf("%s %s %q", r.Method, b, r.Header)
		}
		got++
		w.WriteHeader(status)
	}))
	defer srv.Close()
	events := [][]byte{[]byte("{}"), []byte("{}")}
	send := func() error { return Post(t.Context(), srv.Client(), srv.URL, "s3cret", time.Minute, events) }
	if err := send(); err != nil || got != 2 {
		t.Errorf("%d arrived: %v", got, err)
	}
	for s, kind := range map[int]errkind.Kind{503: errkind.Transient, 429: errkind.Throttled, 401: errkind.Config, 422: errkind.Invalid} {
		status = s
		if err := send(); !errkind.Is(err, kind) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("status %d: %v", s, err)
		}
	}
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer slow.Close()
	if err := Post(t.Context(), slow.Client(), slow.URL, "", 50*time.Millisecond, events); !errkind.Is(err, errkind.Transient) {
		t.Errorf("a receiver that does not answer: %v", err)
	}
}

// receiver is an OTLP receiver over HTTP.
func receiver(t *testing.T, got *[]*spans.Span) *httptest.Server {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		in := io.Reader(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				t.Error(err)
				return
			}
			in = z
		}
		b, err := io.ReadAll(in)
		if err != nil {
			t.Error(err)
		}
		var req collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(b, &req); err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				*got = append(*got, ss.Spans...)
			}
		}
		answer, _ := proto.Marshal(&collector.ExportTraceServiceResponse{})
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(answer)
	}))
	t.Cleanup(srv.Close)
	return srv
}

func TestACallIsASpanWithLinksToItsEvents(t *testing.T) {
	var got []*spans.Span
	srv := receiver(t, &got)
	for range 2 { // the second time gives the same ids
		e, err := OTLP(t.Context(), srv.URL, "", 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		s := NewSpans(e, "freshet", "1.2.3")
		for i := range 12 {
			if err := s.Add(t.Context(), payment(i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(t.Context()); err != nil || s.Exported != 3 {
			t.Fatalf("%d spans: %v", s.Exported, err)
		}
	}
	if len(got) != 6 {
		t.Fatalf("%d spans arrived, want 3 twice", len(got))
	}
	for i := range 3 {
		if !bytes.Equal(got[i].TraceId, got[i+3].TraceId) || !bytes.Equal(got[i].SpanId, got[i+3].SpanId) {
			t.Errorf("span %d has other ids the second time", i)
		}
	}
	s := got[0]
	if len(s.Links) != 4 || len(s.TraceId) != 16 || s.Name != "predict risk" {
		t.Errorf("span: %v", s)
	}
	if d := time.Duration(s.EndTimeUnixNano - s.StartTimeUnixNano); d != 4*time.Millisecond {
		t.Errorf("the span takes %v, from the last arrival to the answer it is 4ms", d)
	}
	attributes := map[string]string{}
	for _, a := range s.Attributes {
		attributes[a.Key] = strings.TrimSpace(a.Value.GetStringValue())
	}
	for k, want := range map[string]string{"gen_ai.request.model": "risk", "gen_ai.response.model": "risk@1", "messaging.destination.name": "payments", "freshet.model.role": "champion"} {
		if attributes[k] != want {
			t.Errorf("attribute %s is %q, want %q", k, attributes[k], want)
		}
	}
}

func TestSpansThatNobodyTakesAreAnError(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	defer srv.Close()
	e, err := OTLP(t.Context(), srv.URL, "", 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSpans(e, "freshet", "")
	if err := s.Add(t.Context(), payment(0)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); !errkind.Is(err, errkind.Transient) || s.Exported != 0 {
		t.Errorf("%d exported: %v", s.Exported, err)
	}
}

func TestATableHasEveryValueOfARecord(t *testing.T) {
	var c Columns
	for i := range 12 {
		c.Learn(payment(i))
	}
	var b bytes.Buffer
	w, err := NewTable(&b, &c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		if err := w.Write(payment(i)); err != nil {
			t.Fatal(err)
		}
	}
	odd := payment(0)
	odd.Features = append(odd.Features, lineage.Shown{Name: "new", Value: true})
	if err := w.Write(odd); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("a column that was not learnt: %v", err)
	}
	b.Reset()
	if w, err = NewTable(&b, &c); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		if err := w.Write(payment(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := file.NewParquetReader(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	if err != nil {
		t.Fatal(err)
	}
	table, err := fr.ReadTable(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer table.Release()
	column := func(name string) any {
		at := table.Schema().FieldIndices(name)
		if len(at) != 1 {
			t.Fatalf("no column %s in %v", name, table.Schema())
		}
		return table.Column(at[0]).Data().Chunk(0)
	}
	if a := column("amount").(*array.Float64); a.Len() != 12 || a.Value(3) != 4.5 {
		t.Errorf("amount: %v", a)
	}
	if a := column("version").(*array.String); a.Value(7) != "1" || a.Value(8) != "2" {
		t.Errorf("version: %v", a)
	}
	if a := column("risk").(*array.Float64); a.IsNull(0) || a.Value(0) == a.Value(0) {
		t.Errorf("risk is NaN and not null: %v", a)
	}
	if a := column("attribution.amount").(*array.Float64); a.Value(0) != 0.15 || !a.IsNull(1) {
		t.Errorf("attributions: %v", a)
	}
	if a := column("position").(*array.Int64); a.Value(11) != 11 {
		t.Errorf("position: %v", a)
	}
	if a := column("risk@time").(*array.Timestamp); int64(a.Value(2)) != noon.Add(2*time.Second).UnixNano() {
		t.Errorf("time of risk: %v", a)
	}
}
