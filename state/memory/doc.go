// Package memory is the reference driver of package state: an ordered map in
// memory. Its snapshots are layers of the keys that changed between two of them;
// when the layers above the lowest have grown larger than it, the next snapshot
// is one new layer of everything.
package memory
