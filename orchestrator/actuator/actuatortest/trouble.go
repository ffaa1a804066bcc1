package actuatortest

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

func (e *env) lie() {
	e.need(e.u.Lie != nil, "orders that are not carried out")
	e.u.Lie(e.TB)
	if err := e.d.Apply(e.ctx, e.u.Orders(8), long()); err != nil {
		return // found out at once
	}
	s, o := e.status(), e.u.Orders(8)
	if s.Workers == o.Workers && s.Batch == o.Batch && s.Route == o.Route {
		e.Errorf("the orders are not carried out, and the status is %+v", s)
	}
}

func (e *env) refused() {
	e.need(e.u.Refuse != nil, "permission that can be taken away")
	before := e.world()
	e.u.Refuse(e.TB, true)
	e.kind("apply", e.d.Apply(e.ctx, e.u.Orders(8), long()), errkind.Config)
	e.u.Refuse(e.TB, false)
	e.sameAs(before, "after refused orders")
	e.notOurs()
	e.apply(8)
	rule := e.u.Rule(e.TB)
	e.u.Refuse(e.TB, true)
	e.kind("revert", e.d.Revert(e.ctx), errkind.Config)
	e.u.Refuse(e.TB, false)
	if after := e.u.Rule(e.TB); after != rule {
		e.Errorf("a refused Revert made %s of %s", after, rule)
	}
	e.revertNow()
	e.sameAs(before, "after Revert")
}

func (e *env) conflict() {
	e.need(e.u.Meddle != nil, "another writer")
	e.apply(5)
	e.u.Meddle(e.TB, 9)
	theirs := e.u.Rule(e.TB)
	if s := e.status(); s.Workers == e.u.Orders(5).Workers && s.Batch == e.u.Orders(5).Batch && s.Ours {
		e.Errorf("someone else has ordered %+v, and the status is %+v", e.u.Orders(9), s)
	}
	for _, n := range []int{6, 5} { // also the same orders, which only prolong
		e.kind("apply over someone else's change", e.d.Apply(e.ctx, e.u.Orders(n), long()), errkind.Conflict)
		if after := e.u.Rule(e.TB); after != theirs {
			e.Errorf("someone else ordered %s, and orders that came to a conflict made %s of it", theirs, after)
		}
	}
	e.reopen()
	e.kind("another driver's apply over someone else's change", e.d.Apply(e.ctx, e.u.Orders(6), long()), errkind.Conflict)
}

func (e *env) letGo() {
	e.need(e.u.Meddle != nil, "another writer")
	e.apply(5)
	e.u.Meddle(e.TB, 9)
	theirs := e.u.Rule(e.TB)
	e.revertNow()
	if after := e.u.Rule(e.TB); after != theirs {
		e.Errorf("someone else ordered %s, and Revert made %s of it", theirs, after)
	}
	e.notOurs()
}

func (e *env) afterConflict() {
	e.need(e.u.Meddle != nil, "another writer")
	e.apply(5)
	e.u.Meddle(e.TB, 9)
	e.revertNow()
	theirs := e.world()
	e.apply(6)
	e.inForce(6)
	e.revertNow()
	e.sameAs(theirs, "after a conflict, new orders and Revert")
}

func (e *env) failure() {
	e.need(e.u.Break != nil, "writes that fail")
	before := e.world()
	e.u.Break(e.TB, 0)
	e.kind("apply", e.d.Apply(e.ctx, e.u.Orders(8), long()), errkind.Transient)
	e.u.Mend(e.TB)
	e.sameAs(before, "after orders that failed")
	e.apply(8)
	e.inForce(8)
}

func (e *env) gone() {
	e.need(e.u.Remove != nil, "unit that can be taken away")
	e.apply(5)
	e.u.Remove(e.TB)
	_, err := e.d.Status(e.ctx)
	e.kind("status", err, errkind.NotFound)
	e.kind("apply", e.d.Apply(e.ctx, e.u.Orders(8), long()), errkind.NotFound)
	// With the unit its orders have gone.
	if err := e.d.Revert(e.ctx); err != nil {
		e.kind("revert", err, errkind.NotFound)
	}
}

func (e *env) cancelled() {
	e.apply(4)
	before := e.world()
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	_, err := e.d.Status(ctx)
	e.kind("status", err, errkind.Canceled)
	e.kind("apply", e.d.Apply(ctx, e.u.Orders(8), long()), errkind.Canceled)
	e.kind("revert", e.d.Revert(ctx), errkind.Canceled)
	e.sameAs(before, "after cancelled calls")
	e.apply(8)
}

