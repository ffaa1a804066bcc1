package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

const (
	// chunkBytes is about how much a Fetch reads from disk; one block may be larger.
	chunkBytes = 256 << 10
	// gapBytes is how much of others' data is read along rather than starting
	// another read.
	gapBytes = 4 << 10
	// chunkEntries bounds the index entries looked at for one chunk.
	chunkEntries = 64
)

// chunk is memory read from a segment, shared by the reader that cuts records
// out of it and the batches that hold them.
type chunk struct {
	buf  []byte
	refs atomic.Int32
	pool *sync.Pool
}

func (c *chunk) release() {
	if c.refs.Add(-1) == 0 && cap(c.buf) <= keepBuffer {
		c.pool.Put(c)
	}
}

// batch is a broker.Batch with the memory behind it.
type batch struct {
	broker.Batch
	chunk *chunk
}

func newReaderPools() (chunks, batches *sync.Pool) {
	chunks = &sync.Pool{}
	chunks.New = func() any { return &chunk{pool: chunks} }
	batches = &sync.Pool{}
	batches.New = func() any {
		b := &batch{}
		b.Free = func(*broker.Batch) {
			if c := b.chunk; c != nil {
				b.chunk = nil
				c.release()
				batches.Put(b)
			}
		}
		return b
	}
	return chunks, batches
}

// reader reads one partition.
type reader struct {
	j    *Journal
	p    *partition
	next int64 // position of the next record

	// What was read and not yet handed out: the rest of a chunk.
	chunk *chunk
	rest  []byte    // from the block in hand on
	path  string    // of the segment
	base  uint64    // of the segment
	at    int64     // file offset of rest
	open  bool      // head and data are in hand
	head  blockHead // of the block in hand
	data  []byte    // its records from position pos on
	pos   int64
	// before is the headers of the record at pos-1, nil where pos begins the block.
	before event.Headers

	plan [chunkEntries]entry
}

// Read opens one partition at position from.
func (j *Journal) Read(ctx context.Context, topic string, partition int, from int64) (broker.Reader, error) {
	if err := j.usable(ctx); err != nil {
		return nil, err
	}
	_, p, err := j.partition(topic, partition)
	if err != nil {
		return nil, err
	}
	if from < 0 {
		return nil, errkind.Errorf(errkind.Invalid, "read topic %q partition %d: position %d is negative", topic, partition, from)
	}
	return &reader{j: j, p: p, next: from}, nil
}

// Close releases the reader.
func (r *reader) Close() error {
	r.drop()
	return nil
}

func (r *reader) drop() {
	if r.chunk != nil {
		r.chunk.release()
		r.chunk = nil
	}
	r.rest, r.data, r.before, r.open = nil, nil, nil, false
}

func (r *reader) seek(position int64) {
	r.drop()
	r.next = position
}

// Fetch waits for records; see broker.Reader.
func (r *reader) Fetch(ctx context.Context, limit int) (*broker.Batch, error) {
	return r.fetch(ctx, limit, nil)
}

// fetch is Fetch that also ends, with a Conflict error, when revoked is closed.
func (r *reader) fetch(ctx context.Context, limit int, revoked <-chan struct{}) (*broker.Batch, error) {
	if limit < 1 {
		return nil, errkind.Errorf(errkind.Invalid, "fetch: at least one record must be asked for, not %d", limit)
	}
	for {
		if err := r.stopped(ctx, revoked); err != nil {
			return nil, err
		}
		r.j.view.RLock()
		start, end := r.p.start, r.p.end
		r.j.view.RUnlock()
		if r.next < start {
			r.seek(start)
		}
		if r.next < end {
			b, err := r.cut(limit, end)
			if errkind.Is(err, errkind.Transient) {
				continue // trimmed meanwhile
			}
			return b, err
		}
		r.j.view.Lock()
		if r.next < r.p.end {
			r.j.view.Unlock()
			continue
		}
		wake := r.p.waitChan()
		r.j.view.Unlock()
		select {
		case <-wake:
		case <-ctx.Done():
		case <-revoked:
		case <-r.p.topic.gone:
		case <-r.j.closed:
		}
	}
}

