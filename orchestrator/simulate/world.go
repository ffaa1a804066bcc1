package simulate

import (
	"math"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

// Bounds on worlds: beyond them a number is a mistake, and memory or time would not suffice.
const (
	maxWorkers    = 100_000
	maxPartitions = 100_000
	maxPerTick    = 1e15
	maxFactor     = 1e6
	maxSpan       = 100 * 365 * 24 * time.Hour
	maxDelayed    = 100_000 // signals on their way to the pilot
	maxPoints     = 10_000_000
	minPeriod     = time.Millisecond
)

func bad(format string, args ...any) error {
	return errkind.Errorf(errkind.Config, "check world: "+format, args...)
}

// Validate says what is wrong with a world; its errors are of kind Config.
func (w *World) Validate() error {
	t := w.Arrivals
	switch {
	case t == nil || len(t.Counts) == 0:
		return bad("there are no arrivals: give a trace of at least one tick")
	case t.Step <= 0:
		return bad("the tick of arrivals is %v: it must be positive", t.Step)
	case t.Step > maxSpan/time.Duration(len(t.Counts)):
		return bad("%d ticks of %v are longer than %v", len(t.Counts), t.Step, maxSpan)
	}
	for i, c := range t.Counts {
		if c < 0 || c > maxPerTick { // NaN is a hole
			return bad("tick %d has %v events: between 0 and %g are possible, NaN where nothing is known", i, c, float64(maxPerTick))
		}
	}
	if err := checkCapacity(&w.Capacity); err != nil {
		return err
	}
	if err := checkObjective(&w.Objective); err != nil {
		return err
	}
	switch {
	case w.Start < 0 || w.Start > maxWorkers:
		return bad("%d workers at the start: between 0 and %d are possible", w.Start, maxWorkers)
	case w.Delay < 0 || w.Delay > maxSpan:
		return bad("the signals' delay is %v: it must not be negative", w.Delay)
	case w.Linger < 0 || w.Linger > maxSpan:
		return bad("the linger is %v: it must not be negative", w.Linger)
	case w.Path < 0 || w.Path > maxSpan:
		return bad("the path is %v: it must not be negative", w.Path)
	case !(w.Jitter >= 0 && w.Jitter <= 1):
		return bad("the jitter of start-ups is %v: it must lie between 0 and 1", w.Jitter)
	case w.Points < 0 || w.Points > maxPoints:
		return bad("%d points: between 0 and %d are possible", w.Points, maxPoints)
	}
	for i, tier := range w.Tiers {
		if !finite(tier.Rate) || !finite(tier.Cost) || !finite(tier.Penalty) || tier.Latency < 0 {
			return bad("tier %d (%q): rate, cost, penalty and latency must be 0 or more", i, tier.Name)
		}
	}
	return w.checkFaults()
}

func finite(x float64) bool { return x >= 0 && x <= math.MaxFloat64 }

func checkCapacity(c *orchestrator.Capacity) error {
	switch {
	case !finite(c.Overhead) || !finite(c.PerEvent) || c.Overhead+c.PerEvent < 1e-12 || c.Overhead+c.PerEvent > 1e9:
		return bad("a call takes %v s + %v s an event: both must be 0 or more, their sum between 1e-12 and 1e9", c.Overhead, c.PerEvent)
	case c.Batch < 0 || c.MaxBatch < 0 || c.Batch > 1<<30 || c.MaxBatch > 1<<30:
		return bad("batch %d, at most %d: they must lie between 0 and %d", c.Batch, c.MaxBatch, 1<<30)
	case !(c.Exponent >= 0 && c.Exponent <= 2):
		return bad("exponent %v: it must lie between 0 and 2", c.Exponent)
	case c.StartUp < 0 || c.Stop < 0 || c.Rebalance < 0 || c.StartUp > maxSpan || c.Stop > maxSpan || c.Rebalance > maxSpan:
		return bad("start-up %v, stop %v, rebalance %v: none may be negative", c.StartUp, c.Stop, c.Rebalance)
	case !finite(c.Cost):
		return bad("a worker costs %v a second: it must be 0 or more", c.Cost)
	case c.Partitions < 0 || c.Partitions > maxPartitions:
		return bad("%d partitions: between 0 and %d are possible", c.Partitions, maxPartitions)
	case c.Shares != nil && len(c.Shares) != c.Partitions:
		return bad("%d shares of %d partitions: give one each, or none", len(c.Shares), c.Partitions)
	}
	sum := 0.0
	for i, s := range c.Shares {
		if !finite(s) {
			return bad("share %d is %v: it must be 0 or more", i, s)
		}
		sum += s
	}
	if len(c.Shares) > 0 && !(sum > 0 && finite(sum)) {
		return bad("the shares of the partitions add up to %v", sum)
	}
	return nil
}

func checkObjective(o *orchestrator.Objective) error {
	switch {
	case o.Target <= 0:
		return bad("the freshness target is %v: it must be positive", o.Target)
	case !(o.Quantile >= 0 && o.Quantile <= 1):
		return bad("the objective's quantile is %v: it must lie between 0 and 1", o.Quantile)
	case o.Min < 0 || o.Max < 1 || o.Min > o.Max || o.Max > maxWorkers:
		return bad("between %d and %d workers: 0 ≤ min ≤ max and 1 ≤ max ≤ %d must hold", o.Min, o.Max, maxWorkers)
	}
	return nil
}

func (w *World) checkFaults() error {
	for i, f := range w.Faults {
		switch {
		case f.At < 0 || f.Duration < 0 || f.At > maxSpan || f.Duration > maxSpan:
			return bad("fault %d (%s) at %v for %v: neither may be negative", i, f.Kind, f.At, f.Duration)
		case !(f.Size >= 0 && f.Size <= maxFactor):
			return bad("fault %d (%s): size %v must lie between 0 and %g", i, f.Kind, f.Size, float64(maxFactor))
		}
		switch f.Kind {
		case WorkerLoss, BrokerPause, Spike, BlindSpot:
		case SlowWorker:
			if !(f.Factor >= 1 && f.Factor <= maxFactor) {
				return bad("fault %d (%s): factor %v must lie between 1 and %g", i, f.Kind, f.Factor, float64(maxFactor))
			}
		default:
			return bad("fault %d is of kind %q: there are %s, %s, %s, %s and %s", i, f.Kind,
				WorkerLoss, SlowWorker, BrokerPause, Spike, BlindSpot)
		}
	}
	return nil
}

// startWorkers is how many workers are ready at the beginning.
func (w *World) startWorkers() int {
	o := &w.Objective
	if w.Start > 0 {
		return min(max(w.Start, o.Min), o.Max)
	}
	ticks := min(len(w.Arrivals.Counts), max(1, int((time.Minute+w.Arrivals.Step-1)/w.Arrivals.Step)))
	sum := 0.0
	for _, c := range w.Arrivals.Counts[:ticks] {
		if c > 0 {
			sum += c
		}
	}
	rate := sum / (float64(ticks) * w.Arrivals.Step.Seconds())
	c := w.Capacity
	for n := max(o.Min, 1); n < o.Max; n++ {
		if c.Effective(n)*c.Rate(0) >= rate {
			return n
		}
	}
	return o.Max
}
