package policy

import (
	"fmt"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// ForesightConfig is a policy that knows what will arrive.
type ForesightConfig struct {
	// Arrivals are what will arrive. Without them nothing is decided.
	Arrivals *trace.Trace
	// Ask is how often it is asked.
	Ask time.Duration
	// Jitter is by how much of itself a start-up may be longer than Capacity.StartUp.
	Jitter float64
	// HeadRoom multiplies the arrivals that are planned for, on top of the room for the largest partition.
	HeadRoom float64
	// Slack is the share of the time that calls and rebalances leave of the target which the plan lets events wait; Late the share
	// of events that may be late by the plan.
	Slack, Late float64
}

// DefaultForesight is right for start-ups that vary by a fifth.
func DefaultForesight() ForesightConfig {
	return ForesightConfig{Ask: 5 * time.Second, Jitter: 0.2, HeadRoom: 1.03, Slack: 0.7, Late: 0.001}
}

func (c *ForesightConfig) validate() error {
	if c.Arrivals == nil || c.Arrivals.Step <= 0 || len(c.Arrivals.Counts) == 0 {
		return errkind.Errorf(errkind.Config, "%s is missing: give the arrivals that will come, a trace", SettingArrivals)
	}
	return firstError(positive("ask", c.Ask), within("jitter", c.Jitter, 0, 10), within("head_room", c.HeadRoom, 0.1, 100), within("slack", c.Slack, 0, 1), within("late", c.Late, 0, 1))
}

// NewForesight returns the bound's schedule as it can be carried out: workers are ordered as early as they may
// take to start, kept over gaps shorter than that, with room for the largest partition,
// and make large calls. It is what a perfect forecast is worth, and needs one.
func NewForesight(c ForesightConfig) (orchestrator.Policy, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("configure foresight: %w", err)
	}
	return &foresight{config: c}, nil
}

type foresight struct {
	config ForesightConfig
	orders []int // per tick; nil before the first decision
	batch  int
	lead   time.Duration
}

func (f *foresight) Name() string          { return "foresight" }
func (f *foresight) Period() time.Duration { return f.config.Ask }

func (f *foresight) plan(in *orchestrator.Input) {
	c, t := &f.config, f.config.Arrivals
	f.batch = largestCall(in.Capacity, in.Objective.Target/4)
	low, high := limits(in.Objective, 0)
	var workers fleet
	workers.update(in.Capacity, high)
	slack := max(0, in.Objective.Target-in.Capacity.Rebalance-time.Duration(2*in.Capacity.Service(float64(f.batch))*float64(time.Second)))
	f.lead = time.Duration((1+c.Jitter)*float64(in.Capacity.StartUp)) + in.Capacity.Rebalance + c.Ask
	ahead := max(0, int((f.lead+t.Step-1)/t.Step))
	rate := in.Capacity.Rate(f.batch)
	orders := func(part float64) []int {
		return early(levelPlan(t, &workers, rate/part, time.Duration(c.Slack*float64(slack)), low), ahead)
	}
	// Workers that are kept over gaps work off what waits, so that a plan for a part of the arrivals
	// may be enough: the smallest such part is looked for.
	least, enough := 0.6, 1.0
	for range 6 {
		part := (least + enough) / 2
		if lateShare(t, &workers, rate, slack, readied(orders(part), ahead)) <= c.Late {
			enough = part
		} else {
			least = part
		}
	}
	f.orders = orders(enough * c.HeadRoom)
}

func (f *foresight) Decide(in *orchestrator.Input) orchestrator.Decision {
	if !complete(in) {
		return hold(in, "no capacity or objective: nothing is done")
	}
	if f.orders == nil {
		f.plan(in)
	}
	low, high := limits(in.Objective, 0)
	n := low
	i := int(in.Now.Sub(f.config.Arrivals.Start) / f.config.Arrivals.Step)
	if in.Now.Before(f.config.Arrivals.Start) {
		i = 0
	}
	if i < len(f.orders) {
		n = min(max(f.orders[i], low), high)
	}
	d := orchestrator.Decision{Workers: n, Batch: f.batch}
	if in.Explain {
		d.Reason = fmt.Sprintf("the most that will be needed in the next %v is %d workers in calls of %d", f.lead, n, f.batch)
	}
	return d
}