func (r *reader) stopped(ctx context.Context, revoked <-chan struct{}) error {
	select {
	case <-r.j.closed:
		return errClosed
	default:
	}
	select {
	case <-revoked:
		return errRevoked(r.p)
	default:
	}
	select {
	case <-r.p.topic.gone:
		return errkind.Errorf(errkind.NotFound, "topic %q was deleted", r.p.topic.conf.Name)
	default:
	}
	return ctx.Err()
}

// cut returns a batch of at least one record.
func (r *reader) cut(limit int, end int64) (*broker.Batch, error) {
	b := r.j.batches.Get().(*batch)
	b.Topic, b.Partition, b.End = r.p.topic.conf.Name, r.p.num, end
	recs := b.Records[:0]
	var err error
	for len(recs) == 0 && err == nil {
		fresh := r.chunk == nil
		if fresh {
			if err = r.fill(); err != nil {
				break
			}
		}
		if recs, err = r.take(recs, limit); len(recs) == 0 && err == nil {
			if fresh {
				err = corruptAt(r.path, r.at, fmt.Errorf("no record %d of topic %q partition %d where its index says", r.next, b.Topic, b.Partition))
			}
			r.drop()
		}
	}
	b.Records = recs
	if err != nil || len(recs) == 0 {
		r.drop()
		r.j.batches.Put(b)
		return nil, err
	}
	b.chunk = r.chunk
	r.chunk.refs.Add(1)
	r.next = recs[len(recs)-1].Position + 1
	if !r.open && len(r.rest) == 0 {
		r.drop()
	}
	return &b.Batch, nil
}

// take cuts records out of the chunk.
func (r *reader) take(recs []event.Record, limit int) ([]event.Record, error) {
	next := r.next
	for len(recs) < limit {
		if !r.open {
			ok, err := r.nextBlock(next)
			if err != nil || !ok {
				return recs, err
			}
		}
		stop := r.head.base + int64(r.head.count)
		for r.pos < stop && len(recs) < limit {
			recs = append(recs, event.Record{})
			rec := &recs[len(recs)-1]
			rest, ok := cutRecord(r.data, r.before, rec)
			if !ok {
				return recs[:len(recs)-1], corruptAt(r.path, r.at, errRecords)
			}
			rec.Position, rec.Time = r.pos, r.head.time
			r.data, r.before = rest, rec.Headers
			r.pos++
			if rec.Position < next {
				recs = recs[:len(recs)-1]
				continue
			}
			next = r.pos
		}
		if r.pos == stop {
			if len(r.data) != 0 {
				return recs, corruptAt(r.path, r.at, errRecords)
			}
			r.skip(blockHeader + r.head.length)
			r.open = false
		}
	}
	return recs, nil
}

func (r *reader) skip(n int) {
	r.rest = r.rest[n:]
	r.at += int64(n)
}

// nextBlock moves to the block of this partition that holds position next.
func (r *reader) nextBlock(next int64) (bool, error) {
	for len(r.rest) > 0 {
		if len(r.rest) > kindAt && r.rest[kindAt] == kindFrame {
			if _, ok := parseFrameHead(r.rest, r.base+uint64(r.at)); !ok {
				return false, corruptAt(r.path, r.at, errFrameHead)
			}
			r.skip(frameHeader)
			continue
		}
		h, data, err := parseBlock(r.rest, false)
		if err != nil {
			return false, corruptAt(r.path, r.at, err)
		}
		if h.kind != kindRecords || h.topic != r.p.topic.id || h.partition != r.p.num ||
			next < h.base || next >= h.base+int64(h.count) {
			r.skip(blockHeader + h.length)
			continue
		}
		if checksum(data) != h.dataCRC {
			return false, corruptAt(r.path, r.at, errBlockData)
		}
		r.head, r.data, r.before, r.pos, r.open = h, data, nil, h.base, true
		return true, nil
	}
	return false, nil
}

