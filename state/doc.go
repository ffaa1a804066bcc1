// Package state is the port between Freshet and what keeps its keyed state
// beside memory. There are two ports in it.
//
// Driver is a local key-value store. It is where cold keys are paged out to and
// paged in from, in batches: a spill and not the truth, which is the changelog on
// the broker. It needs no sync to disk and may be wiped at open. Callers hold a
// Store and take a Space of it for each step of a task. A driver that is a
// Freezer too can be copied to objects, only what is new of it each time: see
// Snapshots.
//
// Objects is a store of named, immutable byte strings: a folder or an
// S3-compatible bucket. Callers wrap it WithRetry. An Archive keeps the changelog
// of one task there, so that a task that moves to a machine with an empty disk
// finds its state.
//
// Adapters prove themselves with package statetest: Run for a Driver and
// RunObjects for Objects.
package state
