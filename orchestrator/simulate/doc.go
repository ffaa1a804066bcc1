// Package simulate runs a pilot against a model of workers and queues: exact in its
// queues by partition, its start-up and stop delays, its rebalances and faults; the same for the same seed.
//
// Time goes from one happening to the next: the end of a tick of arrivals, a worker that is ready or stopped, the end
// of a rebalance, a fault, signals taken, a decision. Between two of them nothing changes but the queues, and these are
// solved in closed form.
//
// # Queues
//
// Events flow evenly within a tick, to each partition its share. A partition is known by its front, the arrival time up
// to which it is served; what waits is its share of what arrived since. A worker serves the oldest front
// among its partitions first. It is behind where that lies in the past: then it makes full calls, and an
// event is as old as its wait and one call. Where it keeps up it takes what is there, so that calls of b events and the
// time that each takes hold each other: b = max(1, λ·overhead/(1 − λ·perEvent)), and an event is one to two calls
// old. World.Linger lets it wait for more. Single arrivals are not drawn beyond the ticks: queueing
// within a tick by chance is not seen.
//
// Partitions are dealt so that the workers' numbers of them differ by one at most and as few as possible move, which ones
// by lot; those stand still for Capacity.Rebalance. With Capacity.Partitions 0 all workers share one queue.
//
// # Workers
//
// A worker is paid from its order until it has stopped. It is ready after StartUp, varied by Jitter. Fewer ordered: those that start are
// cancelled first, the newest before others, and cost nothing from then on; then ready ones stop serving at once, the newest first, and are paid for
// Capacity.Stop longer. Orders are held within Objective.Min and Max.
//
// # Signals
//
// A pilot is asked after each of its periods, first after one. Its signals are of Delay before that, and means since those
// before. Where nothing was known yet, or a broker paused, or in a blind spot, Known is empty and Time is that of the last
// that were known; the next ones are means since then. Lag counts what is in calls too.
// What is a mean over nothing (the freshness where nothing was published) is not known.
//
// The end of the arrivals is the end of the run: what waits then counts with the age that it has.
package simulate
