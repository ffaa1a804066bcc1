package ops

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/wire"
)

// FromWire turns a TensorProto into a tensor that shares nothing with the file. The
// data must be there in full, so nothing is allocated beyond the file's size.
func FromWire(t *wire.Tensor, maxElements int) (*Tensor, error) {
	d, ok := TypeFromWire(t.Type)
	if !ok {
		return nil, unsupported("a tensor of %s; supported are float32, float64, int64, int32, bool and string", wire.TypeName(t.Type))
	}
	if t.External {
		return nil, unsupported("tensor data in another file; save the model with all data inside it")
	}
	if len(t.Dims) > MaxRank {
		return nil, fmt.Errorf("a tensor of %d dimensions, at most %d are supported", len(t.Dims), MaxRank)
	}
	out := &Tensor{Name: t.Name, Type: d, Shape: make([]int, len(t.Dims))}
	for i, n := range t.Dims {
		out.Shape[i] = clampInt(n)
	}
	n, ok := Size(maxElements, out.Shape)
	if !ok {
		return nil, fmt.Errorf("shape %v is negative or larger than the limit of %d elements", t.Dims, maxElements)
	}
	if t.HasRaw {
		return out, fromRaw(out, t.Raw, n)
	}
	have := 0
	switch d {
	case inference.Float32:
		out.F32, have = t.Floats, len(t.Floats)
	case inference.Float64:
		out.F64, have = t.Doubles, len(t.Doubles)
	case inference.Int64:
		out.I64, have = t.Int64s, len(t.Int64s)
	case inference.Int32:
		out.I32, have = t.Int32s, len(t.Int32s)
	case inference.String:
		out.Str, have = t.Strings, len(t.Strings)
	case inference.Bool:
		have = len(t.Int32s)
		out.Bool = make([]bool, have)
		for i, v := range t.Int32s {
			out.Bool[i] = v != 0
		}
	}
	if have != n {
		return nil, fmt.Errorf("shape %v needs %d elements, the file has %d", t.Dims, n, have)
	}
	return out, nil
}

func fromRaw(out *Tensor, raw []byte, n int) error {
	size := 0
	switch out.Type {
	case inference.Float32, inference.Int32:
		size = 4
	case inference.Float64, inference.Int64:
		size = 8
	case inference.Bool:
		size = 1
	default:
		return fmt.Errorf("raw data for a tensor of %v", out.Type)
	}
	if len(raw) != n*size {
		return fmt.Errorf("shape %v needs %d bytes of raw data, the file has %d", out.Shape, n*size, len(raw))
	}
	le := binary.LittleEndian
	switch out.Type {
	case inference.Float32:
		out.F32 = make([]float32, n)
		for i := range out.F32 {
			out.F32[i] = math.Float32frombits(le.Uint32(raw[4*i:]))
		}
	case inference.Int32:
		out.I32 = make([]int32, n)
		for i := range out.I32 {
			out.I32[i] = int32(le.Uint32(raw[4*i:]))
		}
	case inference.Float64:
		out.F64 = make([]float64, n)
		for i := range out.F64 {
			out.F64[i] = math.Float64frombits(le.Uint64(raw[8*i:]))
		}
	case inference.Int64:
		out.I64 = make([]int64, n)
		for i := range out.I64 {
			out.I64[i] = int64(le.Uint64(raw[8*i:]))
		}
	case inference.Bool:
		out.Bool = make([]bool, n)
		for i := range out.Bool {
			out.Bool[i] = raw[i] != 0
		}
	}
	return nil
}

func constantOps() []Entry {
	return []Entry{
		{Op: "Constant", Min: 1, Max: MaxOpset, OutMax: 1, Compile: compileConstant},
		{Op: "ConstantOfShape", Min: 9, Max: MaxOpset, InMin: 1, InMax: 1, OutMax: 1, Compile: compileConstantOfShape},
	}
}

func compileConstant(n *Node) (Kernel, error) {
	if len(n.Attrs) != 1 {
		return nil, fmt.Errorf("%d attributes, expected the value alone", len(n.Attrs))
	}
	a := &n.Attrs[0]
	n.ignore(a.Name)
	var t *Tensor
	switch {
	case a.Name == "value" && a.Kind == wire.AttrTensor:
		var err error
		if t, err = FromWire(a.T, n.MaxElements); err != nil {
			return nil, err
		}
	case a.Name == "value_float" && a.Kind == wire.AttrFloat:
		t = &Tensor{Type: inference.Float32, F32: []float32{a.F}}
	case a.Name == "value_floats" && a.Kind == wire.AttrFloats:
		t = &Tensor{Type: inference.Float32, Shape: []int{len(a.Floats)}, F32: a.Floats}
	case a.Name == "value_int" && a.Kind == wire.AttrInt:
		t = &Tensor{Type: inference.Int64, I64: []int64{a.I}}
	case a.Name == "value_ints" && a.Kind == wire.AttrInts:
		t = &Tensor{Type: inference.Int64, Shape: []int{len(a.Ints)}, I64: a.Ints}
	case a.Name == "value_string" && a.Kind == wire.AttrString:
		t = &Tensor{Type: inference.String, Str: []string{a.S}}
	case a.Name == "value_strings" && a.Kind == wire.AttrStrings:
		t = &Tensor{Type: inference.String, Shape: []int{len(a.Strings)}, Str: a.Strings}
	default:
		return nil, unsupported("attribute %s", a.Name)
	}
	n.result(0, t.Type)
	if n.Out[0] != nil {
		n.Out[0].Const = t
	}
	return func(f *Frame, _, out []*Tensor) error { return Copy(f, out[0], t) }, nil
}

func compileConstantOfShape(n *Node) (Kernel, error) {
	if err := n.types(0, inference.Int64); err != nil {
		return nil, err
	}
	v, err := n.tensorAttr("value")
	if err != nil {
		return nil, err
	}
	if v == nil {
		v = &Tensor{Type: inference.Float32, Shape: []int{1}, F32: []float32{0}}
	}
	if Len(v) != 1 {
		return nil, fmt.Errorf("attribute value holds %d elements, expected one", Len(v))
	}
	n.result(0, v.Type)
	return func(f *Frame, in, out []*Tensor) error {
		shape, err := f.intsOf(in[0])
		if err != nil {
			return err
		}
		return fill(f, out[0], v, shape)
	}, nil
}

// fill makes out a tensor of the shape with v's only element everywhere.
func fill(f *Frame, out, v *Tensor, shape []int) error {
	switch v.Type {
	case inference.Float32:
		return fillOf(f, out, v.F32[0], shape)
	case inference.Float64:
		return fillOf(f, out, v.F64[0], shape)
	case inference.Int64:
		return fillOf(f, out, v.I64[0], shape)
	case inference.Int32:
		return fillOf(f, out, v.I32[0], shape)
	case inference.Bool:
		return fillOf(f, out, v.Bool[0], shape)
	}
	return fillOf(f, out, v.Str[0], shape)
}

func fillOf[T Elem](f *Frame, out *Tensor, v T, shape []int) error {
	d, err := Alloc[T](f, out, shape...)
	for i := range d {
		d[i] = v
	}
	return err
}
