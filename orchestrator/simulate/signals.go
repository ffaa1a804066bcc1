package simulate

import (
	"github.com/freshet-io/freshet/orchestrator"
)

// PartitionWatcher is a pilot that may want Signals.Partitions, which cost time to fill.
type PartitionWatcher interface {
	WantsPartitions() bool
}

// window is what happened since the last signals.
type window struct {
	from                        float64
	arrivals, served, published float64 // served is the count at its beginning
	late                        float64
	busy, readyTime             float64
	calls, rows, callTime       float64 // of calls that were not full
	fullCalls, fullTime         float64
	hole                        bool
	allBusy, allReady           float64 // of earlier windows
}

// snapshot takes the signals for a later ask. While they are missing, what is not told goes into the next ones.
func (e *engine) snapshot() {
	k := e.snaps
	e.snaps++
	s := &e.mailbox[k%len(e.mailbox)]
	if float64(k)*e.period-e.delay <= 0 || e.faults.blind > 0 {
		// Nothing is known but when something was known last.
		*s = orchestrator.Signals{Time: e.time(e.win.from), Calls: s.Calls[:0], Partitions: s.Partitions[:0]}
		return
	}
	w := &e.win
	span := e.now - w.from
	*s = orchestrator.Signals{
		Time: e.time(e.now), Window: seconds(span), Known: orchestrator.KnownAll &^ orchestrator.KnownPartitions,
		Ready: len(e.ready), Starting: len(e.starting), Stopping: e.stopping,
		Calls: s.Calls[:0], Partitions: s.Partitions[:0],
	}
	served := e.served - w.served
	s.Served = served / span
	if w.hole {
		s.Known &^= orchestrator.KnownArrivals
	} else {
		s.Arrivals = w.arrivals / span
	}
	if w.readyTime > 0 {
		s.Busy = min(1, w.busy/w.readyTime)
	} else {
		s.Known &^= orchestrator.KnownBusy
	}
	if n := w.calls + w.fullCalls; n > 0 {
		s.Batch = served / n
	} else {
		s.Known &^= orchestrator.KnownBatch
	}
	if w.calls > 0 {
		s.Calls = append(s.Calls, orchestrator.Call{Rows: w.rows / w.calls, Seconds: w.callTime / w.calls, N: w.calls})
	}
	if w.fullCalls > 0 {
		s.Calls = append(s.Calls, orchestrator.Call{Rows: e.batch, Seconds: w.fullTime / w.fullCalls, N: w.fullCalls})
	}
	if all := served + w.published; all > 0 {
		s.Late = min(1, w.late/all)
		s.Fresh = seconds(e.fresh.quantile(e.w.Objective.Quantile))
	} else {
		s.Known &^= orchestrator.KnownLate
	}
	e.state(s)
	e.fresh.fold()
	*w = window{from: e.now, served: e.served, hole: w.hole && !(e.w.Arrivals.Counts[e.tick] >= 0),
		allBusy: w.allBusy + w.busy, allReady: w.allReady + w.readyTime}
}

