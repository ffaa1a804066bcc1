package wire

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// Decode reads a ModelProto.
func Decode(data []byte, l Limits) (*Model, error) {
	d := &decoder{limits: l, messages: 64 * l.MaxNodes, words: map[string]string{}}
	m, err := d.model(data)
	if err != nil {
		return nil, fmt.Errorf("decode model: %w", err)
	}
	return m, nil
}

// DecodeTensor reads a TensorProto.
func DecodeTensor(data []byte) (*Tensor, error) {
	d := &decoder{messages: 1, words: map[string]string{}}
	var t Tensor
	if err := d.tensor(data, &t); err != nil {
		return nil, fmt.Errorf("decode tensor: %w", err)
	}
	return &t, nil
}

type decoder struct {
	limits   Limits
	messages int
	// words holds each distinct string once; graphs and trees repeat them.
	words map[string]string
}

// field is one field of a message: v for numbers, b for bytes.
type field struct {
	num protowire.Number
	typ protowire.Type
	v   uint64
	b   []byte
}

// next splits the first field off b.
func next(b []byte) (f field, rest []byte, err error) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return f, nil, protowire.ParseError(n)
	}
	b = b[n:]
	f.num, f.typ = num, typ
	switch typ {
	case protowire.VarintType:
		f.v, n = protowire.ConsumeVarint(b)
	case protowire.Fixed32Type:
		var v uint32
		v, n = protowire.ConsumeFixed32(b)
		f.v = uint64(v)
	case protowire.Fixed64Type:
		f.v, n = protowire.ConsumeFixed64(b)
	case protowire.BytesType:
		f.b, n = protowire.ConsumeBytes(b)
	default:
		return f, nil, fmt.Errorf("field %d has the obsolete wire type %d", num, typ)
	}
	if n < 0 {
		return f, nil, fmt.Errorf("field %d: %w", num, protowire.ParseError(n))
	}
	return f, b[n:], nil
}

// message reads all fields of b, each with its handler.
func (d *decoder) message(b []byte, handle func(f field) error) error {
	if d.messages--; d.messages < 0 {
		return fmt.Errorf("more messages than the limit of %d nodes allows", d.limits.MaxNodes)
	}
	for len(b) > 0 {
		f, rest, err := next(b)
		if err != nil {
			return err
		}
		if err := handle(f); err != nil {
			return err
		}
		b = rest
	}
	return nil
}

func (d *decoder) str(f field) (string, error) {
	if f.typ != protowire.BytesType {
		return "", fmt.Errorf("field %d: wire type %d where a string is expected", f.num, f.typ)
	}
	if len(f.b) > 64 {
		return string(f.b), nil
	}
	if s, ok := d.words[string(f.b)]; ok {
		return s, nil
	}
	s := string(f.b)
	if len(d.words) < 1<<16 {
		d.words[s] = s
	}
	return s, nil
}

func (d *decoder) setStr(to *string, f field) error {
	s, err := d.str(f)
	*to = s
	return err
}

func (d *decoder) appendStr(to *[]string, f field) error {
	s, err := d.str(f)
	*to = append(*to, s)
	return err
}

func number(f field) (uint64, error) {
	if f.typ != protowire.VarintType {
		return 0, fmt.Errorf("field %d: wire type %d where an integer is expected", f.num, f.typ)
	}
	return f.v, nil
}

func sub(f field) ([]byte, error) {
	if f.typ != protowire.BytesType {
		return nil, fmt.Errorf("field %d: wire type %d where a message is expected", f.num, f.typ)
	}
	return f.b, nil
}

// appendVarints appends a repeated integer field, packed or not.
func appendVarints[T int32 | int64 | uint64](to *[]T, f field) error {
	switch f.typ {
	case protowire.VarintType:
		*to = append(*to, T(f.v))
		return nil
	case protowire.BytesType:
	default:
		return fmt.Errorf("field %d: wire type %d where integers are expected", f.num, f.typ)
	}
	count := 0
	for _, c := range f.b {
		if c < 0x80 {
			count++
		}
	}
	out := grow(*to, count)
	for b := f.b; len(b) > 0; {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return fmt.Errorf("field %d: %w", f.num, protowire.ParseError(n))
		}
		out = append(out, T(v))
		b = b[n:]
	}
	*to = out
	return nil
}

func appendFloats(to *[]float32, f field) error {
	switch {
	case f.typ == protowire.Fixed32Type:
		*to = append(*to, math.Float32frombits(uint32(f.v)))
		return nil
	case f.typ != protowire.BytesType || len(f.b)%4 != 0:
		return fmt.Errorf("field %d: not a list of 4-byte floats", f.num)
	}
	out := grow(*to, len(f.b)/4)
	for b := f.b; len(b) > 0; b = b[4:] {
		v, _ := protowire.ConsumeFixed32(b)
		out = append(out, math.Float32frombits(v))
	}
	*to = out
	return nil
}

func appendDoubles(to *[]float64, f field) error {
	switch {
	case f.typ == protowire.Fixed64Type:
		*to = append(*to, math.Float64frombits(f.v))
		return nil
	case f.typ != protowire.BytesType || len(f.b)%8 != 0:
		return fmt.Errorf("field %d: not a list of 8-byte floats", f.num)
	}
	out := grow(*to, len(f.b)/8)
	for b := f.b; len(b) > 0; b = b[8:] {
		v, _ := protowire.ConsumeFixed64(b)
		out = append(out, math.Float64frombits(v))
	}
	*to = out
	return nil
}

// grow makes room for n more; n counts elements that are really there.
func grow[T any](s []T, n int) []T {
	if len(s) == 0 {
		return make([]T, 0, n)
	}
	return s
}
