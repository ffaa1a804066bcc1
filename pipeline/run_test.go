package pipeline_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/pipeline"
)

// payments is the pipeline that the tests run: good.yaml of the lint tests.
const payments = "testdata/lint/good.yaml"

// refuser is a model that refuses negative first inputs and answers 0.001 times the first.
type refuser struct{ err error }

func (refuser) Metadata() inference.Metadata {
	return inference.Metadata{
		Name: "refuser", Version: "1",
		Inputs:  []inference.Signature{{Name: "x", Type: inference.Float64, Shape: []int{2}}},
		Outputs: []inference.Signature{{Name: "y", Type: inference.Float64, Shape: []int{1}}},
	}
}
func (refuser) Concurrency() int { return 2 }
func (refuser) Close() error     { return nil }
func (m refuser) Infer(_ context.Context, in, out []inference.Tensor) error {
	n := in[0].Rows()
	out[0].Type, out[0].Shape, out[0].F64 = inference.Float64, []int{n, 1}, make([]float64, n)
	for i := range n {
		if v := in[0].F64[2*i]; v > 1000 {
			return m.err
		}
		out[0].F64[i] = in[0].F64[2*i] / 1000
	}
	return nil
}

// setup is a pipeline on a journal of its own.
type setup struct {
	t    testing.TB
	dir  string
	file string
	j    broker.Driver
	b    *broker.Broker
	open func(string) (inference.Driver, error)
}

func newSetup(t testing.TB, file string) *setup {
	s := &setup{t: t, dir: t.TempDir(), file: file, open: openONNX}
	s.reopen(journal.Options{MaxRecordBytes: 8 << 10})
	t.Cleanup(func() { s.b.Close() })
	return s
}

