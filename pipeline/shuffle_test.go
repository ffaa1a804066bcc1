package pipeline_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/pipeline"
	"github.com/freshet-io/freshet/state"
	"github.com/freshet-io/freshet/state/memory"
)

const chain = "testdata/shuffle/chain.yaml"

// visit is an event of the chain's source.
type visit struct {
	seq      int
	customer string
	merchant int
	amount   float64
	at       time.Duration
}

func visits(n int, seed uint64) (vs []visit) {
	r := rand.New(rand.NewPCG(seed, 1))
	at := time.Duration(0)
	for i := range n {
		if r.IntN(3) > 0 { // a third share their instant with the one before
			at += time.Duration(r.IntN(120)) * time.Second
		}
		vs = append(vs, visit{i, fmt.Sprintf("c%d", r.IntN(20)), r.IntN(7), float64(r.IntN(100)), at})
	}
	return vs
}

func (v *visit) record() event.Record {
	id := fmt.Sprintf("v%d", v.seq)
	return event.Record{ID: []byte(id), Key: []byte(v.customer), Value: fmt.Appendf(nil,
		`{"id":%q,"seq":%d,"customer":%q,"merchant":%d,"amount":%v,"at":%q}`, id, v.seq, v.customer, v.merchant, v.amount,
		time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(v.at).Format(time.RFC3339))}
}

func records(vs []visit) (recs []event.Record) {
	for i := range vs {
		recs = append(recs, vs[i].record())
	}
	return recs
}

// features computes what the chain should, one visit after the other.
func features(vs []visit) map[string]map[string]any {
	type computed struct{ customer, merchant, sum, busy, busySum float64 }
	done := make([]computed, len(vs))
	out := map[string]map[string]any{}
	for i, v := range vs {
		c := &done[i]
		for j := i; j >= 0; j-- {
			age := v.at - vs[j].at
			if vs[j].customer == v.customer && age < time.Hour {
				c.customer++
			}
			if vs[j].merchant == v.merchant && age < time.Hour {
				c.merchant++
			}
		}
		if c.merchant > 3 {
			c.busy = 1
		}
		for j := i; j >= 0; j-- {
			age := v.at - vs[j].at
			if vs[j].merchant == v.merchant && age < 30*time.Minute && done[j].customer > 1 {
				c.sum += vs[j].amount
			}
			if vs[j].customer == v.customer && age < time.Hour {
				c.busySum += done[j].busy
			}
		}
		out[fmt.Sprintf("v%d", v.seq)] = map[string]any{
			"customer_1h": c.customer, "merchant_1h": c.merchant, "merchant_sum": c.sum, "busy": c.busy, "busy_1h": c.busySum,
		}
	}
	return out
}

func createVisits(t *testing.T, b *broker.Broker) {
	t.Helper()
	if err := b.CreateTopic(t.Context(), broker.TopicConfig{Name: "visits", Partitions: 4}); err != nil {
		t.Fatal(err)
	}
}

func publish(t testing.TB, b *broker.Broker, topic string, recs ...event.Record) {
	t.Helper()
	if _, err := b.Publish(t.Context(), topic, recs); err != nil {
		t.Fatal(err)
	}
}

// computed are the features of every result on a topic, by the event's id.
func (s *setup) computed(topic string) map[string]map[string]any {
	out := map[string]map[string]any{}
	for _, v := range s.read(topic) {
		id := v["source_id"].(string)
		if out[id] != nil {
			s.t.Errorf("%s has two results", id)
		}
		out[id] = v["features"].(map[string]any)
	}
	return out
}

