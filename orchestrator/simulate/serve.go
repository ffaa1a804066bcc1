package simulate

import "math"

// segment is a stretch of constant arrivals at the queues; it ends where the next begins.
type segment struct {
	start float64 // seconds
	rate  float64 // events a second, of all partitions together
	sum   float64 // events that arrived before start
}

// group is partitions of one unit that are served up to the same arrival time.
type group struct {
	front  float64 // events that arrived before are served
	seg    int     // the segment of front
	weight float64 // share of all arrivals
}

// unit serves: a worker with its partitions, or all workers where they share one queue.
type unit struct {
	servers float64 // workers in it
	factor  float64 // calls take this much longer than they should
	rate    float64 // events a second in full calls
	full    float64 // seconds of a full call
	groups  []group // by rising front; the first is served
	parts   []int32 // its partitions, those that stand still too
}

// advance serves from t to end, within which nothing but the fronts changes.
func (e *engine) advance(u *unit, t, end float64) {
	cur := len(e.segs) - 1
	for len(u.groups) > 0 && t < end {
		g := &u.groups[0]
		if g.front >= t {
			g.seg = cur
			if len(u.groups) > 1 {
				e.merge(u)
				continue
			}
			if in := g.weight * e.segs[cur].rate; in <= u.rate {
				e.light(u, in, 1, t, end)
				g.front = end
				return
			}
		}
		in := g.weight * e.segs[g.seg].rate // events for a second of front
		// How far may the front go in one stroke, and how long does that take?
		to, took := math.Inf(1), math.Inf(1)
		if g.seg < cur {
			to = e.segs[g.seg+1].start
		}
		if len(u.groups) > 1 {
			to = min(to, u.groups[1].front)
		}
		switch {
		case to <= t: // a place in the past
			took = 0
			if in > 0 {
				took = in * (to - g.front) / u.rate
			}
		case in == 0:
			to, took = t, 0
		case u.rate > in: // catches up with the present
			took = (t - g.front) / (u.rate/in - 1)
			to = t + took
		}
		if t+took < end {
			e.backlogged(u, g, in, to, t, t+took)
			t += took
			g.front = to
			if g.seg < cur && to >= e.segs[g.seg+1].start {
				g.seg++
			}
			if len(u.groups) > 1 && to >= u.groups[1].front {
				e.merge(u)
			}
			continue
		}
		to = min(g.front+u.rate*(end-t)/in, to, end)
		e.backlogged(u, g, in, to, t, end)
		g.front = to
		return
	}
}

// backlogged counts what u serves of g, in events to a second of the front that goes on to, from t to end.
func (e *engine) backlogged(u *unit, g *group, in, to, t, end float64) {
	e.win.busy += (end - t) * u.servers
	mass := in * (to - g.front)
	if !(mass > 0) {
		return
	}
	e.publish(g.front, to, t-g.front+u.full+e.path, end-to+u.full+e.path, mass)
	e.served += mass
	calls := mass / e.batch
	e.win.fullCalls += calls
	e.win.fullTime += calls * u.full
}

// light counts what units like u serve from t to end while each keeps up with in events a second.
func (e *engine) light(u *unit, in, units, t, end float64) {
	mass := in * (end - t) * units
	if mass <= 0 {
		return
	}
	rows, service, wait, busy := e.call(u, in)
	e.win.busy += busy * (end - t) * u.servers * units
	calls := mass / rows
	e.win.calls += calls
	e.win.rows += mass
	e.win.callTime += calls * service
	e.served += mass
	// Whoever comes while a call runs (or is being filled) waits for its end.
	waiting := 1.0
	if busy < 1 && e.linger == 0 {
		waiting = busy
		e.fresh.add(service+e.path, mass*(1-busy))
	}
	service += e.path
	e.fresh.addLight(service, wait, mass*waiting)
	if worst := service + wait; worst > e.target {
		k := 1.0
		if service <= e.target {
			k = waiting * (worst - e.target) / wait
		}
		e.late(t, end, mass*k)
	}
}

// addLight adds a mass that is spread evenly over x to x+wait, as four points.
func (h *freshness) addLight(x, wait, mass float64) {
	mass /= 4
	wait /= 8
	h.add(x+wait, mass)
	h.add(x+3*wait, mass)
	h.add(x+5*wait, mass)
	h.add(x+7*wait, mass)
}

// call says how a unit calls that gets in events a second and keeps up: the events of a call, its time, the
// time from the beginning of one call to that of the next, and the share of time that its workers are in calls.
func (e *engine) call(u *unit, in float64) (rows, service, cycle, busy float64) {
	over, per := e.overhead*u.factor, e.perEvent*u.factor
	each := in / u.servers
	rows = 1
	if free := 1 - each*per; free > 0 {
		rows = max(1, each*over/free)
	}
	rows = min(rows, e.batch)
	service = over + per*rows
	cycle = service / u.servers
	if e.linger <= cycle {
		if rows > 1 {
			return rows, service, cycle, 1
		}
		return rows, service, cycle, min(1, each*service)
	}
	cycle = e.linger
	rows = in * cycle
	switch {
	case rows < 1:
		rows = 1
		service = over + per
		return rows, service, cycle, min(1, each*service)
	case rows > e.batch:
		rows, cycle = e.batch, e.batch/in
	}
	service = over + per*rows
	return rows, service, cycle, min(1, service/(cycle*u.servers))
}

// merge joins the first two groups of a unit, which have come to the same front.
func (e *engine) merge(u *unit) {
	u.groups[1].weight += u.groups[0].weight
	u.groups = u.groups[:copy(u.groups, u.groups[1:])]
	for _, p := range u.parts {
		if part := &e.parts[p]; part.group > 0 {
			part.group--
		}
	}
}

// arrived is how many events came to the queues before x, which lies in segment i.
func (e *engine) arrived(i int, x float64) float64 {
	s := &e.segs[i]
	return s.sum + s.rate*(x-s.start)
}
