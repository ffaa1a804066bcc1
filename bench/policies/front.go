package policies

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/freshet-io/freshet/orchestrator/policy"
	"github.com/freshet-io/freshet/orchestrator/simulate"
)

// risks are the quantiles of the demand that Fronts tries.
var risks = []float64{0.4, 0.55, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98}

// Front is what can be had on one trace: the settings of ours that no other beats in both cost and late
// share, cheapest first. Cost is over that of the bound.
type Front struct {
	Trace    string
	Outcomes []policy.Outcome
}

// Fronts runs ours with less and with more risk on the judged part of each trace, once. Who has one objective needs
// no front; it is for who wants to see what freshness costs before choosing one.
func Fronts(ctx context.Context, c Config) ([]Front, error) {
	if _, err := c.prepare(); err != nil {
		return nil, err
	}
	fronts := make([]Front, len(c.Traces))
	for i, t := range c.Traces {
		f, err := c.field(t)
		if err != nil {
			return nil, err
		}
		arrivals := f.rest.Draw(1, f.tick)
		bound := policy.Bound(arrivals, c.World.Capacity, c.World.Objective).Cost
		results := make([]*simulate.Result, len(risks))
		p := &pool{ctx: ctx, workers: c.Workers, total: len(risks), progress: c.Progress}
		err = p.each(len(risks), func(j int) (string, error) {
			// Without pacing, which would bring each back to the objective.
			h := policy.DefaultHorizon()
			h.Risk, h.Tail, h.Pace = risks[j], min(h.Tail, risks[j]), -1
			pilot, err := assembly{horizon: h}.pilot(&task{world: &c.World, arrivals: arrivals, first: f.drawnFirst})
			if err != nil {
				return "", err
			}
			results[j], err = simulate.Run(c.World.simulated(arrivals, 1), pilot)
			return fmt.Sprintf("%s: risk %g", t.Name, risks[j]), err
		})
		if err != nil {
			return nil, err
		}
		next := 0
		fronts[i] = Front{t.Name, policy.Front(risks, func(float64) (cost, late float64) {
			r := results[next]
			next++
			return r.Cost / max(bound, 1e-9), lateShare(r)
		})}
	}
	return fronts, nil
}

// WriteFronts prints them.
func WriteFronts(w io.Writer, fronts []Front) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for i, f := range fronts {
		if i > 0 {
			fmt.Fprintln(t)
		}
		fmt.Fprintf(t, "%s\nRISK\tCOST/BOUND\tLATE\n", f.Trace)
		for _, o := range f.Outcomes {
			fmt.Fprintf(t, "%g\t%.3f\t%.3f %%\n", o.Risk, o.Cost, 100*o.Late)
		}
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
