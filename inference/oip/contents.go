package oip

import (
	"fmt"
	"math"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/freshet-io/freshet/inference"
)

// field is where typed contents hold elements of the datatype; 0 where they cannot.
func (d datatype) field() protowire.Number {
	switch d.code {
	case codeBool:
		return contentsBool
	case codeInt8, codeInt16, codeInt32:
		return contentsInt
	case codeInt64:
		return contentsInt64
	case codeUint8, codeUint16, codeUint32:
		return contentsUint
	case codeUint64:
		return contentsUint64
	case codeFP32:
		return contentsFP32
	case codeFP64:
		return contentsFP64
	case codeBytes:
		return contentsBytes
	}
	return 0
}

// packedSize is the size of t's elements, one behind the other.
func (d datatype) packedSize(t *inference.Tensor) int {
	size := 0
	switch d.of {
	case inference.Float32:
		size = 4 * len(t.F32)
	case inference.Float64:
		size = 8 * len(t.F64)
	case inference.Bool:
		size = len(t.Bool)
	case inference.Int64:
		for _, v := range t.I64 {
			size += protowire.SizeVarint(uint64(v))
		}
	case inference.Int32:
		for _, v := range t.I32 {
			size += protowire.SizeVarint(uint64(int64(v)))
		}
	}
	return size
}

// contentsSize is the size of the message with t's elements as typed contents.
func (d datatype) contentsSize(t *inference.Tensor) int {
	if d.code == codeBytes {
		size := 0
		for _, s := range t.Str {
			size += 1 + protowire.SizeBytes(len(s))
		}
		return size
	}
	return 1 + protowire.SizeBytes(d.packedSize(t))
}

func (d datatype) appendContents(b []byte, t *inference.Tensor) []byte {
	if d.code == codeBytes {
		for _, s := range t.Str {
			b = appendText(b, contentsBytes, s)
		}
		return b
	}
	b = protowire.AppendTag(b, d.field(), protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(d.packedSize(t)))
	switch d.of {
	case inference.Float32, inference.Float64, inference.Bool:
		b = d.appendRaw(b, t)
	case inference.Int64:
		for _, v := range t.I64 {
			b = protowire.AppendVarint(b, uint64(v))
		}
	case inference.Int32:
		for _, v := range t.I32 {
			b = protowire.AppendVarint(b, uint64(int64(v)))
		}
	}
	return b
}

// readContents fills t, which has room for count elements, with the typed contents c.
// Numbers may be packed or not, and in several runs.
func (d datatype) readContents(t *inference.Tensor, c []byte, count int) error {
	field := d.field()
	if field == 0 {
		return fmt.Errorf("%s comes without raw contents", d.name)
	}
	at := 0
	for len(c) > 0 {
		num, typ, n := protowire.ConsumeTag(c)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if num != field {
			// Empty lists of other types are nothing; full ones are the elements of another type.
			rest := protowire.ConsumeFieldValue(num, typ, c[n:])
			if rest < 0 {
				return protowire.ParseError(rest)
			}
			if num <= contentsBytes && (typ != protowire.BytesType || rest > 1) {
				return fmt.Errorf("%s comes with contents of another type", d.name)
			}
			c = c[n+rest:]
			continue
		}
		c = c[n:]
		run := c
		if typ == protowire.BytesType {
			if run, n = protowire.ConsumeBytes(c); n < 0 {
				return protowire.ParseError(n)
			}
			c = c[n:]
			if d.code == codeBytes {
				if at >= count {
					return fmt.Errorf("more than %d elements", count)
				}
				if t.Str[at] = string(run); !utf8.Valid(run) {
					return fmt.Errorf("text %d is no UTF-8", at)
				}
				at++
				continue
			}
			for len(run) > 0 {
				if n = d.readOne(t, at, count, run); n < 0 {
					return fmt.Errorf("element %d of %d cannot be read", at, count)
				}
				run = run[n:]
				at++
			}
			continue
		}
		if d.code == codeBytes || typ != d.wireType() {
			return fmt.Errorf("%s comes as another type", d.name)
		}
		if n = d.readOne(t, at, count, c); n < 0 {
			return fmt.Errorf("element %d of %d cannot be read", at, count)
		}
		c = c[n:]
		at++
	}
	if at != count {
		return fmt.Errorf("%d elements, expected %d", at, count)
	}
	return nil
}

func (d datatype) wireType() protowire.Type {
	switch d.code {
	case codeFP32:
		return protowire.Fixed32Type
	case codeFP64:
		return protowire.Fixed64Type
	}
	return protowire.VarintType
}

// readOne reads element i of count from the beginning of b and returns its size;
// negative where there is none that fits.
func (d datatype) readOne(t *inference.Tensor, i, count int, b []byte) int {
	if i >= count {
		return -1
	}
	switch d.code {
	case codeFP32:
		v, n := protowire.ConsumeFixed32(b)
		t.F32[i] = math.Float32frombits(v)
		return n
	case codeFP64:
		v, n := protowire.ConsumeFixed64(b)
		t.F64[i] = math.Float64frombits(v)
		return n
	}
	v, n := protowire.ConsumeVarint(b)
	if n < 0 {
		return n
	}
	least, most := d.bounds()
	if d.code == codeInt32 {
		least, most = math.MinInt32, math.MaxInt32
	}
	x := int64(v)
	if d.code != codeBool && (x < least || x > most) {
		return -1
	}
	switch d.of {
	case inference.Bool:
		if v > 1 {
			return -1
		}
		t.Bool[i] = v == 1
	case inference.Int32:
		t.I32[i] = int32(x)
	case inference.Int64:
		t.I64[i] = x
	}
	return n
}
