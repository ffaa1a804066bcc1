package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// idLength is the length of a result's id in bytes of text.
const idLength = 32

// resultID names results: the first 128 bits, in hexadecimal, of the SHA-256 of
// the source event's identity behind the first 128 bits of the SHA-256 of the
// pipeline, the place of the result in it and the source topic. The same event
// gives the same id however often it is processed.
type resultID struct {
	buf []byte // the prefix, then the source
}

func newResultID(pipeline, place, topic string) *resultID {
	var b []byte
	for _, s := range []string{"freshet/1", pipeline, place, topic} {
		b = append(append(b, s...), 0)
	}
	sum := sha256.Sum256(b)
	return &resultID{buf: sum[:idLength/2]}
}

func (r *resultID) append(dst []byte, source []byte) []byte {
	r.buf = append(r.buf[:idLength/2], source...)
	sum := sha256.Sum256(r.buf)
	return hex.AppendEncode(dst, sum[:idLength/2])
}

// appendSource writes the identity of an event: its own id, or, where it has
// none, its place on the topic.
func appendSource(dst []byte, id string, partition int, position int64) []byte {
	if id != "" {
		return append(dst, id...)
	}
	return appendPlace(dst, partition, position)
}

func appendPlace(dst []byte, partition int, position int64) []byte {
	dst = append(dst, '@')
	dst = strconv.AppendInt(dst, int64(partition), 10)
	dst = append(dst, '/')
	return strconv.AppendInt(dst, position, 10)
}
