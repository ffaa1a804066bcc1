package mqtt

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/eclipse/paho.golang/packets"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
)

// maxReceive is the greatest number of unacknowledged messages that MQTT knows.
const maxReceive = 65535

// Receiver is a bus.Receiver for one topic filter.
type Receiver struct {
	s      *settings
	limit  int
	logger *slog.Logger
	ctx    context.Context // ends with Close
	end    context.CancelFunc

	dial sync.Mutex // held while connecting; before mu

	mu     sync.Mutex
	closed bool
	link   *link
	// pending are the messages of link that were not acknowledged to the broker, in the order in
	// which they came; waiting are those of them that are not out, in the order to hand out.
	pending, waiting []*message
	came             chan struct{} // takes a sign that there is something to hand out
	room             chan struct{} // takes a sign that something was
}

// message is a message of one link.
type message struct {
	publish *packets.Publish
	of      *link
	nacked  bool
	acked   bool // by the caller; the broker hears of it when those before are
}

// OpenReceiver connects to a broker, opens the session and subscribes.
func OpenReceiver(ctx context.Context, url string, l bus.Limits, o Options) (*Receiver, error) {
	s, err := parse(url, o.Env, true)
	if err != nil {
		return nil, err
	}
	r := &Receiver{s: s, limit: l.Unacknowledged, logger: o.logger(), came: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	if r.limit <= 0 {
		r.limit = bus.DefaultUnacknowledged
	}
	r.limit = min(r.limit, maxReceive)
	r.ctx, r.end = context.WithCancel(context.Background())
	if _, err := r.connected(ctx); err != nil {
		r.end()
		return nil, err
	}
	return r, nil
}

func (r *Receiver) closedError(verb string) error {
	return errkind.Errorf(errkind.Closed, "%s %s: the receiver is closed", verb, r.s.where)
}

// connected returns the link, and makes a new one where it has ended.
func (r *Receiver) connected(ctx context.Context) (*link, error) {
	r.dial.Lock()
	defer r.dial.Unlock()
	r.mu.Lock()
	l, closed := r.link, r.closed
	r.mu.Unlock()
	if closed {
		return nil, r.closedError("receive from")
	}
	if l != nil {
		err := l.failed()
		if err == nil {
			return l, nil
		}
		l.wait.Wait()
		r.forget(l)
		if errkind.Is(err, errkind.Config) {
			return nil, errkind.Errorf(errkind.Config, "receive from %s: %w", r.s.where, err)
		}
		r.logger.Warn("connecting anew", "to", r.s.where, "because", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	granted := make(chan error, 1)
	l, err := connect(ctx, r.s, r.s.connectPacket(false, uint16(r.limit)), func(l *link, p *packets.ControlPacket) error {
		return r.take(l, p, granted)
	})
	if err == nil {
		err = r.subscribe(ctx, l, granted)
	}
	if r.ctx.Err() != nil {
		err = r.closedError("receive from")
	}
	if err != nil && l != nil {
		l.close(err, 0)
		r.forget(l)
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.link = l
	r.mu.Unlock()
	return l, nil
}

func (r *Receiver) subscribe(ctx context.Context, l *link, granted <-chan error) error {
	err := l.write(&packets.Subscribe{
		PacketID: 1, Properties: &packets.Properties{},
		Subscriptions: []packets.SubOptions{{Topic: r.s.filter, QoS: 1, RetainHandling: 1}}, // retained ones at the first time
	})
	if err != nil {
		return errkind.Errorf(errkind.Transient, "subscribe to %s: %w", r.s.where, err)
	}
	ctx, cancel := context.WithTimeout(ctx, r.s.timeout)
	defer cancel()
	select {
	case err := <-granted:
		return err
	case <-l.ended:
		return errkind.Errorf(errkind.Of(l.err), "subscribe to %s: %w", r.s.where, l.err)
	case <-ctx.Done():
		return errkind.Errorf(errkind.Of(ctx.Err()), "subscribe to %s: the server does not answer: %w", r.s.where, ctx.Err())
	}
}

// take takes a packet from the broker.
func (r *Receiver) take(l *link, p *packets.ControlPacket, granted chan<- error) error {
	switch c := p.Content.(type) {
	case *packets.Publish:
		if c.QoS == 0 {
			// Sent at QoS 0, and so without a promise by anybody: there is nothing to acknowledge.
			c.PacketID = 0
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		// What is sent at QoS 0 does not heed the limit: nothing more is read then, until there is room.
		for c.QoS == 0 && len(r.waiting) >= r.limit {
			r.mu.Unlock()
			select {
			case <-r.room:
			case <-l.ended:
			}
			r.mu.Lock()
			if l.failed() != nil {
				return nil
			}
		}
		if len(r.pending) > r.limit+maxReceive {
			return errkind.Errorf(errkind.Transient, "the server sends more than was asked for")
		}
		m := &message{publish: c, of: l}
		r.pending = append(r.pending, m)
		r.waiting = append(r.waiting, m)
		r.signal()
	case *packets.Suback:
		var err error
		if len(c.Reasons) != 1 || c.Reasons[0] >= 0x80 {
			code := byte(0x80)
			if len(c.Reasons) == 1 {
				code = c.Reasons[0]
			}
			err = errkind.Errorf(kindOfReason(code), "subscribe to %s: %s", r.s.where, reason(code, c.Properties))
		} else if c.Reasons[0] < 1 {
			err = errkind.Errorf(errkind.Config, "subscribe to %s: the server grants QoS 0 only, by which messages can get lost", r.s.where)
		}
		select {
		case granted <- err:
		default:
		}
	}
	return nil
}

// signal wakes Receive. It is called with mu held.
func (r *Receiver) signal() {
	select {
	case r.came <- struct{}{}:
	default:
	}
}

// forget drops the messages of a link that has ended: the broker sends them again.
func (r *Receiver) forget(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	gone := func(m *message) bool { return m.of == l }
	r.pending = slices.DeleteFunc(r.pending, gone)
	r.waiting = slices.DeleteFunc(r.waiting, gone)
	if r.link == l {
		r.link = nil
	}
}

// Receive implements bus.Receiver.
func (r *Receiver) Receive(ctx context.Context, most int) ([]bus.Message, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l, err := r.connected(ctx)
		if err != nil {
			return nil, err
		}
		if m := r.hand(most); len(m) > 0 {
			return m, nil
		}
		select {
		case <-r.came:
		case <-l.ended:
		case <-ctx.Done():
		case <-r.ctx.Done():
		}
	}
}

// hand hands messages out.
func (r *Receiver) hand(most int) []bus.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := min(most, len(r.waiting), r.limit-(len(r.pending)-len(r.waiting)-r.settled()))
	if n <= 0 {
		return nil
	}
	ms := make([]bus.Message, n)
	for i, m := range r.waiting[:n] {
		ms[i] = bus.Message{Record: recordOf(m.publish, r.s.key), Token: m, Redelivered: m.nacked || m.publish.Duplicate}
	}
	r.waiting = slices.Delete(r.waiting, 0, n)
	select {
	case r.room <- struct{}{}:
	default:
	}
	return ms
}

// settled is how many pending messages are acknowledged and held back by one before them.
func (r *Receiver) settled() (n int) {
	if len(r.pending) < r.limit {
		return 0 // it does not matter
	}
	for _, m := range r.pending {
		if m.acked {
			n++
		}
	}
	return n
}

// Ack implements bus.Receiver.
func (r *Receiver) Ack(_ context.Context, messages []bus.Message) error {
	l, lost, err := r.mine("acknowledge to", messages, func(m *message) { m.acked = true })
	if err != nil || l == nil {
		return r.conflict(lost, err)
	}
	r.mu.Lock()
	n := 0
	for n < len(r.pending) && r.pending[n].acked {
		n++
	}
	var acks []packets.Packet
	for _, m := range r.pending[:n] {
		if m.publish.PacketID != 0 {
			acks = append(acks, &packets.Puback{PacketID: m.publish.PacketID})
		}
	}
	r.pending = slices.Delete(r.pending, 0, n)
	if len(r.waiting) > 0 {
		r.signal()
	}
	// Under the lock, so that the acknowledgements of two calls keep their order.
	err = l.write(acks...)
	r.mu.Unlock()
	if err != nil {
		l.end(errkind.Errorf(errkind.Transient, "the connection is lost: %w", err))
		return r.conflict(len(messages), nil)
	}
	return r.conflict(lost, nil)
}

// Nack implements bus.Receiver.
func (r *Receiver) Nack(_ context.Context, messages []bus.Message) error {
	var back []*message
	// What is of a connection that was lost comes again anyway.
	_, _, err := r.mine("give back to", messages, func(m *message) {
		m.nacked = true
		back = append(back, m)
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = append(back, r.waiting...)
	r.signal()
	return nil
}

// mine calls f for each message that is of the link in use, and counts the others.
func (r *Receiver) mine(verb string, messages []bus.Message, f func(*message)) (l *link, lost int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, 0, r.closedError(verb)
	}
	l = r.link
	for i := range messages {
		m, ok := messages[i].Token.(*message)
		switch {
		case !ok:
			return nil, 0, errkind.Errorf(errkind.Invalid, "%s %s: the message is of another receiver", verb, r.s.where)
		case l == nil || m.of != l || l.failed() != nil:
			lost++
		case !m.acked:
			f(m)
		}
	}
	return l, lost, nil
}

func (r *Receiver) conflict(lost int, err error) error {
	if err == nil && lost > 0 {
		return errkind.Errorf(errkind.Conflict, "acknowledge to %s: the connection was lost: %d messages come again", r.s.where, lost)
	}
	return err
}

// Close implements bus.Receiver.
func (r *Receiver) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.dial.Lock() // nobody connects any more
	defer r.dial.Unlock()
	r.mu.Lock()
	l := r.link
	r.mu.Unlock()
	if l != nil {
		l.close(errkind.New(errkind.Closed, "the receiver is closed"), r.s.timeout)
		r.forget(l)
	}
	return nil
}