func (e *env) frozen() {
	e.need(e.u.Freeze != nil, "server that can freeze")
	e.apply(4)
	thaw := e.u.Freeze(e.TB)
	defer thaw()
	const limit = 200 * time.Millisecond
	for what, call := range map[string]func(context.Context) error{
		"status": func(ctx context.Context) error { _, err := e.d.Status(ctx); return err },
		"apply":  func(ctx context.Context) error { return e.d.Apply(ctx, e.u.Orders(8), long()) },
		"revert": e.d.Revert,
	} {
		ctx, cancel := context.WithTimeout(e.ctx, limit)
		start := time.Now()
		e.kind(what, call(ctx), errkind.Transient)
		cancel()
		if d := time.Since(start); d > limit+e.h.Patience/2 {
			e.Errorf("%s took %v with a deadline of %v", what, d, limit)
		}
	}
	thaw()
	e.eventually("orders are accepted again", func() bool { return e.d.Apply(e.ctx, e.u.Orders(8), long()) == nil })
	e.inForce(8)
}

func (e *env) absurd() {
	before := e.world()
	for _, o := range []orchestrator.Orders{
		{Workers: -1},
		{Workers: math.MinInt},
		{Workers: math.MaxInt},
		{Batch: -1},
		{Route: orchestrator.Route{To: "x", Share: math.NaN()}},
		{Route: orchestrator.Route{To: "x", Share: -0.1}},
		{Route: orchestrator.Route{To: "x", Share: 1.1}},
		{Route: orchestrator.Route{Share: 0.5}},
	} {
		e.kind("apply absurd orders", e.d.Apply(e.ctx, o, long()), errkind.Invalid, errkind.Unsupported, errkind.Config)
	}
	e.sameAs(before, "after absurd orders")
	e.notOurs()
}

func (e *env) unsupported() {
	c := e.d.Capabilities()
	before := e.world()
	all := []orchestrator.Orders{}
	if !c.Workers {
		all = append(all, orchestrator.Orders{Workers: 3})
	}
	if !c.Batch {
		all = append(all, orchestrator.Orders{Batch: 64})
	}
	if !c.Route {
		all = append(all, orchestrator.Orders{Route: orchestrator.Route{To: "x", Share: 0.5}})
	}
	for _, o := range all {
		e.kind("apply", e.d.Apply(e.ctx, o, long()), errkind.Unsupported)
	}
	e.sameAs(before, "after orders of another kind")
	e.notOurs()
}

func (e *env) concurrent() {
	before := e.world()
	var wg sync.WaitGroup
	for n := 4; n <= 8; n++ {
		wg.Go(func() {
			for range 5 {
				if _, err := e.d.Status(e.ctx); err != nil {
					e.Errorf("status beside other calls: %v", err)
				}
				if err := e.d.Apply(e.ctx, e.u.Orders(n), long()); err != nil {
					e.Errorf("apply beside other calls: %v", err)
				}
			}
		})
	}
	wg.Wait()
	s := e.status()
	one := false
	for n := 4; n <= 8; n++ {
		o := e.u.Orders(n)
		one = one || (s.Workers == o.Workers || o.Workers == 0) && (s.Batch == o.Batch || o.Batch == 0) && s.Route == o.Route
	}
	if !one || !s.Ours {
		e.Errorf("after calls at once the status is %+v", s)
	}
	e.revertNow()
	e.sameAs(before, "after calls at once and Revert")
}

func (e *env) together() {
	e.need(e.u.Together, "unit for two drivers at once")
	before := e.world()
	other := e.u.Open(e.TB)
	defer other.Close()
	var wg sync.WaitGroup
	for k, d := range []interface {
		Apply(context.Context, orchestrator.Orders, time.Time) error
	}{e.d, other} {
		wg.Go(func() {
			for i := range 5 {
				err := d.Apply(e.ctx, e.u.Orders(4+(k+i)%3), long())
				// They are another writer to each other.
				if err != nil && !errkind.Is(err, errkind.Conflict) && !errkind.Is(err, errkind.Transient) {
					e.Errorf("apply beside another driver: %v", err)
				}
			}
		})
	}
	wg.Wait()
	e.revertNow()
	e.sameAs(before, "after two drivers at once and Revert")
}

func (e *env) capabilities() {
	c := e.d.Capabilities()
	if !c.Workers && !c.Batch && !c.Route {
		e.Error("it can order nothing")
	}
	e.apply(5)
	if again := e.d.Capabilities(); again != c {
		e.Errorf("capabilities are %+v, and were %+v", again, c)
	}
	e.reopen()
	if again := e.d.Capabilities(); again != c {
		e.Errorf("another driver's capabilities are %+v, not %+v", again, c)
	}
}

func (e *env) closeTwice() {
	for range 2 {
		if err := e.d.Close(); err != nil {
			e.Errorf("close: %v", err)
		}
	}
}

func (e *env) afterClose() {
	if err := e.d.Close(); err != nil {
		e.Errorf("close: %v", err)
	}
	before := e.world()
	_, err := e.d.Status(e.ctx)
	e.kind("status", err, errkind.Closed)
	e.kind("apply", e.d.Apply(e.ctx, e.u.Orders(8), long()), errkind.Closed)
	e.kind("revert", e.d.Revert(e.ctx), errkind.Closed)
	e.sameAs(before, "after calls on a closed driver")
}