func (s *setup) reopen(o journal.Options) {
	s.t.Helper()
	if s.b != nil {
		if err := s.b.Close(); err != nil {
			s.t.Fatal(err)
		}
	}
	j, err := journal.Open(s.dir, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.j, s.b = j, broker.New(j, broker.Options{})
}

func (s *setup) pipeline() (*pipeline.Pipeline, error) {
	s.t.Helper()
	spec, faults := pipeline.Load(s.file, nil)
	if faults != nil {
		s.t.Fatal(pipeline.Error(faults))
	}
	plan, faults := pipeline.MakePlan(spec, pipeline.Files(s.open))
	if faults != nil {
		s.t.Fatal(pipeline.Error(faults))
	}
	return pipeline.New(plan, pipeline.Deps{Broker: s.b})
}

// run processes everything that is there.
func (s *setup) run() (pipeline.Stats, error) {
	s.t.Helper()
	p, err := s.pipeline()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	err = p.Run(ctx, pipeline.RunOptions{UntilIdle: true})
	return p.Stats(), err
}

func (s *setup) mustRun() pipeline.Stats {
	s.t.Helper()
	st, err := s.run()
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

func (s *setup) send(payloads ...string) {
	s.t.Helper()
	err := s.b.CreateTopic(s.t.Context(), broker.TopicConfig{Name: "payments", Partitions: 2, DedupWindow: time.Hour})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range payloads {
		rec := event.Record{Value: []byte(p)}
		var v struct{ ID, Customer string }
		if json.Unmarshal(rec.Value, &v) == nil {
			rec.ID, rec.Key = []byte(v.ID), []byte(v.Customer)
		}
		if _, err := s.b.Publish(s.t.Context(), "payments", []event.Record{rec}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// read returns every record of a topic, by partition and position.
func (s *setup) read(topic string) (out []map[string]any) {
	s.t.Helper()
	info, err := s.b.Describe(s.t.Context(), topic, "")
	if err != nil {
		s.t.Fatal(err)
	}
	for i, p := range info.Partitions {
		r, err := s.b.Read(s.t.Context(), topic, i, p.Start)
		if err != nil {
			s.t.Fatal(err)
		}
		for next := p.Start; next < p.End; {
			b, err := r.Fetch(s.t.Context(), 100)
			if err != nil {
				s.t.Fatal(err)
			}
			for j := range b.Records {
				var v map[string]any
				if err := json.Unmarshal(b.Records[j].Value, &v); err != nil {
					s.t.Fatalf("%s: %v", b.Records[j].Value, err)
				}
				out = append(out, v)
			}
			next = b.Next()
			b.Release()
		}
		r.Close()
	}
	return out
}

func payment(id int, customer string, amount float64, at time.Duration, more string) string {
	return fmt.Sprintf(`{"id":"p%d","customer":%q,"merchant":%d,"amount":%v,"at":%q%s}`, id, customer, 1+id%3, amount,
		time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(at).Format(time.RFC3339), more)
}

func TestEveryEventBecomesOneResultOrOneDeadLetter(t *testing.T) {
	s := newSetup(t, payments)
	s.send(
		payment(1, "ann", 100, 0, ""),
		payment(2, "bob", 700, time.Minute, ""),
		`{"id":"broken"`,
		payment(3, "ann", 300, 23*time.Hour, ""),
		"",
		"\xff\xfe",
		"{\"id\":\"p9\xff\"}",
		payment(4, "ann", -5, 24*time.Hour, ""),
		payment(5, "ann", 50, 24*time.Hour, ""), // the first is exactly a day old and out
		payment(2, "bob", 700, time.Minute, ""), // sent again
		payment(6, "cid", 1, -100*365*24*time.Hour, ""),
		payment(7, "cid", 1, 100*365*24*time.Hour, ""),
		payment(8, "dan", 1, 0, `,"note":"`+strings.Repeat("x", 4000)+`"`),
	)
	st := s.mustRun()
	if st.Consumed != 12 || st.Predictions != 5 || st.Letters() != 7 {
		t.Errorf("consumed %d, predictions %d, dead letters %v", st.Consumed, st.Predictions, st.DeadLetters)
	}
	type row struct {
		ID, Route  string
		Score      float64
		Count      float64
		Mean, Risk any
	}
	got := map[string]row{}
	for _, topic := range []string{"scored", "alerts"} {
		for _, r := range s.read(topic) {
			f := r["features"].(map[string]any)
			got[r["source_id"].(string)] = row{topic, r["route"].(string), r["score"].(float64), f["tx_1d"].(float64), f["mean_7d"], f["merchant_row.risk"]}
			if r["model"] != "two" || r["version"] != "7" || r["contract"] != "1.0.0" || len(r["id"].(string)) != 32 {
				t.Errorf("result %v", r)
			}
		}
	}
	want := map[string]row{
		"p1": {"scored", "scored", 0.2, 1, 100.0, 0.5},
		"p2": {"alerts", "alerts", 0.8000001, 1, 700.0, 0.1}, // merchant 3 is not in the table
		"p3": {"scored", "scored", 0.5, 2, 200.0, 0.25},
		"p5": {"scored", "scored", 0.25, 2, 150.0, 0.1},
		"p8": {"scored", "scored", 0.101, 1, 1.0, 0.1},
	}
	want["p3"] = row{"alerts", "alerts", 0.5, 2, 200.0, 0.25}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("results (-want +got)\n%s", d)
	}
	reasons := map[string]int{}
	for _, l := range s.read("payments-dead-letters") {
		reasons[l["reason"].(string)]++
		o := l["origin"].(map[string]any)
		if l["step"] != "validate" || l["attempts"] != 1.0 || o["topic"] != "payments" || o["position"] == nil || l["error"] == "" {
			t.Errorf("dead letter %v", l)
		}
		if _, ok := l["payload"]; !ok {
			t.Errorf("dead letter without payload: %v", l)
		}
	}
	if d := cmp.Diff(map[string]int{"invalid_json": 2, "empty": 1, "invalid_utf8": 1, "schema": 1, "time_out_of_range": 2}, reasons); d != "" {
		t.Errorf("reasons (-want +got)\n%s", d)
	}
}

func TestRowsThatTheModelRefusesBecomeDeadLetters(t *testing.T) {
	s := newSetup(t, payments)
	s.open = func(string) (inference.Driver, error) {
		return refuser{errkind.New(errkind.Invalid, "too much")}, nil
	}
	s.send(payment(1, "ann", 1, 0, ""), payment(2, "ann", 5000, 1, ""), payment(3, "ann", 2, 2, ""))
	st := s.mustRun()
	if st.Predictions != 2 || st.DeadLetters["inference"] != 1 || st.Failures != 1 {
		t.Errorf("predictions %d, dead letters %v, failures %d", st.Predictions, st.DeadLetters, st.Failures)
	}
	if l := s.read("payments-dead-letters"); len(l) != 1 || l[0]["step"] != "infer" || !strings.Contains(l[0]["error"].(string), "too much") {
		t.Errorf("dead letters %v", l)
	}
}

func TestTheFallbackScoresWhatTheModelCannot(t *testing.T) {
	text, err := os.ReadFile(payments)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pipeline.yaml")
	here, _ := filepath.Abs("testdata")
	changed := strings.ReplaceAll(strings.Replace(string(text), "batch: {max: 64}", `fallback: {expr: "amount > 220.0 ? 0.9 : 0.1"}`, 1), "../", here+"/")
	if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newSetup(t, file)
	s.open = func(string) (inference.Driver, error) {
		return refuser{errkind.New(errkind.Permanent, "down")}, nil
	}
	s.send(payment(1, "ann", 1, 0, ""), payment(2, "ann", 5000, 1, ""))
	st := s.mustRun()
	if st.Predictions != 2 || st.Fallbacks != 1 || st.Letters() != 0 {
		t.Errorf("predictions %d, fallbacks %d, dead letters %v", st.Predictions, st.Fallbacks, st.DeadLetters)
	}
	if a := s.read("alerts"); len(a) != 1 || a[0]["score"] != 0.9 || a[0]["fallback"] != true {
		t.Errorf("alerts %v", a)
	}
	if a := s.read("scored"); len(a) != 1 || a[0]["score"] != 0.001 || a[0]["fallback"] != nil {
		t.Errorf("scored %v", a)
	}
}

func TestAResultTooLargeForTheBrokerIsADeadLetterAtOnce(t *testing.T) {
	s := newSetup(t, payments)
	// The id is repeated in the result, so a long one makes the result longer than the event.
	long := strings.Repeat("i", 3900)
	s.send(fmt.Sprintf(`{"id":%q,"customer":"ann","amount":1,"at":"2026-01-01T00:00:00Z"}`, long), payment(1, "ann", 1, time.Second, ""))
	s.reopen(journal.Options{MaxRecordBytes: 4 << 10})
	st := s.mustRun()
	if st.Predictions != 1 || st.DeadLetters["result_too_large"] != 1 {
		t.Errorf("predictions %d, dead letters %v", st.Predictions, st.DeadLetters)
	}
	l := s.read("payments-dead-letters")
	if len(l) != 1 || l[0]["payload_cut"] != true || l[0]["step"] != "route" {
		t.Errorf("dead letters %v", l)
	}
}

func TestARestartContinuesWithTheStateAtTheCommittedPosition(t *testing.T) {
	var all []string
	for i := range 600 {
		all = append(all, payment(i, fmt.Sprintf("c%d", i%7), float64(i%50)+0.1*float64(i%10), time.Duration(i)*17*time.Minute, ""))
	}
	whole := newSetup(t, payments)
	whole.send(all...)
	whole.mustRun()
	parts := newSetup(t, payments)
	for at := 0; at < len(all); at += 100 {
		parts.send(all[at : at+100]...)
		parts.mustRun()
		parts.reopen(journal.Options{})
	}
	for _, topic := range []string{"scored", "alerts"} {
		if d := cmp.Diff(whole.read(topic), parts.read(topic)); d != "" {
			t.Errorf("%s: one run (-) and six (+) differ\n%s", topic, d)
		}
	}
}

func TestStateThatCannotBeKeptIsRefused(t *testing.T) {
	s := newSetup(t, payments)
	s.send(payment(1, "ann", 1, 0, ""), payment(2, "bob", 1, 0, ""))
	s.mustRun()
	text, err := os.ReadFile(payments)
	if err != nil {
		t.Fatal(err)
	}
	here, _ := filepath.Abs("testdata")
	s.file = filepath.Join(t.TempDir(), "pipeline.yaml")
	changed := strings.ReplaceAll(strings.Replace(string(text), "over: 7d", "over: 9d", 1), "../", here+"/")
	if err := os.WriteFile(s.file, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	s.send(payment(3, "ann", 1, time.Minute, ""), payment(4, "bob", 1, time.Minute, ""))
	if _, err := s.run(); err == nil || !strings.Contains(err.Error(), "grew from 168h to 216h") || !strings.Contains(err.Error(), "--new-windows-empty") {
		t.Fatalf("run says %v", err)
	}
	if err := s.b.DeleteTopic(t.Context(), "payments-state"); err != nil {
		t.Fatal(err)
	}
	if st := s.mustRun(); st.Predictions != 2 {
		t.Errorf("%d predictions after the state was deleted", st.Predictions)
	}
}

func TestEventsThatAreNotKeyedByTheWindowsKeyAreDeadLetters(t *testing.T) {
	s := newSetup(t, payments)
	s.send() // makes the topic with two partitions
	var recs []event.Record
	for i := range 40 {
		r := event.Record{Value: []byte(payment(i, fmt.Sprintf("c%d", i%5), 1, time.Duration(i)*time.Second, ""))}
		if i < 20 {
			r.Key = fmt.Appendf(nil, "c%d", i%5)
		}
		recs = append(recs, r)
	}
	if _, err := s.b.Publish(t.Context(), "payments", recs); err != nil {
		t.Fatal(err)
	}
	st := s.mustRun()
	wrong := st.DeadLetters["wrong_partition"]
	if wrong == 0 || wrong == 20 || st.Predictions+wrong != 40 || st.Letters() != wrong {
		t.Fatalf("%d predictions, dead letters %v", st.Predictions, st.DeadLetters)
	}
	counts := map[string]int{}
	for _, r := range append(s.read("scored"), s.read("alerts")...) {
		key := r["key"].(string)
		counts[key]++
		if n := r["features"].(map[string]any)["tx_1d"].(float64); int(n) != counts[key] {
			t.Errorf("payment %v of %s counts %v, not %d", r["source_id"], key, n, counts[key])
		}
	}
	for _, l := range s.read("payments-dead-letters") {
		if !strings.Contains(l["payload"].(string), l["error"].(string)[len(`the key "`):][:2]) {
			t.Errorf("the letter is about another event: %v", l)
		}
	}
}

func TestCancellingDrainsAndIsNoError(t *testing.T) {
	s := newSetup(t, payments)
	s.send(payment(1, "ann", 1, 0, ""))
	p, err := s.pipeline()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, pipeline.RunOptions{}) }()
	for p.Stats().Predictions == 0 {
		select {
		case err := <-ended:
			t.Fatalf("ended early: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	if !p.Ready() {
		t.Error("not ready while it works")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if lag, err := p.Lag(t.Context()); err != nil || lag.Records != 0 {
		t.Errorf("lag %+v, %v", lag, err)
	}
}

func TestABrokerThatFailsEndsTheRunWithItsError(t *testing.T) {
	s := newSetup(t, payments)
	s.send(payment(1, "ann", 1, 0, ""))
	full := errkind.New(errkind.Exhausted, "no space left on device")
	s.b = broker.New(&failing{s.j, full}, broker.Options{})
	if _, err := s.run(); !errors.Is(err, full) {
		t.Errorf("run says %v", err)
	}
	s.b = broker.New(s.j, broker.Options{})
	if st := s.mustRun(); st.Predictions != 1 {
		t.Errorf("%d predictions once there is space again", st.Predictions)
	}
}

// failing is a journal whose commits fail.
type failing struct {
	broker.Driver
	err error
}

func (f *failing) Commit(context.Context, *broker.Tx) error { return f.err }
func (f *failing) CreateTopic(ctx context.Context, c broker.TopicConfig) error {
	return f.Driver.(broker.Admin).CreateTopic(ctx, c)
}
func (f *failing) DeleteTopic(ctx context.Context, n string) error {
	return f.Driver.(broker.Admin).DeleteTopic(ctx, n)
}
func (f *failing) Topics(ctx context.Context) ([]string, error) {
	return f.Driver.(broker.Admin).Topics(ctx)
}
func (f *failing) Trim(ctx context.Context, topic string, p int, at int64) error {
	return f.Driver.(broker.Admin).Trim(ctx, topic, p, at)
}
func (f *failing) Seek(ctx context.Context, topic string, p int, at time.Time) (int64, error) {
	return f.Driver.(broker.Admin).Seek(ctx, topic, p, at)
}

func TestCasesPassAndDifferencesAreReadable(t *testing.T) {
	cases, faults := pipeline.LoadCases("testdata/cases.yaml")
	if faults != nil {
		t.Fatal(pipeline.Error(faults))
	}
	deps := pipeline.CaseDeps{OpenModel: pipeline.Files(openONNX), NewBroker: func() (*broker.Broker, func() error, error) {
		j, err := journal.Open(t.TempDir(), journal.Options{})
		if err != nil {
			return nil, nil, err
		}
		b := broker.New(j, broker.Options{})
		return b, b.Close, nil
	}}
	var got strings.Builder
	for i := range cases {
		r := pipeline.RunCase(t.Context(), payments, &cases[i], deps)
		fmt.Fprintf(&got, "%s: passed %v\n", r.Name, r.Passed())
		for _, d := range r.Differences {
			fmt.Fprintf(&got, "  %s\n", d)
		}
		if r.Error != "" {
			fmt.Fprintf(&got, "  error: %s\n", r.Error)
		}
	}
	const golden = "testdata/cases.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
