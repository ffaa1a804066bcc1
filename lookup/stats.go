package lookup

import (
	"sync/atomic"

	"github.com/freshet-io/freshet/internal/histogram"
)

// Stats counts what a table did; its fields may be read at any time.
type Stats struct {
	// Hits are rows answered by the cache, Misses rows that had to be asked for.
	Hits, Misses atomic.Uint64
	// Missing are rows that the server does not have, invalid ones included, and
	// Failed those that could not be asked for.
	Missing, Failed atomic.Uint64
	// Invalid are rows read from the server whose values do not fit their kinds.
	Invalid atomic.Uint64
	// Requests are calls of the driver, Repeats those among them that repeat a
	// failed one, Errors those that failed.
	Requests, Repeats, Errors atomic.Uint64
	// Evicted are rows that left the cache to make room.
	Evicted atomic.Uint64
	// Seconds are the nanoseconds that requests took, Keys their numbers of keys.
	Seconds, Keys histogram.Histogram
	// Staleness is the age of values in nanoseconds by the clock, taken from up
	// to 64 rows of each Lookup, evenly spaced.
	Staleness histogram.Histogram
}
