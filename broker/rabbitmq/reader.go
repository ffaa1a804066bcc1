package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Read implements broker.Driver.
func (d *Driver) Read(ctx context.Context, name string, partition int, from int64) (broker.Reader, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	t, err := d.partition(ctx, name, partition)
	if err != nil {
		return nil, d.failed(fmt.Sprintf("read topic %q", name), err)
	}
	return newReader(d, t, partition, from), nil
}

// reader reads one partition.
type reader struct {
	d         *Driver
	t         *topic
	partition int
	next      atomic.Int64 // of the next Fetch

	sub     *subscription
	opening *opening // what will be sub
	current *chunk   // whose messages are not all handed out
	decoder decoder
	end     int64     // of the partition, as far as is known
	looked  time.Time // when end was looked up

	closed atomic.Bool
	busy   sync.Mutex // held by Fetch
}

func newReader(d *Driver, t *topic, partition int, from int64) *reader {
	r := &reader{d: d, t: t, partition: partition}
	r.next.Store(max(0, from))
	return r
}

// Position implements broker.Positioner.
func (r *reader) Position() int64 { return r.next.Load() }

// Close implements broker.Reader. A Fetch in progress, which only a claim may
// have, lets go of the subscription itself.
func (r *reader) Close() error {
	r.closed.Store(true)
	if r.busy.TryLock() {
		r.unsubscribe()
		r.busy.Unlock()
	}
	return nil
}

func (r *reader) unsubscribe() {
	if r.sub != nil {
		r.sub.close()
		r.sub, r.current = nil, nil
	}
	if r.opening != nil {
		r.opening.abandon(r.d)
		r.opening = nil
	}
}

func (r *reader) seek(position int64) {
	r.unsubscribe()
	r.next.Store(max(0, position))
}

// Fetch implements broker.Reader.
func (r *reader) Fetch(ctx context.Context, max int) (*broker.Batch, error) {
	return r.fetch(ctx, max, nil)
}

// fetch also ends, with a nil batch and no error, when lost is closed.
func (r *reader) fetch(ctx context.Context, most int, lost <-chan struct{}) (*broker.Batch, error) {
	if r.closed.Load() {
		return nil, errkind.New(errkind.Closed, "the reader is closed")
	}
	if err := r.d.begin(ctx); err != nil {
		return nil, err
	}
	r.busy.Lock()
	defer r.busy.Unlock()
	b, err := r.fill(ctx, most, lost)
	if r.closed.Load() {
		r.unsubscribe()
	}
	if errors.Is(err, errGivenUp) {
		return nil, ctx.Err()
	}
	if err != nil {
		r.unsubscribe()
		if k := errkind.Of(r.d.missed(r.t, err)); ctx.Err() != nil && k != errkind.Closed {
			return nil, ctx.Err()
		}
		return nil, r.d.failed(fmt.Sprintf("read topic %q partition %d", r.t.config.Name, r.partition), err)
	}
	return b, nil
}

func (r *reader) fill(ctx context.Context, most int, lost <-chan struct{}) (*broker.Batch, error) {
	if r.sub == nil {
		if err := r.subscribe(ctx, lost); err != nil || r.sub == nil {
			return nil, err
		}
	}
	batch := batches.Get().(*pooled)
	recs := batch.records[:0]
	low := r.d.low(r.t, r.partition)
	for len(recs) < most {
		if r.current == nil {
			k, err := r.sub.take()
			if err != nil && len(recs) == 0 {
				return nil, err
			}
			if k == nil && len(recs) > 0 {
				break
			}
			if k == nil {
				select {
				case <-r.sub.ready:
					low = r.d.low(r.t, r.partition)
				case <-lost:
					return nil, nil
				case <-ctx.Done():
					batches.Put(batch)
					return nil, errGivenUp
				case <-r.d.done:
					return nil, errClosed
				}
				continue
			}
			r.current = k
			r.t.parts[r.partition].passed(k)
			// Headers of one chunk share an arena; records alias both.
			r.decoder = decoder{}
		}
		m, position, ok, err := r.current.cut()
		if err != nil {
			return nil, err
		}
		if !ok {
			r.current = nil
			continue
		}
		if position < r.next.Load() || position < low {
			continue
		}
		recs = append(recs, event.Record{})
		rec := &recs[len(recs)-1]
		r.decoder.decode(m, rec)
		rec.Position, rec.Time = position, r.current.millis*int64(time.Millisecond)
	}
	next := recs[len(recs)-1].Position + 1
	r.next.Store(next)
	batch.records = recs
	batch.Batch = broker.Batch{Topic: r.t.config.Name, Partition: r.partition, Records: recs, End: r.endBehind(ctx, next), Free: freeBatch}
	return &batch.Batch, nil
}