func TestWindowsByOtherKeysSeeEventsInTheOrderOfTime(t *testing.T) {
	vs := visits(3000, 1)
	want := features(vs)
	for _, c := range []struct {
		name   string
		frames int
		mix    func([]visit) // the order of sending
	}{
		{"all there", 1024, func([]visit) {}},
		{"small frames", 7, func([]visit) {}},
		{"ties out of order", 64, func(vs []visit) {
			for i := 1; i < len(vs); i++ {
				if vs[i].at == vs[i-1].at {
					vs[i], vs[i-1] = vs[i-1], vs[i]
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSetup(t, chain)
			createVisits(t, s.b)
			sent := append([]visit(nil), vs...)
			c.mix(sent)
			publish(t, s.b, "visits", records(sent)...)
			p, err := s.pipeline()
			if err != nil {
				t.Fatal(err)
			}
			p.Shrink(c.frames, 4<<10)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := p.Run(ctx, pipeline.RunOptions{UntilIdle: true}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, s.computed("visited")); diff != "" {
				t.Errorf("(-want +got)\n%s", shortened(diff))
			}
		})
	}
}

func shortened(s string) string { return s[:min(len(s), 3000)] }

// TestEventsThatComeWhileThePipelineRunsGiveTheSameFeatures sends one event
// after the other to a running pipeline.
func TestEventsThatComeWhileThePipelineRunsGiveTheSameFeatures(t *testing.T) {
	vs := visits(400, 2)
	s := newSetup(t, chain)
	createVisits(t, s.b)
	p, err := s.pipeline()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, pipeline.RunOptions{}) }()
	for i := range vs {
		publish(t, s.b, "visits", vs[i].record())
	}
	for p.Stats().Predictions < uint64(len(vs)) && ctx.Err() == nil {
		<-time.After(5 * time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(features(vs), s.computed("visited")); diff != "" {
		t.Errorf("(-want +got)\n%s", shortened(diff))
	}
}

// TestRunsThatEndAnywhereGoOnWithTheSameFeatures stops a pipeline again and
// again after a few frames.
func TestRunsThatEndAnywhereGoOnWithTheSameFeatures(t *testing.T) {
	vs := visits(2000, 3)
	s := newSetup(t, chain)
	createVisits(t, s.b)
	publish(t, s.b, "visits", records(vs)...)
	stops := 0
	for idle := false; !idle; {
		p, err := s.pipeline()
		if err != nil {
			t.Fatal(err)
		}
		p.Shrink(16, 2<<10)
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Millisecond)
		err = p.Run(ctx, pipeline.RunOptions{UntilIdle: true})
		idle = ctx.Err() == nil
		cancel()
		if err != nil && ctx.Err() == nil {
			t.Fatal(err)
		}
		stops++
		if stops > 1000 {
			t.Fatal("no progress")
		}
		s.reopen(journal.Options{MaxRecordBytes: 64 << 10})
	}
	t.Logf("stopped %d times", stops)
	if diff := cmp.Diff(features(vs), s.computed("visited")); diff != "" {
		t.Errorf("(-want +got)\n%s", shortened(diff))
	}
}

func itoa(i int) string { return strconv.Itoa(i) }

// openMap opens a store that is a map in memory.
func openMap(string, string) (*state.Store, error) { return state.New(memory.Open(), state.Config{}) }

// TestLanesThatAreFullLeaveTheirRowsOnTheTopic runs the chain with room for a few
// rows at each input of a merge and few records between the stages: rows are
// left and read again, tasks wait for one another, and nothing stands still.
func TestLanesThatAreFullLeaveTheirRowsOnTheTopic(t *testing.T) {
	vs := visits(1500, 9)
	s := newSetup(t, chain)
	createVisits(t, s.b)
	publish(t, s.b, "visits", records(vs)...)
	p, err := s.pipeline()
	if err != nil {
		t.Fatal(err)
	}
	const frames, lane = 64, 8
	p.Shrink(frames, 4<<10)
	p.Crowd(lane, 4)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx, pipeline.RunOptions{UntilIdle: true}) }()
	most := int64(0)
	for ended := false; !ended; {
		select {
		case err = <-done:
			ended = true
		case <-time.After(time.Millisecond):
			for _, st := range p.Stats().Stages[1:] {
				most = max(most, st.Held)
			}
		}
	}
	if err != nil || ctx.Err() != nil {
		t.Fatal(err, ctx.Err())
	}
	t.Logf("%d rows held at most", most)
	if limit := int64(4 * 4 * (2*lane + frames)); most > limit { // tasks, lanes of each
		t.Errorf("%d rows held, more than %d", most, limit)
	}
	if diff := cmp.Diff(features(vs), s.computed("visited")); diff != "" {
		t.Errorf("(-want +got)\n%s", shortened(diff))
	}
}
