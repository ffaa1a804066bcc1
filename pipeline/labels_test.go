package pipeline_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/pipeline"
)

// inline writes a pipeline file; @contracts in it are those of testdata.
func inline(t testing.TB, text string) string {
	t.Helper()
	here, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "pipeline.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "@contracts", here+"/contracts")), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// runInPieces runs a pipeline again and again, each time for a few events, until
// nothing is left, and returns how often.
func (s *setup) runInPieces(events uint64) (runs int) {
	s.t.Helper()
	for idle := false; !idle; runs++ {
		p, err := s.pipeline()
		if err != nil {
			s.t.Fatal(err)
		}
		p.Shrink(16, 2<<10)
		ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx, pipeline.RunOptions{UntilIdle: true}) }()
		for ended := false; !ended; {
			select {
			case err = <-done:
				ended, idle = true, ctx.Err() == nil
			case <-time.After(time.Millisecond):
				if p.Stats().Consumed >= events {
					cancel()
				}
			}
		}
		cancel()
		if err != nil {
			s.t.Fatal(err)
		}
		s.reopen(journal.Options{MaxRecordBytes: 64 << 10})
	}
	return runs
}

// said is an event or a label of a history, in the order of time.
type said struct {
	label    bool
	at       time.Duration
	id       string // of the event, or of the one that the label is about
	customer string
	merchant int
	fraud    bool
	loss     float64 // negative for none
	kind     string
	faulty   bool
}

// history is payments and what became known about them, sorted: by time, labels first.
func history(n int, seed uint64) (hs []said) {
	r := rand.New(rand.NewPCG(seed, 6))
	minutes := func(n int) time.Duration { return time.Duration(r.IntN(n)) * time.Minute }
	at := time.Duration(0)
	taken := map[time.Duration]bool{} // no two labels at one instant: their order would be that of their partitions
	for i := range n {
		at += time.Duration(r.IntN(3)) * time.Minute
		e := said{id: fmt.Sprintf("p%05d", i), at: at, customer: fmt.Sprintf("c%d", r.IntN(12)), merchant: 1 + r.IntN(5)}
		hs = append(hs, e)
		for range r.IntN(3) {
			l := said{label: true, id: e.id, customer: e.customer, merchant: e.merchant, fraud: r.IntN(2) == 0, loss: -1, faulty: r.IntN(12) == 0}
			if r.IntN(3) > 0 {
				l.loss, l.kind = float64(r.IntN(40))/4, fmt.Sprintf("k%d", r.IntN(3))
			}
			if r.IntN(10) == 0 {
				l.id = "nobody"
			}
			// Some become known before their payment, which then has no use for them.
			if l.at = max(0, at-10*time.Minute+minutes(120)); r.IntN(4) > 0 {
				l.at += time.Duration(r.IntN(60)) * time.Second
			}
			if taken[l.at] {
				continue
			}
			taken[l.at] = true
			hs = append(hs, l)
		}
	}
	slices.SortStableFunc(hs, func(a, b said) int {
		if a.at != b.at {
			return int(a.at - b.at)
		}
		return strings.Compare(kindOf(b), kindOf(a))
	})
	return hs
}

func kindOf(s said) string {
	if s.label {
		return "label"
	}
	return "event"
}

func (h *said) record(byMerchant bool) event.Record {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(h.at).Format(time.RFC3339)
	switch {
	case h.faulty:
		return event.Record{Value: fmt.Appendf(nil, `{"payment":%q,"known_at":%q}`, h.id, at)}
	case !h.label:
		key := h.customer
		if byMerchant {
			key = itoa(h.merchant)
		}
		return event.Record{ID: []byte(h.id), Key: []byte(key), Value: fmt.Appendf(nil,
			`{"id":%q,"customer":%q,"merchant":%d,"amount":1,"at":%q}`, h.id, h.customer, h.merchant, at)}
	case h.loss < 0:
		return event.Record{Key: []byte(h.id), Value: fmt.Appendf(nil, `{"payment":%q,"merchant":%d,"fraud":%v,"known_at":%q}`, h.id, h.merchant, h.fraud, at)}
	}
	return event.Record{Key: []byte(h.id), Value: fmt.Appendf(nil, `{"payment":%q,"merchant":%d,"fraud":%v,"loss":%v,"kind":%q,"known_at":%q}`,
		h.id, h.merchant, h.fraud, h.loss, h.kind, at)}
}

