package actuator_test

import (
	"bytes"
	"context"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/backoff"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
)

// pool is a driver of workers that never end by themselves.
type pool struct {
	mu             sync.Mutex
	workers, found int
	expires        time.Time
	caps           actuator.Capabilities
	fail           []error // of the next calls, in order
	calls          []string
	closed         int
	slow           time.Duration
}

func (p *pool) call(ctx context.Context, name string) error {
	p.mu.Lock()
	p.calls = append(p.calls, name)
	slow := p.slow
	p.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.fail) == 0 {
		return nil
	}
	err := p.fail[0]
	p.fail = p.fail[1:]
	return err
}

func (p *pool) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
}

// ordered is the number of workers once everything has settled.
func (p *pool) ordered() int {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workers
}

func (p *pool) Status(ctx context.Context) (actuator.Status, error) {
	err := p.call(ctx, "status")
	p.mu.Lock()
	defer p.mu.Unlock()
	return actuator.Status{Workers: p.workers, Ours: !p.expires.IsZero(), Expires: p.expires}, err
}

func (p *pool) Apply(ctx context.Context, o orchestrator.Orders, expires time.Time) error {
	err := p.call(ctx, "apply")
	if err == nil {
		p.set(func() { p.workers, p.expires = o.Workers, expires })
	}
	return err
}

func (p *pool) Revert(ctx context.Context) error {
	err := p.call(ctx, "revert")
	if err == nil {
		p.set(func() { p.workers, p.expires = p.found, time.Time{} })
	}
	return err
}

func (p *pool) Capabilities() actuator.Capabilities { return p.caps }

func (p *pool) Close() error { p.closed++; return nil }

func newPool() *pool {
	return &pool{workers: 2, found: 2, caps: actuator.Capabilities{Workers: true}}
}

func order(n int) orchestrator.Orders { return orchestrator.Orders{Workers: n} }

var errDown = errkind.New(errkind.Transient, "down")

// bubble runs f on synthetic time with a unit of p, which it closes.
func bubble(t *testing.T, p *pool, f func(t *testing.T, u *actuator.Unit, log *bytes.Buffer)) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		u := actuator.New(p, actuator.Options{Retry: backoff.Retry{Attempts: 3}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		defer func() {
			if err := u.Close(); err != nil || p.closed != 1 {
				t.Errorf("close: %v, and the driver was closed %d times", err, p.closed)
			}
		}()
		f(t, u, &log)
	})
}

func TestOrdersThatNobodyRenewsAreTakenBack(t *testing.T) {
	p := newPool()
	bubble(t, p, func(t *testing.T, u *actuator.Unit, log *bytes.Buffer) {
		for range 3 { // renewed every 20 s for 30 s
			if err := u.Apply(t.Context(), order(5), time.Now().Add(30*time.Second)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Second)
			if n := p.ordered(); n != 5 {
				t.Fatalf("renewed orders ended: %d workers", n)
			}
		}
		time.Sleep(11 * time.Second)
		if n := p.ordered(); n != 2 || !strings.Contains(log.String(), "not renewed") {
			t.Errorf("%d workers after the expiry; log: %s", n, log)
		}
	})
}

