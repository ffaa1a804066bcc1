package inference

import (
	"context"
	"time"
)

// Request is a run of rows for one model. The caller fills In and Deadline,
// submits it once, and may read the rest after Wait. A Request may be used
// again afterwards; Out then keeps its storage.
type Request struct {
	// In holds one tensor per input of the model, all with the same number of
	// rows, at most Config.MaxBatch.
	In []Tensor
	// Deadline is when the result for the oldest row is needed. The zero value
	// means at once.
	Deadline time.Time
	// Expires is when the answer is of no use any more: rows not answered by then
	// fail with ErrExpired, without a call where there was none yet. The zero value is never.
	Expires time.Time

	// Out holds one tensor per output, with In's number of rows. The rows named
	// in Failed hold zeros.
	Out []Tensor
	// Err is set when no row was scored.
	Err error
	// Failed names the rows that were refused by themselves while others were scored.
	Failed []RowError
	// Attempts is how often the rows were given to the model.
	Attempts int
	// Reason says why the batch that carried the rows was closed.
	Reason FlushReason
	// BatchRows is the size of that batch.
	BatchRows int
	// Cached says for each row whether the answer came from the cache; empty where none did.
	Cached []bool
	// Answered is when the answer was there.
	Answered time.Time

	rows     int
	queued   time.Time // with Throughput
	hits     int       // rows answered by the cache
	miss     []int32   // rows that travel, where the cache answered others
	uncached bool      // the cache is left out
	keys     rowKeys   // of the rows that travel, for the cache
	done     chan struct{}
}

// RowError is the failure of one row.
type RowError struct {
	Row int
	Err error
}

// Wait returns when the request is answered; its error is that of ctx, in which
// case the request still belongs to the model until a later Wait returns nil.
func (r *Request) Wait(ctx context.Context) error {
	select {
	case <-r.done:
		return nil
	default:
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// FlushReason says why a batch was closed.
type FlushReason uint8

const (
	// FlushIdle: an instance was idle, so no row waited.
	FlushIdle FlushReason = iota
	// FlushFull: the batch had reached its greatest size.
	FlushFull
	// FlushDeadline: waiting longer would have made the oldest row late.
	FlushDeadline
	// FlushDrain: the model was closing.
	FlushDrain
	numFlushReasons
)

// FlushReasons are all reasons, in order.
var FlushReasons = [...]FlushReason{FlushIdle, FlushFull, FlushDeadline, FlushDrain}

// String returns the reason's name as metrics carry it.
func (f FlushReason) String() string {
	return [...]string{"idle", "full", "deadline", "drain"}[f]
}
