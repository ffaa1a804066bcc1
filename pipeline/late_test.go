package pipeline_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/pipeline"
)

// arrived is a payment in the order of sending.
type arrived struct {
	id, customer string
	at           time.Duration
	late         bool // more than the lateness behind the newest of its partition
}

func (a *arrived) record() event.Record {
	return (&said{id: a.id, customer: a.customer, merchant: 1, at: a.at}).record(false)
}

const (
	lateParts = 2
	lateness  = 10 * time.Minute
)

// disorder is payments out of order, some of them late; ids ascend in time.
func disorder(n int, seed uint64) (as []arrived) {
	r := rand.New(rand.NewPCG(seed, 9))
	at := time.Hour
	for range n {
		at += time.Duration(r.IntN(20)) * time.Second
		a := arrived{customer: fmt.Sprintf("c%d", r.IntN(8)), at: at - time.Duration(r.IntN(int(lateness/2)))}
		if r.IntN(12) == 0 {
			a.at = at - lateness - time.Duration(r.IntN(int(20*time.Minute)))
		}
		a.at = a.at.Truncate(time.Second)
		as = append(as, a)
	}
	byTime := make([]int, n)
	for i := range byTime {
		byTime[i] = i
	}
	slices.SortStableFunc(byTime, func(i, j int) int { return cmp.Compare(as[i].at, as[j].at) })
	for k, i := range byTime {
		as[i].id = fmt.Sprintf("p%05d", k)
	}
	newest := map[int]time.Duration{}
	for i := range as {
		p := broker.PartitionFor([]byte(as[i].customer), lateParts)
		as[i].late = as[i].at < newest[p]-lateness
		newest[p] = max(newest[p], as[i].at)
	}
	return as
}

// countsOf are the events that each one sees, itself included; with order, those
// of its key with an earlier time, or the same and a smaller id.
func countsOf(as []arrived, keepLate, ordered bool) map[string]map[string]any {
	var taken []arrived
	for _, a := range as {
		if keepLate || !a.late {
			taken = append(taken, a)
		}
	}
	if ordered {
		slices.SortFunc(taken, func(a, b arrived) int { return strings.Compare(a.id, b.id) })
	}
	out := map[string]map[string]any{}
	for i, a := range taken {
		n := 0.0
		for _, b := range taken[:i+1] {
			if b.customer == a.customer && b.at <= a.at && a.at-b.at < 24*time.Hour {
				n++
			}
		}
		out[a.id] = map[string]any{"n": n}
	}
	return out
}

func latePipeline(policy, more string) string {
	return fmt.Sprintf(`
name: late
freshness: {target: 10s, quantile: 0.99}
source:
  topic: payments
  contract: @contracts/payment.schema.json
  key: customer
  partitions: 2
  time: {lateness: 10m, late: %s%s}
steps:
  - features: {n: {by: customer, count: true, over: 24h}}
  - route: [{to: counted}]
`, policy, more)
}

func (s *setup) sendAll(as []arrived) {
	s.t.Helper()
	if err := s.b.CreateTopic(s.t.Context(), broker.TopicConfig{Name: "payments", Partitions: lateParts}); err != nil {
		s.t.Fatal(err)
	}
	var recs []event.Record
	for i := range as {
		recs = append(recs, as[i].record())
	}
	publish(s.t, s.b, "payments", recs...)
}

// checkLate compares the results and the dead letters of a run with the model.
func (s *setup) checkLate(as []arrived, policy string, ordered bool) {
	s.t.Helper()
	if d := gocmp.Diff(countsOf(as, policy == "score", ordered), s.computed("counted")); d != "" {
		s.t.Errorf("(-want +got)\n%s", shortened(d))
	}
	want, got := map[string]bool{}, map[string]bool{}
	for _, a := range as {
		if a.late && policy == "dead_letter" {
			want[a.id] = true
		}
	}
	for _, l := range s.read("late-dead-letters") {
		id := l["origin"].(map[string]any)["id"].(string)
		if got[id] || l["reason"] != "late" || l["step"] != "validate" {
			s.t.Errorf("dead letter %v", l)
		}
		got[id] = true
		if msg := l["error"].(string); strings.Count(msg, "2026-01-01T") != 2 {
			s.t.Errorf("the letter does not give the event's time and the newest: %s", msg)
		}
	}
	if d := gocmp.Diff(want, got); d != "" {
		s.t.Errorf("dead letters (-want +got)\n%s", d)
	}
}

