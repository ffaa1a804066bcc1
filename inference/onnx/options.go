package onnx

import "runtime"

// Options bound what a model may use; the zero value of a field means its default.
type Options struct {
	// Instances is how many Infer calls may run at once (default GOMAXPROCS). Each has
	// its own buffers, which keep the size of the largest batch seen.
	Instances int
	// MaxBytes is the largest size of a file (default 512 MiB).
	MaxBytes int64
	// MaxNodes is the largest number of nodes of the graph (default 100,000).
	MaxNodes int
	// MaxElements is the largest number of elements of any one tensor, at load and at run
	// time (default 32 Mi); all tensors of one Infer together may hold four times as many.
	MaxElements int
	// MaxBatch is the largest number of rows of one Infer (default 0: no limit).
	MaxBatch int

	// work bounds how many elements are read at load, by folding and by each trial; tests make it
	// small.
	work int
}

// loadWork takes about a second. A model beyond it is loaded with the shapes that it declares.
const loadWork = 1 << 27

func (o Options) withDefaults() Options {
	if o.Instances <= 0 {
		o.Instances = runtime.GOMAXPROCS(0)
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 512 << 20
	}
	if o.MaxNodes <= 0 {
		o.MaxNodes = 100_000
	}
	if o.MaxElements <= 0 {
		o.MaxElements = 32 << 20
	}
	if o.work <= 0 {
		o.work = loadWork
	}
	return o
}
