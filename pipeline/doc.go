// Package pipeline runs what a pipeline file says: it takes events from a
// topic, validates them by a contract, computes features, scores them with a
// model, and routes the results to topics.
//
// Load reads the file, New plans it against its contract, tables and model,
// and Run consumes until it is told to stop. All three report faults with the
// line that they lie on.
//
// A pipeline runs one task for each source partition. A task's goroutines pass a
// fixed number of frames on: the front fetches a batch, decodes it, updates the
// keyed state and hands the rows to the first model; behind each model a part
// waits for the answers, computes what stands behind it and hands the rows on, and
// the last one routes and encodes; the committer commits the frames that are
// ready, in order. One commit carries, atomically, the results with their records,
// the dead letters, the change of the keyed state and the source position. So,
// whatever happens:
//
//   - a result is visible only if the position behind its event is committed too;
//   - positions move contiguously, because a task commits its batches in order;
//   - the state read at the start is exactly the state at the committed position;
//   - results of one key appear in the order of its events.
//
// Memory is bounded by the batches in flight of each task. A slow broker or
// model makes the front wait, which makes the source wait.
package pipeline
