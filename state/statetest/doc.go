// Package statetest holds drivers to the contracts of package state: Run for a
// state.Driver, RunFreezer for a state.Freezer, RunObjects for state.Objects, and
// Benchmark. Objects is an object store in memory that dies or fails on demand.
package statetest
