package kafka

import (
	"context"
	"fmt"
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
	out := d.outgoing.Get().(*outgoing)
	out.take(name, recs, func(i int) int32 {
		if len(recs[i].Key) == 0 {
			return keyless
		}
		return int32(broker.PartitionFor(recs[i].Key, n))
	})
	for i := range out.records {
		d.producer.Produce(ctx, &out.records[i], out.promise)
	}
	stored, err := out.wait(ctx, d)
	if err != nil { // some may still be on their way
		d.topics.drop(name)
		return broker.Published{Stored: stored}, d.failed(ctx, err, "publish to topic %q", name)
	}
	if cap(out.bytes) <= keptBytes {
		d.outgoing.Put(out)
	}
	return broker.Published{Stored: stored}, nil
}

// keptBytes bounds the memory of a call's copies that is kept for later calls.
const keptBytes = 4 << 20

// checkSizes fails for records that the server would not take.
func (d *Driver) checkSizes(recs []event.Record) error {
	for i := range recs {
		if n := recs[i].Size(); n > d.caps.MaxRecordBytes {
			return errkind.Errorf(errkind.Invalid, "record %d has %d bytes, this server takes at most %d (its message.max.bytes)", i, n, d.caps.MaxRecordBytes)
		}
	}
	return nil
}

// arrived is called by the client, for one record after the other. From the
// last one on nobody else uses o but who waits.
func (o *outgoing) arrived(_ *kgo.Record, err error) {
	if err == nil {
		o.stored.Add(1)
	} else {
		first := err // of its own, so that successes need no memory
		o.err.CompareAndSwap(nil, &first)
	}
	if o.left.Add(-1) == 0 {
		o.done <- struct{}{}
	}
}

// wait waits while answers come.
func (o *outgoing) wait(ctx context.Context, d *Driver) (stored int, err error) {
	t := time.NewTimer(d.s.timeout)
	defer t.Stop()
	for seen := int64(0); ; {
		select {
		case <-o.done:
			if failure := o.err.Load(); failure != nil {
				err = *failure
			}
			return int(o.stored.Load()), err
		case <-ctx.Done():
			return int(o.stored.Load()), ctx.Err()
		case <-d.ctx.Done():
			return int(o.stored.Load()), d.ctx.Err()
		case <-t.C:
			now := o.stored.Load()
			if now == seen {
				return int(now), errkind.Errorf(errkind.Transient, "%s acknowledged nothing for %v", d.s.endpoint, d.s.timeout)
			}
			seen = now
			t.Reset(d.s.timeout)
		}
	}
}
