package oip

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// datatype is an element type of the protocol, and what stands for it here.
type datatype struct {
	name string
	of   inference.DataType
	size int // of a raw element, in bytes; 0 for BYTES
	code uint8
}

const (
	codeBool = iota
	codeInt8
	codeInt16
	codeInt32
	codeInt64
	codeUint8
	codeUint16
	codeUint32
	codeUint64
	codeFP16
	codeBF16
	codeFP32
	codeFP64
	codeBytes
)

// datatypes are those of the protocol, by their codes.
var datatypes = []datatype{
	{"BOOL", inference.Bool, 1, codeBool},
	{"INT8", inference.Int32, 1, codeInt8},
	{"INT16", inference.Int32, 2, codeInt16},
	{"INT32", inference.Int32, 4, codeInt32},
	{"INT64", inference.Int64, 8, codeInt64},
	{"UINT8", inference.Int32, 1, codeUint8},
	{"UINT16", inference.Int32, 2, codeUint16},
	{"UINT32", inference.Int64, 4, codeUint32},
	{"UINT64", inference.Int64, 8, codeUint64},
	{"FP16", inference.Float32, 2, codeFP16},
	{"BF16", inference.Float32, 2, codeBF16},
	{"FP32", inference.Float32, 4, codeFP32},
	{"FP64", inference.Float64, 8, codeFP64},
	{"BYTES", inference.String, 0, codeBytes},
}

func datatypeNames() []string {
	var names []string
	for _, d := range datatypes {
		names = append(names, d.name)
	}
	return names
}

func lookUp(name string) (datatype, bool) {
	i := slices.IndexFunc(datatypes, func(d datatype) bool { return d.name == name })
	if i < 0 {
		return datatype{}, false
	}
	return datatypes[i], true
}

// natural is the datatype of a type of ours.
func natural(t inference.DataType) datatype {
	return datatypes[map[inference.DataType]uint8{
		inference.Float32: codeFP32, inference.Float64: codeFP64, inference.Int64: codeInt64,
		inference.Int32: codeInt32, inference.Bool: codeBool, inference.String: codeBytes,
	}[t]]
}

// bounds are the least and the greatest value of an integer type that is narrower than ours.
func (d datatype) bounds() (least, most int64) {
	switch d.code {
	case codeInt8, codeInt16:
		most = 1<<(8*d.size-1) - 1
		return -most - 1, most
	case codeUint8, codeUint16, codeUint32:
		return 0, 1<<(8*d.size) - 1
	case codeUint64:
		return 0, math.MaxInt64
	}
	return math.MinInt64, math.MaxInt64
}

// check finds a value that the server's type cannot hold. The error is Invalid.
func (d datatype) check(t *inference.Tensor) error {
	least, most := d.bounds()
	outside := func(i int, v any) error {
		return errkind.Errorf(errkind.Invalid, "element %d is %v, which %s cannot hold", i, v, d.name)
	}
	switch {
	case d.code == codeFP16 || d.code == codeBF16:
		for i, v := range t.F32 {
			if w := math.Abs(float64(v)); w > 65519 && d.code == codeFP16 && !math.IsInf(w, 0) || w > 3.396e38 && !math.IsInf(w, 0) {
				return outside(i, v)
			}
		}
	case d.of == inference.Int32 && d.code != codeInt32:
		for i, v := range t.I32 {
			if int64(v) < least || int64(v) > most {
				return outside(i, v)
			}
		}
	case d.of == inference.Int64 && d.code != codeInt64:
		for i, v := range t.I64 {
			if v < least || v > most {
				return outside(i, v)
			}
		}
	}
	return nil
}

// rawSize is the number of bytes of t's elements.
func (d datatype) rawSize(t *inference.Tensor, count int) int {
	if d.code != codeBytes {
		return count * d.size
	}
	size := 4 * len(t.Str)
	for _, s := range t.Str {
		size += len(s)
	}
	return size
}

// appendRaw writes t's elements: little endian, texts behind their lengths.
func (d datatype) appendRaw(b []byte, t *inference.Tensor) []byte {
	le := binary.LittleEndian
	switch d.code {
	case codeFP32:
		at := len(b)
		b = b[:at+4*len(t.F32)] // the caller made room
		to, from := b[at:], t.F32
		for len(from) >= 4 && len(to) >= 16 { // at once, for their bounds are checked once
			le.PutUint32(to, math.Float32bits(from[0]))
			le.PutUint32(to[4:], math.Float32bits(from[1]))
			le.PutUint32(to[8:], math.Float32bits(from[2]))
			le.PutUint32(to[12:], math.Float32bits(from[3]))
			to, from = to[16:], from[4:]
		}
		for i, v := range from {
			le.PutUint32(to[4*i:], math.Float32bits(v))
		}
	case codeFP64:
		at := len(b)
		b = b[:at+8*len(t.F64)]
		for i, v := range t.F64 {
			le.PutUint64(b[at+8*i:], math.Float64bits(v))
		}
	case codeInt64, codeUint64:
		for _, v := range t.I64 {
			b = le.AppendUint64(b, uint64(v))
		}
	case codeUint32:
		for _, v := range t.I64 {
			b = le.AppendUint32(b, uint32(v))
		}
	case codeInt32:
		for _, v := range t.I32 {
			b = le.AppendUint32(b, uint32(v))
		}
	case codeInt16, codeUint16:
		for _, v := range t.I32 {
			b = le.AppendUint16(b, uint16(v))
		}
	case codeInt8, codeUint8:
		for _, v := range t.I32 {
			b = append(b, byte(v))
		}
	case codeFP16:
		for _, v := range t.F32 {
			b = le.AppendUint16(b, toHalf(v))
		}
	case codeBF16:
		for _, v := range t.F32 {
			b = le.AppendUint16(b, toBrain(v))
		}
	case codeBool:
		for _, v := range t.Bool {
			one := byte(0)
			if v {
				one = 1
			}
			b = append(b, one)
		}
	case codeBytes:
		for _, s := range t.Str {
			b = le.AppendUint32(b, uint32(len(s)))
			b = append(b, s...)
		}
	}
	return b
}

