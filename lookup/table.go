package lookup

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Config is how a table asks and what it keeps. The zero value is good.
type Config struct {
	// Rows bounds the rows in the cache, missing ones included: 100,000 by
	// default; a negative number keeps none.
	Rows int
	// Bytes bounds the keys and strings of the rows in the cache, 256 MiB by
	// default. Numbers take 8 bytes a field, and a row some 100 besides.
	Bytes int64
	// TTL is how long a row is taken from the cache, 1 minute by default, and up
	// to a tenth less by key, so that rows read together are not asked for
	// together again. A negative one keeps no rows.
	TTL time.Duration
	// MissingTTL is the same for keys that the server does not have; by default
	// TTL, and at most 10 s. A negative one asks for them each time.
	MissingTTL time.Duration
	// Timeout bounds a request, its repetitions included; 1 s by default.
	Timeout time.Duration
	Retry   Retry
	// Now is the clock of ages and times to live; nil is time.Now.
	Now func() time.Time
	// Logger is told of rows that cannot be used, at most once a minute; nil is silent.
	Logger *slog.Logger
}

const (
	defaultRows       = 100_000
	defaultBytes      = 256 << 20
	defaultTTL        = time.Minute
	defaultMissingTTL = 10 * time.Second
	defaultTimeout    = time.Second
)

func (c Config) withDefaults() Config {
	if c.Rows == 0 {
		c.Rows = defaultRows
	}
	if c.Bytes <= 0 {
		c.Bytes = defaultBytes
	}
	if c.TTL == 0 {
		c.TTL = defaultTTL
	}
	if c.Rows < 0 || c.TTL < 0 {
		c.Rows, c.TTL = 0, 0
	}
	if c.MissingTTL == 0 {
		c.MissingTTL = min(c.TTL, defaultMissingTTL)
	}
	c.MissingTTL = max(c.MissingTTL, 0)
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	c.Retry = c.Retry.Or(defaultRetry)
	if c.Now == nil {
		c.Now = time.Now
	}
	return c
}

// Outcome is what a look-up of one row came to.
type Outcome uint8

const (
	// Found: the server has the row.
	Found Outcome = iota
	// Missing: the server has no such row, or none that can be used.
	Missing
	// Failed: the server could not be asked.
	Failed
)

var outcomeNames = [...]string{"found", "missing", "failed"}

// String returns the outcome's name.
func (o Outcome) String() string { return outcomeNames[o] }

// Table is what callers hold: a Driver with a bounded cache, requests shared by
// all who need the same keys, retry and counters around it. It is meant to be
// shared by all tasks of a process.
//
// All methods may be called concurrently. A Table starts no goroutines:
// whoever misses first asks, and others that need the key meanwhile wait for the answer.
type Table struct {
	driver Driver
	caps   Capabilities
	fields []Field
	cfg    Config
	seed   maphash.Seed
	shards []*shard // a power of two
	calls  sync.Pool
	health health
	stats  Stats
	warned atomic.Int64 // when, in Unix nanoseconds

	mu      sync.Mutex // of closed, against a request that begins
	closed  bool
	ctx     context.Context // ends with Close
	end     context.CancelFunc
	running sync.WaitGroup // requests
}

// New returns a table on d, which it owns from now on: Close closes it.
func New(d Driver, c Config) *Table {
	t := &Table{driver: d, caps: d.Capabilities(), fields: d.Fields(), cfg: c.withDefaults(), seed: maphash.MakeSeed()}
	t.caps.MaxKeys = max(1, t.caps.MaxKeys)
	t.ctx, t.end = context.WithCancel(context.Background())
	t.calls.New = func() any { return new(call) }
	n := 1
	for n < 32 && t.cfg.Rows >= 512*n {
		n *= 2 // shards of 256 rows at least
	}
	l := newLayout(t.fields)
	for range n {
		t.shards = append(t.shards, &shard{
			layout: l, pending: map[string]place{},
			maxRows: (t.cfg.Rows + n - 1) / n, maxBytes: t.cfg.Bytes / int64(n),
		})
	}
	return t
}

