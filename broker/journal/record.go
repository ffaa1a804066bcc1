package journal

import (
	"bytes"
	"encoding/binary"

	"github.com/freshet-io/freshet/event"
)

// A record in a block is its id, key, headers and value. Each is written after
// its length as an unsigned varint; that of the headers counts one more, and 0
// stands for the headers of the record before. Its position is the block's base
// plus its index, its time the block's.

// maxRepeat is the largest headers that are written once for many records: it
// bounds by how much the records of a block can be larger than the block.
const maxRepeat = 1 << 10

// repeats reports whether headers can be left out behind a record that has before.
func repeats(headers, before event.Headers) bool {
	return len(headers) == len(before) && len(headers) > 0 && len(headers) <= maxRepeat && bytes.Equal(headers, before)
}

func uvarintLen(n int) int {
	l := 1
	for n >= 0x80 {
		n >>= 7
		l++
	}
	return l
}

// encodedSize is the number of bytes that putRecord writes.
func encodedSize(r *event.Record, repeat bool) int {
	n := len(r.ID) + len(r.Key) + len(r.Value) + uvarintLen(len(r.ID)) + uvarintLen(len(r.Key)) + uvarintLen(len(r.Value))
	if repeat {
		return n + 1
	}
	return n + len(r.Headers) + uvarintLen(len(r.Headers)+1)
}

// putRecord writes r to b, which is long enough, and returns the bytes written.
// With repeat its headers are those of the record before.
func putRecord(b []byte, r *event.Record, repeat bool) int {
	n := putBytes(b, 0, r.ID)
	n = putBytes(b, n, r.Key)
	if repeat {
		b[n] = 0
		n++
	} else {
		n = putLen(b, n, len(r.Headers)+1)
		n += copy(b[n:], r.Headers)
	}
	return putBytes(b, n, r.Value)
}

func putBytes(b []byte, at int, v []byte) int {
	at = putLen(b, at, len(v))
	return at + copy(b[at:], v)
}

func putLen(b []byte, at, n int) int {
	for n >= 0x80 {
		b[at] = byte(n) | 0x80
		n >>= 7
		at++
	}
	b[at] = byte(n)
	return at + 1
}

// cutRecord reads the record at the beginning of b into r, without copying, and
// returns what follows it. before is the headers of the record in front of it,
// nil at the beginning of a block: records are cut from there on, in order.
func cutRecord(b []byte, before event.Headers, r *event.Record) (rest []byte, ok bool) {
	if r.ID, b, ok = cutBytes(b); !ok {
		return nil, false
	}
	if r.Key, b, ok = cutBytes(b); !ok {
		return nil, false
	}
	n, b, ok := cutLen(b)
	switch {
	case !ok:
		return nil, false
	case n == 0:
		if len(before) == 0 {
			return nil, false
		}
		r.Headers = before
	default:
		var headers []byte
		if headers, b, ok = cutN(b, n-1); !ok {
			return nil, false
		}
		r.Headers = headers
	}
	r.Value, b, ok = cutBytes(b)
	return b, ok
}

// cutBytes cuts one byte string off b. An empty one is nil.
func cutBytes(b []byte) (v, rest []byte, ok bool) {
	n, b, ok := cutLen(b)
	if !ok {
		return nil, nil, false
	}
	return cutN(b, n)
}

func cutLen(b []byte) (n uint64, rest []byte, ok bool) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), b[1:], true
	}
	n, w := binary.Uvarint(b)
	if w <= 0 {
		return 0, nil, false
	}
	return n, b[w:], true
}

func cutN(b []byte, n uint64) (v, rest []byte, ok bool) {
	if n > uint64(len(b)) {
		return nil, nil, false
	}
	if n == 0 {
		return nil, b, true
	}
	return b[:n:n], b[n:], true
}

// appendRecords cuts all records of a block and appends those from position on.
func appendRecords(recs []event.Record, h *blockHead, data []byte, position int64) ([]event.Record, error) {
	var before event.Headers
	for i := range int64(h.count) {
		var r event.Record
		rest, ok := cutRecord(data, before, &r)
		if !ok {
			return recs, errRecords
		}
		data, before = rest, r.Headers
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
