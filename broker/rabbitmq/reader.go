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
	current *chunk // whose messages are not all handed out
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
		if err := r.subscribe(ctx); err != nil {
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
			r.sub.more()
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

// endEvery is how often a reader at the end looks where the partition ends.
const endEvery = 100 * time.Millisecond

// endBehind is where the partition ends, at least next.
func (r *reader) endBehind(ctx context.Context, next int64) int64 {
	if next >= r.end && time.Since(r.looked) > endEvery {
		r.looked = time.Now()
		if end, err := r.d.end(ctx, r.t, r.partition); err == nil {
			r.end = end
		}
	}
	r.end = max(r.end, next)
	return r.end
}

// subscribe begins to read at the reader's position.
func (r *reader) subscribe(ctx context.Context) error {
	ctx, cancel := r.d.during(ctx)
	defer cancel()
	end, err := r.d.end(ctx, r.t, r.partition)
	if err != nil {
		return err
	}
	r.end, r.looked = end, time.Now()
	from := max(r.next.Load(), r.d.low(r.t, r.partition))
	// The server refuses to begin behind its end.
	if r.sub, err = r.d.subscribe(ctx, r.t.streams[r.partition], at(min(from, end))); err != nil {
		r.sub = nil
		return err
	}
	return nil
}
