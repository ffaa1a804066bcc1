package journal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"
)

// spanLimit is how many bytes of a segment one index entry may cover when it
// holds several small blocks: what a reader reads to find one of them.
const spanLimit = 32 << 10

// partKey names a partition of a topic: the topic's number and the partition's.
type partKey uint64

func keyOf(topic uint32, partition int) partKey {
	return partKey(uint64(topic)<<16 | uint64(partition))
}

// entry locates a run of one partition's records in a segment. The span begins
// with a block; several small blocks may share a span, then blocks of others
// and frame headers lie in between.
type entry struct {
	base        int64 // position of the first record
	first, last int64 // times of the first and the last block
	off, len    uint32
	count       uint32
	bytes       uint32 // of the partition's own blocks
}

func (e *entry) end() int64 { return e.base + int64(e.count) }

// segIndex says where in a segment the records of each partition lie, ordered by position.
type segIndex map[partKey][]entry

// add notes a block at off, with its header n bytes long.
func (x segIndex) add(k partKey, h *blockHead, off int64) {
	n := uint32(blockHeader + h.length)
	e := entry{base: h.base, first: h.time, last: h.time, off: uint32(off), len: n, count: uint32(h.count), bytes: n}
	es := x[k]
	at := len(es)
	if at > 0 && h.base < es[at-1].end() { // only what was moved comes out of order
		at, _ = slices.BinarySearchFunc(es, h.base+1, func(e entry, p int64) int { return cmp.Compare(e.base, p) })
	}
	if at > 0 {
		prev := &es[at-1]
		if prev.end() >= e.end() {
			return // moved twice
		}
		if prev.end() == e.base && e.off >= prev.off && e.off+n-prev.off <= spanLimit {
			prev.last = e.last
			prev.len = e.off + n - prev.off
			prev.count += e.count
			prev.bytes += n
			return
		}
	}
	if at == len(es) {
		x[k] = append(es, e)
		return
	}
	x[k] = slices.Insert(es, at, e)
}

// find returns the index of the entry that holds position, or of the first one after it.
func findEntry(es []entry, position int64) int {
	i, _ := slices.BinarySearchFunc(es, position, func(e entry, p int64) int {
		if e.end() <= p {
			return -1
		}
		return 1
	})
	return i
}

// runsOf sums entries up: one run for each gapless range of positions.
func runsOf(es []entry, s *segment) []run {
	var runs []run
	for i := range es {
		e := &es[i]
		if n := len(runs); n > 0 && runs[n-1].end == e.base {
			r := &runs[n-1]
			r.end, r.last, r.bytes = e.end(), max(r.last, e.last), r.bytes+int64(e.bytes)
			continue
		}
		runs = append(runs, run{first: e.base, end: e.end(), bytes: int64(e.bytes), last: e.last, seg: s})
	}
	return runs
}

func (x segIndex) memory() int64 {
	n := int64(0)
	for _, es := range x {
		n += 64 + int64(cap(es))*entrySize
	}
	return n
}

// The index file of a sealed segment: a header, the entries of each partition,
// a checksum. It only repeats what the segment says.
const (
	indexMagic  = "FRESHETI"
	indexHeader = 32
	entrySize   = 40
)

var errIndex = errors.New("not an index of this segment")

// encodeIndex writes the index file of the segment at base with size bytes.
func encodeIndex(x segIndex, base uint64, size int64) []byte {
	keys := make([]partKey, 0, len(x))
	n := indexHeader + 4
	for k, es := range x {
		keys = append(keys, k)
		n += 16 + len(es)*entrySize
	}
	slices.Sort(keys)
	b := make([]byte, 0, n)
	b = append(b, indexMagic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(keys)))
	b = binary.LittleEndian.AppendUint64(b, base)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	for _, k := range keys {
		es := x[k]
		b = binary.LittleEndian.AppendUint64(b, uint64(k))
		b = binary.LittleEndian.AppendUint64(b, uint64(len(es)))
		for i := range es {
			e := &es[i]
			b = binary.LittleEndian.AppendUint64(b, uint64(e.base))
			b = binary.LittleEndian.AppendUint64(b, uint64(e.first))
			b = binary.LittleEndian.AppendUint64(b, uint64(e.last))
			b = binary.LittleEndian.AppendUint32(b, e.off)
			b = binary.LittleEndian.AppendUint32(b, e.len)
			b = binary.LittleEndian.AppendUint32(b, e.count)
			b = binary.LittleEndian.AppendUint32(b, e.bytes)
		}
	}
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

// decodeIndex reads what encodeIndex wrote for the segment at base with size bytes.
func decodeIndex(b []byte, base uint64, size int64) (segIndex, error) {
	if len(b) < indexHeader+4 || string(b[:8]) != indexMagic ||
		binary.LittleEndian.Uint32(b[8:]) != formatVersion ||
		binary.LittleEndian.Uint64(b[16:]) != base || binary.LittleEndian.Uint64(b[24:]) != uint64(size) {
		return nil, errIndex
	}
	body, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if checksum(body) != sum {
		return nil, errIndex
	}
	x := segIndex{}
	body = body[indexHeader:]
	for range binary.LittleEndian.Uint32(b[12:]) {
		if len(body) < 16 {
			return nil, errIndex
		}
		k, n := partKey(binary.LittleEndian.Uint64(body)), binary.LittleEndian.Uint64(body[8:])
		body = body[16:]
		if n > uint64(len(body)/entrySize) {
			return nil, errIndex
		}
		es := make([]entry, n)
		for i := range es {
			es[i] = entry{
				base:  int64(binary.LittleEndian.Uint64(body)),
				first: int64(binary.LittleEndian.Uint64(body[8:])),
				last:  int64(binary.LittleEndian.Uint64(body[16:])),
				off:   binary.LittleEndian.Uint32(body[24:]),
				len:   binary.LittleEndian.Uint32(body[28:]),
				count: binary.LittleEndian.Uint32(body[32:]),
				bytes: binary.LittleEndian.Uint32(body[36:]),
			}
			if int64(es[i].off)+int64(es[i].len) > size {
				return nil, errIndex
			}
			body = body[entrySize:]
		}
		x[k] = es
	}
	if len(body) != 0 {
		return nil, errIndex
	}
	return x, nil
}
