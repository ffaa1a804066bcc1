package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// brute simulates single events in single calls, with nothing in common with the engine but the words.
// Its pilot's orders depend on the time only.
type brute struct {
	w      *World
	orders func(k int) int // workers ordered at period k, 0 at the beginning
	period float64
	rng    *rand.Rand

	now     float64
	wake    float64     // when a worker has lingered long enough
	queues  [][]float64 // arrival times by partition
	until   []float64   // partitions stand still
	owner   []int       // id of a worker; -1
	workers []*bruteWorker
	ids     int

	seconds, cost float64
	fresh         []float64
	late          int
}

type bruteWorker struct {
	id           int
	ordered      float64
	ready        float64 // when it is
	stop         float64 // paid until; negative while it goes on
	busy         float64 // until then in a call
	hand         []float64
	from         []int // partitions of hand
	slow         float64
	gone         bool
	serves       bool
	finishesHand bool
}

func (b *brute) arrivals() (times []float64) {
	step := b.w.Arrivals.Step.Seconds()
	carry := 0.0
	for i, c := range b.w.Arrivals.Counts {
		if math.IsNaN(c) {
			c = 0
		}
		// In slices, so that spikes may begin within a tick.
		const slices = 10
		for k := range slices {
			t := (float64(i) + float64(k)/slices) * step
			n := c / slices
			for _, f := range b.w.Faults {
				if f.Kind == Spike && t >= f.At.Seconds()-1e-9 && t < (f.At+f.Duration).Seconds()-1e-9 {
					n *= f.Size
				}
			}
			carry += n
			whole := math.Floor(carry)
			carry -= whole
			for j := range int(whole) {
				times = append(times, t+(float64(j)+0.5)/whole*step/slices)
			}
		}
	}
	return times
}

func (b *brute) in(kind FaultKind) (until float64, is bool) {
	for _, f := range b.w.Faults {
		if f.Kind == kind && b.now >= f.At.Seconds() && b.now < (f.At+f.Duration).Seconds() {
			return (f.At + f.Duration).Seconds(), true
		}
	}
	return 0, false
}

// balance gives every serving worker its number of partitions.
func (b *brute) balance(pause float64) {
	var serving []int
	for _, w := range b.workers {
		if w.serves {
			serving = append(serving, w.id)
		}
	}
	has := map[int][]int{}
	for p, o := range b.owner {
		if !slices.Contains(serving, o) {
			b.owner[p] = -1
		} else {
			has[o] = append(has[o], p)
		}
	}
	if len(serving) == 0 {
		return
	}
	sort.SliceStable(serving, func(i, j int) bool { return len(has[serving[i]]) > len(has[serving[j]]) })
	n, extra := len(b.owner)/len(serving), len(b.owner)%len(serving)
	for i, id := range serving {
		most := n
		if i < extra {
			most++
		}
		for len(has[id]) > most {
			k := b.rng.IntN(len(has[id]))
			b.owner[has[id][k]] = -1
			has[id] = slices.Delete(has[id], k, k+1)
		}
	}
	for i, id := range serving {
		most := n
		if i < extra {
			most++
		}
		for p := range b.owner {
			if len(has[id]) < most && b.owner[p] < 0 {
				b.owner[p], b.until[p] = id, b.now+pause
				has[id] = append(has[id], p)
			}
		}
	}
}

// take lets a worker begin a call; it says when there could be something if there is nothing.
func (b *brute) take(w *bruteWorker) {
	if _, paused := b.in(BrokerPause); paused {
		return
	}
	batch := b.w.Capacity.Batch
	if b.w.Linger > 0 {
		n, oldest := 0, math.Inf(1)
		for p, q := range b.queues {
			if mine := b.w.Capacity.Partitions == 0 || b.owner[p] == w.id && b.until[p] <= b.now; mine && len(q) > 0 {
				n, oldest = n+len(q), min(oldest, q[0])
			}
		}
		if n < batch && b.now < oldest+b.w.Linger.Seconds() {
			b.wake = min(b.wake, oldest+b.w.Linger.Seconds())
			return
		}
	}
	for len(w.hand) < batch {
		best := -1
		for p := range b.queues {
			mine := b.w.Capacity.Partitions == 0 || b.owner[p] == w.id && b.until[p] <= b.now
			if mine && len(b.queues[p]) > 0 && (best < 0 || b.queues[p][0] < b.queues[best][0]) {
				best = p
			}
		}
		if best < 0 {
			break
		}
		w.hand = append(w.hand, b.queues[best][0])
		w.from = append(w.from, best)
		b.queues[best] = b.queues[best][1:]
	}
	if len(w.hand) > 0 {
		w.busy = b.now + w.slow*b.w.Capacity.Service(float64(len(w.hand)))
	}
}

