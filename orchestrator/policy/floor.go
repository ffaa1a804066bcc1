package policy

import (
	"fmt"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// FloorConfig says how a Floor reckons. Zero values mean those of DefaultFloor.
type FloorConfig struct {
	// Stable and Fast are the two windows of the arrival rate.
	Stable, Fast time.Duration
	// Panic is how many times the fast rate must exceed the stable one to count instead of it.
	Panic float64
	// Utilisation is the share of the workers' time that may be planned with.
	Utilisation float64
	// Allow is the share of the target that a backlog may be old before it counts.
	Allow float64
	// CatchUp is within which time backlog beyond that is to be cleared.
	CatchUp time.Duration
	// Hold is how long fewer workers must have been enough before there are fewer.
	Hold time.Duration
}

// DefaultFloor is a floor that can stand alone.
func DefaultFloor() FloorConfig {
	return FloorConfig{
		Stable: time.Minute, Fast: 10 * time.Second, Panic: 1.2, Utilisation: 0.8,
		Allow: 0.1, CatchUp: time.Minute, Hold: 5 * time.Minute,
	}
}

// Floor is the reactive floor: as many workers as the measured rate and the measured backlog
// need, with no forecast. Its two windows and its holding of the maximum are Knative's (KPA); its clearing of
// backlog, lag/(rate·catch-up), is that of Flink's autoscaler (FLIP-271). It knows that n workers are not always n (Capacity.Effective).
type Floor struct {
	set   FloorConfig
	past  past
	fleet fleet
	wants held
}

// NewFloor returns a floor.
func NewFloor(set FloorConfig) *Floor {
	d := DefaultFloor()
	orDefault(&set.Stable, d.Stable)
	orDefault(&set.Fast, d.Fast)
	orDefault(&set.Panic, d.Panic)
	orDefault(&set.Utilisation, d.Utilisation)
	orDefault(&set.CatchUp, d.CatchUp)
	return &Floor{set: set}
}

func orDefault[T int | float64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Name is "floor".
func (f *Floor) Name() string { return "floor" }

// Period is 10 seconds.
func (f *Floor) Period() time.Duration { return 10 * time.Second }

// Decide orders what rate and backlog need.
func (f *Floor) Decide(in *orchestrator.Input) orchestrator.Decision {
	s := in.Signals
	f.past.see(s)
	f.fleet.update(in.Capacity, topOf(in.Objective))
	if s.Known&(orchestrator.KnownArrivals|orchestrator.KnownLag) == 0 || s.Known&orchestrator.KnownArrivals == 0 && f.past.n == 0 {
		return orchestrator.Decision{Workers: in.Target, Hold: true, Reason: "Neither rate nor lag is known."}
	}
	batch := steadyBatch(in.Capacity, in.Objective)
	mu := in.Capacity.Rate(batch)
	rate, backlog := f.measure(in, batch)
	work := rate/(mu*f.set.Utilisation) + backlog/(mu*f.set.CatchUp.Seconds())
	n := f.fleet.need(work)
	d := orchestrator.Decision{Workers: n, Batch: batch}
	if f.set.Hold > 0 {
		d.Workers = f.wants.max(in.Now, f.set.Hold, n)
	}
	if in.Explain {
		d.Reason = fmt.Sprintf("%.4g events/s and a backlog of %.4g events to clear within %s need %d workers of %.4g events/s", rate, backlog, f.set.CatchUp, n, mu)
		if d.Workers > n {
			d.Reason += fmt.Sprintf("; %d were needed within the last %s", d.Workers, f.set.Hold)
		}
		d.Reason += "."
	}
	return d
}

// measure returns the rate that counts, and the backlog beyond what is allowed.
func (f *Floor) measure(in *orchestrator.Input, batch int) (rate, backlog float64) {
	s := in.Signals
	rate = f.past.mean(s.Time, f.set.Stable)
	if fast := f.past.mean(s.Time, f.set.Fast); fast > rate*f.set.Panic {
		rate = fast
	}
	free := f.set.Allow*in.Objective.Target.Seconds() + 2*in.Capacity.Service(float64(batch))
	return rate, max(0, backlogOf(s, &f.past)-rate*free)
}

// backlogOf returns the events not served, reckoned by the oldest: with uneven partitions the one that is
// furthest behind counts, as if all of them were.
func backlogOf(s *orchestrator.Signals, p *past) float64 {
	b := 0.0
	if s.Known.Has(orchestrator.KnownLag) {
		b = s.Lag
	}
	if s.Known.Has(orchestrator.KnownOldest) && s.Oldest > 0 {
		b = max(b, p.between(s.Time.Add(-min(s.Oldest, 100*time.Hour)), s.Time))
	}
	return b
}

// topOf is the most workers to reckon with.
func topOf(o *orchestrator.Objective) int {
	if o.Max > 0 {
		return max(o.Max, o.Min)
	}
	return max(1000, o.Min)
}

// held remembers the largest of the last stretch of time.
type held struct {
	at []time.Time
	n  []int
}

// max adds n and returns the largest of the stretch. Only what may become the largest yet is kept.
func (h *held) max(now time.Time, stretch time.Duration, n int) int {
	k := 0
	for k < len(h.at) && (h.at[k].Before(now.Add(-stretch)) || h.at[k].After(now)) {
		k++
	}
	if k > 0 {
		h.at = h.at[:copy(h.at, h.at[k:])]
		h.n = h.n[:copy(h.n, h.n[k:])]
	}
	for len(h.n) > 0 && h.n[len(h.n)-1] <= n {
		h.at, h.n = h.at[:len(h.at)-1], h.n[:len(h.n)-1]
	}
	h.at, h.n = append(h.at, now), append(h.n, n)
	return h.n[0]
}
