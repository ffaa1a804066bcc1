package policy

import (
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// pipe knows which workers are starting, and since when.
type pipe struct {
	since  []time.Time // when each was ordered, oldest first
	target int
	before int // what was ordered before the latest change
	known  bool
}

// update takes what is ordered and what is ready.
func (p *pipe) update(in *orchestrator.Input) {
	s := in.Signals
	changed := in.Changed
	if changed.IsZero() || changed.After(in.Now) {
		changed = in.Now
	}
	if !p.known {
		p.known, p.target, p.before = true, in.Target, in.Target
	}
	if in.Target != p.target {
		p.before = p.target
		for n := p.target; n < in.Target && len(p.since) < 10_000; n++ {
			p.since = append(p.since, changed)
		}
		// Those still starting go first, the newest before the others.
		p.since = p.since[:max(0, len(p.since)-max(0, p.target-in.Target))]
		p.target = in.Target
	}
	if !s.Known.Has(orchestrator.KnownWorkers) {
		// Without a count they are ready when they should be.
		for len(p.since) > 0 && in.Now.Sub(p.since[0]) >= in.Capacity.StartUp {
			p.since = p.since[:copy(p.since, p.since[1:])]
		}
		return
	}
	ordered := in.Target // when the signals were taken
	if in.Changed.After(s.Time) {
		ordered = min(p.before, in.Target)
	}
	seen := 0 // starting workers that the signals can know of
	for seen < len(p.since) && !p.since[seen].After(s.Time) {
		seen++
	}
	missing := max(0, ordered-s.Ready)
	if seen > missing {
		p.since = p.since[:copy(p.since, p.since[seen-missing:])]
	}
	for ; seen < missing && len(p.since) < 10_000; seen++ {
		// Lost, or ordered before this began: nobody knows when it will be there.
		p.since = append(p.since, time.Time{})
		copy(p.since[seen+1:], p.since[seen:])
		p.since[seen] = s.Time
	}
}

// ready fills in how many of those alive are ready in the middle of each step.
func (p *pipe) ready(into []int, in *orchestrator.Input, step time.Duration) {
	for k := range into {
		at := in.Now.Add(time.Duration(k)*step + step/2)
		late := 0
		for _, since := range p.since {
			ready := since.Add(in.Capacity.StartUp)
			if soon := in.Now.Add(step); ready.Before(soon) {
				// It is due, and not there yet.
				ready = in.Now.Add(step / 2)
			}
			if ready.After(at) {
				late++
			}
		}
		into[k] = max(0, in.Target-late)
	}
}
