// Package cardfraud carries the card-fraud example inside the program, so that
// the demo needs no files beside it.
package cardfraud

import "embed"

// Files holds the pipeline with its contract, model and test cases.
//
//go:embed pipeline.yaml contracts models tests
var Files embed.FS
