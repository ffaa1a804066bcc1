package pulsar

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
	"github.com/apache/pulsar-client-go/pulsar/backoff"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// cursor reads one partition in order. It is a broker.Reader, and what claims read with.
//
// The library's reader connects anew by itself, and may then leave out the rest
// of the entry that it was at. So each message has to follow the one before
// visibly; where it does not, a new reader is opened at the place in question
// and its word is taken.
type cursor struct {
	d       *Driver
	p       *part
	revoked <-chan struct{} // nil for a Reader
	next    atomic.Int64
	end     int64 // of the partition, as far as is known
	src     *source
	opening *opening // what will be src
	checked bool     // the first message of src is believed
	last    id       // fetched last, in an entry of size messages; size 0: none
	size    int64
	time    int64 // of the record fetched last
	ahead   pulsar.Message
	dec     decoder

	closing sync.Once
	closed  chan struct{}
}

var errRevoked = errkind.New(errkind.Conflict, "the claim was revoked: the partition belongs to another member of the group")

func newCursor(d *Driver, p *part, from int64, revoked <-chan struct{}) *cursor {
	c := &cursor{d: d, p: p, revoked: revoked, closed: make(chan struct{})}
	c.next.Store(from)
	return c
}

// Read implements broker.Driver.
func (d *Driver) Read(ctx context.Context, name string, partition int, from int64) (broker.Reader, error) {
	p, err := d.part(ctx, name, partition)
	if err == nil {
		_, _, err = d.look(ctx, name) // that it is still there, and how far it is trimmed
	}
	if err != nil {
		return nil, err
	}
	c := newCursor(d, p, max(from, 0), nil)
	if err := c.open(ctx); err != nil {
		c.drop()
		return nil, d.fail(ctx, "open reader", err)
	}
	return c, nil
}

// Position implements broker.Positioner.
func (c *cursor) Position() int64 { return c.next.Load() }

// seek makes the next Fetch begin at position.
func (c *cursor) seek(position int64) {
	if position == c.next.Load() {
		return
	}
	c.drop()
	c.next.Store(position)
	c.size, c.time = 0, 0
}

// source is one reader of the library, and the goroutine that empties it.
type source struct {
	reader   pulsar.Reader
	messages chan pulsar.Message // closed when the reader ends
	cancel   context.CancelFunc
}

// opening is a source in the making. It goes on when a Fetch that waits for it is
// given up: the next one waits for the same.
type opening struct {
	done chan struct{} // closed when src or err is set
	src  *source
	err  error
}

// open begins a source at the cursor's position.
func (c *cursor) open(ctx context.Context) error {
	if c.opening == nil {
		o := &opening{done: make(chan struct{})}
		options := c.options()
		if !c.d.spawn(func() {
			defer close(o.done)
			o.src, o.err = c.d.openSource(options)
		}) {
			return errClosed
		}
		c.opening = o
	}
	select {
	case <-c.opening.done:
	case <-ctx.Done():
		return ctx.Err()
	case <-c.d.ctx.Done():
		return errClosed
	}
	o := c.opening
	c.opening = nil
	if o.err != nil {
		return o.err
	}
	c.src, c.checked = o.src, false
	return nil
}

// options are those of a reader at the cursor's position.
func (c *cursor) options() pulsar.ReaderOptions {
	at := idAt(max(c.next.Load(), c.p.start.Load()))
	start := pulsar.EarliestMessageID()
	if at != (id{}) {
		batch := int32(at.batch)
		if batch == 0 {
			batch = -1 // a message alone in its entry has no index
		}
		start = pulsar.NewMessageID(at.ledger, at.entry, batch, int32(c.p.index))
	}
	return pulsar.ReaderOptions{
		Topic:                   c.p.url(),
		StartMessageID:          start,
		StartMessageIDInclusive: true,
		ReceiverQueueSize:       c.d.set.queue,
		BackoffPolicyFunc:       func() backoff.Policy { return &reconnect{} },
	}
}

func (d *Driver) openSource(o pulsar.ReaderOptions) (*source, error) {
	reader, err := d.client.CreateReader(o)
	if err != nil {
		return nil, err
	}
	pump, cancel := context.WithCancel(d.ctx)
	src := &source{reader: reader, messages: make(chan pulsar.Message, d.set.queue), cancel: cancel}
	if !d.spawn(func() { src.run(pump) }) {
		cancel()
		release(reader.Close)
		return nil, errClosed
	}
	return src, nil
}

// run moves messages on until the source is closed or the reader ends.
func (s *source) run(ctx context.Context) {
	defer close(s.messages)
	defer release(s.reader.Close)
	for {
		m, err := s.reader.Next(ctx)
		if err != nil {
			return
		}
		select {
		case s.messages <- m:
		case <-ctx.Done():
			return
		}
	}
}

func (c *cursor) drop() {
	if c.src != nil {
		c.src.cancel()
		c.src = nil
	}
	if o := c.opening; o != nil {
		c.opening = nil
		c.d.spawn(func() { // where the driver is closed its sources end by themselves
			if <-o.done; o.src != nil {
				o.src.cancel()
			}
		})
	}
	c.ahead = nil
}

