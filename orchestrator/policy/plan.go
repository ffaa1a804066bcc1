package policy

import "math"

// plan is the dynamic programme of a Horizon: over steps of time, the state is the backlog (in
// events, on a grid, linear between its nodes) and the workers alive; the choice is how many to keep
// or to have. It is exact for the path of demand that it is given, but for what the grid rounds.
//
// Starting workers need no state of their own: a worker that is ready in step k was ordered
// before, and its start-up is paid with the choice. Until step lead nothing that is ordered now can
// be ready, so there workers only become fewer, and of those alive ready[k] serve.
//
// The age of the backlog needs none either: events are served in the order of their arrival, so the oldest
// is older than allowed exactly when there are more than arrived within the allowed time (allow).
//
// The cost of a change is linear in its size, so the choice among all counts is two
// running minima, and the whole takes steps × counts × nodes.
type plan struct {
	dt    []float64 // seconds of each step
	in    []float64 // events that arrive in it
	due   []float64 // events that reach the allowed age in it
	allow []float64 // events that arrived within the allowed age, at the beginning of each step and at the end
	ready []int     // ready workers of those alive now, in the steps before lead
	lead  int

	lo, hi int
	rate   []float64 // events a second of lo, lo+1, … workers

	price    float64 // of a worker-second
	up, down float64 // of a worker more, a worker less
	late     float64 // of an event that is late
	rest     float64 // of an event that is left at the end

	backlog float64 // in the beginning
	alive   int     // ready and starting, lo to hi

	nodes int
	h     float64     // events between nodes
	value [][]float64 // by step: counts × nodes
}

const (
	planFine   = 24 // nodes within what may wait
	planCoarse = 96 // most nodes
)

// solve fills in the values, from the last step to the first.
func (p *plan) solve() {
	steps, counts := len(p.dt), p.hi-p.lo+1
	p.grid()
	for len(p.value) < steps+1 {
		p.value = append(p.value, nil)
	}
	size := counts * p.nodes
	for k := range p.value[:steps+1] {
		if cap(p.value[k]) < size {
			p.value[k] = make([]float64, size+size/4)
		}
		p.value[k] = p.value[k][:size]
	}
	last := p.value[steps]
	for j := range p.nodes {
		b := float64(j) * p.h
		last[j] = b*p.rest + max(0, b-p.allow[steps])*p.late
	}
	for a := 1; a < counts; a++ {
		copy(last[a*p.nodes:(a+1)*p.nodes], last[:p.nodes])
	}
	for k := steps - 1; k >= 0; k-- {
		most := counts - 1
		if k < p.lead {
			most = min(most, p.alive-p.lo)
		}
		for a := 0; a <= most; a++ {
			p.stage(k, a)
		}
		v := p.value[k]
		if k >= p.lead {
			for a := most - 1; a >= 0; a-- {
				relax(v[a*p.nodes:(a+1)*p.nodes], v[(a+1)*p.nodes:(a+2)*p.nodes], p.up)
			}
		}
		for a := 1; a <= most; a++ {
			relax(v[a*p.nodes:(a+1)*p.nodes], v[(a-1)*p.nodes:a*p.nodes], p.down)
		}
	}
}

// relax takes the better of staying and of going by one worker.
func relax(v, from []float64, cost float64) {
	from = from[:len(v)]
	for j := range v {
		if x := from[j] + cost; x < v[j] {
			v[j] = x
		}
	}
}

// grid lays the nodes over what may wait, and so far beyond as the backlog goes.
func (p *plan) grid() {
	most := 0.0
	for _, w := range p.allow {
		most = max(most, w)
	}
	least := 1.0
	if most < least {
		most = least
	}
	p.h = most / planFine
	reach := max(1.5*most, 1.25*p.backlog+0.25*most)
	p.nodes = int(math.Ceil(reach/p.h)) + 1
	if p.nodes > planCoarse {
		p.nodes = planCoarse
		p.h = reach / float64(p.nodes-1)
	}
}

// speed is the rate of work in step k with so many alive.
func (p *plan) speed(k, a int) float64 {
	if k < p.lead && a > p.ready[k] {
		a = p.ready[k]
		if a < p.lo {
			// Fewer are ready than the grid of counts knows.
			return p.rate[0] * float64(a) / float64(max(1, p.lo))
		}
	}
	return p.rate[a-p.lo]
}

