package ops

import (
	"fmt"
	"math"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/kernel"
)

// Tensor is the value that kernels read and write.
type Tensor = inference.Tensor

// Elem is an element type of a tensor.
type Elem interface {
	float32 | float64 | int64 | int32 | bool | string
}

// Number is an element type with arithmetic.
type Number interface {
	float32 | float64 | int64 | int32
}

// Float is an element type with functions of analysis.
type Float interface{ float32 | float64 }

// MaxRank is the largest number of dimensions of a tensor.
const MaxRank = 10

// Data is the tensor's slice for T.
func Data[T Elem](t *Tensor) []T { return *slot[T](t) }

func slot[T Elem](t *Tensor) *[]T {
	if p, ok := any(&t.F32).(*[]T); ok {
		return p
	}
	if p, ok := any(&t.I64).(*[]T); ok {
		return p
	}
	if p, ok := any(&t.F64).(*[]T); ok {
		return p
	}
	if p, ok := any(&t.I32).(*[]T); ok {
		return p
	}
	if p, ok := any(&t.Bool).(*[]T); ok {
		return p
	}
	p, _ := any(&t.Str).(*[]T)
	return p
}

// typeOf is the DataType of T.
func typeOf[T Elem]() inference.DataType {
	var z *T
	switch any(z).(type) {
	case *float32:
		return inference.Float32
	case *float64:
		return inference.Float64
	case *int64:
		return inference.Int64
	case *int32:
		return inference.Int32
	case *bool:
		return inference.Bool
	default:
		return inference.String
	}
}

// Len is the number of elements stored in t.
func Len(t *Tensor) int {
	switch t.Type {
	case inference.Float32:
		return len(t.F32)
	case inference.Float64:
		return len(t.F64)
	case inference.Int64:
		return len(t.I64)
	case inference.Int32:
		return len(t.I32)
	case inference.Bool:
		return len(t.Bool)
	case inference.String:
		return len(t.Str)
	}
	return 0
}

// Size is the product of the dimensions; ok is false where one is negative or the
// product is larger than limit. Dimensions are bounded too, so that the product
// of any of them stays in range even where another is zero.
func Size(limit int, shape []int) (n int, ok bool) {
	n = 1
	zero := false
	for _, d := range shape {
		if d < 0 || d > limit {
			return 0, false
		}
		if d == 0 {
			zero = true
			continue
		}
		if n > limit/d {
			return 0, false
		}
		n *= d
	}
	if zero {
		return 0, true
	}
	return n, n <= limit
}

// product of dimensions that are known to be in bounds.
func product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// Frame is the memory of one run at a time.
type Frame struct {
	// MaxElements bounds the elements of one tensor, and four times as much those of all
	// tensors of a run together.
	MaxElements int
	// Work, where Limited is set, is how many elements the frame's runs may still read and
	// multiply: what a file costs at load must not depend on its author's mercy.
	Limited bool
	Work    int
	left    int
	f32     [3][]float32
	f64     []float64
	ints    []int
	trees   treeScratch
	packed  kernel.Packed // right side of a product that is not constant
	slicing slicing
	shape   [MaxRank + 1]int
}

// Reset begins a run.
func (f *Frame) Reset() {
	f.left = 4 * f.MaxElements
	if f.Limited {
		f.left = min(f.left, trialElements)
	}
}

// trialElements bounds what a limited run may allocate.
const trialElements = 1 << 24

// Spend takes n elements of work.
func (f *Frame) Spend(n int) error {
	if !f.Limited {
		return nil
	}
	if f.Work -= n; f.Work < 0 {
		return valueError("a trial run takes too much work")
	}
	return nil
}

