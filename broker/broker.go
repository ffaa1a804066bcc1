package broker

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Options is what the program passes to New. The zero value is good.
type Options struct {
	Retry Retry
	// Patience is how long a failing call is repeated, however many attempts that
	// takes; 0 leaves it to Retry.Attempts.
	Patience time.Duration
	// Logger is told of calls that are repeated for longer; nil discards.
	Logger *slog.Logger
	// Now is the clock by which Lag tells ages; nil is time.Now.
	Now func() time.Time
}

// Broker is what callers hold: a Driver with size checks, splitting into
// batches, retry and an orderly end around it.
//
// All methods may be called concurrently. After Close they return Closed errors.
type Broker struct {
	d      Driver
	caps   Capabilities
	retry  Retry
	wait   time.Duration // Options.Patience
	now    func() time.Time
	log    *slog.Logger
	told   atomic.Int64 // when the log was last told of a broker that fails, in Unix nanoseconds
	closed chan struct{}
	once   sync.Once
	err    error // of the driver's Close; read after once
}

// New returns a Broker on d, which it owns from now on: Close closes it.
func New(d Driver, o Options) *Broker {
	b := &Broker{d: d, caps: d.Capabilities(), retry: o.Retry.Or(defaultRetry), wait: o.Patience, now: o.Now, log: o.Logger, closed: make(chan struct{})}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.now == nil {
		b.now = time.Now
	}
	return b
}

// Capabilities says what the broker can do. It is constant.
func (b *Broker) Capabilities() Capabilities { return b.caps }

// Patience is how long a failing call may be repeated; 0 for a few attempts.
func (b *Broker) Patience() time.Duration { return b.wait }

// Close ends calls in progress, back-off included, with Closed errors and
// closes the driver. Further calls return what the first one returned.
func (b *Broker) Close() error {
	b.once.Do(func() {
		close(b.closed)
		b.err = b.d.Close()
	})
	return b.err
}

// Publish stores recs, in order, on the topic and returns when all of them are
// durable.
//
// Records above Capabilities.MaxRecordBytes fail the call with a
// *TooLargeError (kind Invalid) that lists them, before anything is sent. More
// than Capabilities.MaxBatch records go in several batches, one after the
// other. Transient and Throttled failures are repeated: then records without
// an ID, or on a broker without Capabilities.Dedup, may be stored twice, and
// those that a failed attempt had stored count as Duplicates. On error the
// counts are those of the batches that went before.
func (b *Broker) Publish(ctx context.Context, topic string, recs []event.Record) (Published, error) {
	var total Published
	if err := b.checkSizes(topic, recs); err != nil {
		return total, err
	}
	for len(recs) > 0 {
		n := len(recs)
		if b.caps.MaxBatch > 0 {
			n = min(n, b.caps.MaxBatch)
		}
		var p Published
		err := b.do(ctx, func() (err error) {
			p, err = b.d.Publish(ctx, topic, recs[:n:n])
			return err
		})
		if err != nil {
			return total, fmt.Errorf("publish to topic %q: %w", topic, err)
		}
		total.Stored += p.Stored
		total.Duplicates += p.Duplicates
		recs = recs[n:]
	}
	return total, nil
}

// Commit applies tx: all of it, durably, or nothing. Records that are too
// large fail it with a *TooLargeError, a broker without transactions with an
// Unsupported error, a claim that was lost with a Conflict error.
//
// Failures that say that nothing was applied (Transient and Throttled, see
// Transactor) are repeated. After any other error, and when ctx ended during
// the call, the outcome may be unknown: who has to know subscribes again and
// looks at where the group stands.
func (b *Broker) Commit(ctx context.Context, tx *Tx) error {
	t, ok := b.d.(Transactor)
	if !ok || !b.caps.Transactions {
		return errkind.New(errkind.Unsupported, "commit transaction: this broker has no transactions")
	}
	for i := range tx.Publish {
		if err := b.checkSizes(tx.Publish[i].Topic, tx.Publish[i].Records); err != nil {
			return err
		}
	}
	inner := b.unwrap(tx)
	if err := b.doUnlessUnknown(ctx, func() error { return t.Commit(ctx, inner) }); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}

