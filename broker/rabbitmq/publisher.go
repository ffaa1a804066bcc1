package rabbitmq

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/freshet-io/freshet/errkind"
)

// publisher sends messages to one stream, in the order of its calls.
type publisher struct {
	c      *conn
	id     uint8
	stream string

	turn sync.Mutex // held while the frames of one call are queued

	mu    sync.Mutex
	err   error
	last  uint64 // publishing id given last
	calls []*publication
}

// publication is one call's messages on their way.
type publication struct {
	last uint64 // publishing id of its last message
	left int
	err  error
	done chan struct{}
}

// publish declares a publisher. reference names it for deduplication; empty for none.
func (c *conn) publish(ctx context.Context, stream, reference string) (*publisher, error) {
	p := &publisher{c: c, stream: stream}
	c.mu.Lock()
	free := -1
	for i := range c.pubs {
		if c.pubs[i] == nil {
			free = i
			break
		}
	}
	if free >= 0 && c.err == nil {
		p.id = uint8(free)
		c.pubs[free] = p
	}
	c.mu.Unlock()
	if free < 0 {
		return nil, errkind.New(errkind.Throttled, "the connection carries as many publishers as it can")
	}
	_, err := c.ask(ctx, cmdDeclarePublisher, func(b []byte) []byte {
		b = append(b, p.id)
		b = appendString(b, reference)
		return appendString(b, stream)
	})
	if err != nil {
		if k := errkind.Of(err); k == errkind.NotFound || k == errkind.Config {
			c.mu.Lock()
			c.pubs[p.id] = nil
			c.mu.Unlock()
			return nil, err
		}
		p.close() // it may have been declared all the same
		return nil, err
	}
	return p, nil
}

// close ends the publisher without waiting for the server.
func (p *publisher) close() {
	p.end(errkind.New(errkind.Transient, "the publisher was ended"))
	_, _ = p.c.requestThen(context.Background(), cmdDeletePublisher, func(b []byte) []byte { return append(b, p.id) }, func() {
		p.c.mu.Lock()
		if p.c.pubs[p.id] == p {
			p.c.pubs[p.id] = nil
		}
		p.c.mu.Unlock()
	})
}

func (p *publisher) end(err error) {
	p.mu.Lock()
	if p.err == nil {
		p.err = err
	}
	calls := p.calls
	p.calls = nil
	p.mu.Unlock()
	for _, w := range calls {
		w.err = err
		close(w.done)
	}
}

func (p *publisher) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// begin registers n messages and returns the publishing id of the first.
func (p *publisher) begin(n int) (*publication, uint64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return nil, 0, p.err
	}
	id := p.last + 1
	p.last += uint64(n)
	w := &publication{last: p.last, left: n, done: make(chan struct{})}
	p.calls = append(p.calls, w)
	return w, id, nil
}

// send queues n messages, of which fill appends number i, as few frames.
func (p *publisher) send(ctx context.Context, messages *messages) (*publication, error) {
	p.turn.Lock()
	defer p.turn.Unlock()
	w, id, err := p.begin(messages.len())
	if err != nil {
		return nil, err
	}
	for i := 0; i < messages.len(); {
		n, size := 0, 4+4+1+4
		for i+n < messages.len() {
			size += 8 + 4 + len(messages.at(i+n))
			if n > 0 && size > p.c.frameMax-64 {
				break
			}
			n++
		}
		err := p.c.send(ctx, func(b []byte) []byte {
			b = appendHeader(b, cmdPublish)
			b = append(b, p.id)
			b = binary.BigEndian.AppendUint32(b, uint32(n))
			for j := i; j < i+n; j++ {
				m := messages.at(j)
				b = binary.BigEndian.AppendUint64(b, id+uint64(j))
				b = binary.BigEndian.AppendUint32(b, uint32(len(m)))
				b = append(b, m...)
			}
			return b
		})
		if err != nil {
			// Confirmations of the rest will never come.
			p.mu.Lock()
			for k, c := range p.calls {
				if c == w {
					p.calls = append(p.calls[:k], p.calls[k+1:]...)
					break
				}
			}
			p.mu.Unlock()
			return nil, err
		}
		i += n
	}
	return w, nil
}

// settle counts confirmations, which come in the order of the messages but for
// those that were refused.
func (p *publisher) settle(ids int, id func(i int) uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range ids {
		v := id(i)
		for k, w := range p.calls {
			if v > w.last {
				continue
			}
			if err != nil && w.err == nil {
				w.err = err
			}
			if w.left--; w.left == 0 {
				close(w.done)
				p.calls = append(p.calls[:k], p.calls[k+1:]...)
			}
			break
		}
	}
}

func (c *conn) publisher(id uint8) *publisher {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pubs[id]
}

func (c *conn) confirm(in *input) {
	p := c.publisher(in.uint8())
	n := in.uint32()
	ids := in.take(int(n) * 8)
	if p != nil && !in.bad {
		p.settle(int(n), func(i int) uint64 { return binary.BigEndian.Uint64(ids[8*i:]) }, nil)
	}
}

func (c *conn) refuse(in *input) {
	p := c.publisher(in.uint8())
	for n := in.uint32(); n > 0 && !in.bad; n-- {
		id, code := in.uint64(), in.uint16()
		if p != nil && !in.bad {
			p.settle(1, func(int) uint64 { return id }, codeError(code))
		}
	}
}

// messages are encoded messages, one behind the other.
type messages struct {
	b    []byte
	ends []int
}

func (m *messages) reset()   { m.b, m.ends = m.b[:0], m.ends[:0] }
func (m *messages) len() int { return len(m.ends) }

func (m *messages) at(i int) []byte {
	from := 0
	if i > 0 {
		from = m.ends[i-1]
	}
	return m.b[from:m.ends[i]]
}
