package orchestrator

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// LoopOptions is what a Loop is made of. Pilot and Observer are needed, an Actuator in mode act; the
// others have defaults.
type LoopOptions struct {
	// Unit names what is scaled.
	Unit     string
	Mode     Mode
	Pilot    Pilot
	Observer Observer
	// Actuator carries orders out, and in the other modes is only read.
	Actuator Actuator
	// Journal keeps the rounds; nil keeps none.
	Journal *Journal
	// Objective and Capacity bound and price what a pilot without an account of its rounds orders.
	Objective Objective
	Capacity  Capacity
	// TTL is how long orders last unless they are renewed; 0 means three periods, at least a minute.
	TTL time.Duration
	// Timeout bounds each call of the observer and the actuator; 0 means a period, at most 10 s.
	Timeout time.Duration
	// Leave leaves the orders when the loop ends, until they expire. Otherwise they are taken back.
	Leave bool
	// Outcome is how long behind a round its outcome is looked for; 0 means 5 minutes.
	Outcome time.Duration
	// Hands is how long the loop keeps its hands off after an undo or a second breach in an hour; 0 means 15 minutes.
	Hands time.Duration
	// Seen, where it is not nil, gets the entry of each round when it is over; orders are not logged then.
	Seen func(*Entry)
	// Now is the clock; nil is time.Now.
	Now    func() time.Time
	Logger *slog.Logger
}

// Loop runs a pilot against the world, once a period. The order of events of a round:
//
//  1. undos of other processes are read from the journal;
//  2. the actuator's status is read, and held against what it had accepted;
//  3. signals are taken; what fails or stays away is unknown to the pilot, and noted;
//  4. the pilot decides, within its rails;
//  5. where the objective was broken behind an order of ours that took something away, the last orders that
//     kept it are put in the decision's place;
//  6. the entry is written, and on disk; where it cannot be, nothing is ordered;
//  7. in mode act the actuator gets the orders, or they are renewed before they expire;
//  8. its answer is added to the entry, and minutes later its outcome.
//
// An actuator that refuses, or accepts and does not follow, is asked again with growing pauses; meanwhile
// its orders expire, and what ruled before rules again.
type Loop struct {
	o LoopOptions

	mu       sync.Mutex // a round, an undo or the stop at a time
	last     *Entry
	observed time.Time // of the latest signals
	force    force
	breach   breach
	history  history
	advised  Orders
	began    bool
}

// Loop periods below this make no sense.
const minPeriod = 100 * time.Millisecond

// NewLoop checks the options. What is wrong is Config.
func NewLoop(o LoopOptions) (*Loop, error) {
	if o.Pilot == nil || o.Observer == nil {
		return nil, errkind.New(errkind.Config, "orchestrate: a pilot and an observer are needed")
	}
	if o.Mode == "" {
		o.Mode = ModeObserve
	}
	if _, err := ParseMode(string(o.Mode)); err != nil {
		return nil, errkind.With(errkind.Config, err)
	}
	if o.Mode == ModeAct && o.Actuator == nil {
		return nil, errkind.New(errkind.Config, "orchestrate: mode act needs an actuator")
	}
	if o.Mode == ModeAct && !o.Actuator.Capabilities().Workers && !o.Actuator.Capabilities().Batch && !o.Actuator.Capabilities().Route {
		return nil, errkind.New(errkind.Config, "orchestrate: this actuator can order nothing")
	}
	period := max(o.Pilot.Period(), minPeriod)
	if o.TTL <= 0 {
		o.TTL = max(3*period, time.Minute)
	}
	if o.TTL < 2*period {
		return nil, errkind.Errorf(errkind.Config, "orchestrate: orders that last %s would end before they can be renewed every %s: let them last %s at least", o.TTL, period, 2*period)
	}
	if o.Timeout <= 0 {
		o.Timeout = min(period, 10*time.Second)
	}
	if o.Outcome <= 0 {
		o.Outcome = 5 * time.Minute
	}
	if o.Hands <= 0 {
		o.Hands = 15 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Loop{o: o}
	l.force.retry = retryOrders(period)
	l.history.keep = max(o.Outcome, breachWindow) + 2*period
	return l, nil
}

// Run makes a round a period until the context ends, and then stops: it reverts what it ordered
// unless Leave is set. All its work is done on the goroutine of the caller.
func (l *Loop) Run(ctx context.Context) error {
	period := max(l.o.Pilot.Period(), minPeriod)
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for {
		l.Round(ctx)
		select {
		case <-ctx.Done():
			return l.Stop(context.WithoutCancel(ctx))
		case <-ticker.C:
		}
	}
}

// Last returns the entry of the latest round, which nobody changes any more but for its Outcome; nil before the first.
func (l *Loop) Last() *Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		return nil
	}
	e := *l.last
	return &e
}

