package redis

import (
	"encoding/binary"

	"github.com/freshet-io/freshet/event"
)

// run is what one call adds to one stream: an array in MessagePack, of four
// strings a record, or of one array a record for a stream of others.
type run struct {
	topic     *topic
	partition int
	n         int
	packed    []byte
}

func (r *run) reset(t *topic, partition int) {
	r.topic, r.partition, r.n = t, partition, 0
	r.packed = append(r.packed[:0], 0xdd, 0, 0, 0, 0) // an array, whose length comes when it is known
}

// add packs one record more.
func (r *run) add(rec *event.Record) {
	r.n++
	if !r.topic.native {
		r.packed = packBytes(r.packed, rec.ID)
		r.packed = packBytes(r.packed, rec.Key)
		r.packed = packBytes(r.packed, rec.Headers)
		r.packed = packBytes(r.packed, rec.Value)
		return
	}
	at := len(r.packed)
	r.packed = append(r.packed, 0xdd, 0, 0, 0, 0)
	n := uint32(2)
	pair := func(name string, value []byte) {
		r.packed = packBytes(packBytes(r.packed, name), value)
		n += 2
	}
	if len(rec.ID) > 0 {
		pair(event.HeaderID, rec.ID)
	}
	if len(rec.Key) > 0 {
		pair(fieldKey, rec.Key)
	}
	for h := rec.Headers; len(h) > 0; {
		k, v, rest, ok := h.Cut()
		if !ok {
			break
		}
		pair(string(k), v)
		h = rest
	}
	r.packed = packBytes(packBytes(r.packed, fieldData), rec.Value)
	binary.BigEndian.PutUint32(r.packed[at+1:], n)
}

// bytes is the finished array.
func (r *run) bytes() []byte {
	n := r.n
	if !r.topic.native {
		n *= 4
	}
	binary.BigEndian.PutUint32(r.packed[1:], uint32(n))
	return r.packed
}

func packBytes[T string | []byte | event.Headers](b []byte, v T) []byte {
	switch n := len(v); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n < 1<<8:
		b = append(b, 0xd9, byte(n))
	case n < 1<<16:
		b = append(b, 0xda, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, v...)
}
