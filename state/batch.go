package state

import "encoding/binary"

// OpKind is what an Op does.
type OpKind uint8

const (
	// Put sets a key's value.
	Put OpKind = iota
	// Delete removes a key; one that is not there is no error.
	Delete
	// DeleteRange removes the keys Key ≤ key < Value.
	DeleteRange
)

// Op is one change of a Batch. Its slices are the batch's own.
type Op struct {
	Kind  OpKind
	Key   []byte
	Value []byte
	// Expires is when a put entry may be dropped, in nanoseconds of event time;
	// 0 is never.
	Expires int64
}

// Batch is a list of changes that are made together, in one buffer. It copies
// what it is given. The zero value is empty and ready; Reset keeps the storage.
type Batch struct {
	prefix []byte // before each key, set by the Space that the batch is of
	space  *Space
	buf    []byte
	ops    []op
	maxKey int
	maxVal int
	puts   int
}

type op struct {
	key, value, end int // of the key's and the value's first byte and behind, in buf
	expires         int64
	kind            OpKind
}

// Put sets key to value until it expires, in nanoseconds of event time; 0 is never.
func (b *Batch) Put(key, value []byte, expires int64) { b.add(Put, key, value, expires) }

// Delete removes key.
func (b *Batch) Delete(key []byte) { b.add(Delete, key, nil, 0) }

// DeleteRange removes the keys from ≤ key < to.
func (b *Batch) DeleteRange(from, to []byte) {
	b.add(DeleteRange, from, nil, 0)
	o := &b.ops[len(b.ops)-1]
	b.buf = append(append(b.buf, b.prefix...), to...)
	o.end = len(b.buf)
}

func (b *Batch) add(kind OpKind, key, value []byte, expires int64) {
	o := op{kind: kind, expires: expires, key: len(b.buf)}
	b.buf = append(append(b.buf, b.prefix...), key...)
	o.value = len(b.buf)
	b.buf = append(b.buf, value...)
	o.end = len(b.buf)
	b.maxKey, b.maxVal = max(b.maxKey, o.value-o.key), max(b.maxVal, len(value))
	if kind == Put {
		b.puts++
	}
	b.ops = append(b.ops, o)
}

// Len is the number of changes.
func (b *Batch) Len() int { return len(b.ops) }

// Size is the number of bytes of all keys and values.
func (b *Batch) Size() int { return len(b.buf) }

// At returns change i.
func (b *Batch) At(i int) Op {
	o := &b.ops[i]
	return Op{Kind: o.kind, Key: b.buf[o.key:o.value:o.value], Value: b.buf[o.value:o.end:o.end], Expires: o.expires}
}

// Reset empties the batch.
func (b *Batch) Reset() {
	b.buf, b.ops, b.maxKey, b.maxVal, b.puts = b.buf[:0], b.ops[:0], 0, 0, 0
}

// AfterPrefix returns the first key behind all that begin with prefix; nil where
// there is none.
func AfterPrefix(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			after := append([]byte(nil), prefix[:i+1]...)
			after[i]++
			return after
		}
	}
	return nil
}

// AppendExpiry writes an expiry before a value, for drivers whose store has no
// place for it: one byte for an entry that never expires, nine for others.
func AppendExpiry(dst []byte, expires int64) []byte {
	if expires == 0 {
		return append(dst, 0)
	}
	return binary.BigEndian.AppendUint64(append(dst, 1), uint64(expires))
}

// CutExpiry splits what AppendExpiry began; ok is false where nothing did.
func CutExpiry(b []byte) (expires int64, value []byte, ok bool) {
	switch {
	case len(b) >= 1 && b[0] == 0:
		return 0, b[1:], true
	case len(b) >= 9 && b[0] == 1:
		return int64(binary.BigEndian.Uint64(b[1:])), b[9:], true
	}
	return 0, nil, false
}
