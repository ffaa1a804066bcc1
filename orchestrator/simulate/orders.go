package simulate

import "github.com/freshet-io/freshet/orchestrator"

// starting is a worker that was ordered and is not ready.
type starting struct {
	ready float64
}

// ending is n workers that are paid until then.
type ending struct {
	until float64
	n     int
}

func (e *engine) becomeReady() {
	keep := e.starting[:0]
	for _, s := range e.starting {
		if s.ready <= e.now {
			e.addReady()
			continue
		}
		keep = append(keep, s)
	}
	e.starting = keep
}

func (e *engine) addReady() {
	var w *worker
	if n := len(e.idle); n > 0 {
		w, e.idle = e.idle[n-1], e.idle[:n-1]
	} else {
		w = &worker{}
	}
	w.slow, w.fault = 1, -1
	e.ready = append(e.ready, w)
	e.changed = true
}

// start orders a worker.
func (e *engine) start(extra float64) {
	t := e.w.Capacity.StartUp.Seconds()
	if j := e.w.Jitter; j > 0 {
		t *= 1 + j*(2*e.rng.Float64()-1)
	}
	e.starting = append(e.starting, starting{ready: e.now + extra + t})
}

// remove takes the ready worker i away; its partitions have nobody until settle.
func (e *engine) remove(i int) {
	e.release(e.ready[i])
	e.idle = append(e.idle, e.ready[i])
	e.ready = e.ready[:i+copy(e.ready[i:], e.ready[i+1:])]
	e.changed = true
}

// carryOut puts a decision into force.
func (e *engine) carryOut(d *orchestrator.Decision) {
	if d.Hold {
		return
	}
	o := &e.w.Objective
	n := min(max(d.Workers, o.Min), o.Max)
	if n != e.orders.Workers {
		e.res.Actions++
		e.orders.Workers, e.orders.Changed = n, e.time(e.now)
	}
	have := len(e.ready) + len(e.starting)
	for ; have < n; have++ {
		e.start(0)
		e.res.Started++
	}
	if have > n {
		cancel := min(have-n, len(e.starting))
		e.starting = e.starting[:len(e.starting)-cancel]
		have -= cancel
		e.res.Stopped += cancel
	}
	if have > n {
		for range have - n {
			e.remove(len(e.ready) - 1)
		}
		e.res.Stopped += have - n
		if stop := e.w.Capacity.Stop.Seconds(); stop > 0 {
			e.ending = append(e.ending, ending{until: e.now + stop, n: have - n})
			e.stopping += have - n
		}
	}
	e.res.Peak = max(e.res.Peak, len(e.ready)+len(e.starting)+e.stopping)
	if d.Batch > 0 {
		most := max(e.w.Capacity.MaxBatch, e.w.Capacity.Batch, 1)
		if b := min(d.Batch, most); b != e.orders.Batch {
			e.orders.Batch, e.batch = b, float64(b)
			e.rates()
		}
	}
	e.reroute(d.Route)
}

func (e *engine) reroute(r orchestrator.Route) {
	tier := -1
	if r.Share > 0 { // NaN sends nothing
		for i := range e.w.Tiers {
			if e.w.Tiers[i].Name == r.To {
				tier = i
				break
			}
		}
	}
	if tier < 0 {
		r = orchestrator.Route{}
	}
	r.Share = min(r.Share, 1)
	if tier != e.tier || r != e.orders.Route {
		e.tier, e.orders.Route = tier, r
		e.setRate(e.faults.base)
	}
}

// routed counts events that a tier answers.
func (e *engine) routed(t, mass float64) {
	tier := &e.w.Tiers[e.tier]
	e.res.Routed += mass
	e.res.RouteCost += mass * tier.Cost
	e.res.Penalty += mass * tier.Penalty
	x := tier.Latency.Seconds()
	e.win.published += mass
	e.point.published += mass
	e.publish(e.now, t, x, x, mass)
}
