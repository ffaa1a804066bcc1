package orchestrator

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/backoff"
)

// force is what is in force, as far as the loop knows.
type force struct {
	// workers were ordered when last looked, and since when.
	workers int
	changed time.Time
	known   bool
	// applied are the orders that the actuator accepted, of which entry, when and until when; nil where
	// there are none.
	applied *Orders
	of      uint64
	at      time.Time
	expires time.Time
	// failures in a row, and when the actuator is asked again.
	failures int
	next     time.Time
	retry    backoff.Retry
	// hands says until when and why the loop keeps its hands off.
	hands    time.Time
	handsWhy string
}

func retryOrders(period time.Duration) backoff.Retry {
	half := func() float64 { return 0.5 } // one loop: nothing to spread
	return backoff.Retry{Min: period, Max: max(5*time.Minute, period), Rand: half}
}

// inForce is what rules now: the actuator's word, or the workers that are there, or the
// latest that was known. Of a floor that is not ours, what rules above it is what is there.
func (f *force) inForce(now time.Time, s *Signals, st *Status, floor bool) Orders {
	o := Orders{Workers: f.workers}
	if f.applied != nil {
		o.Batch, o.Route = f.applied.Batch, f.applied.Route
	}
	switch {
	case st != nil:
		o.Workers, o.Batch, o.Route = st.Workers, st.Batch, st.Route
		if floor && !st.Ours {
			there := st.Ready + st.Starting
			if s.Known.Has(KnownWorkers) {
				there = s.Ready + s.Starting
			}
			o.Workers = max(o.Workers, there)
		}
	case f.applied != nil && now.Before(f.expires):
		o.Workers = f.applied.Workers
	case s.Known.Has(KnownWorkers):
		o.Workers = s.Ready + s.Starting
	}
	if !f.known || o.Workers != f.workers {
		f.known, f.workers, f.changed = true, o.Workers, now
	}
	o.Changed = f.changed
	return o
}

// fail counts a failure and says when the actuator is asked again.
func (f *force) fail(now time.Time, kind errkind.Kind) {
	f.next = now.Add(f.retry.Wait(f.failures, kind))
	f.failures++
}

// status reads what is there and holds it against what was accepted. It returns nil where nothing
// can be read.
func (l *Loop) status(ctx context.Context, e *Entry) *Status {
	if l.o.Actuator == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	st, err := l.o.Actuator.Status(ctx)
	if err != nil {
		e.note("the actuator's status cannot be read: %v", err)
		return nil
	}
	l.verify(e, &st)
	return &st
}

// verify notices an actuator that accepted orders and does not have them.
func (l *Loop) verify(e *Entry, st *Status) {
	f := &l.force
	if f.applied == nil {
		if st.Ours && l.o.Mode == ModeAct {
			// A loop before this one left them, or the answer to an order was lost: it ends when it would have.
			o := Orders{Workers: st.Workers, Batch: st.Batch, Route: st.Route, Changed: e.Time}
			f.applied, f.at = &o, e.Time
			if f.expires.IsZero() {
				f.expires = st.Expires
			}
			if f.expires.IsZero() {
				f.expires = e.Time.Add(l.o.TTL)
			}
		}
		return
	}
	if e.Time.Sub(f.at) < l.o.Pilot.Period()/2 {
		return // it was not given the time
	}
	can := l.o.Actuator.Capabilities()
	wrong := ""
	switch floor := can.Floor && st.Workers > f.applied.Workers; {
	case !st.Ours && !e.Time.Before(f.expires):
		f.applied, f.expires = nil, time.Time{} // they ended by themselves
		return
	case !st.Ours:
		wrong = "no order of ours is in force"
	case can.Workers && st.Workers != f.applied.Workers && !floor:
		wrong = fmt.Sprintf("%d are ordered", st.Workers)
	case can.Batch && f.applied.Batch > 0 && st.Batch != f.applied.Batch:
		wrong = fmt.Sprintf("its batch limit is %d, not %d", st.Batch, f.applied.Batch)
	case can.Route && !sameRoute(st.Route, f.applied.Route):
		wrong = fmt.Sprintf("it routes %.3g to %q, not %.3g to %q", st.Route.Share, st.Route.To, f.applied.Route.Share, f.applied.Route.To)
	}
	if wrong != "" {
		e.note("the actuator accepted %s at %s, and %s: it does not follow", workersText(f.applied.Workers), clock(f.at), wrong)
		f.fail(e.Time, errkind.Transient)
		f.applied = nil
		return
	}
	f.failures = 0
	if patience := 3*l.startUp() + time.Minute; can.Ready && f.known && st.Ready < f.applied.Workers && e.Time.Sub(f.changed) > patience {
		e.note("%d of %s ready, %s after the order", st.Ready, workersText(f.applied.Workers), roundDuration(e.Time.Sub(f.changed)))
	}
}

