package pipeline_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/pipeline"
)

const (
	labelled = "testdata/shuffle/labelled.yaml"
	// markDelay is how long after its visit a mark is known.
	markDelay = time.Hour
)

// sent is something that happens: a visit, or the mark of one.
type sent struct {
	visit *visit
	mark  bool
}

func (s sent) at() time.Duration {
	if s.mark {
		return s.visit.at + markDelay
	}
	return s.visit.at
}

func (s sent) topic() string {
	if s.mark {
		return "marks"
	}
	return "visits"
}

func (s sent) record() event.Record {
	if !s.mark {
		return s.visit.record()
	}
	id := fmt.Sprintf("m%d", s.visit.seq)
	return event.Record{ID: []byte(id), Value: fmt.Appendf(nil, `{"id":%q,"visit":"v%d","bad":%d,"known":%q}`, id, s.visit.seq, s.visit.bad(),
		time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(s.at()).Format(time.RFC3339))}
}

func (v *visit) bad() int {
	if v.seq%5 == 2 {
		return 1
	}
	return 0
}

// schedule is visits and their marks in the order in which they happen; at one
// time marks come first.
func schedule(vs []visit) (all []sent) {
	next := 0
	for i := range vs {
		for next < i && vs[next].at+markDelay <= vs[i].at {
			all = append(all, sent{&vs[next], true})
			next++
		}
		all = append(all, sent{&vs[i], false})
	}
	return all
}

// manyMerchants are visits to more merchants than a page of state holds.
func manyMerchants(n int, seed uint64) []visit {
	vs := visits(n, seed)
	for i := range vs {
		vs[i].merchant = vs[i].seq * 7 % 61
	}
	return vs
}

// labelledFeatures computes what the pipeline with labels should.
func labelledFeatures(vs []visit) map[string]map[string]any {
	out := map[string]map[string]any{}
	for i := range vs {
		var customer, n, bad, day float64
		for j := i; j >= 0; j-- {
			age := vs[i].at - vs[j].at
			if vs[j].customer == vs[i].customer && age < 2*time.Hour {
				customer++
			}
			if vs[j].merchant == vs[i].merchant && age >= time.Hour && age < 7*time.Hour {
				n++
				bad += float64(vs[j].bad())
			}
			if vs[j].merchant == vs[i].merchant && vs[j].at/(24*time.Hour) == vs[i].at/(24*time.Hour) {
				day += vs[j].amount
			}
		}
		out[fmt.Sprintf("v%d", vs[i].seq)] = map[string]any{"customer_2h": customer, "merchant_6h": n, "merchant_bad": bad, "merchant_day": day}
	}
	return out
}

func newLabelled(t *testing.T) *setup {
	s := newSetup(t, labelled)
	createVisits(t, s.b)
	if err := s.b.CreateTopic(t.Context(), broker.TopicConfig{Name: "marks", Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	return s
}

// flatOut sends what is due, marks and visits each as one.
func (s *setup) flatOut(all []sent) {
	s.t.Helper()
	byTopic := map[string][]event.Record{}
	for _, e := range all {
		byTopic[e.topic()] = append(byTopic[e.topic()], e.record())
	}
	for _, topic := range []string{"marks", "visits"} {
		if _, err := s.b.Publish(s.t.Context(), topic, byTopic[topic]); err != nil {
			s.t.Fatal(err)
		}
	}
}

// TestLiveAndReplayAgree sends the same visits and marks flat out, all there
// before the pipeline starts, and at the pace at which they happened, 20,000
// times as fast, to a pipeline that runs: the features are the same, and those
// of a plain computation.
func TestLiveAndReplayAgree(t *testing.T) {
	vs := manyMerchants(900, 11)
	all := schedule(vs)
	want := labelledFeatures(vs)
	t.Run("flat out", func(t *testing.T) {
		s := newLabelled(t)
		s.reopen(journal.Options{MaxRecordBytes: 64 << 10})
		s.flatOut(all)
		s.mustRun()
		if diff := cmp.Diff(want, s.computed("visited")); diff != "" {
			t.Errorf("(-want +got)\n%s", shortened(diff))
		}
	})
	t.Run("at the pace of time", func(t *testing.T) {
		const speed = 20_000
		s := newLabelled(t)
		p, err := s.pipeline()
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx, pipeline.RunOptions{}) }()
		await(t, p.Ready)
		began := time.Now()
		meanwhile := uint64(0)
		for i, e := range all {
			if wait := e.at()/speed - time.Since(began); wait > 0 {
				<-time.After(wait)
			}
			publish(t, s.b, e.topic(), e.record())
			if i == len(all)-1 {
				meanwhile = p.Stats().Predictions
			}
		}
		took := time.Since(began)
		await(t, func() bool { return p.Stats().Predictions == uint64(len(vs)) })
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if least := vs[len(vs)-1].at / speed; took < least || meanwhile < uint64(len(vs)/2) {
			t.Errorf("%d visits were sent in %v, which is more than the pace, or only %d had results meanwhile", len(vs), took, meanwhile)
		}
		if diff := cmp.Diff(want, s.computed("visited")); diff != "" {
			t.Errorf("(-want +got)\n%s", shortened(diff))
		}
	})
}

// TestLabelsReachStateThatWasReadBackFromTheChangelog runs in pieces, with room
// for a few keys only: marks come to visits whose merchant was moved out,
// restored, and moved again.
func TestLabelsReachStateThatWasReadBackFromTheChangelog(t *testing.T) {
	vs := manyMerchants(3000, 12)
	all := schedule(vs)
	for _, kind := range []string{"memory", "map", "pebble"} {
		t.Run(kind, func(t *testing.T) {
			s := newLabelled(t)
			s.reopen(journal.Options{MaxRecordBytes: 64 << 10})
			const pieces = 12
			for i := range pieces {
				s.flatOut(all[len(all)*i/pieces : len(all)*(i+1)/pieces])
				spec, faults := pipeline.Load(labelled, nil)
				if faults != nil {
					t.Fatal(pipeline.Error(faults))
				}
				spec.State.Store, spec.State.Memory = kind, 64<<10
				plan, faults := pipeline.MakePlan(spec, pipeline.Files(s.open))
				if faults != nil {
					t.Fatal(pipeline.Error(faults))
				}
				deps := builtin.PipelineDeps(s.b, nil, t.TempDir())
				if kind == "map" {
					deps.OpenStore = openMap
				}
				p, err := pipeline.New(plan, deps)
				if err != nil {
					t.Fatal(err)
				}
				p.Shrink(16, 2<<10)
				if err := p.Run(t.Context(), pipeline.RunOptions{UntilIdle: true}); err != nil {
					t.Fatal(err)
				}
				s.reopen(journal.Options{MaxRecordBytes: 64 << 10})
			}
			if diff := cmp.Diff(labelledFeatures(vs), s.computed("visited")); diff != "" {
				t.Errorf("(-want +got)\n%s", shortened(diff))
			}
		})
	}
}
