package inference

import (
	"fmt"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// RetryAfter is a failure with which the server said how long to leave it
// alone. Drivers wrap it around what failed (see RetryAfterError); the model
// repeats no call before After has passed.
type RetryAfter struct {
	// After is counted from the moment at which Infer returns.
	After time.Duration
	Err   error
}

// Error is what failed, with the pause.
func (r *RetryAfter) Error() string {
	return fmt.Sprintf("%v (the server asks for a pause of %v)", r.Err, r.After)
}

// Unwrap returns what failed; its kind is the kind of the whole.
func (r *RetryAfter) Unwrap() error { return r.Err }

// RetryAfterError adds the pause that a server asked for to err, and keeps its
// kind; an err without one becomes Throttled. It is nil where err is nil, and
// err itself where after is not positive.
func RetryAfterError(err error, after time.Duration) error {
	if err == nil || after <= 0 {
		return err
	}
	if errkind.Of(err) == errkind.Unknown {
		err = errkind.With(errkind.Throttled, err)
	}
	return &RetryAfter{After: after, Err: err}
}
