package orchestrator

import "time"

// Bare returns a pilot that does what a policy says within the objective's Min and Max, and
// nothing else: no forecast, no rails. It is how the rules of others are run.
func Bare(p Policy, c Capacity, o Objective) Pilot {
	return &bare{policy: p, capacity: c, objective: o}
}

type bare struct {
	policy    Policy
	capacity  Capacity
	objective Objective
	input     Input
}

func (b *bare) Name() string          { return b.policy.Name() }
func (b *bare) Period() time.Duration { return b.policy.Period() }

func (b *bare) Step(now time.Time, s *Signals, ordered Orders) Decision {
	if s == nil {
		s = &Signals{}
	}
	b.input = Input{
		Now: now, Signals: s, Capacity: &b.capacity, Objective: &b.objective,
		Target: ordered.Workers, Changed: ordered.Changed,
	}
	d := b.policy.Decide(&b.input)
	if d.Hold {
		d.Workers = ordered.Workers
	}
	d.Workers = bound(d.Workers, &b.objective)
	return d
}
