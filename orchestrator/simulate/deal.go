package simulate

import (
	"math"
	"math/rand/v2"
	"slices"
)

// partition is one queue.
type partition struct {
	weight float64 // share of all arrivals
	owner  *worker // nil where nobody serves it
	group  int     // of its owner's groups; -1 while it stands still
	until  float64 // stands still until then
	// Where group is -1.
	front float64
	seg   int
}

// dealer is scratch space for dealing partitions.
type dealer struct {
	order []int   // of ready workers, those with most partitions first
	quota []int   // by ready worker
	pool  []int32 // partitions to give away
	sort  []int32
	rng   *rand.Rand
	all   []int32 // the partitions in an order that has nothing to do with their shares
}

func (e *engine) initParts() {
	c := &e.w.Capacity
	n := c.Partitions
	if n == 0 {
		e.shared = unit{groups: []group{{weight: 1}}}
		return
	}
	sum := 0.0
	for _, s := range c.Shares {
		sum += s
	}
	e.parts = make([]partition, n)
	for i := range e.parts {
		e.parts[i] = partition{weight: 1 / float64(n), group: -1}
		if sum > 0 {
			e.parts[i].weight = c.Shares[i] / sum
		}
	}
	e.deal.all = make([]int32, n)
	for i := range e.deal.all {
		e.deal.all[i] = int32(i)
	}
	e.deal.rng = rand.New(rand.NewPCG(e.w.Seed, 0x7061727473))
	e.deal.rng.Shuffle(n, func(i, j int) { e.deal.all[i], e.deal.all[j] = e.deal.all[j], e.deal.all[i] })
}

// rates says what each ready worker can do.
func (e *engine) rates() {
	e.calm.is, e.calm.stale = false, true
	n := len(e.ready)
	loss := 1.0
	if x := e.w.Capacity.Exponent; x > 0 && x != 1 && n > 0 {
		loss = math.Pow(float64(n), 1-x)
	}
	e.full = e.overhead + e.perEvent*e.batch
	total := 0.0
	for _, w := range e.ready {
		w.servers, w.factor = 1, w.slow*loss
		w.full = e.full * w.factor
		w.rate = e.batch / w.full
		total += w.rate
	}
	if e.parts != nil {
		return
	}
	u := &e.shared
	u.servers, u.rate, u.factor, u.full = float64(n), total, 1, e.full
	if n > 0 {
		// The workers of a shared queue count as so many equal ones.
		u.full = e.batch * u.servers / total
		u.factor = u.full / e.full
	}
}

// release leaves a worker's partitions to nobody.
func (e *engine) release(w *worker) {
	for _, p := range w.parts {
		e.lift(p)
		e.parts[p].owner = nil
	}
	w.parts, w.groups = w.parts[:0], w.groups[:0]
}

// lift writes down a partition's front outside of its group.
func (e *engine) lift(p int32) {
	part := &e.parts[p]
	if part.group >= 0 {
		g := &part.owner.groups[part.group]
		part.front, part.seg, part.group = g.front, g.seg, -1
	}
}

// dealWorkers deals the partitions to the ready workers so that their numbers differ by one at most and
// as few as possible move. Those that do stand still for a while, if pause.
func (e *engine) dealWorkers(pause bool) {
	e.changed = false
	e.rates()
	if e.parts == nil {
		return
	}
	d := &e.deal
	n := len(e.ready)
	for p := range e.parts {
		e.lift(int32(p))
	}
	if n > 0 {
		d.order, d.quota, d.pool = d.order[:0], d.quota[:0], d.pool[:0]
		for i := range e.ready {
			d.order = append(d.order, i)
			d.quota = append(d.quota, len(e.parts)/n)
		}
		slices.SortStableFunc(d.order, func(a, b int) int { return len(e.ready[b].parts) - len(e.ready[a].parts) })
		for _, i := range d.order[:len(e.parts)%n] {
			d.quota[i]++
		}
		for _, p := range d.all {
			if e.parts[p].owner == nil {
				d.pool = append(d.pool, p)
			}
		}
		for i, w := range e.ready {
			for len(w.parts) > d.quota[i] {
				// By lot: neither those that moved before nor those that never did.
				last := len(w.parts) - 1
				i := d.rng.IntN(len(w.parts))
				w.parts[i], w.parts[last] = w.parts[last], w.parts[i]
				d.pool = append(d.pool, w.parts[last])
				w.parts = w.parts[:last]
			}
		}
		until := e.now
		if pause {
			until += e.w.Capacity.Rebalance.Seconds()
		}
		given := 0
		for i, w := range e.ready {
			for len(w.parts) < d.quota[i] {
				p := d.pool[given]
				given++
				w.parts = append(w.parts, p)
				e.parts[p].owner, e.parts[p].until = w, until
			}
		}
		if given > 0 && until > e.now {
			e.pauses = append(e.pauses, until)
		}
	}
	for _, w := range e.ready {
		e.regroup(w)
	}
	e.findStill()
}

// resume lets partitions go on that have stood still long enough.
func (e *engine) resume() {
	for len(e.pauses) > 0 && e.pauses[0] <= e.now {
		e.pauses = e.pauses[:copy(e.pauses, e.pauses[1:])]
	}
	for _, w := range e.ready {
		due := false
		for _, p := range w.parts {
			if part := &e.parts[p]; part.group < 0 && part.until <= e.now {
				due = true
				break
			}
		}
		if !due {
			continue
		}
		for _, p := range w.parts {
			e.lift(p)
		}
		e.regroup(w)
	}
	e.findStill()
}

// regroup builds a worker's groups from its partitions' fronts.
func (e *engine) regroup(w *worker) {
	e.calm.is, e.calm.stale = false, true
	s := e.deal.sort[:0]
	for _, p := range w.parts {
		if e.parts[p].until <= e.now {
			s = append(s, p)
		}
	}
	e.deal.sort = s
	slices.SortStableFunc(s, func(a, b int32) int {
		switch x, y := e.parts[a].front, e.parts[b].front; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	w.groups = w.groups[:0]
	for _, p := range s {
		part := &e.parts[p]
		last := len(w.groups) - 1
		if last < 0 || w.groups[last].front != part.front {
			w.groups = append(w.groups, group{front: part.front, seg: part.seg})
			last++
		}
		w.groups[last].weight += part.weight
		part.group = last
	}
}

// findStill finds the oldest front of the partitions that nobody serves now.
func (e *engine) findStill() {
	e.still = never
	for i := range e.parts {
		if p := &e.parts[i]; p.group < 0 && p.weight > 0 {
			e.still = min(e.still, p.front)
		}
	}
}