// tell publishes a part of a history, in its order.
func (s *setup) tell(hs []said, byMerchant bool) {
	s.t.Helper()
	for _, c := range []broker.TopicConfig{{Name: "payments", Partitions: 3}, {Name: "verdicts", Partitions: 2}} {
		if err := s.b.CreateTopic(s.t.Context(), c); err != nil {
			s.t.Fatal(err)
		}
	}
	for len(hs) > 0 {
		n := 1
		for n < len(hs) && hs[n].label == hs[0].label {
			n++
		}
		topic := "payments"
		if hs[0].label {
			topic = "verdicts"
		}
		var recs []event.Record
		for i := range hs[:n] {
			recs = append(recs, hs[i].record(byMerchant))
		}
		publish(s.t, s.b, topic, recs...)
		hs = hs[n:]
	}
}

// paymentRow is a payment in the model.
type paymentRow struct {
	said
	label *said
}

// byEvent is what the pipeline with labels by event has to give.
func byEvent(hs []said) map[string]map[string]any {
	out := map[string]map[string]any{}
	var rows []*paymentRow
	for i := range hs {
		h := &hs[i]
		switch {
		case h.faulty:
			continue
		case h.label:
			for _, r := range rows {
				if r.id == h.id {
					r.label = h
				}
			}
			continue
		}
		me := &paymentRow{said: *h}
		rows = append(rows, me)
		var n, frauds, loss, known, recent float64
		kinds := map[string]bool{}
		for _, r := range rows {
			age := h.at - r.at
			if r.customer == h.customer && age < 2*time.Hour {
				n++ // without a label it counts as no fraud
				if r.label != nil && r.label.fraud {
					frauds++
				}
			}
			said := r.label != nil && r.label.loss >= 0
			if r.merchant == h.merchant && said && age >= time.Hour && age < 4*time.Hour {
				loss += r.label.loss
			}
			if r.customer == h.customer && said && age >= 30*time.Minute && age < 150*time.Minute {
				known++
			}
			if r.merchant == h.merchant && said && age < 4*time.Hour {
				kinds[r.label.kind] = true
			}
			if r.merchant == h.merchant && age < time.Hour {
				recent++
			}
		}
		out[h.id] = map[string]any{"rate": frauds / n, "loss_": loss, "known": known, "kinds": float64(len(kinds)), "recent": recent}
	}
	return out
}

const labelsByEvent = `
name: risk
source: {topic: payments, contract: @contracts/payment.schema.json, key: customer, partitions: 3, time: {lateness: 0s, order: id}}
labels: {topic: verdicts, contract: @contracts/label.schema.json, event: payment, default: {fraud: false}, partitions: 2}
steps:
  - features:
      rate:   {by: customer, mean: fraud, over: 2h}
      loss_:  {by: merchant, sum: loss, over: 3h, delay: 1h}
      known:  {by: customer, count: loss, over: 2h, delay: 30m}
      kinds:  {by: merchant, distinct: kind, over: 4h}
      recent: {by: merchant, count: true, over: 1h}
  - route: [{to: rated}]
`

// byKey is what the pipeline with labels by key has to give.
func byKey(hs []said) map[string]map[string]any {
	out := map[string]map[string]any{}
	for i := range hs {
		h := &hs[i]
		if h.label {
			continue
		}
		var loss, known, recent float64
		for j := range hs[:i+1] {
			l, age := &hs[j], h.at-hs[j].at
			switch {
			case l.merchant != h.merchant || l.faulty:
			case !l.label && age < time.Hour:
				recent++
			case l.label && l.loss >= 0 && age < 2*time.Hour:
				loss += l.loss
			}
			if l.label && !l.faulty && l.merchant == h.merchant && age >= 30*time.Minute && age < 90*time.Minute {
				known++
			}
		}
		out[h.id] = map[string]any{"loss_": loss, "known": known, "recent": recent}
	}
	return out
}

