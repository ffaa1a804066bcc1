package rabbitmq

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
)

// lanes is over how many channels the partitions are spread.
const lanes = 16

// Sender is a bus.Sender for one exchange, or for one queue.
type Sender struct {
	s    *settings
	done chan struct{}
	once sync.Once

	dialing chan struct{} // held while connecting
	mu      sync.Mutex
	c       *amqp.Connection

	lanes [lanes]lane
}

// lane is a channel; one Send at a time uses it.
type lane struct {
	turn     chan struct{}
	c        *amqp.Connection // of ch
	ch       *amqp.Channel
	returned chan amqp.Return
	closed   chan *amqp.Error
}

// OpenSender connects and looks for the exchange or queue.
func OpenSender(ctx context.Context, url string, o Options) (*Sender, error) {
	s, err := parse(url, o, false)
	if err != nil {
		return nil, err
	}
	d := &Sender{s: s, done: make(chan struct{}), dialing: make(chan struct{}, 1)}
	for i := range d.lanes {
		d.lanes[i].turn = make(chan struct{}, 1)
	}
	if err := d.check(ctx); err != nil {
		if d.c != nil {
			_ = d.c.CloseDeadline(deadline(s.timeout))
		}
		return nil, s.failed("send", err)
	}
	return d, nil
}

func deadline(d time.Duration) time.Time { return time.Now().Add(d) }

// check fails where exchange or queue do not exist.
func (d *Sender) check(ctx context.Context) error {
	c, err := d.connected(ctx)
	if err != nil {
		return err
	}
	ch, err := d.s.open(c)
	if err != nil {
		return err
	}
	if d.s.queue != "" && d.s.exchange == "" {
		_, err = ch.QueueDeclarePassive(d.s.queue, true, false, false, false, nil)
	} else {
		err = ch.ExchangeDeclarePassive(d.s.exchange, "direct", true, false, false, false, nil)
	}
	if err != nil {
		return err
	}
	return ch.Close()
}

func (d *Sender) closedError() error {
	select {
	case <-d.done:
		return errkind.Errorf(errkind.Closed, "%s: the sender is closed", d.s.where)
	default:
		return nil
	}
}

func (d *Sender) connected(ctx context.Context) (*amqp.Connection, error) {
	select {
	case d.dialing <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-d.done:
		return nil, d.closedError()
	}
	defer func() { <-d.dialing }()
	d.mu.Lock()
	c := d.c
	d.mu.Unlock()
	if c != nil && !c.IsClosed() {
		return c, nil
	}
	c, err := d.s.connect(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.closedError(); err != nil {
		_ = c.Close()
		return nil, err
	}
	d.c = c
	return c, nil
}

// Send implements bus.Sender.
func (d *Sender) Send(ctx context.Context, b bus.Batch) error {
	if err := d.closedError(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	l := &d.lanes[uint(b.Partition)%lanes]
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-d.done:
		return d.closedError()
	}
	defer func() { <-l.turn }()
	refused, err := d.send(ctx, l, b)
	if err != nil {
		if l.ch != nil {
			go func(ch *amqp.Channel) { _ = ch.Close() }(l.ch) // an answer that is missing must not meet the next call
			l.ch = nil
		}
		if closed := d.closedError(); closed != nil {
			return closed
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return d.s.failed("send", err)
	}
	return bus.Refuse(refused)
}

func (d *Sender) open(ctx context.Context, l *lane) error {
	c, err := d.connected(ctx)
	if err != nil {
		return err
	}
	if l.ch != nil && l.c == c && !l.ch.IsClosed() {
		return nil
	}
	ch, err := d.s.open(c)
	if err != nil {
		return err
	}
	l.closed = ch.NotifyClose(make(chan *amqp.Error, 1))
	l.returned = ch.NotifyReturn(make(chan amqp.Return, 1))
	if err := ch.Confirm(false); err != nil {
		return err
	}
	l.c, l.ch = c, ch
	return nil
}

func (d *Sender) send(ctx context.Context, l *lane, b bus.Batch) ([]bus.Refused, error) {
	if err := d.open(ctx, l); err != nil {
		return nil, err
	}
	var refused []bus.Refused
	waits := make([]*amqp.DeferredConfirmation, 0, len(b.Records))
	unroutable := make(chan amqp.Return, 1)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	finish := sync.OnceFunc(func() { close(stop); wg.Wait() })
	defer finish()
	wg.Go(func() { // the client waits for who reads its returns
		for {
			select {
			case m, ok := <-l.returned:
				if !ok {
					return
				}
				select {
				case unroutable <- m:
				default:
				}
			case <-stop:
				return
			}
		}
	})
	for i := range b.Records {
		r := &b.Records[i]
		if n := r.Size(); n > d.s.maxBytes {
			refused = append(refused, bus.Refused{Index: i, Err: errkind.Errorf(errkind.Invalid, "it has %d bytes, the limit is %d", n, d.s.maxBytes)})
			continue
		}
		exchange, key := d.s.exchange, strings.ReplaceAll(d.s.routingKey, "{key}", string(r.Key))
		if exchange == "" {
			key = d.s.queue
		}
		if len(key) > maxShort {
			refused = append(refused, bus.Refused{Index: i, Err: errkind.Errorf(errkind.Invalid, "its routing key has %d bytes, the limit is %d", len(key), maxShort)})
			continue
		}
		w, err := l.ch.PublishWithDeferredConfirmWithContext(ctx, exchange, key, true, false, publishing(r))
		if err != nil {
			return nil, err
		}
		waits = append(waits, w)
	}
	timer := time.NewTimer(d.s.timeout)
	defer timer.Stop()
	for _, w := range waits {
		select {
		case <-w.Done():
			if !w.Acked() {
				if reason := lastError(l.closed); reason != nil {
					return nil, reason
				}
				return nil, errkind.New(errkind.Throttled, "the server refuses a message: the queue is full, or has no majority of its nodes")
			}
		case reason := <-l.closed:
			if reason == nil {
				reason = amqp.ErrClosed
			}
			return nil, reason
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-d.done:
			return nil, d.closedError()
		case <-timer.C:
			return nil, errkind.Errorf(errkind.Transient, "the server did not confirm within %v", d.s.timeout)
		}
	}
	finish()
	for _, ch := range []<-chan amqp.Return{unroutable, l.returned} { // it comes before the confirmation
		select {
		case m, ok := <-ch:
			if ok {
				return nil, errkind.Errorf(errkind.NotFound, "exchange %q has no queue for routing key %q: %s", m.Exchange, m.RoutingKey, m.ReplyText)
			}
		default:
		}
	}
	return refused, nil
}

func lastError(closed <-chan *amqp.Error) error {
	select {
	case err, ok := <-closed:
		if ok && err != nil {
			return err
		}
		return fmt.Errorf("the channel was closed: %w", amqp.ErrClosed)
	default:
		return nil
	}
}

// Close implements bus.Sender.
func (d *Sender) Close() error {
	d.once.Do(func() {
		close(d.done)
		d.mu.Lock()
		c := d.c
		d.mu.Unlock()
		if c != nil {
			_ = c.CloseDeadline(deadline(d.s.timeout))
		}
	})
	return nil
}
