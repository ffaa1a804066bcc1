// Package simulate runs a policy against a model of workers and queues: exact in its
// queues by partition, its start-up and stop delays, its rebalances and faults; the same for the same seed.
package simulate

import (
	"time"

	"github.com/freshet-io/freshet/internal/histogram"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// World is all that a run depends on, but for the pilot.
type World struct {
	// Arrivals are the events, as drawn: counts in each tick. A hole counts as zero events, and the signals of that time are
	// without arrivals.
	Arrivals *trace.Trace
	// Capacity is the truth about the workers.
	Capacity  orchestrator.Capacity
	Objective orchestrator.Objective
	Tiers     []orchestrator.Tier
	// Start is the number of workers that are ready at the beginning; 0 means what the first minute needs.
	Start int
	// Delay is how old signals are when a pilot sees them.
	Delay time.Duration
	// Jitter varies start-up times: each is StartUp·(1 + Jitter·u), u uniform in -1 to 1.
	Jitter float64
	Faults []Fault
	Seed   uint64
	// Points, when positive, is how many points of Result.Series to keep.
	Points int
}

// Fault is something that goes wrong for a time.
type Fault struct {
	Kind     FaultKind
	At       time.Duration // from the beginning of the arrivals
	Duration time.Duration
	// Size is how many workers are lost or slow; by how much arrivals are multiplied.
	Size float64
	// Factor is how many times slower the slow workers are.
	Factor float64
}

// FaultKind is what goes wrong.
type FaultKind string

// The faults.
const (
	WorkerLoss  FaultKind = "worker-loss"  // Size workers are gone; they are replaced after StartUp without being ordered again
	SlowWorker  FaultKind = "slow-worker"  // Size workers serve Factor times slower
	BrokerPause FaultKind = "broker-pause" // nothing is served and nothing seen; arrivals are stored
	Spike       FaultKind = "spike"        // arrivals are Size times as many
	BlindSpot   FaultKind = "blind-spot"   // signals are missing
)

// Result is what came of a run.
type Result struct {
	Pilot string
	// Seconds is the time simulated. WorkerSeconds were paid, from order to end; Cost is their price and that of tiers.
	Seconds, WorkerSeconds, Cost float64
	// Events were published; Late of them later than the target; Routed of them by a tier; Unserved are left at the end, and count as late where they are.
	Events, Late, Routed, Unserved float64
	// Freshness in nanoseconds, each event counted once (in units of Unit events).
	Freshness *histogram.Histogram
	Unit      float64
	// Busy is the share of ready worker time spent serving.
	Busy float64
	// Actions are changes of the ordered number of workers; Started and Stopped count workers.
	Actions, Started, Stopped int
	// Peak is the largest number of paid workers.
	Peak int
	// WorstMinute is the largest share of late events among those that arrived in one minute, and when it began.
	WorstMinute   float64
	WorstMinuteAt time.Duration
	// Recovery is, for each fault, the time from its beginning until the oldest event was within the target again for
	// a minute; negative where that did not come.
	Recovery []time.Duration
	Series   []Point
}

// Point is the mean of a stretch of the run.
type Point struct {
	At                                time.Duration
	Arrivals, Ready, Paid, Lag, Late  float64
	Oldest                            time.Duration
	Forecast, ForecastLow, ForecastUp float64 // of the lead behind the start-up; NaN where the pilot gives none
}
