package pulsar

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
	"github.com/apache/pulsar-client-go/pulsar/backoff"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

const (
	// maxMessages is how many records a Publish or Append takes, so that an Append fits in one entry.
	maxMessages = 1000
	// overhead is kept free in an entry for what surrounds the records, in bytes.
	overhead = 64 << 10
	// batchDelay sends what an abandoned Publish has left in its producer.
	batchDelay = 10 * time.Millisecond
)

// part is one partition, with the producer that the driver has there. Publishes
// share the producer; an Append has it for itself, and no other producer can
// be there then.
type part struct {
	d     *Driver
	topic *topic
	index int
	start atomic.Int64 // the first position that is not trimmed, as far as is known here
	freed atomic.Int64 // the ledger that the keeper was moved to last

	mu        sync.RWMutex // held by publishes to read, by who changes what is below
	producer  pulsar.Producer
	exclusive bool
	last      id    // of the last entry, where exclusive
	end       int64 // of the partition, where exclusive
	appending *sending
}

func (p *part) url() string { return p.d.url(p.topic.physical(p.index)) }

func (d *Driver) url(physical string) string {
	return "persistent://" + d.tenant + "/" + d.namespace + "/" + physical
}

// raise moves the first position kept, never back.
func (p *part) raise(to int64) {
	for {
		at := p.start.Load()
		if to <= at || p.start.CompareAndSwap(at, to) {
			return
		}
	}
}

// Publish implements broker.Driver.
func (d *Driver) Publish(ctx context.Context, name string, recs []event.Record) (broker.Published, error) {
	var none broker.Published
	t, err := d.topic(ctx, name)
	if err == nil {
		err = d.checkSizes(recs)
	}
	if err != nil || len(recs) == 0 {
		return none, err
	}
	if err := t.publish(ctx, recs); err != nil {
		if errkind.Is(err, errkind.NotFound) {
			d.topics.Delete(name)
		}
		return none, err
	}
	return broker.Published{Stored: len(recs)}, nil
}

func (d *Driver) checkSizes(recs []event.Record) error {
	if len(recs) > maxMessages {
		return errkind.Errorf(errkind.Invalid, "%d records in one call, expected at most %d", len(recs), maxMessages)
	}
	for i := range recs {
		if n := recs[i].Size(); n > d.caps.MaxRecordBytes {
			return errkind.Errorf(errkind.Invalid, "record %d has %d bytes, this broker takes at most %d", i, n, d.caps.MaxRecordBytes)
		}
	}
	return nil
}

// sending is records on their way to one partition.
type sending struct {
	left  atomic.Int64
	done  chan struct{} // closed by finish
	once  sync.Once
	mu    sync.Mutex
	err   error // the first one
	ids   bool  // first and last are wanted
	first pulsar.MessageID
	last  pulsar.MessageID
}

func newSending(n int) *sending {
	s := &sending{done: make(chan struct{})}
	s.left.Store(int64(n))
	return s
}

// result is the client's callback for each record; the library calls it in order.
func (s *sending) result(id pulsar.MessageID, _ *pulsar.ProducerMessage, err error) {
	if err != nil {
		s.note(err)
	} else if s.ids {
		s.mu.Lock()
		if s.first == nil {
			s.first = id
		}
		s.last = id
		s.mu.Unlock()
	}
	if s.left.Add(-1) == 0 {
		s.finish()
	}
}

func (s *sending) finish() { s.once.Do(func() { close(s.done) }) }

func (s *sending) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *sending) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// wait is for the records' acknowledgements.
func (s *sending) wait(ctx context.Context, d *Driver) error {
	t := time.NewTimer(d.set.timeout + time.Second) // the library's own deadline comes first, mostly
	defer t.Stop()
	select {
	case <-s.done:
		return s.failure()
	case <-ctx.Done():
		return ctx.Err()
	case <-d.ctx.Done():
		return errClosed
	case <-t.C:
		return errkind.New(errkind.Transient, "the server has not answered in time")
	}
}

// publish sends the records of each partition to it, all at the same time, and
// waits for them.
func (t *topic) publish(ctx context.Context, recs []event.Record) error {
	lists := t.assign(recs)
	payloads := copyPayloads(recs)
	errs := make([]error, len(lists))
	var wg sync.WaitGroup
	last := -1
	for p, list := range lists {
		if len(list) > 0 {
			last = p
		}
	}
	for p, list := range lists {
		if len(list) == 0 {
			continue
		}
		if p == last {
			errs[p] = t.parts[p].publish(ctx, recs, payloads, list)
			continue
		}
		wg.Go(func() { errs[p] = t.parts[p].publish(ctx, recs, payloads, list) })
	}
	wg.Wait()
	for p, err := range errs {
		if err != nil {
			return t.parts[p].d.fail(ctx, fmt.Sprintf("publish to topic %q partition %d", t.name, p), err)
		}
	}
	return nil
}

