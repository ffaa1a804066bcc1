package bridge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/backoff"
)

const (
	// batch is how many messages or records are carried at a time.
	batch = 1024
	// ackTimeout bounds one acknowledgement.
	ackTimeout = 10 * time.Second
)

// retry is for calls of a bus, which are repeated until they succeed or fail for good.
var retry = backoff.Retry{Min: 50 * time.Millisecond, Max: 5 * time.Second}.Or(backoff.Retry{Attempts: 1})

// In stores what a receiver hands out on a topic.
type In struct {
	Receiver bus.Receiver
	Broker   *broker.Broker
	// Topic is where messages go; it has to be there.
	Topic string
	// Envelope finds id and key in the payload of a message that has none itself;
	// nil where they are not known.
	Envelope func(payload []byte) (id, key []byte)
	// Logger is told of failures that are repeated; nil discards.
	Logger *slog.Logger

	stored, repeats atomic.Uint64
	last            atomic.Int64 // when the last message was stored, in Unix nanoseconds
}

// Stored counts the messages that are durable on the topic, and Repeats those that were there already.
func (in *In) Stored() (stored, repeats uint64) { return in.stored.Load(), in.repeats.Load() }

// Idle is how long no message has come; now is the time.
func (in *In) Idle(now time.Time) time.Duration { return now.Sub(time.Unix(0, in.last.Load())) }

// Run carries messages until ctx ends or something fails for good. What was
// received by then and not stored is given back. The receiver stays the caller's to close.
func (in *In) Run(ctx context.Context) error {
	in.last.Store(time.Now().UnixNano())
	var recs []event.Record
	for {
		var messages []bus.Message
		err := repeat(ctx, in.Logger, "receive messages", func() (err error) {
			messages, err = in.Receiver.Receive(ctx, batch)
			return err
		})
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("receive messages for topic %q: %w", in.Topic, err)
		}
		recs = recs[:0]
		for i := range messages {
			recs = in.records(recs, &messages[i].Record)
		}
		// What was received is stored even while the caller wants to stop.
		keep := context.WithoutCancel(ctx)
		p, err := in.Broker.Publish(keep, in.Topic, recs)
		if err != nil {
			nack, cancel := context.WithTimeout(keep, ackTimeout)
			nerr := in.Receiver.Nack(nack, messages)
			cancel()
			return errors.Join(in.explain(err, recs), nerr)
		}
		in.stored.Add(uint64(p.Stored))
		in.repeats.Add(uint64(p.Duplicates))
		in.last.Store(time.Now().UnixNano())
		ack, cancel := context.WithTimeout(keep, ackTimeout)
		err = in.Receiver.Ack(ack, messages)
		cancel()
		switch kind := errkind.Of(err); {
		case err == nil || kind == errkind.Closed && ctx.Err() != nil:
		case kind == errkind.Conflict || kind.Retryable():
			// They come again, and are repeats then.
			in.log().Warn("messages that are stored could not be acknowledged, and will come again", "topic", in.Topic, "messages", len(messages), "error", err)
		default:
			return fmt.Errorf("acknowledge messages stored on topic %q: %w", in.Topic, err)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// explain says what to do about a message that the topic will never take: it is
// left where it is.
func (in *In) explain(err error, recs []event.Record) error {
	var large *broker.TooLargeError
	if !errors.As(err, &large) {
		return fmt.Errorf("store messages on topic %q: %w", in.Topic, err)
	}
	r := large.Records[0]
	return errkind.Errorf(errkind.Invalid, "store messages on topic %q: message %q has %d bytes, the broker takes at most %d: raise its limit, or take the message off the queue, where it is kept",
		in.Topic, recs[r.Index].ID, r.Size, large.Limit)
}

// records appends the events of a message. One that cannot be read is stored as
// it is: the pipeline makes a dead letter of it.
func (in *In) records(to []event.Record, rec *event.Record) []event.Record {
	switch event.ModeOf(rec.Headers) {
	case event.Batched:
		if recs, err := event.SplitBatch(rec.Value); err == nil {
			for i := range recs {
				to = append(to, in.addressed(recs[i]))
			}
			return to
		}
	case event.Structured:
		if r, err := event.FromStructured(rec.Value); err == nil {
			if len(r.Key) == 0 {
				r.Key = rec.Key
			}
			return append(to, in.addressed(r))
		}
	}
	return append(to, in.addressed(*rec))
}

// addressed gives a record the id and key of its payload. A key there wins over the
// message's, for partitions and windows go by it.
func (in *In) addressed(rec event.Record) event.Record {
	if in.Envelope == nil {
		return rec
	}
	id, key := in.Envelope(rec.Value)
	if len(rec.ID) == 0 {
		rec.ID = id
	}
	if len(key) > 0 {
		rec.Key = key
	}
	return rec
}

func (in *In) log() *slog.Logger {
	if in.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return in.Logger
}

// repeat calls f until it succeeds, fails for good, or ctx ends.
func repeat(ctx context.Context, log *slog.Logger, what string, f func() error) error {
	told := time.Time{}
	for n := 0; ; n++ {
		err := f()
		kind := errkind.Of(err)
		if err == nil || !kind.Retryable() || ctx.Err() != nil {
			return err
		}
		if now := time.Now(); log != nil && n > 1 && now.Sub(told) > 10*time.Second {
			told = now
			log.Warn(what+": repeated until it succeeds", "error", err)
		}
		t := time.NewTimer(retry.Wait(n, kind))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}
