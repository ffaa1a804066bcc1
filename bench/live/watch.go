package live

import (
	"context"
	"math"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/observe"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/pipeline"
)

// lookEvery is how often a run looks at its oldest event, in the time of the trace.
const lookEvery = 5 * time.Second

// watch is the pilot's side of a run: it takes signals, gives orders, brings about faults and keeps count.
type watch struct {
	c     *Config
	st    *stage
	f     *feeder
	pilot orchestrator.Pilot
	start time.Time
	crew  *crew

	meter   observe.Meter
	signals []orchestrator.Signals // taken and not yet old enough to be seen
	batch   int
	changed time.Time
	delayed time.Duration // by the clock

	breach    []time.Duration // of each fault: when the oldest event was last beyond the target since
	recovered []time.Duration
	series    []simulate.Point
	last      pipeline.Stats
	end       pipeline.Stats
	endLag    int64
	endOldest time.Duration
}

// due is something that happens at a time of the trace.
type due struct {
	at time.Duration
	do func(ctx context.Context, at time.Duration)
}

func (w *watch) run(ctx context.Context) {
	world := &w.c.World
	w.meter.Quantile = world.Objective.Quantile
	w.batch = max(1, world.Capacity.Batch)
	n := min(max(world.Start, world.Objective.Min, 1), world.Objective.Max)
	w.crew = newCrew(n, w.c.clock(world.Capacity.StartUp), w.c.clock(world.Capacity.Stop), world.Jitter, world.Seed, w.use)
	w.changed = world.Arrivals.Start
	w.last = w.st.p.Stats()
	period, total := w.pilot.Period(), world.Arrivals.Duration()
	faults := w.faults()
	for range world.Faults {
		w.breach, w.recovered = append(w.breach, 0), append(w.recovered, -1)
	}
	sample, decide, look := max(0, period-world.Delay%period), period, lookEvery
	for ctx.Err() == nil {
		next := min(sample, decide, look, total)
		for i := range faults {
			next = min(next, faults[i].at)
		}
		sleepUntil(ctx, w.start.Add(w.c.clock(next)))
		switch {
		case next == total:
			w.finish(ctx)
			return
		case next == sample:
			w.sample(ctx)
			sample += period
		case next == decide:
			w.delayed = max(w.delayed, time.Since(w.start.Add(w.c.clock(next))))
			w.decide(next)
			decide += period
			// What could not be kept up with is left out.
			for w.now() > decide+period {
				decide += period
				sample += period
			}
		case next == look:
			w.look(ctx, next)
			for look <= w.now() {
				look += lookEvery
			}
			if w.c.Progress != nil {
				w.c.Progress(float64(next) / float64(total))
			}
		default:
			for i := range faults {
				if faults[i].at == next {
					faults[i].do(ctx, next)
					faults[i].at = math.MaxInt64
				}
			}
		}
	}
	w.crew.close()
}

// now is the time of the trace.
func (w *watch) now() time.Duration { return w.c.traced(time.Since(w.start)) }

// use lets so many workers serve.
func (w *watch) use(n int) {
	w.st.down.Store(n == 0)
	_ = w.st.p.SetCapacity(pipeline.Capacity{Calls: max(1, n), Batch: w.batch}) // the example has a model
}

// faults are what is brought about when.
func (w *watch) faults() (ds []due) {
	for _, f := range w.c.World.Faults {
		switch f.Kind {
		case simulate.WorkerLoss:
			ds = append(ds, due{f.At, func(context.Context, time.Duration) { w.crew.lose(int(f.Size), w.c.clock(f.Duration)) }})
		case simulate.BrokerPause:
			ds = append(ds, due{f.At, func(context.Context, time.Duration) {
				w.st.gate.pause()
				time.AfterFunc(w.c.clock(f.Duration), w.st.gate.resume)
			}})
		}
	}
	return ds
}

// sample takes signals, to be seen when they are old enough.
func (w *watch) sample(ctx context.Context) {
	c := counters(ctx, w.st.p, w.c.clock(w.c.World.Objective.Target))
	s := w.meter.Signals(c)
	k := w.c.Speed
	s.Time = w.c.World.Arrivals.Start.Add(w.c.traced(c.Time.Sub(w.start)))
	s.Window = w.c.traced(s.Window)
	s.Arrivals, s.Served = s.Arrivals/k, s.Served/k
	s.Oldest, s.Fresh = w.c.traced(s.Oldest), w.c.traced(s.Fresh)
	for i := range s.Calls {
		s.Calls[i].Seconds *= k
	}
	_, s.Ready, s.Starting, _ = w.crew.state()
	s.Known |= orchestrator.KnownWorkers
	w.signals = append(w.signals, s)
}

// decide asks the pilot and carries out what it says.
func (w *watch) decide(at time.Duration) {
	now := w.c.World.Arrivals.Start.Add(at)
	var seen *orchestrator.Signals
	// They were taken Delay before, and a little later than that.
	old := now.Add(w.pilot.Period()/2 - w.c.World.Delay)
	for len(w.signals) > 0 && !w.signals[0].Time.After(old) {
		seen = &w.signals[0]
		w.signals = w.signals[1:]
	}
	ordered, _, _, _ := w.crew.state()
	d := w.pilot.Step(now, seen, orchestrator.Orders{Workers: ordered, Batch: w.batch, Changed: w.changed})
	if d.Hold {
		return
	}
	if d.Batch > 0 && d.Batch != w.batch {
		w.batch = min(d.Batch, max(w.c.World.Capacity.MaxBatch, w.c.World.Capacity.Batch))
		_, ready, _, _ := w.crew.state()
		w.use(ready)
	}
	n := min(max(d.Workers, w.c.World.Objective.Min), w.c.World.Objective.Max)
	if n != ordered {
		w.changed = now
		w.crew.order(n)
	}
}

