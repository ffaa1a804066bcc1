package actuatortest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
)

// faults are what is wrong with a reference driver.
type faults struct {
	statusWrites, doubles, claims, forgetsOurs, wrongExpiry, losesOriginal, leavesMark, revertGuesses, revertsOnClose,
	blind, stomps, stompsOnRevert, valueFirst, unmarksFirst, wrongKindRefused, writesThenRefused, permanentFailure,
	foundGone, deaf, deafFrozen, unchecked, takesAll, racy, usableClosed, closeFails, moods, noReady, neverEnds, endsEarly, onlyOnce, swallows,
	sameIsBlind bool
}

// mark is what a reference driver leaves beside the value.
type mark struct {
	found, from, set int
	expires          time.Time
}

// unit is what reference drivers act on: a value and a mark, written one after the other.
type unit struct {
	mu              sync.Mutex
	value, ready    int
	mark            *mark
	gone, lies      bool
	refused, broken bool
	left            int           // writes until it breaks
	thawed          chan struct{} // closed: not frozen
}

// write is one write; it may fail.
func (u *unit) write(f func()) error {
	switch {
	case u.refused:
		return errkind.New(errkind.Config, "forbidden")
	case u.broken && u.left == 0:
		return errkind.New(errkind.Transient, "unavailable")
	}
	u.left--
	f()
	return nil
}

// reference sets the value, in the order of its contract: the mark with what was found, then the value.
type reference struct {
	f      faults
	u      *unit
	mu     sync.Mutex
	asked  int
	closed bool
}

var (
	errGone   = errkind.New(errkind.NotFound, "gone")
	errClosed = errkind.New(errkind.Closed, "closed")
	opened    int
)

