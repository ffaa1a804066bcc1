// Package scaleout holds one pipeline, run by several processes on one broker, to
// what is promised of it while they come, go, die and freeze: every event has a
// result, on brokers with transactions one, elsewhere repeats with the same id;
// each result holds what the events before it give; the order of a key is kept;
// and every process gets its share of the partitions. It holds tests alone.
package scaleout