// Append stores recs on a partition whose end is at, all of them or none, and
// returns the end behind them; see Appender. A broker without conditional
// appends is Unsupported. A Conflict error says that another has stored something
// there, or that this very call has and its answer was lost.
func (b *Broker) Append(ctx context.Context, topic string, partition int, at int64, recs []event.Record) (end int64, err error) {
	a, ok := b.d.(Appender)
	if !ok || !b.caps.Append {
		return 0, errkind.New(errkind.Unsupported, "append: this broker has no conditional appends")
	}
	if err := b.checkSizes(topic, recs); err != nil {
		return 0, err
	}
	err = b.do(ctx, func() (err error) {
		end, err = a.Append(ctx, topic, partition, at, recs)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("append to topic %q partition %d: %w", topic, partition, err)
	}
	return end, nil
}

// Subscribe joins a consumer group on a topic. What the consumer and its claims
// fail with is repeated like the Broker's own calls; its claims are Positioners.
func (b *Broker) Subscribe(ctx context.Context, s Subscription) (Consumer, error) {
	if s.Group == "" {
		return nil, errkind.Errorf(errkind.Invalid, "subscribe to topic %q: the group has no name", s.Topic)
	}
	var c Consumer
	err := b.do(ctx, func() (err error) {
		c, err = b.d.Subscribe(ctx, s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("subscribe to topic %q as group %q: %w", s.Topic, s.Group, err)
	}
	return &consumer{b, c}, nil
}

// Read opens one partition outside of any group, at the first record whose
// position is at least from. The reader repeats what may pass, and is a Positioner.
func (b *Broker) Read(ctx context.Context, topic string, partition int, from int64) (Reader, error) {
	var r Reader
	err := b.do(ctx, func() (err error) {
		r, err = b.d.Read(ctx, topic, partition, from)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read topic %q partition %d: %w", topic, partition, err)
	}
	return newReader(b, r, from), nil
}

// Describe reports the topic's partitions and, where group is not empty, how
// far that group has come.
func (b *Broker) Describe(ctx context.Context, topic, group string) (Topic, error) {
	var t Topic
	err := b.do(ctx, func() (err error) {
		t, err = b.d.Describe(ctx, topic, group)
		return err
	})
	if err != nil {
		return Topic{}, fmt.Errorf("describe topic %q: %w", topic, err)
	}
	return t, nil
}

// TooLargeError lists the records of one call that the broker would never
// take. Its kind is Invalid, and nothing of the call was sent.
type TooLargeError struct {
	Topic string
	// Limit is the largest Record.Size that the broker takes, in bytes.
	Limit int
	// Records are those above the limit, by rising index.
	Records []LargeRecord
}

// LargeRecord is a record above the limit.
type LargeRecord struct {
	// Index is its place in the slice that was passed.
	Index int
	// Size is its Record.Size, in bytes.
	Size int
}

// Error names the first record and counts the others.
func (e *TooLargeError) Error() string {
	r := e.Records[0]
	msg := fmt.Sprintf("record %d for topic %q has %d bytes, this broker takes at most %d", r.Index, e.Topic, r.Size, e.Limit)
	if n := len(e.Records) - 1; n > 0 {
		msg += fmt.Sprintf(" (and %d more such records)", n)
	}
	return msg
}

func (b *Broker) checkSizes(topic string, recs []event.Record) error {
	if b.caps.MaxRecordBytes <= 0 {
		return nil
	}
	var tooLarge []LargeRecord
	for i := range recs {
		if n := recs[i].Size(); n > b.caps.MaxRecordBytes {
			tooLarge = append(tooLarge, LargeRecord{i, n})
		}
	}
	if tooLarge == nil {
		return nil
	}
	return errkind.With(errkind.Invalid, &TooLargeError{topic, b.caps.MaxRecordBytes, tooLarge})
}
