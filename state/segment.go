package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/freshet-io/freshet/errkind"
)

// A segment is an immutable object with the records of one flush:
// docs/formats/checkpoint.md gives the format. It is a header and blocks, each
// with a checksum, its records packed together and compressed where that pays.
const (
	segmentMagic   = "FRSA"
	segmentVersion = 1
	segmentHeader  = 4 + 1 + 8 + 8 + 4
	blockHeader    = 4 + 1 + 4 + 4

	codecPlain = 0
	codecZstd  = 1

	// maxRecord bounds a record, maxBlock a block in memory.
	maxRecord = 64 << 20
	maxBlock  = maxRecord + 64<<10

	recordCycleBegin = 1 << 0
	recordCycleEnd   = 1 << 1
)

// Record is one record of a task's changelog.
type Record struct {
	// Position is where the record stands in the changelog's topic.
	Position int64
	// CycleBegin says that the first slice of a cycle is in this record, CycleEnd
	// that the last one is. With both, everything before CycleBegin's record is superfluous.
	CycleBegin, CycleEnd bool
	// Value is the record's payload.
	Value []byte
}

func appendRecord(b []byte, r *Record, previous int64) []byte {
	b = binary.AppendUvarint(b, uint64(r.Position-previous))
	var flags byte
	if r.CycleBegin {
		flags |= recordCycleBegin
	}
	if r.CycleEnd {
		flags |= recordCycleEnd
	}
	b = append(b, flags)
	b = binary.AppendUvarint(b, uint64(len(r.Value)))
	return append(b, r.Value...)
}

// eachRecord takes a block's records apart; their values lie in b.
func eachRecord(b []byte, visit func(r *Record) error) error {
	c := cursor{b: b}
	at := int64(0)
	for first := true; len(c.b) > 0; first = false {
		step := c.uvarint()
		flags := c.byte()
		r := Record{CycleBegin: flags&recordCycleBegin != 0, CycleEnd: flags&recordCycleEnd != 0, Value: c.bytes()}
		at += int64(step)
		if c.bad || flags > recordCycleBegin|recordCycleEnd || at < 0 || int64(step) < 0 || (step == 0 && !first) {
			return errkind.New(errkind.Corrupt, "the records of the block do not fit its length")
		}
		r.Position = at
		if err := visit(&r); err != nil {
			return err
		}
	}
	return nil
}

