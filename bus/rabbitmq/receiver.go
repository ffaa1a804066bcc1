package rabbitmq

import (
	"context"
	"math"
	"slices"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
)

// Receiver is a bus.Receiver for one queue.
type Receiver struct {
	s     *settings
	limit int
	done  chan struct{} // closed by Close
	once  sync.Once

	life context.Context // ends with Close
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	link    *incoming
	attempt *attempt // under way
}

// incoming is one connection with what it delivers.
type incoming struct {
	c          *amqp.Connection
	ch         *amqp.Channel
	deliveries <-chan amqp.Delivery
	closed     chan *amqp.Error

	// turn is held while acknowledgements are told to the server: one for a run
	// must not come before those that it counts on.
	turn sync.Mutex

	mu      sync.Mutex
	base    uint64 // every tag up to it is settled
	settled map[uint64]bool
}

type token struct {
	link *incoming
	tag  uint64
}

// OpenReceiver connects and begins to consume the queue.
func OpenReceiver(ctx context.Context, url string, l bus.Limits, o Options) (*Receiver, error) {
	s, err := parse(url, o, true)
	if err != nil {
		return nil, err
	}
	r := &Receiver{s: s, limit: l.Unacknowledged, done: make(chan struct{})}
	r.life, r.end = context.WithCancel(context.Background())
	if r.limit <= 0 {
		r.limit = bus.DefaultUnacknowledged
	}
	r.limit = min(r.limit, math.MaxUint16)
	if _, err := r.connected(ctx); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Receiver) closedError() error {
	select {
	case <-r.done:
		return errkind.Errorf(errkind.Closed, "%s: the receiver is closed", r.s.where)
	default:
		return nil
	}
}

// attempt is one try to connect. It goes on when who began it has given up, so
// that callers with little patience connect too.
type attempt struct {
	done chan struct{}
	link *incoming
	err  error
}

// connected returns the link, and makes a new one where there is none.
func (r *Receiver) connected(ctx context.Context) (*incoming, error) {
	r.mu.Lock()
	if r.link != nil {
		defer r.mu.Unlock()
		return r.link, nil
	}
	if err := r.closedError(); err != nil {
		r.mu.Unlock()
		return nil, err
	}
	a := r.attempt
	if a == nil {
		a = &attempt{done: make(chan struct{})}
		r.attempt = a
		r.wg.Go(func() { r.try(a) })
	}
	r.mu.Unlock()
	select {
	case <-a.done:
		return a.link, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.done:
		return nil, r.closedError()
	}
}

func (r *Receiver) try(a *attempt) {
	l, err := r.consume(r.life)
	r.mu.Lock()
	defer r.mu.Unlock()
	if closed := r.closedError(); closed != nil {
		if l != nil {
			_ = l.c.CloseDeadline(deadline(r.s.timeout))
		}
		l, err = nil, closed
	}
	r.link, r.attempt = l, nil
	a.link, a.err = l, r.s.failed("receive from queue "+r.s.queue, err)
	close(a.done)
}

func (r *Receiver) consume(ctx context.Context) (*incoming, error) {
	c, err := r.s.connect(ctx)
	if err != nil {
		return nil, err
	}
	l := &incoming{c: c, settled: map[uint64]bool{}}
	defer context.AfterFunc(ctx, func() { _ = c.CloseDeadline(deadline(0)) })()
	if l.ch, err = r.s.open(c); err == nil {
		l.closed = l.ch.NotifyClose(make(chan *amqp.Error, 1))
		err = l.ch.Qos(r.limit, 0, false)
	}
	if err == nil {
		l.deliveries, err = l.ch.Consume(r.s.queue, "", false, false, false, false, nil)
	}
	if err != nil {
		_ = c.CloseDeadline(deadline(r.s.timeout))
		return nil, err
	}
	return l, nil
}

// lost lets go of a link that has ended and says why.
func (r *Receiver) lost(l *incoming) error {
	r.mu.Lock()
	if r.link == l {
		r.link = nil
	}
	r.mu.Unlock()
	_ = l.c.CloseDeadline(deadline(r.s.timeout))
	if err := r.closedError(); err != nil {
		return err
	}
	select {
	case reason := <-l.closed:
		if reason != nil {
			err := errkind.Errorf(errkind.Transient, "%s: connection lost: %w", r.s.where, reason)
			r.s.log.Warn("rabbitmq: connecting anew", "queue", r.s.queue, "because", err)
			return err
		}
	default:
	}
	return errkind.Errorf(errkind.Transient, "%s: the server ended the delivery of queue %s", r.s.where, r.s.queue)
}

