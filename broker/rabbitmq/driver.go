package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Options is what the program passes to Open.
type Options struct {
	// Logger hears of connections that were lost; nil is silent.
	Logger *slog.Logger
	// Env looks up the environment, for secrets that the URL refers to.
	Env func(string) (string, bool)
}

// Driver is a broker.Driver over the streams of a RabbitMQ server or cluster.
type Driver struct {
	where    string // for errors
	access   []access
	timeout  time.Duration
	session  time.Duration
	frameMax int
	log      *slog.Logger

	control, reading, writing, tabling pool
	table                              *table
	turn                               atomic.Uint32 // of records without a key

	done chan struct{} // closed by Close
	once sync.Once
	wg   sync.WaitGroup // of spawn

	mu        sync.RWMutex
	closed    bool
	topics    map[string]*topic
	pubs      map[string]*publisher
	consumers map[*consumer]struct{}
	declaring map[string]chan struct{} // turns, by stream
}

const (
	port    = "5552"
	portTLS = "5551"

	defaultTable = "freshet.table"
	// maxBatch keeps what one call holds in memory bounded.
	maxBatch = 10_000
	// reserve is what of a frame a record cannot use: it is for names and lengths.
	reserve = 16 << 10
	// maxRecord is the largest record where the server has no limit.
	maxRecord = 8 << 20
)

// Open connects to the server of a URL: see the package's comment.
func Open(ctx context.Context, raw string, o Options) (*Driver, error) {
	e, err := endpoint.Parse(raw, o.Env)
	if err != nil {
		return nil, err
	}
	d := &Driver{
		where: e.String(), log: o.Logger, done: make(chan struct{}),
		topics: map[string]*topic{}, pubs: map[string]*publisher{}, consumers: map[*consumer]struct{}{}, declaring: map[string]chan struct{}{},
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if err := d.configure(e); err != nil {
		return nil, err
	}
	d.control, d.reading, d.writing, d.tabling = newPool(d, "control"), newPool(d, "read"), newPool(d, "publish"), newPool(d, "table")
	c, err := d.control.get(ctx, 0)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", d.where, err)
	}
	d.frameMax = c.frameMax
	return d, nil
}

func (d *Driver) configure(e *endpoint.Endpoint) error {
	if e.Scheme != "rabbitmq-stream" {
		return errkind.Errorf(errkind.Config, "%s: expected rabbitmq-stream://user:password@host:5552/vhost", e)
	}
	if len(e.Hosts) == 0 {
		return errkind.Errorf(errkind.Config, "%s: the URL names no host", e)
	}
	var err error
	if d.timeout, err = e.Duration("timeout", 10*time.Second); err != nil {
		return err
	}
	if d.session, err = e.Duration("session", 6*time.Second); err != nil {
		return err
	}
	d.table = newTable(d, e.Option("table", defaultTable))
	external := false
	switch m := e.Option("sasl", "plain"); m {
	case "plain":
	case "external":
		external = true
	default:
		return errkind.Errorf(errkind.Config, "%s: option sasl=%s: expected plain or external", e, m)
	}
	if err := e.Done(); err != nil {
		return err
	}
	if external && e.TLS() == nil {
		return errkind.Errorf(errkind.Config, "%s: sasl=external needs TLS and a certificate of the client's", e)
	}
	vhost := e.Path
	if vhost == "" {
		vhost = "/"
	}
	if v, err := url.PathUnescape(vhost); err == nil {
		vhost = v
	}
	standard := port
	if e.TLS() != nil {
		standard = portTLS
	}
	for _, h := range e.Hosts {
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(h, standard)
		}
		d.access = append(d.access, access{
			host: h, vhost: vhost, user: e.User, password: e.Password, external: external, tls: e.TLS(), timeout: d.timeout,
		})
	}
	return nil
}

// Capabilities implements broker.Driver.
func (d *Driver) Capabilities() broker.Capabilities {
	return broker.Capabilities{
		Admin: true, Durable: true, Append: true,
		MaxBatch: maxBatch, MaxRecordBytes: min(d.frameMax-reserve, maxRecord),
	}
}

// Close implements broker.Driver.
func (d *Driver) Close() error {
	d.once.Do(func() {
		d.mu.Lock()
		d.closed = true
		var consumers []*consumer
		for c := range d.consumers {
			consumers = append(consumers, c)
		}
		d.mu.Unlock()
		close(d.done)
		var wg sync.WaitGroup
		for _, c := range consumers {
			wg.Go(func() { _ = c.Close() })
		}
		wg.Wait()
		d.wg.Wait()
		d.table.close()
		d.control.close()
		d.reading.close()
		d.writing.close()
		d.tabling.close()
	})
	return nil
}

// spawn runs f, for which Close waits; false after Close. f ends soon after done.
func (d *Driver) spawn(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.wg.Go(f)
	return true
}

var errClosed = errkind.New(errkind.Closed, "the driver is closed")

