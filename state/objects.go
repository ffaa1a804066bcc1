package state

import (
	"context"
	"io"

	"github.com/freshet-io/freshet/errkind"
)

// Objects is a store of named byte strings that are written whole and never
// changed in place. Adapters implement it; callers wrap it WithRetry.
//
// A name is one or more parts of letters, digits, '-', '_' and '.', divided by
// '/'; CheckName holds the rule. Where a name a/b is in use, a is not: some stores
// are file systems. All methods may be called concurrently. What was
// written is seen by every call that begins after the write returned, from
// whatever process; a name holds all of one written string or nothing, whatever
// dies meanwhile. Every call ends soon after its context.
type Objects interface {
	// Put writes the first size bytes of r under name, in place of what is there.
	// Where r ends before, which is Invalid, or ctx ends, nothing is written. It is
	// durable when Put returns.
	Put(ctx context.Context, name string, size int64, r io.Reader) error
	// Create is Put where nothing is under name; otherwise it is a Conflict and
	// writes nothing. Of any number of calls for a name exactly one succeeds.
	Create(ctx context.Context, name string, data []byte) error
	// Get reads an object from its beginning; one that is not there is NotFound.
	// What is read is the whole of one written string or ends with an error.
	// ctx holds until the reader is closed.
	Get(ctx context.Context, name string) (io.ReadCloser, error)
	// List returns the objects whose names begin with prefix, by name.
	List(ctx context.Context, prefix string) ([]Object, error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, name string) error
	// Close releases connections; a second Close returns nil.
	Close() error
}

// Object is one line of a List.
type Object struct {
	Name string
	// Size is in bytes.
	Size int64
}

const maxNameBytes = 512

// CheckName returns an error of kind Invalid for a name that Objects do not take.
func CheckName(name string) error {
	if name == "" || len(name) > maxNameBytes {
		return errkind.Errorf(errkind.Invalid, "object name %.40q has %d bytes: it takes 1 to %d", name, len(name), maxNameBytes)
	}
	first := true // of a part
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-' && !first, c == '.' && !first:
			first = false
		case c == '/' && !first:
			first = true
		default:
			return badName(name)
		}
	}
	if first {
		return badName(name)
	}
	return nil
}

func badName(name string) error {
	return errkind.Errorf(errkind.Invalid, "object name %q: its parts, divided by '/', take letters, digits, '_', and behind the first character '-' and '.'", name)
}
