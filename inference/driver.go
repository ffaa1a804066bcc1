package inference

import (
	"context"
)

// DataType is the element type of a tensor.
type DataType uint8

const (
	// Float32 elements lie in Tensor.F32.
	Float32 DataType = iota + 1
	// Float64 elements lie in Tensor.F64.
	Float64
	// Int64 elements lie in Tensor.I64.
	Int64
	// Int32 elements lie in Tensor.I32.
	Int32
	// Bool elements lie in Tensor.Bool.
	Bool
	// String elements lie in Tensor.Str.
	String
)

var dataTypeNames = [...]string{"?", "float32", "float64", "int64", "int32", "bool", "string"}

// String returns the type's name.
func (d DataType) String() string {
	if int(d) < len(dataTypeNames) {
		return dataTypeNames[d]
	}
	return dataTypeNames[0]
}

// Tensor is a dense, row-major array. The first dimension is the row of the
// batch; Shape[0] rows of Shape[1:] each. One of the slices is in use, by Type,
// with as many elements as the product of Shape.
type Tensor struct {
	Name  string
	Type  DataType
	Shape []int
	F32   []float32
	F64   []float64
	I64   []int64
	I32   []int32
	Bool  []bool
	Str   []string
}

// Rows is the size of the first dimension.
func (t *Tensor) Rows() int {
	if len(t.Shape) == 0 {
		return 0
	}
	return t.Shape[0]
}

// Signature describes one input or output of a model.
type Signature struct {
	Name string
	Type DataType
	// Shape is the shape of one row, without the batch dimension; −1 is a size
	// that the model leaves open.
	Shape []int
	// Labels are the class labels along the last dimension of an output of
	// class scores; nil elsewhere.
	Labels []string
}

// Metadata says what a model is and takes.
type Metadata struct {
	Name    string
	Version string
	// Digest is the SHA-256 of the model's file in hexadecimal; empty for a remote model.
	Digest string
	Inputs []Signature
	// FeatureNames are the names of the values of the only input, in order,
	// where the model carries them.
	FeatureNames []string
	Outputs      []Signature
	// Format and Producer describe the origin for people: "onnx", "skl2onnx 1.19".
	Format   string
	Producer string
	// MaxBatch is the largest number of rows of one Infer; 0 means no limit.
	MaxBatch int
}

// Driver evaluates one version of one model. Adapters implement it; callers
// hold a *Model.
//
// Infer may be called concurrently, up to Concurrency calls at a time.
type Driver interface {
	// Metadata is constant over the driver's life.
	Metadata() Metadata
	// Infer evaluates the batch in: one tensor per input of the Metadata, in
	// that order, all with the same number n of rows. It fills out: one tensor
	// per output, in order, whose Type and Shape ([n, …]) and storage it sets,
	// reusing the slices' capacity. Inputs are only read, and neither side
	// keeps the other's slices after the call. NaN and infinities are values,
	// not errors. An error concerns the whole batch: Invalid where the inputs
	// do not fit, Transient or Throttled where a repeat may help.
	Infer(ctx context.Context, in, out []Tensor) error
	// Concurrency is how many Infer calls may run at once: the number of instances.
	Concurrency() int
	// Close waits for calls in progress and releases the model; a second Close returns nil.
	Close() error
}

// Local is a Driver that computes in this process and soon returns when its
// context is done, so that nothing has to watch its calls: they run on the
// model's own goroutine and read the callers' tensors in place. A driver that
// waits for anything else (a server, another process) must not be one.
type Local interface{ Local() }