// Round makes one round now and returns its entry.
func (l *Loop) Round(ctx context.Context) *Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.o.Now()
	l.begin(now)
	e := &Entry{
		Kind: KindRound, Time: now, Unit: l.o.Unit, Pilot: l.o.Pilot.Name(), Mode: l.o.Mode, Period: l.o.Pilot.Period(),
	}
	l.readUndos(ctx, now)
	st := l.status(ctx, e)
	s := l.observe(ctx, e)
	l.mergeWorkers(&s, st)
	e.Before = l.force.inForce(now, &s, st, l.o.Actuator != nil && l.o.Actuator.Capabilities().Floor)
	d := l.o.Pilot.Step(now, &s, e.Before)
	e.Round = l.account(now, &s, e.Before, d)
	e.After = l.after(e, d)
	l.see(e, &s)
	l.guard(ctx, e)
	l.decideToAct(e)
	l.write(e)
	l.carryOut(ctx, e)
	l.await(e)
	l.tell(e)
	l.closeOutcomes(now)
	l.last = e
	if l.o.Seen != nil {
		l.o.Seen(e)
	}
	return e
}

// begin writes the entry that a loop starts with.
func (l *Loop) begin(now time.Time) {
	if l.began {
		return
	}
	l.began = true
	e := l.entry(KindStart, now, fmt.Sprintf("%s every %s, mode %s, objective %s@%g, %d to %d workers",
		l.o.Pilot.Name(), l.o.Pilot.Period(), l.o.Mode, l.o.Objective.Target, l.o.Objective.Quantile, l.o.Objective.Min, l.o.Objective.Max))
	l.write(e)
}

func (l *Loop) entry(kind EntryKind, now time.Time, why string) *Entry {
	return &Entry{Kind: kind, Time: now, Unit: l.o.Unit, Pilot: l.o.Pilot.Name(), Mode: l.o.Mode, Period: l.o.Pilot.Period(), Why: why}
}

// observe takes signals. Where they cannot be had nothing is known, since the latest that were.
func (l *Loop) observe(ctx context.Context, e *Entry) Signals {
	ctx, cancel := context.WithTimeout(ctx, l.o.Timeout)
	defer cancel()
	s, err := l.o.Observer.Observe(ctx)
	if err != nil {
		e.note("no signals: %v", err)
		return Signals{Time: l.observed}
	}
	if s.Time.IsZero() {
		s.Time = e.Time
	}
	l.observed = s.Time
	return s
}

// mergeWorkers takes the workers from the actuator where the observer does not know them.
func (l *Loop) mergeWorkers(s *Signals, st *Status) {
	if st != nil && !s.Known.Has(KnownWorkers) && s.Known != 0 && l.o.Actuator.Capabilities().Ready {
		s.Ready, s.Starting, s.Stopping = st.Ready, st.Starting, st.Stopping
		s.Known |= KnownWorkers
	}
}

// account is the pilot's own, or what a loop knows of a decision.
func (l *Loop) account(now time.Time, s *Signals, before Orders, d Decision) *Round {
	if p, ok := l.o.Pilot.(interface{ Last() *Round }); ok {
		if r := p.Last(); r != nil && r.Time.Equal(now) {
			return r.Clone()
		}
	}
	r := &Round{
		Time: now, Signals: *s, Stale: now.Sub(s.Time), Capacity: l.o.Capacity, Objective: l.o.Objective,
		Ordered: before, Decided: d, Final: d,
	}
	if s.Time.IsZero() {
		r.Stale = 0
	}
	return r.Clone()
}

// after is what should be in force, of what the actuator can do.
func (l *Loop) after(e *Entry, d Decision) Orders {
	after := e.Before
	if d.Hold {
		return after
	}
	can := Capabilities{Workers: true, Batch: true, Route: true}
	if l.o.Actuator != nil {
		can = l.o.Actuator.Capabilities()
	}
	if can.Workers {
		after.Workers = d.Workers
		if o := &l.o.Objective; o.Max > 0 || o.Min > 0 {
			after.Workers = bound(d.Workers, o)
		}
		if after.Workers < 0 {
			after.Workers = e.Before.Workers
		}
	}
	if can.Batch && d.Batch > 0 {
		after.Batch = d.Batch
	}
	if can.Route {
		after.Route = d.Route
		if !(after.Route.Share > 0) || after.Route.To == "" {
			after.Route = Route{}
		}
		after.Route.Share = min(after.Route.Share, 1)
	}
	return after
}

// write puts an entry on disk. Where that fails, the entry has no ID, and nothing may be ordered by it.
func (l *Loop) write(e *Entry) {
	if l.o.Journal == nil {
		return
	}
	if err := l.o.Journal.Append(e); err != nil {
		e.note("not in the journal: %v", err)
		l.o.Logger.Error("a decision is not in the journal, so nothing is ordered by it", "unit", l.o.Unit, "error", err)
	}
}

// written says that an entry is where it has to be before it is acted on.
func (l *Loop) written(e *Entry) bool { return l.o.Journal == nil || e.ID != 0 }

// tell says what is new to who reads the log.
func (l *Loop) tell(e *Entry) {
	for _, n := range e.Notes {
		l.o.Logger.Warn("orchestrate: "+n, "unit", l.o.Unit, "entry", e.ID)
	}
	if l.o.Seen != nil || l.o.Mode == ModeObserve || !e.Changes() || sameOrders(e.After, l.advised) {
		return
	}
	l.advised = e.After
	what := "advice"
	if e.Carried() {
		what = "ordered"
	}
	l.o.Logger.Info(what, "unit", l.o.Unit, "entry", e.ID, "from", e.Before.Workers, "workers", e.After.Workers,
		"batch", e.After.Batch, "reason", e.Round.Final.Reason)
}

func (e *Entry) note(format string, args ...any) {
	e.Notes = append(e.Notes, fmt.Sprintf(format, args...))
}
