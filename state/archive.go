package state

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/freshet-io/freshet/errkind"
)

// Compression is whether an archive compresses its blocks.
type Compression uint8

const (
	// CompressAuto tries zstd at its fastest and keeps what is at least an eighth
	// smaller.
	CompressAuto Compression = iota
	// CompressNever is for stores that are faster than decompression.
	CompressNever
)

// ArchiveConfig is how an archive writes. A zero field takes its default.
type ArchiveConfig struct {
	// SegmentBytes is how much is buffered before Append flushes by itself; it is
	// the most that an archive holds in memory, but for a record. 64 MiB by default.
	SegmentBytes int64
	// BlockBytes is the size of what is checksummed and compressed together; 1 MiB by default.
	BlockBytes int
	// ReadAhead is how many segments Restore reads at a time; 4 by default.
	ReadAhead   int
	Compression Compression
}

func (c ArchiveConfig) withDefaults() ArchiveConfig {
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = 64 << 20
	}
	if c.BlockBytes <= 0 {
		c.BlockBytes = 1 << 20
	}
	c.BlockBytes = min(c.BlockBytes, maxRecord)
	if c.ReadAhead <= 0 {
		c.ReadAhead = 4
	}
	return c
}

// Archive keeps one task's changelog in an object store, back to the beginning
// of its last complete cycle.
//
// Order of events: Flush writes the buffered records as one immutable object; when
// that is durable, a manifest that names it; when that is durable, it deletes what
// the manifest has made superfluous. So whatever dies in between, the newest
// manifest names only objects that are there whole, and Restore gives a prefix
// of what was appended, up to a Flush that returned nil or a later one. An
// object that no manifest names is collected at the next open.
//
// An archive has one owner. OpenArchive takes it over: every write of an owner
// before fails with Conflict, and changes nothing that can be read.
//
// Append and Flush may run concurrently; Restore, Reset and Close may not
// overlap with others. Stats may be called at any time.
type Archive struct {
	name   string
	config ArchiveConfig
	now    func() time.Time
	o      Objects

	flushing sync.Mutex // held by a whole Flush
	ledger   ledger
	packer   packer
	orphans  []objectID // written by flushes that failed

	mu       sync.Mutex
	closed   bool
	changed  bool        // something is there for Flush
	view     archiveView // with what is buffered
	durable  archiveView // what the manifest says
	segments []segment
	packed   [][]byte // encoded blocks, in front of raw
	raw      [][]byte // full blocks
	open     []byte   // the block being filled
	last     int64    // position of the last record in open
	taken    segment  // what a flush has taken and not written: in packed, or in front in raw
	buffered segment  // what was appended since; id and size of both are not set
	rawBytes int64
	stats    ArchiveStats
}

// archiveView is where an archive stands.
type archiveView struct {
	next  int64 // position behind the last record
	from  int64 // position of the first record needed; −1 where there is none
	cycle int64 // where the running cycle began; −1 without
}

// segment is an object of records.
type segment struct {
	id          objectID
	size        int64 // of the object
	first, last int64 // positions
	records     int64
	raw         int64 // bytes of records before compression
}

// ArchiveStats says how large an archive is and how it does.
type ArchiveStats struct {
	// Next is the position behind the last record that is durable, From that of
	// the first which Restore gives; −1 where there is none.
	Next, From int64
	// Segments, Records and Bytes are what lies in the store; RawBytes is Bytes
	// before compression.
	Segments        int
	Records         int64
	Bytes, RawBytes int64
	// Buffered records and their bytes wait for Flush.
	BufferedRecords, BufferedBytes int64
	// FlushedAt is when the newest manifest was written: the archive's age counts from it.
	FlushedAt time.Time
	// Flushes and Failures count Flush calls that wrote or failed; WrittenBytes
	// is what was put in all.
	Flushes, Failures, WrittenBytes int64
	// Leftover counts deletions that failed; the next open repeats them.
	Leftover int64
}

// joined is a segment of both's records; b's follow a's.
func joined(a, b segment) segment {
	switch {
	case a.records == 0:
		return b
	case b.records == 0:
		return a
	}
	return segment{first: a.first, last: b.last, records: a.records + b.records, raw: a.raw + b.raw}
}

