package rabbitmq

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/freshet-io/freshet/errkind"
)

// offset says where a subscription begins.
type offset struct {
	kind  uint16
	value int64
}

var (
	firstChunk = offset{kind: 1}
	last       = offset{kind: 2} // the last chunk
)

func at(position int64) offset   { return offset{4, position} }
func atTime(millis int64) offset { return offset{5, millis} }
func (o offset) hasValue() bool  { return o.kind >= 4 }
func (o offset) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, o.kind)
	if o.hasValue() {
		b = binary.BigEndian.AppendUint64(b, uint64(o.value))
	}
	return b
}

const (
	// credits is how many chunks a server may have under way to one subscription.
	credits = 16
	// creditsAtOnce is how many are given together: the server looks for chunks to
	// send each time.
	creditsAtOnce = 8
	// maxQueued is how many bytes of chunks wait to be taken before the server is
	// given no more credits. What is published singly comes in chunks of one record.
	maxQueued = 4 << 20
	// chunkCost is what a chunk takes beyond its messages, about.
	chunkCost = 256
)

// subscription receives the chunks of one stream.
type subscription struct {
	c      *conn
	id     uint8
	stream string
	flows  bool // what comes is replaced by further credits

	mu     sync.Mutex
	queue  []*chunk
	queued int   // bytes
	owed   int   // credits that the server has used
	newest int64 // behind the last record that came
	err    error
	ready  chan struct{} // has an element when there may be something to take
}

// reserve gives a subscription a number on c; ok is false where all are taken.
func (c *conn) reserve(stream string, flows bool) (s *subscription, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.subs {
		if c.subs[i] == nil {
			s := &subscription{c: c, id: uint8(i), stream: stream, flows: flows, ready: make(chan struct{}, 1)}
			if c.err != nil {
				s.err = c.err
			}
			c.subs[i] = s
			return s, true
		}
	}
	return nil, false
}

func (c *conn) drop(s *subscription) {
	c.mu.Lock()
	if c.subs[s.id] == s {
		c.subs[s.id] = nil
	}
	c.mu.Unlock()
}

func (s *subscription) request(o offset, credit uint16) func(b []byte) []byte {
	return func(b []byte) []byte {
		b = append(b, s.id)
		b = appendString(b, s.stream)
		b = o.append(b)
		return binary.BigEndian.AppendUint16(b, credit)
	}
}

func (s *subscription) unsubscribe(b []byte) []byte { return append(b, s.id) }

var errNoSubscription = errkind.New(errkind.Throttled, "the connection carries as many subscriptions as it can")

// subscribe begins to read a stream.
func (c *conn) subscribe(ctx context.Context, stream string, o offset) (*subscription, error) {
	s, ok := c.reserve(stream, true)
	if !ok {
		return nil, errNoSubscription
	}
	if _, err := c.ask(ctx, cmdSubscribe, s.request(o, credits)); err != nil {
		if errkind.Of(err) == errkind.NotFound {
			c.drop(s)
		} else {
			s.close() // it may have been made all the same
		}
		return nil, err
	}
	return s, nil
}

// look begins to read the chunk at o and ends the subscription in one go; wait
// returns nil where there is no such chunk. The server sends the chunk, if there
// is one, between the answers of the two requests.
func (c *conn) look(ctx context.Context, stream string, o offset) (wait func(context.Context) (*chunk, error), err error) {
	s, ok := c.reserve(stream, false)
	if !ok {
		return nil, errNoSubscription
	}
	begun, err := c.request(ctx, cmdSubscribe, s.request(o, 1))
	if err != nil {
		c.drop(s)
		return nil, err
	}
	ended, err := c.requestThen(ctx, cmdUnsubscribe, s.unsubscribe, func() { c.drop(s) })
	if err != nil {
		return nil, err // the number stays taken: the subscription is there
	}
	return func(ctx context.Context) (*chunk, error) {
		if _, err := begun(ctx); err != nil {
			return nil, err
		}
		if _, err := ended(ctx); err != nil {
			return nil, err
		}
		return s.take()
	}, nil
}

// close ends the subscription without waiting for the server.
func (s *subscription) close() {
	s.end(errkind.New(errkind.Transient, "the subscription was ended"))
	_, _ = s.c.requestThen(context.Background(), cmdUnsubscribe, s.unsubscribe, func() { s.c.drop(s) })
}

func (s *subscription) end(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.mu.Unlock()
	s.signal()
}

func (s *subscription) signal() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// take returns the next chunk, nil where none has come, or why there will be none.
func (s *subscription) take() (*chunk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return nil, s.err
	}
	k := s.queue[0]
	s.queue[0] = nil
	s.queue = s.queue[1:]
	s.queued -= k.cost()
	if s.queued < maxQueued/2 {
		s.grant()
	}
	return k, nil
}

// seen is behind all that has come, and whether that is all that there is, as far
// as is known: the server has credits to send more.
func (s *subscription) seen() (end int64, all bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest, s.owed < credits
}

// grant gives the server the credits that it used; s is locked.
func (s *subscription) grant() {
	if s.owed < creditsAtOnce || s.err != nil {
		return
	}
	s.c.sendNow(func(b []byte) []byte {
		b = appendHeader(b, cmdCredit)
		b = append(b, s.id)
		return binary.BigEndian.AppendUint16(b, uint16(s.owed))
	})
	s.owed = 0
}

// deliver hands a chunk to its subscription.
func (c *conn) deliver(in *input) {
	id := in.uint8()
	k, err := parseChunk(in.b)
	c.mu.Lock()
	s := c.subs[id]
	c.mu.Unlock()
	if s == nil {
		return
	}
	if err != nil {
		s.end(err)
		return
	}
	s.add(k)
	s.signal()
}

// add queues a chunk and has the server send another where there is room.
func (s *subscription) add(k *chunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.queue = append(s.queue, k)
	s.queued += k.cost()
	if k.user {
		s.newest = k.end()
	}
	if !s.flows {
		return
	}
	if s.owed++; s.queued < maxQueued {
		s.grant()
	}
}

// cost is how many bytes the chunk takes that was not cut yet.
func (k *chunk) cost() int { return len(k.data) + chunkCost }
