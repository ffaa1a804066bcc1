package rabbitmq

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"github.com/freshet-io/freshet/errkind"
)

// chunkHeader is its length on the wire.
const chunkHeader = 48

// maxUnpacked bounds what a compressed run of messages may become.
const maxUnpacked = 256 << 20

// chunk is a run of messages that the server stored at once.
type chunk struct {
	first   int64 // offset of the first message
	records int   // messages, those in sub-entries included
	millis  int64 // when it was stored, since the epoch
	user    bool  // holds messages, and not what the server keeps for itself
	data    []byte

	next   int64  // offset of the message that cut returns next
	left   int    // messages not yet cut
	sub    []byte // rest of the sub-entry being cut
	subLen int    // messages in it
}

// parseChunk reads a chunk; its messages alias b.
func parseChunk(b []byte) (*chunk, error) {
	if len(b) < chunkHeader {
		return nil, errkind.Errorf(errkind.Corrupt, "a chunk of %d bytes is shorter than its header", len(b))
	}
	k := &chunk{
		user:    b[1] == 0,
		records: int(binary.BigEndian.Uint32(b[4:])),
		millis:  int64(binary.BigEndian.Uint64(b[8:])),
		first:   int64(binary.BigEndian.Uint64(b[24:])),
	}
	n := int(binary.BigEndian.Uint32(b[36:]))
	// Behind the header there may be a filter of as many bytes as its place says.
	skip := chunkHeader
	if b[0] != 0x50 || n > len(b)-skip || k.first < 0 {
		return nil, errkind.New(errkind.Corrupt, "a chunk has a header that cannot be read")
	}
	k.data = b[skip : skip+n : skip+n]
	k.next, k.left = k.first, k.records
	if !k.user {
		k.left = 0
	}
	return k, nil
}

// end is the offset behind the chunk.
func (k *chunk) end() int64 { return k.first + int64(k.records) }

var errShortChunk = errkind.New(errkind.Corrupt, "a chunk ends before its last message")

// cut takes the next message off the chunk; ok is false at the end. The message
// aliases the chunk, or what a compressed part of it was unpacked to.
func (k *chunk) cut() (message []byte, position int64, ok bool, err error) {
	for k.subLen == 0 {
		if k.left == 0 {
			return nil, 0, false, nil
		}
		if len(k.data) == 0 {
			return nil, 0, false, errShortChunk
		}
		if k.data[0]&0x80 == 0 {
			if message, k.data, ok = cutMessage(k.data); !ok {
				return nil, 0, false, errShortChunk
			}
			position = k.next
			k.next++
			k.left--
			return message, position, true, nil
		}
		if err := k.unpack(); err != nil {
			return nil, 0, false, err
		}
	}
	if message, k.sub, ok = cutMessage(k.sub); !ok {
		return nil, 0, false, errShortChunk
	}
	position = k.next
	k.next++
	k.left--
	k.subLen--
	return message, position, true, nil
}

func cutMessage(b []byte) (message, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-4) {
		return nil, nil, false
	}
	return b[4 : 4+n : 4+n], b[4+n:], true
}

// unpack opens the sub-entry at which the chunk stands.
func (k *chunk) unpack() error {
	if len(k.data) < 11 {
		return errShortChunk
	}
	kind, n := k.data[0]>>4&7, int(binary.BigEndian.Uint16(k.data[1:]))
	unpacked, packed := binary.BigEndian.Uint32(k.data[3:]), binary.BigEndian.Uint32(k.data[7:])
	k.data = k.data[11:]
	if uint64(packed) > uint64(len(k.data)) || unpacked > maxUnpacked || n > k.left {
		return errShortChunk
	}
	b := k.data[:packed:packed]
	k.data = k.data[packed:]
	var err error
	if b, err = decompress(kind, b, int(unpacked)); err != nil {
		return errkind.Errorf(errkind.Corrupt, "unpack a run of messages: %w", err)
	}
	k.sub, k.subLen = b, n
	return nil
}

func decompress(kind byte, b []byte, size int) ([]byte, error) {
	var r io.Reader
	switch kind {
	case 0:
		return b, nil
	case 1:
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		r = z
	case 2:
		r = snappy.NewReader(bytes.NewReader(b))
	case 3:
		r = lz4.NewReader(bytes.NewReader(b))
	case 4:
		z, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpacked))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		r = z
	default:
		return nil, errkind.Errorf(errkind.Unsupported, "compression %d", kind)
	}
	var out bytes.Buffer
	out.Grow(min(size, len(b)*20))
	if _, err := io.Copy(&out, io.LimitReader(r, int64(size))); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
