package bustest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// ReceiverHarness says how to test a receiver.
type ReceiverHarness struct {
	// Queue makes a new and empty queue, which keeps every message from now on.
	Queue func(t testing.TB) Queue
	// Ordered says that one receiver gets messages in the order in which they were published.
	Ordered bool
	// AcksInOrder says that an acknowledgement counts once all messages handed out
	// before are acknowledged too, so that after a lost connection more may come again.
	AcksInOrder bool
	// Alone says that a queue has one receiver at a time.
	Alone bool
	// TellsRedelivery says that Message.Redelivered is set at each redelivery.
	TellsRedelivery bool
	// Expect is the record that comes of one published as r, where the bus cannot
	// carry all of it; nil means the same. The ID must stay.
	Expect func(r event.Record) event.Record
	// MaxBytes is the size of the largest value that is tried; 256 KiB by default.
	MaxBytes int
	// Messages is how many the larger cases send; 500 by default.
	Messages int
	// Quiet is how long nothing has to come where nothing may; 300 ms by default.
	Quiet time.Duration
	// Patience is how long the suite waits for what must happen, redelivery among
	// it; 15 s by default.
	Patience time.Duration
}

// Queue is one queue of the bus.
type Queue struct {
	// Open returns a receiver of the queue; the suite closes it. member is 0 or 1: a
	// receiver opened with a member's number after another one was closed
	// is the same consumer come back, for buses that know consumers by name.
	Open func(t testing.TB, member int, l bus.Limits) bus.Receiver
	// Publish puts records into the queue, in order and durably, or returns an
	// error, after which none, some or all may be there and all are published again. It may be
	// called by one goroutine at a time.
	Publish func(ctx context.Context, records []event.Record) error
	// Restart ends the server in an orderly way and starts it on the same data and
	// address. Cases about it are skipped where it is nil.
	Restart func(t testing.TB)
	// Kill ends the server as kill -9 does and starts it on the same data and
	// address. RunReceiverCrash needs it.
	Kill func(t testing.TB)
}

// SenderHarness says how to test a sender.
type SenderHarness struct {
	// Target makes a new and empty receiving side.
	Target func(t testing.TB) Target
	// Ordered says that records of a partition are stored in the order of sending.
	Ordered bool
	// Keyed says that the receiving side has each ID once, also when a batch is sent again.
	Keyed bool
	// JSON says that values have to be JSON objects.
	JSON bool
	// Record is record n of a key; nil means records with an ID, the key, CloudEvents
	// headers and a JSON object. IDs must be KEY + "/" + n.
	Record func(key string, n int) event.Record
	// Refused is a record that will never be taken, such as one that is too large.
	// Cases about it are skipped where it is nil.
	Refused func() event.Record
	// Expect is the record that Target.Read gives for one sent as r; nil means the same.
	Expect func(r event.Record) event.Record
	// Partitions is how many partitions a topic has in the cases about concurrency; 4 by default.
	Partitions int
	// Records is how many the larger cases send; 1,000 by default.
	Records int
	// Patience is how long the suite waits for what must happen; 15 s by default.
	Patience time.Duration
}

// Target is where a sender's records go.
type Target struct {
	// Open returns a sender to the target; the suite closes it.
	Open func(t testing.TB) bus.Sender
	// Topic is the topic of the batches; "results" by default.
	Topic string
	// Read returns all records that are stored, those of a partition in the order
	// of arrival. It waits until there are at least n, or patience ends.
	// Position and Time are not compared.
	Read func(t testing.TB, n int) []event.Record
	// Restart and Kill are as those of Queue.
	Restart, Kill func(t testing.TB)
	// Stall makes the server take and answer nothing until the function that it
	// returns is called. Cases about it are skipped where it is nil.
	Stall func(t testing.TB) (resume func())
}

func (h *ReceiverHarness) defaults() {
	if h.MaxBytes == 0 {
		h.MaxBytes = 256 << 10
	}
	if h.Messages == 0 {
		h.Messages = 500
	}
	if h.Quiet == 0 {
		h.Quiet = 300 * time.Millisecond
	}
	if h.Patience == 0 {
		h.Patience = 15 * time.Second
	}
}

func (h *SenderHarness) defaults() {
	if h.Record == nil {
		h.Record = result
	}
	if h.Partitions == 0 {
		h.Partitions = 4
	}
	if h.Records == 0 {
		h.Records = 1000
	}
	if h.Patience == 0 {
		h.Patience = 15 * time.Second
	}
}

// bench is what the cases of receivers and senders share.
type bench struct {
	testing.TB
	ctx      context.Context // of the whole case
	patience time.Duration
}

func newBench(t testing.TB, patience time.Duration) bench {
	ctx, cancel := context.WithTimeout(context.Background(), 8*patience)
	t.Cleanup(cancel)
	return bench{TB: t, ctx: ctx, patience: patience}
}

func caseName(s string) string { return strings.ReplaceAll(s, " ", "_") }

// within runs f, which must return within the harness's patience.
func (b *bench) within(what string, f func()) {
	b.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	t := time.NewTimer(b.patience)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		b.Fatalf("%s did not return within %v", what, b.patience)
	}
}

// mustWithin stops the case where f fails or does not return in time.
func (b *bench) mustWithin(what string, f func() error) {
	b.Helper()
	var err error
	b.within(what, func() { err = f() })
	b.must(what, err)
}

// must stops the case on an error.
func (b *bench) must(what string, err error) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v (kind %v)", what, err, errkind.Of(err))
	}
}

func (b *bench) wantKind(what string, err error, kinds ...errkind.Kind) {
	b.Helper()
	if err == nil {
		b.Errorf("%s: no error, want kind %v", what, kinds)
		return
	}
	for _, k := range kinds {
		if errkind.Is(err, k) {
			return
		}
	}
	b.Errorf("%s: kind %v (%v), want %v", what, errkind.Of(err), err, kinds)
}

// repeatable are errors after which a caller calls again.
func repeatable(err error) bool { return errkind.Of(err).Retryable() }

func canceled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errkind.Is(err, errkind.Canceled)
}

// again repeats f while it returns errors that may pass, until patience ends.
func (b *bench) again(what string, f func(ctx context.Context) error) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, b.patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if !repeatable(err) && !canceled(err) {
			b.Fatalf("%s: %v (kind %v)", what, err, errkind.Of(err))
		}
		select {
		case <-ctx.Done():
			b.Fatalf("%s did not succeed within %v: %v", what, b.patience, err)
		case <-tick.C:
		}
	}
}
