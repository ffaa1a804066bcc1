package orchestrator

import "time"

// Signals is what is known, at one moment, of the unit that is scaled: one
// pipeline, or one stage of it.
type Signals struct {
	// Time is when the values were taken. Whoever reads them later sees by it how stale they are.
	Time time.Time
	// Window is what Arrivals, Served, Busy, Batch and Late are means over: the
	// time since the signals before these.
	Window time.Duration
	// Known says which of the values below were measured. The others are zero and mean nothing.
	Known Known

	// Arrivals and Served are events a second.
	Arrivals, Served float64
	// Lag is how many events are not served yet; InFlight how many of them workers
	// hold (fetched and not committed).
	Lag, InFlight float64
	// Oldest is the age of the oldest event not served; 0 where there is none.
	Oldest time.Duration
	// Partitions are the same by partition, where that is known; nil otherwise.
	Partitions []PartitionSignals

	// Ready workers serve, Starting ones are paid and do not serve yet, Stopping ones
	// are still paid and take nothing new.
	Ready, Starting, Stopping int
	// Busy is the mean share of the time that ready workers spent in model calls, 0 to 1.
	Busy float64
	// Batch is the mean number of events in a call.
	Batch float64
	// Late is the share of the events published in Window that were older than the
	// objective's target; Fresh is the freshness at the objective's quantile.
	Late  float64
	Fresh time.Duration
	// Calls are model calls of the window, for fitting the service time; nil where unknown.
	Calls []Call
}

// PartitionSignals is what is known of one partition.
type PartitionSignals struct {
	Arrivals, Lag float64
	Oldest        time.Duration
}

// Call is model calls of one size: N calls of Rows events took Seconds on average.
type Call struct {
	Rows, Seconds, N float64
}

// Known is a set of measured values.
type Known uint16

// The values that may be measured or not.
const (
	KnownArrivals Known = 1 << iota
	KnownServed
	KnownLag
	KnownInFlight
	KnownOldest
	KnownPartitions
	KnownWorkers
	KnownBusy
	KnownBatch
	KnownLate
	KnownCalls

	KnownAll Known = 1<<iota - 1
)

// Has reports whether all of want were measured.
func (k Known) Has(want Known) bool { return k&want == want }
