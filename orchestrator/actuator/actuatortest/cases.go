package actuatortest

import (
	"fmt"
	"time"
)

func (e *env) statusOnly() {
	before := e.world()
	for range 3 {
		e.notOurs()
	}
	e.sameAs(before, "after Status")
}

func (e *env) seen() {
	before := e.u.Rule(e.TB)
	until := long()
	if err := e.d.Apply(e.ctx, e.u.Orders(5), until); err != nil {
		e.Fatalf("apply: %v", err)
	}
	e.inForce(5)
	if s := e.status(); !s.Expires.IsZero() && s.Expires.Sub(until).Abs() > time.Second {
		e.Errorf("the status says that the orders expire at %v, and it is %v", s.Expires, until)
	} else if s.Expires.IsZero() && e.d.Capabilities().Expires {
		e.Error("orders end by themselves, and the status does not say when")
	}
	if after := e.u.Rule(e.TB); after == before {
		e.Errorf("orders were accepted, and what rules is %s as before", after)
	}
}

func (e *env) prolong() {
	e.apply(5)
	rule := e.u.Rule(e.TB)
	later := long().Add(time.Hour)
	for range 3 {
		if err := e.d.Apply(e.ctx, e.u.Orders(5), later); err != nil {
			e.Fatalf("apply again: %v", err)
		}
	}
	if again := e.u.Rule(e.TB); again != rule {
		e.Errorf("the same orders again make %s of %s", again, rule)
	}
	e.inForce(5)
	if s := e.status(); !s.Expires.IsZero() && s.Expires.Sub(later).Abs() > time.Second {
		e.Errorf("prolonged orders expire at %v, not at %v", s.Expires, later)
	}
}

func (e *env) smaller() {
	for _, n := range []int{5, 8, 4, 9, 4} {
		e.apply(n)
		e.inForce(n)
	}
}

func (e *env) revert() {
	before := e.world()
	e.apply(5)
	e.revertNow()
	e.sameAs(before, "after Revert")
	e.notOurs()
}

func (e *env) several() {
	before := e.world()
	for _, n := range []int{5, 8, 8, 6} {
		e.apply(n)
	}
	e.revertNow()
	e.sameAs(before, "after several orders and Revert")
	e.revertNow()
	e.sameAs(before, "after a second Revert")
}

func (e *env) nothing() {
	before := e.world()
	e.revertNow()
	e.sameAs(before, "after a Revert of nothing")
}

func (e *env) again() {
	before := e.world()
	for range 3 {
		e.apply(6)
		e.inForce(6)
		e.revertNow()
		e.sameAs(before, "after Revert")
	}
}

func (e *env) closeKeeps() {
	e.need(!e.h.Forgets, "orders that outlive their driver")
	e.apply(5)
	rule := e.u.Rule(e.TB)
	if err := e.d.Close(); err != nil {
		e.Errorf("close: %v", err)
	}
	if after := e.u.Rule(e.TB); after != rule {
		e.Errorf("Close made %s of %s", after, rule)
	}
}

func (e *env) restart() {
	before := e.world()
	e.apply(5)
	expires := e.status().Expires
	e.reopen()
	if e.h.Forgets {
		e.notOurs()
	} else {
		e.inForce(5)
		if s := e.status(); !s.Expires.Equal(expires) {
			e.Errorf("another driver says that the orders expire at %v, the one that gave them said %v", s.Expires, expires)
		}
	}
	e.revertNow()
	e.sameAs(before, "after another driver's Revert")
	e.notOurs()
}

func (e *env) goesOn() {
	before := e.world()
	e.apply(5)
	for _, n := range []int{5, 7, 4} {
		e.reopen()
		e.apply(n)
		e.inForce(n)
	}
	e.reopen()
	e.revertNow()
	e.sameAs(before, "after the Revert of a fourth driver")
}

// inPart lets f fail after each number of writes, and calls then on what is left behind.
func (e *env) inPart(first int, f func() error, then func(left int)) {
	e.need(e.u.Break != nil, "writes that fail")
	for after := range e.u.Writes {
		if first > 0 {
			e.apply(first)
		}
		e.u.Break(e.TB, after)
		err := f()
		e.u.Mend(e.TB)
		if err == nil {
			e.Errorf("the write after %d failed, and the call says nothing of it", after)
		}
		e.reopen()
		then(after)
	}
}

func (e *env) partAgain() {
	before := e.world()
	for _, first := range []int{0, 4} {
		e.inPart(first, func() error { return e.d.Apply(e.ctx, e.u.Orders(7), long()) }, func(left int) {
			e.apply(7)
			e.inForce(7)
			e.revertNow()
			e.sameAs(before, fmt.Sprintf("after orders that failed after %d writes, were given again and taken back", left))
		})
	}
}

func (e *env) partRevert() {
	before := e.world()
	for _, first := range []int{0, 4} {
		e.inPart(first, func() error { return e.d.Apply(e.ctx, e.u.Orders(7), long()) }, func(left int) {
			e.revertNow()
			e.sameAs(before, fmt.Sprintf("after the Revert of orders that failed after %d writes", left))
			e.notOurs()
		})
	}
}

func (e *env) partReverted() {
	before := e.world()
	e.inPart(6, func() error { return e.d.Revert(e.ctx) }, func(left int) {
		e.revertNow()
		e.sameAs(before, fmt.Sprintf("after a Revert that failed after %d writes, done again", left))
	})
}

func (e *env) expiry() {
	e.need(e.d.Capabilities().Expires, "orders that end by themselves")
	before := e.u.Rule(e.TB)
	if err := e.d.Apply(e.ctx, e.u.Orders(5), time.Now().Add(e.h.Life)); err != nil {
		e.Fatalf("apply: %v", err)
	}
	e.eventually("orders that were not renewed end", func() bool { return e.u.Rule(e.TB) == before && !e.status().Ours })
	e.apply(6)
	e.inForce(6)
}

func (e *env) prolonged() {
	e.need(e.d.Capabilities().Expires, "orders that end by themselves")
	start := time.Now()
	for _, life := range []time.Duration{e.h.Life, 100 * e.h.Life} {
		if err := e.d.Apply(e.ctx, e.u.Orders(5), start.Add(life)); err != nil {
			e.Fatalf("apply: %v", err)
		}
	}
	rule := e.u.Rule(e.TB)
	e.eventually("the first expiry passes", func() bool { return time.Since(start) > e.h.Life*3/2 })
	if after := e.u.Rule(e.TB); after != rule {
		e.Errorf("orders that were prolonged ended: %s after %s", after, rule)
	}
	e.inForce(5)
}

func (e *env) ready() {
	e.need(e.d.Capabilities().Ready && e.u.Work != nil, "workers that become ready")
	e.u.Work(e.TB)
	was := e.status().Ready
	e.apply(8)
	if s := e.status(); s.Ready != was || s.Starting != 8-was {
		e.Errorf("with %d of 8 workers ready the status says %+v", was, s)
	}
	e.u.Work(e.TB)
	if s := e.status(); s.Ready != 8 || s.Starting != 0 || s.Stopping != 0 {
		e.Errorf("with 8 workers ready the status says %+v", s)
	}
}
