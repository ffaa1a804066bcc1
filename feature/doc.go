// Package feature computes the values that a pipeline adds to its events:
// exact sliding event-time windows per key (Windows) and static lookup tables
// (Table). docs/features.md gives the definitions with examples.
//
// # Windows
//
// For a row at time t, a window of length N holds the rows of the same key that
// were processed before it, and the row itself, with 0 ≤ t − tⱼ < N; with a
// delay D it holds those with D ≤ t − tⱼ < D + N. Rows of one key with equal times
// see the earlier ones in processing order, never the later.
//
// Labels are values that become known later. Joined by event, they fill in label
// columns of a row that is still kept, found by a 128-bit hash of its event's id;
// joined by key, they are rows themselves, and events only read.
//
// When the definition changes, Windows.Compatible tells what of the old state can
// be kept, and Windows.Adopt takes over what can be converted. Windows.Evict and
// Windows.Load page the state of keys that do not fit into memory.
//
// A Windows belongs to one goroutine. Its state is the consequence of the bytes
// that it returns: Update appends a delta for the rows it took in,
// AppendSnapshot appends the full state of some keys. Who stores them in the
// order in which they were made can, beginning at any BeginSnapshot whose cycle
// was completed, replay them into an empty Windows of the same Fingerprint and
// get a state whose future results and snapshots equal the original's bit for bit.
package feature