func (f *Frame) take(shape []int) (int, error) {
	if len(shape) > MaxRank {
		return 0, fmt.Errorf("a tensor of %d dimensions, at most %d are supported", len(shape), MaxRank)
	}
	n, ok := Size(f.MaxElements, shape)
	if !ok {
		// A copy keeps shape off the heap on the way that succeeds.
		return 0, fmt.Errorf("a tensor of shape %v is larger than the limit of %d elements", append([]int(nil), shape...), f.MaxElements)
	}
	if f.left -= n; f.left < 0 {
		if f.Limited {
			return 0, valueError("a trial run needs too much memory")
		}
		return 0, fmt.Errorf("the run needs more than the limit of %d elements", 4*f.MaxElements)
	}
	return n, nil
}

// Alloc makes t a tensor of T with the shape; its elements are undefined.
func Alloc[T Elem](f *Frame, t *Tensor, shape ...int) ([]T, error) {
	n, err := f.take(shape)
	if err != nil {
		return nil, err
	}
	t.Type = typeOf[T]()
	t.Shape = append(t.Shape[:0], shape...)
	p := slot[T](t)
	if cap(*p) < n {
		*p = make([]T, n)
	}
	*p = (*p)[:n]
	return *p, nil
}

// view makes out share in's elements under another shape of the same size.
func view(out, in *Tensor, shape []int) {
	out.Type = in.Type
	out.F32, out.F64, out.I64, out.I32, out.Bool, out.Str = in.F32, in.F64, in.I64, in.I32, in.Bool, in.Str
	out.Shape = append(out.Shape[:0], shape...)
}

// Copy makes out a copy of in.
func Copy(f *Frame, out, in *Tensor) error {
	switch in.Type {
	case inference.Float32:
		return copyOf[float32](f, out, in)
	case inference.Float64:
		return copyOf[float64](f, out, in)
	case inference.Int64:
		return copyOf[int64](f, out, in)
	case inference.Int32:
		return copyOf[int32](f, out, in)
	case inference.Bool:
		return copyOf[bool](f, out, in)
	case inference.String:
		return copyOf[string](f, out, in)
	}
	return fmt.Errorf("a tensor without a type")
}

func copyOf[T Elem](f *Frame, out, in *Tensor) error {
	d, err := Alloc[T](f, out, in.Shape...)
	if err == nil {
		copy(d, Data[T](in))
	}
	return err
}

// scratch returns one of three float32 buffers, good until the kernel returns.
func (f *Frame) scratch(which, n int) []float32 {
	if cap(f.f32[which]) < n {
		f.f32[which] = make([]float32, n)
	}
	return f.f32[which][:n]
}

// floats returns t's elements as float32, converted into scratch where t has another type.
func (f *Frame) floats(t *Tensor) []float32 {
	switch t.Type {
	case inference.Float32:
		return t.F32
	case inference.Float64:
		return convertTo(f.scratch(0, len(t.F64)), t.F64)
	case inference.Int64:
		return convertTo(f.scratch(0, len(t.I64)), t.I64)
	case inference.Int32:
		return convertTo(f.scratch(0, len(t.I32)), t.I32)
	case inference.Bool:
		out := f.scratch(0, len(t.Bool))
		for i, b := range t.Bool {
			out[i] = 0
			if b {
				out[i] = 1
			}
		}
		return out
	}
	return nil
}

func convertTo[T, S Number](out []T, in []S) []T {
	for i, v := range in {
		out[i] = T(v)
	}
	return out
}

// ints reads an integer tensor into the frame's buffer, good until the next call;
// values are clamped to what any dimension may be.
func (f *Frame) intsOf(t *Tensor) ([]int, error) {
	n := Len(t)
	if cap(f.ints) < n {
		f.ints = make([]int, n)
	}
	out := f.ints[:n]
	switch t.Type {
	case inference.Int64:
		for i, v := range t.I64 {
			out[i] = clampInt(v)
		}
	case inference.Int32:
		for i, v := range t.I32 {
			out[i] = int(v)
		}
	default:
		return nil, fmt.Errorf("%v where integers are expected", t.Type)
	}
	return out, nil
}

// clampInt keeps sums of a few values from overflowing.
func clampInt(v int64) int {
	return int(max(min(v, math.MaxInt64/8), math.MinInt64/8))
}
