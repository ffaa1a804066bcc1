package simulate

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// worker is a unit with an identity; ready ones serve.
type worker struct {
	unit
	slow  float64 // times slower, 1 normally
	fault int     // the fault that made it slow
}

// engine is the state of one run. Times are seconds from the beginning of the arrivals.
type engine struct {
	w     *World
	pilot orchestrator.Pilot
	rng   *rand.Rand
	res   *Result

	now, end, step float64
	tick           int
	next           float64 // the next of all timers below

	target, delay, period, linger, path float64
	overhead, perEvent                  float64
	batch, full                         float64 // events and seconds of a full call

	segs   []segment
	rate   float64 // all arrivals, events a second
	direct float64 // those of them that a tier takes
	served float64 // events by workers
	queued float64 // events that came to the queues

	ready    []*worker
	idle     []*worker // to use again
	starting []starting
	ending   []ending
	stopping int
	orders   orchestrator.Orders
	tier     int // of orders.Route; -1 where none

	shared  unit // where Partitions is 0
	parts   []partition
	calm    calm
	pauses  []float64 // ends of rebalances, rising
	still   float64   // the oldest front of partitions that nobody serves
	changed bool      // the ready workers, since the last deal
	deal    dealer

	faults  faults
	asks    int // number of the next
	snaps   int
	mailbox []orchestrator.Signals
	win     window

	fresh                 freshness
	minuteAll, minuteLate []float64
	point                 pointSums
	points                int
}

const never = math.MaxFloat64

// Run lets a pilot steer a world. The same world and pilot give the same result, bit for bit. Signals and
// their slices are valid for the pilot until Step returns. Errors are of kind Config.
func Run(w World, p orchestrator.Pilot) (*Result, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	e, err := newEngine(&w, p)
	if err != nil {
		return nil, err
	}
	e.run()
	return e.finish(), nil
}

func newEngine(w *World, p orchestrator.Pilot) (*engine, error) {
	period := p.Period()
	if period < minPeriod || period > maxSpan {
		return nil, bad("the pilot %s is to be asked every %v: at least %v is possible", p.Name(), period, minPeriod)
	}
	if w.Delay/period > maxDelayed {
		return nil, bad("signals are %v late and asked for every %v: that is too many on their way", w.Delay, period)
	}
	c := &w.Capacity
	e := &engine{
		w: w, pilot: p, rng: rand.New(rand.NewPCG(w.Seed, 0x66726573686574)), res: &Result{Pilot: p.Name()},
		step: w.Arrivals.Step.Seconds(), target: w.Objective.Target.Seconds(), delay: w.Delay.Seconds(),
		period: period.Seconds(), linger: w.Linger.Seconds(), path: w.Path.Seconds(), overhead: c.Overhead, perEvent: c.PerEvent,
		tier: -1, still: never, asks: 1, snaps: 1,
	}
	ticks := len(w.Arrivals.Counts)
	e.end = e.step * float64(ticks)
	e.res.Seconds = e.end
	e.segs = make([]segment, 0, 1024)
	minutes := int(e.end/60) + 1
	e.minuteAll, e.minuteLate = make([]float64, minutes), make([]float64, minutes)
	e.fresh.lo, e.fresh.hi = fineLen, -1
	e.mailbox = make([]orchestrator.Signals, int(w.Delay/period)+2)
	e.initPoints()
	e.initFaults()
	e.initParts()
	e.orders = orchestrator.Orders{Workers: w.startWorkers(), Batch: max(1, c.Batch), Changed: w.Arrivals.Start}
	e.batch = float64(e.orders.Batch)
	for range e.orders.Workers {
		e.addReady()
	}
	e.res.Peak = e.orders.Workers
	e.dealWorkers(false)
	return e, nil
}

func (e *engine) run() {
	e.next = 0
	e.startTick()
	for {
		if e.now >= e.next {
			e.timers()
		}
		to := min(e.step*float64(e.tick+1), e.next, e.end)
		e.advanceAll(to)
		if e.now >= e.end {
			return
		}
		if e.now >= e.step*float64(e.tick+1) {
			e.tick++
			e.startTick()
		}
	}
}

func (e *engine) startTick() {
	c := e.w.Arrivals.Counts[e.tick]
	if !(c >= 0) {
		e.win.hole = true
		c = 0
	}
	e.setRate(c / e.step)
}

