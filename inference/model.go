package inference

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Model is one version of a model, shared by all tasks of the process: their
// rows travel together, and each request is answered on its own. It is the face
// that callers hold; see Driver for the adapters' side.
//
// A row's way, in this order: an answer kept by the cache; the queue, where it
// may expire; a batch; the breaker, which may refuse it; calls of the driver,
// each with a deadline, repeated within the budget. A call that overruns its
// deadline is left behind: its rows are answered, and until it returns it holds
// one of the places for calls.
type Model struct {
	driver Driver
	meta   Metadata
	cfg    Config
	local  bool // the driver is Local
	open   bool // an input leaves a size open: not all rows go side by side
	cache  *cache

	mu      sync.Mutex
	work    sync.Cond // a request came, the leader went, a call may start, or the model closes
	space   sync.Cond // rows left the queue
	queue   []*Request
	head    int
	waiting int // rows in queue
	leader  bool
	warming bool
	closed  bool
	arrived chan struct{} // wakes a leader that waits for a batch to fill
	sweep   *time.Timer   // fires when the first request of the queue expires
	sweepAt time.Time     // zero: not set
	service serviceTime
	demand  demand
	breaker breaker
	limit   limit
	ordered Limit        // what of the Config may be used
	batch   atomic.Int64 // ordered.Batch, for who submits
	budget  budget
	recent  recentCalls
	live    int       // workers with a batch in hand
	calls   int       // calls under way, those left behind included
	behind  int       // calls left behind
	pause   time.Time // no call before: the server asked for it
	last    outcome

	freed   chan struct{} // a call left behind has returned
	closing chan struct{} // closed by the first Close: no pause before a retry any more
	ctx     context.Context
	stop    context.CancelFunc // ends the calls when Close has waited long enough
	workers sync.WaitGroup
	flights sync.WaitGroup

	stats Stats
}

// New starts a model's workers, as many as calls may be made at once. Close
// stops them and closes the driver.
func New(d Driver, c Config) *Model {
	m := &Model{driver: d, meta: d.Metadata(), arrived: make(chan struct{}, 1), freed: make(chan struct{}, 1)}
	m.cfg = c.withDefaults(&m.meta, d.Concurrency())
	_, m.local = d.(Local)
	for _, sig := range m.meta.Inputs {
		for _, n := range sig.Shape {
			m.open = m.open || n < 0
		}
	}
	if c.Cache.Rows > 0 {
		m.cache = newCache(c.Cache)
	}
	m.breaker.cfg = m.cfg.Breaker
	m.limit = newLimit(m.cfg.Concurrency, m.cfg.Adaptive)
	m.ordered = Limit{m.cfg.Concurrency, m.cfg.MaxBatch}
	m.batch.Store(int64(m.cfg.MaxBatch))
	m.budget = newBudget(m.cfg.RetryBudget, m.cfg.Concurrency)
	m.work.L, m.space.L = &m.mu, &m.mu
	m.closing = make(chan struct{})
	m.ctx, m.stop = context.WithCancel(context.Background())
	if m.cfg.Warmup > 0 {
		m.warming = true
		m.workers.Go(m.warmUp)
	}
	for range m.cfg.Concurrency {
		m.workers.Go(m.run)
	}
	return m
}

// Metadata describes the model.
func (m *Model) Metadata() Metadata { return m.meta }

// MaxBatch is the greatest number of rows of one request.
func (m *Model) MaxBatch() int { return m.cfg.MaxBatch }

// Instances is the number of calls that may run at once.
func (m *Model) Instances() int { return m.cfg.Concurrency }

// Stats returns the model's counters.
func (m *Model) Stats() *Stats { return &m.stats }

// Submit hands r's rows to the model. It blocks while the queue is full, until
// ctx is done. After nil, Wait tells when the answer is there. A request with
// no rows, more than MaxBatch, or tensors that are not what the metadata and
// their own shapes say is Invalid; after Close the error is Closed.
func (m *Model) Submit(ctx context.Context, r *Request) error {
	if err := m.check(r); err != nil {
		return err
	}
	r.Err, r.Failed, r.Attempts = nil, r.Failed[:0], 0
	r.Cached, r.Reason, r.BatchRows = r.Cached[:0], 0, 0
	r.miss, r.hits = r.miss[:0], 0
	r.done = make(chan struct{})
	if m.cache != nil && !r.uncached {
		select {
		case <-m.closing:
			return m.closedErr()
		default:
		}
		m.lookUp(r)
		if r.hits == r.rows {
			r.answered(time.Now())
			return nil
		}
	}
	if r.expired(time.Now) {
		m.expireOne(r, time.Now())
		return nil
	}

	m.mu.Lock()
	defer m.mu.Unlock()
	if m.waiting+r.travelling() > m.cfg.Queue && m.waiting > 0 {
		if answered, err := m.waitForSpace(ctx, r); answered || err != nil {
			return err
		}
	}
	if m.closed {
		return m.closedErr()
	}
	m.enqueue(r)
	return nil
}

func (m *Model) closedErr() error {
	return errkind.Errorf(errkind.Closed, "submit to model %q: the model is closed", m.meta.Name)
}