// pooled is a batch whose slice is used again. It is found by its Batch.
type pooled struct {
	broker.Batch
	records []event.Record
}

var batches = sync.Pool{New: func() any { return new(pooled) }}

func freeBatch(b *broker.Batch) {
	recs := b.Records
	clear(recs)
	b.Records, b.Free = nil, nil
	batches.Put(&pooled{records: recs})
}

// errGivenUp says that the caller's context ended; the subscription goes on.
var errGivenUp = errkind.New(errkind.Canceled, "given up")

// endEvery is how often a reader that is far behind looks where the partition ends.
const endEvery = 100 * time.Millisecond

// endBehind is where the partition ends, at least next: behind what the server
// has sent, where that is not held back by what waits here.
func (r *reader) endBehind(ctx context.Context, next int64) int64 {
	seen, all := r.sub.seen()
	if !all && next >= r.end && time.Since(r.looked) > endEvery {
		r.looked = time.Now()
		if end, err := r.d.end(ctx, r.t, r.partition); err == nil {
			r.end = end
		}
	}
	r.end = max(r.end, next, seen)
	return r.end
}

// opening is a subscription in the making. It goes on when a Fetch that waits for
// it is given up: the next one waits for the same.
type opening struct {
	done   chan struct{} // closed when what follows is set
	sub    *subscription
	end    int64 // of the partition
	err    error
	cancel context.CancelFunc
}

// subscribe begins to read at the reader's position; sub stays nil, without an
// error, when lost is closed.
func (r *reader) subscribe(ctx context.Context, lost <-chan struct{}) error {
	if r.opening == nil {
		o := &opening{done: make(chan struct{})}
		from := r.next.Load()
		var during context.Context
		during, o.cancel = r.d.during(context.WithoutCancel(ctx))
		if !r.d.spawn(func() {
			defer close(o.done)
			defer o.cancel()
			o.sub, o.end, o.err = r.d.subscribeAt(during, r.t, r.partition, from)
		}) {
			o.cancel()
			return errClosed
		}
		r.opening = o
	}
	select {
	case <-r.opening.done:
	case <-lost:
		return nil
	case <-ctx.Done():
		return errGivenUp
	case <-r.d.done:
		return errClosed
	}
	o := r.opening
	r.opening = nil
	if o.err != nil {
		return o.err
	}
	r.sub, r.end, r.looked = o.sub, o.end, time.Now()
	return nil
}

// abandon ends what nobody waits for any more.
func (o *opening) abandon(d *Driver) {
	o.cancel()
	d.spawn(func() { // a driver that is closed closes its connections
		if <-o.done; o.sub != nil {
			o.sub.close()
		}
	})
}

// subscribeAt begins to read a partition at a position, or where it ends.
func (d *Driver) subscribeAt(ctx context.Context, t *topic, partition int, from int64) (s *subscription, end int64, err error) {
	if end, err = d.end(ctx, t, partition); err != nil {
		return nil, 0, err
	}
	from = max(from, d.low(t, partition))
	// The server refuses to begin behind its end.
	s, err = d.subscribe(ctx, &d.reading, t.streams[partition], at(min(from, end)))
	return s, end, err
}
