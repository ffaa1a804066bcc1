// Package inference is the port between Freshet and whatever evaluates models.
//
// Callers hold a *Model, which batches the rows of all tasks of the process;
// adapters implement Driver and prove themselves with package inferencetest.
package inference
