package pipeline

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/internal/histogram"
	"github.com/freshet-io/freshet/lookup"
)

// tableCounters are what all look-ups in one table count into, once a batch.
type tableCounters struct {
	name      string
	rows      [3]atomic.Uint64 // by lookup.Outcome
	staleness histogram.Histogram

	mu      sync.Mutex
	servers []*lookup.Table // one for each step that asks; none where the table is a file or a topic
}

// tableCountersOf makes counters for the tables that a plan looks up in.
func tableCountersOf(plan *Plan) (cs []*tableCounters) {
	seen := map[string]bool{}
	for _, l := range plan.lookups {
		if name := l.spec.Name; !seen[name] {
			seen[name] = true
			cs = append(cs, &tableCounters{name: name})
		}
	}
	return cs
}

func (c *counters) table(name string) *tableCounters {
	for _, t := range c.tables {
		if t.name == name {
			return t
		}
	}
	return nil // never: there is one for each that the plan names
}

// serve adds a server's own counts.
func (c *tableCounters) serve(t *lookup.Table) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers = append(c.servers, t)
}

// staleRows is how many rows of a batch have their age taken, as in lookup.Stats.
const staleRows = 64

// count counts the outcomes of a batch, and the age of what did not come from a
// server, which counts that itself.
func (s *lookupStep) count(n int) {
	var rows [3]uint64
	for _, o := range s.state[:n] {
		rows[o]++
	}
	for o, r := range rows {
		s.counters.rows[o].Add(r)
	}
	if _, ok := s.source.(*lookup.Table); ok || n == 0 {
		return
	}
	now := time.Now().UnixNano()
	run := s.counters.staleness.Run()
	for row := 0; row < n; row += max(1, n/staleRows) {
		if s.state[row] == lookup.Found && s.at[row] != lookup.Unknown {
			run.Record(max(0, now-s.at[row]))
		}
	}
	run.Flush()
}

// TableStats is what the look-ups in one table came to.
type TableStats struct {
	Name string
	// Found, Missing and Failed count rows: the table had them, it did not, it could not be asked.
	Found, Missing, Failed uint64
	// Staleness is the age of values by the clock, in nanoseconds, of a sample of
	// the rows, where they have times.
	Staleness histogram.Snapshot
	// Server is nil where the table is a file or a topic.
	Server *ServerStats
}

// ServerStats is what a table's server was asked.
type ServerStats struct {
	// Hits are rows that the cache answered, Misses those that it did not.
	Hits, Misses uint64
	// Evicted are rows that left the cache to make room, Invalid those read
	// whose values do not fit their fields.
	Evicted, Invalid uint64
	// Requests to the server, Repeats among them, and Errors: those that failed.
	Requests, Repeats, Errors uint64
	// Seconds is the time of a request, in nanoseconds.
	Seconds histogram.Snapshot
}

func (c *tableCounters) stats() TableStats {
	s := TableStats{
		Name: c.name, Staleness: c.staleness.Snapshot(),
		Found: c.rows[lookup.Found].Load(), Missing: c.rows[lookup.Missing].Load(), Failed: c.rows[lookup.Failed].Load(),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.servers {
		if s.Server == nil {
			s.Server = &ServerStats{}
		}
		from, to := t.Stats(), s.Server
		to.Hits += from.Hits.Load()
		to.Misses += from.Misses.Load()
		to.Evicted += from.Evicted.Load()
		to.Invalid += from.Invalid.Load()
		to.Requests += from.Requests.Load()
		to.Repeats += from.Repeats.Load()
		to.Errors += from.Errors.Load()
		to.Seconds.Merge(from.Seconds.Snapshot())
		s.Staleness.Merge(from.Staleness.Snapshot())
	}
	return s
}
