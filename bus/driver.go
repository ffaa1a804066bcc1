package bus

import (
	"context"
	"fmt"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Receiver is what an adapter implements that messages come from.
//
// Receive is called by one goroutine at a time; Ack and Nack may be called
// concurrently with it and with each other. Errors carry an errkind: NotFound
// for a missing queue, Transient and Throttled for what may pass, Config for
// refused credentials, Closed after Close. After a Transient error the caller
// calls again; the adapter connects anew by itself.
//
// Nothing is lost: a message is handed out again, here or to another receiver,
// until it has been acknowledged.
type Receiver interface {
	// Receive waits until at least one message is there and returns up to max of
	// them (max ≥ 1), in the order in which they came. What their records point at
	// stays valid for good. Not more than Limits.Unacknowledged are out at a time:
	// then it waits for an Ack or Nack.
	Receive(ctx context.Context, max int) ([]Message, error)
	// Ack says that messages are stored, durably. When it returns nil the bus will
	// not hand them out again, as far as it can promise. A Conflict error says that
	// some were taken back meanwhile, because the connection was lost or a
	// deadline passed: they come again, and that is no failure.
	Ack(ctx context.Context, messages []Message) error
	// Nack gives messages back, to be handed out again.
	Nack(ctx context.Context, messages []Message) error
	// Close gives what is not acknowledged back and ends calls in progress with
	// Closed errors. A second Close returns nil.
	Close() error
}

// Message is one message of a Receiver.
type Message struct {
	// Record is the event. Its ID is the same at each redelivery: the CloudEvents
	// id, the message's own, or else empty. Position and Time are not set.
	Record event.Record
	// Token is the receiver's; no other gives it a meaning.
	Token any
	// Redelivered says that the message has been handed out before, where the bus tells.
	Redelivered bool
}

// Sender is what an adapter implements that messages go to.
//
// Send may be called concurrently for different partitions, with one call at a
// time for each. Errors carry an errkind as those of Receiver do.
type Sender interface {
	// Send hands over the records of a batch in order, and returns nil when the
	// receiving side has all of them, durably. On error none, some or all have
	// been taken, and the whole batch is sent again: receivers tell repeats by
	// Record.ID, and an adapter that writes to a store writes each ID once.
	// Records that will never be taken are listed in a *RefusedError, and the
	// others of the batch have then been taken.
	// The batch is the caller's again when the call returns.
	Send(ctx context.Context, b Batch) error
	// Close ends calls in progress with Closed errors. A second Close returns nil.
	Close() error
}

// Batch is a run of records of one partition of a topic.
type Batch struct {
	Topic     string
	Partition int
	Records   []event.Record
}

// Limits are what the program sets for adapters.
type Limits struct {
	// Unacknowledged is the greatest number of messages handed out and not
	// acknowledged; 0 is DefaultUnacknowledged.
	Unacknowledged int
}

// DefaultUnacknowledged is enough to keep a network of some milliseconds busy.
const DefaultUnacknowledged = 4096

// RefusedError lists the records of one Send that will never be taken. Its kind
// is Invalid.
type RefusedError struct {
	// Records are the refused ones, by rising index.
	Records []Refused
}

// Refused is a record that will never be taken, and why.
type Refused struct {
	// Index is its place in the batch.
	Index int
	Err   error
}

// Error names the first record and counts the others.
func (e *RefusedError) Error() string {
	msg := fmt.Sprintf("record %d of the batch is refused: %v", e.Records[0].Index, e.Records[0].Err)
	if n := len(e.Records) - 1; n > 0 {
		msg += fmt.Sprintf(" (and %d more)", n)
	}
	return msg
}

// Refuse returns a *RefusedError of kind Invalid; nil where nothing is refused.
func Refuse(records []Refused) error {
	if len(records) == 0 {
		return nil
	}
	return errkind.With(errkind.Invalid, &RefusedError{records})
}
