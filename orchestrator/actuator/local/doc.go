// Package local orders capacity within a process that runs a pipeline: how many calls of its
// model run at once, the size of their batches, the share of events that goes to the fallback.
//
// Holder is the side of that process. It keeps the orders and ends them when they are not
// renewed, so a dead orchestrator leaves the pipeline with all that it has. Open is a driver for
// other processes, over the HTTP API of the first (GET, PUT, DELETE /pipelines/{pipeline}/capacity).
//
// Workers here are model calls at a time. There is always at least one, they are ready at once,
// and there are never more than the pipeline has instances.
package local