// Close implements broker.Reader.
func (c *cursor) Close() error {
	c.closing.Do(func() { close(c.closed) })
	c.drop()
	return nil
}

// alive says why a call has to end.
func (c *cursor) alive(ctx context.Context) error {
	if err := c.d.enter(ctx); err != nil {
		return err
	}
	select {
	case <-c.revoked:
		return errRevoked
	case <-c.closed:
		return errkind.New(errkind.Closed, "the reader is closed")
	default:
		return nil
	}
}

// Fetch implements broker.Reader.
func (c *cursor) Fetch(ctx context.Context, most int) (*broker.Batch, error) {
	for {
		if err := c.alive(ctx); err != nil {
			return nil, err
		}
		if c.src == nil {
			if err := c.open(ctx); err != nil {
				if err := c.alive(ctx); err != nil {
					return nil, err
				}
				return nil, c.d.fail(ctx, "open reader", err)
			}
		}
		m, err := c.wait(ctx)
		if err != nil {
			return nil, err
		}
		if m == nil {
			continue
		}
		b, err := c.gather(m, most)
		if err != nil {
			return nil, err
		}
		if b == nil {
			continue
		}
		b.End = c.endOf(ctx)
		return b, nil
	}
}

// wait waits for a message; nil says to look again. A reader that has been
// silent for long is asked whether it is still in its place.
func (c *cursor) wait(ctx context.Context) (pulsar.Message, error) {
	if m := c.ahead; m != nil {
		c.ahead = nil
		return m, nil
	}
	silence := time.NewTimer(c.d.set.timeout)
	defer silence.Stop()
	select {
	case m, ok := <-c.src.messages:
		if !ok {
			c.drop()
		}
		return m, nil
	default:
	}
	select {
	case m, ok := <-c.src.messages:
		if !ok {
			c.drop()
		}
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.d.ctx.Done():
		return nil, errClosed
	case <-c.revoked:
		return nil, errRevoked
	case <-c.closed:
		return nil, errkind.New(errkind.Closed, "the reader is closed")
	case <-silence.C:
		if last, err := c.lastID(ctx); err != nil || last >= c.next.Load() && len(c.src.messages) == 0 {
			c.drop()
		}
		return nil, nil
	}
}

// lastID asks the broker for the position of the last message; -1 where there
// is none. It asks the admin API: the library's own question may never return.
func (c *cursor) lastID(ctx context.Context) (int64, error) {
	at, err := c.d.lastID(ctx, c.p.topic.physical(c.p.index))
	if err != nil || at.entry < 0 {
		return -1, err
	}
	return at.position()
}

// endOf is the partition's end, not before the cursor's position. Where records
// wait already it need not be known exactly.
func (c *cursor) endOf(ctx context.Context) int64 {
	next := c.next.Load()
	if c.end > next {
		return c.end
	}
	if c.ahead != nil || len(c.src.messages) > 0 {
		return next + 1
	}
	c.end = next
	if last, err := c.lastID(ctx); err == nil {
		c.end = max(last+1, next)
	}
	return c.end
}

// gather makes a batch of m and of what is there already; nil where m is
// before the cursor's position or not certain to be the next.
func (c *cursor) gather(m pulsar.Message, most int) (*broker.Batch, error) {
	var recs []event.Record
	from := max(c.next.Load(), c.p.start.Load())
	for {
		at, size := idOf(m.ID())
		position, err := at.position()
		if err != nil {
			return nil, err
		}
		if position >= from {
			if !c.believe(at, position) {
				if len(recs) == 0 {
					c.drop()
				} else {
					c.ahead = nil
					c.doubt()
				}
				break
			}
			if recs == nil {
				recs = make([]event.Record, 0, min(most, len(c.src.messages)+1))
				c.dec = decoder{arena: make([]byte, 0, 96*cap(recs)), names: c.dec.names}
			}
			recs = append(recs, event.Record{})
			r := &recs[len(recs)-1]
			c.dec.decode(m, at, r)
			r.Position, r.Time = position, c.stamp(m)
			from = position + 1
			c.last, c.size = at, size
			c.checked = true
		}
		if len(recs) == most {
			break
		}
		var ok bool
		select {
		case m, ok = <-c.src.messages:
		default:
		}
		if !ok {
			break
		}
	}
	if len(recs) == 0 {
		return nil, nil
	}
	c.next.Store(from)
	return &broker.Batch{Topic: c.p.topic.name, Partition: c.p.index, Records: recs}, nil
}

// believe says whether the message at position is certain to be the next one.
func (c *cursor) believe(at id, position int64) bool {
	return !c.checked || at.follows(c.last, c.size) || position == c.next.Load()
}

// doubt gives the source up, for one that begins behind what was gathered.
func (c *cursor) doubt() {
	c.src.cancel()
	c.src = &source{messages: make(chan pulsar.Message), cancel: func() {}, reader: c.src.reader}
	close(c.src.messages)
}

// stamp is when the message was stored, or published by a clock that may be
// slower than that of the publisher before.
func (c *cursor) stamp(m pulsar.Message) int64 {
	t := m.PublishTime()
	if b := m.BrokerPublishTime(); b != nil {
		t = *b
	}
	c.time = max(c.time, t.UnixNano())
	return c.time
}
