package tfserving

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/internal/spell"
)

// dtype is an element type of TensorFlow, and what stands for it here.
type dtype struct {
	of          inference.DataType
	least, most int64   // of an integer type narrower than ours
	limit       float64 // of a floating-point type narrower than ours
}

var dtypes = map[string]dtype{
	"DT_FLOAT":    {of: inference.Float32},
	"DT_HALF":     {of: inference.Float32, limit: 65519},
	"DT_BFLOAT16": {of: inference.Float32, limit: 3.396e38},
	"DT_DOUBLE":   {of: inference.Float64},
	"DT_INT32":    {of: inference.Int32, least: math.MinInt32, most: math.MaxInt32},
	"DT_INT16":    {of: inference.Int32, least: math.MinInt16, most: math.MaxInt16},
	"DT_INT8":     {of: inference.Int32, least: math.MinInt8, most: math.MaxInt8},
	"DT_UINT16":   {of: inference.Int32, most: math.MaxUint16},
	"DT_UINT8":    {of: inference.Int32, most: math.MaxUint8},
	"DT_INT64":    {of: inference.Int64, least: math.MinInt64, most: math.MaxInt64},
	"DT_UINT32":   {of: inference.Int64, most: math.MaxUint32},
	"DT_UINT64":   {of: inference.Int64, most: math.MaxInt64},
	"DT_BOOL":     {of: inference.Bool},
	"DT_STRING":   {of: inference.String},
}

// fits finds an element that the type does not have.
func (d dtype) fits(t *inference.Tensor) error {
	switch t.Type {
	case inference.Float32:
		for i, v := range t.F32 {
			if w := math.Abs(float64(v)); d.limit > 0 && w > d.limit && !math.IsInf(w, 0) {
				return fmt.Errorf("element %d is %v, beyond the server's type", i, v)
			}
		}
	case inference.Int32:
		for i, v := range t.I32 {
			if int64(v) < d.least || int64(v) > d.most {
				return fmt.Errorf("element %d is %d, beyond the server's type", i, v)
			}
		}
	case inference.Int64:
		for i, v := range t.I64 {
			if v < d.least || v > d.most {
				return fmt.Errorf("element %d is %d, beyond the server's type", i, v)
			}
		}
	}
	return nil
}

// tensorInfo is a tensor in the server's metadata.
type tensorInfo struct {
	Dtype string `json:"dtype"`
	Shape struct {
		Dim []struct {
			Size int64 `json:"size,string"`
		} `json:"dim"`
		UnknownRank bool `json:"unknown_rank"`
	} `json:"tensor_shape"`
}

// signatureDef is a signature in the server's metadata.
type signatureDef struct {
	Inputs  map[string]tensorInfo `json:"inputs"`
	Outputs map[string]tensorInfo `json:"outputs"`
}

type metadata struct {
	Metadata struct {
		SignatureDef struct {
			SignatureDef map[string]signatureDef `json:"signature_def"`
		} `json:"signature_def"`
	} `json:"metadata"`
}

// port is an input or output.
type port struct {
	dt  dtype
	sig inference.Signature
}

// maxSize bounds the elements of a row.
const maxSize = 1 << 31

// ports are those that the settings name, or all, in the order of their names. Every
// error is Config.
func ports(side string, said map[string]tensorInfo, names []string, maxBatch *int) ([]port, error) {
	known := slices.Sorted(maps.Keys(said))
	if len(names) == 0 {
		names = known
	}
	if len(names) == 0 {
		return nil, errkind.Errorf(errkind.Config, "the signature has no %ss", side)
	}
	var out []port
	for _, name := range names {
		t, ok := said[name]
		if !ok {
			hint := ""
			if near := spell.Nearest(name, known); near != "" {
				hint = fmt.Sprintf("; did you mean %q?", near)
			}
			return nil, errkind.Errorf(errkind.Config, "the signature has no %s %q, but %s%s", side, name, strings.Join(known, ", "), hint)
		}
		p, err := newPort(name, t, maxBatch)
		if err != nil {
			return nil, errkind.Errorf(errkind.Config, "%s %q: %w", side, name, err)
		}
		if slices.ContainsFunc(out, func(o port) bool { return o.sig.Name == name }) {
			return nil, errkind.Errorf(errkind.Config, "%s %q is named twice", side, name)
		}
		out = append(out, p)
	}
	return out, nil
}

func newPort(name string, t tensorInfo, maxBatch *int) (port, error) {
	dt, ok := dtypes[t.Dtype]
	dims := t.Shape.Dim
	switch {
	case !ok:
		return port{}, fmt.Errorf("type %q cannot be called by JSON here", t.Dtype)
	case dt.of == inference.String && strings.HasSuffix(name, "_bytes"):
		return port{}, fmt.Errorf("it holds bytes, not text")
	case t.Shape.UnknownRank || len(dims) == 0 || len(dims) > 16:
		return port{}, fmt.Errorf("its shape is unknown or has no dimension for the batch")
	case dims[0].Size == 0 || dims[0].Size > 1:
		return port{}, fmt.Errorf("it takes no other number of rows than %d", dims[0].Size)
	}
	if dims[0].Size == 1 {
		*maxBatch = 1
	}
	p := port{dt: dt, sig: inference.Signature{Name: name, Type: dt.of}}
	size := int64(1)
	for _, d := range dims[1:] {
		if d.Size < -1 || d.Size == 0 || d.Size > maxSize {
			return port{}, fmt.Errorf("a dimension of %d", d.Size)
		}
		if d.Size > 0 {
			if size *= d.Size; size > maxSize {
				return port{}, fmt.Errorf("rows of more than %d elements", maxSize)
			}
		}
		p.sig.Shape = append(p.sig.Shape, int(d.Size))
	}
	return p, nil
}
