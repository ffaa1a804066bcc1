package frame

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	"github.com/freshet-io/freshet/inference"
)

const (
	maxTensors = 4096
	maxRank    = 32
)

// View is a tensor in a frame that was read: its Data is the frame's own.
type View struct {
	Type  inference.DataType
	Shape []int64
	Count int // of elements
	Data  []byte
}

// Tensors reads the body of Infer or Result, in the storage of dst. Each shape
// has the data it asks for, and nothing is left over.
func Tensors(body []byte, dst []View) ([]View, error) {
	dst = dst[:0]
	b := body
	if len(b) < 4 {
		return nil, fmt.Errorf("%w: tensors in %d bytes", errPeer, len(body))
	}
	n := binary.LittleEndian.Uint32(b)
	b = b[4:]
	if n > maxTensors {
		return nil, fmt.Errorf("%w: %d tensors", errPeer, n)
	}
	for i := range int(n) {
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: tensor %d is cut off", errPeer, i)
		}
		typ, rank := inference.DataType(b[0]), int(b[1])
		b = b[4:]
		if typ < inference.Float32 || typ > inference.String || rank > maxRank || len(b) < 8*rank+8 {
			return nil, fmt.Errorf("%w: tensor %d of type %d and rank %d in %d bytes", errPeer, i, typ, rank, len(b))
		}
		if len(dst) < cap(dst) {
			dst = dst[:len(dst)+1]
		} else {
			dst = append(dst, View{})
		}
		v := &dst[i]
		v.Type, v.Count, v.Shape = typ, 1, v.Shape[:0]
		for range rank {
			d := binary.LittleEndian.Uint64(b)
			b = b[8:]
			if d > uint64(len(body)) {
				return nil, fmt.Errorf("%w: tensor %d has a dimension of %d in a body of %d bytes", errPeer, i, d, len(body))
			}
			v.Shape = append(v.Shape, int64(d))
			if v.Count *= int(d); v.Count > len(body) {
				return nil, fmt.Errorf("%w: tensor %d has more elements than its frame has bytes", errPeer, i)
			}
		}
		size := binary.LittleEndian.Uint64(b)
		b = b[8:]
		want := uint64(v.Count * elementSize(typ))
		if size > uint64(len(body)) || typ != inference.String && size != want || size < want {
			return nil, fmt.Errorf("%w: tensor %d of shape %v has %d bytes", errPeer, i, v.Shape, size)
		}
		v.Data = nil
		if size > 0 {
			v.Data = body[:size] // of this size; below it is put where it lies
		}
	}
	at := len(body) - len(b)
	at += pad(at)
	for i := range dst {
		v := &dst[i]
		end := at + len(v.Data)
		if end > len(body) {
			return nil, fmt.Errorf("%w: the data of tensor %d is cut off", errPeer, i)
		}
		v.Data = body[at:end:end]
		at = end + pad(end)
	}
	if at != len(body) {
		return nil, fmt.Errorf("%w: %d bytes of tensors in a body of %d", errPeer, at, len(body))
	}
	return dst, nil
}

// elementSize is that of one element in a frame; of a text the least.
func elementSize(t inference.DataType) int {
	switch t {
	case inference.Float64, inference.Int64:
		return 8
	case inference.Bool:
		return 1
	}
	return 4
}

func dataSize(t *inference.Tensor) int {
	if t.Type != inference.String {
		return len(Raw(t))
	}
	n := 0
	for _, s := range t.Str {
		n += 4 + len(s)
	}
	return n
}

// Raw is the elements where they lie; nil for texts.
func Raw(t *inference.Tensor) []byte {
	switch t.Type {
	case inference.Float32:
		return raw(t.F32)
	case inference.Float64:
		return raw(t.F64)
	case inference.Int64:
		return raw(t.I64)
	case inference.Int32:
		return raw(t.I32)
	case inference.Bool:
		return raw(t.Bool)
	}
	return nil
}

func raw[T any](s []T) []byte {
	if len(s) == 0 {
		return nil
	}
	var zero T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(zero)))
}

func appendData(dst []byte, t *inference.Tensor) []byte {
	if t.Type != inference.String {
		return append(dst, Raw(t)...)
	}
	for _, s := range t.Str {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(s)))
		dst = append(dst, s...)
	}
	return dst
}

// CopyTo copies the elements and the shape to t, in t's storage where there is room.
func (v *View) CopyTo(t *inference.Tensor) error {
	t.Type, t.Shape = v.Type, t.Shape[:0]
	for _, d := range v.Shape {
		t.Shape = append(t.Shape, int(d))
	}
	switch v.Type {
	case inference.Float32:
		t.F32 = copied(t.F32, v)
	case inference.Float64:
		t.F64 = copied(t.F64, v)
	case inference.Int64:
		t.I64 = copied(t.I64, v)
	case inference.Int32:
		t.I32 = copied(t.I32, v)
	case inference.Bool:
		for _, b := range v.Data {
			if b > 1 {
				return fmt.Errorf("%w: a bool of %d", errPeer, b)
			}
		}
		t.Bool = copied(t.Bool, v)
	case inference.String:
		var err error
		t.Str, err = v.Strings(t.Str[:0])
		return err
	}
	return nil
}

func copied[T any](s []T, v *View) []T {
	s = slices.Grow(s[:0], v.Count)[:v.Count]
	copy(raw(s), v.Data)
	return s
}

// Strings appends the texts of a tensor of them to dst.
func (v *View) Strings(dst []string) ([]string, error) {
	b := v.Data
	for i := range v.Count {
		if len(b) < 4 {
			return nil, fmt.Errorf("%w: text %d is cut off", errPeer, i)
		}
		n := binary.LittleEndian.Uint32(b)
		b = b[4:]
		if uint64(n) > uint64(len(b)) {
			return nil, fmt.Errorf("%w: text %d of %d bytes is cut off", errPeer, i, n)
		}
		dst = append(dst, string(b[:n]))
		b = b[n:]
	}
	if len(b) > 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last text", errPeer, len(b))
	}
	return dst, nil
}
