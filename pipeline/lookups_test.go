package pipeline_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/pipeline"
)

// TestATopicTableHasTheNewestRowOfEachKey: what stands last on the topic counts,
// be it a row or the key's removal, and what comes while the pipeline runs too.
func TestATopicTableHasTheNewestRowOfEachKey(t *testing.T) {
	s := newSetup(t, inline(t, `
name: rows
source: {topic: payments, contract: @contracts/payment.schema.json, key: customer, partitions: 1}
tables:
  people: {topic: people, contract: @contracts/payment.schema.json, key: customer}
steps:
  - features:
      person: {lookup: people, key: customer, fields: [amount, amount@age], default: {amount: -1}}
  - route: [{to: looked}]
`))
	for _, name := range []string{"payments", "people"} {
		if err := s.b.CreateTopic(t.Context(), broker.TopicConfig{Name: name, Partitions: 1}); err != nil {
			t.Fatal(err)
		}
	}
	row := func(customer string, amount float64) event.Record {
		return event.Record{Key: []byte(customer), Value: []byte(payment(0, customer, amount, 0, ""))}
	}
	gone := func(customer string) event.Record { return event.Record{Key: []byte(customer)} }
	publish(t, s.b, "people", row("ann", 1), row("bob", 2), gone("bob"), gone("cid"), row("cid", 3), row("ann", 4),
		event.Record{Key: []byte("ann"), Value: []byte("no row")})
	p, err := s.pipeline()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, pipeline.RunOptions{}) }()
	for i, c := range []string{"ann", "bob", "cid"} {
		publish(t, s.b, "payments", event.Record{Key: []byte(c), Value: []byte(payment(i, c, 9, time.Minute, ""))})
	}
	await(t, func() bool { return p.Stats().Predictions == 3 })
	publish(t, s.b, "people", row("bob", 7), gone("ann"))
	// The table follows its topic by itself: ask until it has caught up.
	seen := 3
	await(t, func() bool {
		publish(t, s.b, "payments", event.Record{Key: []byte("ann"), Value: []byte(payment(100+seen, "ann", 9, 2*time.Minute, ""))},
			event.Record{Key: []byte("bob"), Value: []byte(payment(1000+seen, "bob", 9, 2*time.Minute, ""))})
		seen++
		rows := s.read("looked")
		if len(rows) == 0 {
			return false
		}
		last := map[string]any{}
		for _, r := range rows {
			last[r["key"].(string)] = r["features"].(map[string]any)["person.amount"]
		}
		return last["ann"] == -1.0 && last["bob"] == 7.0
	})
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	type looked struct {
		Amount, Age, Complete any
		Times                 bool
	}
	got := map[string]looked{}
	for _, r := range s.read("looked")[:3] {
		f := r["features"].(map[string]any)
		_, times := r["feature_times"]
		got[r["key"].(string)] = looked{f["person.amount"], f["person.amount@age"], r["features_complete"], times}
	}
	want := map[string]looked{"ann": {4.0, 60.0, true, true}, "bob": {-1.0, nil, false, false}, "cid": {3.0, 60.0, true, true}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestCasesMaySendLabels: a label counts for the events at its time and behind.
func TestCasesMaySendLabels(t *testing.T) {
	file := inline(t, labelsByEvent)
	deps := pipeline.CaseDeps{OpenModel: pipeline.Files(openONNX), NewBroker: func() (*broker.Broker, func() error, error) {
		j, err := journal.Open(t.TempDir(), journal.Options{})
		if err != nil {
			return nil, nil, err
		}
		b := broker.New(j, broker.Options{})
		return b, b.Close, nil
	}}
	cases, faults := pipeline.LoadCases(inline(t, `
cases:
  - name: a label counts from its time on
    events:
      - send: {id: a, customer: ann, merchant: 1, amount: 1, at: "2026-01-01T00:00:00Z"}
        expect: {features: {rate: 0}}
      - label: {payment: a, fraud: true, known_at: "2026-01-01T00:10:00Z"}
      - label: {payment: a, known_at: "2026-01-01T00:11:00Z"}
      - send: {id: b, customer: ann, merchant: 1, amount: 1, at: "2026-01-01T00:09:59Z"}
        expect: {features: {rate: 0}}
      - send: {id: c, customer: ann, merchant: 1, amount: 1, at: "2026-01-01T00:10:00Z"}
        expect: {features: {rate: {above: 0.33, below: 0.34}}}
  - name: a difference is told
    events:
      - send: {id: a, customer: ann, merchant: 1, amount: 1, at: "2026-01-01T00:00:00Z"}
        expect: {features: {rate: 1}}
`))
	if faults != nil {
		t.Fatal(pipeline.Error(faults))
	}
	for i, passes := range []bool{true, false} {
		r := pipeline.RunCase(t.Context(), file, &cases[i], deps)
		if r.Error != "" || r.Passed() != passes {
			t.Errorf("%s: %v %s", r.Name, r.Differences, r.Error)
		}
	}
	_, faults = pipeline.LoadCases(inline(t, `
cases:
  - name: a label has no outcome
    events: [{label: {payment: a}, expect: {rate: 1}}]
`))
	if len(faults) != 1 || faults[0].Rule != "label-case" || !strings.Contains(faults[0].Message, "expect") {
		t.Errorf("faults %v", faults)
	}
}