// enter takes the unit's lock once it answers.
func (d *reference) enter(ctx context.Context) (leave func(), err error) {
	if !d.f.racy {
		d.mu.Lock()
		defer d.mu.Unlock()
	}
	if d.closed && !d.f.usableClosed {
		return nil, errClosed
	}
	if d.f.deaf {
		ctx = context.Background()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.u.mu.Lock()
	thawed := d.u.thawed
	d.u.mu.Unlock()
	if d.f.deafFrozen {
		<-thawed
	}
	select {
	case <-thawed:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d.u.mu.Lock()
	if d.u.gone && !d.f.foundGone {
		d.u.mu.Unlock()
		return nil, errGone
	}
	d.expire()
	return d.u.mu.Unlock, nil
}

// expire stands for whoever ends orders that were not renewed.
func (d *reference) expire() {
	m := d.u.mark
	if m == nil || d.f.neverEnds || !d.f.endsEarly && time.Now().Before(m.expires) {
		return
	}
	if d.f.endsEarly && time.Now().Before(m.expires.Add(-20*time.Second)) {
		return
	}
	d.u.value, d.u.mark = m.found, nil
}

func (d *reference) Status(ctx context.Context) (actuator.Status, error) {
	leave, err := d.enter(ctx)
	if err != nil {
		return actuator.Status{}, err
	}
	defer leave()
	if d.f.statusWrites {
		d.u.value++
	}
	s := actuator.Status{Workers: d.u.value, Ready: min(d.u.ready, d.u.value), Starting: max(0, d.u.value-d.u.ready)}
	if d.f.noReady {
		s.Ready, s.Starting = d.u.value, 0
	}
	if m := d.u.mark; m != nil {
		s.Ours, s.Expires = !d.f.forgetsOurs, m.expires
		if d.f.wrongExpiry {
			s.Expires = s.Expires.Add(-time.Minute)
		}
	}
	if d.f.claims && d.asked > 0 {
		s.Workers = d.asked
	}
	return s, nil
}

func (d *reference) Apply(ctx context.Context, o orchestrator.Orders, expires time.Time) error {
	if err := actuator.Check(d.Capabilities(), o); err != nil && !d.f.takesAll {
		if !d.f.unchecked || errkind.Is(err, errkind.Unsupported) {
			return err
		}
	}
	leave, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	d.asked = o.Workers
	u := d.u
	m := mark{found: u.value, from: u.value, set: o.Workers, expires: expires}
	if old := u.mark; old != nil {
		same := o.Workers == old.set && d.f.sameIsBlind
		if u.value != old.set && u.value != old.from && !d.f.stomps && !same {
			return errkind.New(errkind.Conflict, "someone else has changed it")
		}
		if !d.f.losesOriginal {
			m.found = old.found
		}
		if d.f.onlyOnce {
			m.expires = old.expires
		}
	}
	if d.f.doubles && u.value == o.Workers {
		o.Workers++
		m.set = o.Workers
	}
	if d.f.writesThenRefused && u.refused {
		u.value = o.Workers
	}
	setMark := func() { u.mark = &m }
	setValue := func() {
		if !u.lies {
			u.value = o.Workers
		}
	}
	writes := []func(){setMark, setValue}
	if d.f.valueFirst {
		writes = []func(){setValue, setMark}
	}
	for _, w := range writes {
		if err := u.write(w); err != nil {
			return d.failed(err)
		}
	}
	return nil
}

func (d *reference) failed(err error) error {
	switch {
	case d.f.swallows:
		return nil
	case d.f.wrongKindRefused && errkind.Is(err, errkind.Config):
		return errkind.New(errkind.Transient, "forbidden")
	case d.f.permanentFailure && errkind.Is(err, errkind.Transient):
		return errors.New("failed")
	}
	return err
}

func (d *reference) Revert(ctx context.Context) error {
	leave, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	u, m := d.u, d.u.mark
	if m == nil {
		if d.f.revertGuesses {
			u.value = 1
		}
		return nil
	}
	if d.f.blind && d.asked == 0 {
		return nil // somebody else's
	}
	setValue := func() {
		if u.value == m.set || u.value == m.from || d.f.stompsOnRevert {
			u.value = m.found
		}
	}
	unmark := func() {
		if !d.f.leavesMark {
			u.mark = nil
		}
	}
	writes := []func(){setValue, unmark}
	if d.f.unmarksFirst {
		writes = []func(){unmark, setValue}
	}
	for _, w := range writes {
		if err := u.write(w); err != nil {
			return d.failed(err)
		}
	}
	return nil
}

func (d *reference) Capabilities() actuator.Capabilities {
	c := actuator.Capabilities{Workers: true, Expires: true, Ready: true}
	if d.f.moods {
		c.Floor = opened%2 == 0
	}
	return c
}

func (d *reference) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.f.closeFails && d.closed {
		return errClosed
	}
	if d.f.revertsOnClose && !d.closed {
		d.u.mu.Lock()
		if m := d.u.mark; m != nil {
			d.u.value, d.u.mark = m.found, nil
		}
		d.u.mu.Unlock()
	}
	d.closed = true
	return nil
}

func harness(f faults) Harness {
	return Harness{Patience: 2 * time.Second, Life: 50 * time.Millisecond, Unit: func(testing.TB) Unit {
		u := &unit{value: 3, ready: 3, left: -1, thawed: make(chan struct{})}
		close(u.thawed)
		with := func(f func()) { u.mu.Lock(); defer u.mu.Unlock(); f() }
		return Unit{
			Open:     func(testing.TB) actuator.Driver { opened++; return &reference{f: f, u: u} },
			Together: true,
			Rule: func(testing.TB) (s string) {
				with(func() { (&reference{f: f, u: u}).expire(); s = fmt.Sprint(u.value) })
				return s
			},
			Marks: func(testing.TB) (s string) {
				with(func() {
					if u.mark != nil {
						s = fmt.Sprint(*u.mark)
					}
				})
				return s
			},
			Meddle: func(_ testing.TB, n int) { with(func() { u.value = n }) },
			Work:   func(testing.TB) { with(func() { u.ready = u.value }) },
			Lie:    func(testing.TB) { with(func() { u.lies = true }) },
			Refuse: func(_ testing.TB, on bool) { with(func() { u.refused = on }) },
			Break:  func(_ testing.TB, after int) { with(func() { u.broken, u.left = true, after }) },
			Mend:   func(testing.TB) { with(func() { u.broken, u.left = false, -1 }) },
			Writes: 2,
			Freeze: func(testing.TB) func() {
				with(func() { u.thawed = make(chan struct{}) })
				return sync.OnceFunc(func() { with(func() { close(u.thawed) }) })
			},
			Remove: func(testing.TB) { with(func() { u.gone = true }) },
		}
	}}
}

func TestReferenceKeepsTheContract(t *testing.T) { Run(t, harness(faults{})) }

// Each planted fault must fail the cases that are about it.
func TestSuiteFindsPlantedFaults(t *testing.T) {
	for _, tc := range []struct {
		name  string
		f     faults
		cases []string
	}{
		{"a status that writes", faults{statusWrites: true}, []string{"StatusChangesNothing"}},
		{"the same orders once more on top", faults{doubles: true}, []string{"TheSameOrdersOnlyProlong"}},
		{"orders cannot be prolonged", faults{onlyOnce: true}, []string{"TheSameOrdersOnlyProlong", "ProlongedOrdersDoNotEnd"}},
		{"a status from memory", faults{claims: true}, []string{"OrdersThatAreNotCarriedOutAreNotClaimed", "SomeoneElsesChangeIsAConflict"}},
		{"ours is not said", faults{forgetsOurs: true}, []string{"OrdersAreSeen", "AnotherDriverSeesAndReverts"}},
		{"another expiry", faults{wrongExpiry: true}, []string{"OrdersAreSeen"}},
		{"the original overwritten by the second order", faults{losesOriginal: true}, []string{"RevertAfterSeveralOrdersBringsBackTheFirst", "AnotherDriverGoesOn",
			"TwoDriversDoNotLoseWhatRuled", "OrdersGivenInPartCanBeTakenBack"}},
		{"a mark that stays", faults{leavesMark: true}, []string{"RevertBringsBackWhatRuled", "OrdersMayBeGivenAgainAfterRevert"}},
		{"a revert that guesses", faults{revertGuesses: true}, []string{"RevertWithNothingToTakeBackDoesNothing"}},
		{"a revert at Close", faults{revertsOnClose: true}, []string{"CloseDoesNotRevert", "AnotherDriverSeesAndReverts"}},
		{"reverts only what it did itself", faults{blind: true}, []string{"AnotherDriverSeesAndReverts", "AnotherDriverGoesOn"}},
		{"orders over another writer's", faults{stomps: true}, []string{"SomeoneElsesChangeIsAConflict"}},
		{"prolongs over another writer's", faults{sameIsBlind: true}, []string{"SomeoneElsesChangeIsAConflict"}},
		{"reverts over another writer's", faults{stompsOnRevert: true}, []string{"RevertLeavesSomeoneElsesChangeAlone"}},
		{"the value before the mark", faults{valueFirst: true}, []string{"OrdersGivenInPartCanBeTakenBack"}},
		{"the mark gone before the value is back", faults{unmarksFirst: true}, []string{"RevertDoneInPartCanBeDoneAgain"}},
		{"failures that are not told", faults{swallows: true}, []string{"OrdersGivenInPartCanBeGivenAgain", "FailureThatPassesIsTransient"}},
		{"refused is called transient", faults{wrongKindRefused: true}, []string{"RefusedOrdersAreConfigAndChangeNothing"}},
		{"refused and yet done", faults{writesThenRefused: true}, []string{"RefusedOrdersAreConfigAndChangeNothing"}},
		{"a failure without a kind", faults{permanentFailure: true}, []string{"FailureThatPassesIsTransient"}},
		{"finds what is gone", faults{foundGone: true}, []string{"UnitThatIsGoneIsNotFound"}},
		{"deaf to its context", faults{deaf: true}, []string{"CancelledContextIsAnErrorAndChangesNothing"}},
		{"deaf while the server is frozen", faults{deafFrozen: true}, []string{"FrozenServerHoldsNoCallBeyondItsDeadline"}},
		{"absurd orders taken", faults{unchecked: true}, []string{"AbsurdOrdersAreInvalid"}},
		{"orders of another kind taken", faults{takesAll: true}, []string{"OrdersOfAnotherKindAreUnsupported"}},
		{"usable after Close", faults{usableClosed: true}, []string{"CallsAfterCloseAreClosed"}},
		{"a second Close that fails", faults{closeFails: true}, []string{"SecondCloseReturnsNil"}},
		{"capabilities that change", faults{moods: true}, []string{"CapabilitiesNeverChange"}},
		{"ordered is called ready", faults{noReady: true}, []string{"ReadyWorkersAreTold"}},
		{"orders for ever", faults{neverEnds: true}, []string{"OrdersEndByThemselves"}},
		{"orders that end early", faults{endsEarly: true}, []string{"ProlongedOrdersDoNotEnd"}},
	} {
		for _, name := range tc.cases {
			c := testCase{name: name}
			for _, k := range cases() {
				if k.name == name {
					c = k
				}
			}
			if c.run == nil {
				t.Fatalf("no case %s", name)
			}
			h := harness(tc.f)
			if tc.f.deafFrozen {
				thawing(&h)
			}
			mustFail(t, tc.name, name, c, h)
		}
	}
}

// thawing thaws by itself after a time, so that a call that would never end does.
func thawing(h *Harness) {
	h.Patience = 200 * time.Millisecond
	unit := h.Unit
	h.Unit = func(t testing.TB) Unit {
		u := unit(t)
		freeze := u.Freeze
		u.Freeze = func(t testing.TB) func() {
			thaw := freeze(t)
			time.AfterFunc(time.Second, thaw)
			return thaw
		}
		return u
	}
}