// begin is what each call begins with.
func (d *Driver) begin(ctx context.Context) error {
	select {
	case <-d.done:
		return errClosed
	default:
		return ctx.Err()
	}
}

// during returns a context that ends when the driver is closed, with errClosed as its cause.
func (d *Driver) during(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := make(chan struct{})
	go func() {
		select {
		case <-d.done:
			cancel(errClosed)
		case <-stop:
		case <-ctx.Done():
		}
	}()
	return ctx, sync.OnceFunc(func() { close(stop); cancel(nil) })
}

// failed gives the error of a call its place, and its kind where the driver was closed.
func (d *Driver) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-d.done:
		return errkind.Errorf(errkind.Closed, "%s: the driver is closed", what)
	default:
	}
	return fmt.Errorf("%s: %s: %w", d.where, what, err)
}

// pool holds connections for one purpose: one, unless more subscriptions or
// publishers are asked for than one can carry.
type pool struct {
	d       *Driver
	name    string
	dialing chan struct{}

	mu     *sync.Mutex
	conns  []*conn
	closed bool
	host   int // of access, to try first
}

func newPool(d *Driver, name string) pool {
	return pool{d: d, name: name, dialing: make(chan struct{}, 1), mu: &sync.Mutex{}}
}

// get returns connection i, which it makes where there is none.
func (p *pool) get(ctx context.Context, i int) (*conn, error) {
	if c := p.live(i); c != nil {
		return c, nil
	}
	select {
	case p.dialing <- struct{}{}:
	case <-ctx.Done():
		return nil, contextError(ctx)
	}
	defer func() { <-p.dialing }()
	if c := p.live(i); c != nil {
		return c, nil
	}
	var err error
	for n := range p.d.access {
		host := (p.host + n) % len(p.d.access)
		var c *conn
		if c, err = dial(ctx, &p.d.access[host], "freshet "+p.name); err != nil {
			if ctx.Err() != nil {
				break
			}
			continue
		}
		p.host = host
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			c.close()
			return nil, errClosed
		}
		p.conns = append(p.conns, c)
		p.mu.Unlock()
		return c, nil
	}
	return nil, err
}

// live returns connection i of those that work, and lets go of others.
func (p *pool) live(i int) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = slices.DeleteFunc(p.conns, func(c *conn) bool { return c.failure() != nil })
	if i < len(p.conns) {
		return p.conns[i]
	}
	return nil
}

func (p *pool) close() {
	p.mu.Lock()
	conns := p.conns
	p.conns, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range conns {
		c.close()
	}
}

// ask sends a request, which may be repeated, over the control connection.
func (d *Driver) ask(ctx context.Context, command uint16, fill func([]byte) []byte) (in *input, err error) {
	err = d.patiently(ctx, func() error {
		c, err := d.control.get(ctx, 0)
		if err == nil {
			in, err = c.ask(ctx, command, fill)
		}
		return err
	})
	return in, err
}

// patiently calls f, which may be repeated, again for a while where the stream is
// not available or the connection is lost during the call: both happen for
// moments after a start of the server, and the first while a leader is elected.
// Where nobody listens it does not wait.
func (d *Driver) patiently(ctx context.Context, f func() error) error {
	wait, until := 10*time.Millisecond, time.Now().Add(d.timeout)
	for {
		err := f()
		lost := errors.Is(err, errLost) && errkind.Is(err, errkind.Transient)
		if !lost && !errors.Is(err, errNotAvailable) || time.Now().After(until) {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return contextError(ctx)
		case <-d.done:
			t.Stop()
			return errClosed
		}
		wait = min(2*wait, 250*time.Millisecond)
	}
}

// lookAt returns the chunk at o; nil where there is none.
func (d *Driver) lookAt(ctx context.Context, stream string, o offset) (k *chunk, err error) {
	err = d.patiently(ctx, func() error {
		wait, err := d.startLook(ctx, stream, o)
		if err != nil {
			return err
		}
		k, err = wait(ctx)
		return err
	})
	return k, err
}

// finishLook waits for what startLook began.
func (d *Driver) finishLook(ctx context.Context, stream string, o offset, wait func(context.Context) (*chunk, error)) (*chunk, error) {
	k, err := wait(ctx)
	if errors.Is(err, errNotAvailable) || errors.Is(err, errLost) {
		return d.lookAt(ctx, stream, o)
	}
	return k, err
}

func (d *Driver) startLook(ctx context.Context, stream string, o offset) (func(context.Context) (*chunk, error), error) {
	for i := 0; ; i++ {
		c, err := d.control.get(ctx, i)
		if err != nil {
			return nil, err
		}
		wait, err := c.look(ctx, stream, o)
		if !errors.Is(err, errNoSubscription) {
			return wait, err
		}
	}
}

