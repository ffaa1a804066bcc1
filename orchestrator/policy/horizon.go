package policy

import (
	"math"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// HorizonConfig says how a Horizon plans. Zero values mean those of DefaultHorizon. One
// setting is meant for all loads.
type HorizonConfig struct {
	// Every is the period.
	Every time.Duration
	// Step is the shortest step of a plan.
	Step time.Duration
	// Horizon is how far is planned.
	Horizon time.Duration
	// Risk is the quantile of the demand that is planned for until workers ordered now could
	// be there; from then on the quantile goes down to Tail within Fade, since what comes late can be
	// decided late, and since no load stays at its upper quantile.
	Risk, Tail float64
	Fade       time.Duration
	// Pace is by how many powers of two the share beyond Risk grows while nothing is late, and
	// shrinks for each Spend of late events too many. Negative means no pacing.
	Pace float64
	// Spend is the share of the late events that the objective allows which is meant to be used.
	Spend float64
	// Surge is how many seconds a sudden rise is expected to go on as steeply, where the rate exceeds
	// all that was forecast for it. Negative means none.
	Surge float64
	// Allow is the share of the target that a backlog may be old in a plan.
	Allow float64
	// Late is the price of a late event, in prices of an event that is served.
	Late float64
	// Hold is how long fewer workers must have been enough before there are fewer.
	Hold time.Duration
	// Floor is the floor on the way up, and what decides without a forecast is DefaultFloor.
	Floor FloorConfig
	// NoBatch leaves the batch as it is, NoFloor leaves the floor out while there is a forecast, NoRoute
	// sends nothing elsewhere. They show what each is worth.
	NoBatch, NoFloor, NoRoute bool
}

// DefaultHorizon is the setting that the reports use.
func DefaultHorizon() HorizonConfig {
	return HorizonConfig{
		Every: 5 * time.Second, Step: 10 * time.Second, Horizon: 10 * time.Minute,
		Risk: 0.85, Tail: 0.5, Fade: 4 * time.Minute, Pace: 2, Spend: 0.2, Surge: 60, Allow: 0.95, Late: 30, Hold: 10 * time.Second,
		Floor: FloorConfig{Stable: time.Minute, Fast: 20 * time.Second, Panic: 1.1, Utilisation: 1.1, Allow: 0.4, CatchUp: 2 * time.Minute},
	}
}

// Horizon plans for a receding horizon: a dynamic programme over workers and backlog with the
// start-up delay, the price of changes, a quantile of the demand by lead time, and the age that a backlog may
// have; the first choice is carried out and the rest forgotten, as in model predictive control. A reactive floor
// holds on the way up. How much risk is taken follows how many events were late of late (as BACC paces by
// the budget of violations).
type Horizon struct {
	set   HorizonConfig
	past  past
	fleet fleet
	pipe  pipe
	wants held
	floor *Floor
	alone *Floor
	pace  pace
	surge surge
	plan  plan
	best  plan // of the batch that is best so far
	sizes []int
}

// NewHorizon returns a planner.
func NewHorizon(set HorizonConfig) *Horizon {
	d := DefaultHorizon()
	orDefault(&set.Every, d.Every)
	orDefault(&set.Step, d.Step)
	orDefault(&set.Horizon, d.Horizon)
	orDefault(&set.Risk, d.Risk)
	orDefault(&set.Tail, d.Tail)
	orDefault(&set.Fade, d.Fade)
	orDefault(&set.Spend, d.Spend)
	orDefault(&set.Allow, d.Allow)
	orDefault(&set.Late, d.Late)
	if set.Surge == 0 {
		set.Surge = d.Surge
	}
	if set.Pace == 0 {
		set.Pace = d.Pace
	}
	if set.Hold == 0 {
		set.Hold = d.Hold
	}
	if set.Floor == (FloorConfig{}) {
		set.Floor = d.Floor
	}
	return &Horizon{set: set, floor: NewFloor(set.Floor), alone: NewFloor(DefaultFloor())}
}

// Name is "horizon".
func (h *Horizon) Name() string { return "horizon" }

// Period is HorizonConfig.Every.
func (h *Horizon) Period() time.Duration { return h.set.Every }

// Decide plans, and orders the first choice of the plan.
func (h *Horizon) Decide(in *orchestrator.Input) orchestrator.Decision {
	s := in.Signals
	h.past.see(s)
	h.pipe.update(in)
	h.fleet.update(in.Capacity, topOf(in.Objective))
	h.pace.see(s, in.Objective, h.set.Spend)
	h.surge.see(in, &h.past, h.set.Surge)
	alone := h.alone.Decide(in)
	floor := h.floor.Decide(in)
	if in.Demand == nil || len(in.Demand.Rates) == 0 || h.past.n == 0 || in.Objective.Target <= 0 || in.Demand.Step <= 0 {
		if in.Explain && !alone.Hold {
			alone.Reason = "No forecast that can be used: the reactive floor decides. " + alone.Reason
		}
		return alone
	}
	batch := in.Capacity.Batch
	if h.set.NoBatch {
		h.sizes = append(h.sizes[:0], max(1, batch))
	} else {
		h.sizes = batches(in.Capacity, in.Objective, h.sizes)
	}
	risk := h.risk()
	var w way
	for i, b := range h.sizes {
		h.set.describe(&h.plan, in, h, b, risk, 1)
		h.plan.solve()
		if v := h.plan.walk(free, free); i == 0 || v.cost+h.plan.late*v.late < w.cost+h.best.late*w.late {
			w, batch = v, b
			h.plan, h.best = h.best, h.plan
		}
	}
	d := orchestrator.Decision{Workers: w.now + w.order, Batch: batch}
	if h.set.NoBatch {
		d.Batch = 0
	}
	planned := d.Workers
	if !h.set.NoFloor && floor.Workers > in.Target && floor.Workers > d.Workers {
		d.Workers = floor.Workers
	}
	if m := h.wants.max(in.Now, h.set.Hold, d.Workers); d.Workers < in.Target {
		d.Workers = min(m, in.Target)
	}
	if !h.set.NoRoute && len(in.Tiers) > 0 && w.unmet > 0 {
		d.Route = h.route(in, batch, risk, w)
	}
	if in.Explain {
		h.explain(in, &d, w, planned, floor.Workers, risk)
	}
	return d
}

// risk is the quantile that is planned for now.
func (h *Horizon) risk() float64 {
	if h.set.Pace < 0 {
		return h.set.Risk
	}
	return min(max(1-(1-h.set.Risk)*math.Exp2(h.set.Pace*h.pace.ease()), 0.5), 0.995)
}

// rebalance is how much of a worker's time a change of one worker costs those that wait, in pauses of a partition's owner.
const rebalance = 2

// maxLead is the most steps that the start-up is cut into.
const maxLead = 12

// describe writes the plan's problem: keep is the share of the arrivals that is not sent elsewhere.
func (c *HorizonConfig) describe(p *plan, in *orchestrator.Input, h *Horizon, batch int, risk, keep float64) {
	can, now := in.Capacity, in.Now
	mu := can.Rate(batch)
	if !(mu > 0 && mu < 1e9) {
		mu = 1e9
	}
	startUp := max(can.StartUp, 0)
	p.lead = 0
	fine := c.Step
	if startUp > time.Second {
		p.lead = min(max(int((startUp+c.Step/2)/c.Step), 1), maxLead)
		fine = startUp / time.Duration(p.lead)
	}
	c.steps(p, fine, max(c.Horizon, 3*startUp))
	if cap(p.ready) < maxLead {
		p.ready = make([]int, maxLead)
	}
	p.ready = p.ready[:p.lead]
	h.pipe.ready(p.ready, in, fine)

	target := in.Objective.Target.Seconds()
	service := can.Service(float64(batch))
	wait := max(c.Allow*target-service-min(can.Rebalance.Seconds(), target/4), target/20)
	sure := startUp.Seconds() + wait
	p.in = p.in[:0]
	t, lowest, highest := 0.0, math.Inf(1), 0.0
	for _, dt := range p.dt {
		q := risk
		if t > sure {
			q = risk + (min(c.Tail, risk)-risk)*min(1, (t-sure)/c.Fade.Seconds())
		}
		r := demandAt(in.Demand, now, t+dt/2, q)
		if h.surge.on {
			r = max(r, h.surge.rate(t+dt/2))
		}
		r *= keep
		p.in = append(p.in, r*dt)
		lowest, highest = min(lowest, r), max(highest, r)
		t += dt
	}
	h.windows(p, now, wait, keep)

	p.price = can.Price()
	p.up = p.price * (startUp.Seconds() + rebalance*can.Rebalance.Seconds())
	p.down = p.price * (max(can.Stop, 0).Seconds() + rebalance*can.Rebalance.Seconds())
	p.backlog = h.backlog(in, mu, batch)
	p.alive = max(0, in.Target)
	// As many as would clear, within what may wait, what will wait when those ordered now are there.
	piled := p.backlog
	for k := range p.lead {
		piled = max(0, piled+p.in[k]-mu*h.fleet.of(min(p.alive, p.ready[k]))*p.dt[k])
	}
	work := highest/mu + max(p.backlog/2, piled)/(mu*max(wait, 1))
	top := min(topOf(in.Objective), h.fleet.top)
	p.hi = max(min(h.fleet.need(work*1.05)+2, top), p.alive)
	p.lo = min(max(in.Objective.Min, h.fleet.need(lowest*0.8/mu)-2, 0), p.alive)
	p.rate = p.rate[:0]
	for n := p.lo; n <= p.hi; n++ {
		p.rate = append(p.rate, mu*h.fleet.of(n))
	}
	n := max(1, h.fleet.need(highest/mu))
	p.rest = p.price * float64(n) / (mu * max(h.fleet.of(n), 1e-9))
	p.late = c.Late * p.rest
}

// steps lays out the time: fine ones until the second start-up, coarser ones behind.
func (c *HorizonConfig) steps(p *plan, fine, end time.Duration) {
	p.dt = p.dt[:0]
	for t := time.Duration(0); t < end && len(p.dt) < 64; {
		step := fine
		if n := len(p.dt); n >= 2*max(p.lead, 3) {
			step = 3 * fine
		}
		p.dt = append(p.dt, step.Seconds())
		t += step
	}
}

// windows fills in which events may wait, and which reach the allowed age, by the arrivals seen and expected.
func (h *Horizon) windows(p *plan, now time.Time, wait, keep float64) {
	p.due, p.allow = p.due[:0], p.allow[:0]
	before := func(age float64) float64 {
		return keep * h.past.between(now.Add(-time.Duration(age*float64(time.Second))), now)
	}
	// arrived is the events from now until t seconds from now; negative before.
	arrived := func(t float64) float64 {
		if t < 0 {
			return -before(-t)
		}
		sum, at := 0.0, 0.0
		for k, dt := range p.dt {
			if at+dt >= t {
				return sum + p.in[k]*(t-at)/dt
			}
			sum, at = sum+p.in[k], at+dt
		}
		return sum
	}
	t, sum := 0.0, 0.0
	last := arrived(-wait)
	for k, dt := range p.dt {
		p.allow = append(p.allow, sum-last)
		t, sum = t+dt, sum+p.in[k]
		next := arrived(t - wait)
		p.due = append(p.due, next-last)
		last = next
	}
	p.allow = append(p.allow, sum-last)
}

// backlog is what waits now: what the signals said, and what came on top since.
func (h *Horizon) backlog(in *orchestrator.Input, mu float64, batch int) float64 {
	s := in.Signals
	size := s.Batch
	if !s.Known.Has(orchestrator.KnownBatch) || !(size > 0) {
		size = float64(batch)
	}
	lag, old := -1.0, -1.0
	if s.Known.Has(orchestrator.KnownLag) {
		lag = s.Lag
		if s.Known.Has(orchestrator.KnownInFlight) {
			lag = max(0, lag-s.InFlight)
		}
	}
	if s.Known.Has(orchestrator.KnownOldest) {
		age := min(max(0, s.Oldest.Seconds()-1.5*in.Capacity.Service(size)), 1e6)
		old = h.past.between(s.Time.Add(-time.Duration(age*float64(time.Second))), s.Time)
	}
	// The oldest tells of the partition that is furthest behind, the lag of all of them: what
	// has to be in time lies between.
	b := max(lag, old, 0)
	if lag >= 0 && old > lag {
		b = (lag + old) / 2
	}
	ready := max(0, in.Target-len(h.pipe.since))
	stale := max(0, in.Now.Sub(s.Time).Seconds())
	b = max(0, b+stale*(h.past.latest()-mu*h.fleet.of(ready)))
	if !(b < most) {
		return most
	}
	return b
}

// demandAt is the rate t seconds from now at a quantile, linear between leads and between levels.
func demandAt(d *orchestrator.Demand, now time.Time, t, level float64) float64 {
	x := (now.Sub(d.Time).Seconds()+t)/d.Step.Seconds() - 0.5
	last := len(d.Rates) - 1
	x = min(max(x, 0), float64(last))
	i := min(int(x), max(0, last-1))
	v := rowAt(d.Levels, d.Rates[i], level)
	if f := x - float64(i); f > 0 && i < last {
		v += f * (rowAt(d.Levels, d.Rates[i+1], level) - v)
	}
	if !(v > 0) {
		return 0
	}
	return min(v, most)
}

func rowAt(levels, row []float64, level float64) float64 {
	n := min(len(levels), len(row))
	for j := 1; j < n; j++ {
		if level <= levels[j] {
			gap := levels[j] - levels[j-1]
			if gap <= 0 {
				return row[j]
			}
			return row[j-1] + max(0, level-levels[j-1])/gap*(row[j]-row[j-1])
		}
	}
	return row[n-1]
}
