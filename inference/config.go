package inference

import (
	"slices"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Preference is what a batch is closed for.
type Preference uint8

const (
	// Latency: no row waits while an instance is idle, so that batches grow
	// with load by themselves.
	Latency Preference = iota
	// Throughput: a batch closes when it is full, or when waiting longer would
	// make its oldest row late by the service time measured so far.
	Throughput
)

// Config is how a model is batched.
type Config struct {
	// MaxBatch is the greatest number of rows of one call; 0 means 256. A
	// driver's own MaxBatch lowers it.
	MaxBatch int
	// Prefer chooses between latency and throughput.
	Prefer Preference
	// Queue bounds the rows that wait; 0 means 16 batches. Submit blocks beyond it.
	Queue int
	// Attempts is how often a call is tried whose error may pass; 0 means 3.
	Attempts int
	// RetryBudget bounds repeats to this share of first attempts (and a few at the
	// start), so that retries never multiply the load of a server in trouble; 0 means 0.2.
	RetryBudget float64
	// Timeout bounds one call; 0 means 10 s. Where all rows of a batch expire
	// sooner, the call ends with the last of them.
	Timeout time.Duration
	// Breaker opens after failures, so that rows fail at once with ErrOpen.
	Breaker Breaker
	// Concurrency bounds the calls at a time; 0 means the driver's own number.
	Concurrency int
	// Adaptive lets the number of calls at a time follow the server between 1 and
	// Concurrency: up while calls are as quick as they were, down when they queue there.
	Adaptive bool
	// Hedge sends a second call when the first has taken longer than this quantile
	// of calls, and takes the first answer; 0 never does. Bounded by RetryBudget.
	Hedge float64
	// Buckets are batch sizes, rising: a batch is padded to the next of them with
	// copies of its last row, for runtimes that compile a shape each. No batch is
	// larger than the last. Empty pads nothing.
	Buckets []int
	// Cache keeps answers by the hash of their inputs.
	Cache Cache
	// Warmup is the number of calls that are made before the first rows are taken.
	Warmup int
}

// Breaker is when a model is given up for a while.
type Breaker struct {
	// Failures is the share of failed calls among the last Calls that opens it; 0
	// means 0.5, 1 or more never opens.
	Failures float64
	// Calls is the number of calls that are looked at; 0 means 20.
	Calls int
	// Pause is how long it stays open until one call tries again; 0 means 5 s. It
	// doubles while that call fails, up to eight times itself.
	Pause time.Duration
}

// Cache bounds the answers that are kept; the zero value keeps none.
type Cache struct {
	// Rows is the greatest number of rows kept.
	Rows int
	// TTL is how long an answer serves in place of a call.
	TTL time.Duration
	// Stale is how long an answer serves where the model fails (see Model.Stale).
	Stale time.Duration
}

var (
	// ErrOpen is the failure of rows while the breaker is open; kind Transient.
	ErrOpen = errkind.New(errkind.Transient, "the circuit breaker is open: the model failed too often of late")
	// ErrExpired is the failure of rows whose answer would have come too late; kind Transient.
	ErrExpired = errkind.New(errkind.Transient, "the answer would come too late to be of use")
)

// withDefaults fills in what is not set, for a driver of this metadata and
// number of instances.
func (c Config) withDefaults(meta *Metadata, instances int) Config {
	if c.MaxBatch <= 0 {
		c.MaxBatch = 256
	}
	if meta.MaxBatch > 0 {
		c.MaxBatch = min(c.MaxBatch, meta.MaxBatch)
	}
	c.Buckets = slices.DeleteFunc(slices.Clone(c.Buckets), func(n int) bool { return n < 1 || n > c.MaxBatch })
	slices.Sort(c.Buckets)
	if n := len(c.Buckets); n > 0 {
		c.MaxBatch = c.Buckets[n-1]
	}
	if c.Queue <= 0 {
		c.Queue = 16 * c.MaxBatch
	}
	if c.Attempts <= 0 {
		c.Attempts = 3
	}
	if c.RetryBudget <= 0 {
		c.RetryBudget = 0.2
	}
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Second
	}
	instances = max(1, instances)
	if c.Concurrency <= 0 || c.Concurrency > instances {
		c.Concurrency = instances
	}
	c.Breaker = c.Breaker.withDefaults()
	return c
}