func (l *Loop) startUp() time.Duration {
	if l.last != nil && l.last.Round != nil && l.last.Round.Capacity.StartUp > 0 {
		return l.last.Round.Capacity.StartUp
	}
	return l.o.Capacity.StartUp
}

// decideToAct says in the entry whether its orders are to be carried out, and until when they last.
func (l *Loop) decideToAct(e *Entry) {
	f := &l.force
	if l.o.Mode != ModeAct {
		return
	}
	switch {
	case e.Held != "":
	case e.Time.Before(f.hands):
		e.Held = fmt.Sprintf("%s; the loop keeps its hands off until %s", f.handsWhy, clock(f.hands))
	case e.Time.Before(f.next):
		e.Held = fmt.Sprintf("the actuator failed %d times in a row; it is asked again at %s", f.failures, clock(f.next))
	case e.Round.Final.Hold && f.applied == nil:
		e.Held = "nothing of ours is in force, and nothing was decided"
	}
	if e.Held == "" {
		e.Expires = e.Time.Add(l.o.TTL)
	}
}

// carryOut gives the orders of a written entry to the actuator, where they are new or end soon.
func (l *Loop) carryOut(ctx context.Context, e *Entry) {
	f := &l.force
	if l.o.Mode != ModeAct || e.Held != "" {
		l.lapse(ctx, e)
		return
	}
	if !l.written(e) {
		e.Held = "it is not in the journal"
		l.lapse(ctx, e)
		return
	}
	// Near its end an order is renewed.
	soon := f.expires.Sub(e.Time) <= max(l.o.TTL/2, l.o.Pilot.Period()+l.o.Timeout)
	if f.applied != nil && sameOrders(*f.applied, e.After) && !soon {
		e.Expires = f.expires
		return
	}
	orders := e.After
	orders.Changed = e.Time
	if can := l.o.Actuator.Capabilities(); true {
		if !can.Batch {
			orders.Batch = 0
		}
		if !can.Route {
			orders.Route = Route{}
		}
		if !can.Workers {
			orders.Workers = 0
		}
	}
	actx, cancel := context.WithTimeout(ctx, l.o.Timeout)
	err := l.o.Actuator.Apply(actx, orders, e.Expires)
	cancel()
	l.answer(e, err)
	if err != nil {
		f.fail(e.Time, errkind.Of(err))
		f.applied = nil // the next status tells what is in force
		e.note("the actuator did not take %s: %v", workersText(e.After.Workers), err)
		return
	}
	if f.applied == nil || !sameOrders(*f.applied, e.After) {
		f.of, f.at = e.ID, e.Time
		if f.workers != e.After.Workers {
			f.workers, f.changed = e.After.Workers, e.Time
		}
	}
	applied := e.After
	f.applied, f.expires = &applied, e.Expires
}

// answer adds what the actuator said to an entry.
func (l *Loop) answer(e *Entry, err error) {
	a := Act{Time: l.o.Now()}
	if err != nil {
		a.Error, a.ErrorKind = err.Error(), errkind.Of(err).String()
	}
	e.Act = &a
	if l.o.Journal == nil || e.ID == 0 {
		return
	}
	if err := l.o.Journal.Answer(e.ID, a); err != nil {
		l.o.Logger.Error("an actuator's answer is not in the journal", "unit", l.o.Unit, "entry", e.ID, "error", err)
	}
}

