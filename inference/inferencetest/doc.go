// Package inferencetest is the conformance suite of inference.Driver.
//
// Any adapter proves itself with Run; a case is skipped only by what the
// driver declares in its Metadata or the Harness says it cannot be.
package inferencetest
