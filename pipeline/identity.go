package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/freshet-io/freshet/event"
)

// idLength is the length of a result's id in bytes of text.
const idLength = 32

// resultID names results: the first 128 bits of the SHA-256 of the pipeline,
// the place of the result in it and the source event's identity, in
// hexadecimal. The same event gives the same id however often it is processed.
type resultID struct {
	buf    []byte
	prefix int
}

func newResultID(pipeline, place, topic string) *resultID {
	r := &resultID{}
	for _, s := range []string{"freshet/1", pipeline, place, topic} {
		r.buf = append(append(r.buf, s...), 0)
	}
	r.prefix = len(r.buf)
	return r
}

func (r *resultID) append(dst []byte, source []byte) []byte {
	r.buf = append(r.buf[:r.prefix], source...)
	sum := sha256.Sum256(r.buf)
	return hex.AppendEncode(dst, sum[:idLength/2])
}

// appendSource writes the identity of an event: its own id, or, where it has
// none, its place on the topic.
func appendSource(dst []byte, id string, partition int, rec *event.Record) []byte {
	if id != "" {
		return append(dst, id...)
	}
	return appendPlace(dst, partition, rec)
}

func appendPlace(dst []byte, partition int, rec *event.Record) []byte {
	dst = append(dst, '@')
	dst = strconv.AppendInt(dst, int64(partition), 10)
	dst = append(dst, '/')
	return strconv.AppendInt(dst, rec.Position, 10)
}