func (b *brute) run() {
	c, o := &b.w.Capacity, &b.w.Objective
	n := max(1, c.Partitions)
	b.queues, b.until, b.owner = make([][]float64, n), make([]float64, n), make([]int, n)
	for p := range b.owner {
		b.owner[p] = -1
	}
	total := 0.0
	weights := make([]float64, n)
	for p := range weights {
		weights[p] = 1
		if c.Shares != nil {
			weights[p] = c.Shares[p]
		}
		total += weights[p]
	}
	debt := make([]float64, n)
	for p := range debt {
		debt[p] = b.rng.Float64()
	}
	all := b.arrivals()
	end := b.w.Arrivals.Duration().Seconds()
	var marks []float64
	for _, f := range b.w.Faults {
		marks = append(marks, f.At.Seconds(), (f.At + f.Duration).Seconds())
	}
	add := func(ready float64, slow float64) *bruteWorker {
		w := &bruteWorker{id: b.ids, ordered: b.now, ready: ready, stop: -1, slow: slow}
		b.ids++
		b.workers = append(b.workers, w)
		return w
	}
	for range b.w.Start {
		add(0, 1).serves = true
	}
	b.balance(0)
	asks, next := 1, 0
	lost := map[int]bool{}
	for {
		// What is due now.
		changed := false
		for next < len(all) && all[next] <= b.now {
			best := 0
			for p := range debt {
				debt[p] += weights[p] / total
				if debt[p] > debt[best] {
					best = p
				}
			}
			debt[best]--
			b.queues[best] = append(b.queues[best], all[next])
			next++
		}
		for _, w := range b.workers {
			if len(w.hand) > 0 && w.busy <= b.now && (!w.gone || w.finishesHand) {
				for _, a := range w.hand {
					b.done(b.now - a)
				}
				w.hand, w.from = w.hand[:0], w.from[:0]
			}
			if !w.gone && !w.serves && w.ready <= b.now {
				w.serves, changed = true, true
			}
		}
		for i, f := range b.w.Faults {
			if f.Kind == WorkerLoss && !lost[i] && f.At.Seconds() <= b.now {
				lost[i] = true
				// All that serve are lost: size is large enough. What they had in hand comes again.
				for _, w := range slices.Clone(b.workers) {
					if w.serves && !w.gone {
						for j := len(w.hand) - 1; j >= 0; j-- {
							p := w.from[j]
							b.queues[p] = append([]float64{w.hand[j]}, b.queues[p]...)
						}
						w.hand, w.gone, w.serves, w.stop, changed = nil, true, false, b.now, true
						add(b.now+f.Duration.Seconds()+c.StartUp.Seconds(), 1)
					}
				}
			}
			if f.Kind == SlowWorker && f.At.Seconds() == b.now {
				for _, w := range b.workers {
					if w.serves {
						w.slow = f.Factor
					}
				}
			}
			if f.Kind == SlowWorker && (f.At+f.Duration).Seconds() == b.now {
				for _, w := range b.workers {
					w.slow = 1
				}
			}
		}
		if float64(asks)*b.period <= b.now {
			target := min(max(b.orders(asks), o.Min), o.Max)
			asks++
			have := 0
			for _, w := range b.workers {
				if !w.gone {
					have++
				}
			}
			for ; have < target; have++ {
				if w := add(b.now+c.StartUp.Seconds(), 1); w.ready <= b.now {
					w.serves, changed = true, true
				}
			}
			for _, serving := range []bool{false, true} {
				for i := len(b.workers) - 1; i >= 0 && have > target; i-- {
					w := b.workers[i]
					if w.gone || w.serves != serving {
						continue
					}
					have--
					w.gone, w.stop = true, b.now
					if serving {
						w.serves, changed = false, true
						w.stop, w.finishesHand = b.now+c.Stop.Seconds(), true
					}
				}
			}
		}
		if changed && c.Partitions > 0 {
			b.balance(c.Rebalance.Seconds())
		}
		b.wake = math.Inf(1)
		for _, w := range b.workers {
			if w.serves && len(w.hand) == 0 {
				b.take(w)
			}
		}
		if b.now >= end {
			break
		}
		// What comes next.
		to := min(end, float64(asks)*b.period)
		if next < len(all) {
			to = min(to, all[next])
		}
		see := func(t float64) {
			if t > b.now {
				to = min(to, t)
			}
		}
		for _, w := range b.workers {
			if len(w.hand) > 0 {
				see(w.busy)
			}
			if !w.gone && !w.serves {
				see(w.ready)
			}
		}
		for _, t := range b.until {
			see(t)
		}
		for _, t := range marks {
			see(t)
		}
		see(b.wake)
		b.now = to
	}
	for _, w := range b.workers {
		stop := w.stop
		if stop < 0 {
			stop = end
		}
		b.seconds += max(0, min(stop, end)-w.ordered)
		for _, a := range w.hand {
			b.done(end - a)
		}
	}
	for _, q := range b.queues {
		for _, a := range q {
			b.done(end - a)
		}
	}
	b.cost = b.seconds * c.Price()
	slices.Sort(b.fresh)
}

