package kafka

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet-io/freshet/event"
)

// appendRecord appends one record of a batch (Kafka's message format, version 2).
func appendRecord(b []byte, r *event.Record, delta int) []byte {
	b = binary.AppendVarint(b, int64(recordLength(r, delta)))
	b = append(b, 0) // attributes
	b = append(b, 0) // the time is the batch's
	b = binary.AppendVarint(b, int64(delta))
	b = appendBytes(b, r.Key, len(r.Key) == 0)
	b = appendBytes(b, r.Value, r.Value == nil)
	n := 0
	for h := r.Headers; ; n++ {
		_, _, rest, ok := h.Cut()
		if !ok {
			break
		}
		h = rest
	}
	if len(r.ID) > 0 {
		n++
	}
	b = binary.AppendVarint(b, int64(n))
	if len(r.ID) > 0 {
		b = binary.AppendVarint(b, int64(len(event.HeaderID)))
		b = append(b, event.HeaderID...)
		b = appendBytes(b, r.ID, false)
	}
	for h := r.Headers; ; {
		k, v, rest, ok := h.Cut()
		if !ok {
			return b
		}
		b = appendBytes(b, k, false)
		b = appendBytes(b, v, false)
		h = rest
	}
}

func appendBytes(b, v []byte, null bool) []byte {
	if null {
		return append(b, 1) // the varint of -1
	}
	b = binary.AppendVarint(b, int64(len(v)))
	return append(b, v...)
}

// recordLength is the length of a record behind its length field.
func recordLength(r *event.Record, delta int) int {
	n := 2 + varintLen(delta) + bytesLen(r.Key, len(r.Key) == 0) + bytesLen(r.Value, r.Value == nil)
	count := 0
	for h := r.Headers; ; {
		k, v, rest, ok := h.Cut()
		if !ok {
			break
		}
		n += bytesLen(k, false) + bytesLen(v, false)
		count++
		h = rest
	}
	if len(r.ID) > 0 {
		n += varintLen(len(event.HeaderID)) + len(event.HeaderID) + bytesLen(r.ID, false)
		count++
	}
	return n + varintLen(count)
}

func bytesLen(v []byte, null bool) int {
	if null {
		return 1
	}
	return varintLen(len(v)) + len(v)
}

// varintLen is the length of the zigzag varint of v ≥ 0.
func varintLen(v int) int {
	n := 1
	for u := uint64(v) << 1; u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

const (
	batchHeader       = 61 // bytes before a batch's records
	attrTransactional = 1 << 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batchParams are what a batch's header says.
type batchParams struct {
	producer int64
	epoch    int16
	sequence int32
	records  int
	time     int64 // Unix milliseconds
	codec    int16
}

// finishBatch writes the header of a batch, whose records follow in b from batchHeader on.
func finishBatch(b []byte, p batchParams) {
	be := binary.BigEndian
	be.PutUint64(b[0:], 0)                 // first offset
	be.PutUint32(b[8:], uint32(len(b)-12)) // length of what follows
	be.PutUint32(b[12:], ^uint32(0))       // leader epoch
	b[16] = 2                              // magic
	be.PutUint16(b[21:], uint16(p.codec)|attrTransactional)
	be.PutUint32(b[23:], uint32(p.records-1))
	be.PutUint64(b[27:], uint64(p.time))
	be.PutUint64(b[35:], uint64(p.time))
	be.PutUint64(b[43:], uint64(p.producer))
	be.PutUint16(b[51:], uint16(p.epoch))
	be.PutUint32(b[53:], uint32(p.sequence))
	be.PutUint32(b[57:], uint32(p.records))
	be.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
}

// fill makes r the event of a Kafka record: the first header ce_id is its ID,
// the others are its Headers, packed into arena, which is returned grown.
func fill(r *event.Record, k *kgo.Record, arena []byte) []byte {
	*r = event.Record{Key: k.Key, Value: k.Value, Position: k.Offset, Time: k.Timestamp.UnixNano()}
	if len(k.Headers) == 0 {
		return arena
	}
	from, id := len(arena), false
	h := event.Headers(arena)
	for i := range k.Headers {
		x := &k.Headers[i]
		if !id && x.Key == event.HeaderID {
			r.ID, id = x.Value, true
			continue
		}
		h = h.Append(x.Key, x.Value)
	}
	if len(h) > from {
		r.Headers = h[from:len(h):len(h)]
	}
	return h
}

// outgoing is one Publish's records on their way, with copies of their bytes:
// they may outlive the call whose context ends. Where all were acknowledged it
// serves another call.
type outgoing struct {
	records []kgo.Record
	headers []kgo.RecordHeader
	bytes   []byte
	names   []string // of headers, each once

	promise func(*kgo.Record, error) // arrived
	left    atomic.Int64             // records without an answer
	stored  atomic.Int64
	err     atomic.Pointer[error] // the first
	done    chan struct{}         // has an element when none is left
}

func newOutgoing() any {
	o := &outgoing{done: make(chan struct{}, 1)}
	o.promise = o.arrived
	return o
}

// maxNames bounds the names of headers that are looked for, one by one.
const maxNames = 16

// name returns a string of b, one for all records of the call.
func (o *outgoing) name(b []byte) string {
	for _, n := range o.names {
		if n == string(b) {
			return n
		}
	}
	n := string(b)
	if len(o.names) < maxNames {
		o.names = append(o.names, n)
	}
	return n
}

// take makes o the way of recs.
func (o *outgoing) take(topic string, recs []event.Record, partition func(i int) int32) {
	size, headers := 0, 0
	for i := range recs {
		size += len(recs[i].ID) + len(recs[i].Key) + len(recs[i].Value) + len(recs[i].Headers)
		if len(recs[i].ID) > 0 {
			headers++
		}
		for h := recs[i].Headers; ; headers++ {
			_, _, rest, ok := h.Cut()
			if !ok {
				break
			}
			h = rest
		}
	}
	o.records = slices.Grow(o.records[:0], len(recs))[:len(recs)]
	o.headers = slices.Grow(o.headers[:0], headers)
	o.bytes = slices.Grow(o.bytes[:0], size)
	if len(o.names) == maxNames {
		o.names = o.names[:0] // of calls before
	}
	o.left.Store(int64(len(recs)))
	o.stored.Store(0)
	for i := range recs {
		r, k := &recs[i], &o.records[i]
		*k = kgo.Record{Topic: topic, Partition: partition(i)}
		if len(r.Key) > 0 {
			k.Key = o.copy(r.Key)
		}
		if r.Value != nil {
			k.Value = o.copy(r.Value)
		}
		from := len(o.headers)
		if len(r.ID) > 0 {
			o.headers = append(o.headers, kgo.RecordHeader{Key: event.HeaderID, Value: o.copy(r.ID)})
		}
		for h := r.Headers; ; {
			name, v, rest, ok := h.Cut()
			if !ok {
				break
			}
			o.headers = append(o.headers, kgo.RecordHeader{Key: o.name(name), Value: o.copy(v)})
			h = rest
		}
		k.Headers = o.headers[from:len(o.headers):len(o.headers)]
	}
}

func (o *outgoing) copy(v []byte) []byte {
	from := len(o.bytes)
	o.bytes = append(o.bytes, v...)
	return o.bytes[from:len(o.bytes):len(o.bytes)]
}
