package orchestrator

import (
	"math"
	"time"
)

// Counterfactual is what a policy would have ordered on the inputs of a journal, and what that
// would have cost.
type Counterfactual struct {
	Policy string
	// From and Until bound what was replayed; Rounds is how many decisions it had.
	From, Until time.Time
	Rounds      int
	// Orders are what was wanted in force from each round on.
	Orders []ReplayedOrder
	// WorkerSeconds were to be paid, from each order on and with the time that workers take to stop; Cost is their price.
	WorkerSeconds, Cost float64
	// Actions are changes of the number of workers, Peak the largest.
	Actions, Peak int
	// Late is an estimate of the share of late events, and LateSeconds of the time in which what came was late: a fluid queue that is fed
	// with the recorded arrivals and served by what was ordered, with the recorded start-up time and the
	// partitions that the capacity has. NaN where arrivals or capacity are not known.
	Late, LateSeconds float64
	// Differs is the number of rounds in which it differs from what was ordered in truth.
	Differs int
}

// ReplayedOrder is what was ordered at one time.
type ReplayedOrder struct {
	Time    time.Time
	Workers int
	// Hold says that nothing was decided.
	Hold bool
}

// Replay asks a policy on the recorded inputs of entries, oldest first, and in order: signals, forecasts, capacities and the
// orders that were in force, as if it had looked on. Its own orders are not fed back, since the signals would not
// fit them: what it says is what it would have ordered at each moment, given what was there. Entries that are no rounds are
// passed over; a gap of more than ten periods is not counted.
func Replay(entries []*Entry, p Policy) Counterfactual {
	r := replay{c: Counterfactual{Policy: p.Name()}}
	var asked time.Time
	n, hold := 0, true
	for _, e := range rounds(entries) {
		// Asked when its own period is over, which may be longer than that of the journal.
		if due := asked.Add(p.Period() - e.Period/2); asked.IsZero() || !e.Time.Before(due) {
			asked = e.Time
			round := e.Round
			in := Input{
				Now: e.Time, Signals: &round.Signals, Demand: &round.Demand, Capacity: &round.Capacity, Objective: &round.Objective,
				Target: e.Before.Workers, Changed: e.Before.Changed,
			}
			d := p.Decide(&in)
			if hold = d.Hold; hold {
				d.Workers = e.Before.Workers
			}
			n = bound(d.Workers, &round.Objective)
		}
		r.add(e, n, hold)
	}
	return r.finish()
}

// Done is the same account of what was ordered in truth: in mode act what was carried out, otherwise what
// was in force.
func Done(entries []*Entry) Counterfactual {
	r := replay{c: Counterfactual{Policy: "as done"}}
	for _, e := range rounds(entries) {
		r.add(e, inTruth(e), false)
	}
	return r.finish()
}

func inTruth(e *Entry) int {
	if e.Mode == ModeAct && e.Held == "" && (e.Act == nil || e.Act.Error == "") {
		return e.After.Workers
	}
	return e.Before.Workers
}

func rounds(entries []*Entry) []*Entry {
	var out []*Entry
	for _, e := range entries {
		if e.Kind == KindRound && e.Round != nil {
			out = append(out, e)
		}
	}
	return out
}

// replay sums up one row of orders.
type replay struct {
	c     Counterfactual
	last  *Entry
	at    int // workers in force since last
	queue fluid
}

// add lets n workers be in force from an entry on.
func (r *replay) add(e *Entry, n int, hold bool) {
	c := &r.c
	if r.last == nil {
		c.From, r.at = e.Time, n
		r.queue.begin(e, n)
	} else {
		r.pass(e)
	}
	if c.Rounds > 0 && n != r.at {
		c.Actions++
		if n < r.at {
			w := float64(r.at-n) * e.Round.Capacity.Stop.Seconds()
			c.WorkerSeconds += w
			c.Cost += w * e.Round.Capacity.Price()
		}
	}
	if n != inTruth(e) {
		c.Differs++
	}
	r.queue.order(e, n)
	c.Orders = append(c.Orders, ReplayedOrder{e.Time, n, hold})
	c.Rounds++
	c.Peak = max(c.Peak, n)
	c.Until = e.Time
	r.last, r.at = e, n
}

// pass counts the time since the last entry.
func (r *replay) pass(e *Entry) {
	dt := e.Time.Sub(r.last.Time)
	if limit := 10 * max(r.last.Period, time.Second); dt > limit || dt <= 0 {
		r.queue.begin(e, r.at) // nobody was there to see
		return
	}
	w := float64(r.at) * dt.Seconds()
	r.c.WorkerSeconds += w
	r.c.Cost += w * r.last.Round.Capacity.Price()
	r.queue.pass(e, dt.Seconds())
}

func (r *replay) finish() Counterfactual {
	c := r.c
	c.Late, c.LateSeconds = math.NaN(), math.NaN()
	if q := &r.queue; q.known && q.events > 0 {
		c.Late, c.LateSeconds = q.late/q.events, q.lateSeconds
	}
	return c
}

// fluid is a queue fed by a rate and served by whole workers.
type fluid struct {
	backlog  float64
	ready    int
	starting []struct {
		at time.Time
		n  int
	}
	known                     bool
	events, late, lateSeconds float64
}

func (q *fluid) begin(e *Entry, n int) {
	s := &e.Round.Signals
	q.ready, q.starting, q.backlog = n, q.starting[:0], 0
	if s.Known.Has(KnownLag) {
		// What workers hold is on its way.
		q.backlog = max(0, finite(s.Lag)-finite(s.InFlight))
	}
}

// order brings the workers to n: those that start are cancelled first.
func (q *fluid) order(e *Entry, n int) {
	have := q.ready
	for _, s := range q.starting {
		have += s.n
	}
	if n > have {
		q.starting = append(q.starting, struct {
			at time.Time
			n  int
		}{e.Time.Add(e.Round.Capacity.StartUp), n - have})
	}
	for i := len(q.starting) - 1; i >= 0 && have > n; i-- {
		gone := min(q.starting[i].n, have-n)
		q.starting[i].n -= gone
		have -= gone
	}
	if have > n {
		q.ready -= have - n
	}
}

// pass serves what came in the seconds up to an entry, whose signals tell its rate.
func (q *fluid) pass(e *Entry, dt float64) {
	for len(q.starting) > 0 && !q.starting[0].at.After(e.Time) {
		q.ready += q.starting[0].n
		q.starting = q.starting[1:]
	}
	r := e.Round
	mu := r.Capacity.Rate(0)
	if !r.Signals.Known.Has(KnownArrivals) || r.Capacity.Batch <= 0 || math.IsInf(mu, 0) || mu <= 0 || r.Objective.Target <= 0 {
		return
	}
	q.known = true
	in := max(0, finite(r.Signals.Arrivals)) * dt
	can := mu * r.Capacity.Effective(q.ready)
	q.backlog = max(0, q.backlog+in-can*dt)
	q.events += in
	wait := math.Inf(1)
	if can > 0 {
		wait = q.backlog / can
	}
	if q.backlog > 0 && wait > r.Objective.Target.Seconds() {
		q.late += in
		q.lateSeconds += dt
	}
}
