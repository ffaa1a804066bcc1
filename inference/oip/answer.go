package oip

import (
	"bytes"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/freshet-io/freshet/inference"
)

// maxOutputs bounds how many outputs an answer may have.
const maxOutputs = 1024

// answer reads one ModelInferResponse into tensors. It is used again for other calls.
type answer struct {
	m       *model
	version string
	outputs []output
	raw     [][]byte
	shape   []int64
	dims    []int
}

// output is one of an answer, as parts of its bytes.
type output struct {
	name, datatype []byte
	dims           []int64
	contents       []byte
	typed          bool
}

// fields calls field for each of a message; bytes is the value of one with a length,
// number that of a varint.
func fields(b []byte, field func(num protowire.Number, typ protowire.Type, bytes []byte, number uint64) error) error {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		var value []byte
		var number uint64
		switch typ {
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			number, n = protowire.ConsumeVarint(b)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := field(num, typ, value, number); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// read fills out with n rows. Every error says that the answer is at fault.
func (a *answer) read(b []byte, n int, out []inference.Tensor) error {
	a.outputs, a.raw, a.shape = a.outputs[:0], a.raw[:0], a.shape[:0]
	version := ""
	for len(b) > 0 {
		num, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return fmt.Errorf("the answer is no message: %w", protowire.ParseError(size))
		}
		b = b[size:]
		if typ != protowire.BytesType {
			if size = protowire.ConsumeFieldValue(num, typ, b); size < 0 {
				return fmt.Errorf("the answer is no message: %w", protowire.ParseError(size))
			}
			b = b[size:]
			continue
		}
		v, size := protowire.ConsumeBytes(b)
		if size < 0 {
			return fmt.Errorf("the answer is no message: %w", protowire.ParseError(size))
		}
		b = b[size:]
		switch num {
		case answerVersion:
			if a.version != "" && a.version != string(v) {
				version = string(v)
			}
		case answerOutputs:
			if len(a.outputs) == maxOutputs {
				return fmt.Errorf("the answer has more than %d outputs", maxOutputs)
			}
			o := output{}
			if err := a.output(v, &o); err != nil {
				return err
			}
			a.outputs = append(a.outputs, o)
		case answerRaw:
			if len(a.raw) == maxOutputs {
				return fmt.Errorf("the answer has more than %d outputs", maxOutputs)
			}
			a.raw = append(a.raw, v)
		}
	}
	if version != "" {
		return fmt.Errorf("version %q answers, expected %q", version, a.version)
	}
	if err := a.dealRaw(); err != nil {
		return err
	}
	for i := range out {
		if err := a.fill(&a.m.outputs[i], i, n, &out[i]); err != nil {
			return fmt.Errorf("output %q: %w", a.m.outputs[i].sig.Name, err)
		}
	}
	return nil
}

// dealRaw gives the raw contents to the outputs without typed ones, in order.
func (a *answer) dealRaw() error {
	if len(a.raw) == 0 {
		return nil
	}
	k := 0
	for i := range a.outputs {
		o := &a.outputs[i]
		if o.typed && len(o.contents) > 0 {
			continue
		}
		if k < len(a.raw) {
			o.contents, o.typed = a.raw[k], false
		}
		k++
	}
	if k != len(a.raw) {
		return fmt.Errorf("the answer has %d raw contents for %d outputs", len(a.raw), k)
	}
	// Typed and empty, beside raw ones, was no content at all.
	return nil
}

var errTwice = errors.New("an output holds a field twice")

func (a *answer) output(b []byte, o *output) error {
	from := len(a.shape)
	named := false
	for len(b) > 0 {
		num, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return fmt.Errorf("an output is no message: %w", protowire.ParseError(size))
		}
		b = b[size:]
		if num == tensorShape && typ == protowire.VarintType {
			d, size := protowire.ConsumeVarint(b)
			if size < 0 {
				return fmt.Errorf("an output is no message: %w", protowire.ParseError(size))
			}
			if a.shape = append(a.shape, int64(d)); len(a.shape)-from > maxRank {
				return errRank
			}
			b = b[size:]
			continue
		}
		if typ != protowire.BytesType {
			if size = protowire.ConsumeFieldValue(num, typ, b); size < 0 {
				return fmt.Errorf("an output is no message: %w", protowire.ParseError(size))
			}
			b = b[size:]
			continue
		}
		v, size := protowire.ConsumeBytes(b)
		if size < 0 {
			return fmt.Errorf("an output is no message: %w", protowire.ParseError(size))
		}
		b = b[size:]
		switch num {
		case tensorName:
			if named {
				return errTwice
			}
			o.name, named = v, true
		case tensorDatatype:
			o.datatype = v
		case tensorShape:
			for len(v) > 0 {
				d, size := protowire.ConsumeVarint(v)
				if size < 0 {
					return fmt.Errorf("an output is no message: %w", protowire.ParseError(size))
				}
				if a.shape = append(a.shape, int64(d)); len(a.shape)-from > maxRank {
					return errRank
				}
				v = v[size:]
			}
		case tensorContents:
			if o.typed {
				return errTwice
			}
			o.contents, o.typed = v, true
		}
	}
	o.dims = a.shape[from:len(a.shape):len(a.shape)]
	return nil
}

var errRank = fmt.Errorf("an output has more than %d dimensions", maxRank)

// find is the output of that name; most servers answer in the order asked for.
func (a *answer) find(name string, i int) (*output, error) {
	if i >= len(a.outputs) || string(a.outputs[i].name) != name {
		i = -1
		for j := range a.outputs {
			if string(a.outputs[j].name) == name {
				i = j
				break
			}
		}
		if i < 0 {
			var names [][]byte
			for j := range a.outputs[:min(8, len(a.outputs))] {
				names = append(names, a.outputs[j].name)
			}
			return nil, fmt.Errorf("the answer has none of that name, but [%.200q]", bytes.Join(names, []byte(", ")))
		}
	}
	for j := range a.outputs {
		if j != i && string(a.outputs[j].name) == name {
			return nil, errors.New("the answer has it twice")
		}
	}
	return &a.outputs[i], nil
}

func (a *answer) fill(p *port, i, n int, t *inference.Tensor) error {
	o, err := a.find(p.sig.Name, i)
	if err != nil {
		return err
	}
	if string(o.datatype) != p.dt.name {
		return fmt.Errorf("comes as %.20q, expected %s", o.datatype, p.dt.name)
	}
	dims, count, err := p.fit(o.dims, n, a.dims)
	if err != nil {
		return err
	}
	a.dims = dims
	if o.typed {
		if count > len(o.contents) { // every element takes a byte at least
			return fmt.Errorf("%d bytes for %d elements", len(o.contents), count)
		}
		p.room(t, dims, n)
		return p.dt.readContents(t, o.contents, count)
	}
	if err := p.dt.fits(o.contents, count); err != nil {
		return err
	}
	p.room(t, dims, n)
	return p.dt.readRaw(t, o.contents)
}

// release drops what belongs to the message that was read.
func (a *answer) release() {
	clear(a.outputs)
	clear(a.raw)
}
