package actuatortest

import (
	"context"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
)

// Run proves the driver.
func Run(t *testing.T, h Harness) {
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) { c.runOn(t, h) })
	}
}

type testCase struct {
	name string
	run  func(*env)
}

func cases() []testCase {
	return []testCase{
		{"StatusChangesNothing", (*env).statusOnly},
		{"OrdersAreSeen", (*env).seen},
		{"TheSameOrdersOnlyProlong", (*env).prolong},
		{"OrdersThatAreSmallerAreSeen", (*env).smaller},
		{"RevertBringsBackWhatRuled", (*env).revert},
		{"RevertAfterSeveralOrdersBringsBackTheFirst", (*env).several},
		{"RevertWithNothingToTakeBackDoesNothing", (*env).nothing},
		{"OrdersMayBeGivenAgainAfterRevert", (*env).again},
		{"CloseDoesNotRevert", (*env).closeKeeps},
		{"AnotherDriverSeesAndReverts", (*env).restart},
		{"AnotherDriverGoesOn", (*env).goesOn},
		{"OrdersGivenInPartCanBeGivenAgain", (*env).partAgain},
		{"OrdersGivenInPartCanBeTakenBack", (*env).partRevert},
		{"RevertDoneInPartCanBeDoneAgain", (*env).partReverted},
		{"OrdersEndByThemselves", (*env).expiry},
		{"ProlongedOrdersDoNotEnd", (*env).prolonged},
		{"ReadyWorkersAreTold", (*env).ready},
		{"OrdersThatAreNotCarriedOutAreNotClaimed", (*env).lie},
		{"RefusedOrdersAreConfigAndChangeNothing", (*env).refused},
		{"SomeoneElsesChangeIsAConflict", (*env).conflict},
		{"RevertLeavesSomeoneElsesChangeAlone", (*env).letGo},
		{"OrdersMayBeGivenAfterAConflict", (*env).afterConflict},
		{"FailureThatPassesIsTransient", (*env).failure},
		{"UnitThatIsGoneIsNotFound", (*env).gone},
		{"CancelledContextIsAnErrorAndChangesNothing", (*env).cancelled},
		{"FrozenServerHoldsNoCallBeyondItsDeadline", (*env).frozen},
		{"AbsurdOrdersAreInvalid", (*env).absurd},
		{"OrdersOfAnotherKindAreUnsupported", (*env).unsupported},
		{"ConcurrentCallsEndInOneOfTheirOrders", (*env).concurrent},
		{"TwoDriversDoNotLoseWhatRuled", (*env).together},
		{"CapabilitiesNeverChange", (*env).capabilities},
		{"SecondCloseReturnsNil", (*env).closeTwice},
		{"CallsAfterCloseAreClosed", (*env).afterClose},
	}
}

func (c testCase) runOn(tb testing.TB, h Harness) {
	h.setDefaults()
	e := &env{TB: tb, h: h, ctx: tb.Context()}
	e.u = h.Unit(tb)
	if e.u.Orders == nil {
		e.u.Orders = func(n int) orchestrator.Orders { return orchestrator.Orders{Workers: n} }
	}
	e.u.Writes = max(1, e.u.Writes)
	e.open()
	c.run(e)
}

// env is one case on one unit.
type env struct {
	testing.TB
	h   Harness
	u   Unit
	d   actuator.Driver
	ctx context.Context
}

// long is an expiry that no test sees.
func long() time.Time { return time.Now().Add(time.Hour) }

// open makes a new driver the one under test.
func (e *env) open() {
	e.Helper()
	d := e.u.Open(e.TB)
	e.d = d
	e.Cleanup(func() {
		if err := d.Close(); err != nil {
			e.Errorf("close: %v", err)
		}
	})
}

// reopen is the process that ends and another one that starts.
func (e *env) reopen() {
	e.Helper()
	if err := e.d.Close(); err != nil {
		e.Errorf("close: %v", err)
	}
	e.open()
}

// world is what there is, marks included.
func (e *env) world() string {
	e.Helper()
	s := e.u.Rule(e.TB)
	if e.u.Marks != nil {
		s += " " + e.u.Marks(e.TB)
	}
	return s
}

func (e *env) status() actuator.Status {
	e.Helper()
	s, err := e.d.Status(e.ctx)
	if err != nil {
		e.Fatalf("status: %v", err)
	}
	return s
}

func (e *env) apply(n int) {
	e.Helper()
	if err := e.d.Apply(e.ctx, e.u.Orders(n), long()); err != nil {
		e.Fatalf("apply order %d: %v", n, err)
	}
}

func (e *env) revertNow() {
	e.Helper()
	if err := e.d.Revert(e.ctx); err != nil {
		e.Fatalf("revert: %v", err)
	}
}

// inForce wants the status to show order n as ours.
func (e *env) inForce(n int) {
	e.Helper()
	s, o := e.status(), e.u.Orders(n)
	if !s.Ours || s.Workers != o.Workers && o.Workers != 0 || s.Batch != o.Batch && o.Batch != 0 || s.Route != o.Route {
		e.Errorf("status is %+v, with %+v in force", s, o)
	}
}

// notOurs wants the status to show nothing of ours.
func (e *env) notOurs() {
	e.Helper()
	if s := e.status(); s.Ours {
		e.Errorf("status is %+v, and nothing is in force", s)
	}
}

// sameAs wants the world as it was.
func (e *env) sameAs(before, when string) {
	e.Helper()
	if after := e.world(); after != before {
		e.Errorf("%s there is %s, and it was %s", when, after, before)
	}
}

func (e *env) kind(what string, err error, want ...errkind.Kind) {
	e.Helper()
	for _, k := range want {
		if errkind.Is(err, k) {
			return
		}
	}
	if err == nil {
		e.Errorf("%s: no error, expected kind %v", what, want)
		return
	}
	e.Errorf("%s: kind %v, expected %v: %v", what, errkind.Of(err), want, err)
}

// eventually waits for what must happen.
func (e *env) eventually(what string, ok func() bool) {
	e.Helper()
	limit := time.NewTimer(e.h.Patience)
	defer limit.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-limit.C:
			e.Fatalf("not within %v: %s", e.h.Patience, what)
		case <-tick.C:
		}
	}
}

// need skips the case where the harness has not what it needs.
func (e *env) need(has bool, what string) {
	if !has {
		e.Skip("the harness has no " + what)
	}
}
