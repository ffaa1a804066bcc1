package policies

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// The goals, as shares and factors.
const (
	goalLate    = 0.005
	goalSmooth  = 1.25
	goalBursty  = 1.5
	goalTuned   = 0.25
	goalDefault = 0.40
	goalDecide  = 10 * time.Millisecond
)

// goals judges what was reached.
func (c *Config) goals(r *Report) error {
	ours := func(t *Trace) *Line { return t.line(r.Ours) }
	worst, where := 0.0, ""
	for i := range r.Traces {
		t := &r.Traces[i]
		if l := ours(t); l != nil && l.Late.Mean >= worst {
			worst, where = l.Late.Mean, t.Name
		}
	}
	r.Goals = append(r.Goals, Goal{
		Goal:    fmt.Sprintf("at most %s of the events late on every trace", percent(goalLate, 1)),
		Reached: fmt.Sprintf("at most %s late (%s)", percent(worst, 2), where), Met: worst <= goalLate,
	})
	for _, kind := range []struct {
		bursty bool
		name   string
		most   float64
	}{{false, "smooth", goalSmooth}, {true, "bursty", goalBursty}} {
		var parts []string
		met := true
		for i := range r.Traces {
			t := &r.Traces[i]
			if l := ours(t); l != nil && t.Bursty == kind.bursty {
				parts = append(parts, fmt.Sprintf("%s %.3f×", t.Name, l.Cost.Mean))
				met = met && l.Cost.Mean <= kind.most
			}
		}
		if len(parts) > 0 {
			r.Goals = append(r.Goals, Goal{
				Goal:    fmt.Sprintf("cost at most %g× the bound on %s traces", kind.most, kind.name),
				Reached: strings.Join(parts, ", "), Met: met,
			})
		}
	}
	r.Goals = append(r.Goals, r.savingGoals()...)
	if c.Clock != nil {
		g, err := c.decideGoal()
		if err != nil {
			return err
		}
		r.Goals = append(r.Goals, g)
	}
	return nil
}

func (r *Report) savingGoals() []Goal {
	var goals []Goal
	for _, v := range r.Rivals {
		least, what := goalDefault, v.Policy
		switch v.Policy {
		case bestName:
			least, what = goalTuned, "the best tuned reactive policy of each trace"
		case "hpa at 50 % CPU", "keda default", "static peak":
		default:
			continue
		}
		var saved, limit []float64
		for _, s := range v.Saved {
			limit = append(limit, s.Limit)
			switch {
			case s.Comparable:
				saved = append(saved, s.Saved)
			case !s.OursKeeps:
				saved = append(saved, min(s.Saved, 0)) // what is late saves nothing
			}
		}
		m := orZero(median(saved))
		reached := fmt.Sprintf("%s below, over %d traces", percent(m, 0), len(saved))
		if n := len(v.Saved) - len(saved); n > 0 {
			reached += fmt.Sprintf("; on %d the other is cheaper and does not keep the objective", n)
		}
		switch {
		case v.NoLater > 0 && v.NoLater < len(saved):
			reached += fmt.Sprintf("; %s below on the %d where ours is no later", percent(v.Strict, 0), v.NoLater)
		case v.NoLater == 0 && v.Comparable > 0:
			reached += "; ours is the later one, within the objective, on all of them"
		}
		if m < least {
			reached += fmt.Sprintf("; the bound itself is %s below", percent(orZero(median(limit)), 0))
		}
		goals = append(goals, Goal{
			Goal:    fmt.Sprintf("at least %s below the cost of %s, on the median trace", percent(least, 0), what),
			Reached: reached, Met: m >= least && len(saved) > 0,
		})
	}
	return goals
}

// timed measures the steps of a pilot.
type timed struct {
	orchestrator.Pilot
	clock func() time.Time
	took  []time.Duration
}

func (t *timed) Step(now time.Time, s *orchestrator.Signals, o orchestrator.Orders) orchestrator.Decision {
	start := t.clock()
	d := t.Pilot.Step(now, s, o)
	t.took = append(t.took, t.clock().Sub(start))
	return d
}

// decideGoal times decisions of ours at about 200 workers, with its horizon of 10 minutes.
func (c *Config) decideGoal() (Goal, error) {
	w := c.World
	w.Busy, w.Objective.Max = 90, 200
	t, err := trace.Generate("bursts", 1, 2*time.Hour)
	if err != nil {
		return Goal{}, err
	}
	cc := *c
	cc.World, cc.Longest = w, 0
	f, err := cc.field(t)
	if err != nil {
		return Goal{}, err
	}
	e := oursEntrant()
	var watch *timed
	inner := e.settings[0].make
	e.settings[0].make = func(t *task) (orchestrator.Pilot, error) {
		p, err := inner(t)
		watch = &timed{Pilot: p, clock: c.Clock}
		return watch, err
	}
	res, err := cc.run(f, f.rest.Draw(1, f.tick), e, 0, 1, 0)
	if err != nil {
		return Goal{}, err
	}
	slices.Sort(watch.took)
	n := len(watch.took)
	p99 := watch.took[int(math.Ceil(0.99*float64(n)))-1]
	return Goal{
		Goal: fmt.Sprintf("decide within %s for 200 workers and a horizon of 10 minutes", goalDecide),
		Reached: fmt.Sprintf("99 of 100 decisions within %s, the median %s, at up to %d workers", p99.Round(10*time.Microsecond),
			watch.took[n/2].Round(10*time.Microsecond), res.Peak),
		Met: p99 <= goalDecide,
	}, nil
}
