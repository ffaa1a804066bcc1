package simulate

import "slices"

// maxClasses is how many kinds of workers are told apart while all keep up.
const maxClasses = 5

// calm is the state in which every worker has served all that came to it. That is most of the time; workers of
// about the same share of the arrivals are then counted together. Queues are exact nevertheless: whether
// all keep up is decided by the largest share, and only how small the calls of single workers
// are, and how long they take, is a mean.
type calm struct {
	is      bool
	stale   bool // the shares of workers have changed
	most    float64
	slowest float64 // rate of the slowest worker
	alike   bool    // all workers are equally fast
	classes []class
	weights []float64
}

// class is workers of about the same weight.
type class struct{ weight, workers float64 }

// becomeCalm notes that all workers have caught up.
func (e *engine) becomeCalm() {
	c := &e.calm
	if c.stale {
		c.stale, c.alike, c.most, c.slowest = false, true, 0, never
		c.weights, c.classes = c.weights[:0], c.classes[:0]
		for _, w := range e.ready {
			c.slowest = min(c.slowest, w.rate)
			c.alike = c.alike && w.factor == e.ready[0].factor
			if len(w.groups) > 0 {
				c.most = max(c.most, w.groups[0].weight)
				c.weights = append(c.weights, w.groups[0].weight)
			}
		}
		slices.Sort(c.weights)
		// The one with most has a class of its own: it is the one with the oldest events.
		n, rest := min(maxClasses, len(c.weights))-1, len(c.weights)-1
		for i := range n {
			c.add(c.weights[i*rest/n : (i+1)*rest/n])
		}
		if rest >= 0 {
			c.add(c.weights[rest:])
		}
	}
	c.is = c.alike
}

// add makes a class of workers with these weights, which rise; those of one weight are one class.
func (c *calm) add(weights []float64) {
	k, sum := float64(len(weights)), 0.0
	for _, w := range weights {
		sum += w
	}
	if last := len(c.classes) - 1; last >= 0 && weights[0] == weights[len(weights)-1] && c.classes[last].weight == weights[0] {
		c.classes[last].workers += k
		return
	}
	c.classes = append(c.classes, class{sum / k, k})
}

// keepsUp reports whether all workers have caught up and keep up with what comes now.
func (e *engine) keepsUp() bool {
	c := &e.calm
	if !c.is {
		return false
	}
	if e.faults.paused == 0 && e.segs[len(e.segs)-1].rate*c.most <= c.slowest {
		return true
	}
	e.bringUp()
	c.is = false
	return false
}

func (e *engine) serveAlike(t float64) {
	rate := e.segs[len(e.segs)-1].rate
	u := &e.ready[0].unit
	for _, k := range e.calm.classes {
		e.light(u, rate*k.weight, k.workers, e.now, t)
	}
}

// bringUp writes down the fronts of workers that keep up, and forgets the arrivals that are all served.
func (e *engine) bringUp() {
	last := len(e.segs) - 1
	if e.parts == nil {
		if g := &e.shared.groups[0]; g.front >= e.now && last >= 0 {
			g.seg = 0
			e.segs[0] = e.segs[last]
			e.segs = e.segs[:1]
		}
		return
	}
	if !e.calm.is {
		return
	}
	for _, w := range e.ready {
		if len(w.groups) > 0 {
			w.groups[0].front, w.groups[0].seg = e.now, 0
		}
	}
	e.segs[0] = e.segs[last]
	e.segs = e.segs[:1]
}
