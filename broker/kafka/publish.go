package kafka

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Publish implements broker.Driver: through one idempotent producer, which
// keeps the order of a partition's records when it repeats a request, with the
// acknowledgement of all replicas in sync. Records without a key go to one
// partition a call, another one each time.
func (d *Driver) Publish(ctx context.Context, name string, recs []event.Record) (broker.Published, error) {
	var none broker.Published
	if err := ctx.Err(); err != nil {
		return none, fmt.Errorf("publish: %w", err)
	}
	if err := d.checkSizes(recs); err != nil {
		return none, err
	}
	t, err := d.topic(ctx, name)
	if err != nil {
		return none, d.failed(ctx, err, "publish")
	}
	if len(recs) == 0 {
		return none, nil
	}
	n := len(t.leaders)
	keyless := int32(d.spread.Add(1) % uint32(n))
	out := copyRecords(name, recs, func(i int) int32 {
		if len(recs[i].Key) == 0 {
			return keyless
		}
		return int32(broker.PartitionFor(recs[i].Key, n))
	})
	w := publishing{left: len(recs), done: make(chan struct{})}
	promise := w.arrived
	for i := range out.records {
		d.producer.Produce(ctx, &out.records[i], promise)
	}
	stored, err := w.wait(ctx, d)
	if err != nil {
		d.topics.drop(name)
		return broker.Published{Stored: stored}, d.failed(ctx, err, "publish to topic %q", name)
	}
	return broker.Published{Stored: stored}, nil
}

// checkSizes fails for records that the server would not take.
func (d *Driver) checkSizes(recs []event.Record) error {
	for i := range recs {
		if n := recs[i].Size(); n > d.caps.MaxRecordBytes {
			return errkind.Errorf(errkind.Invalid, "record %d has %d bytes, this server takes at most %d (its message.max.bytes)", i, n, d.caps.MaxRecordBytes)
		}
	}
	return nil
}

// publishing counts the answers for one call's records.
type publishing struct {
	stored atomic.Int64

	mu   sync.Mutex
	left int
	err  error // the first
	done chan struct{}
}

// arrived is called by the client, for one record after the other.
func (w *publishing) arrived(_ *kgo.Record, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.stored.Add(1)
	} else if w.err == nil {
		w.err = err
	}
	if w.left--; w.left == 0 {
		close(w.done)
	}
}

// wait waits while answers come.
func (w *publishing) wait(ctx context.Context, d *Driver) (stored int, err error) {
	t := time.NewTimer(d.s.timeout)
	defer t.Stop()
	for seen := int64(0); ; {
		select {
		case <-w.done:
			return int(w.stored.Load()), w.err
		case <-ctx.Done():
			return int(w.stored.Load()), ctx.Err()
		case <-d.ctx.Done():
			return int(w.stored.Load()), d.ctx.Err()
		case <-t.C:
			now := w.stored.Load()
			if now == seen {
				return int(now), errkind.Errorf(errkind.Transient, "%s acknowledged nothing for %v", d.s.endpoint, d.s.timeout)
			}
			seen = now
			t.Reset(d.s.timeout)
		}
	}
}
