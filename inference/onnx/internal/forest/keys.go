package forest

import (
	"math"
	"unsafe"
)

// lanes is how many rows a group holds and are walked together.
const lanes = 8

// key is a floating-point number's bits, turned so that unsigned keys compare as the numbers do:
// the sign bit is flipped in positive numbers, every bit in negative ones. The threshold -0 is
// made +0, since nothing lies between. A missing value's key is nanLow, below the key of -Inf, or
// all ones, above the key of +Inf.
type key interface{ uint32 | uint64 }

// nanLow compares like a NaN: it exceeds nothing.
const nanLow = 0

func keyOf[K key](b K) K {
	top := unsafe.Sizeof(b)*8 - 1
	return b ^ (-(b >> top) | 1<<top)
}

// isNaN says whether b are the bits of a NaN.
func isNaN[K key](b K) bool {
	if unsafe.Sizeof(b) == 4 {
		return uint64(b)&math.MaxInt32 > 0x7F80_0000
	}
	return uint64(b)&math.MaxInt64 > 0x7FF0_0000_0000_0000
}

// threshold is the key of v, which is not NaN.
func threshold[T Float](v T) uint64 {
	if v == 0 {
		v = 0 // not -0
	}
	switch v := any(v).(type) {
	case float32:
		return uint64(keyOf(math.Float32bits(v)))
	case float64:
		return keyOf(math.Float64bits(v))
	}
	return 0
}

// keySize is the size of a key of T in bytes.
func keySize[T Float]() int { return int(unsafe.Sizeof(T(0))) }

// as views memory as keys.
func as[K key](m []uint64) []K {
	return unsafe.Slice((*K)(unsafe.Pointer(unsafe.SliceData(m))), len(m)*8/int(unsafe.Sizeof(K(0))))
}

// put stores key v of T at index i of m.
func put[T Float](m []uint64, i int, v uint64) {
	if keySize[T]() == 4 {
		as[uint32](m)[i] = uint32(v)
	} else {
		m[i] = v
	}
}

// fill writes the keys of the rows in groups: of a group, the eight keys of the first column, then
// those of the next. The lanes of missing rows keep what they hold: whatever a key is, a walk
// stays in its tree. It reports whether there was a NaN, whose key is missing.
func fill[K key](out, x []K, rows, width int, columns []uint32, missing K) (nan bool) {
	for r := 0; r < rows; r += lanes {
		n := min(lanes, rows-r)
		for _, c := range columns {
			to := out[:lanes]
			out = out[lanes:]
			at := r*width + int(c)
			for k := range n {
				b := x[at]
				v := keyOf(b)
				if isNaN(b) {
					v, nan = missing, true
				}
				to[k] = v
				at += width
			}
		}
	}
	return nan
}

// fillBoth writes every column twice, first with a NaN as nanLow, then as all ones.
func fillBoth[K key](out, x []K, rows, width int, columns []uint32) {
	for r := 0; r < rows; r += lanes {
		n := min(lanes, rows-r)
		for _, c := range columns {
			low, high := out[:lanes], out[lanes:2*lanes]
			out = out[2*lanes:]
			for k := range n {
				b := x[(r+k)*width+int(c)]
				low[k], high[k] = keyOf(b), keyOf(b)
				if isNaN(b) {
					low[k], high[k] = nanLow, ^K(0)
				}
			}
		}
	}
}