// assign lists the indexes of the records of each partition. Records without a
// key go to one partition a call, in turns.
func (t *topic) assign(recs []event.Record) [][]int32 {
	n := len(t.parts)
	lists := make([][]int32, n)
	spread := -1
	for i := range recs {
		p := 0
		switch {
		case n == 1:
		case len(recs[i].Key) > 0:
			p = broker.PartitionFor(recs[i].Key, n)
		default:
			if spread < 0 {
				spread = int(t.spread.Add(1) % uint32(n))
			}
			p = spread
		}
		lists[p] = append(lists[p], int32(i))
	}
	return lists
}

// copyPayloads copies what the client library may still look at when a call
// has been given up.
func copyPayloads(recs []event.Record) [][]byte {
	size := 0
	for i := range recs {
		size += len(recs[i].Value)
	}
	arena := make([]byte, 0, size)
	out := make([][]byte, len(recs))
	for i := range recs {
		from := len(arena)
		arena = append(arena, recs[i].Value...)
		out[i] = arena[from:len(arena):len(arena)]
	}
	return out
}

func (p *part) publish(ctx context.Context, recs []event.Record, payloads [][]byte, list []int32) error {
	for {
		p.mu.RLock()
		if p.producer != nil && !p.exclusive {
			break
		}
		p.mu.RUnlock()
		if err := p.share(ctx); err != nil {
			return err
		}
	}
	producer := p.producer
	s := newSending(len(list))
	err := send(ctx, producer, recs, payloads, list, s)
	if err == nil {
		err = s.wait(ctx, p.d)
	}
	p.mu.RUnlock()
	if err != nil && ctx.Err() == nil {
		p.discard(producer)
	}
	return err
}

// send hands the listed records to the producer and flushes it. Its error is
// that of the flush: those of the records are in s. The library panics where a
// producer is closed by the server at the wrong moment.
func send(ctx context.Context, producer pulsar.Producer, recs []event.Record, payloads [][]byte, list []int32, s *sending) (err error) {
	defer func() {
		if recover() != nil {
			err = errkind.New(errkind.Transient, "the producer was closed by the server")
		}
	}()
	for _, i := range list {
		producer.SendAsync(ctx, encode(&recs[i], payloads[i]), s.result)
	}
	return producer.FlushWithCtx(ctx)
}

// share makes the partition's producer one beside others. Where somebody has
// the partition for himself, he is fenced: his next Append sees what is
// published here.
func (p *part) share(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.producer != nil && !p.exclusive {
		return nil
	}
	p.close()
	o := p.options(batchDelay)
	open := func() (pulsar.Producer, error) { return p.d.client.CreateProducer(o) }
	producer, err := await(ctx, p.d, open, closeProducer)
	if err != nil && occupied(err) {
		if err := p.d.fence(ctx, p.topic.physical(p.index)); err != nil {
			return err
		}
		producer, err = await(ctx, p.d, open, closeProducer)
	}
	if err != nil {
		return err
	}
	p.producer, p.exclusive = producer, false
	return nil
}

// options are those of the partition's producers; delay is how long a batch waits that nobody flushes.
func (p *part) options(delay time.Duration) pulsar.ProducerOptions {
	return pulsar.ProducerOptions{
		Topic:                   p.url(),
		SendTimeout:             p.d.set.timeout,
		MaxPendingMessages:      4 * maxMessages,
		CompressionType:         p.d.set.compression,
		BatchingMaxMessages:     maxMessages,
		BatchingMaxSize:         uint(p.d.set.maxMessage - overhead/2),
		BatchingMaxPublishDelay: delay,
		BackOffPolicyFunc:       func() backoff.Policy { return &reconnect{} },
	}
}

// discard drops a producer that has failed.
func (p *part) discard(failed pulsar.Producer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.producer == failed {
		p.close()
	}
}

// drop closes the producer, whichever it is.
func (p *part) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.close()
}

// close is called with p locked.
func (p *part) close() {
	if p.producer != nil {
		closeProducer(p.producer)
		p.producer, p.exclusive = nil, false
	}
}

// closeProducer closes a producer, which may have been closed by the server.
func closeProducer(producer pulsar.Producer) { release(producer.Close) }

// patience is how long release waits for the library.
const patience = 2 * time.Second

// release closes something of the library's. Where its connection has just been
// lost, or the client is being closed, the library may panic, or wait for ever
// for a goroutine of its own that has ended: it is not waited for then.
func release(end func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = recover() }()
		end()
	}()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
}
