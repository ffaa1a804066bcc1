package policy

import (
	"fmt"
	"strings"

	"github.com/freshet-io/freshet/orchestrator"
)

// explain writes why, and what else was weighed: the neighbouring counts and what each would
// cost and bring late.
func (h *Horizon) explain(in *orchestrator.Input, d *orchestrator.Decision, w way, planned, floor int, risk float64) {
	p := &h.best
	lead := in.Capacity.StartUp.Seconds()
	now := h.past.latest()
	mid, high := demandAt(in.Demand, in.Now, lead, 0.5), demandAt(in.Demand, in.Now, lead, risk)
	mu := in.Capacity.Rate(max(d.Batch, 1))
	var b strings.Builder
	fmt.Fprintf(&b, "%.4g events/s arrive; in %s, when a worker ordered now is ready, %.4g are expected and %.0f %% sure fewer than %.4g. ",
		now, in.Capacity.StartUp, mid, 100*risk, high)
	fmt.Fprintf(&b, "A worker does %.4g events/s in calls of up to %d", mu, d.Batch)
	if n := max(in.Target, 1); h.fleet.of(n) < 0.97*float64(n) {
		fmt.Fprintf(&b, ", %d do the work of %.1f", n, h.fleet.of(n))
	}
	fmt.Fprintf(&b, "; %.4g events wait, %.0f %% of what may. ", p.backlog, 100*p.backlog/max(p.allow[0], 1))
	if h.surge.on {
		b.WriteString("That is more than any forecast had for now, so the rise is drawn on. ")
	}
	switch {
	case d.Workers > in.Target:
		fmt.Fprintf(&b, "%d more are ordered", d.Workers-in.Target)
	case d.Workers < in.Target:
		fmt.Fprintf(&b, "%d are given up", in.Target-d.Workers)
	default:
		fmt.Fprintf(&b, "%d stay", in.Target)
	}
	switch {
	case d.Workers > planned && d.Workers > in.Target:
		fmt.Fprintf(&b, ": the plan would have %d, but measured load alone needs %d", planned, floor)
	case d.Workers > planned:
		fmt.Fprintf(&b, ": %d would do, but more were wanted within the last %s", planned, h.set.Hold)
	case w.late > 0:
		fmt.Fprintf(&b, ": that is the cheapest, and still %.3g of %.3g events would be late", w.late, w.events)
	default:
		fmt.Fprintf(&b, ": that is the cheapest at which nothing is late, with at most %.0f %% of the allowed backlog", 100*w.oldest)
	}
	b.WriteString(".")
	if d.Route.Share > 0 {
		fmt.Fprintf(&b, " Capacity cannot be there in time: %.0f %% of the events go to %s meanwhile.", 100*d.Route.Share, d.Route.To)
	}
	d.Reason = b.String()
	d.Candidates = h.candidates(in, d, w)
}

// candidates weighs the counts around the chosen one.
func (h *Horizon) candidates(in *orchestrator.Input, d *orchestrator.Decision, chosen way) []orchestrator.Candidate {
	p := &h.best
	var out []orchestrator.Candidate
	for n := max(p.lo, d.Workers-2); n <= min(p.hi, d.Workers+2); n++ {
		keep, order := min(n, p.alive), max(0, n-p.alive)
		w := p.walk(keep, order)
		c := orchestrator.Candidate{Workers: n, Batch: d.Batch, Cost: w.cost, Late: w.late / max(w.events, 1)}
		switch dl, dc := w.late-chosen.late, w.cost-chosen.cost; {
		case n == d.Workers:
		case dl > 0.5:
			c.Why = fmt.Sprintf("%.3g more events would be late within %s", dl, h.set.Horizon)
		case dc > 0:
			c.Why = fmt.Sprintf("would cost %.3g more within %s and make nothing fresher", dc, h.set.Horizon)
		case n < d.Workers:
			c.Why = "the plan would go so low, but the floor or the hold does not"
		default:
			c.Why = "would cost as much and be of no use"
		}
		out = append(out, c)
	}
	return out
}