// lapse ends orders that were not renewed, where they do not end by themselves.
func (l *Loop) lapse(ctx context.Context, e *Entry) {
	f := &l.force
	if f.applied == nil || e.Time.Before(f.expires) {
		return
	}
	if l.o.Mode == ModeAct && !l.o.Actuator.Capabilities().Expires {
		if err := l.revert(ctx); err != nil {
			e.note("orders that expired at %s could not be taken back: %v", clock(f.expires), err)
			return
		}
	}
	e.note("our orders expired at %s: what ruled before rules again", clock(f.expires))
	f.applied, f.expires = nil, time.Time{}
}

func (l *Loop) revert(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	return l.o.Actuator.Revert(ctx)
}

// keepOff makes the loop keep its hands off for a while.
func (f *force) keepOff(until time.Time, why string) {
	f.applied, f.expires = nil, time.Time{}
	f.hands, f.handsWhy = until, why
}

// readUndos learns of undos by other processes. Where nobody has reverted yet, the loop does.
func (l *Loop) readUndos(ctx context.Context, now time.Time) {
	if l.o.Journal == nil {
		return
	}
	others, err := l.o.Journal.Poll()
	if err != nil {
		return // Append says so
	}
	answered := map[uint64]bool{}
	for _, o := range others {
		answered[o.Of] = answered[o.Of] || o.Kind == KindAct && o.Act != nil && o.Act.Error == ""
	}
	for _, o := range others {
		if o.Kind != KindUndo || o.Unit != l.o.Unit {
			continue
		}
		why := fmt.Sprintf("%s has undone our orders (entry %d)", byText(o.By), o.ID)
		until := o.Expires
		if most := now.Add(24 * time.Hour); until.After(most) {
			until = most
		}
		var err error
		if l.o.Mode == ModeAct && !answered[o.ID] {
			err = l.revert(ctx)
			l.answer(o, err)
		}
		l.keepOff(now, until, why, err)
		l.o.Logger.Warn("orders were undone", "unit", l.o.Unit, "by", o.By, "why", o.Why, "hands_off_until", until)
	}
}

// keepOff keeps the hands off after a revert, which the next round repeats where it failed.
func (l *Loop) keepOff(now, until time.Time, why string, failed error) {
	f := &l.force
	applied := f.applied
	f.keepOff(until, why)
	if failed != nil {
		f.applied, f.expires = applied, now
	}
}

// Undo takes our orders back now and keeps the loop's hands off for a while. Of is the entry whose orders
// are undone, 0 the latest; one whose orders are not in force is Conflict. The entry that says so is
// written first.
func (l *Loop) Undo(ctx context.Context, of uint64, by, why string) (*Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.o.Now()
	f := &l.force
	if l.o.Mode != ModeAct || f.applied == nil {
		return nil, errkind.New(errkind.NotFound, "undo: no order of ours is in force")
	}
	if of != 0 && of != f.of {
		return nil, errkind.Errorf(errkind.Conflict, "undo %d: its orders are not in force any more; those of %d are", of, f.of)
	}
	e := l.entry(KindUndo, now, why)
	e.Of, e.By, e.Before, e.Expires = f.of, by, *f.applied, now.Add(l.o.Hands)
	return e, l.takeBack(ctx, e, fmt.Sprintf("%s has undone our orders", byText(by)))
}

// takeBack writes an entry, reverts, and keeps the hands off until the entry's Expires.
func (l *Loop) takeBack(ctx context.Context, e *Entry, why string) error {
	l.write(e)
	err := l.revert(ctx)
	l.answer(e, err)
	l.keepOff(e.Time, e.Expires, why, err)
	if err != nil {
		return fmt.Errorf("take orders back: %w", err)
	}
	return nil
}

// Stop ends a loop that makes no more rounds: what was ordered is taken back, unless Leave is set. Run calls it.
func (l *Loop) Stop(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.o.Now()
	f := &l.force
	l.closeAll(now)
	if l.o.Mode != ModeAct || f.applied == nil {
		l.write(l.entry(KindStop, now, "nothing of ours is in force"))
		return nil
	}
	e := l.entry(KindStop, now, "our orders are taken back")
	e.Of, e.Before = f.of, *f.applied
	if l.o.Leave {
		e.Why, e.Expires = fmt.Sprintf("our orders are left until %s", clock(f.expires)), f.expires
		l.write(e)
		return nil
	}
	return l.takeBack(ctx, e, "the loop ends")
}

func byText(by string) string {
	if by == "" {
		return "somebody"
	}
	return by
}
