// Package live plays a trace of arrivals, sped up, through a real pipeline whose capacity a pilot
// orders while it runs, and gives the figures that the simulator gives for the same run. It is how
// the simulator is held to the truth, and how policies are compared where nothing is simulated but
// the time that a model takes and the time that a worker needs to start.
//
// The pipeline is examples/card-fraud on a journal. Its model answers as it always does, and then
// waits until the call has taken Overhead + PerEvent·b. A worker is one such call at a time.
//
// Two times are in play: that of the trace, in which the world, the pilot and all figures are, and
// that of the clock, Speed times shorter.
package live