func TestExpiredOrdersAreTakenBackOnceThatIsPossible(t *testing.T) {
	p := newPool()
	bubble(t, p, func(t *testing.T, u *actuator.Unit, log *bytes.Buffer) {
		if err := u.Apply(t.Context(), order(5), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		p.set(func() { p.fail = slices.Repeat([]error{errDown}, 10) })
		time.Sleep(time.Minute)
		if n := p.ordered(); n != 2 {
			t.Errorf("%d workers after calls %v", n, p.calls)
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
			t.Errorf("%d errors in the log:\n%s", n, log)
		}
	})
}

func TestRevertedOrdersAreNotTakenBackAgain(t *testing.T) {
	p := newPool()
	bubble(t, p, func(t *testing.T, u *actuator.Unit, _ *bytes.Buffer) {
		if err := u.Apply(t.Context(), order(5), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if err := u.Revert(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.set(func() { p.workers = 7 }) // somebody else
		time.Sleep(time.Minute)
		if n := p.ordered(); n != 7 {
			t.Errorf("%d workers after calls %v", n, p.calls)
		}
	})
}

func TestOrdersThatEndByThemselvesAreLeftAlone(t *testing.T) {
	p := newPool()
	p.caps.Expires = true
	bubble(t, p, func(t *testing.T, u *actuator.Unit, _ *bytes.Buffer) {
		if err := u.Apply(t.Context(), order(5), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(p.calls) != 1 {
			t.Errorf("calls %v", p.calls)
		}
	})
}

func TestResumeTakesUpWhatWasLeft(t *testing.T) {
	for _, tc := range []struct {
		name     string
		left     time.Duration // until what an earlier process ordered expires
		now, end int           // workers after Resume, and a minute later
	}{
		{"expired", -time.Second, 2, 2},
		{"in force", 30 * time.Second, 5, 2},
		{"in force for long", time.Hour, 5, 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPool()
			bubble(t, p, func(t *testing.T, u *actuator.Unit, _ *bytes.Buffer) {
				p.set(func() { p.workers, p.expires = 5, time.Now().Add(tc.left) })
				s, err := u.Resume(t.Context())
				if err != nil || s.Workers != tc.now || s.Ours != (tc.now == 5) {
					t.Errorf("Resume: %+v, %v", s, err)
				}
				time.Sleep(time.Minute)
				if n := p.ordered(); n != tc.end {
					t.Errorf("%d workers a minute later", n)
				}
			})
		})
	}
}

func TestOnlyFailuresThatMayPassAreRepeated(t *testing.T) {
	for _, tc := range []struct {
		name  string
		fail  []error
		calls int
		kind  errkind.Kind
	}{
		{"passes", []error{errDown, errDown}, 3, errkind.Unknown},
		{"passes too late", []error{errDown, errDown, errDown}, 3, errkind.Transient},
		{"refused", []error{errkind.New(errkind.Config, "forbidden")}, 1, errkind.Config},
		{"conflict", []error{errkind.New(errkind.Conflict, "changed")}, 1, errkind.Conflict},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPool()
			bubble(t, p, func(t *testing.T, u *actuator.Unit, _ *bytes.Buffer) {
				p.set(func() { p.fail = tc.fail })
				err := u.Apply(t.Context(), order(5), time.Now().Add(time.Hour))
				if len(p.calls) != tc.calls || errkind.Of(err) != tc.kind {
					t.Errorf("%d calls, %v", len(p.calls), err)
				}
			})
		})
	}
}

func TestOrdersWhoseAnswerWasLostAreWatched(t *testing.T) {
	p := newPool()
	bubble(t, p, func(t *testing.T, u *actuator.Unit, _ *bytes.Buffer) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p.set(func() { p.slow = time.Minute })
		if err := u.Apply(ctx, order(5), time.Now().Add(10*time.Second)); !errkind.Is(err, errkind.Transient) {
			t.Fatalf("got %v", err)
		}
		p.set(func() { p.slow, p.workers = 0, 5 }) // it was carried out after all
		time.Sleep(time.Minute)
		if n := p.ordered(); n != 2 {
			t.Errorf("%d workers", n)
		}
	})
}

func TestRefusedOrdersDoNotProlong(t *testing.T) {
	p := newPool()
	bubble(t, p, func(t *testing.T, u *actuator.Unit, _ *bytes.Buffer) {
		if err := u.Apply(t.Context(), order(5), time.Now().Add(10*time.Second)); err != nil {
			t.Fatal(err)
		}
		p.set(func() { p.fail = []error{errkind.New(errkind.Config, "forbidden")} })
		if err := u.Apply(t.Context(), order(6), time.Now().Add(time.Hour)); !errkind.Is(err, errkind.Config) {
			t.Fatalf("got %v", err)
		}
		time.Sleep(time.Minute)
		if n := p.ordered(); n != 2 {
			t.Errorf("%d workers", n)
		}
	})
}

func TestAbsurdOrdersDoNotReachTheDriver(t *testing.T) {
	p := newPool()
	bubble(t, p, func(t *testing.T, u *actuator.Unit, _ *bytes.Buffer) {
		soon := time.Now().Add(time.Hour)
		for _, tc := range []struct {
			o       orchestrator.Orders
			expires time.Time
			kind    errkind.Kind
		}{
			{order(-1), soon, errkind.Invalid},
			{order(math.MaxInt), soon, errkind.Invalid},
			{orchestrator.Orders{Route: orchestrator.Route{To: "x", Share: math.NaN()}}, soon, errkind.Invalid},
			{orchestrator.Orders{Route: orchestrator.Route{Share: 1}}, soon, errkind.Invalid},
			{orchestrator.Orders{Batch: 8}, soon, errkind.Unsupported},
			{orchestrator.Orders{Route: orchestrator.Route{To: "x", Share: 0.5}}, soon, errkind.Unsupported},
			{order(3), time.Now(), errkind.Invalid},
			{order(3), time.Time{}, errkind.Invalid},
		} {
			if err := u.Apply(t.Context(), tc.o, tc.expires); !errkind.Is(err, tc.kind) {
				t.Errorf("%+v: %v", tc.o, err)
			}
		}
		if len(p.calls) > 0 {
			t.Errorf("calls %v", p.calls)
		}
	})
}

func TestCloseEndsARevertUnderWay(t *testing.T) {
	p := newPool()
	bubble(t, p, func(t *testing.T, u *actuator.Unit, _ *bytes.Buffer) {
		if err := u.Apply(t.Context(), order(5), time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		p.set(func() { p.slow = time.Hour })
		time.Sleep(2 * time.Second)
		start := time.Now()
		if err := u.Close(); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("Close took %v", d)
		}
		if err := u.Apply(t.Context(), order(5), time.Now().Add(time.Second)); !errkind.Is(err, errkind.Closed) {
			t.Errorf("apply after Close: %v", err)
		}
	})
}
