package pipeline_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/model"
	"github.com/freshet-io/freshet/pipeline"
)

// tried is the pipeline of the tests with a registered model, labels and a rollout.
func tried(t *testing.T, rollout string) string {
	return paymentsWith(t, "tables:\n", "labels: {topic: verdicts, contract: ../contracts/label.schema.json, event: payment, partitions: 2}\ntables:\n",
		"model: ../models/two.onnx", "model: script", "inputs: [amount, tx_1d]", "inputs: [amount, amount]",
		"batch: {max: 64}", "rollout: "+rollout)
}

// confident is a model that knows what becomes of amounts, with a probability.
func confident(version string, p float64) script {
	return script{version: version, score: func(x float64) float64 {
		if x > 500 {
			return p
		}
		return 1 - p
	}}
}

// trials runs pipelines with rollouts on labelled events.
type trials struct {
	*setup
	r    *model.Registry
	open pipeline.ModelOpener
}

func newTrials(t *testing.T, rollout string, versions map[string]script) *trials {
	t.Helper()
	r, open := registry(t, versions)
	if _, err := r.Promote(t.Context(), "script", "1", "first"); err != nil {
		t.Fatal(err)
	}
	s := &trials{newSetup(t, tried(t, rollout)), r, open}
	s.send()
	if err := s.b.CreateTopic(t.Context(), broker.TopicConfig{Name: "verdicts", Partitions: 2}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *trials) begin(version string, role model.Role, share float64) {
	s.t.Helper()
	if _, err := model.BeginRollout(s.t.Context(), s.r, "script", model.Start{Version: version, Role: role, Share: share, Now: time.Now()}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *trials) events(from, to int) {
	var recs []event.Record
	for i := from; i < to; i++ {
		customer := fmt.Sprintf("c%d", i%400)
		recs = append(recs, event.Record{ID: fmt.Appendf(nil, "p%d", i), Key: []byte(customer),
			Value: []byte(payment(i, customer, float64(i*7919%1000), time.Duration(i)*time.Second, ""))})
	}
	publish(s.t, s.b, "payments", recs...)
}

func (s *trials) labels(from, to int) {
	var recs []event.Record
	for i := from; i < to; i++ {
		recs = append(recs, event.Record{Key: fmt.Appendf(nil, "p%d", i), Value: fmt.Appendf(nil, `{"payment":"p%d","fraud":%v,"known_at":"2026-02-01T00:00:00Z"}`, i, i*7919%1000 > 500)})
	}
	publish(s.t, s.b, "verdicts", recs...)
}

// waiting is the number of labels that are not read yet.
func (s *trials) waiting() (n int64) {
	s.t.Helper()
	topic, err := s.b.Describe(s.t.Context(), "verdicts", "payments-labels")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, part := range topic.Partitions {
		n += part.Waiting
	}
	return n
}

// start runs a pipeline until the returned function is called.
func (s *trials) start(t *testing.T, patience time.Duration) (*pipeline.Pipeline, func()) {
	t.Helper()
	spec, faults := pipeline.Load(s.file, nil)
	if faults != nil {
		t.Fatal(pipeline.Error(faults))
	}
	plan, faults := pipeline.MakePlan(spec, s.open)
	if faults != nil {
		t.Fatal(pipeline.Error(faults))
	}
	p, err := pipeline.New(plan, pipeline.Deps{Broker: s.b, Records: func(context.Context) (lineage.Records, error) {
		return &lineage.Topic{Broker: s.b, Name: spec.Predictions()}, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	p.LabelPatience(patience)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx, pipeline.RunOptions{}) }()
	return p, func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
}

func TestAVersionWithWorseLabelsIsRolledBackByTheGateOnQuality(t *testing.T) {
	for _, c := range []struct {
		role  model.Role
		share float64
	}{{model.Canary, 0.5}, {model.Shadow, 1}} {
		t.Run(c.role.String(), func(t *testing.T) {
			s := newTrials(t, "{label: fraud, steps: [0.6], hold: 1h, gates: {errors: -1, late: -1, slower: -1, shift: -1, quality: 0.05}}",
				map[string]script{"1": confident("1", 0.9), "2": confident("2", 0.6)})
			s.begin("2", c.role, c.share)
			p, stop := s.start(t, time.Minute)
			s.labels(0, 50) // before their events
			s.events(0, 2500)
			await(t, func() bool { return p.Stats().Predictions == 2500 })
			s.labels(50, 2500)
			var state *model.State
			await(t, func() bool {
				var err error
				if state, err = s.r.State(t.Context(), "script"); err != nil {
					t.Fatal(err)
				}
				return !state.Rollout.Running()
			})
			stop()
			if state.Rollout.Outcome != model.RolledBack || !strings.Contains(state.Why, "quality failed") || state.Champion != "1" {
				t.Errorf("the rollout is %s: %s", state.Rollout.Outcome, state.Why)
			}
			t.Log(state.Why)
		})
	}
}

func TestEachLabelCountsOnceAcrossARestart(t *testing.T) {
	s := newTrials(t, "{label: fraud, steps: [0.6], hold: 1h, gates: {quality: 0.05}}",
		map[string]script{"1": confident("1", 0.9), "2": confident("2", 0.9)})
	p, stop := s.start(t, time.Minute)
	s.events(0, 100) // before the rollout
	await(t, func() bool { return p.Stats().Predictions == 100 })
	s.begin("2", model.Canary, 0.5)
	await(t, func() bool { return p.Stats().Steps[0].Status.Challenger == "2" })
	s.events(100, 700)
	await(t, func() bool { return p.Stats().Predictions == 700 })
	s.labels(0, 300)
	s.labels(200, 250) // again
	await(t, func() bool { return s.waiting() == 0 })
	stop()
	if l := p.Stats().Steps[0].Labels; l != (pipeline.LabelStats{Counted: 200}) {
		t.Errorf("before the restart %+v", l)
	}
	s.labels(300, 600)
	p, stop = s.start(t, time.Millisecond)
	s.labels(600, 710) // the last ones are about no event
	publish(t, s.b, "verdicts", event.Record{Key: []byte("p1"), Value: []byte(`{"payment":"p1"}`)})
	await(t, func() bool { return s.waiting() == 0 })
	stop()
	if l := p.Stats().Steps[0].Labels; l != (pipeline.LabelStats{Counted: 400, Unknown: 10, Faulty: 1}) {
		t.Errorf("after the restart %+v", l)
	}
	state, err := s.r.State(t.Context(), "script")
	if err != nil {
		t.Fatal(err)
	}
	seen, err := model.Seen(t.Context(), s.r, "script", state)
	if err != nil {
		t.Fatal(err)
	}
	a, b := seen.ChampionQuality.N, seen.ChallengerQuality.N
	if a+b != 600 || a < 200 || b < 200 {
		t.Errorf("%d labels of the champion and %d of the challenger, of 600", a, b)
	}
}
