package mqtt

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
)

// maxUnderWay bounds the publications under way, below what brokers allow.
const maxUnderWay = 4096

// writeAtOnce is how many publications are written in one go.
const writeAtOnce = 64

// Sender is a bus.Sender for one topic or template of topics.
type Sender struct {
	s      *settings
	logger *slog.Logger
	ctx    context.Context // ends with Close
	end    context.CancelFunc
	calls  sync.WaitGroup

	dial sync.Mutex // held while connecting
	line *line      // dial guards it

	mu     sync.Mutex
	closed bool
}

// line is a link with what is under way on it.
type line struct {
	*link
	slots chan uint16 // packet identifiers that are free

	mu      sync.Mutex
	waiting map[uint16]place
}

// place is where the answer to a publication belongs.
type place struct {
	of    *answers
	index int
}

// answers are what the broker says to the publications of one Send.
type answers struct {
	left    int // not yet answered; line.mu guards it and refused
	refused []refusal
	done    chan struct{} // closed when all are
}

type refusal struct {
	index int
	code  byte
	props *packets.Properties
}

// OpenSender connects to a broker.
func OpenSender(ctx context.Context, url string, o Options) (*Sender, error) {
	cfg, err := parse(url, o.Env, false)
	if err != nil {
		return nil, err
	}
	s := &Sender{s: cfg, logger: o.logger()}
	s.ctx, s.end = context.WithCancel(context.Background())
	if _, err := s.connected(ctx); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

func (s *Sender) closedError() error {
	return errkind.Errorf(errkind.Closed, "send to %s: the sender is closed", s.s.where)
}

// connected returns the line, and makes a new one where it has ended.
func (s *Sender) connected(ctx context.Context) (*line, error) {
	s.dial.Lock()
	defer s.dial.Unlock()
	if s.ctx.Err() != nil {
		return nil, s.closedError()
	}
	if s.line != nil {
		err := s.line.failed()
		if err == nil {
			return s.line, nil
		}
		s.line.wait.Wait()
		s.line = nil
		if errkind.Is(err, errkind.Config) {
			return nil, errkind.Errorf(errkind.Config, "send to %s: %w", s.s.where, err)
		}
		s.logger.Warn("connecting anew", "to", s.s.where, "because", err)
	}
	n := &line{waiting: map[uint16]place{}}
	l, err := connect(ctx, s.s, s.s.connectPacket(true, 0), func(_ *link, p *packets.ControlPacket) error {
		if ack, ok := p.Content.(*packets.Puback); ok {
			n.answered(ack)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	n.link = l
	most := min(l.receiveMaximum, maxUnderWay)
	n.slots = make(chan uint16, most)
	for id := range most {
		n.slots <- uint16(id + 1)
	}
	s.line = n
	return n, nil
}

func (n *line) answered(ack *packets.Puback) {
	n.mu.Lock()
	at, ok := n.waiting[ack.PacketID]
	delete(n.waiting, ack.PacketID)
	if ok {
		if ack.ReasonCode >= 0x80 {
			at.of.refused = append(at.of.refused, refusal{at.index, ack.ReasonCode, ack.Properties})
		}
		if at.of.left--; at.of.left == 0 {
			close(at.of.done)
		}
	}
	n.mu.Unlock()
	if ok {
		n.slots <- ack.PacketID // there is room: it came from there
	}
}

// Send implements bus.Sender.
func (s *Sender) Send(caller context.Context, b bus.Batch) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return s.closedError()
	}
	s.calls.Add(1)
	s.mu.Unlock()
	defer s.calls.Done()
	ctx, cancel := context.WithCancel(caller)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	err := s.send(ctx, b)
	if err == nil {
		return nil
	}
	switch {
	case caller.Err() != nil:
		return caller.Err()
	case s.ctx.Err() != nil:
		return s.closedError()
	}
	return err
}

func (s *Sender) send(ctx context.Context, b bus.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n, err := s.connected(ctx)
	if err != nil {
		return err
	}
	var refused []bus.Refused
	// One more than there are, until all are written.
	all := &answers{left: 1, done: make(chan struct{})}
	group := make([]packets.Packet, 0, writeAtOnce)
	for i := range b.Records {
		p, err := s.s.publication(b.Topic, &b.Records[i])
		if err == nil && n.maxPacket > 0 && size(p) > uint64(n.maxPacket) {
			err = errkind.Errorf(errkind.Invalid, "the message has %d bytes, the server takes %d", size(p), n.maxPacket)
		}
		if err != nil {
			refused = append(refused, bus.Refused{Index: i, Err: err})
			continue
		}
		if len(n.slots) == 0 || len(group) == cap(group) {
			if err := s.write(ctx, n, group); err != nil {
				return err
			}
			group = group[:0]
		}
		if p.PacketID, err = s.slot(ctx, n); err != nil {
			return err
		}
		n.mu.Lock()
		all.left++
		n.waiting[p.PacketID] = place{all, i}
		n.mu.Unlock()
		group = append(group, p)
	}
	if err := s.write(ctx, n, group); err != nil {
		return err
	}
	if err := s.await(ctx, n, all); err != nil {
		return err
	}
	for _, r := range all.refused {
		err := errkind.Errorf(kindOfReason(r.code), "send to %s: %s", s.s.where, reason(r.code, r.props))
		switch r.code {
		case 0x90, 0x95, 0x99: // topic, size, format: this record alone
			refused = append(refused, bus.Refused{Index: r.index, Err: err})
		default:
			return err
		}
	}
	slices.SortFunc(refused, func(a, b bus.Refused) int { return a.Index - b.Index })
	return bus.Refuse(refused)
}

// slot waits until one more publication may be under way.
func (s *Sender) slot(ctx context.Context, n *line) (uint16, error) {
	select {
	case id := <-n.slots:
		return id, nil
	default:
	}
	t := time.NewTimer(s.s.timeout)
	defer t.Stop()
	select {
	case id := <-n.slots:
		return id, nil
	case <-n.ended:
		return 0, s.lost(n)
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-t.C:
		n.end(errkind.New(errkind.Transient, "the server does not answer"))
		return 0, s.lost(n)
	}
}

// await waits for the answers to all that was written.
func (s *Sender) await(ctx context.Context, n *line, all *answers) error {
	n.mu.Lock()
	all.left--
	left := all.left
	n.mu.Unlock()
	if left == 0 {
		return nil
	}
	t := time.NewTimer(s.s.timeout)
	defer t.Stop()
	for {
		select {
		case <-all.done:
			return nil
		case <-n.ended:
			return s.lost(n)
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		n.mu.Lock()
		before := left
		left = all.left
		n.mu.Unlock()
		if left == before { // not one answer all that time
			n.end(errkind.New(errkind.Transient, "the server does not answer"))
			return s.lost(n)
		}
		t.Reset(s.s.timeout)
	}
}

func (s *Sender) lost(n *line) error {
	return errkind.Errorf(errkind.Of(n.err), "send to %s: %w", s.s.where, n.err)
}

// write writes publications. A context that ends meanwhile ends the line, because
// half a publication may be written.
func (s *Sender) write(ctx context.Context, n *line, group []packets.Packet) error {
	if len(group) == 0 {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { n.end(errkind.New(errkind.Transient, "a call was given up in the middle")) })
	defer stop()
	if err := n.write(group...); err != nil {
		n.end(errkind.Errorf(errkind.Transient, "the connection is lost: %w", err))
		return s.lost(n)
	}
	return nil
}

// size is at least the number of bytes of a publication's packet.
func size(p *packets.Publish) uint64 {
	n := 16 + len(p.Topic) + len(p.Payload) + len(p.Properties.ContentType)
	for i := range p.Properties.User {
		n += 5 + len(p.Properties.User[i].Key) + len(p.Properties.User[i].Value)
	}
	return uint64(n)
}

// Close implements bus.Sender.
func (s *Sender) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.calls.Wait()
	s.dial.Lock()
	defer s.dial.Unlock()
	if s.line != nil {
		s.line.close(errkind.New(errkind.Closed, "the sender is closed"), 0) // all that counts was answered
	}
	return nil
}
