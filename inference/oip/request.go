package oip

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/freshet-io/freshet/inference"
)

// The messages of the protocol are written and read here by hand, so that the
// numbers go from tensors to the wire, and back, in one step. The numbers are those
// of the fields in the protocol's own description.
const (
	requestModel      = 1
	requestVersion    = 2
	requestParameters = 4
	requestInputs     = 5
	requestOutputs    = 6
	requestRaw        = 7

	tensorName       = 1
	tensorDatatype   = 2
	tensorShape      = 3
	tensorParameters = 4
	tensorContents   = 5

	answerVersion = 2
	answerOutputs = 5
	answerRaw     = 6

	contentsBool   = 1
	contentsInt    = 2
	contentsInt64  = 3
	contentsUint   = 4
	contentsUint64 = 5
	contentsFP32   = 6
	contentsFP64   = 7
	contentsBytes  = 8
)

// frame is what all requests for a model have in common.
type frame struct {
	m     *model
	typed bool
	head  []byte   // name, version, parameters
	names [][]byte // of each input: name, datatype, parameters
	tail  []byte   // the outputs wanted
}

func newFrame(c *config, m *model) *frame {
	f := &frame{m: m, typed: c.typed}
	f.head = appendText(f.head, requestModel, c.model)
	if c.version != "" {
		f.head = appendText(f.head, requestVersion, c.version)
	}
	f.head = appendParameters(f.head, requestParameters, c.params)
	for i := range m.inputs {
		p := &m.inputs[i]
		b := appendText(nil, tensorName, p.sig.Name)
		b = appendText(b, tensorDatatype, p.dt.name)
		f.names = append(f.names, appendParameters(b, tensorParameters, p.params))
	}
	for i := range m.outputs {
		f.tail = appendMessage(f.tail, requestOutputs, appendText(nil, tensorName, m.outputs[i].sig.Name))
	}
	return f
}

func appendText(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendMessage(b []byte, field protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), m)
}

// appendParameters writes a map from names to values.
func appendParameters(b []byte, field protowire.Number, params []parameter) []byte {
	for _, p := range params {
		var v []byte
		switch x := p.value.(type) {
		case bool:
			v = protowire.AppendVarint(protowire.AppendTag(v, 1, protowire.VarintType), protowire.EncodeBool(x))
		case int64:
			v = protowire.AppendVarint(protowire.AppendTag(v, 2, protowire.VarintType), uint64(x))
		case string:
			v = appendText(v, 3, x)
		case float64:
			v = protowire.AppendFixed64(protowire.AppendTag(v, 4, protowire.Fixed64Type), math.Float64bits(x))
		}
		b = appendMessage(b, field, appendMessage(appendText(nil, 1, p.name), 2, v))
	}
	return b
}

// request is one ModelInferRequest.
type request struct {
	f  *frame
	in []inference.Tensor
	n  int
}

// shapeSize is the size of the packed shape of an input.
func (r *request) shapeSize(i int) int {
	size := 0
	for _, d := range r.in[i].Shape {
		size += protowire.SizeVarint(uint64(d))
	}
	if r.f.m.inputs[i].column && len(r.in[i].Shape) == 1 {
		size++
	}
	return size
}

func (r *request) count(i int) int {
	n := 1
	for _, d := range r.in[i].Shape {
		n *= d
	}
	return n
}

// inputSize is the size of an input's message, shape the size of its packed shape.
func (r *request) inputSize(i, shape int) int {
	size := len(r.f.names[i]) + 1 + protowire.SizeBytes(shape)
	if r.f.typed {
		size += 1 + protowire.SizeBytes(r.f.m.inputs[i].dt.contentsSize(&r.in[i]))
	}
	return size
}

// size is the exact size of the message.
func (r *request) size() int {
	size := len(r.f.head) + len(r.f.tail)
	for i := range r.in {
		size += 1 + protowire.SizeBytes(r.inputSize(i, r.shapeSize(i)))
		if !r.f.typed {
			size += 1 + protowire.SizeBytes(r.f.m.inputs[i].dt.rawSize(&r.in[i], r.count(i)))
		}
	}
	return size
}

// appendTo writes the message behind b, which has room for it.
func (r *request) appendTo(b []byte) []byte {
	b = append(b, r.f.head...)
	for i := range r.in {
		p := &r.f.m.inputs[i]
		shape := r.shapeSize(i)
		b = protowire.AppendTag(b, requestInputs, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(r.inputSize(i, shape)))
		b = append(b, r.f.names[i]...)
		b = protowire.AppendTag(b, tensorShape, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(shape))
		for _, d := range r.in[i].Shape {
			b = protowire.AppendVarint(b, uint64(d))
		}
		if p.column && len(r.in[i].Shape) == 1 {
			b = append(b, 1)
		}
		if r.f.typed {
			b = protowire.AppendTag(b, tensorContents, protowire.BytesType)
			b = protowire.AppendVarint(b, uint64(p.dt.contentsSize(&r.in[i])))
			b = p.dt.appendContents(b, &r.in[i])
		}
	}
	b = append(b, r.f.tail...)
	if r.f.typed {
		return b
	}
	for i := range r.in {
		p := &r.f.m.inputs[i]
		b = protowire.AppendTag(b, requestRaw, protowire.BytesType)
		b = protowire.AppendVarint(b, uint64(p.dt.rawSize(&r.in[i], r.count(i))))
		b = p.dt.appendRaw(b, &r.in[i])
	}
	return b
}
