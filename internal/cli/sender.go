package cli

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
)

// Limits of a batch on its way to the broker.
const (
	sendRecords = 1000
	sendBytes   = 1 << 20
	maxLanes    = 64
	sendLinger  = 5 * time.Millisecond
)

// publisher is what a sender needs of a broker.
type publisher interface {
	Publish(ctx context.Context, topic string, recs []event.Record) (broker.Published, error)
}

// sender publishes events in batches, several at a time. Each lane carries the
// events of its partitions one batch after the other, so that the events of a
// partition keep their order. Memory is bounded: a lane holds the batch that
// is being filled, one that waits and one that is being published.
type sender struct {
	to         publisher
	topic      string
	partitions int
	lanes      []*lane
	spread     int // next lane of an event without a key
	ctx        context.Context
	cancel     context.CancelCauseFunc
	wg         sync.WaitGroup
	mu         sync.Mutex // guards lanes' open batches and spread
	stop       chan struct{}
	ticking    sync.WaitGroup

	stored, duplicates, bytes atomic.Int64
}

type lane struct {
	open  *sendBatch
	ready chan *sendBatch
	free  chan *sendBatch
}

type sendBatch struct {
	records []event.Record
	buf     []byte
}

func newSender(ctx context.Context, to publisher, topic string, partitions int) *sender {
	s := &sender{to: to, topic: topic, partitions: partitions}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	for range min(partitions, maxLanes) {
		l := &lane{ready: make(chan *sendBatch, 1), free: make(chan *sendBatch, 3), open: &sendBatch{}}
		l.free <- &sendBatch{}
		l.free <- &sendBatch{}
		s.lanes = append(s.lanes, l)
		s.wg.Add(1)
		go s.carry(l)
	}
	s.stop = make(chan struct{})
	s.ticking.Add(1)
	go s.tick()
	return s
}

// tick lets no event wait for its batch to fill: a slow source, such as a
// terminal, is published as it comes.
func (s *sender) tick() {
	defer s.ticking.Done()
	t := time.NewTicker(sendLinger)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			s.nudge()
		case <-s.stop:
			return
		}
	}
}

// carry publishes the batches of one lane.
func (s *sender) carry(l *lane) {
	defer s.wg.Done()
	for b := range l.ready {
		if s.ctx.Err() == nil {
			p, err := s.to.Publish(s.ctx, s.topic, b.records)
			s.stored.Add(int64(p.Stored))
			s.duplicates.Add(int64(p.Duplicates))
			if err != nil {
				s.cancel(err)
			} else {
				s.bytes.Add(int64(len(b.buf)))
			}
		}
		b.records, b.buf = b.records[:0], b.buf[:0]
		l.free <- b
	}
}

// add takes a copy of one event; it waits while the broker is slower. The
// error is the first one that a batch met.
func (s *sender) add(id, key, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var l *lane
	if len(key) > 0 {
		l = s.lanes[broker.PartitionFor(key, s.partitions)%len(s.lanes)]
	} else {
		l = s.lanes[s.spread%len(s.lanes)]
		s.spread++
	}
	b := l.open
	size := len(id) + len(key) + len(value)
	if len(b.records) == sendRecords || len(b.records) > 0 && len(b.buf)+size > sendBytes {
		if err := s.handOver(l); err != nil {
			return err
		}
		b = l.open
	}
	b.buf = growBytes(b.buf, size)
	var r event.Record
	b.buf, r.ID = appendCut(b.buf, id)
	b.buf, r.Key = appendCut(b.buf, key)
	b.buf, r.Value = appendCut(b.buf, value)
	b.records = append(b.records, r)
	return nil
}

// growBytes makes room for n more bytes. Slices of records may go on pointing
// into the old array, which stays alive and unchanged for as long as they do.
func growBytes(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	grown := make([]byte, len(b), max(2*cap(b), len(b)+n, 64<<10))
	copy(grown, b)
	return grown
}

func appendCut(b, v []byte) (grown, cut []byte) {
	if v == nil {
		return b, nil
	}
	start := len(b)
	b = append(b, v...)
	return b, b[start:len(b):len(b)]
}

// handOver gives the lane's open batch to its carrier and opens another.
func (s *sender) handOver(l *lane) error {
	if len(l.open.records) == 0 {
		return nil
	}
	select {
	case l.ready <- l.open:
	case <-s.ctx.Done():
		return context.Cause(s.ctx)
	}
	l.open = <-l.free
	return nil
}

// nudge hands over every open batch whose carrier is idle.
func (s *sender) nudge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.lanes {
		if len(l.open.records) == 0 {
			continue
		}
		select {
		case l.ready <- l.open:
			l.open = <-l.free
		default:
		}
	}
}

// finish publishes what is left and waits until everything is durable.
func (s *sender) finish() error {
	close(s.stop)
	s.ticking.Wait()
	for _, l := range s.lanes {
		if err := s.handOver(l); err != nil {
			break
		}
	}
	for _, l := range s.lanes {
		close(l.ready)
	}
	s.wg.Wait()
	err := context.Cause(s.ctx)
	s.cancel(nil)
	return err
}

// pacer tells when the n-th event is due: an open loop, which does not slow
// down with whatever takes the events.
type pacer struct {
	rate  float64 // events/s; 0 is flat out
	start time.Time
	n     int64
}

// due returns how long the next event has to wait, and counts it.
func (p *pacer) due(now time.Time) time.Duration {
	if p.rate <= 0 {
		return 0
	}
	at := p.start.Add(time.Duration(float64(p.n) / p.rate * float64(time.Second)))
	p.n++
	return at.Sub(now)
}