func (m *Model) check(r *Request) error {
	if len(r.In) != len(m.meta.Inputs) || len(r.In) == 0 {
		return errkind.Errorf(errkind.Invalid, "model %q takes %d inputs, not %d", m.meta.Name, len(m.meta.Inputs), len(r.In))
	}
	r.rows = r.In[0].Rows()
	for i := range r.In {
		t, sig := &r.In[i], &m.meta.Inputs[i]
		if n := t.Rows(); n != r.rows {
			return errkind.Errorf(errkind.Invalid, "model %q: input %q has %d rows and %q has %d",
				m.meta.Name, m.meta.Inputs[0].Name, r.rows, sig.Name, n)
		}
		if t.Type != sig.Type {
			return errkind.Errorf(errkind.Invalid, "model %q: input %q is %v, not %v", m.meta.Name, sig.Name, sig.Type, t.Type)
		}
		// Rows of several requests lie side by side: one element too few would move all that follow.
		if n := t.elements(); n < 0 || n != t.length() {
			return errkind.Errorf(errkind.Invalid, "model %q: input %q has %d elements for the shape %v",
				m.meta.Name, sig.Name, t.length(), t.Shape)
		}
	}
	if r.rows < 1 || r.rows > m.cfg.MaxBatch {
		return errkind.Errorf(errkind.Invalid, "model %q takes 1 to %d rows a request, not %d", m.meta.Name, m.cfg.MaxBatch, r.rows)
	}
	return nil
}

// Infer evaluates rows at once, through the queue as every request, and returns
// when they are answered: in runs of MaxBatch, in order. It fails where one row
// does. The cache is neither asked nor filled.
func (m *Model) Infer(ctx context.Context, in, out []Tensor) error {
	if len(in) == 0 || len(out) != len(m.meta.Outputs) {
		return errkind.Errorf(errkind.Invalid, "model %q has %d inputs and %d outputs, not %d and %d",
			m.meta.Name, len(m.meta.Inputs), len(m.meta.Outputs), len(in), len(out))
	}
	rows := in[0].Rows()
	for from := 0; from < rows; from += m.cfg.MaxBatch {
		n := min(m.cfg.MaxBatch, rows-from)
		r := &Request{In: make([]Tensor, len(in)), uncached: true}
		for i := range in {
			if in[i].Rows() != rows || in[i].elements() != in[i].length() {
				return errkind.Errorf(errkind.Invalid, "model %q: input %q has %d elements for the shape %v and %d rows",
					m.meta.Name, in[i].Name, in[i].length(), in[i].Shape, rows)
			}
			r.In[i].set(&in[i], from, n)
		}
		if err := m.Submit(ctx, r); err != nil {
			return err
		}
		if err := r.Wait(ctx); err != nil {
			return err // r is on its own: nothing of the caller's is in it
		}
		if r.Err != nil {
			return r.Err
		}
		if len(r.Failed) > 0 {
			return fmt.Errorf("row %d: %w", from+r.Failed[0].Row, r.Failed[0].Err)
		}
		for i := range out {
			if from == 0 {
				out[i].prepare(&r.Out[i], rows)
			}
			if !out[i].place(&r.Out[i], from) {
				return errkind.Errorf(errkind.Permanent, "model %q answers output %q in rows of different shapes", m.meta.Name, m.meta.Outputs[i].Name)
			}
		}
	}
	if rows == 0 {
		return errkind.Errorf(errkind.Invalid, "model %q takes at least one row", m.meta.Name)
	}
	return nil
}

// Close answers what is queued, waits for the calls in progress, and closes the
// driver. It is bounded: what is not answered after twice Config.Timeout, or ten
// seconds where that is longer, fails with kind Closed, and a call that overran its deadline
// is waited for during one more Timeout, or two seconds; where it does not return
// even then, the error says so.
func (m *Model) Close() error {
	m.mu.Lock()
	again := m.closed
	if !again {
		m.closed = true
		close(m.closing)
	}
	m.work.Broadcast()
	m.space.Broadcast()
	m.wakeLeader()
	m.mu.Unlock()
	if again {
		m.workers.Wait()
		return nil
	}
	patience := time.AfterFunc(max(2*m.cfg.Timeout, 10*time.Second), m.stop)
	m.workers.Wait()
	patience.Stop()
	m.mu.Lock()
	if m.sweep != nil {
		m.sweep.Stop()
	}
	m.mu.Unlock()
	m.stop()
	if err := m.closeDriver(); err != nil {
		return fmt.Errorf("close model %q: %w", m.meta.Name, err)
	}
	return nil
}

// closeDriver waits for calls left behind, as long as one may take, and closes the driver.
func (m *Model) closeDriver() error {
	m.mu.Lock()
	behind := m.behind
	m.mu.Unlock()
	if behind == 0 {
		m.flights.Wait() // losers of a race, which have been cancelled, are behind too
		return m.driver.Close()
	}
	closed := make(chan error, 1)
	go func() {
		m.flights.Wait()
		closed <- m.driver.Close()
	}()
	patience := max(m.cfg.Timeout, 2*time.Second)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-closed:
		return err
	case <-timer.C:
		return errkind.Errorf(errkind.Transient, "%d calls that overran their deadline still run after %v more; the driver is closed when they return", behind, patience)
	}
}

// run takes batches until the model is closed and empty.
func (m *Model) run() {
	w := &worker{}
	for m.take(w) {
		m.stats.Flushes[w.reason].Add(1)
		m.answer(w)
	}
}
