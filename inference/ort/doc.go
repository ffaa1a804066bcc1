// Package ort evaluates ONNX files with ONNX Runtime, in a process of its own
// beside Freshet (command freshet-onnxruntime), behind inference.Driver.
//
// Open reads the file, starts the worker, hands it the model and takes from the
// file what it says of itself, so that the Metadata are those that the interpreter
// gives for the same file. ZipMap is left out as it is there: probabilities are a table whose
// Signature.Labels name the columns.
//
// What the worker does cannot harm the process that started it. Its order of events: a
// worker that ends fails the calls that it had (Transient); a new one is started after a pause
// that doubles with each end in a row, and after five of them a minute's;
// meanwhile calls wait up to five seconds, or fail at once where the next start is further
// away, with the time until then (inference.RetryAfter). Rows that were there when a worker
// ended are tried alone from then on; where they end two more, they are refused (Permanent).
// A call that runs beyond its deadline is interrupted, and where it does not heed that for
// ten seconds its worker is ended. The worker ends with this process, however that ends.
//
// The worker reads no file but the shared library and knows nothing of this process's environment
// but where libraries and temporary files are.
//
// Settings:
//
//	threads      threads within one call (default 1)
//	instances    calls at a time (default: processors divided by threads)
//	memory       most memory of the worker, as 2GiB; Linux only (default: no limit)
//	spin         let idle threads spin, for shorter calls at more load (default false)
//	kill_after   how long a call may go on after its deadline (default 10s)
package ort