// OpenArchive takes over the archive under name, such as PIPELINE/STAGE/PARTITION,
// or begins it. owner is shown to whoever loses it and must be different for each
// open; now is the clock, nil for time.Now. The archive does not own o.
func OpenArchive(ctx context.Context, o Objects, name, owner string, c ArchiveConfig, now func() time.Time) (*Archive, error) {
	if err := CheckName(name + "/manifest-0000000000000000"); err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	if now == nil {
		now = time.Now
	}
	a := &Archive{
		name: name, config: c.withDefaults(), now: now, o: o,
		ledger: ledger{o: o, prefix: name, kind: kindArchive, owner: owner},
	}
	if a.config.Compression == CompressAuto {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
		if err != nil {
			return nil, fmt.Errorf("open archive %s: %w", name, err)
		}
		a.packer.enc = enc
	}
	a.view = archiveView{from: -1, cycle: -1}
	err := a.ledger.claim(ctx, func(body []byte) (err error) {
		if len(body) == 0 {
			return nil // never flushed
		}
		a.view, a.segments, a.stats.FlushedAt, err = decodeArchive(body)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open archive %s: %w", name, err)
	}
	a.durable = a.view
	keep := map[objectID]bool{}
	for _, s := range a.segments {
		keep[s.id] = true
	}
	left, err := a.ledger.collect(ctx, keep)
	if err != nil {
		return nil, fmt.Errorf("open archive %s: %w", name, err)
	}
	a.stats.Leftover = int64(left)
	return a, nil
}

// Next is the position behind the last record appended, buffered ones included;
// 0 for an archive that never held one. A caller goes on appending from there.
func (a *Archive) Next() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.view.next
}

// Append buffers a record; it copies its value. Positions must rise. At
// SegmentBytes it flushes first; an error of that leaves the record out, and
// the same Append may be repeated.
func (a *Archive) Append(ctx context.Context, r Record) error {
	if len(r.Value) > maxRecord {
		return errkind.Errorf(errkind.Invalid, "append to archive %s: a record of %d bytes, %d are allowed", a.name, len(r.Value), maxRecord)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.rawBytes >= a.config.SegmentBytes {
		a.mu.Unlock()
		err := a.Flush(ctx)
		a.mu.Lock()
		if err != nil {
			return err
		}
	}
	if err := a.alive(); err != nil {
		return err
	}
	if r.Position < a.view.next {
		return errkind.Errorf(errkind.Invalid, "append to archive %s: position %d, the archive is at %d already", a.name, r.Position, a.view.next)
	}
	if len(a.open) > 0 && len(a.open)+len(r.Value) > a.config.BlockBytes {
		a.raw = append(a.raw, a.open)
		a.open = nil
	}
	if a.open == nil {
		a.open = make([]byte, 0, max(a.config.BlockBytes, len(r.Value))+32)
		a.last = 0
	}
	before := len(a.open)
	a.open = appendRecord(a.open, &r, a.last)
	a.last = r.Position
	a.rawBytes += int64(len(a.open) - before)

	b := &a.buffered
	if b.records == 0 {
		b.first = r.Position
	}
	b.last = r.Position
	b.records++
	b.raw += int64(len(a.open) - before)

	v := &a.view
	if v.from < 0 {
		v.from = r.Position
	}
	if r.CycleBegin {
		v.cycle = r.Position
	}
	if r.CycleEnd && v.cycle >= 0 {
		v.from, v.cycle = v.cycle, -1
	}
	v.next = r.Position + 1
	a.changed = true
	return nil
}

// Flush makes what is buffered durable and deletes what it made superfluous.
// After an error everything is still buffered. Conflict says that another
// process has taken the archive over: this one is of no more use.
func (a *Archive) Flush(ctx context.Context) error {
	a.flushing.Lock()
	defer a.flushing.Unlock()
	if err := a.flush(ctx); err != nil {
		a.mu.Lock()
		a.stats.Failures++
		a.mu.Unlock()
		return fmt.Errorf("flush archive %s: %w", a.name, err)
	}
	return nil
}

func (a *Archive) flush(ctx context.Context) error {
	a.mu.Lock()
	if err := a.alive(); err != nil || !a.changed {
		a.mu.Unlock()
		return err
	}
	if len(a.open) > 0 {
		a.raw = append(a.raw, a.open)
		a.open = nil
	}
	raw, packed := a.raw, a.packed
	a.taken = joined(a.taken, a.buffered)
	a.buffered = segment{}
	seg, view := a.taken, a.view
	taken := a.rawBytes
	a.mu.Unlock()

	// Blocks are packed outside of the lock; Append only adds to raw behind these.
	for _, b := range raw {
		packed = append(packed, a.packer.pack(b))
	}
	a.mu.Lock()
	a.packed = packed
	a.raw = append([][]byte(nil), a.raw[len(raw):]...)
	old := a.segments
	a.mu.Unlock()

	if seg.records > 0 {
		seg.id = a.ledger.newID()
		body := newParts(append([][]byte{appendSegmentHeader(nil, seg.id)}, packed...))
		seg.size = body.size
		a.orphans = append(a.orphans, seg.id)
		if err := a.o.Put(ctx, a.ledger.objectName(seg.id), body.size, body); err != nil {
			return err
		}
	}
	var segments []segment
	var gone []objectID
	for _, s := range old {
		if s.last < view.from {
			gone = append(gone, s.id)
		} else {
			segments = append(segments, s)
		}
	}
	if seg.records > 0 {
		segments = append(segments, seg)
	}
	at := a.now()
	manifests, err := a.ledger.write(ctx, encodeArchive(view, segments, at))
	if err != nil {
		return err
	}
	for _, id := range a.orphans {
		if id != seg.id {
			gone = append(gone, id)
		}
	}
	a.orphans = nil

	a.mu.Lock()
	a.segments, a.durable = segments, view
	a.packed = nil
	a.rawBytes -= taken
	a.taken = segment{}
	a.changed = a.view != view
	a.stats.FlushedAt = at
	a.stats.Flushes++
	a.stats.WrittenBytes += seg.size
	a.mu.Unlock()

	left := a.ledger.remove(ctx, manifests, gone)
	a.mu.Lock()
	a.stats.Leftover += int64(left)
	a.mu.Unlock()
	return nil
}

// Reset empties the archive: what Append brings next is its beginning, at
// position next or later. It is for a changelog that does not join what is
// archived. It is durable with the next Flush.
func (a *Archive) Reset(next int64) error {
	a.flushing.Lock()
	defer a.flushing.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.alive(); err != nil {
		return err
	}
	for _, s := range a.segments {
		a.orphans = append(a.orphans, s.id)
	}
	a.segments = nil
	a.packed, a.raw, a.open, a.rawBytes = nil, nil, nil, 0
	a.taken, a.buffered = segment{}, segment{}
	a.view = archiveView{next: next, from: -1, cycle: -1}
	a.changed = true
	return nil
}

// Stats returns the archive's size and counters.
func (a *Archive) Stats() ArchiveStats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stats
	s.Next, s.From = a.durable.next, a.durable.from
	s.Segments = len(a.segments)
	for i := range a.segments {
		s.Records += a.segments[i].records
		s.Bytes += a.segments[i].size
		s.RawBytes += a.segments[i].raw
	}
	s.BufferedRecords, s.BufferedBytes = a.taken.records+a.buffered.records, a.rawBytes
	return s
}