const labelsByKey = `
name: risk
source: {topic: payments, contract: @contracts/payment.schema.json, key: KEY, partitions: 3, time: {lateness: 0s, order: id}}
labels: {topic: verdicts, contract: @contracts/label.schema.json, key: merchant, partitions: 2}
steps:
  - features:
      loss_:  {by: merchant, sum: loss, over: 2h}
      known:  {by: merchant, count: fraud, over: 1h, delay: 30m}
      recent: {by: merchant, count: true, over: 1h}
  - route: [{to: rated}]
`

func TestLabelsCountInTheWindowsOfTheirEventsOrKeys(t *testing.T) {
	for _, c := range []struct {
		name, file string
		byMerchant bool
		want       func([]said) map[string]map[string]any
	}{
		{"by event", labelsByEvent, false, byEvent},
		{"by a key behind a shuffle", strings.Replace(labelsByKey, "KEY", "customer", 1), false, byKey},
		{"by the source's key", strings.Replace(labelsByKey, "KEY", "merchant", 1), true, byKey},
	} {
		hs := history(500, 7)
		want := c.want(hs)
		faulty := 0
		for _, h := range hs {
			if h.faulty {
				faulty++
			}
		}
		check := func(t *testing.T, s *setup) {
			t.Helper()
			if d := cmp.Diff(want, s.computed("rated")); d != "" {
				t.Errorf("(-want +got)\n%s", shortened(d))
			}
			letters := map[string]int{}
			for _, l := range s.read("risk-dead-letters") {
				o := l["origin"].(map[string]any)
				letters[fmt.Sprint(l["reason"], l["step"], o["topic"], o["partition"], "/", o["position"])]++
			}
			for at, n := range letters {
				if n > 1 || !strings.HasPrefix(at, "schemalabelsverdicts") {
					t.Errorf("%d dead letters %s", n, at)
				}
			}
			if len(letters) != faulty {
				t.Errorf("%d dead letters of %d faulty labels", len(letters), faulty)
			}
		}
		t.Run(c.name+", all there", func(t *testing.T) {
			s := newSetup(t, inline(t, c.file))
			s.tell(hs, c.byMerchant)
			s.mustRun()
			// Labels behind the last event have been read, or not.
			publish(t, s.b, "payments", (&said{id: "last", customer: "last", merchant: 99, at: hs[len(hs)-1].at + 1000*time.Hour}).record(c.byMerchant))
			s.mustRun()
			got := s.computed("rated")
			if got["last"] == nil {
				t.Error("no result for the last event")
			}
			want["last"] = got["last"]
			check(t, s)
			delete(want, "last")
		})
		t.Run(c.name+", stopped again and again", func(t *testing.T) {
			s := newSetup(t, inline(t, c.file))
			runs := 0
			for _, part := range [][]said{hs[:len(hs)/2], hs[len(hs)/2:]} {
				s.tell(part, c.byMerchant)
				runs += s.runInPieces(40)
			}
			t.Logf("%d runs", runs)
			publish(t, s.b, "payments", (&said{id: "last", customer: "last", merchant: 99, at: hs[len(hs)-1].at + 1000*time.Hour}).record(c.byMerchant))
			s.mustRun()
			want["last"] = s.computed("rated")["last"]
			check(t, s)
			delete(want, "last")
		})
	}
}

func TestLabelsThatComeWhileThePipelineRunsAreSeenByLaterEvents(t *testing.T) {
	hs := history(150, 8)
	s := newSetup(t, inline(t, labelsByEvent))
	s.tell(hs[:1], false)
	p, err := s.pipeline()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, pipeline.RunOptions{}) }()
	s.tell(hs[1:], false)
	want := byEvent(hs)
	await(t, func() bool { return p.Stats().Predictions == uint64(len(want)) })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, s.computed("rated")); d != "" {
		t.Errorf("(-want +got)\n%s", shortened(d))
	}
}