// counters reads what a pipeline in this process has counted.
func counters(ctx context.Context, p *pipeline.Pipeline, target time.Duration) observe.Counters {
	s := p.Stats()
	c := observe.Counters{
		Time: time.Now(), Processes: 1, Processed: float64(s.Processed), Read: float64(s.Consumed), Results: float64(s.SinceArrival.Count),
		Overdue: float64(s.SinceArrival.Count - s.SinceArrival.AtMost(int64(target))), Arrived: math.NaN(), Lag: math.NaN(), Oldest: math.NaN(),
	}
	for i := range s.Steps {
		for j := range s.Steps[i].Served {
			m := &s.Steps[i].Served[j]
			c.Busy += m.BusySeconds
			c.Places += float64(m.Health.Limit)
			c.Calls += float64(m.Batch.Count)
			c.Rows += float64(m.Batch.Sum)
			c.Seconds += float64(m.Seconds.Sum) / 1e9
		}
	}
	lags, err := p.Lags(ctx)
	if err != nil || len(lags) == 0 {
		return c
	}
	// What was moved on and has no result yet waits between the stages.
	between := 0.0
	if len(lags) > 1 {
		between = max(0, c.Processed-float64(s.Predictions+s.Letters()))
	}
	c.Lag, c.Oldest = float64(lags[0].Records)+between, 0
	if lags[0].Stored >= 0 {
		c.Arrived = float64(lags[0].Stored)
	}
	for _, l := range lags {
		c.Oldest = max(c.Oldest, l.OldestAge.Seconds())
	}
	return c
}

// look keeps a point of the series and sees whether faults are recovered from.
func (w *watch) look(ctx context.Context, at time.Duration) {
	lag, err := w.st.p.Lag(ctx)
	if err != nil {
		return
	}
	oldest := w.c.traced(lag.OldestAge)
	target := w.c.World.Objective.Target
	for i, f := range w.c.World.Faults {
		if at < f.At || w.recovered[i] >= 0 {
			continue
		}
		if oldest > target {
			w.breach[i] = at
		}
		// As the simulator has it: the end of the last breach, once the fault is over and a minute is calm.
		over := f.At + f.Duration
		if f.Kind == simulate.WorkerLoss {
			over += w.c.World.Capacity.StartUp
		}
		if at-max(over, w.breach[i]) >= time.Minute {
			w.recovered[i] = max(0, w.breach[i]-f.At)
		}
	}
	s := w.st.p.Stats()
	ordered, ready, _, _ := w.crew.state()
	p := simulate.Point{At: at, Ready: float64(ready), Paid: float64(ordered), Lag: float64(lag.Records), Oldest: oldest, Forecast: math.NaN(), ForecastLow: math.NaN(), ForecastUp: math.NaN()}
	p.Arrivals = float64(w.f.dueAt(at)-w.f.dueAt(max(0, at-lookEvery))) / lookEvery.Seconds()
	now := s.SinceArrival
	now.Sub(w.last.SinceArrival)
	if now.Count > 0 {
		p.Late = float64(now.Count-now.AtMost(int64(w.c.clock(target)))) / float64(now.Count)
	}
	w.last = s
	w.series = append(w.series, p)
}

// finish takes the figures at the trace's end.
func (w *watch) finish(ctx context.Context) {
	w.crew.close()
	if lag, err := w.st.p.Lag(ctx); err == nil {
		w.endLag, w.endOldest = lag.Records, w.c.traced(lag.OldestAge)
	}
	w.end = w.st.p.Stats()
}

func (w *watch) result() *Result {
	k, world := w.c.Speed, &w.c.World
	r := &Result{Behind: w.c.traced(w.f.behind), Delayed: w.c.traced(w.delayed)}
	fresh := w.end.SinceArrival
	r.Pilot, r.Seconds = w.pilot.Name(), world.Arrivals.Duration().Seconds()
	r.WorkerSeconds = w.crew.paid * k
	r.Cost = r.WorkerSeconds * world.Capacity.Price()
	r.Served = float64(fresh.Count)
	r.Events = float64(w.f.sent)
	r.Unserved = max(0, r.Events-r.Served)
	r.Late = float64(fresh.Count - fresh.AtMost(int64(w.c.clock(world.Objective.Target))))
	if w.endOldest > world.Objective.Target {
		r.Late += r.Unserved
	}
	at := func(q float64) time.Duration { return w.c.traced(time.Duration(fresh.Quantile(q))) }
	r.P50, r.P95, r.P99 = at(0.5), at(0.95), at(0.99)
	if fresh.Count > 0 {
		r.Mean = w.c.traced(time.Duration(fresh.Sum / int64(fresh.Count)))
	}
	busy, wanted, calls, took := 0.0, 0.0, 0.0, 0.0
	for i := range w.end.Steps {
		for j := range w.end.Steps[i].Served {
			m := &w.end.Steps[i].Served[j]
			busy += m.BusySeconds
			calls += float64(m.Batch.Count)
			took += float64(m.Seconds.Sum) / 1e9
			wanted += (float64(m.Batch.Count)*world.Capacity.Overhead + float64(m.Batch.Sum)*world.Capacity.PerEvent) / k
		}
	}
	if w.crew.serving > 0 {
		r.Busy = busy / w.crew.serving
	}
	if calls > 0 {
		r.Service, r.Wanted = w.c.traced(seconds(took/calls)), w.c.traced(seconds(wanted/calls))
	}
	r.Actions, r.Started, r.Peak = w.crew.actions, w.crew.started, w.crew.peak
	r.Recovery = w.recovered
	r.Series = w.series
	return r
}
