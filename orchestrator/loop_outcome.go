package orchestrator

import (
	"context"
	"fmt"
	"math"
	"time"
)

// sample is what one round saw.
type sample struct {
	at                          time.Time
	known                       Known
	arrivals, served, late, lag float64
	fresh, oldest               time.Duration
	paid                        int
}

// history is the samples of the last minutes and the entries whose outcome is not known yet.
type history struct {
	keep    time.Duration
	samples []sample
	open    []open
}

type open struct {
	id      uint64
	at      time.Time
	workers int
	price   float64
	ready   time.Duration // negative until they are
}

// maxOpen bounds the entries that wait for their outcome.
const maxOpen = 4096

// see keeps what this round saw.
func (l *Loop) see(e *Entry, s *Signals) {
	h := &l.history
	if k := len(h.samples); s.Known != 0 && (k == 0 || s.Time.After(h.samples[k-1].at)) {
		h.samples = append(h.samples, sample{
			at: s.Time, known: s.Known, arrivals: finite(s.Arrivals), served: finite(s.Served), late: finite(s.Late),
			fresh: s.Fresh, oldest: s.Oldest, lag: finite(s.Lag), paid: s.Ready + s.Starting + s.Stopping,
		})
	}
	cut := 0
	for cut < len(h.samples) && e.Time.Sub(h.samples[cut].at) > h.keep {
		cut++
	}
	if cut > 0 {
		h.samples = h.samples[:copy(h.samples, h.samples[cut:])]
	}
	if !s.Known.Has(KnownWorkers) {
		return
	}
	for i := range h.open {
		if o := &h.open[i]; o.ready < 0 && s.Ready >= o.workers {
			o.ready = max(0, e.Time.Sub(o.at))
		}
	}
}

func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x
}

// closeOutcomes adds outcomes to the entries whose time is over, and waits for that of the latest.
func (l *Loop) closeOutcomes(now time.Time) {
	h := &l.history
	for len(h.open) > 0 && now.Sub(h.open[0].at) >= l.o.Outcome {
		l.closeOutcome(&h.open[0], h.open[0].at.Add(l.o.Outcome))
		h.open = h.open[:copy(h.open, h.open[1:])]
	}
}

// closeAll adds outcomes to all, with what is known so far.
func (l *Loop) closeAll(now time.Time) {
	for i := range l.history.open {
		l.closeOutcome(&l.history.open[i], now)
	}
	l.history.open = nil
}

// await begins to wait for the outcome of a written entry.
func (l *Loop) await(e *Entry) {
	h := &l.history
	if l.o.Journal == nil || e.ID == 0 || len(h.open) >= maxOpen {
		return
	}
	ready := -time.Second
	if e.After.Workers <= e.Before.Workers {
		ready = 0
	}
	h.open = append(h.open, open{id: e.ID, at: e.Time, workers: e.After.Workers, price: e.Round.Capacity.Price(), ready: ready})
}

func (l *Loop) closeOutcome(w *open, until time.Time) {
	o := l.history.outcome(w.at, until)
	o.Cost = o.WorkerSeconds * w.price
	o.Ready = w.ready
	if err := l.o.Journal.Outcome(w.id, o); err != nil {
		l.o.Logger.Error("an outcome is not in the journal", "unit", l.o.Unit, "entry", w.id, "error", err)
	}
}

// outcome sums up what was seen in a stretch of time.
func (h *history) outcome(from, until time.Time) Outcome {
	o := Outcome{Until: until}
	var seconds, published, late, paidSeconds float64
	prev := from
	for i := range h.samples {
		s := &h.samples[i]
		if !s.at.After(from) || s.at.After(until) {
			continue
		}
		dt := s.at.Sub(prev).Seconds()
		prev = s.at
		o.Known |= s.known & (KnownArrivals | KnownLate | KnownOldest | KnownLag | KnownWorkers)
		if s.known.Has(KnownArrivals) {
			o.Arrivals += s.arrivals * dt
			seconds += dt
		}
		if s.known.Has(KnownLate) {
			w := dt // by events where they were counted, or else by time
			if s.known.Has(KnownServed) {
				w = s.served * dt
			}
			published += w
			late += s.late * w
			o.Fresh = max(o.Fresh, s.fresh)
		}
		if s.known.Has(KnownOldest) {
			o.Oldest = max(o.Oldest, s.oldest)
		}
		if s.known.Has(KnownLag) {
			o.Lag = s.lag
		}
		if s.known.Has(KnownWorkers) {
			o.WorkerSeconds += float64(s.paid) * dt
			paidSeconds += dt
		}
	}
	if seconds > 0 {
		o.Arrivals /= seconds
	}
	if published > 0 {
		o.Late = late / published
	}
	if paidSeconds > 0 {
		// The stretch behind the last sample is taken to be like the mean.
		o.WorkerSeconds *= until.Sub(from).Seconds() / paidSeconds
	}
	return o
}