func (b *brute) done(fresh float64) {
	b.fresh = append(b.fresh, fresh)
	if fresh > b.w.Objective.Target.Seconds() {
		b.late++
	}
}

func (b *brute) quantile(q float64) float64 {
	return b.fresh[min(len(b.fresh)-1, int(q*float64(len(b.fresh))))]
}

// randomWorld is small, with all that the two simulations both know.
func randomWorld(seed uint64) (World, func(int) int) {
	r := rand.New(rand.NewPCG(seed, 99))
	c := orchestrator.Capacity{
		Overhead: 0.01 + 0.05*r.Float64(), PerEvent: 0.002 + 0.005*r.Float64(), Batch: 4 + r.IntN(30),
		StartUp: time.Duration(r.IntN(30)) * time.Second, Stop: time.Duration(r.IntN(10)) * time.Second,
		Rebalance: time.Duration(r.IntN(3000)) * time.Millisecond, Cost: 0.5 + r.Float64(),
	}
	most := 2 + r.IntN(6)
	switch r.IntN(3) {
	case 0:
		c.Partitions = most * (4 + r.IntN(10))
	case 1: // at most one each, so that it does not matter who has which
		c.Partitions = most
		most = c.Partitions
		for range c.Partitions {
			c.Shares = append(c.Shares, 0.7+0.6*r.Float64())
		}
	}
	w := World{
		Arrivals: ticks(), Capacity: c, Start: 1 + r.IntN(most), Seed: seed,
		Objective: orchestrator.Objective{Target: 4 * time.Second, Quantile: 0.99, Min: 0, Max: most},
	}
	if c.Shares != nil {
		w.Start, w.Objective.Min = most, most
	}
	rate := c.Rate(0) * float64(most) * (0.3 + 0.5*r.Float64())
	for i := range 400 {
		x := rate * (1 + 0.5*math.Sin(float64(i)/60)) * (0.8 + 0.4*r.Float64())
		if r.IntN(100) == 0 {
			x *= 4
		}
		w.Arrivals.Counts = append(w.Arrivals.Counts, x)
	}
	switch r.IntN(6) {
	case 0:
		w.Faults = []Fault{{Kind: BrokerPause, At: 100 * time.Second, Duration: 7 * time.Second}}
	case 1:
		w.Faults = []Fault{{Kind: Spike, At: 100 * time.Second, Duration: 10 * time.Second, Size: 3}}
	case 2:
		w.Faults = []Fault{{Kind: SlowWorker, At: 100 * time.Second, Duration: 30 * time.Second, Size: 100, Factor: 2}}
	case 3:
		w.Faults = []Fault{{Kind: WorkerLoss, At: 100 * time.Second, Size: 100}}
	}
	if r.IntN(4) == 0 {
		w.Linger = time.Duration(r.IntN(500)) * time.Millisecond
	}
	orders := make([]int, 100)
	now := w.Start
	for i := range orders {
		if r.IntN(3) == 0 {
			now = max(1, most-r.IntN(3))
		}
		orders[i] = now
	}
	return w, func(k int) int { return orders[k] }
}

func TestRunsAgreeWithASimulationOfSingleEvents(t *testing.T) {
	worlds := uint64(24)
	if testing.Short() {
		worlds = 6
	}
	for seed := range worlds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w, orders := randomWorld(seed)
			const period = 7
			k := 0
			p := &script{period: period * time.Second, start: begin,
				step: func(time.Duration, *orchestrator.Signals, orchestrator.Orders) orchestrator.Decision {
					k++
					return orchestrator.Decision{Workers: orders(k)}
				}}
			got := run(t, w, p)
			b := &brute{w: &w, orders: orders, period: period, rng: rand.New(rand.NewPCG(seed, 5))}
			b.run()
			near(t, "cost", got.Cost, b.cost, 1e-6*b.cost)
			n := float64(len(b.fresh))
			near(t, "events", got.Events, n, 2)
			near(t, "late share", got.Late/got.Events, float64(b.late)/n, 0.005)
			call := w.Capacity.Service(float64(w.Capacity.Batch))
			for _, q := range []struct {
				name string
				at   float64
				got  time.Duration
			}{{"p50", 0.5, got.P50}, {"p95", 0.95, got.P95}, {"p99", 0.99, got.P99}} {
				want := b.quantile(q.at)
				near(t, q.name, q.got.Seconds(), want, 0.03*want+call)
			}
		})
	}
}
