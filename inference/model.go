package inference

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/histogram"
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
	// Buckets are batch sizes, rising: a batch is padded to the next of them, for
	// runtimes that compile a shape each. Empty pads nothing.
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
	// doubles while that call fails, up to 1 minute.
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

// retryPause is the pause before a second attempt; it doubles each time.
const retryPause = 10 * time.Millisecond

// Model is one version of a model, shared by all tasks of the process: their
// rows travel together, and each request is answered on its own. It is the face
// that callers hold; see Driver for the adapters' side.
type Model struct {
	driver Driver
	meta   Metadata
	cfg    Config

	mu      sync.Mutex
	work    sync.Cond // a request came, the leader went, or the model closes
	space   sync.Cond // rows left the queue
	queue   []*Request
	head    int
	waiting int // rows in queue
	leader  bool
	closed  bool
	arrived chan struct{} // wakes a leader that waits for a batch to fill
	service serviceTime

	closing chan struct{} // closed by the first Close: no pause before a retry any more
	workers sync.WaitGroup

	stats Stats
}

// Stats counts what a model did; its fields may be read at any time.
type Stats struct {
	Batches histogram.Histogram // rows of each call
	Seconds histogram.Histogram // nanoseconds of each call
	Flushes [numFlushReasons]atomic.Uint64
	Rows    atomic.Uint64
	Failed  atomic.Uint64
	Busy    atomic.Int64 // nanoseconds spent in calls, over all instances
}

// New starts a model's workers, one per instance of the driver. Close stops
// them and closes the driver.
func New(d Driver, c Config) *Model {
	m := &Model{driver: d, meta: d.Metadata(), cfg: c, arrived: make(chan struct{}, 1)}
	if m.cfg.MaxBatch <= 0 {
		m.cfg.MaxBatch = 256
	}
	if mb := m.meta.MaxBatch; mb > 0 {
		m.cfg.MaxBatch = min(m.cfg.MaxBatch, mb)
	}
	if m.cfg.Queue <= 0 {
		m.cfg.Queue = 16 * m.cfg.MaxBatch
	}
	if m.cfg.Attempts <= 0 {
		m.cfg.Attempts = 3
	}
	m.work.L, m.space.L = &m.mu, &m.mu
	m.closing = make(chan struct{})
	n := max(1, d.Concurrency())
	m.workers.Add(n)
	for range n {
		go m.run()
	}
	return m
}

// Metadata describes the model.
func (m *Model) Metadata() Metadata { return m.meta }

// MaxBatch is the greatest number of rows of one request.
func (m *Model) MaxBatch() int { return m.cfg.MaxBatch }

// Instances is the number of calls that may run at once.
func (m *Model) Instances() int { return max(1, m.driver.Concurrency()) }

// Stats returns the model's counters.
func (m *Model) Stats() *Stats { return &m.stats }

// Submit hands r's rows to the model. It blocks while the queue is full, until
// ctx is done. After nil, Wait tells when the answer is there. A request with
// no rows or more than MaxBatch is Invalid; after Close the error is Closed.
func (m *Model) Submit(ctx context.Context, r *Request) error {
	if err := m.check(r); err != nil {
		return err
	}
	r.Err, r.Failed, r.Attempts = nil, r.Failed[:0], 0
	r.done = make(chan struct{})

	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting+r.rows > m.cfg.Queue && m.waiting > 0 {
		stop := context.AfterFunc(ctx, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.space.Broadcast()
		})
		defer stop()
		for m.waiting+r.rows > m.cfg.Queue && m.waiting > 0 && !m.closed {
			if err := ctx.Err(); err != nil {
				return err
			}
			m.space.Wait()
		}
	}
	if m.closed {
		return errkind.Errorf(errkind.Closed, "submit to model %q: the model is closed", m.meta.Name)
	}
	m.queue = append(m.queue, r)
	m.waiting += r.rows
	if m.leader {
		select {
		case m.arrived <- struct{}{}:
		default:
		}
	} else {
		m.work.Signal()
	}
	return nil
}

