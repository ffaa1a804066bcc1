package orchestrator

import (
	"fmt"
	"math"
	"time"
)

// The rails, by name.
const (
	RailStale      = "stale signals"   // nothing is changed on signals that are old or missing
	RailBlind      = "blind"           // after long blindness the safe count is ordered
	RailBacklog    = "old backlog"     // nothing is taken away while the oldest event is old
	RailHold       = "hold"            // the way down waits
	RailStepUp     = "step up"         // so much more at once
	RailStepDown   = "step down"       // so much less at once
	RailActions    = "actions an hour" // so many changes an hour
	RailPartitions = "partitions"      // no more workers than partitions
	RailCeiling    = "cost ceiling"    // no more than may be spent
	RailBounds     = "bounds"          // the objective's Min and Max
	RailAbsurd     = "not a number"    // orders that mean nothing
	railWindow     = time.Hour         // that actions and peaks are counted in
	railActionsMax = 1024              // as many times are kept
	railWantsMax   = 512               // as many wishes
)

// Rails bound what any policy may order. The zero value of a field leaves that rail out,
// except where said.
type Rails struct {
	// UpStep and UpFactor: in one step the workers may grow to the larger of n + UpStep and n·UpFactor.
	UpStep   int
	UpFactor float64
	// DownStep and DownShare: in one step at most the larger of DownStep workers and n·DownShare are taken away.
	DownStep  int
	DownShare float64
	// Actions is how many changes of the workers an hour may see. The last quarter of them is kept for the way up.
	Actions int
	// OldShare: nothing is taken away while the oldest event is older than this share of the target.
	OldShare float64
	// Stale is the age from which signals do not count any more, and orders stay as they are; 0 means 6 times the
	// policy's period, at least a minute. Blind is how long that may last before Safe workers are ordered
	// (never fewer than there are); 0 means 10 minutes. Safe 0 means the most that were ordered within the last hour.
	Stale, Blind time.Duration
	Safe         int
	// Hold is how long fewer workers must have been wanted without a break before they are ordered: the
	// largest wish of this time counts.
	Hold time.Duration
}

// DefaultRails are wide: they are to bite when something is wrong, not in normal times.
func DefaultRails() Rails {
	return Rails{
		UpStep: 16, UpFactor: 3, DownStep: 4, DownShare: 0.5,
		Actions: 120, OldShare: 0.5, Hold: 0,
	}
}

// railing applies rails and keeps what they need to know of the past.
type railing struct {
	Rails
	period  time.Duration
	explain bool
	changes ring // when the workers were changed, and to what
	wants   ring // what was wanted
	last    time.Time
	blind   time.Time // since when
	bites   []Bite
}

// ring keeps the latest entries of a window, oldest first.
type ring struct {
	at    []time.Time
	n     []int
	limit int
}

func (r *ring) add(at time.Time, n int) {
	if len(r.at) >= r.limit {
		r.drop(len(r.at) - r.limit + 1)
	}
	r.at, r.n = append(r.at, at), append(r.n, n)
}

func (r *ring) drop(k int) {
	r.at = r.at[:copy(r.at, r.at[k:])]
	r.n = r.n[:copy(r.n, r.n[k:])]
}

func (r *ring) since(from time.Time) {
	k := 0
	for k < len(r.at) && r.at[k].Before(from) {
		k++
	}
	if k > 0 {
		r.drop(k)
	}
}

func (r *ring) max() int {
	m := 0
	for _, n := range r.n {
		m = max(m, n)
	}
	return m
}

func newRailing(rails Rails, period time.Duration) *railing {
	if rails.Stale <= 0 {
		rails.Stale = max(time.Minute, 6*period)
	}
	if rails.Blind <= 0 {
		rails.Blind = 10 * time.Minute
	}
	r := &railing{Rails: rails, period: period}
	r.changes.limit, r.wants.limit = railActionsMax, railWantsMax
	return r
}

func (r *railing) bite(rail string, from, to int, format string, args ...any) int {
	b := Bite{Rail: rail, From: from, To: to}
	if r.explain {
		b.Why = fmt.Sprintf(format, args...)
	}
	r.bites = append(r.bites, b)
	return to
}

// see takes note of the time and of the orders in force. A clock that was set back empties what lies after it.
func (r *railing) see(now time.Time, ordered Orders) {
	r.bites = r.bites[:0]
	if now.Before(r.last) {
		r.changes.drop(len(r.changes.at))
		r.wants.drop(len(r.wants.at))
		r.blind = time.Time{}
	}
	r.last = now
	r.changes.since(now.Add(-railWindow))
	if k := len(r.changes.at); k == 0 || r.changes.n[k-1] != ordered.Workers {
		at := ordered.Changed
		if at.IsZero() || at.After(now) {
			at = now
		}
		r.changes.add(at, ordered.Workers)
	}
}

