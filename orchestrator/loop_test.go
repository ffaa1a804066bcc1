package orchestrator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// stage is a unit that is scaled: observer and actuator in one, with faults on demand.
type stage struct {
	signals  Signals
	blind    error
	workers  int // that are there
	base     int // without orders of ours
	applied  *Orders
	expires  time.Time
	can      Capabilities
	refuse   error
	lie      bool // says yes, does nothing
	lose     bool // does it, and says no
	calls    []string
	onApply  func()
	hang     bool
	observed int
}

func newStage(workers int) *stage {
	return &stage{
		workers: workers, base: workers, can: Capabilities{Workers: true, Batch: true, Ready: true, Expires: true},
		signals: Signals{Known: KnownAll &^ KnownPartitions, Arrivals: 100, Served: 100, Oldest: time.Second, Window: 10 * time.Second},
	}
}

func (s *stage) expire() {
	if s.can.Expires && s.applied != nil && !time.Now().Before(s.expires) {
		s.applied, s.workers = nil, s.base
	}
}

func (s *stage) Observe(ctx context.Context) (Signals, error) {
	s.expire()
	s.observed++
	if s.hang {
		<-ctx.Done()
		return Signals{}, ctx.Err()
	}
	if s.blind != nil {
		return Signals{}, s.blind
	}
	sig := s.signals
	sig.Time, sig.Ready = time.Now(), s.workers
	return sig, nil
}

func (s *stage) Status(context.Context) (Status, error) {
	s.expire()
	st := Status{Workers: s.workers, Ready: s.workers, Ours: s.applied != nil, Expires: s.expires}
	if s.applied != nil {
		st.Batch = s.applied.Batch
	}
	return st, nil
}

func (s *stage) Apply(_ context.Context, o Orders, expires time.Time) error {
	s.calls = append(s.calls, fmt.Sprintf("apply %d", o.Workers))
	if s.onApply != nil {
		s.onApply()
	}
	if s.refuse != nil && !s.lose {
		return s.refuse
	}
	if !s.lie {
		s.applied, s.expires, s.workers = &o, expires, o.Workers
	}
	if s.lose {
		return s.refuse
	}
	return nil
}

func (s *stage) Revert(context.Context) error {
	s.calls = append(s.calls, "revert")
	if s.refuse != nil {
		return s.refuse
	}
	s.applied, s.workers = nil, s.base
	return nil
}

func (s *stage) Capabilities() Capabilities { return s.can }

// script is a pilot that wants a number of workers, every 10 s.
type script struct {
	want  int
	batch int
	seen  []Signals
	held  []Orders
}

func (p *script) Name() string          { return "script" }
func (p *script) Period() time.Duration { return 10 * time.Second }
func (p *script) Step(_ time.Time, s *Signals, o Orders) Decision {
	p.seen = append(p.seen, *s)
	p.held = append(p.held, o)
	if s.Known == 0 {
		return Decision{Workers: o.Workers, Hold: true, Reason: "nothing is known"}
	}
	return Decision{Workers: p.want, Batch: p.batch, Reason: "by the script"}
}

func startLoop(t *testing.T, s *stage, p Pilot, change func(*LoopOptions)) (*Loop, string) {
	t.Helper()
	dir := t.TempDir()
	o := LoopOptions{
		Unit: "u", Mode: ModeAct, Pilot: p, Observer: s, Actuator: s, Journal: openJournal(t, dir, JournalOptions{NoSync: true}),
		Objective: Objective{Target: 10 * time.Second, Quantile: 0.99, Min: 1, Max: 20},
		Capacity:  Capacity{Overhead: 0.01, PerEvent: 0.001, Batch: 10, StartUp: 20 * time.Second},
	}
	if change != nil {
		change(&o)
	}
	l, err := NewLoop(o)
	if err != nil {
		t.Fatal(err)
	}
	return l, dir
}

// rounds makes n rounds, a period apart.
func (l *Loop) rounds(n int) *Entry {
	var e *Entry
	for range n {
		time.Sleep(l.o.Pilot.Period())
		e = l.Round(context.Background())
	}
	return e
}

func TestOrdersAreInTheJournalBeforeTheyAreGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		l, dir := startLoop(t, s, &script{want: 5}, nil)
		s.onApply = func() {
			if got := read(t, dir, Query{Last: 1}); got[0].Kind != KindRound || got[0].After.Workers != 5 || got[0].Act != nil {
				t.Errorf("given before it was written: %+v", got[0])
			}
		}
		e := l.rounds(1)
		if !e.Carried() || s.workers != 5 || !e.Expires.Equal(e.Time.Add(time.Minute)) || e.Before.Workers != 3 {
			t.Errorf("%+v, %d workers", e, s.workers)
		}
		if got := read(t, dir, Query{ID: e.ID}); !got[0].Carried() {
			t.Errorf("the answer is not in the journal: %+v", got[0])
		}
	})
}

func TestOrdersAreRenewedBeforeTheyExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		l, _ := startLoop(t, s, &script{want: 5}, nil)
		for range 60 {
			l.rounds(1)
			if s.workers != 5 || !time.Now().Before(s.expires.Add(-10*time.Second)) {
				t.Fatalf("%d workers, orders until %v at %v", s.workers, s.expires, time.Now())
			}
		}
		if n := len(s.calls); n > 22 || n < 10 {
			t.Errorf("asked %d times in ten minutes", n)
		}
	})
}

func TestADeadLoopLeavesWhatRuledBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		l, _ := startLoop(t, s, &script{want: 5}, nil)
		l.rounds(3)
		time.Sleep(2 * time.Minute) // nobody renews
		if s.expire(); s.workers != 3 {
			t.Errorf("%d workers", s.workers)
		}
		// Who goes on sees it, and orders anew.
		if e := l.rounds(1); e.Before.Workers != 3 || s.workers != 5 || len(e.Notes) > 0 {
			t.Errorf("%+v", e)
		}
	})
}

func TestOnlyActGivesOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, mode := range []Mode{ModeObserve, ModeAdvise} {
			s := newStage(3)
			p := &script{want: 5}
			l, dir := startLoop(t, s, p, func(o *LoopOptions) { o.Mode = mode })
			l.rounds(5)
			if err := l.Stop(context.Background()); err != nil {
				t.Error(err)
			}
			if len(s.calls) > 0 {
				t.Errorf("%s: %v", mode, s.calls)
			}
			got := read(t, dir, Query{Keep: func(e *Entry) bool { return e.Kind == KindRound }})
			if len(got) != 5 || got[4].After.Workers != 5 || got[4].Before.Workers != 3 || p.held[4].Workers != 3 {
				t.Errorf("%s: %+v", mode, got)
			}
		}
	})
}

func TestRunRevertsAtItsEndUnlessToldToLeave(t *testing.T) {
	for _, leave := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(3)
			l, dir := startLoop(t, s, &script{want: 5}, func(o *LoopOptions) { o.Leave = leave })
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			go func() { done <- l.Run(ctx) }()
			time.Sleep(95 * time.Second)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			want := map[bool]int{false: 3, true: 5}[leave]
			if s.workers != want || s.observed != 10 {
				t.Errorf("leave %v: %d workers, observed %d times", leave, s.workers, s.observed)
			}
			last := read(t, dir, Query{Last: 1})[0]
			if last.Kind != KindStop || leave == last.Carried() || last.Expires.IsZero() == leave {
				t.Errorf("leave %v: %+v", leave, last)
			}
		})
	}
}

func TestAnActuatorThatRefusesIsAskedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		s.refuse = errkind.New(errkind.Transient, "the cluster is away")
		l, _ := startLoop(t, s, &script{want: 5}, nil)
		e := l.rounds(1)
		if e.Act == nil || e.Act.ErrorKind != "transient" || !strings.Contains(strings.Join(e.Notes, ""), "the cluster is away") {
			t.Errorf("%+v", e)
		}
		l.rounds(359)
		if n := len(s.calls); n < 10 || n > 25 {
			t.Errorf("asked %d times in an hour", n)
		}
		if e := l.Last(); !strings.Contains(e.Held, "asked again at") && e.Act == nil {
			t.Errorf("%+v", e)
		}
		s.refuse = nil
		l.rounds(31)
		if s.workers != 5 || l.force.failures != 0 {
			t.Errorf("not back: %d workers, %d failures", s.workers, l.force.failures)
		}
	})
}

func TestAnActuatorThatLiesIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		s.lie = true
		p := &script{want: 5}
		l, _ := startLoop(t, s, p, nil)
		l.rounds(1)
		e := l.rounds(1)
		if !strings.Contains(strings.Join(e.Notes, ""), "it does not follow") || e.Before.Workers != 3 {
			t.Errorf("%+v", e)
		}
		l.rounds(358)
		if n := len(s.calls); n > 30 {
			t.Errorf("asked %d times in an hour", n)
		}
		// The pilot knows what is there, not what was said.
		if o := p.held[len(p.held)-1]; o.Workers != 3 {
			t.Errorf("the pilot thinks that %+v is in force", o)
		}
		s.lie = false
		l.rounds(40)
		if s.workers != 5 {
			t.Errorf("%d workers", s.workers)
		}
	})
}

func TestWorkersThatDoNotComeAreNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		l, _ := startLoop(t, s, &script{want: 5}, func(o *LoopOptions) { o.Actuator = &slow{s} })
		l.rounds(1)
		var e *Entry
		for range 20 {
			if e = l.rounds(1); len(e.Notes) > 0 {
				break
			}
		}
		if !strings.Contains(strings.Join(e.Notes, ""), "3 of 5 workers ready") {
			t.Errorf("%v", e.Notes)
		}
	})
}

