package lineage

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// A vector of numbers is a form byte and, by form: integers that are the values;
// integers that are hundredths; a few values (8 bytes each) and which of them each
// row has; float32 bits; float64 bits. Each is exact: the bits of what is read are
// those of what was written, NaN and −0 among them.
const (
	floatInts = iota
	floatCents
	floatFew
	float32Bits
	float64Bits
)

// maxFew is how many values a vector of few may have.
const maxFew = 256

// few finds the distinct values of a vector by their bits.
type few struct {
	values []uint64
	slots  [4 * maxFew]uint16 // index in values + 1, by hash
}

// index gives each of vs its place among the distinct ones; false where these are too many.
func (f *few) index(vs []float64, into []int64) bool {
	most := min(maxFew, len(vs)/3)
	f.values = f.values[:0]
	clear(f.slots[:])
	for i, v := range vs {
		b := math.Float64bits(v)
		at := b * 0x9e3779b97f4a7c15 >> 54 // 10 bits
		for {
			s := f.slots[at]
			if s == 0 {
				if len(f.values) >= most {
					return false
				}
				f.values = append(f.values, b)
				f.slots[at] = uint16(len(f.values))
				into[i] = int64(len(f.values) - 1)
				break
			}
			if f.values[s-1] == b {
				into[i] = int64(s - 1)
				break
			}
			at = (at + 1) % uint64(len(f.slots))
		}
	}
	return true
}

// wholeLimit bounds numbers that are written as integers.
const wholeLimit = 1 << 52

// wholes writes vs × scale as integers where that is exact.
func wholes(vs []float64, scale float64, into []int64) bool {
	for i, v := range vs {
		x := v * scale
		if !(x > -wholeLimit && x < wholeLimit) {
			return false
		}
		n := int64(x)
		if scale != 1 {
			n = int64(math.RoundToEven(x))
		}
		if float64(n)/scale != v || n == 0 && math.Signbit(v) {
			return false
		}
		into[i] = n
	}
	return true
}

func isFloat32(vs []float64) bool {
	for _, v := range vs {
		if math.Float64bits(float64(float32(v))) != math.Float64bits(v) {
			return false
		}
	}
	return true
}

func (e *Encoder) appendFloats(b []byte, vs []float64) []byte {
	if len(vs) == 0 {
		return b
	}
	e.ints = sized(e.ints, len(vs))
	ints := e.ints
	switch {
	case wholes(vs, 1, ints):
		return appendInts(append(b, floatInts), ints)
	case wholes(vs, 100, ints):
		return appendInts(append(b, floatCents), ints)
	case e.few.index(vs, ints):
		b = append(b, floatFew, byte(len(e.few.values)-1))
		for _, v := range e.few.values {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		width := bits.Len(uint(len(e.few.values) - 1))
		return appendBits(append(b, byte(width)), ints, width)
	case isFloat32(vs):
		b = room(append(b, float32Bits), 4*len(vs))
		for _, v := range vs {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
		}
	default:
		b = room(append(b, float64Bits), 8*len(vs))
		for _, v := range vs {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(v))
		}
	}
	return b
}

// floats reads n numbers.
func (c *cursor) floats(n int) []float64 {
	if n == 0 || !c.spend(n) {
		return nil
	}
	switch form := c.byte(); form {
	case floatInts, floatCents:
		ints := c.ints(n)
		vs := make([]float64, len(ints))
		scale := 1.0
		if form == floatCents {
			scale = 100
		}
		for i, v := range ints {
			vs[i] = float64(v) / scale
		}
		return vs
	case floatFew:
		values := c.take(8 * (int(c.byte()) + 1))
		at := c.bits(n)
		vs := make([]float64, len(at))
		for i, a := range at {
			if a < 0 || a >= int64(len(values)/8) {
				c.fail()
				return nil
			}
			vs[i] = math.Float64frombits(binary.LittleEndian.Uint64(values[8*a:]))
		}
		return vs
	case float32Bits:
		in := c.take(4 * n)
		vs := make([]float64, len(in)/4)
		for i := range vs {
			vs[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(in[4*i:])))
		}
		return vs
	case float64Bits:
		in := c.take(8 * n)
		vs := make([]float64, len(in)/8)
		for i := range vs {
			vs[i] = math.Float64frombits(binary.LittleEndian.Uint64(in[8*i:]))
		}
		return vs
	}
	c.fail()
	return nil
}

// sized makes s n long; what it holds is of no meaning.
func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
