package journal

import (
	"encoding/binary"

	"github.com/freshet-io/freshet/event"
)

// A record in a block is four byte strings, each after its length as an
// unsigned varint: id, key, headers, value. Its position is the block's base
// plus its index, its time the block's.

func uvarintLen(n int) int {
	l := 1
	for n >= 0x80 {
		n >>= 7
		l++
	}
	return l
}

// encodedSize is the number of bytes that putRecord writes.
func encodedSize(r *event.Record) int {
	return r.Size() + uvarintLen(len(r.ID)) + uvarintLen(len(r.Key)) + uvarintLen(len(r.Headers)) + uvarintLen(len(r.Value))
}

// putRecord writes r to b, which is long enough, and returns the bytes written.
func putRecord(b []byte, r *event.Record) int {
	n := putBytes(b, 0, r.ID)
	n = putBytes(b, n, r.Key)
	n = putBytes(b, n, r.Headers)
	return putBytes(b, n, r.Value)
}

func putBytes(b []byte, at int, v []byte) int {
	n := len(v)
	for n >= 0x80 {
		b[at] = byte(n) | 0x80
		n >>= 7
		at++
	}
	b[at] = byte(n)
	at++
	return at + copy(b[at:], v)
}

// cutRecord reads the record at the beginning of b into r, without copying, and
// returns what follows it.
func cutRecord(b []byte, r *event.Record) (rest []byte, ok bool) {
	if r.ID, b, ok = cutBytes(b); !ok {
		return nil, false
	}
	if r.Key, b, ok = cutBytes(b); !ok {
		return nil, false
	}
	var headers []byte
	if headers, b, ok = cutBytes(b); !ok {
		return nil, false
	}
	r.Headers = headers
	r.Value, b, ok = cutBytes(b)
	return b, ok
}

// cutBytes cuts one byte string off b. An empty one is nil.
func cutBytes(b []byte) (v, rest []byte, ok bool) {
	var n uint64
	w := 1
	if len(b) > 0 && b[0] < 0x80 {
		n = uint64(b[0])
	} else if n, w = binary.Uvarint(b); w <= 0 {
		return nil, nil, false
	}
	if n > uint64(len(b)-w) {
		return nil, nil, false
	}
	if n == 0 {
		return nil, b[w:], true
	}
	end := w + int(n)
	return b[w:end:end], b[end:], true
}

// appendRecords cuts all records of a block and appends those from position on.
func appendRecords(recs []event.Record, h *blockHead, data []byte, position int64) ([]event.Record, error) {
	for i := range int64(h.count) {
		var r event.Record
		rest, ok := cutRecord(data, &r)
		if !ok {
			return recs, errRecords
		}
		data = rest
		if h.base+i >= position {
			r.Position, r.Time = h.base+i, h.time
			recs = append(recs, r)
		}
	}
	if len(data) != 0 {
		return recs, errRecords
	}
	return recs, nil
}
