package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// The layout of docs/formats/journal.md: integers are little endian.
const (
	formatVersion = 1

	segmentMagic  = "FRESHETJ"
	segmentHeader = 64 // bytes before the first frame
	frameHeader   = 32
	blockHeader   = 40

	// maxFrame bounds what one frame carries, so that a length read from a
	// damaged file cannot make a reader ask for more.
	maxFrame = 256 << 20
)

// Kinds of frame and block; the byte stands at the same place in both headers,
// so that a reader can walk from the middle of a frame into the next.
const (
	kindFrame       = 1
	kindRecords     = 2 // a run of records of one partition
	kindPositions   = 3 // a group's positions on one topic
	kindTopic       = 4 // a topic is made
	kindTopicGone   = 5 // a topic is deleted
	kindTrim        = 6 // a partition's start moves
	kindSegmentGone = 7 // a segment holds nothing live and will be removed
	kindSnapshot    = 8 // topics, positions and segments, at the head of a segment
	kindLast        = 8
)

// flagMoved marks a records block copied forward from an older segment.
const flagMoved = 1

const kindAt = 12 // the kind's offset in either header

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// frameHead is a frame's header. A frame is the unit of atomicity: all of its
// blocks are valid, or it does not exist.
type frameHead struct {
	length int    // bytes of the blocks that follow
	blocks int    // how many they are
	at     uint64 // the log offset of this header
	synced uint64 // everything before this log offset was durable when the frame was written
}

func (h frameHead) put(b []byte) {
	_ = b[frameHeader-1]
	binary.LittleEndian.PutUint32(b[4:], uint32(h.length))
	binary.LittleEndian.PutUint32(b[8:], uint32(h.blocks))
	binary.LittleEndian.PutUint32(b[12:], kindFrame)
	binary.LittleEndian.PutUint64(b[16:], h.at)
	binary.LittleEndian.PutUint64(b[24:], h.synced)
	binary.LittleEndian.PutUint32(b, checksum(b[4:frameHeader]))
}

// parseFrameHead reads a header that must stand at log offset at.
func parseFrameHead(b []byte, at uint64) (h frameHead, ok bool) {
	if len(b) < frameHeader || binary.LittleEndian.Uint64(b[16:]) != at || b[kindAt] != kindFrame ||
		binary.LittleEndian.Uint32(b) != checksum(b[4:frameHeader]) {
		return h, false
	}
	h.length = int(binary.LittleEndian.Uint32(b[4:]))
	h.blocks = int(binary.LittleEndian.Uint32(b[8:]))
	h.at = at
	h.synced = binary.LittleEndian.Uint64(b[24:])
	return h, h.length <= maxFrame && h.synced <= at
}

// blockHead is a block's header. What base, count, partition and time mean
// depends on the kind.
type blockHead struct {
	dataCRC   uint32
	length    int // bytes of data that follow
	kind      uint8
	flags     uint8
	partition int
	topic     uint32
	count     int
	base      int64
	time      int64
}

func (h *blockHead) put(b []byte) {
	_ = b[blockHeader-1]
	binary.LittleEndian.PutUint32(b[4:], h.dataCRC)
	binary.LittleEndian.PutUint32(b[8:], uint32(h.length))
	b[12] = h.kind
	b[13] = h.flags
	binary.LittleEndian.PutUint16(b[14:], uint16(h.partition))
	binary.LittleEndian.PutUint32(b[16:], h.topic)
	binary.LittleEndian.PutUint32(b[20:], uint32(h.count))
	binary.LittleEndian.PutUint64(b[24:], uint64(h.base))
	binary.LittleEndian.PutUint64(b[32:], uint64(h.time))
	binary.LittleEndian.PutUint32(b, checksum(b[4:blockHeader]))
}

// Faults of a block, as Check and Corrupt errors word them.
var (
	errBlockShort  = errors.New("the block is cut short")
	errBlockHead   = errors.New("the block's header does not match its checksum")
	errBlockData   = errors.New("the block's data does not match its checksum")
	errBlockKind   = errors.New("the block's kind is unknown")
	errFrameHead   = errors.New("no valid frame header")
	errFrameShort  = errors.New("the frame is cut short")
	errFrameBlocks = errors.New("the frame's blocks do not add up to its length")
	errRecords     = errors.New("the block's records do not add up to its length")
)

// parseBlock reads the block at the beginning of b. The data's checksum is
// compared only with verify.
func parseBlock(b []byte, verify bool) (h blockHead, data []byte, err error) {
	if len(b) < blockHeader {
		return h, nil, errBlockShort
	}
	if binary.LittleEndian.Uint32(b) != checksum(b[4:blockHeader]) {
		return h, nil, errBlockHead
	}
	h = blockHead{
		dataCRC:   binary.LittleEndian.Uint32(b[4:]),
		length:    int(binary.LittleEndian.Uint32(b[8:])),
		kind:      b[12],
		flags:     b[13],
		partition: int(binary.LittleEndian.Uint16(b[14:])),
		topic:     binary.LittleEndian.Uint32(b[16:]),
		count:     int(binary.LittleEndian.Uint32(b[20:])),
		base:      int64(binary.LittleEndian.Uint64(b[24:])),
		time:      int64(binary.LittleEndian.Uint64(b[32:])),
	}
	if h.length > maxFrame || h.length > len(b)-blockHeader {
		return h, nil, errBlockShort
	}
	if h.kind <= kindFrame || h.kind > kindLast {
		return h, nil, errBlockKind
	}
	data = b[blockHeader : blockHeader+h.length : blockHeader+h.length]
	if verify && checksum(data) != h.dataCRC {
		return h, nil, errBlockData
	}
	return h, data, nil
}

// walkFrame verifies the blocks of a frame, given without its header, and hands
// each to visit with its offset in body. Nothing is visited before all are verified.
func walkFrame(h frameHead, body []byte, visit func(off int, b blockHead, data []byte) error) error {
	n := 0
	for off := 0; off < len(body); n++ {
		b, _, err := parseBlock(body[off:], true)
		if err != nil {
			return err
		}
		off += blockHeader + b.length
	}
	if n != h.blocks || len(body) != h.length {
		return errFrameBlocks
	}
	for off := 0; off < len(body); {
		b, data, err := parseBlock(body[off:], false)
		if err != nil {
			return err
		}
		if err := visit(off, b, data); err != nil {
			return err
		}
		off += blockHeader + b.length
	}
	return nil
}

// segmentHead is the first 64 bytes of a segment file.
type segmentHead struct {
	base    uint64 // log offset of the file's first byte
	created int64  // Unix nanoseconds
}

func (h segmentHead) put(b []byte) {
	clear(b[:segmentHeader])
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint64(b[16:], h.base)
	binary.LittleEndian.PutUint64(b[24:], uint64(h.created))
	binary.LittleEndian.PutUint32(b[60:], checksum(b[:60]))
}

var (
	errNotSegment = errors.New("not a journal segment: the header does not match its checksum")
	errVersion    = errors.New("the segment's format version is not one that this program reads")
)

func parseSegmentHead(b []byte) (segmentHead, error) {
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic || binary.LittleEndian.Uint32(b[60:]) != checksum(b[:60]) {
		return segmentHead{}, errNotSegment
	}
	if binary.LittleEndian.Uint32(b[8:]) != formatVersion {
		return segmentHead{}, errVersion
	}
	return segmentHead{
		base:    binary.LittleEndian.Uint64(b[16:]),
		created: int64(binary.LittleEndian.Uint64(b[24:])),
	}, nil
}