// fits says whether raw can be count elements, before room is made for them.
func (d datatype) fits(raw []byte, count int) error {
	if d.code == codeBytes {
		if len(raw)/4 < count {
			return fmt.Errorf("%d bytes for %d texts", len(raw), count)
		}
		return nil
	}
	if len(raw) != count*d.size {
		return fmt.Errorf("%d bytes for %d elements of %s", len(raw), count, d.name)
	}
	return nil
}

// readRaw fills t, which has room for exactly the elements that fits allowed.
func (d datatype) readRaw(t *inference.Tensor, raw []byte) error {
	le := binary.LittleEndian
	switch d.code {
	case codeFP32:
		for i := range t.F32 {
			t.F32[i] = math.Float32frombits(le.Uint32(raw[4*i:]))
		}
	case codeFP64:
		for i := range t.F64 {
			t.F64[i] = math.Float64frombits(le.Uint64(raw[8*i:]))
		}
	case codeInt64:
		for i := range t.I64 {
			t.I64[i] = int64(le.Uint64(raw[8*i:]))
		}
	case codeUint64:
		for i := range t.I64 {
			v := le.Uint64(raw[8*i:])
			if v > math.MaxInt64 {
				return errTooGreat(i, v)
			}
			t.I64[i] = int64(v)
		}
	case codeUint32:
		for i := range t.I64 {
			t.I64[i] = int64(le.Uint32(raw[4*i:]))
		}
	case codeInt32:
		for i := range t.I32 {
			t.I32[i] = int32(le.Uint32(raw[4*i:]))
		}
	case codeInt16:
		for i := range t.I32 {
			t.I32[i] = int32(int16(le.Uint16(raw[2*i:])))
		}
	case codeUint16:
		for i := range t.I32 {
			t.I32[i] = int32(le.Uint16(raw[2*i:]))
		}
	case codeInt8:
		for i := range t.I32 {
			t.I32[i] = int32(int8(raw[i]))
		}
	case codeUint8:
		for i := range t.I32 {
			t.I32[i] = int32(raw[i])
		}
	case codeFP16:
		for i := range t.F32 {
			t.F32[i] = fromHalf(le.Uint16(raw[2*i:]))
		}
	case codeBF16:
		for i := range t.F32 {
			t.F32[i] = math.Float32frombits(uint32(le.Uint16(raw[2*i:])) << 16)
		}
	case codeBool:
		for i := range t.Bool {
			if raw[i] > 1 {
				return fmt.Errorf("element %d of BOOL is %d", i, raw[i])
			}
			t.Bool[i] = raw[i] == 1
		}
	case codeBytes:
		return readTexts(t.Str, raw)
	}
	return nil
}

func errTooGreat(i int, v uint64) error {
	return fmt.Errorf("element %d is %d, beyond 64 bits with a sign", i, v)
}

// readTexts reads texts behind their lengths. They share one copy of raw.
func readTexts(out []string, raw []byte) error {
	all := string(raw)
	at := 0
	for i := range out {
		if len(raw)-at < 4 {
			return fmt.Errorf("the bytes end before text %d of %d", i, len(out))
		}
		n := int(binary.LittleEndian.Uint32(raw[at:]))
		if at += 4; n > len(raw)-at {
			return fmt.Errorf("text %d claims %d bytes, and %d are left", i, n, len(raw)-at)
		}
		if out[i] = all[at : at+n]; !utf8.ValidString(out[i]) {
			return fmt.Errorf("text %d is no UTF-8", i)
		}
		at += n
	}
	if at != len(raw) {
		return fmt.Errorf("%d bytes are left behind %d texts", len(raw)-at, len(out))
	}
	return nil
}

// toHalf rounds to IEEE 754 binary16, ties to even.
func toHalf(v float32) uint16 {
	bits := math.Float32bits(v)
	sign := uint16(bits >> 16 & 0x8000)
	exp := int(bits>>23&0xff) - 127
	mant := bits & 0x7fffff
	switch {
	case exp == 128 && mant != 0:
		return sign | 0x7e00
	case exp > 15:
		return sign | 0x7c00
	case exp < -25:
		return sign
	}
	shift := uint(13)
	value := uint32(exp+15)<<10 | mant>>13 // carries from rounding run into the exponent, rightly
	if exp < -14 {
		mant |= 0x800000
		shift = uint(13 - 14 - exp)
		value = mant >> shift
	}
	rest, half := mant&(1<<shift-1), uint32(1)<<(shift-1)
	if rest > half || rest == half && value&1 == 1 {
		value++
	}
	return sign | uint16(value)
}

func fromHalf(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp, mant := uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exp {
	case 0:
		v := float32(mant) / (1 << 24)
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | mant<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | mant<<13)
}

// toBrain rounds to the upper half of a binary32, ties to even.
func toBrain(v float32) uint16 {
	bits := math.Float32bits(v)
	if v != v {
		return uint16(bits>>16) | 0x40
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}