// state fills in what is there at the moment.
func (e *engine) state(s *orchestrator.Signals) {
	cur := len(e.segs) - 1
	lag, inFlight, oldest := max(0, e.queued-e.served), 0.0, e.oldest()
	add := func(u *unit) {
		if len(u.groups) == 0 || u.servers == 0 {
			return
		}
		g := &u.groups[0]
		if e.faults.paused > 0 {
			return
		}
		if g.front >= e.now || g.seg == cur && g.weight*e.segs[cur].rate <= u.rate && e.now-g.front < 1e-9 {
			in := g.weight * e.segs[cur].rate
			if in <= 0 {
				return
			}
			_, service, cycle, busy := e.call(u, in)
			wait := cycle / 2
			if busy < 1 && e.linger == 0 {
				wait *= busy
			}
			inFlight += in * (service + e.path)
			lag += in * (service + wait + e.path)
			oldest = max(oldest, service+wait+e.path)
			return
		}
		inFlight += e.batch*u.servers + u.rate*e.path
		lag += 1.5*e.batch*u.servers + u.rate*e.path
		oldest = max(oldest, e.now-g.front+1.5*u.full+e.path)
	}
	if e.parts == nil {
		add(&e.shared)
	} else {
		for _, w := range e.ready {
			add(&w.unit)
		}
	}
	s.Lag, s.InFlight, s.Oldest = lag, inFlight, seconds(oldest)
	if p, ok := e.pilot.(PartitionWatcher); !ok || e.parts == nil || !p.WantsPartitions() {
		s.Partitions = nil
		return
	}
	s.Known |= orchestrator.KnownPartitions
	now := e.arrived(cur, e.now)
	arrivals := s.Arrivals
	if e.win.arrivals > 0 {
		arrivals *= 1 - e.direct/max(e.rate, e.direct, 1e-300)
	}
	for i := range e.parts {
		p := &e.parts[i]
		front, seg := p.front, p.seg
		if p.group >= 0 {
			front, seg = p.owner.groups[p.group].front, p.owner.groups[p.group].seg
		}
		x := orchestrator.PartitionSignals{Arrivals: arrivals * p.weight, Lag: max(0, p.weight*(now-e.arrived(seg, front)))}
		if x.Lag > 0 {
			x.Oldest = seconds(max(0, e.age(front, seg)))
		}
		s.Partitions = append(s.Partitions, x)
	}
}

// age is how old the first event is that arrived at front or later; 0 where none did.
func (e *engine) age(front float64, seg int) float64 {
	for ; seg < len(e.segs); seg++ {
		end := e.now
		if seg+1 < len(e.segs) {
			end = e.segs[seg+1].start
		}
		if e.segs[seg].rate > 0 && end > front {
			return e.now - max(front, e.segs[seg].start)
		}
	}
	return 0
}

// oldest is the age of the oldest event that waits.
func (e *engine) oldest() float64 {
	oldest := 0.0
	see := func(front float64, seg int) {
		if e.now-front > oldest {
			oldest = max(oldest, e.age(front, seg))
		}
	}
	if e.parts == nil {
		see(e.shared.groups[0].front, e.shared.groups[0].seg)
	}
	for _, w := range e.ready {
		if len(w.groups) > 0 && e.parts != nil {
			see(w.groups[0].front, w.groups[0].seg)
		}
	}
	if e.still < e.now-oldest {
		for i := range e.parts {
			if p := &e.parts[i]; p.group < 0 && p.weight > 0 {
				see(p.front, p.seg)
			}
		}
	}
	return oldest
}

// ask lets the pilot decide.
func (e *engine) ask() {
	s := &e.mailbox[e.asks%len(e.mailbox)]
	e.asks++
	d := e.pilot.Step(e.time(e.now), s, e.orders)
	e.carryOut(&d)
	e.foresee()
}

// leaveBehind counts the events that are not served at the end.
func (e *engine) leaveBehind() {
	if e.parts == nil {
		g := &e.shared.groups[0]
		e.leave(g.front, g.seg, g.weight)
		return
	}
	for i := range e.parts {
		if p := &e.parts[i]; p.group < 0 {
			e.leave(p.front, p.seg, p.weight)
		}
	}
	for _, w := range e.ready {
		for i := range w.groups {
			e.leave(w.groups[i].front, w.groups[i].seg, w.groups[i].weight)
		}
	}
}

func (e *engine) leave(front float64, seg int, weight float64) {
	for ; seg < len(e.segs); seg++ {
		end := e.end
		if seg+1 < len(e.segs) {
			end = e.segs[seg+1].start
		}
		if mass := weight * e.segs[seg].rate * (end - front); mass > 0 && end > front {
			e.res.Unserved += mass
			e.publish(front, end, e.end-front, e.end-end, mass)
		}
		front = max(front, end)
	}
}