// Fields are the fields that Lookup fills, in order.
func (t *Table) Fields() []Field { return t.fields }

// Times reports whether rows carry the time of their values.
func (t *Table) Times() bool { return t.caps.Times }

// Stats returns the table's counters.
func (t *Table) Stats() *Stats { return &t.stats }

// Cached is the number of rows in the cache, missing and outlived ones included.
func (t *Table) Cached() int {
	n := 0
	for _, s := range t.shards {
		s.mu.Lock()
		n += s.used
		s.mu.Unlock()
	}
	return n
}

// Check asks the server whether address, credentials, table and fields are
// right. An error that MayPass says nothing about them.
func (t *Table) Check(ctx context.Context) error {
	return t.attempt(ctx, t.driver.Check)
}

// Close ends requests in progress with Closed errors and closes the driver.
func (t *Table) Close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.end()
	t.running.Wait()
	return t.driver.Close()
}

func closedError() error { return errkind.New(errkind.Closed, "the lookup table is closed") }

// call is the scratch of one Lookup.
type call struct {
	hashes []uint64
	rows   []int32 // those that are open, shard after shard
	waits  []wait
	again  []int32
}

// wait is a row whose answer comes with a flight.
type wait struct {
	row   int32
	place place
}

// Lookup finds the rows of keys[:n]. It fills out, a column for each field,
// whose kind and length it sets; at with the time of each row's values in Unix
// nanoseconds, or Unknown; and state. Rows that are not Found are null in all
// columns. at may be nil. An empty key is Missing without being asked for.
// Neither keys nor their bytes are kept.
//
// Lookup asks the server for what is not in its cache, each key once, and for
// none that another caller is asking for; a repeated key costs nothing more.
// It returns an error exactly where rows are Failed; the others are good all
// the same. When the server does not answer, a call takes about Config.Timeout,
// and calls in the pause after that fail at once. An error that MayPass may be
// gone when the call is repeated, after Wait.
func (t *Table) Lookup(ctx context.Context, keys []string, n int, out []*event.Column, at []int64, state []Outcome) error {
	if n > len(keys) || n > len(state) || (at != nil && n > len(at)) || len(out) != len(t.fields) {
		return errkind.Errorf(errkind.Invalid, "look up %d rows of %d fields: got %d keys, %d states and %d columns", n, len(t.fields), len(keys), len(state), len(out))
	}
	for j, c := range out {
		c.Kind = t.fields[j].Kind
		c.Reset(n)
	}
	c := t.calls.Get().(*call)
	defer t.calls.Put(c)
	b := batch{keys: keys[:n], out: out, at: at, state: state[:n], now: t.cfg.Now().UnixNano()}
	c.open(t, &b)
	err := t.answer(ctx, c, &b)
	t.finish(&b)
	return err
}

// batch is what one Lookup was called with.
type batch struct {
	keys  []string
	out   []*event.Column
	at    []int64
	state []Outcome
	now   int64
}

func (b *batch) set(i int, o Outcome, at int64) {
	b.state[i] = o
	if b.at != nil {
		b.at[i] = at
	}
}

// open hashes the keys and lists all rows, shard after shard.
func (c *call) open(t *Table, b *batch) {
	n := len(b.keys)
	if cap(c.hashes) < n {
		c.hashes, c.rows = make([]uint64, n), make([]int32, n)
	}
	c.hashes, c.rows = c.hashes[:n], c.rows[:n]
	mask := uint64(len(t.shards) - 1)
	var ends [33]int32
	asked := 0
	for i, key := range b.keys {
		b.set(i, Missing, Unknown)
		if key == "" {
			continue
		}
		asked++
		h := maphash.String(t.seed, key)
		c.hashes[i] = h
		ends[h&mask+1]++
	}
	for s := range len(t.shards) {
		ends[s+1] += ends[s]
	}
	for i, key := range b.keys {
		if key != "" {
			p := &ends[c.hashes[i]&mask]
			c.rows[*p] = int32(i)
			*p++
		}
	}
	c.rows = c.rows[:asked]
}