func appendSegmentHeader(b []byte, id objectID) []byte {
	start := len(b)
	b = append(b, segmentMagic...)
	b = append(b, segmentVersion)
	b = binary.BigEndian.AppendUint64(b, id.epoch)
	b = binary.BigEndian.AppendUint64(b, id.seq)
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func checkSegmentHeader(b []byte, id objectID) error {
	if string(b[:4]) != segmentMagic {
		return errkind.New(errkind.Corrupt, "this is no segment")
	}
	if b[4] != segmentVersion {
		return errkind.Errorf(errkind.Unsupported, "segment version %d, this program reads %d: use the newer program", b[4], segmentVersion)
	}
	if crc32.Checksum(b[:segmentHeader-4], castagnoli) != binary.BigEndian.Uint32(b[segmentHeader-4:]) {
		return errkind.New(errkind.Corrupt, "the header's checksum does not match")
	}
	if binary.BigEndian.Uint64(b[5:]) != id.epoch || binary.BigEndian.Uint64(b[13:]) != id.seq {
		return errkind.New(errkind.Corrupt, "this is another segment under this one's name")
	}
	return nil
}

// packer makes blocks of packed records. It gives up on compression for a while
// where that did not pay.
type packer struct {
	enc  *zstd.Encoder
	skip int
}

// pack returns a block: header and payload. raw is free afterwards.
func (p *packer) pack(raw []byte) []byte {
	out := make([]byte, blockHeader, blockHeader+len(raw))
	codec := byte(codecPlain)
	if p.enc != nil && p.skip == 0 {
		if c := p.enc.EncodeAll(raw, out); len(c)-blockHeader <= len(raw)-len(raw)/8 {
			out, codec = c, codecZstd
		} else {
			p.skip = 8
		}
	} else if p.skip > 0 {
		p.skip--
	}
	if codec == codecPlain {
		out = append(out[:blockHeader], raw...)
	}
	out[4] = codec
	binary.BigEndian.PutUint32(out[5:], uint32(len(out)-blockHeader))
	binary.BigEndian.PutUint32(out[9:], uint32(len(raw)))
	binary.BigEndian.PutUint32(out, crc32.Checksum(out[4:], castagnoli))
	return out
}

// segmentReader reads the blocks of one segment.
type segmentReader struct {
	r      io.Reader
	size   int64 // of the object, by the manifest
	at     int64 // of the next byte
	id     objectID
	dec    *zstd.Decoder
	stored []byte
}

// next returns the next block's records, in buf where they fit; io.EOF behind
// the last block. Errors that are not those of the reader name the offset.
func (s *segmentReader) next(buf []byte) ([]byte, error) {
	if s.at == 0 {
		var h [segmentHeader]byte
		if s.size < segmentHeader {
			return buf, s.corrupt("the segment ends in its header")
		}
		if err := s.read(h[:]); err != nil {
			return buf, err
		}
		if err := checkSegmentHeader(h[:], s.id); err != nil {
			return buf, fmt.Errorf("offset 0: %w", err)
		}
		s.at = segmentHeader
	}
	rest := s.size - s.at
	if rest == 0 {
		return buf, s.end()
	}
	var h [blockHeader]byte
	if rest < blockHeader {
		return buf, s.corrupt("the segment ends in a block's header")
	}
	if err := s.read(h[:]); err != nil {
		return buf, err
	}
	codec, stored, size := h[4], int64(binary.BigEndian.Uint32(h[5:])), int64(binary.BigEndian.Uint32(h[9:]))
	if codec > codecZstd || stored > rest-blockHeader || size > maxBlock || stored > maxBlock || (codec == codecPlain && stored != size) {
		return buf, s.corrupt("the block's lengths are wrong")
	}
	dst := &buf
	if codec == codecZstd {
		dst = &s.stored
	}
	if int64(cap(*dst)) < stored {
		*dst = make([]byte, stored)
	}
	*dst = (*dst)[:stored]
	if err := s.read(*dst); err != nil {
		return buf, err
	}
	sum := crc32.Update(crc32.Checksum(h[4:], castagnoli), castagnoli, *dst)
	if sum != binary.BigEndian.Uint32(h[:]) {
		return buf, s.corrupt("the block's checksum does not match")
	}
	if codec == codecZstd {
		if int64(cap(buf)) < size {
			buf = make([]byte, 0, size)
		}
		out, err := s.dec.DecodeAll(s.stored, buf[:0])
		if err != nil || int64(len(out)) != size {
			return buf, s.corrupt("the block does not decompress")
		}
		buf = out
	}
	s.at += blockHeader + stored
	return buf, nil
}

// end looks whether the object ends where the manifest says.
func (s *segmentReader) end() error {
	var one [1]byte
	switch n, err := io.ReadFull(s.r, one[:]); {
	case n > 0:
		return s.corrupt("the object is longer than its manifest says")
	case errors.Is(err, io.EOF):
		return io.EOF
	default:
		return err
	}
}

func (s *segmentReader) read(b []byte) error {
	_, err := io.ReadFull(s.r, b)
	if errkind.Of(err) != errkind.Unknown {
		return err // a stream that broke, not an object that ends
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return s.corrupt("the object is shorter than its manifest says")
	}
	return err
}

func (s *segmentReader) corrupt(msg string) error {
	return errkind.Errorf(errkind.Corrupt, "offset %d: %s", s.at, msg)
}

// parts is a reader over pieces of memory, which Put can begin again.
type parts struct {
	pieces [][]byte
	at     int64
	size   int64
}

func newParts(pieces [][]byte) *parts {
	p := &parts{pieces: pieces}
	for _, b := range pieces {
		p.size += int64(len(b))
	}
	return p
}

func (p *parts) Read(b []byte) (int, error) {
	if p.at >= p.size {
		return 0, io.EOF
	}
	at, n := p.at, 0
	for _, piece := range p.pieces {
		if at >= int64(len(piece)) {
			at -= int64(len(piece))
			continue
		}
		n += copy(b[n:], piece[at:])
		at = 0
		if n == len(b) {
			break
		}
	}
	p.at += int64(n)
	return n, nil
}

func (p *parts) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += p.at
	case io.SeekEnd:
		offset += p.size
	}
	if offset < 0 {
		return 0, errkind.New(errkind.Invalid, "seek before the beginning")
	}
	p.at = offset
	return offset, nil
}
