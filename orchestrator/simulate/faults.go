package simulate

import (
	"math"
	"sort"
	"time"
)

// faults is what is wrong at the moment.
type faults struct {
	marks  []mark // by time
	at     int    // the next of them
	next   float64
	base   float64 // arrivals of the trace, events a second
	spike  float64 // arrivals are multiplied by it
	paused int     // broker pauses in force
	blind  int     // blind spots in force
	watch  []watched
	calm   float64 // since then the oldest event has been within the target
	open   int     // watched ones without an outcome
}

// mark is the beginning or the end of a fault.
type mark struct {
	at    float64
	fault int
	end   bool
}

// watched is a fault whose recovery is waited for.
type watched struct {
	from, over, recovered float64
	done                  bool
}

func (e *engine) initFaults() {
	f := &e.faults
	f.spike, f.next = 1, never
	for i, x := range e.w.Faults {
		from, to := x.At.Seconds(), (x.At + x.Duration).Seconds()
		over := to
		if x.Kind == WorkerLoss {
			over += e.w.Capacity.StartUp.Seconds()
		}
		f.watch = append(f.watch, watched{from: from, over: over, recovered: -1})
		if to == from && x.Kind != WorkerLoss {
			continue
		}
		f.marks = append(f.marks, mark{at: from, fault: i}, mark{at: to, fault: i, end: true})
	}
	f.open = len(f.watch)
	sort.SliceStable(f.marks, func(i, j int) bool { return f.marks[i].at < f.marks[j].at })
	if len(f.marks) > 0 {
		f.next = f.marks[0].at
	}
}

// faultTimers begins and ends the faults that are due.
func (e *engine) faultTimers() {
	f := &e.faults
	for ; f.at < len(f.marks) && f.marks[f.at].at <= e.now; f.at++ {
		m := f.marks[f.at]
		x := &e.w.Faults[m.fault]
		by := 1
		if m.end {
			by = -1
		}
		switch x.Kind {
		case BrokerPause:
			f.paused += by
			f.blind += by
		case BlindSpot:
			f.blind += by
		case Spike:
			f.spike = 1
			for _, o := range f.marks[:f.at+1] {
				if y := &e.w.Faults[o.fault]; !o.end && y.Kind == Spike && (y.At+y.Duration).Seconds() > e.now {
					f.spike *= y.Size
				}
			}
			f.spike = min(f.spike, maxFactor)
			e.setRate(f.base)
		case WorkerLoss:
			if !m.end {
				e.lose(x)
			}
		case SlowWorker:
			e.slow(m.fault, m.end)
		}
	}
	f.next = never
	if f.at < len(f.marks) {
		f.next = f.marks[f.at].at
	}
}

// lose takes ready workers away, drawn by lot, and starts others in their place.
func (e *engine) lose(x *Fault) {
	for range min(int(math.Ceil(x.Size)), len(e.ready)) {
		e.remove(e.rng.IntN(len(e.ready)))
		e.start(x.Duration.Seconds())
	}
}

// slow makes ready workers slow, drawn by lot, or well again.
func (e *engine) slow(fault int, end bool) {
	x := &e.w.Faults[fault]
	if end {
		for _, w := range e.ready {
			if w.fault == fault {
				w.slow, w.fault = 1, -1
			}
		}
	} else {
		n := min(int(math.Ceil(x.Size)), len(e.ready))
		for i, j := range e.rng.Perm(len(e.ready)) {
			if i >= n {
				break
			}
			e.ready[j].slow, e.ready[j].fault = x.Factor, fault
		}
	}
	e.rates()
}

// watch follows the age of the oldest event, that came at front or later.
func (e *engine) watch(front float64) {
	f := &e.faults
	if f.open == 0 {
		return
	}
	if e.now-front > e.target && e.oldest() > e.target {
		f.calm = e.now
	}
	for i := range f.watch {
		w := &f.watch[i]
		if w.done || e.now < w.over+60 || e.now < f.calm+60 {
			continue
		}
		w.done, w.recovered = true, max(0, f.calm-w.from)
		f.open--
	}
}

func (e *engine) finishFaults() {
	for _, w := range e.faults.watch {
		d := time.Duration(-1)
		if w.done {
			d = seconds(w.recovered)
		}
		e.res.Recovery = append(e.res.Recovery, d)
	}
}