// answer fills all rows, in as many rounds as requests of others are given up.
func (t *Table) answer(ctx context.Context, c *call, b *batch) error {
	var first error
	hits := len(c.rows)
	for round := 0; len(c.rows) > 0; round++ {
		c.waits, c.again = c.waits[:0], c.again[:0]
		own := t.readCache(c, b)
		if round == 0 {
			hits -= len(c.waits)
			t.stats.Hits.Add(uint64(hits))
			t.stats.Misses.Add(uint64(len(c.waits)))
		}
		if own != nil {
			t.fly(ctx, own)
		}
		if err := t.collect(ctx, c, b); err != nil && first == nil {
			first = err
		}
		c.rows = append(c.rows[:0], c.again...)
	}
	clear(c.waits[:cap(c.waits)]) // lets go of the flights
	return first
}

// readCache fills the open rows that the cache has. The others join requests
// that are under way; keys that nobody asks for yet make up a flight of this caller's own.
func (t *Table) readCache(c *call, b *batch) (own *flight) {
	mask := uint64(len(t.shards) - 1)
	for rows := c.rows; len(rows) > 0; {
		sh := c.hashes[rows[0]] & mask
		s := t.shards[sh]
		s.mu.Lock()
		for len(rows) > 0 && c.hashes[rows[0]]&mask == sh {
			i := rows[0]
			rows = rows[1:]
			key, hash := b.keys[i], c.hashes[i]
			if at := s.find(hash, key); at >= 0 {
				if sl := &s.slots[at]; sl.expires > b.now {
					sl.read = true
					if sl.found {
						b.set(int(i), Found, sl.at)
						s.readInto(at, b.out, int(i))
					}
					continue
				}
			}
			p, asked := s.pending[key]
			if !asked {
				if own == nil {
					own = &flight{done: make(chan struct{})}
				}
				p = own.add(hash, key)
				s.pending[own.keys[p.i]] = p
			}
			c.waits = append(c.waits, wait{i, p})
		}
		s.mu.Unlock()
	}
	return own
}

// collect waits for the flights that the open rows are on and fills the rows.
// Rows of a flight whose leader gave up are listed in c.again.
func (t *Table) collect(ctx context.Context, c *call, b *batch) error {
	var first error
	fail := func(i int32, err error) {
		b.set(int(i), Failed, Unknown)
		if first == nil {
			first = err
		}
	}
	for _, w := range c.waits {
		f := w.place.f
		select {
		case <-f.done:
		default:
			select {
			case <-f.done:
			case <-ctx.Done():
				fail(w.row, ctx.Err())
				continue
			}
		}
		rows, k := f.row(t.caps.MaxKeys, w.place.i)
		switch {
		case rows != nil && rows.IsFound(k):
			b.set(int(w.row), Found, rows.At[k])
			copyRow(b.out, int(w.row), rows, k)
		case rows != nil:
		case f.givenUp && ctx.Err() == nil:
			c.again = append(c.again, w.row)
		default:
			fail(w.row, f.err)
		}
	}
	return first
}

// finish makes nulls of what was not found and adds the batch to the counters.
func (t *Table) finish(b *batch) {
	var missing, failed uint64
	for i, o := range b.state {
		switch o {
		case Found:
			continue
		case Missing:
			missing++
		case Failed:
			failed++
		}
		for _, c := range b.out {
			c.SetNull(i)
		}
	}
	if missing > 0 {
		t.stats.Missing.Add(missing)
	}
	if failed > 0 {
		t.stats.Failed.Add(failed)
	}
	if !t.caps.Times || b.at == nil {
		return
	}
	const sample = 64
	run := t.stats.Staleness.Run()
	for i := 0; i < len(b.state); i += max(1, len(b.state)/sample) {
		if b.at[i] != Unknown {
			run.Record(max(0, b.now-b.at[i]))
		}
	}
	run.Flush()
}
