package jetstream

import (
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

const (
	// maxBatch is the largest atomic batch of a server's default settings.
	maxBatch = 1000
	// headerRoom is what a message's headers may need beyond the bytes of its record.
	headerRoom = 16 << 10
	// idleSenders is how many inboxes for acknowledgements are kept for the next calls.
	idleSenders = 16
)

// API levels of JetStream from which on it offers what is used here.
const (
	levelGroups = 1 // server 2.11: several last messages by one request
	levelAtomic = 2 // server 2.12: atomic batches
	levelFast   = 4 // server 2.14: batches with one acknowledgement
)

// Options is what the program passes to Open. The zero value is good.
type Options struct {
	// Logger hears of lost and regained connections; nil is silent.
	Logger *slog.Logger
	// Env looks up the environment, for secrets that the URL names; nil has none.
	Env func(string) (string, bool)
}

// Driver is a broker.Driver on a NATS server or cluster with JetStream.
type Driver struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	where string // for errors
	log   *slog.Logger
	api   string // what API subjects begin with
	caps  broker.Capabilities
	level int // of the API

	timeout  time.Duration
	session  time.Duration
	replicas int // 0: as many as are useful
	table    *table
	topics   topicCache
	senders  chan *sender // at rest
	batches  sync.Pool
	turn     atomic.Uint32 // of records that may go to any partition

	done chan struct{} // closed by Close

	mu      sync.Mutex
	closed  bool
	broken  chan struct{} // closed and replaced when the connection is lost
	members map[io.Closer]struct{}
}

// Open connects to the servers that url names (see the package's comment).
func Open(ctx context.Context, url string, o Options) (*Driver, error) {
	e, err := endpoint.Parse(url, o.Env)
	if err != nil {
		return nil, err
	}
	c, err := readConfig(e, o.Env)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		where: e.String(), log: o.Logger, api: c.api, timeout: c.timeout, session: c.session, replicas: c.replicas,
		senders: make(chan *sender, idleSenders), done: make(chan struct{}), broken: make(chan struct{}), members: map[io.Closer]struct{}{},
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.turn.Store(rand.Uint32())
	d.topics.init()
	d.batches.New = d.newBatch
	if err := d.connect(ctx, c); err != nil {
		return nil, err
	}
	if err := d.greet(ctx); err != nil {
		d.nc.Close()
		return nil, err
	}
	return d, nil
}

// greet finds out what JetStream offers here.
func (d *Driver) greet(ctx context.Context) error {
	ctx, cancel := d.within(ctx)
	defer cancel()
	info, err := d.js.AccountInfo(ctx)
	if err != nil {
		return d.failed("ask for JetStream", err)
	}
	d.level = info.API.Level
	if d.level < levelGroups {
		return errkind.Errorf(errkind.Config, "open %s: the server is version %s; 2.11 or later is needed", d.where, d.nc.ConnectedServerVersion())
	}
	payload := int(d.nc.MaxPayload())
	d.caps = broker.Capabilities{
		Admin: true, Dedup: true, Durable: true, Gapless: true,
		Append:         d.level >= levelAtomic,
		MaxBatch:       maxBatch,
		MaxRecordBytes: max(payload-headerRoom, payload/2),
	}
	d.table = &table{d: d}
	return nil
}

// Capabilities implements broker.Driver.
func (d *Driver) Capabilities() broker.Capabilities { return d.caps }

// Close implements broker.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	members := d.members
	d.members = nil
	close(d.done)
	d.mu.Unlock()
	var wg sync.WaitGroup
	for m := range members {
		wg.Go(func() { _ = m.Close() })
	}
	wg.Wait()
	d.nc.Close()
	return nil
}

// own makes Close end m as well.
func (d *Driver) own(m io.Closer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return d.closedError()
	}
	d.members[m] = struct{}{}
	return nil
}

func (d *Driver) disown(m io.Closer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.members, m)
}

// connection returns a channel that is closed when the connection of now is lost.
func (d *Driver) connection() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.broken
}

func (d *Driver) lost() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.broken)
	d.broken = make(chan struct{})
}

// within bounds a call by the driver's timeout.
func (d *Driver) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d.timeout)
}

// check says why a call can not begin.
func (d *Driver) check(ctx context.Context) error {
	select {
	case <-d.done:
		return d.closedError()
	default:
		return ctx.Err()
	}
}
