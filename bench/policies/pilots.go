package policies

import (
	"context"
	"fmt"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// Choice is a policy set up for a world: ours, or one of others with the best setting of its grid.
type Choice struct {
	Name, Setting string
	// Make makes a pilot; one is good for one run.
	Make func() (orchestrator.Pilot, error)
}

// Choose sets a policy up as the comparison does: by the arrivals of first, as they were drawn, in the world
// w, whose own arrivals are left aside.
func Choose(ctx context.Context, name string, w simulate.World, first *trace.Trace) (Choice, error) {
	es, err := chosenEntrants([]string{name}, false)
	if err != nil {
		return Choice{}, err
	}
	t := &task{world: &World{Capacity: w.Capacity, Objective: w.Objective, Jitter: w.Jitter}, first: first, arrivals: w.Arrivals}
	for _, e := range es {
		if e.name != name {
			continue
		}
		best, err := e.best(ctx, t, w)
		if err != nil {
			return Choice{}, err
		}
		s := e.settings[best]
		return Choice{name, s.text, func() (orchestrator.Pilot, error) { return s.make(t) }}, nil
	}
	return Choice{}, errkind.Errorf(errkind.Config, "unknown policy %q", name)
}

// best is the setting that does best on the task's first arrivals.
func (e *entrant) best(ctx context.Context, t *task, w simulate.World) (int, error) {
	if !e.tuned {
		return 0, nil
	}
	w.Arrivals, w.Faults, w.Points = t.first, nil, 0
	best, chosen := (*simulate.Result)(nil), 0
	for i, s := range e.settings {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		p, err := s.make(t)
		if err != nil {
			return 0, fmt.Errorf("make %s: %w", e.name, err)
		}
		r, err := simulate.Run(w, p)
		if err != nil {
			return 0, fmt.Errorf("tune %s: %w", e.name, err)
		}
		if best == nil || better(r, best, allowed(&w.Objective)) {
			best, chosen = r, i
		}
	}
	return chosen, nil
}
