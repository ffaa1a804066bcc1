// Package tensors holds what adapters do with tensors before and after a call:
// holding what came against the signatures, and making room for what goes back.
package tensors

import (
	"slices"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// Check holds the arguments of an Infer against the metadata and returns the number
// of rows. Every fault is Invalid.
func Check(m *inference.Metadata, in, out []inference.Tensor) (int, error) {
	if len(in) != len(m.Inputs) || len(in) == 0 {
		return 0, errkind.Errorf(errkind.Invalid, "model %q takes %d inputs, not %d", m.Name, len(m.Inputs), len(in))
	}
	if len(out) != len(m.Outputs) {
		return 0, errkind.Errorf(errkind.Invalid, "model %q gives %d outputs, not %d", m.Name, len(m.Outputs), len(out))
	}
	n := in[0].Rows()
	for i := range in {
		t, sig := &in[i], &m.Inputs[i]
		if t.Type != sig.Type {
			return 0, errkind.Errorf(errkind.Invalid, "model %q: input %q is %v, expected %v", m.Name, sig.Name, t.Type, sig.Type)
		}
		size := n
		fits := len(t.Shape) == len(sig.Shape)+1 && n >= 0
		for j := 0; fits && j < len(sig.Shape); j++ {
			d := t.Shape[j+1]
			fits = d >= 0 && (sig.Shape[j] < 0 || sig.Shape[j] == d)
			size *= d
		}
		if !fits {
			return 0, errkind.Errorf(errkind.Invalid, "model %q: input %q has shape %v, expected rows of %v", m.Name, sig.Name, t.Shape, sig.Shape)
		}
		if t.Shape[0] != n {
			return 0, errkind.Errorf(errkind.Invalid, "model %q: input %q has %d rows and %q has %d", m.Name, m.Inputs[0].Name, n, sig.Name, t.Shape[0])
		}
		if have := Len(t); have != size {
			return 0, errkind.Errorf(errkind.Invalid, "model %q: input %q has %d elements for shape %v", m.Name, sig.Name, have, t.Shape)
		}
	}
	if m.MaxBatch > 0 && n > m.MaxBatch {
		return 0, errkind.Errorf(errkind.Invalid, "model %q takes %d rows at most, not %d", m.Name, m.MaxBatch, n)
	}
	return n, nil
}

// Len is the number of elements that a tensor's storage holds.
func Len(t *inference.Tensor) int {
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

// Make turns t into the tensor of n rows that sig describes, whose sizes are all
// given, in t's own storage where there is room. What it holds is left over from
// before: the caller sets every element.
func Make(t *inference.Tensor, sig *inference.Signature, n int) {
	t.Name, t.Type = sig.Name, sig.Type
	t.Shape = append(append(t.Shape[:0], n), sig.Shape...)
	size := n * Width(sig)
	switch sig.Type {
	case inference.Float32:
		t.F32 = sized(t.F32, size)
	case inference.Float64:
		t.F64 = sized(t.F64, size)
	case inference.Int64:
		t.I64 = sized(t.I64, size)
	case inference.Int32:
		t.I32 = sized(t.I32, size)
	case inference.Bool:
		t.Bool = sized(t.Bool, size)
	case inference.String:
		t.Str = sized(t.Str, size)
	}
}

// Width is the number of elements of a row, where sig leaves no size open.
func Width(sig *inference.Signature) int {
	w := 1
	for _, d := range sig.Shape {
		w *= d
	}
	return w
}

func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return slices.Grow(s[:0], n)[:n]
	}
	return s[:n]
}

// At is element i of a tensor, as float64, int64, bool or string.
func At(t *inference.Tensor, i int) any {
	switch t.Type {
	case inference.Float32:
		return float64(t.F32[i])
	case inference.Float64:
		return t.F64[i]
	case inference.Int64:
		return t.I64[i]
	case inference.Int32:
		return int64(t.I32[i])
	case inference.Bool:
		return t.Bool[i]
	}
	return t.Str[i]
}

// Row is row i of a tensor that fits a signature: a value, or a list of values
// where a row has a dimension, and lists of lists for more of them.
func Row(t *inference.Tensor, i int) any {
	width := 1
	for _, d := range t.Shape[1:] {
		width *= d
	}
	return nested(t, t.Shape[1:], i*width)
}

func nested(t *inference.Tensor, shape []int, from int) any {
	if len(shape) == 0 {
		return At(t, from)
	}
	width := 1
	for _, d := range shape[1:] {
		width *= d
	}
	list := make([]any, shape[0])
	for i := range list {
		list[i] = nested(t, shape[1:], from+i*width)
	}
	return list
}
