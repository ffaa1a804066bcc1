package simulate

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// rule orders what the rate of the latest signals needs, with a margin.
type rule struct{ each float64 }

func (rule) Name() string          { return "rate" }
func (rule) Period() time.Duration { return 15 * time.Second }

func (r rule) Step(_ time.Time, s *orchestrator.Signals, o orchestrator.Orders) orchestrator.Decision {
	if !s.Known.Has(orchestrator.KnownArrivals) {
		return orchestrator.Decision{Hold: true}
	}
	n := int(math.Ceil((s.Arrivals + s.Lag/60) * 1.2 / r.each))
	if n < o.Workers && s.Oldest > 10*time.Second {
		n = o.Workers
	}
	return orchestrator.Decision{Workers: n}
}

// daily is days of one-second ticks whose mean needs 10 workers, with a day's wave and noise.
func daily(days int, each float64) *trace.Trace {
	r := rand.New(rand.NewPCG(1, 1))
	counts := make([]float64, days*86400)
	for i := range counts {
		rate := 10 * each * (1 + 0.6*math.Sin(float64(i)/86400*2*math.Pi))
		counts[i] = math.Max(0, math.Round(rate+math.Sqrt(rate)*r.NormFloat64()*3))
	}
	return &trace.Trace{Start: begin, Step: time.Second, Counts: counts}
}

// bigWorld is as policies are compared in.
func bigWorld(days int) (World, rule) {
	c := orchestrator.Capacity{
		Overhead: 0.02, PerEvent: 0.002, Batch: 64, MaxBatch: 256,
		StartUp: time.Minute, Stop: 10 * time.Second, Rebalance: 2 * time.Second, Partitions: 240,
	}
	r := rand.New(rand.NewPCG(2, 2))
	for range c.Partitions {
		c.Shares = append(c.Shares, 0.5+r.Float64())
	}
	each := c.Rate(0)
	return World{
		Arrivals: daily(days, each), Capacity: c,
		Objective: orchestrator.Objective{Target: 30 * time.Second, Quantile: 0.99, Min: 1, Max: 200},
		Delay:     5 * time.Second, Jitter: 0.2, Seed: 7, Points: 1000,
	}, rule{each}
}

func BenchmarkFortnight(b *testing.B) {
	w, p := bigWorld(14)
	b.ReportAllocs()
	for b.Loop() {
		r, err := Run(w, p)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(r.WorkerSeconds/r.Seconds, "workers")
		b.ReportMetric(r.Late/r.Events*100, "%late")
		b.ReportMetric(float64(r.Actions), "actions")
	}
}

// flap orders many workers and few in turns.
type flap struct{ period time.Duration }

func (flap) Name() string            { return "flap" }
func (f flap) Period() time.Duration { return f.period }

func (f flap) Step(now time.Time, _ *orchestrator.Signals, _ orchestrator.Orders) orchestrator.Decision {
	if now.Sub(begin)/f.period%2 == 0 {
		return orchestrator.Decision{Workers: 200}
	}
	return orchestrator.Decision{Workers: 10}
}

func BenchmarkDayOfPilotsThatAskOften(b *testing.B) {
	for name, p := range map[string]orchestrator.Pilot{"hold-1s": hold{}, "flap-15s": flap{15 * time.Second}, "flap-90s": flap{90 * time.Second}} {
		b.Run(name, func(b *testing.B) {
			w, _ := bigWorld(1)
			w.Start = 20
			for b.Loop() {
				if _, err := Run(w, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
