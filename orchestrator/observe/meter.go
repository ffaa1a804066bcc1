package observe

import (
	"math"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// Counters is what a pipeline has counted since its processes began, and where it stands. NaN
// stands for what could not be read.
type Counters struct {
	Time time.Time
	// Processed counts events of the source that are done with and committed, Read those fetched.
	Processed, Read float64
	// Arrived counts events that the source has taken, read together with Lag; NaN where the broker does not
	// count them: then what was processed and the change of the lag stand for it.
	Arrived float64
	// Results counts those published, Overdue those of them published later than the target.
	Results, Overdue float64
	// Lag is the number of events on the source that are not processed, Oldest the age in seconds of
	// the oldest of any stage.
	Lag, Oldest float64
	// Busy is the seconds that model instances spent in calls, Places how many calls may run at once.
	Busy, Places float64
	// Calls, Rows and Seconds are of model calls: how many, of how many rows in sum, how long in sum.
	Calls, Rows, Seconds float64
	// Freshness counts published results by the time since their event was stored: cumulative, by
	// rising bound.
	Freshness []Bucket
	// Processes is how many processes these are of.
	Processes int
}

// Bucket counts values up to a bound, in seconds.
type Bucket struct{ Le, Count float64 }

// Meter makes signals of counters, each over the time since those before. The first have no
// rates. Where a process was started again or is gone its counters fall, and the rates of that
// window are unknown: a drop is never taken for an arrival.
type Meter struct {
	// Quantile is that of Signals.Fresh.
	Quantile float64

	last Counters
	seen bool
}

// Signals takes counters and gives what has happened since those before. Workers are unknown
// here: the actuator knows them.
func (m *Meter) Signals(c Counters) orchestrator.Signals {
	s := orchestrator.Signals{Time: c.Time}
	set := func(to *float64, v float64, k orchestrator.Known) {
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			*to = v
			s.Known |= k
		}
	}
	set(&s.Lag, max(0, c.Lag), orchestrator.KnownLag)
	var oldest float64
	set(&oldest, max(0, c.Oldest), orchestrator.KnownOldest)
	s.Oldest = seconds(oldest)
	// More than the lag is in hand only because the two were not read at one moment.
	set(&s.InFlight, min(max(0, c.Read-c.Processed), max(0, c.Lag)), orchestrator.KnownInFlight)
	last, seen := m.last, m.seen
	m.last, m.seen = c, true
	window := c.Time.Sub(last.Time).Seconds()
	if !seen || window <= 0 || c.Processes != last.Processes || fell(&last, &c) {
		return s
	}
	s.Window = c.Time.Sub(last.Time)
	set(&s.Served, (c.Processed-last.Processed)/window, orchestrator.KnownServed)
	came := c.Arrived - last.Arrived
	if math.IsNaN(came) {
		came = c.Processed - last.Processed + c.Lag - last.Lag
	}
	set(&s.Arrivals, max(0, came)/window, orchestrator.KnownArrivals)
	if c.Places > 0 {
		set(&s.Busy, min(1, max(0, (c.Busy-last.Busy)/(window*c.Places))), orchestrator.KnownBusy)
	}
	if n := c.Calls - last.Calls; n > 0 {
		rows, took := (c.Rows-last.Rows)/n, (c.Seconds-last.Seconds)/n
		set(&s.Batch, rows, orchestrator.KnownBatch)
		if rows > 0 && took > 0 && !math.IsInf(rows, 0) && !math.IsInf(took, 0) {
			s.Calls = []orchestrator.Call{{Rows: rows, Seconds: took, N: n}}
			s.Known |= orchestrator.KnownCalls
		}
	}
	switch n := c.Results - last.Results; {
	case n > 0:
		set(&s.Late, min(1, max(0, (c.Overdue-last.Overdue)/n)), orchestrator.KnownLate)
		s.Fresh = seconds(quantile(last.Freshness, c.Freshness, m.Quantile))
	case n == 0:
		s.Known |= orchestrator.KnownLate // nothing was published, so nothing late
	}
	return s
}

// fell reports whether a counter is less than it was, which only a new process does.
func fell(old, now *Counters) bool {
	for _, p := range [][2]float64{
		{old.Processed, now.Processed}, {old.Arrived, now.Arrived}, {old.Results, now.Results}, {old.Overdue, now.Overdue},
		{old.Busy, now.Busy}, {old.Calls, now.Calls}, {old.Rows, now.Rows}, {old.Seconds, now.Seconds},
	} {
		if p[1] < p[0] {
			return true
		}
	}
	return false
}

// quantile of the values counted between two states of a histogram, with straight lines within
// buckets, as Prometheus does; 0 where there are none. What lies beyond the last bound counts as
// that bound.
func quantile(old, now []Bucket, q float64) float64 {
	if len(now) == 0 || len(old) > 0 && len(old) != len(now) || !(q > 0 && q < 1) {
		return 0
	}
	count := func(i int) float64 {
		if len(old) == 0 {
			return now[i].Count
		}
		return now[i].Count - old[i].Count
	}
	want := q * count(len(now)-1)
	if !(want > 0) {
		return 0
	}
	below, low := 0.0, 0.0
	for i, b := range now {
		n := count(i)
		if n >= want {
			if math.IsInf(b.Le, 1) || n <= below {
				return low
			}
			return low + (b.Le-low)*(want-below)/(n-below)
		}
		below, low = n, b.Le
	}
	return low
}

func seconds(s float64) time.Duration {
	return time.Duration(min(max(0, s*float64(time.Second)), math.MaxInt64/2))
}