// Close forgets what is buffered and not flushed; a second Close returns nil.
func (a *Archive) Close() error {
	a.flushing.Lock()
	defer a.flushing.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	a.packed, a.raw, a.open = nil, nil, nil
	if a.packer.enc != nil {
		return a.packer.enc.Close()
	}
	return nil
}

func (a *Archive) alive() error {
	if a.closed {
		return errkind.Errorf(errkind.Closed, "archive %s is closed", a.name)
	}
	return nil
}

const archiveVersion = 1

func encodeArchive(v archiveView, segments []segment, at time.Time) []byte {
	b := []byte{archiveVersion}
	for _, x := range []int64{v.next, v.from, v.cycle, at.UnixMilli()} {
		b = binary.AppendVarint(b, x)
	}
	b = binary.AppendUvarint(b, uint64(len(segments)))
	for i := range segments {
		s := &segments[i]
		b = binary.AppendUvarint(b, s.id.epoch)
		b = binary.AppendUvarint(b, s.id.seq)
		for _, x := range []int64{s.size, s.first, s.last, s.records, s.raw} {
			b = binary.AppendVarint(b, x)
		}
	}
	return b
}

func decodeArchive(b []byte) (v archiveView, segments []segment, at time.Time, err error) {
	c := cursor{b: b}
	if version := c.byte(); version != archiveVersion && !c.bad {
		return v, nil, at, errkind.Errorf(errkind.Unsupported, "archive version %d, this program reads %d: use the newer program", version, archiveVersion)
	}
	v = archiveView{next: c.varint(), from: c.varint(), cycle: c.varint()}
	at = time.UnixMilli(c.varint())
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.bad = true
		n = 0
	}
	last := int64(-1)
	for range n {
		s := segment{id: objectID{c.uvarint(), c.uvarint()}}
		s.size, s.first, s.last, s.records, s.raw = c.varint(), c.varint(), c.varint(), c.varint(), c.varint()
		if s.size < 0 || s.records <= 0 || s.first <= last || s.last < s.first || s.last >= v.next {
			c.bad = true
		}
		last = s.last
		segments = append(segments, s)
	}
	if c.bad || len(c.b) != 0 || v.next < 0 || v.from >= max(v.next, 1) || (len(segments) > 0 && segments[0].last < v.from) {
		return v, nil, at, errkind.New(errkind.Corrupt, "the list of segments contradicts itself")
	}
	return v, segments, at, nil
}