// Receive implements bus.Receiver.
func (r *Receiver) Receive(ctx context.Context, max int) ([]bus.Message, error) {
	if err := r.closedError(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, err := r.connected(ctx)
	if err != nil {
		return nil, err
	}
	var out []bus.Message
	add := func(d amqp.Delivery) {
		out = append(out, bus.Message{Record: record(&d, r.s.queue), Token: token{l, d.DeliveryTag}, Redelivered: d.Redelivered})
	}
	select {
	case d, ok := <-l.deliveries:
		if !ok {
			return nil, r.lost(l)
		}
		add(d)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-r.done:
		return nil, r.closedError()
	}
	for len(out) < max {
		select {
		case d, ok := <-l.deliveries:
			if ok {
				add(d)
				continue
			}
		default:
		}
		break
	}
	return out, nil
}

// Ack implements bus.Receiver.
func (r *Receiver) Ack(ctx context.Context, messages []bus.Message) error {
	return r.settle(ctx, messages, func(l *incoming, tags []uint64) error {
		for _, a := range l.acknowledge(tags) {
			if err := l.ch.Ack(a.tag, a.upTo); err != nil {
				return err
			}
		}
		return nil
	})
}

// Nack implements bus.Receiver.
func (r *Receiver) Nack(ctx context.Context, messages []bus.Message) error {
	return r.settle(ctx, messages, func(l *incoming, tags []uint64) error {
		slices.Reverse(tags) // each goes back to where it was
		for _, tag := range tags {
			if err := l.ch.Nack(tag, false, true); err != nil {
				return err
			}
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.settle(tags)
		return nil
	})
}

func (r *Receiver) settle(ctx context.Context, messages []bus.Message, do func(*incoming, []uint64) error) error {
	if err := r.closedError(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	r.mu.Lock()
	l := r.link
	r.mu.Unlock()
	var tags []uint64
	for _, m := range messages {
		if t, ok := m.Token.(token); ok && l != nil && t.link == l {
			tags = append(tags, t.tag)
		}
	}
	slices.Sort(tags)
	if len(tags) > 0 {
		l.turn.Lock()
		err := do(l, tags)
		l.turn.Unlock()
		if err != nil {
			if closed := r.closedError(); closed != nil {
				return closed
			}
			return errkind.Errorf(errkind.Conflict, "%s: the connection was lost, the messages come again: %w", r.s.where, err)
		}
	}
	if n := len(messages) - len(tags); n > 0 {
		return errkind.Errorf(errkind.Conflict, "%s: the connection of %d messages was lost, they come again", r.s.where, n)
	}
	return nil
}

// ack is one acknowledgement to send.
type ack struct {
	tag  uint64
	upTo bool // and of everything before
}

// acknowledge settles tags, which rise, and returns what to send: one
// acknowledgement for all up to where nothing is left out, and one each behind.
func (l *incoming) acknowledge(tags []uint64) []ack {
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh := tags[:0:0]
	for _, t := range tags {
		if t > l.base && !l.settled[t] {
			fresh = append(fresh, t)
		}
	}
	l.settle(fresh)
	var out []ack
	for i := len(fresh) - 1; i >= 0; i-- {
		if fresh[i] <= l.base {
			return append(out, ack{fresh[i], i > 0})
		}
		out = append(out, ack{fresh[i], false})
	}
	return out
}

func (l *incoming) settle(tags []uint64) {
	for _, t := range tags {
		l.settled[t] = true
	}
	for l.settled[l.base+1] {
		l.base++
		delete(l.settled, l.base)
	}
}

// Close implements bus.Receiver: the server takes back what is not acknowledged.
func (r *Receiver) Close() error {
	r.once.Do(func() {
		r.mu.Lock() // no attempt begins from here on
		close(r.done)
		r.mu.Unlock()
		r.end()
		r.wg.Wait()
		r.mu.Lock()
		l := r.link
		r.mu.Unlock()
		if l != nil {
			_ = l.c.CloseDeadline(deadline(r.s.timeout))
		}
	})
	return nil
}
