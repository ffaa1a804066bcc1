package ops

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/attribution"
	"github.com/freshet-io/freshet/inference/onnx/internal/wire"
)

// Value is an edge of the graph as known at load. Type is always set; Const is the value
// where it does not depend on the model's inputs.
type Value struct {
	Name  string
	Type  inference.DataType
	Const *Tensor
}

// Node is a node being compiled. In holds nil for an omitted optional input, Out
// for an output that nobody takes. Compile sets the Type of the outputs.
type Node struct {
	*wire.Node
	Version     int
	MaxElements int
	In, Out     []*Value
	// Dense is set by Compile where the kernel is a dense layer.
	Dense *Dense
	// Source is set by Compile where the node may add up what features do; it returns nil where not.
	Source func() *Source
	// Trees is set by Compile where the node holds trees.
	Trees *attribution.Ensemble
	used  map[string]bool
}

// Kernel runs a compiled node. Omitted inputs and outputs are nil.
type Kernel func(f *Frame, in, out []*Tensor) error

// Compile prepares a node.
type Compile func(n *Node) (Kernel, error)

// Entry is an operator that this package offers.
type Entry struct {
	Domain, Op string
	// Min and Max are the first and last version of the operator set for which
	// the operator means what Compile does.
	Min, Max int
	// In and Out are the least and greatest numbers of inputs and outputs.
	InMin, InMax, OutMax int
	Compile              Compile
	// View says that the output may share the input's storage.
	View bool
}

// Errors that Compile returns: unsupported things are gathered into one report, anything else
// is a fault of the model.
var errUnsupported = errors.New("unsupported")

// Unsupported reports whether err says that a node asks for something not offered.
func Unsupported(err error) bool { return errors.Is(err, errUnsupported) }

type unsupportedError struct{ msg string }

func (e *unsupportedError) Error() string        { return e.msg }
func (e *unsupportedError) Is(target error) bool { return target == errUnsupported }

func unsupported(format string, args ...any) error {
	return &unsupportedError{fmt.Sprintf(format, args...)}
}

func (n *Node) attr(name string, kind int) (*wire.Attr, error) {
	for i := range n.Attrs {
		a := &n.Attrs[i]
		if a.Name != name {
			continue
		}
		if n.used == nil {
			n.used = map[string]bool{}
		}
		n.used[name] = true
		if a.Kind != kind {
			return nil, fmt.Errorf("attribute %s has the wrong type", name)
		}
		return a, nil
	}
	return nil, nil
}

func (n *Node) has(name string) bool {
	return slices.ContainsFunc(n.Attrs, func(a wire.Attr) bool { return a.Name == name })
}

// Ignore names attributes that make no difference here.
func (n *Node) ignore(names ...string) {
	if n.used == nil {
		n.used = map[string]bool{}
	}
	for _, s := range names {
		n.used[s] = true
	}
}

// Unread lists the attributes that Compile did not look at.
func (n *Node) Unread() []string {
	var out []string
	for _, a := range n.Attrs {
		if !n.used[a.Name] {
			out = append(out, a.Name)
		}
	}
	return out
}

func (n *Node) intAttr(name string, otherwise int64) (int64, error) {
	a, err := n.attr(name, wire.AttrInt)
	if a == nil || err != nil {
		return otherwise, err
	}
	return a.I, nil
}

func (n *Node) floatAttr(name string, otherwise float32) (float32, error) {
	a, err := n.attr(name, wire.AttrFloat)
	if a == nil || err != nil {
		return otherwise, err
	}
	return a.F, nil
}

func (n *Node) stringAttr(name, otherwise string) (string, error) {
	a, err := n.attr(name, wire.AttrString)
	if a == nil || err != nil {
		return otherwise, err
	}
	return a.S, nil
}

func (n *Node) intsAttr(name string) ([]int64, error) {
	a, err := n.attr(name, wire.AttrInts)
	if a == nil || err != nil {
		return nil, err
	}
	return a.Ints, nil
}

func (n *Node) floatsAttr(name string) ([]float32, error) {
	a, err := n.attr(name, wire.AttrFloats)
	if a == nil || err != nil {
		return nil, err
	}
	return a.Floats, nil
}

func (n *Node) stringsAttr(name string) ([]string, error) {
	a, err := n.attr(name, wire.AttrStrings)
	if a == nil || err != nil {
		return nil, err
	}
	return a.Strings, nil
}

// tensorAttr reads a tensor attribute; nil where it is absent.
func (n *Node) tensorAttr(name string) (*Tensor, error) {
	a, err := n.attr(name, wire.AttrTensor)
	if a == nil || err != nil {
		return nil, err
	}
	t, err := FromWire(a.T, n.MaxElements)
	if err != nil {
		return nil, fmt.Errorf("attribute %s: %w", name, err)
	}
	return t, nil
}

// in returns the i-th input or nil.
func (n *Node) in(i int) *Value {
	if i < len(n.In) {
		return n.In[i]
	}
	return nil
}

// types checks that input i is there and has one of the types.
func (n *Node) types(i int, allowed ...inference.DataType) error {
	v := n.in(i)
	if v == nil {
		return fmt.Errorf("input %d is missing", i)
	}
	if !slices.Contains(allowed, v.Type) {
		var names []string
		for _, d := range allowed {
			names = append(names, d.String())
		}
		return unsupported("input %d is %v; supported are %s", i, v.Type, strings.Join(names, ", "))
	}
	return nil
}

// result sets the type of output i.
func (n *Node) result(i int, d inference.DataType) {
	if i < len(n.Out) && n.Out[i] != nil {
		n.Out[i].Type = d
	}
}

var (
	floatTypes  = []inference.DataType{inference.Float32, inference.Float64}
	intTypes    = []inference.DataType{inference.Int64, inference.Int32}
	numberTypes = []inference.DataType{inference.Float32, inference.Float64, inference.Int64, inference.Int32}
)

// byNumber picks the kernel for a numeric type; a nil kernel means unsupported.
func byNumber(d inference.DataType, f32, f64, i64, i32 Kernel) (Kernel, error) {
	var k Kernel
	switch d {
	case inference.Float32:
		k = f32
	case inference.Float64:
		k = f64
	case inference.Int64:
		k = i64
	case inference.Int32:
		k = i32
	}
	if k == nil {
		return nil, unsupported("element type %v", d)
	}
	return k, nil
}

// axisOf turns an axis that may be negative into one of [0, rank).
func axisOf(axis int64, rank int) (int, error) {
	if axis < int64(-rank) || axis >= int64(rank) {
		return 0, fmt.Errorf("axis %d of a tensor of %d dimensions", axis, rank)
	}
	if axis < 0 {
		axis += int64(rank)
	}
	return int(axis), nil
}

// TypeFromWire is the DataType of an ONNX element type; false where it is not supported.
func TypeFromWire(t int) (inference.DataType, bool) {
	switch t {
	case wire.TypeFloat:
		return inference.Float32, true
	case wire.TypeDouble:
		return inference.Float64, true
	case wire.TypeInt64:
		return inference.Int64, true
	case wire.TypeInt32:
		return inference.Int32, true
	case wire.TypeBool:
		return inference.Bool, true
	case wire.TypeString:
		return inference.String, true
	}
	return 0, false
}
