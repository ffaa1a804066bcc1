package policy

import (
	"math"
	"math/rand/v2"
	"testing"
)

// tiny is a plan whose backlogs all lie on nodes, so that the grid rounds nothing.
func tiny(rng *rand.Rand) *plan {
	p := &plan{
		lead: rng.IntN(3), lo: rng.IntN(2), price: 1, up: float64(rng.IntN(12)), down: float64(rng.IntN(5)),
		late: float64(rng.IntN(4)) * 0.5, rest: 0.1, backlog: float64(rng.IntN(5)) * 10,
	}
	p.hi = p.lo + 2 + rng.IntN(2)
	p.alive = p.lo + rng.IntN(p.hi-p.lo+1)
	const steps, dt = 5, 10
	for n := p.lo; n <= p.hi; n++ {
		p.rate = append(p.rate, float64(n)*2)
	}
	for range steps {
		p.dt = append(p.dt, dt)
		p.in = append(p.in, float64(rng.IntN(10))*10)
	}
	// What may wait: the arrivals of the step before; so what is due in a step arrived in the step before.
	before := 10 * float64(1+rng.IntN(5))
	p.allow = append(p.allow, before)
	for k := range steps {
		p.due = append(p.due, p.allow[k])
		p.allow = append(p.allow, p.in[k])
	}
	// The grid makes nodes of planFine-ths of the most that may wait: make that a multiple of 10.
	p.allow[0] = 240
	p.due[0] = 240
	for k := range p.lead {
		p.ready = append(p.ready, max(0, p.alive-p.lead+k))
	}
	return p
}

// brute tries all choices.
func brute(p *plan, k, a int, b float64) float64 {
	if k == len(p.dt) {
		return b*p.rest + max(0, b-p.allow[k])*p.late
	}
	least := math.Inf(1)
	for n := p.lo; n <= p.hi; n++ {
		cost := 0.0
		switch {
		case n > a && k < p.lead:
			continue
		case n > a:
			cost = float64(n-a) * p.up
		default:
			cost = float64(a-n) * p.down
		}
		can := p.speed(k, n) * p.dt[k]
		cost += float64(n)*p.price*p.dt[k] + p.late*p.lateness(k, b, can)
		least = min(least, cost+brute(p, k+1, n, max(0, b+p.in[k]-can)))
	}
	return least
}

func TestPlanFindsWhatTryingEverythingFinds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 400 {
		p := tiny(rng)
		p.solve()
		want := brute(p, 0, p.alive, p.backlog)
		// The value of the first step includes the best first choice.
		got := p.at(0, p.alive, p.backlog)
		if math.Abs(got-want) > 1e-6*(1+want) {
			t.Fatalf("plan %d: %v, trying everything %v\n%+v", i, got, want, p)
		}
		w := p.walk(free, free)
		if len(p.allow) > 0 {
			end := w.cost + p.late*w.late
			if end > want+1e-6 {
				t.Fatalf("plan %d: the walk costs %v before what is left, the best %v in all", i, end, want)
			}
		}
	}
}