// setRate begins a segment of arrivals; the trace gives base events a second.
func (e *engine) setRate(base float64) {
	e.faults.base = base
	e.rate = base * e.faults.spike
	e.direct = 0
	if e.tier >= 0 {
		e.direct = e.rate * e.orders.Route.Share
		if most := e.w.Tiers[e.tier].Rate; most > 0 {
			e.direct = min(e.direct, most)
		}
	}
	rate := e.rate - e.direct
	if n := len(e.segs); n > 0 {
		last := &e.segs[n-1]
		if last.rate == rate {
			return
		}
		if last.start == e.now {
			last.rate = rate
			return
		}
		e.segs = append(e.segs, segment{start: e.now, rate: rate, sum: e.arrived(n-1, e.now)})
		return
	}
	e.segs = append(e.segs, segment{start: e.now, rate: rate})
}

// advanceAll lets time pass up to t, within which there are no orders, faults or changes of rate.
func (e *engine) advanceAll(t float64) {
	dt := t - e.now
	if dt <= 0 {
		return
	}
	all := e.rate * dt
	e.res.Events += all
	e.queued += all - e.direct*dt
	e.win.arrivals += all
	spread(e.minuteAll, e.now, t, all)
	if e.direct > 0 {
		e.routed(t, e.direct*dt)
	}
	paid := float64(len(e.ready) + len(e.starting) + e.stopping)
	e.res.WorkerSeconds += paid * dt
	e.win.readyTime += float64(len(e.ready)) * dt
	oldest := e.serve(t)
	e.now = t
	e.watch(oldest)
	if e.points > 0 {
		e.tally(dt, all, paid, t-oldest)
	}
}

// serve lets workers serve up to t, and returns the oldest front then.
func (e *engine) serve(t float64) float64 {
	if e.parts == nil {
		if e.faults.paused == 0 {
			e.advance(&e.shared, e.now, t)
		}
		return e.shared.groups[0].front
	}
	if e.keepsUp() {
		e.serveAlike(t)
		return t
	}
	oldest, behind := e.still, e.still < never || e.faults.paused > 0
	for _, w := range e.ready {
		if e.faults.paused == 0 {
			e.advance(&w.unit, e.now, t)
		}
		if len(w.groups) > 0 {
			oldest = min(oldest, w.groups[0].front)
			behind = behind || len(w.groups) > 1 || w.groups[0].front < t
		}
	}
	if !behind && len(e.ready) > 0 {
		e.becomeCalm()
	}
	return oldest
}

// timers carries out what is due now, and finds what is due next.
func (e *engine) timers() {
	e.bringUp()
	for len(e.ending) > 0 && e.ending[0].until <= e.now {
		e.stopping -= e.ending[0].n
		e.ending = e.ending[:copy(e.ending, e.ending[1:])]
	}
	e.faultTimers()
	e.becomeReady()
	e.settle()
	for {
		snap, ask := e.snapTime(), e.askTime()
		if snap <= e.now && snap <= ask {
			e.snapshot()
			continue
		}
		if ask > e.now {
			break
		}
		e.ask()
		e.becomeReady()
		e.settle()
	}
	e.nextPoint()
	e.next = min(e.snapTime(), e.askTime(), e.faults.next, e.pointTime())
	if len(e.ending) > 0 {
		e.next = min(e.next, e.ending[0].until)
	}
	for _, s := range e.starting {
		e.next = min(e.next, s.ready)
	}
	if len(e.pauses) > 0 {
		e.next = min(e.next, e.pauses[0])
	}
}

// settle deals partitions anew if workers came or went, and lets those go on that stood still long enough.
func (e *engine) settle() {
	if e.changed {
		e.dealWorkers(true)
	}
	if len(e.pauses) > 0 && e.pauses[0] <= e.now {
		e.resume()
	}
}

func (e *engine) askTime() float64 { return float64(e.asks) * e.period }

// snapTime is when the signals for a later ask are taken; never before the beginning.
func (e *engine) snapTime() float64 {
	return max(0, float64(e.snaps)*e.period-e.delay)
}

func (e *engine) time(t float64) time.Time {
	return e.w.Arrivals.Start.Add(time.Duration(math.Round(t * 1e9)))
}

// finish writes the result.
func (e *engine) finish() *Result {
	r := e.res
	e.bringUp()
	e.leaveBehind()
	r.Served = e.served
	r.RouteCost = max(0, r.RouteCost)
	r.Cost = r.WorkerSeconds*e.w.Capacity.Price() + r.RouteCost
	if e.win.allReady+e.win.readyTime > 0 {
		r.Busy = min(1, (e.win.allBusy+e.win.busy)/(e.win.allReady+e.win.readyTime))
	}
	e.fresh.finish(r)
	e.worstMinute()
	e.finishPoints()
	e.finishFaults()
	return r
}
