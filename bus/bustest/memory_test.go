package bustest

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// memQueue is a queue in memory that keeps the contract, but for its faults.
type memQueue struct {
	f       receiverFaults
	mu      sync.Mutex
	changed chan struct{}
	ready   []*memMessage
	taken   int // messages taken in for good, for faults
}

type memMessage struct {
	rec   event.Record
	often int
	owner *memReceiver // while it is out
	gone  bool         // acknowledged
}

// receiverFaults are ways in which a receiver can break the contract.
type receiverFaults struct {
	earlyAck       bool // a message is acknowledged when it is received
	lostNack       bool // what is given back is dropped
	reorder        bool // two messages change places
	forget         bool // one message of many is never handed out
	wrongAck       bool // the message after the acknowledged one is acknowledged
	noAck          bool // acknowledgements do nothing
	cumulativeAck  bool // an acknowledgement takes everything out before with it
	twice          bool // a message is handed out twice at once
	noLimit        bool // more is out than the limit allows
	tooMany        bool // more is returned than asked for
	deafToContext  bool // a waiting Receive does not look at its context
	deafToClose    bool // a waiting Receive does not notice Close
	usableClosed   bool // calls after Close succeed
	newID          bool // a redelivery has an ID of its own
	reuse          bool // the memory of a message is used again
	dropKey        bool // keys do not arrive
	dropHeaders    bool // headers do not arrive
	cutBinary      bool // values end at the first zero byte
	loseOnCancel   bool // a message that comes with the end of the context is dropped
	loseOnRestart  bool // what is out when the server restarts is gone
	keepOnClose    bool // Close does not give messages back
	forgetAcks     bool // acknowledged messages come again after a restart
	untoldRepeat   bool // Redelivered is not set
	silentOnNoting bool // Receive on an empty queue returns nothing and no error
}

func newMemQueue(f receiverFaults) *memQueue {
	return &memQueue{f: f, changed: make(chan struct{})}
}

func (q *memQueue) signal() {
	close(q.changed)
	q.changed = make(chan struct{})
}

func clone(r event.Record) event.Record {
	return event.Record{ID: bytes.Clone(r.ID), Key: bytes.Clone(r.Key), Headers: bytes.Clone(r.Headers), Value: bytes.Clone(r.Value)}
}

func (q *memQueue) publish(_ context.Context, recs []event.Record) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range recs {
		if q.taken++; q.f.forget && q.taken == 7 {
			continue
		}
		r := clone(recs[i])
		if q.f.dropKey {
			r.Key = nil
		}
		if q.f.dropHeaders {
			r.Headers = nil
		}
		if i := bytes.IndexByte(r.Value, 0); q.f.cutBinary && i >= 0 {
			r.Value = r.Value[:i]
		}
		q.ready = append(q.ready, &memMessage{rec: r})
	}
	if n := len(q.ready); q.f.reorder && n > 2 {
		q.ready[n-1], q.ready[n-2] = q.ready[n-2], q.ready[n-1]
	}
	q.signal()
	return nil
}

// back gives messages back at the front.
func (q *memQueue) back(m []*memMessage) {
	q.ready = append(slices.Clone(m), q.ready...)
	q.signal()
}

// restart cuts all receivers off; what is out is handed out again.
func (q *memQueue) restart(rs []*memReceiver) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range rs {
		if q.f.loseOnRestart {
			r.out = nil
		}
		if q.f.forgetAcks {
			q.ready = append(q.ready, r.acked...)
		}
		for _, m := range r.out {
			m.owner = nil
		}
		out := r.out
		r.out = nil
		q.back(out)
	}
}

type memReceiver struct {
	q      *memQueue
	limit  int
	out    []*memMessage
	acked  []*memMessage
	last   []byte // for the fault reuse
	closed bool
}

func (q *memQueue) open(l bus.Limits) *memReceiver {
	if l.Unacknowledged == 0 {
		l.Unacknowledged = bus.DefaultUnacknowledged
	}
	return &memReceiver{q: q, limit: l.Unacknowledged}
}

func errClosed() error { return errkind.New(errkind.Closed, "the receiver is closed") }

func (r *memReceiver) Receive(ctx context.Context, most int) ([]bus.Message, error) {
	q := r.q
	for {
		q.mu.Lock()
		if r.closed && !q.f.usableClosed && !q.f.deafToClose {
			q.mu.Unlock()
			return nil, errClosed()
		}
		n := min(most, len(q.ready), r.limit-len(r.out))
		if q.f.noLimit {
			n = min(most, len(q.ready))
		}
		if q.f.tooMany && len(q.ready) > most {
			n = most + 1
		}
		if ctx.Err() != nil && !q.f.deafToContext {
			if n > 0 && q.f.loseOnCancel {
				q.ready = q.ready[n:]
			}
			q.mu.Unlock()
			return nil, ctx.Err()
		}
		if n > 0 || q.f.silentOnNoting {
			m := r.hand(max(n, 0))
			q.mu.Unlock()
			return m, nil
		}
		changed := q.changed
		q.mu.Unlock()
		done := ctx.Done()
		if q.f.deafToContext {
			done = nil
		}
		select {
		case <-done:
		case <-changed:
		}
	}
}

func (r *memReceiver) hand(n int) []bus.Message {
	q := r.q
	ms := make([]bus.Message, 0, n)
	for _, m := range q.ready[:n] {
		rec := clone(m.rec)
		if m.often++; q.f.newID && m.often > 1 {
			rec.ID = append(rec.ID, "-again"...)
		}
		if q.f.reuse && len(rec.Value) == len(r.last) {
			copy(r.last, rec.Value)
			rec.Value = r.last
		}
		r.last = rec.Value
		m.owner = r
		ms = append(ms, bus.Message{Record: rec, Token: m, Redelivered: m.often > 1 && !q.f.untoldRepeat})
		if !q.f.earlyAck {
			r.out = append(r.out, m)
		}
	}
	if q.f.twice && q.taken > 20 && n > 0 {
		q.taken = 0
		q.ready = append(q.ready, q.ready[0])
	}
	q.ready = q.ready[n:]
	return ms
}

