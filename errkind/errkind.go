// Package errkind is the closed list of error kinds that Freshet acts on.
//
// A kind is decided once, at the port where an error enters, and then drives
// retry, dead letters, back-off and the exit code. Everything else about an
// error is its message, which says where, what was expected and what to do.
package errkind

import (
	"context"
	"errors"
	"fmt"
)

// Kind classifies an error by what may be done about it.
type Kind uint8

const (
	// Unknown is the kind of an error that nobody classified. It is treated as Permanent.
	Unknown Kind = iota
	// Transient errors may pass by themselves: retry with back-off.
	Transient
	// Throttled errors ask for less load: retry later, slower.
	Throttled
	// Permanent errors come back however often the call is repeated.
	Permanent
	// Invalid says that the input is at fault: the event is a dead letter.
	Invalid
	// Unsupported says that the thing asked for is not offered here.
	Unsupported
	// NotFound says that a named thing (topic, file, model) does not exist.
	NotFound
	// Conflict says that another owner holds or has changed the thing.
	Conflict
	// Exhausted says that a resource (disk, memory budget, quota) is used up.
	Exhausted
	// Corrupt says that stored data does not match its checksum or format.
	Corrupt
	// Config says that what the user wrote (flags, pipeline file) is wrong.
	Config
	// Canceled says that the caller gave up.
	Canceled
	// Closed says that the receiver has been closed.
	Closed
)

var names = [...]string{
	"unknown", "transient", "throttled", "permanent", "invalid", "unsupported",
	"not_found", "conflict", "exhausted", "corrupt", "config", "canceled", "closed",
}

// String returns the kind's name as it appears in logs, metrics and dead letters.
func (k Kind) String() string {
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Retryable reports whether repeating the call may succeed.
func (k Kind) Retryable() bool { return k == Transient || k == Throttled }

type kindError struct {
	kind Kind
	err  error
}

func (e *kindError) Error() string { return e.err.Error() }
func (e *kindError) Unwrap() error { return e.err }

// New returns an error of the given kind with a plain message.
func New(k Kind, msg string) error { return &kindError{k, errors.New(msg)} }

// Errorf formats an error of the given kind; %w wraps as in fmt.Errorf, and the
// new kind wins over that of what is wrapped.
func Errorf(k Kind, format string, args ...any) error {
	return &kindError{k, fmt.Errorf(format, args...)}
}

// With marks err with a kind. It returns nil when err is nil.
func With(k Kind, err error) error {
	if err == nil {
		return nil
	}
	return &kindError{k, err}
}

// Of returns the outermost kind in err's chain; context errors are Canceled
// (Transient for a deadline), anything else unmarked is Unknown.
func Of(err error) Kind {
	var ke *kindError
	switch {
	case err == nil:
		return Unknown
	case errors.As(err, &ke):
		return ke.kind
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Transient
	}
	return Unknown
}

// Is reports whether err's kind is k.
func Is(err error, k Kind) bool { return err != nil && Of(err) == k }
