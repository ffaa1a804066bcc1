package state

import (
	"context"
	"io"
)

// Driver is a local, ordered key-value store. Adapters implement it; callers
// hold a Store.
//
// All methods but Close may be called concurrently. A call sees all of every
// Apply that returned before it began and all or nothing of one that overlaps.
// Neither side keeps the other's slices after a call, or after the callback that
// they were given to. Callbacks may call the driver. After Close every call
// returns an error of kind Closed.
type Driver interface {
	// Load calls found once for each key that is there, with its index in
	// keys, in any order. Keys may repeat.
	Load(keys [][]byte, found func(i int, value []byte)) error
	// Apply makes all changes of b, in their order; a later one wins. After an
	// error none of them is made.
	Apply(b *Batch) error
	// Scan calls visit for the keys from ≤ key < to in the order of their bytes
	// until it returns false. It shows the state as of the call, whatever is
	// applied meanwhile. A nil from is the first key, a nil to is behind the last.
	Scan(from, to []byte, visit func(key, value []byte) bool) error
	// Expire looks at up to limit entries with from ≤ key < to, in order, and
	// drops those whose expiry is not 0 and at most now. It returns the key to go
	// on from, nil behind the last. An entry is there until Expire has dropped
	// it. An entry that is applied anew meanwhile is not dropped.
	Expire(from, to []byte, now int64, limit int) (next []byte, err error)
	// Stats describes the entries with from ≤ key < to; it may cost a walk over
	// that part of the index.
	Stats(from, to []byte) (Stats, error)
	// Close releases the store; a second Close returns nil.
	Close() error
}

// Stats is the size of a part of a store.
type Stats struct {
	// Keys is the number of entries; an estimate where the driver does not count.
	Keys int64
	// MemoryBytes is what lies in memory: all of it for a driver in memory; for
	// one on disk its caches and buffers, which all parts share.
	MemoryBytes int64
	// DiskBytes is what lies on disk, an estimate.
	DiskBytes int64
}

// Freezer is a Driver whose state at a moment can be had as a set of immutable
// files, of which most are the same the next time.
type Freezer interface {
	Driver
	// Freeze returns the state as of the call. One Frozen may be out at a time.
	Freeze() (Frozen, error)
	// Thaw fills the driver, which must be empty, with what Freeze returned:
	// names are the files', open reads one of them to its end.
	Thaw(ctx context.Context, names []string, open func(name string) (io.ReadCloser, error)) error
}

// Frozen is a state that does not change.
type Frozen interface {
	// Files lists the files that hold the state together. One name is always the
	// same bytes, in whatever process; a file that an earlier Frozen listed, which
	// was released as kept, or that Thaw brought, comes under the same name and
	// need not be opened again.
	Files() []FrozenFile
	// Open reads one of the files.
	Open(name string) (io.ReadCloser, error)
	// Release ends its use; kept says that all of its files are safe elsewhere,
	// so that the next Frozen may build on them.
	Release(kept bool) error
}

// FrozenFile is an immutable file of a Frozen.
type FrozenFile struct {
	Name string
	// Size is in bytes.
	Size int64
}
