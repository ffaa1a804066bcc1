package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Out hands the records of a topic to a sender.
type Out struct {
	Broker *broker.Broker
	Topic  string
	// Group is the consumer group that remembers how far it came.
	Group  string
	Sender bus.Sender
	// Refused makes durable what the sender will never take, before the group moves
	// on; nil ends the run with the first such record.
	Refused func(ctx context.Context, r RefusedRecord) error
	// Logger is told of failures that are repeated; nil discards.
	Logger *slog.Logger

	sent, refused atomic.Uint64
}

// RefusedRecord is a record that a sender will never take, and why. Record is valid during the call.
type RefusedRecord struct {
	Topic     string
	Partition int
	Record    *event.Record
	Err       error
}

// Sent counts the records that were taken, repeats included, and those that were refused.
func (o *Out) Sent() (sent, refused uint64) { return o.sent.Load(), o.refused.Load() }

// Run hands records over until ctx ends or something fails for good. The sender
// stays the caller's to close.
func (o *Out) Run(ctx context.Context) (err error) {
	c, err := o.Broker.Subscribe(ctx, broker.Subscription{Topic: o.Topic, Group: o.Group})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var claims sync.WaitGroup
	for {
		claim, err := c.Claim(ctx)
		if err != nil {
			stop(err)
			break
		}
		claims.Go(func() {
			if err := o.carry(ctx, claim); err != nil {
				stop(err)
			}
		})
	}
	claims.Wait()
	cause := context.Cause(ctx)
	if err := c.Close(); err != nil && !errkind.Is(err, errkind.Closed) && cause == nil {
		cause = err
	}
	switch errkind.Of(cause) {
	case errkind.Canceled, errkind.Closed:
		return nil
	}
	return cause
}

// carry hands over one partition's records until the claim is lost.
func (o *Out) carry(ctx context.Context, claim broker.Claim) error {
	for {
		b, err := claim.Fetch(ctx, batch)
		if err == nil {
			next := b.Next()
			err = o.send(ctx, b)
			b.Release()
			if err == nil {
				err = claim.Commit(context.WithoutCancel(ctx), next)
			}
		}
		if err != nil {
			rerr := claim.Release()
			if ctx.Err() != nil || errkind.Is(err, errkind.Conflict) { // it is another member's
				return nil
			}
			return errors.Join(fmt.Errorf("hand over topic %q, partition %d: %w", o.Topic, claim.Partition(), err), rerr)
		}
	}
}

func (o *Out) send(ctx context.Context, b *broker.Batch) error {
	err := repeat(ctx, o.Logger, "hand over topic "+o.Topic, func() error {
		return o.Sender.Send(ctx, bus.Batch{Topic: o.Topic, Partition: b.Partition, Records: b.Records})
	})
	var refused *bus.RefusedError
	if errors.As(err, &refused) && o.Refused != nil {
		for _, r := range refused.Records {
			if err := o.Refused(ctx, RefusedRecord{o.Topic, b.Partition, &b.Records[r.Index], r.Err}); err != nil {
				return err
			}
		}
		o.refused.Add(uint64(len(refused.Records)))
		o.sent.Add(uint64(len(b.Records) - len(refused.Records)))
		return nil
	}
	if err == nil {
		o.sent.Add(uint64(len(b.Records)))
	}
	return err
}