func (m *Model) check(r *Request) error {
	if len(r.In) != len(m.meta.Inputs) || len(r.In) == 0 {
		return errkind.Errorf(errkind.Invalid, "model %q takes %d inputs, not %d", m.meta.Name, len(m.meta.Inputs), len(r.In))
	}
	r.rows = r.In[0].Rows()
	for i := range r.In {
		if n := r.In[i].Rows(); n != r.rows {
			return errkind.Errorf(errkind.Invalid, "model %q: input %q has %d rows and %q has %d",
				m.meta.Name, r.In[0].Name, r.rows, r.In[i].Name, n)
		}
	}
	if r.rows < 1 || r.rows > m.cfg.MaxBatch {
		return errkind.Errorf(errkind.Invalid, "model %q takes 1 to %d rows a request, not %d", m.meta.Name, m.cfg.MaxBatch, r.rows)
	}
	return nil
}

// Close answers what is queued, waits for the calls in progress, and closes the driver.
func (m *Model) Close() error {
	m.mu.Lock()
	again := m.closed
	if !again {
		m.closed = true
		close(m.closing)
	}
	m.work.Broadcast()
	m.space.Broadcast()
	select {
	case m.arrived <- struct{}{}:
	default:
	}
	m.mu.Unlock()
	m.workers.Wait()
	if again {
		return nil
	}
	if err := m.driver.Close(); err != nil {
		return fmt.Errorf("close model %q: %w", m.meta.Name, err)
	}
	return nil
}

// run is one instance: it takes batches until the model is closed and empty.
func (m *Model) run() {
	defer m.workers.Done()
	var w worker
	for {
		batch, reason := m.take(w.batch[:0])
		if batch == nil {
			return
		}
		w.batch = batch
		m.stats.Flushes[reason].Add(1)
		m.answer(&w, reason)
	}
}

// take waits for the next batch; nil means that the model is closed and empty.
func (m *Model) take(batch []*Request) ([]*Request, FlushReason) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for m.leader || m.waiting == 0 {
		if m.closed && m.waiting == 0 {
			return nil, 0
		}
		m.work.Wait()
	}
	reason := FlushIdle
	if m.cfg.Prefer == Throughput {
		reason = m.fill()
	}
	rows := 0
	for m.head < len(m.queue) && rows+m.queue[m.head].rows <= m.cfg.MaxBatch {
		r := m.queue[m.head]
		m.queue[m.head] = nil
		m.head++
		rows += r.rows
		batch = append(batch, r)
	}
	if m.head == len(m.queue) {
		m.queue, m.head = m.queue[:0], 0
	} else if m.head >= 64 && m.head*2 >= len(m.queue) {
		n := copy(m.queue, m.queue[m.head:])
		clear(m.queue[n:])
		m.queue, m.head = m.queue[:n], 0
	}
	m.waiting -= rows
	switch {
	case m.closed:
		reason = FlushDrain
	case rows == m.cfg.MaxBatch || m.waiting > 0:
		reason = FlushFull
	}
	m.space.Broadcast()
	if m.waiting > 0 {
		m.work.Signal()
	}
	return batch, reason
}

// fill waits, as the only leader, until the queue holds a full batch, the
// oldest row's time is up, or the model closes. The lock is held on entry and
// exit. It cannot lose its batch meanwhile: nobody takes while there is a leader.
func (m *Model) fill() FlushReason {
	m.leader = true
	defer func() { m.leader = false }()
	for m.waiting < m.cfg.MaxBatch && !m.closed {
		rest := time.Until(m.oldest().Add(-m.service.predict(m.waiting)))
		if rest <= 0 {
			return FlushDeadline
		}
		m.mu.Unlock()
		timer := time.NewTimer(rest)
		select {
		case <-m.arrived:
		case <-timer.C:
		}
		timer.Stop()
		m.mu.Lock()
	}
	return FlushFull
}

// oldest is the earliest deadline of the rows that the next batch can take.
func (m *Model) oldest() time.Time {
	first := m.queue[m.head].Deadline
	for _, r := range m.queue[m.head+1:] {
		if r.Deadline.Before(first) {
			first = r.Deadline
		}
	}
	return first
}
