// Package inference is the port between Freshet and whatever evaluates models.
//
// Callers hold a *Model, which batches the rows of all tasks of the process;
// adapters implement Driver and prove themselves with package inferencetest.
//
// # What a Model adds to its driver
//
// In the order of a row's way:
//
//   - Cache: an answer kept for the very same bytes, of this version.
//   - Queue: bounded. A row that expires (Request.Expires) is taken out and
//     answered at that moment, also while every instance hangs.
//   - Batch: at once (Latency), or as late as the rows' deadlines bear
//     (Throughput), by what calls were seen to take, a + b·rows.
//   - Breaker: after many failures rows fail at once, with ErrOpen.
//   - Limit: calls at a time, fixed or as many as the server does well.
//   - Call: with a deadline. One that overruns it is left behind: its rows
//     are answered, and it holds its place until it returns. A second call may race the first (Hedge).
//   - Repeat: only what may pass, within the budget, no sooner than the server asked for.
//   - Search: where single rows may be at fault, by halves, so that they fail alone.
//
// Balance makes one driver of several endpoints; Sampled explains any model by calls.
package inference
