package event

import (
	"encoding/binary"
	"iter"
)

// Headers is a packed list of key–value pairs: for each pair the key's length as
// an unsigned varint, the key, the value's length, the value. The zero value is
// the empty list. Packing lets a record pass from topic to topic without one
// allocation per header.
type Headers []byte

// Append returns h with one more pair. Keys may repeat; Get returns the first.
func (h Headers) Append(key string, value []byte) Headers {
	h = binary.AppendUvarint(h, uint64(len(key)))
	h = append(h, key...)
	h = binary.AppendUvarint(h, uint64(len(value)))
	return append(h, value...)
}

// AppendString is Append for a string value.
func (h Headers) AppendString(key, value string) Headers {
	h = binary.AppendUvarint(h, uint64(len(key)))
	h = append(h, key...)
	h = binary.AppendUvarint(h, uint64(len(value)))
	return append(h, value...)
}

// Cut takes the first pair off h, for loops that may not allocate. ok is false at
// the end and on malformed input. Key and value alias h.
func (h Headers) Cut() (key, value []byte, rest Headers, ok bool) {
	if key, h, ok = cutBytes(h); !ok {
		return nil, nil, nil, false
	}
	if value, h, ok = cutBytes(h); !ok {
		return nil, nil, nil, false
	}
	return key, value, h, true
}

func cutBytes(b []byte) (v []byte, rest Headers, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	end := w + int(n)
	return b[w:end:end], b[end:], true
}

// Get returns the value of the first pair with this key. The value aliases h.
func (h Headers) Get(key string) (value []byte, ok bool) {
	for len(h) > 0 {
		k, v, rest, ok := h.Cut()
		if !ok {
			return nil, false
		}
		if string(k) == key {
			return v, true
		}
		h = rest
	}
	return nil, false
}

// All iterates over the pairs in order. Values alias h.
func (h Headers) All() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for len(h) > 0 {
			k, v, rest, ok := h.Cut()
			if !ok || !yield(string(k), v) {
				return
			}
			h = rest
		}
	}
}

// Valid reports whether h is well formed.
func (h Headers) Valid() bool {
	for len(h) > 0 {
		_, _, rest, ok := h.Cut()
		if !ok {
			return false
		}
		h = rest
	}
	return true
}