// subscribe begins to read a stream over a connection of the pool.
func (d *Driver) subscribe(ctx context.Context, over *pool, stream string, o offset) (s *subscription, err error) {
	err = d.patiently(ctx, func() error {
		for i := 0; ; i++ {
			c, err := over.get(ctx, i)
			if err != nil {
				return err
			}
			if s, err = c.subscribe(ctx, stream, o); !errors.Is(err, errNoSubscription) {
				return err
			}
		}
	})
	return s, err
}

// publisher returns the stream's publisher, which it declares where there is none.
func (d *Driver) publisher(ctx context.Context, stream string) (*publisher, error) {
	return d.namedPublisher(ctx, stream, "")
}

func (d *Driver) namedPublisher(ctx context.Context, stream, reference string) (*publisher, error) {
	key := reference + "\x00" + stream
	d.mu.RLock()
	p := d.pubs[key]
	d.mu.RUnlock()
	if p != nil && p.failure() == nil {
		return p, nil
	}
	d.mu.Lock()
	turn := d.declaring[key]
	if turn == nil {
		turn = make(chan struct{}, 1)
		d.declaring[key] = turn
	}
	d.mu.Unlock()
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return nil, contextError(ctx)
	}
	defer func() { <-turn }()
	d.mu.RLock()
	p = d.pubs[key]
	d.mu.RUnlock()
	if p != nil && p.failure() == nil {
		return p, nil
	}
	err := d.patiently(ctx, func() error {
		for i := 0; ; i++ {
			c, err := d.writing.get(ctx, i)
			if err != nil {
				return err
			}
			if p, err = c.publish(ctx, stream, reference); !errkind.Is(err, errkind.Throttled) {
				return err
			}
		}
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		delete(d.pubs, key)
		return nil, err
	}
	d.pubs[key] = p
	return p, nil
}

var messagesPool = sync.Pool{New: func() any { return new(messages) }}

// Publish implements broker.Driver.
func (d *Driver) Publish(ctx context.Context, name string, recs []event.Record) (broker.Published, error) {
	if err := d.begin(ctx); err != nil {
		return broker.Published{}, err
	}
	if err := d.publish(ctx, name, recs); err != nil {
		return broker.Published{}, d.failed(fmt.Sprintf("publish to topic %q", name), err)
	}
	return broker.Published{Stored: len(recs)}, nil
}

func (d *Driver) publish(ctx context.Context, name string, recs []event.Record) error {
	t, err := d.topic(ctx, name)
	if err != nil || len(recs) == 0 {
		return err
	}
	var room [16]*messages
	parts := room[:0]
	if len(t.streams) > len(room) {
		parts = make([]*messages, 0, len(t.streams))
	}
	parts = parts[:len(t.streams)]
	defer func() {
		for _, m := range parts {
			if m != nil {
				messagesPool.Put(m)
			}
		}
	}()
	anywhere := int(d.turn.Add(1)) % len(t.streams)
	for i := range recs {
		r := &recs[i]
		p := anywhere
		if len(r.Key) > 0 {
			p = broker.PartitionFor(r.Key, len(t.streams))
		}
		if err := d.checkSize(i, r); err != nil {
			return err
		}
		m := parts[p]
		if m == nil {
			m = messagesPool.Get().(*messages)
			m.reset()
			parts[p] = m
		}
		from := len(m.b)
		m.b = appendMessage(m.b, r)
		if n := len(m.b) - from; n > d.frameMax-64 {
			return errkind.Errorf(errkind.Invalid, "record %d has %d bytes as a message, the server takes %d", i, n, d.frameMax-64)
		}
		m.ends = append(m.ends, len(m.b))
	}
	return d.sendAll(ctx, t, parts)
}

func (d *Driver) checkSize(i int, r *event.Record) error {
	if n, limit := r.Size(), d.Capabilities().MaxRecordBytes; n > limit {
		return errkind.Errorf(errkind.Invalid, "record %d has %d bytes, the limit is %d", i, n, limit)
	}
	return nil
}

// sendAll sends the messages of each partition and waits until the server has
// confirmed all of them.
func (d *Driver) sendAll(ctx context.Context, t *topic, parts []*messages) error {
	var room [16]*publication
	sent := room[:0]
	var failure error
	for p, m := range parts {
		if m == nil {
			continue
		}
		pub, err := d.publisher(ctx, t.streams[p])
		if err == nil {
			var w *publication
			if w, err = pub.send(ctx, m); err == nil {
				sent = append(sent, w)
				continue
			}
		}
		if errkind.Is(err, errkind.NotFound) {
			d.forgetTopic(t)
		}
		failure = err
		break
	}
	timer := time.NewTimer(d.timeout)
	defer timer.Stop()
	for _, w := range sent {
		select {
		case <-w.done:
			if failure == nil {
				failure = w.err
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-d.done:
			return errClosed
		case <-timer.C:
			return errkind.Errorf(errkind.Transient, "the server did not confirm within %v", d.timeout)
		}
	}
	return failure
}

func itoa(n int) string { return strconv.Itoa(n) }

var errNoTopic = errors.New("no such topic")