// stage writes the cost of step k with lo+a workers and all that follows, for each backlog.
func (p *plan) stage(k, a int) {
	n := p.nodes
	out := p.value[k][a*n : (a+1)*n]
	next := p.value[k+1][a*n : (a+1)*n]
	can := p.speed(k, p.lo+a) * p.dt[k]
	pay := float64(p.lo+a) * p.price * p.dt[k]
	move := (p.in[k] - can) / p.h
	whole := math.Floor(move)
	shift, part := int(max(-1e6, min(whole, 1e6))), move-whole
	slope := next[n-1] - next[n-2]
	// Nothing is left below the first node; beyond the last one the line goes on.
	empty := min(max(0, -shift), n)
	beyond := min(max(empty, n-1-shift), n)
	for j := range empty {
		out[j] = pay + next[0]
	}
	if empty < beyond {
		from := next[empty+shift : beyond+shift+1]
		for j, v := range from[:len(from)-1] {
			out[empty+j] = pay + v + part*(from[j+1]-v)
		}
	}
	for j := beyond; j < n; j++ {
		out[j] = pay + next[n-1] + (float64(j+shift-(n-1))+part)*slope
	}
	// Only a backlog that ends above what is allowed, or begins above it, is late.
	first := n
	if x := (p.allow[k+1] - (p.in[k] - can)) / p.h; x < float64(n) {
		first = max(0, int(x))
	}
	if x := p.allow[k] / p.h; x < float64(first) {
		first = max(0, int(x))
	}
	for j := first; j < n; j++ {
		out[j] += p.late * p.lateness(k, float64(j)*p.h, can)
	}
}

// lateness is how many events become late in step k with this backlog at its beginning, of
// which so many can be served. Those that were late before count no more.
func (p *plan) lateness(k int, backlog, can float64) float64 {
	over := backlog - p.allow[k]
	end := max(0, backlog+p.in[k]-can) - p.allow[k+1]
	switch {
	case over <= 0:
		return min(max(0, end), p.in[k]+p.allow[k])
	case end > 0:
		return p.due[k]
	}
	// Caught up on the way: until then everything that reaches the allowed age is late.
	if gain := can - p.due[k]; gain > over {
		return p.due[k] * over / gain
	}
	return p.due[k]
}

// at is the value of step k with a alive and this backlog.
func (p *plan) at(k, a int, backlog float64) float64 {
	n := p.nodes
	v := p.value[k][(a-p.lo)*n : (a-p.lo+1)*n]
	x := max(0, backlog) / p.h
	i := min(int(x), n-2)
	return v[i] + (x-float64(i))*(v[i+1]-v[i])
}

// cost of step k with a workers, and of all that follows.
func (p *plan) cost(k, a int, backlog float64) float64 {
	can := p.speed(k, a) * p.dt[k]
	return float64(a)*p.price*p.dt[k] + p.late*p.lateness(k, backlog, can) + p.at(k+1, a, max(0, backlog+p.in[k]-can))
}

// choose returns the best count for step k where a are alive; a itself where others are hardly better.
func (p *plan) choose(k, a int, backlog float64) int {
	best, least := a, p.cost(k, a, backlog)
	least -= 1e-9 * (1 + math.Abs(least))
	for n := a - 1; n >= p.lo; n-- {
		if c := p.cost(k, n, backlog) + float64(a-n)*p.down; c < least {
			best, least = n, c
		}
	}
	if k >= p.lead {
		for n := a + 1; n <= p.hi; n++ {
			if c := p.cost(k, n, backlog) + float64(n-a)*p.up; c < least {
				best, least = n, c
			}
		}
	}
	return best
}

// way is a walk along the plan.
type way struct {
	now    int     // workers alive after the choice of now
	order  int     // more to be ordered now
	cost   float64 // over the horizon
	late   float64 // events
	events float64
	unmet  float64 // late events before anything ordered now is ready
	oldest float64 // largest share of what may wait that waits
}

// free leaves a choice to walk.
const free = -1

// walk follows the best choices from now on. keep says how many of those alive to keep now, order how many
// to add to them; free leaves either to the plan.
func (p *plan) walk(keep, order int) way {
	w := way{}
	b, a := p.backlog, p.alive
	for k := range p.dt {
		n := a
		switch {
		case k == 0 && keep != free:
			n = min(keep, a)
		case k < p.lead || k > p.lead || order == free:
			n = p.choose(k, a, b)
		}
		if k == p.lead {
			if order != free {
				n = min(n+order, p.hi)
			}
			w.order = max(0, n-a)
		}
		if k == 0 {
			w.now = min(n, a)
		}
		if n > a {
			w.cost += float64(n-a) * p.up
		} else {
			w.cost += float64(a-n) * p.down
		}
		a = n
		can := p.speed(k, a) * p.dt[k]
		late := p.lateness(k, b, can)
		w.late += late
		if k < p.lead {
			w.unmet += late
		}
		w.events += p.in[k]
		w.cost += float64(a) * p.price * p.dt[k]
		b = max(0, b+p.in[k]-can)
		if p.allow[k+1] > 0 {
			w.oldest = max(w.oldest, b/p.allow[k+1])
		}
	}
	return w
}