// locate finds the index entries from position on that lie in one segment and
// make up one read. The segment is nil where position has been trimmed or is
// the end.
func (j *Journal) locate(p *partition, position int64, plan []entry) (*segment, []entry, error) {
	j.view.RLock()
	i := p.runAt(position)
	if i == len(p.runs) || position >= p.end {
		j.view.RUnlock()
		return nil, nil, nil
	}
	r := p.runs[i]
	if r.first > position {
		start := p.start
		j.view.RUnlock()
		if position < start {
			return nil, nil, nil
		}
		return nil, nil, errkind.Errorf(errkind.Corrupt, "journal %s: topic %q partition %d: records %d to %d are missing", j.dir, p.topic.conf.Name, p.num, position, r.first-1)
	}
	if x := r.seg.active; x != nil {
		plan = planRead(x[p.key()], position, plan)
		j.view.RUnlock()
	} else {
		j.view.RUnlock()
		x, err := j.cache.indexOf(r.seg)
		if err != nil {
			return r.seg, nil, err
		}
		plan = planRead(x[p.key()], position, plan)
	}
	if len(plan) == 0 {
		return r.seg, nil, r.seg.corrupt(0, fmt.Errorf("its index has no record %d of topic %q partition %d", position, p.topic.conf.Name, p.num))
	}
	return r.seg, plan, nil
}

func planRead(es []entry, position int64, plan []entry) []entry {
	plan = plan[:0]
	i := findEntry(es, position)
	bytes := 0
	for ; i < len(es) && len(plan) < cap(plan); i++ {
		e := &es[i]
		if n := len(plan); n == 0 {
			if e.base > position {
				return plan
			}
		} else if last := &plan[n-1]; e.base != last.end() || e.off < last.off+last.len || bytes+int(e.len) > chunkBytes {
			break
		}
		bytes += int(e.len)
		plan = append(plan, *e)
	}
	return plan
}

// fill reads the chunk that holds the record at r.next.
func (r *reader) fill() error {
	for {
		s, plan, err := r.j.locate(r.p, r.next, r.plan[:])
		if s == nil && err == nil {
			r.j.view.RLock()
			start, end := r.p.start, r.p.end
			r.j.view.RUnlock()
			if r.next >= start || start >= end {
				return r.trimmed(start, end)
			}
			r.next = start
			continue
		}
		var f File
		if err == nil {
			f, err = r.j.cache.acquire(s)
		}
		if r.j.wasRemoved(s, err) {
			continue
		}
		if err != nil {
			if errkind.Of(err) != errkind.Unknown {
				return err
			}
			return fmt.Errorf("read journal %s: %w", r.j.dir, err)
		}
		err = r.read(f, s, plan)
		r.j.cache.release(s)
		return err
	}
}

// wasRemoved reports whether err comes of a segment that was removed between the
// look-up and the read: what was live in it has moved, so the look-up is repeated.
func (j *Journal) wasRemoved(s *segment, err error) bool {
	if !errors.Is(err, os.ErrNotExist) {
		return false
	}
	j.view.RLock()
	defer j.view.RUnlock()
	return s.removed
}

// trimmed is what a Fetch meets whose records went between its look and its read.
func (r *reader) trimmed(start, end int64) error {
	return errkind.Errorf(errkind.Transient, "topic %q partition %d was trimmed to %d of %d during the read: fetch again", r.p.topic.conf.Name, r.p.num, start, end)
}

// read gets the planned spans into a chunk, near ones in one read.
func (r *reader) read(f File, s *segment, plan []entry) error {
	c := r.j.chunks.Get().(*chunk)
	c.refs.Store(1)
	from, to := int64(plan[0].off), int64(plan[0].off+plan[0].len)
	// Spans that lie close together are one read; where the first gap is wide
	// the rest is left to the next one.
	for _, e := range plan[1:] {
		if int64(e.off)-to > gapBytes || int64(e.off+e.len)-from > 2*chunkBytes {
			break
		}
		to = int64(e.off + e.len)
	}
	n := int(to - from)
	if cap(c.buf) < n {
		c.buf = make([]byte, max(n, chunkBytes))
	}
	buf := c.buf[:n]
	if _, err := f.ReadAt(buf, from); err != nil {
		c.release()
		if errors.Is(err, io.EOF) {
			return s.corrupt(from, errors.New("the file is shorter than its content was"))
		}
		return fmt.Errorf("read %s: %w", s.path, err)
	}
	r.chunk, r.rest, r.path, r.base, r.at, r.open = c, buf, s.path, s.base, from, false
	return nil
}
