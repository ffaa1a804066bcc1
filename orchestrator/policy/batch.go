package policy

import "github.com/freshet-io/freshet/orchestrator"

// steadyShare is the share of the target that an event without backlog may take: it waits
// for the call before its own, and then for its own.
const steadyShare = 0.8

// steadyBatch returns the largest batch whose calls leave an event that meets no backlog
// within the target: twice the time of a call counts. Larger batches serve more a second, so
// the largest that is allowed is the cheapest.
func steadyBatch(c *orchestrator.Capacity, o *orchestrator.Objective) int {
	most := max(1, c.Batch, c.MaxBatch)
	if c.PerEvent <= 0 || o.Target <= 0 {
		return most
	}
	b := (steadyShare*o.Target.Seconds()/2 - c.Overhead) / c.PerEvent
	if !(b < float64(most)) {
		return most
	}
	return max(1, int(b))
}

// batches returns the sizes that are worth weighing, largest first: only the largest where
// calls are short against the target, since a larger call then costs the backlog next to nothing of its allowance.
func batches(c *orchestrator.Capacity, o *orchestrator.Objective, into []int) []int {
	b := steadyBatch(c, o)
	into = append(into[:0], b)
	if c.Service(float64(b)) < 0.1*o.Target.Seconds() {
		return into
	}
	for range 2 {
		if b /= 2; b >= 1 {
			into = append(into, b)
		}
	}
	return into
}
