// Package journal is the embedded broker: topics, consumer groups, positions
// and transactions in one durable log in one folder, for one process.
//
// # Guarantees, as orders of events
//
// Publish and Commit: the records and positions of a call are written as one
// frame, the file is synced (many calls share a sync), then they become visible
// to readers and to Describe, all at once, then the call returns nil. With
// SyncEvery the sync comes after the return, at most that much later.
//
// A crash, of the process or of the machine: what was acknowledged is there
// after Open, once; what was not acknowledged is there as a whole frame or not
// at all; a transaction is one frame, so results never exist without their
// positions nor positions without their results.
//
// Damage: every byte that is read was checked against its CRC32C. An unfinished
// frame at the end of the log, which nobody was told about, is cut off at Open
// and reported in the log. Damage to anything that is known to have been durable
// is a Corrupt error with file and offset, at Open where it is seen there and
// at Fetch otherwise; nothing is skipped.
//
// A failed write (a full disk) fails the calls waiting for it with Exhausted,
// takes back what they had written and leaves the journal usable. After a failed
// sync the state of the disk is unknown: every later write is refused until the
// journal is opened again.
//
// # Shape
//
// Appenders encode outside of any lock, take a short one to be given positions,
// and wait. One committer goroutine lays their frames into the active segment,
// syncs, applies them to the view that readers share, and wakes them. One
// maintenance goroutine moves partition starts by retention, writes the index
// files of sealed segments, and frees segments. Close ends both.
//
// The format on disk is docs/formats/journal.md.
package journal
