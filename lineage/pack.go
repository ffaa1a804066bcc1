package lineage

import (
	"encoding/binary"
	"math/bits"
)

// A vector of integers is a form byte and, by form:
//
//	formSame    the value (zigzag)
//	formPacked  the least value (zigzag), a width in bits, each value's distance from the least in so many bits
//	formDeltas  the first value (zigzag), the least difference (zigzag), a width, each difference likewise
//
// The form's upper four bits are the unit that all values are multiples of.
const (
	formSame   byte = 0
	formPacked byte = 1
	formDeltas byte = 2
)

// units are what instants are often multiples of, in nanoseconds.
var units = [...]int64{1, 1e3, 1e6, 1e9}

func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func appendZigzag(b []byte, v int64) []byte { return binary.AppendUvarint(b, zigzag(v)) }

func appendText[T string | []byte](b []byte, s T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendInts writes vs; vs is changed.
func appendInts(b []byte, vs []int64) []byte { return appendUnits(b, vs, 0) }

// appendTimes writes instants, which often are whole seconds or milliseconds; vs is changed.
func appendTimes(b []byte, vs []int64) []byte {
	u := len(units) - 1
	for _, v := range vs {
		for u > 0 && v%units[u] != 0 {
			u--
		}
		if u == 0 {
			break
		}
	}
	switch u { // a division by a constant is a multiplication
	case 1:
		for i := range vs {
			vs[i] /= 1e3
		}
	case 2:
		for i := range vs {
			vs[i] /= 1e6
		}
	case 3:
		for i := range vs {
			vs[i] /= 1e9
		}
	}
	return appendUnits(b, vs, u)
}

func appendUnits(b []byte, vs []int64, unit int) []byte {
	if len(vs) == 0 {
		return b
	}
	scale := byte(unit << 4)
	first := vs[0]
	least, most := first, first
	leastStep, mostStep := int64(0), int64(0)
	if len(vs) > 1 {
		leastStep = vs[1] - first
		mostStep = leastStep
	}
	last := first
	for _, v := range vs[1:] {
		least, most = min(least, v), max(most, v)
		step := v - last
		leastStep, mostStep = min(leastStep, step), max(mostStep, step)
		last = v
	}
	if least == most {
		return appendZigzag(append(b, scale|formSame), first)
	}
	width, stepWidth := bits.Len64(uint64(most-least)), bits.Len64(uint64(mostStep-leastStep))
	if width <= stepWidth {
		b = append(b, scale|formPacked)
		b = appendZigzag(b, least)
		for i := range vs {
			vs[i] -= least
		}
		return appendBits(append(b, byte(width)), vs, width)
	}
	b = append(b, scale|formDeltas)
	b = appendZigzag(b, first)
	b = appendZigzag(b, leastStep)
	last = first
	for i, v := range vs[1:] {
		vs[i] = v - last - leastStep
		last = v
	}
	return appendBits(append(b, byte(stepWidth)), vs[:len(vs)-1], stepWidth)
}

// appendBits writes the low width bits of each value, the first in the low bits of the first byte.
func appendBits(b []byte, vs []int64, width int) []byte {
	if width == 0 {
		return b
	}
	at := len(b)
	end := at + (len(vs)*width+7)/8
	b = room(b, end+8-at)
	var held uint64
	n := 0
	out := b[:cap(b)]
	for _, v := range vs {
		held |= uint64(v) << n
		n += width
		if n >= 64 {
			binary.LittleEndian.PutUint64(out[at:], held)
			at += 8
			n -= 64
			held = uint64(v) >> (width - n)
		}
	}
	binary.LittleEndian.PutUint64(out[at:], held)
	return out[:end]
}

// room makes place for n more bytes.
func room(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(b, make([]byte, n)...)[:len(b)]
}

// appendSet writes a bit for each element of set.
func appendSet(b []byte, set []bool) []byte {
	for len(set) > 0 {
		n := min(len(set), 8)
		var v byte
		for i, s := range set[:n] {
			if s {
				v |= 1 << i
			}
		}
		b = append(b, v)
		set = set[n:]
	}
	return b
}

// cursor reads a message. Once something is wrong it says so in bad and gives zeros.
type cursor struct {
	b   []byte
	bad bool
	// cells is how many more values may be made.
	cells int
}

func (c *cursor) fail() {
	c.b, c.bad = nil, true
}

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.bad = true
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) zigzag() int64 { return unzigzag(c.uvarint()) }

// count reads how many of something follow, each of which takes at least a byte.
func (c *cursor) count() int {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.fail()
		return 0
	}
	return int(n)
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.fail()
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

func (c *cursor) bytes() []byte { return c.take(c.count()) }
func (c *cursor) text() string  { return string(c.bytes()) }

// spend accounts for n values.
func (c *cursor) spend(n int) bool {
	if c.cells -= n; c.cells < 0 {
		c.fail()
	}
	return !c.bad
}

// ints reads n integers. Of damaged ones it gives zeros or nil.
func (c *cursor) ints(n int) []int64 {
	if n == 0 || !c.spend(n) {
		return nil
	}
	form := c.byte()
	unit := int(form >> 4)
	if unit >= len(units) || c.bad {
		c.fail()
		return nil
	}
	scale := units[unit]
	switch form & 15 {
	case formSame:
		v := c.zigzag() * scale
		if c.bad {
			return nil
		}
		vs := make([]int64, n)
		for i := range vs {
			vs[i] = v
		}
		return vs
	case formPacked:
		least := c.zigzag()
		vs := c.bits(n)
		for i := range vs {
			vs[i] = (vs[i] + least) * scale
		}
		return vs
	case formDeltas:
		last, step := c.zigzag(), c.zigzag()
		steps := c.bits(n - 1)
		if c.bad {
			return nil
		}
		vs := make([]int64, n)
		vs[0] = last * scale
		for i, d := range steps {
			last += d + step
			vs[i+1] = last * scale
		}
		return vs
	}
	c.fail()
	return nil
}

// bits reads a width and n values of it.
func (c *cursor) bits(n int) []int64 {
	width := int(c.byte())
	if width > 64 {
		c.fail()
	}
	in := c.take((n*width + 7) / 8)
	if c.bad {
		return nil
	}
	vs := make([]int64, n)
	if width == 0 {
		return vs
	}
	mask := ^uint64(0) >> (64 - width)
	for i := range vs {
		at := i * width
		from, shift := at/8, at%8
		var v uint64
		if from+8 <= len(in) {
			v = binary.LittleEndian.Uint64(in[from:]) >> shift
			if shift+width > 64 {
				v |= uint64(in[from+8]) << (64 - shift)
			}
		} else {
			for j, x := range in[from:] {
				v |= uint64(x) << (8 * j)
			}
			v >>= shift
		}
		vs[i] = int64(v & mask)
	}
	return vs
}

// set reads n bits.
func (c *cursor) set(n int) []bool {
	in := c.take((n + 7) / 8)
	if c.bad {
		return nil
	}
	vs := make([]bool, n)
	for i := range vs {
		vs[i] = in[i/8]&(1<<(i%8)) != 0
	}
	return vs
}