// slow takes orders, and no worker ever comes.
type slow struct{ *stage }

func (s *slow) Status(ctx context.Context) (Status, error) {
	st, err := s.stage.Status(ctx)
	st.Ready = 3
	return st, err
}

func TestAnAnswerThatWasLostChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		s.lose, s.refuse = true, errkind.New(errkind.Transient, "reset by peer")
		l, _ := startLoop(t, s, &script{want: 5}, nil)
		l.rounds(1)
		s.lose, s.refuse = false, nil
		e := l.rounds(3)
		if e.Before.Workers != 5 || s.workers != 5 || len(e.Notes) > 0 {
			t.Errorf("%+v", e)
		}
	})
}

func TestOrdersThatDoNotEndByThemselvesAreTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		s.can.Expires = false
		l, _ := startLoop(t, s, &script{want: 5}, nil)
		l.rounds(1)
		_ = l.o.Journal.Close() // nothing can be ordered any more
		e := l.rounds(10)
		if s.workers != 3 || !slices.Contains(s.calls, "revert") {
			t.Errorf("%d workers, %v, %+v", s.workers, s.calls, e)
		}
	})
}

func TestWithoutAJournalNothingIsOrdered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		l, _ := startLoop(t, s, &script{want: 5}, nil)
		_ = l.o.Journal.Close()
		e := l.rounds(1)
		if len(s.calls) > 0 || e.Held == "" || !strings.Contains(strings.Join(e.Notes, ""), "not in the journal") {
			t.Errorf("%v, %+v", s.calls, e)
		}
	})
}

func TestMissingSignalsAreUnknownToThePilot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		p := &script{want: 5}
		l, _ := startLoop(t, s, p, nil)
		l.rounds(1)
		at := p.seen[0].Time
		s.blind = errors.New("connection refused")
		e := l.rounds(5)
		last := p.seen[len(p.seen)-1]
		if last.Known != 0 || !last.Time.Equal(at) || !strings.Contains(e.Notes[0], "connection refused") {
			t.Errorf("%+v, %v", last, e.Notes)
		}
		// A pilot that holds keeps what is in force.
		if e.After.Workers != 5 || s.workers != 5 || e.Round.Final.Reason != "nothing is known" {
			t.Errorf("%+v", e)
		}
		s.blind, s.hang = nil, true
		began := time.Now()
		l.Round(context.Background())
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("waited %v for signals", took)
		}
	})
}

func TestOutcomesAreAddedMinutesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		s.signals.Late, s.signals.Fresh = 0.004, 4*time.Second
		l, dir := startLoop(t, s, &script{want: 5}, nil)
		e := l.rounds(1)
		s.signals.Arrivals = 200
		l.rounds(29)
		if got := read(t, dir, Query{ID: e.ID})[0]; got.Outcome != nil {
			t.Fatalf("too early: %+v", got.Outcome)
		}
		l.rounds(1)
		o := read(t, dir, Query{ID: e.ID})[0].Outcome
		if o == nil || o.Arrivals < 199 || o.Arrivals > 201 || o.Late < 0.0039 || o.Late > 0.0041 || o.WorkerSeconds != 5*300 || o.Cost != 1500 || o.Ready != 10*time.Second || o.Fresh != 4*time.Second {
			t.Fatalf("%+v", o)
		}
		if err := l.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if got := read(t, dir, Query{Keep: func(e *Entry) bool { return e.Kind == KindRound }}); got[len(got)-1].Outcome == nil {
			t.Error("the end of a loop leaves entries without an outcome")
		}
	})
}

func TestALoopRefusesOptionsThatCannotWork(t *testing.T) {
	s, p := newStage(1), &script{}
	for name, o := range map[string]LoopOptions{
		"nothing":          {},
		"no actuator":      {Pilot: p, Observer: s, Mode: ModeAct},
		"unknown mode":     {Pilot: p, Observer: s, Mode: "drive"},
		"orders too short": {Pilot: p, Observer: s, Mode: ModeObserve, TTL: time.Second},
		"nothing to order": {Pilot: p, Observer: s, Mode: ModeAct, Actuator: &stage{}},
	} {
		if _, err := NewLoop(o); !errkind.Is(err, errkind.Config) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAbsurdDecisionsAreNotOrdered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(3)
		p := &script{want: -5, batch: -1}
		l, _ := startLoop(t, s, p, nil)
		if l.rounds(1); s.workers != 1 {
			t.Errorf("%d workers", s.workers)
		}
		p.want = 1 << 40
		if l.rounds(1); s.workers != 20 {
			t.Errorf("%d workers", s.workers)
		}
	})
}