func TestLateEventsFollowThePolicy(t *testing.T) {
	as := disorder(600, 10)
	lates := uint64(0)
	for _, a := range as {
		if a.late {
			lates++
		}
	}
	for _, policy := range []string{"score", "dead_letter", "drop"} {
		for _, order := range []string{"", ", order: id"} {
			if policy == "score" && order != "" {
				continue // what late events and those behind them see depends on when they come
			}
			file := latePipeline(policy, order)
			t.Run(policy+order, func(t *testing.T) {
				s := newSetup(t, inline(t, file))
				s.sendAll(as)
				if st := s.mustRun(); st.Late != lates || st.Consumed != uint64(len(as)) {
					t.Errorf("%d late of %d consumed, not %d of %d", st.Late, st.Consumed, lates, len(as))
				}
				s.checkLate(as, policy, order != "")
			})
			t.Run(policy+order+", stopped again and again", func(t *testing.T) {
				s := newSetup(t, inline(t, file))
				s.sendAll(as)
				t.Logf("%d runs", s.runInPieces(40))
				s.checkLate(as, policy, order != "")
			})
		}
	}
}

// TestTheNewestTimeIsRememberedAcrossARestart: a late event is late for the next run too.
func TestTheNewestTimeIsRememberedAcrossARestart(t *testing.T) {
	for _, order := range []string{"", ", order: id"} {
		s := newSetup(t, inline(t, latePipeline("dead_letter", order)))
		s.sendAll([]arrived{{id: "p1", customer: "ann", at: 5 * time.Hour}})
		s.mustRun()
		s.reopen(journal.Options{})
		s.sendAll([]arrived{{id: "p2", customer: "ann", at: 4 * time.Hour}, {id: "p3", customer: "ann", at: 5*time.Hour - lateness}})
		if st := s.mustRun(); st.Late != 1 || st.DeadLetters["late"] != 1 || st.Predictions != 1 {
			t.Errorf("order %q: late %d, dead letters %v, predictions %d", order, st.Late, st.DeadLetters, st.Predictions)
		}
	}
}

func TestLateEventsInOrderAreScoredAllTheSame(t *testing.T) {
	as := disorder(600, 11)
	s := newSetup(t, inline(t, latePipeline("score", ", order: id")))
	s.sendAll(as)
	s.runInPieces(40)
	if n := len(s.computed("counted")); n != len(as) {
		t.Errorf("%d results of %d events", n, len(as))
	}
	if l := s.read("late-dead-letters"); len(l) > 0 {
		t.Errorf("dead letters %v", l)
	}
}

// TestMoreEventsThanALaneTakesMayLieWithinTheLateness: they are held, and reading goes on.
func TestMoreEventsThanALaneTakesMayLieWithinTheLateness(t *testing.T) {
	s := newSetup(t, inline(t, latePipeline("drop", ", order: id")))
	var as []arrived
	for i := range 700 {
		as = append(as, arrived{id: fmt.Sprintf("p%05d", i), customer: "ann", at: time.Duration(i/10) * time.Second})
	}
	sent := slices.Clone(as)
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(sent), func(i, j int) { sent[i], sent[j] = sent[j], sent[i] })
	s.sendAll(sent)
	p, err := s.pipeline()
	if err != nil {
		t.Fatal(err)
	}
	p.Shrink(16, 4<<10)
	p.Crowd(32, 1000)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := p.Run(ctx, pipeline.RunOptions{UntilIdle: true}); err != nil {
		t.Fatal(err)
	}
	s.checkLate(as, "drop", true)
}

// TestHeldEventsAreThereInTheNextRun ends a run while events wait for their order.
func TestHeldEventsAreThereInTheNextRun(t *testing.T) {
	s := newSetup(t, inline(t, latePipeline("dead_letter", ", order: {by: id, wait: 500ms}")))
	first := []arrived{
		{id: "p03", customer: "ann", at: 3 * time.Minute}, {id: "p02", customer: "ann", at: 2 * time.Minute},
		{id: "p20", customer: "ann", at: 20 * time.Minute}, {id: "p15", customer: "ann", at: 15 * time.Minute},
	}
	s.sendAll(first)
	p, err := s.pipeline()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, pipeline.RunOptions{}) }()
	await(t, func() bool { return p.Stats().Predictions >= 2 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := s.computed("counted"); len(got) != 2 || got["p02"]["n"] != 1.0 || got["p03"]["n"] != 2.0 {
		t.Fatalf("given out before the restart: %v", got)
	}
	s.reopen(journal.Options{})
	second := []arrived{{id: "p12", customer: "ann", at: 12 * time.Minute}, {id: "p40", customer: "ann", at: 40 * time.Minute}}
	s.sendAll(second)
	if st := s.mustRun(); st.Late != 0 || st.Predictions != 4 {
		t.Errorf("late %d, predictions %d", st.Late, st.Predictions)
	}
	s.checkLate(append(first, second...), "dead_letter", true)
}
