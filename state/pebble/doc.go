// Package pebble is the driver of package state for more keys than memory holds:
// an LSM tree on local disk by github.com/cockroachdb/pebble.
//
// It is a spill: nothing is logged or synced, and Open empties the folder. Its
// snapshots are checkpoints, sets of immutable tables of which only the new ones
// have to be copied. A disk that fails or is full while the tree changes its list
// of tables ends the process: Pebble has no way back from there, and the state is
// restored from the changelog.
package pebble