// dark decides without signals. It returns false where signals of this age will do.
func (r *railing) dark(now time.Time, age time.Duration, missing bool, ordered Orders, o *Objective) (Decision, bool) {
	if !missing && age <= r.Stale && age >= -r.Stale {
		r.blind = time.Time{}
		return Decision{}, false
	}
	if r.blind.IsZero() {
		r.blind = now
		if !missing && age > 0 {
			r.blind = now.Add(-age)
		}
	}
	n := ordered.Workers
	d := Decision{Workers: n, Batch: ordered.Batch, Route: ordered.Route, Hold: true}
	dark := now.Sub(r.blind)
	if dark < r.Blind {
		what := fmt.Sprintf("signals are %s old", age.Round(time.Second))
		if missing {
			what = "signals are missing"
		}
		r.bite(RailStale, n, n, "%s; orders stay as they are", what)
		d.Reason = what + "; orders stay as they are."
		return d, true
	}
	safe := r.Safe
	if safe <= 0 {
		safe = r.changes.max()
	}
	safe = bound(max(safe, n), o)
	if safe != n {
		d.Hold, d.Workers = false, safe
		r.bite(RailBlind, n, safe, "nothing is known for %s; %d workers are the safe count", dark.Round(time.Second), safe)
	} else {
		r.bite(RailBlind, n, n, "nothing is known for %s; the %d workers stay", dark.Round(time.Second), n)
	}
	d.Reason = fmt.Sprintf("Nothing is known for %s; %d workers are the safe count.", dark.Round(time.Second), safe)
	return d, true
}

func bound(n int, o *Objective) int {
	if o.Max > 0 {
		n = min(n, o.Max)
	}
	return max(n, o.Min, 0)
}

// apply returns d within the rails.
func (r *railing) apply(now time.Time, d Decision, s *Signals, ordered Orders, c *Capacity, o *Objective) Decision {
	have := ordered.Workers
	n := d.Workers
	if d.Hold {
		n = have
	}
	if n < 0 {
		n = r.bite(RailAbsurd, n, have, "%d workers cannot be ordered", n)
	}
	if d.Batch < 0 || d.Batch > max(c.Batch, c.MaxBatch) {
		d.Batch = min(max(d.Batch, 0), max(c.Batch, c.MaxBatch))
	}
	if sh := d.Route.Share; math.IsNaN(sh) || sh <= 0 || d.Route.To == "" {
		d.Route = Route{}
	} else {
		d.Route.Share = min(sh, 1)
	}
	n = r.down(now, n, have, s, o)
	n = r.steps(n, have)
	n = r.count(n, have)
	if p := c.Partitions; p > 0 && n > p {
		n = r.bite(RailPartitions, n, p, "%d workers cannot all have one of %d partitions", n, p)
	}
	if o.Ceiling > 0 && c.Price() > 0 {
		if most := max(int(min(o.Ceiling/(c.Price()*3600)+1e-9, 1e9)), o.Min, 1); n > most {
			n = r.bite(RailCeiling, n, most, "%d workers would cost %.4g an hour, %.4g is the ceiling", n, float64(n)*c.Price()*3600, o.Ceiling)
		}
	}
	if b := bound(n, o); b != n {
		n = r.bite(RailBounds, n, b, "%d workers are outside of %d to %d", n, o.Min, o.Max)
	}
	d.Workers = n
	return d
}

// down holds the way down.
func (r *railing) down(now time.Time, n, have int, s *Signals, o *Objective) int {
	if r.Hold > 0 {
		r.wants.since(now.Add(-r.Hold))
		r.wants.add(now, n)
		if m := min(r.wants.max(), have); n < m {
			n = r.bite(RailHold, n, m, "%d were wanted within the last %s", m, r.Hold)
		}
	}
	if n < have && r.OldShare > 0 && s.Known.Has(KnownOldest) {
		if limit := time.Duration(r.OldShare * float64(o.Target)); s.Oldest > limit {
			n = r.bite(RailBacklog, n, have, "the oldest event waits for %s, and nothing is taken away above %s", s.Oldest.Round(100*time.Millisecond), limit)
		}
	}
	return n
}

func (r *railing) steps(n, have int) int {
	if n > have && (r.UpStep > 0 || r.UpFactor > 1) {
		if most := max(have+r.UpStep, int(min(float64(have)*r.UpFactor, 1e9)), 1); n > most {
			n = r.bite(RailStepUp, n, most, "from %d at most %d at once", have, most)
		}
	}
	if n < have && (r.DownStep > 0 || r.DownShare > 0) {
		if least := have - max(r.DownStep, int(float64(have)*r.DownShare), 1); n < least {
			n = r.bite(RailStepDown, n, least, "from %d at least %d at once", have, least)
		}
	}
	return n
}

func (r *railing) count(n, have int) int {
	if r.Actions <= 0 || n == have {
		return n
	}
	made := len(r.changes.at) - 1 // the first is where the hour began
	limit := r.Actions
	if n < have {
		limit -= r.Actions / 4
	}
	if made >= limit {
		return r.bite(RailActions, n, have, "%d changes within the last hour, %d are allowed in this direction", made, limit)
	}
	return n
}