func (r *memReceiver) settle(ms []bus.Message, ack bool) error {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	if r.closed && !r.q.f.usableClosed {
		return errClosed()
	}
	if ack && r.q.f.noAck {
		return nil
	}
	conflict := false
	var returned []*memMessage
	for i := range ms {
		m := ms[i].Token.(*memMessage)
		at := slices.Index(r.out, m)
		if at < 0 {
			conflict = conflict || (!m.gone && !r.q.f.earlyAck)
			continue
		}
		if ack && r.q.f.wrongAck && len(r.out) > at+1 {
			at++
		}
		m = r.out[at]
		from := at
		if ack && r.q.f.cumulativeAck {
			from = 0
		}
		r.out = slices.Delete(r.out, from, at+1)
		m.gone = ack
		if !ack {
			returned = append(returned, m)
		} else {
			r.acked = append(r.acked, m)
		}
	}
	if r.q.f.lostNack {
		returned = nil
	}
	r.q.back(returned)
	if conflict {
		return errkind.New(errkind.Conflict, "some messages were taken back")
	}
	return nil
}

func (r *memReceiver) Ack(_ context.Context, m []bus.Message) error  { return r.settle(m, true) }
func (r *memReceiver) Nack(_ context.Context, m []bus.Message) error { return r.settle(m, false) }

func (r *memReceiver) Close() error {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	out := r.out
	r.out = nil
	if r.q.f.keepOnClose {
		out = nil
	}
	r.q.back(out)
	return nil
}

// memStore is a store in memory that keeps the contract, but for its faults.
type memStore struct {
	f       senderFaults
	keyed   bool
	mu      sync.Mutex
	recs    []event.Record
	ids     map[string]bool
	stalled chan struct{} // closed while the store answers
}

// senderFaults are ways in which a sender can break the contract.
type senderFaults struct {
	forget        bool // the last record of a batch is not stored
	reorder       bool // two records change places
	keepsBytes    bool // the caller's slices are kept
	late          bool // Send returns before a batch is stored; the next call stores it
	doubles       bool // a store by ID has repeats twice
	dropsRefused  bool // a refused record takes its batch with it
	silentRefusal bool // a refused record is dropped without a word
	wrongIndex    bool // the record after the refused one is named
	stopsRefusing bool // what comes after a refused record is not stored
	usableClosed  bool // Send after Close succeeds
	noContext     bool // an ended context is not looked at
	deafToContext bool // a hanging Send does not look at its context
	deafToClose   bool // a hanging Send does not notice Close
	dropHeaders   bool // headers are not stored
	loseOnRestart bool // what was taken last is gone after a restart
	newRepeats    bool // a repeat that overlaps is dropped whole
}

type memSender struct {
	s      *memStore
	closed chan struct{}
	once   sync.Once
	held   []event.Record // for the fault late
}

const refusedKey = "refused"

func (m *memSender) Send(ctx context.Context, b bus.Batch) error {
	s := m.s
	select {
	case <-m.closed:
		if !s.f.usableClosed {
			return errClosed()
		}
	default:
	}
	if ctx.Err() != nil && !s.f.noContext {
		return ctx.Err()
	}
	done, closed := ctx.Done(), m.closed
	if s.f.deafToContext {
		done = nil
	}
	if s.f.deafToClose {
		closed = nil
	}
	s.mu.Lock()
	stalled := s.stalled
	s.mu.Unlock()
	if stalled != nil {
		select {
		case <-stalled:
		case <-done:
			return ctx.Err()
		case <-closed:
			return errClosed()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var refused []bus.Refused
	var take []event.Record
	for i := range b.Records {
		if string(b.Records[i].Key) == refusedKey {
			at := i
			if s.f.wrongIndex {
				at++
			}
			refused = append(refused, bus.Refused{Index: at, Err: errkind.New(errkind.Invalid, "too large")})
			continue
		}
		if s.f.stopsRefusing && len(refused) > 0 {
			continue
		}
		r := b.Records[i]
		if !s.f.keepsBytes {
			r = clone(r)
		}
		if s.f.dropHeaders {
			r.Headers = nil
		}
		take = append(take, r)
	}
	if s.f.forget && len(take) > 9 {
		take = take[:len(take)-1]
	}
	if s.f.reorder && len(take) > 3 {
		take[1], take[2] = take[2], take[1]
	}
	if s.f.dropsRefused && len(refused) > 0 {
		take = nil
	}
	if s.f.newRepeats && len(take) > 0 && s.ids[string(take[0].ID)] {
		take = nil
	}
	if s.f.late {
		take, m.held = m.held, take
	}
	s.store(take)
	if s.f.silentRefusal {
		return nil
	}
	return bus.Refuse(refused)
}

func (s *memStore) store(recs []event.Record) {
	for _, r := range recs {
		if s.keyed && s.ids[string(r.ID)] && !s.f.doubles {
			continue
		}
		s.ids[string(r.ID)] = true
		s.recs = append(s.recs, r)
	}
}

func (m *memSender) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (s *memStore) read(testing.TB, int) []event.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.recs)
}

func (s *memStore) restart(testing.TB) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.recs); s.f.loseOnRestart && n > 0 {
		s.recs = s.recs[:n-1]
	}
}

func (s *memStore) stall(testing.TB) (resume func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{})
	s.stalled = c
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stalled = nil
		close(c)
	}
}
