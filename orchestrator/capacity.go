package orchestrator

import (
	"math"
	"time"
)

// Capacity says what workers can do and what they cost. A controller's Capacity
// is what it believes; a simulator's is the truth.
type Capacity struct {
	// Overhead and PerEvent give the time of one model call of b events on one
	// worker, Overhead + PerEvent·b, in seconds. A worker makes one call at a time.
	Overhead, PerEvent float64
	// Batch is the most events that a call takes now; MaxBatch the most that it may
	// be told to take (0: Batch).
	Batch, MaxBatch int
	// Exponent makes n workers do the work of n^Exponent; 0 means 1.
	Exponent float64
	// StartUp is the time from an order to a ready worker, Stop from an order to the
	// end of what is paid. Rebalance is how long a partition stands still when its
	// owner changes.
	StartUp, Stop, Rebalance time.Duration
	// Cost is the price of one worker for one second, in any currency; 0 means 1.
	Cost float64
	// Partitions is the number of partitions, each served by one worker at a time;
	// 0 where workers share one queue.
	Partitions int
	// Shares are the partitions' shares of the events; nil where they are equal.
	Shares []float64
}

// Service returns the seconds of a call of b events.
func (c *Capacity) Service(b float64) float64 { return c.Overhead + c.PerEvent*b }

// Rate returns the events per second of one worker that makes full calls of batch
// events; batch 0 means c.Batch.
func (c *Capacity) Rate(batch int) float64 {
	if batch <= 0 {
		batch = max(1, c.Batch)
	}
	s := c.Service(float64(batch))
	if s <= 0 {
		return math.Inf(1)
	}
	return float64(batch) / s
}

// Effective returns how many workers' worth of work n workers do: fewer than n
// where partitions cannot be dealt evenly, or where workers get into each other's
// way. All partitions have backlog at the moment when the most loaded worker is
// the limit, so it is total work ÷ the largest share.
func (c *Capacity) Effective(n int) float64 {
	if n <= 0 {
		return 0
	}
	e := float64(n)
	if c.Exponent > 0 && c.Exponent != 1 {
		e = math.Pow(e, c.Exponent)
	}
	if p := c.Partitions; p > 0 {
		// The fullest of n workers holds ceil(p/n) partitions.
		e *= float64(p) / (float64((p+n-1)/n) * float64(n))
	}
	return e
}

// Price returns the price of a worker-second.
func (c *Capacity) Price() float64 {
	if c.Cost == 0 {
		return 1
	}
	return c.Cost
}

// Objective is what is promised, and within which bounds.
type Objective struct {
	// Target and Quantile: this share of predictions is published within Target of the event's arrival.
	Target   time.Duration
	Quantile float64
	// Ceiling is the most that capacity may cost an hour, in Capacity.Cost's currency; 0 means no ceiling.
	Ceiling float64
	// Min and Max bound the workers.
	Min, Max int
}
