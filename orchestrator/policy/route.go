package policy

import "github.com/freshet-io/freshet/orchestrator"

// route sends a share of the arrivals elsewhere while capacity cannot arrive in time: to the
// cheapest tier that answers within the target and costs less than being late does, the least
// share with which nothing more becomes late until capacity is there.
func (h *Horizon) route(in *orchestrator.Input, batch int, risk float64, w way) orchestrator.Route {
	best, least := -1, 0.0
	for i, t := range in.Tiers {
		price := t.Cost + t.Penalty
		if t.Latency > in.Objective.Target || !(price >= 0) || price >= h.best.late {
			continue
		}
		if best < 0 || price < least {
			best, least = i, price
		}
	}
	if best < 0 {
		return orchestrator.Route{}
	}
	tier := in.Tiers[best]
	all := 1.0
	if rate := h.past.latest(); tier.Rate > 0 && rate > 0 {
		all = min(1, tier.Rate/rate)
	}
	unmet := func(share float64) float64 {
		h.set.describe(&h.plan, in, h, batch, risk, 1-share)
		// What waits already stays.
		h.plan.backlog = h.best.backlog
		h.plan.solve()
		return h.plan.walk(free, free).unmet
	}
	// Even with all of them elsewhere some may be late: those that wait already.
	least = unmet(all)
	enough := least + 0.02*(w.unmet-least)
	if !(enough < w.unmet) {
		return orchestrator.Route{}
	}
	lo, hi := 0.0, all
	for range 6 {
		if mid := (lo + hi) / 2; unmet(mid) <= enough {
			hi = mid
		} else {
			lo = mid
		}
	}
	return orchestrator.Route{To: tier.Name, Share: hi}
}

// Outcome is what a setting of the risk came to.
type Outcome struct {
	Risk, Cost, Late float64
}

// Front returns the outcomes that no other beats in both cost and late share, cheapest
// first. run is asked once for each risk, usually by a simulation.
func Front(risks []float64, run func(risk float64) (cost, late float64)) []Outcome {
	all := make([]Outcome, 0, len(risks))
	for _, r := range risks {
		cost, late := run(r)
		all = append(all, Outcome{Risk: r, Cost: cost, Late: late})
	}
	var front []Outcome
	for i, a := range all {
		beaten := false
		for j, b := range all {
			if b.Cost <= a.Cost && b.Late <= a.Late && (b.Cost < a.Cost || b.Late < a.Late || j < i) {
				beaten = true
				break
			}
		}
		if !beaten {
			front = append(front, a)
		}
	}
	for i := 1; i < len(front); i++ {
		for j := i; j > 0 && front[j].Cost < front[j-1].Cost; j-- {
			front[j], front[j-1] = front[j-1], front[j]
		}
	}
	return front
}
