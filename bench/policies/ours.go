package policies

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/forecast"
	"github.com/freshet-io/freshet/orchestrator/learn"
	"github.com/freshet-io/freshet/orchestrator/policy"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// assembly is what a controller of ours is put together from. The zero value is ours as it is
// meant to be run, on every load.
type assembly struct {
	forecast forecast.Config
	// blind leaves out the forecaster.
	blind   bool
	horizon policy.HorizonConfig
	// policy, where set, stands in for the horizon; bare, it is without rails too.
	policy func() (orchestrator.Policy, error)
	bare   bool
}

// pilot puts it together, and shows the forecaster the arrivals of the first third.
func (a assembly) pilot(t *task) (orchestrator.Pilot, error) {
	set := orchestrator.Settings{
		Rails: orchestrator.DefaultRails(), Capacity: t.world.Capacity, Objective: t.world.Objective, Fit: true,
	}
	if a.policy != nil {
		p, err := a.policy()
		if err != nil {
			return nil, err
		}
		if a.bare {
			return orchestrator.Bare(p, set.Capacity, set.Objective), nil
		}
		set.Policy = p
	} else {
		h := a.horizon
		if h == (policy.HorizonConfig{}) {
			h = policy.DefaultHorizon()
		}
		set.Policy = policy.NewHorizon(h)
	}
	if !a.blind {
		c := a.forecast
		c.Grid = forecast.ForScaling().Grid
		f := forecast.New(c)
		warm(f, t.first)
		set.Forecaster = f
	}
	return orchestrator.NewController(set), nil
}

// warm shows a forecaster what has been, in windows as long as a controller's.
func warm(f orchestrator.Forecaster, past *trace.Trace) {
	window := forecast.ForScaling().Grid
	// A forecast that is asked for settles what is to be learned of errors, before there are any.
	d := orchestrator.Demand{Time: past.Start, Step: 30 * time.Second, Levels: orchestrator.DefaultLevels()}
	f.Forecast(&d, 20)
	per := max(1, int(window/past.Step))
	for i := per; i <= len(past.Counts); i += per {
		sum := 0.0
		for _, c := range past.Counts[i-per : i] {
			sum += c // NaN stays NaN: a gap
		}
		if math.IsNaN(sum) {
			continue
		}
		length := time.Duration(per) * past.Step
		f.Observe(past.Start.Add(time.Duration(i)*past.Step), length, sum/length.Seconds())
	}
}

func oursEntrant() *entrant {
	return assembled(OursName, Ours, assembly{})
}

func assembled(name string, g Group, a assembly) *entrant {
	return &entrant{name: name, group: g, settings: []setting{{make: a.pilot}}}
}

// ablations are parts of ours alone, and ours without one of its parts.
func ablations() []*entrant {
	floor := func() (orchestrator.Policy, error) { return policy.NewFloor(policy.DefaultFloor()), nil }
	lstm := func(g forecast.Grid) forecast.Member { return learn.NewForecaster(g, 1) }
	with := func(change func(*policy.HorizonConfig)) assembly {
		h := policy.DefaultHorizon()
		change(&h)
		return assembly{horizon: h}
	}
	es := []*entrant{assembled("floor only", Ablation, assembly{blind: true, policy: floor})}
	for _, m := range forecast.Names() {
		es = append(es, assembled("forecast by "+m, Ablation, assembly{forecast: forecast.Config{Members: []string{m}}}))
	}
	return append(es,
		assembled("forecast by lstm", Ablation, assembly{forecast: forecast.Config{Members: []string{}, Extra: []func(forecast.Grid) forecast.Member{lstm}}}),
		assembled("ensemble and lstm", Ablation, assembly{forecast: forecast.Config{Extra: []func(forecast.Grid) forecast.Member{lstm}}}),
		assembled("ensemble of equals", Ablation, assembly{forecast: forecast.Config{Equal: true}}),
		assembled("not calibrated", Ablation, assembly{forecast: forecast.Config{Uncalibrated: true}}),
		assembled("fixed batch", Ablation, with(func(h *policy.HorizonConfig) { h.NoBatch = true })),
		assembled("no floor", Ablation, with(func(h *policy.HorizonConfig) { h.NoFloor = true })),
		assembled("no pacing", Ablation, with(func(h *policy.HorizonConfig) { h.Pace = -1 })),
		assembled("ppo alone", Ablation, assembly{blind: true, policy: trainedPolicy, bare: true}),
		assembled("ppo in rails", Ablation, assembly{blind: true, policy: trainedPolicy}),
		assembled("ppo with forecast in rails", Ablation, assembly{policy: trainedPolicy}),
	)
}

// trainedPolicy is the policy of package learn, run by our own ONNX runtime.
func trainedPolicy() (orchestrator.Policy, error) {
	m, err := onnx.Parse("ppo", learn.Policy(), onnx.Options{Instances: 1})
	if err != nil {
		return nil, fmt.Errorf("load the trained policy: %w", err)
	}
	p, err := learn.NewPPO(&session{model: m, in: make([]inference.Tensor, 1), out: make([]inference.Tensor, 1)})
	if err != nil {
		return nil, fmt.Errorf("load the trained policy: %w", err)
	}
	return p, nil
}

// session is a model as a policy's network. It holds memory only, so nobody has to close it.
type session struct {
	model   *onnx.Model
	in, out []inference.Tensor
}

// Infer makes it a learn.Net.
func (s *session) Infer(obs, out []float32) error {
	s.in[0] = inference.Tensor{Type: inference.Float32, Shape: []int{1, len(obs)}, F32: obs}
	if err := s.model.Infer(context.Background(), s.in, s.out); err != nil {
		return fmt.Errorf("ask the trained policy: %w", err)
	}
	copy(out, s.out[0].F32)
	return nil
}
