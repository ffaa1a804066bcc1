package inference

import (
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/internal/histogram"
)

// Stats counts what a model did; its fields may be read at any time. What is
// true of the moment is in Health.
type Stats struct {
	Batches histogram.Histogram // rows of each batch
	Seconds histogram.Histogram // nanoseconds of each call, second calls within
	Flushes [numFlushReasons]atomic.Uint64
	Rows    atomic.Uint64 // rows of all batches; the cache's answers are not in it
	Failed  atomic.Uint64 // rows that failed, those expired apart
	Expired atomic.Uint64 // rows that expired, with or without a call
	Padded  atomic.Uint64 // rows added to fill buckets
	Busy    atomic.Int64  // nanoseconds spent in calls, over all instances

	Retries    atomic.Uint64 // repeated calls
	OverBudget atomic.Uint64 // calls not repeated because the budget was spent
	Timeouts   atomic.Uint64 // calls without an answer by their deadline
	Throttled  atomic.Uint64 // calls that the server refused for their number
	Hedges     atomic.Uint64 // second calls
	HedgeWins  atomic.Uint64 // second calls that were answered first
	Opened     atomic.Uint64 // times that the breaker opened, those after a failed try apart
	Refused    atomic.Uint64 // calls that the breaker refused
	Warmups    atomic.Uint64 // calls before the first rows

	CacheHits   atomic.Uint64 // rows answered by the cache
	CacheMisses atomic.Uint64 // rows that it did not hold
	StaleHits   atomic.Uint64 // rows answered by Stale
}

// Health is what a model is like at one moment.
type Health struct {
	// Ready says that rows are taken: it is warm and not closed.
	Ready bool
	// Breaker is whether calls are made; Reopens is when an open one lets a call try.
	Breaker BreakerState
	Reopens time.Time
	// PausedUntil is until when the server asked to be left alone; zero without.
	PausedUntil time.Time
	// Limit is how many batches may be under way, Live how many are.
	Limit, Live int
	// Outstanding is the number of calls that the driver has not returned from;
	// Behind of these overran their deadline or lost a race.
	Outstanding, Behind int
	// Waiting is the number of rows in the queue.
	Waiting int
	// Cached is the number of rows that the cache holds.
	Cached int
	// Fixed and PerRow are what a call takes, as learnt; zero before the first.
	Fixed, PerRow time.Duration
	// LastError is the last failure of a call, at Failed; Answered is when the
	// last call was answered.
	LastError        error
	Failed, Answered time.Time
}

// Health tells what the model is like now.
func (m *Model) Health() Health {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := Health{
		Ready: !m.warming && !m.closed, Breaker: m.breaker.state, Limit: m.places(), Live: m.live,
		Outstanding: m.calls, Behind: m.behind, Waiting: m.waiting,
		LastError: m.last.err, Failed: m.last.failed, Answered: m.last.answered,
	}
	if m.local {
		h.Outstanding = m.live
	}
	if h.Breaker == BreakerOpen {
		h.Reopens = m.breaker.until
	}
	if m.pause.After(time.Now()) {
		h.PausedUntil = m.pause
	}
	a, b := m.service.line()
	h.Fixed, h.PerRow = time.Duration(a*float64(time.Second)), time.Duration(b*float64(time.Second))
	if m.cache != nil {
		h.Cached = m.cache.len()
	}
	return h
}
