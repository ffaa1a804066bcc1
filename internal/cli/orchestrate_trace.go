package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// The trace that comes with the program: a day of made-up arrivals with sudden rises.
const (
	demoTrace    = "demo"
	demoDuration = 12 * time.Hour
	demoBusy     = 6
)

// incumbent is the rule that scales simulated workers while ours only looks on: KEDA on lag, as it is by default
// but for a threshold that is worth a second of work.
const incumbent = "keda:lag_seconds=1"

// orchestrateTrace plays recorded arrivals to simulated workers.
func (a *app) orchestrateTrace(ctx context.Context, f *orchestrateFlags, source string) (err error) {
	if f.act != "" {
		return usagef("--act %s: a trace is played to simulated workers, which take the orders themselves", builtin.RedactURL(f.act))
	}
	w, err := f.world(source)
	if err != nil {
		return err
	}
	pilot, err := f.openPilot(w.Capacity, "")
	if err != nil {
		return err
	}
	rule, err := openPolicy(incumbent, 0)
	if err != nil {
		return err
	}
	journal, err := orchestrator.OpenJournal(a.decisions(f.unit), orchestrator.JournalOptions{NoSync: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	p := roundPrinter{a: a, output: f.output}
	seen := p.print
	if f.speed == 0 && f.output == "text" {
		seen = func(*orchestrator.Entry) {} // nobody can read so fast
	}
	r := &rehearsal{ctx: ctx, pilot: pilot, rule: orchestrator.Bare(rule, w.Capacity, f.goal), speed: f.speed, act: f.mode == string(orchestrator.ModeAct), route: len(f.places) > 0}
	r.loop, err = orchestrator.NewLoop(orchestrator.LoopOptions{
		Unit: f.unit, Mode: orchestrator.Mode(f.mode), Pilot: pilot, Observer: r, Actuator: r, Journal: journal,
		Objective: f.goal, Capacity: w.Capacity, TTL: f.ttl, Leave: true, Now: func() time.Time { return r.now }, Logger: a.log, Seen: seen,
	})
	if err != nil {
		return err
	}
	result, err := simulate.Run(*w, r)
	if err != nil {
		return err
	}
	if err := errors.Join(r.loop.Stop(context.WithoutCancel(ctx)), p.err); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errkind.New(errkind.Canceled, "interrupted: the rest of the trace was not played")
	}
	return a.printRehearsal(f, w, result)
}

// world is what a trace is played in.
func (f *orchestrateFlags) world(source string) (*simulate.World, error) {
	var t *trace.Trace
	var err error
	if source == demoTrace {
		t, err = trace.Generate("bursts", f.seed, demoDuration)
		f.busy = cmp.Or(f.busy, demoBusy)
		f.max = max(f.max, 60)
		f.goal.Max = f.max
	} else {
		t, err = trace.Read(source)
	}
	if err != nil {
		return nil, err
	}
	c := f.capacity
	if f.busy > 0 {
		t = t.Scale(f.busy * c.Rate(0))
	}
	if f.unit == "" {
		f.unit = "trace-" + strings.TrimSuffix(filepath.Base(source), filepath.Ext(source))
	}
	return &simulate.World{
		Arrivals: t.Draw(f.seed, time.Second), Capacity: c, Objective: f.goal, Tiers: f.places, Delay: 5 * time.Second, Jitter: 0.2,
		Linger: 500 * time.Millisecond, Seed: f.seed,
	}, nil
}

// rehearsal stands between the simulator, which takes it for its pilot, and the loop, for which it is the world.
type rehearsal struct {
	ctx   context.Context
	loop  *orchestrator.Loop
	pilot orchestrator.Pilot
	rule  orchestrator.Pilot // decides where ours does not act
	act   bool
	route bool
	speed float64

	now     time.Time
	began   time.Time // of the trace, and of the process
	real    time.Time
	signals orchestrator.Signals
	ordered orchestrator.Orders
	applied *orchestrator.Orders
	expires time.Time
	ruled   time.Time // when the rule was asked last
}

// Name and Period are the pilot's.
func (r *rehearsal) Name() string          { return r.pilot.Name() }
func (r *rehearsal) Period() time.Duration { return r.pilot.Period() }

// Step makes a round of the loop, and returns what it has ordered.
func (r *rehearsal) Step(now time.Time, s *orchestrator.Signals, ordered orchestrator.Orders) orchestrator.Decision {
	if r.ctx.Err() != nil {
		return orchestrator.Decision{Hold: true}
	}
	r.pace(now)
	r.now, r.signals, r.ordered = now, *s, ordered
	r.loop.Round(r.ctx)
	if r.act && r.applied != nil && now.Before(r.expires) {
		return orchestrator.Decision{Workers: r.applied.Workers, Batch: r.applied.Batch, Route: r.applied.Route}
	}
	if now.Sub(r.ruled) < r.rule.Period()-r.Period()/2 {
		return orchestrator.Decision{Workers: ordered.Workers, Batch: ordered.Batch, Hold: true}
	}
	r.ruled = now
	return r.rule.Step(now, &r.signals, ordered)
}

// pace waits until the trace's time has come, where it is not to be played as fast as possible.
func (r *rehearsal) pace(now time.Time) {
	if r.speed <= 0 {
		return
	}
	if r.began.IsZero() {
		r.began, r.real = now, time.Now()
	}
	at := r.real.Add(time.Duration(float64(now.Sub(r.began)) / r.speed))
	wait(r.ctx, time.Until(at))
}

// Observe implements orchestrator.Observer.
func (r *rehearsal) Observe(context.Context) (orchestrator.Signals, error) { return r.signals, nil }

// Status implements orchestrator.Actuator, as do the methods behind it.
func (r *rehearsal) Status(context.Context) (orchestrator.Status, error) {
	return orchestrator.Status{
		Workers: r.ordered.Workers, Batch: r.ordered.Batch, Route: r.ordered.Route, Ours: r.applied != nil && r.now.Before(r.expires), Expires: r.expires,
	}, nil
}

func (r *rehearsal) Apply(_ context.Context, o orchestrator.Orders, expires time.Time) error {
	r.applied, r.expires = &o, expires
	return nil
}

func (r *rehearsal) Revert(context.Context) error {
	r.applied = nil
	return nil
}

func (r *rehearsal) Capabilities() orchestrator.Capabilities {
	return orchestrator.Capabilities{Workers: true, Batch: true, Route: r.route, Expires: true}
}

// rehearsed is what came of a trace.
type rehearsed struct {
	Trace         string  `json:"trace"`
	Mode          string  `json:"mode"`
	Policy        string  `json:"policy"`
	Hours         float64 `json:"hours"`
	Events        float64 `json:"events"`
	LateShare     float64 `json:"late_share"`
	P50           float64 `json:"freshness_p50_seconds"`
	P99           float64 `json:"freshness_p99_seconds"`
	WorkerSeconds float64 `json:"worker_seconds"`
	Cost          float64 `json:"cost"`
	Busy          float64 `json:"busy"`
	Actions       int     `json:"actions"`
	Peak          int     `json:"peak_workers"`
	Journal       string  `json:"journal"`
}

func (a *app) printRehearsal(f *orchestrateFlags, w *simulate.World, r *simulate.Result) error {
	out := rehearsed{
		Trace: w.Arrivals.Name, Mode: f.mode, Policy: f.policy, Hours: r.Seconds / 3600, Events: r.Events, WorkerSeconds: r.WorkerSeconds, Cost: r.Cost,
		Busy: r.Busy, Actions: r.Actions, Peak: r.Peak, Journal: a.decisions(f.unit),
	}
	if r.Events > 0 {
		out.LateShare = r.Late / r.Events
	}
	snapshot := r.Freshness.Snapshot()
	out.P50, out.P99 = float64(snapshot.Quantile(0.5))/1e9, float64(snapshot.Quantile(0.99))/1e9
	if f.mode != string(orchestrator.ModeAct) {
		out.Policy = incumbent + " (" + f.policy + " looked on)"
	}
	if f.output == "json" {
		return writeJSON(a.Stdout, out)
	}
	_, err := fmt.Fprintf(a.Stdout, `
%s, %.4g h, %s events to simulated workers, by %s
late        %s of the events (objective %s@%g)
freshness   %.3g s in the middle, %.3g s at 0.99
paid        %s worker-seconds, %.4g on the mean, for %.6g
workers     %d at most, %s busy, %d changes

Why:        %[16]s orchestrate explain --costliest 3 --pipeline %[17]s
Otherwise:  %[16]s orchestrate counterfactual --pipeline %[17]s
`, out.Trace, out.Hours, group(int64(out.Events)), out.Policy, shareText(out.LateShare), f.goal.Target, f.goal.Quantile, out.P50, out.P99,
		group(int64(out.WorkerSeconds)), out.WorkerSeconds/max(r.Seconds, 1), out.Cost, out.Peak, shareText(out.Busy), out.Actions, a.program(), f.unit)
	return err
}
