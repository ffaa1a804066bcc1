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
	// Linger is how long a worker that is not behind waits to fill a call. With 0 it calls with whatever is
	// there, so that small calls keep it busy long before it is at its limit, and Busy says little about the load.
	Linger time.Duration
	// Path is the time that an event spends outside of queues and calls, however many workers there are: it is
	// fetched, its features are computed, its result is committed. It counts in freshness, lag and age.
	Path time.Duration
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
	WorkerLoss  FaultKind = "worker-loss"  // Size workers are gone; they are replaced after Duration + StartUp without being ordered again
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
	// RouteCost is the tiers' part of Cost; Penalty is what worse answers are held to cost, which is not in Cost.
	RouteCost, Penalty float64
	// Events arrived; Served of them were published by workers, Routed by a tier; Unserved are left at the end. Late
	// are those later than the target, and those left that are older than it.
	Events, Served, Late, Routed, Unserved float64
	// Freshness in nanoseconds, each event counted once (in units of Unit events); those left at the end with their age.
	Freshness *histogram.Histogram
	Unit      float64
	// Mean, P50, P95 and P99 are of the same values, within 1 %.
	Mean, P50, P95, P99 time.Duration
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

// Point is the mean of a stretch of the run. At is its beginning.
type Point struct {
	At time.Duration
	// Arrivals are a second; Lag is events waiting; Late is the share of those published in the stretch.
	Arrivals, Ready, Paid, Lag, Late float64
	// Oldest is the greatest age of the stretch.
	Oldest                            time.Duration
	Forecast, ForecastLow, ForecastUp float64 // of the lead behind the start-up; NaN where the pilot gives none
}
