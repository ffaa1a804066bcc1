package policy

import (
	"fmt"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// StaticConfig is a number of workers that never changes.
type StaticConfig struct {
	// Workers is the number. 0 takes it from Arrivals instead.
	Workers int
	// Arrivals are past arrivals, and Quantile the share of their time for which the workers are to be
	// enough: 1 is static peak. Demand is taken over stretches as long as the objective's target.
	Arrivals *trace.Trace
	Quantile float64
	// HeadRoom multiplies that demand.
	HeadRoom float64
}

// DefaultStatic is provisioned for the peak.
func DefaultStatic() StaticConfig { return StaticConfig{Quantile: 1, HeadRoom: 1} }

func (c *StaticConfig) validate() error {
	if c.Workers < 0 || c.Workers == 0 && (c.Arrivals == nil || c.Arrivals.Step <= 0 || len(c.Arrivals.Counts) == 0) {
		return errkind.Errorf(errkind.Config, "workers is %d and there are no %s: give one of them", c.Workers, SettingArrivals)
	}
	return firstError(within("quantile", c.Quantile, 0, 1), within("head_room", c.HeadRoom, 0.1, 100))
}

// NewStatic returns a fixed number of workers.
func NewStatic(c StaticConfig) (orchestrator.Policy, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("configure static: %w", err)
	}
	return &static{config: c, workers: c.Workers, named: "static"}, nil
}

type static struct {
	config  StaticConfig
	workers int // 0: not computed yet
	named   string
}

func (s *static) Name() string          { return s.named }
func (s *static) Period() time.Duration { return time.Minute }

func (s *static) Decide(in *orchestrator.Input) orchestrator.Decision {
	if !complete(in) {
		return hold(in, "no capacity or objective: nothing is done")
	}
	low, high := limits(in.Objective, 0)
	if s.workers == 0 {
		var workers fleet
		workers.update(in.Capacity, high)
		s.workers = max(1, quantileNeed(s.config.Arrivals, &workers, in.Capacity.Rate(0)/s.config.HeadRoom, in.Objective.Target, s.config.Quantile))
	}
	n := min(max(s.workers, low), high)
	d := orchestrator.Decision{Workers: n}
	if in.Explain {
		d.Reason = fmt.Sprintf("always %d workers", n)
	}
	return d
}