// breachWindow is how long behind an order a broken objective is held against it.
const breachWindow = 5 * time.Minute

// breach knows the last orders that kept the objective.
type breach struct {
	good  *Orders
	since time.Time // orders that keep it so far have been in force since
	tried Orders
	// lift keeps the good orders as the least, until when.
	lift   time.Time
	lifted Orders
	strike time.Time // the breach before
}

// guard puts the last orders that kept the objective in the place of a decision, where the
// objective was broken behind an order of ours that took something away.
func (l *Loop) guard(ctx context.Context, e *Entry) {
	if l.o.Mode != ModeAct {
		return
	}
	b := &l.breach
	target, allowed := e.Round.Objective.Target, 1-e.Round.Objective.Quantile
	if target <= 0 {
		return
	}
	if !sameOrders(b.tried, e.Before) || b.since.IsZero() {
		b.tried, b.since = e.Before, e.Time
	}
	broken, kept := l.judge(b.since, target, allowed)
	if kept && e.Time.Sub(b.since) >= max(time.Minute, 3*l.o.Pilot.Period()) {
		good := e.Before
		b.good = &good
	}
	window := max(breachWindow, 2*e.Round.Capacity.StartUp)
	if broken && b.good != nil && l.force.applied != nil && e.Time.Sub(b.since) <= window && !e.Time.Before(b.lift) && took(b.good, &e.Before) {
		b.lift, b.lifted = e.Time.Add(max(2*breachWindow, window)), *b.good
		second := !b.strike.IsZero() && e.Time.Sub(b.strike) < time.Hour
		b.strike = e.Time
		e.note("the objective was broken %s after %s became %s; back to the last orders that kept it",
			roundDuration(e.Time.Sub(b.since)), workersText(b.good.Workers), workersText(e.Before.Workers))
		if second && l.o.Actuator.Capabilities().Floor {
			e.Held = "it is the second breach behind our orders in an hour: they are taken back"
			l.giveUp(ctx, e)
			return
		}
	}
	if e.Time.Before(b.lift) {
		l.lift(e)
	}
}

// giveUp takes back all orders and leaves the reactive scaler alone for a while.
func (l *Loop) giveUp(ctx context.Context, e *Entry) {
	now := e.Time
	r := l.entry(KindRevert, now, "two breaches of the objective behind our orders within an hour")
	r.Of, r.Before, r.Expires = l.force.of, e.Before, now.Add(l.o.Hands)
	l.breach.lift, l.breach.strike = time.Time{}, time.Time{}
	if err := l.takeBack(ctx, r, "two breaches behind our orders"); err != nil {
		e.note("%v", err)
	}
}

// lift makes the good orders the least.
func (l *Loop) lift(e *Entry) {
	good := l.breach.lifted
	was := e.After
	e.After.Workers = max(e.After.Workers, good.Workers)
	if good.Batch > 0 && e.After.Batch != good.Batch {
		e.After.Batch = good.Batch
	}
	if e.After.Route.Share < good.Route.Share {
		e.After.Route = good.Route
	}
	if !sameOrders(was, e.After) {
		e.note("%s, as before the breach, are the least until %s", workersText(good.Workers), clock(l.breach.lift))
	}
}

// took says that orders give less than the good ones did.
func took(good, now *Orders) bool {
	return now.Workers < good.Workers || good.Batch > 0 && now.Batch != good.Batch || now.Route.Share < good.Route.Share
}

// judge says whether the objective was broken, or kept, since a time. Neither is known with fewer than two samples.
func (l *Loop) judge(since time.Time, target time.Duration, allowed float64) (broken, kept bool) {
	o := l.history.outcome(since, l.o.Now())
	n := 0
	for i := range l.history.samples {
		if l.history.samples[i].at.After(since) {
			n++
		}
	}
	if n < 2 {
		return false, false
	}
	late := o.Known.Has(KnownLate) && o.Late > allowed
	old := o.Known.Has(KnownOldest) && o.Oldest > target
	known := o.Known&(KnownLate|KnownOldest) != 0
	return late || old && !o.Known.Has(KnownLate), known && !late && !old
}

func workersText(n int) string {
	if n == 1 {
		return "1 worker"
	}
	return fmt.Sprintf("%d workers", n)
}

// clock is a time of day, as accounts name it.
func clock(t time.Time) string { return t.UTC().Format("15:04:05") }

// roundDuration drops what nobody reads.
func roundDuration(d time.Duration) time.Duration {
	switch {
	case d >= 10*time.Second:
		return d.Round(time.Second)
	case d >= time.Second:
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}
