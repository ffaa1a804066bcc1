package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

const (
	// moveBelow is the live share of a sealed segment under which its live
	// blocks are copied forward so that it can go.
	moveBelow = 0.5
	// moveFrame is how much one frame of moved blocks carries.
	moveFrame = 1 << 20
)

// runMaintenance applies retention and frees space until Close.
func (j *Journal) runMaintenance() {
	defer j.upkeep.Done()
	t := time.NewTicker(j.interval)
	defer t.Stop()
	for {
		var err error
		select {
		case <-j.closed:
			return
		case <-j.maintain:
			err = j.writeIndexes()
		case <-t.C:
			err = j.Maintain(j.ctx)
		}
		if err != nil && !j.isClosed() {
			j.log.Error("journal maintenance failed; it will be tried again", "dir", j.dir, "error", err)
		}
	}
}

// Maintain applies retention, writes the indexes of sealed segments, and frees
// the space of what is not live any more. It runs by itself every
// Options.Interval; calling it is for those who cannot wait.
func (j *Journal) Maintain(ctx context.Context) error {
	j.maintaining.Lock()
	defer j.maintaining.Unlock()
	if err := j.usable(ctx); err != nil {
		return err
	}
	if err := j.expire(ctx); err != nil {
		return fmt.Errorf("apply retention: %w", err)
	}
	if err := j.indexSealed(); err != nil {
		return err
	}
	if err := j.reclaim(ctx); err != nil {
		return fmt.Errorf("free segments: %w", err)
	}
	return j.markEnd(ctx)
}

func (j *Journal) writeIndexes() error {
	j.maintaining.Lock()
	defer j.maintaining.Unlock()
	return j.indexSealed()
}

// markEnd writes an empty frame behind the last group, once it is durable, so
// that damage to that group is told from an unfinished write.
func (j *Journal) markEnd(ctx context.Context) error {
	j.view.RLock()
	s := j.segments[len(j.segments)-1]
	end := int64(s.base) + s.size
	j.view.RUnlock()
	if end == j.marked {
		return nil
	}
	if err := j.submit(ctx, j.newOp()); err != nil {
		return err
	}
	j.marked = end + frameHeader // if others came between, the next round marks again
	return nil
}

// expire moves the partitions' starts by age and size.
func (j *Journal) expire(ctx context.Context) error {
	now := j.clock().UnixNano()
	o := j.newOp()
	for _, t := range j.allTopics() {
		for _, p := range t.parts {
			start, err := j.keepFrom(p, now)
			if err != nil {
				j.freeOp(o)
				return err
			}
			if start > 0 {
				o.addBlock(trimBlock(p, start), nil)
			}
		}
	}
	if len(o.blocks) == 0 {
		j.freeOp(o)
		return nil
	}
	return j.submit(ctx, o)
}

// allTopics lists the topics in the order in which they were made.
func (j *Journal) allTopics() []*topic {
	j.view.RLock()
	defer j.view.RUnlock()
	ts := make([]*topic, 0, len(j.topics))
	for _, t := range j.topics {
		ts = append(ts, t)
	}
	slices.SortFunc(ts, func(a, b *topic) int { return cmp.Compare(a.id, b.id) })
	return ts
}

// keepFrom returns the start that retention asks for, 0 where it need not move.
func (j *Journal) keepFrom(p *partition, now int64) (int64, error) {
	c := p.topic.conf
	j.view.RLock()
	start, end := p.start, p.end
	old := len(p.runs) > 0
	j.view.RUnlock()
	if !old || start == end {
		return 0, nil
	}
	keep := start
	if c.Retention > 0 {
		at, err := j.seekTime(p, now-int64(c.Retention))
		if errkind.Is(err, errkind.Transient) {
			return 0, nil // being trimmed by somebody else
		}
		if err != nil {
			return 0, err
		}
		keep = max(keep, at)
	}
	if c.RetainBytes > 0 {
		at, err := j.keepBytes(p, c.RetainBytes)
		if err != nil {
			return 0, err
		}
		keep = max(keep, at)
	}
	if keep == start {
		return 0, nil
	}
	return keep, nil
}

// keepBytes returns the first position from which on at most limit bytes lie,
// to the granularity of the index.
func (j *Journal) keepBytes(p *partition, limit int64) (int64, error) {
	j.view.RLock()
	start := p.start
	i := len(p.runs) - 1
	for ; i >= 0 && limit >= p.runs[i].live(start); i-- {
		limit -= p.runs[i].live(start)
	}
	if i < 0 {
		j.view.RUnlock()
		return start, nil
	}
	r := p.runs[i]
	x := r.seg.active
	var es []entry
	if x != nil {
		es = append(es, x[p.key()]...)
	}
	j.view.RUnlock()
	if x == nil {
		x, err := j.cache.indexOf(r.seg)
		if err != nil {
			return 0, err
		}
		es = x[p.key()]
	}
	keep := r.end
	for k := findEntry(es, r.end-1); k >= 0 && k < len(es) && es[k].end() > r.first; k-- {
		e := &es[k]
		if limit -= int64(e.bytes); limit < 0 {
			break
		}
		keep = max(e.base, r.first)
	}
	return max(keep, start), nil
}

// indexSealed writes the index files of segments that have none yet.
func (j *Journal) indexSealed() error {
	j.view.RLock()
	var todo []*segment
	for _, s := range j.segments {
		if s.sealed && s.active != nil {
			todo = append(todo, s)
		}
	}
	j.view.RUnlock()
	for _, s := range todo {
		x := s.active // not changed any more
		if err := writeFile(j.fs, s.indexPath(), encodeIndex(x, s.base, s.size)); err != nil {
			return fmt.Errorf("write index of %s: %w", s.path, err)
		}
		j.cache.putIndex(s, x)
		j.view.Lock()
		s.active = nil
		j.view.Unlock()
	}
	return nil
}

// reclaim removes segments without live data, after copying forward what little
// is live in those that are mostly dead.
func (j *Journal) reclaim(ctx context.Context) error {
	type share struct {
		s    *segment
		live int64
	}
	j.view.RLock()
	live := map[*segment]int64{}
	for _, t := range j.topics {
		for _, p := range t.parts {
			for i := range p.runs {
				live[p.runs[i].seg] += p.runs[i].live(p.start)
			}
		}
	}
	var low []share
	for _, s := range j.segments {
		if s.sealed && s.active == nil && float64(live[s]) < moveBelow*float64(s.size) {
			low = append(low, share{s, live[s]})
		}
	}
	j.view.RUnlock()
	for _, l := range low {
		if l.live > 0 {
			if err := j.moveLive(ctx, l.s); err != nil {
				return fmt.Errorf("copy what is live out of %s: %w", l.s.path, err)
			}
		}
		if j.needed(l.s) {
			continue // never remove what a partition still refers to
		}
		o := j.newOp()
		o.addBlock(opBlock{head: blockHead{kind: kindSegmentGone, base: int64(l.s.base)}, s: l.s}, nil)
		if err := j.submit(ctx, o); err != nil {
			return err
		}
		if err := j.unlink(l.s); err != nil {
			return err
		}
	}
	return nil
}

// needed reports whether a partition keeps records in s.
func (j *Journal) needed(s *segment) bool {
	j.view.RLock()
	defer j.view.RUnlock()
	for _, t := range j.topics {
		for _, p := range t.parts {
			if slices.ContainsFunc(p.runs, func(r run) bool { return r.seg == s && r.end > p.start }) {
				return true
			}
		}
	}
	return false
}

// unlink removes the files of a segment that the log says is gone.
func (j *Journal) unlink(s *segment) error {
	if err := j.fs.Remove(s.indexPath()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := j.fs.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	j.cache.forget(s)
	return nil
}

// moveLive appends the live blocks of s to the log as they are, with their
// positions and times. When it returns no partition refers to s.
func (j *Journal) moveLive(ctx context.Context, s *segment) error {
	x, err := j.cache.indexOf(s)
	if err != nil {
		return err
	}
	f, err := j.cache.acquire(s)
	if err != nil {
		return err
	}
	defer j.cache.release(s)
	o := j.newOp()
	flush := func(limit int) error {
		if len(o.buf) <= limit {
			return nil
		}
		if err := j.waitRoom(ctx); err != nil {
			return err
		}
		err := j.submit(ctx, o)
		o = j.newOp()
		return err
	}
	var buf []byte
	for _, t := range j.allTopics() {
		for _, p := range t.parts {
			es := x[p.key()]
			if len(es) == 0 {
				continue
			}
			j.view.RLock()
			var mine []run
			for _, r := range p.runs {
				if r.seg == s {
					r.first = max(r.first, p.start)
					mine = append(mine, r)
				}
			}
			j.view.RUnlock()
			for _, r := range mine {
				for i := findEntry(es, r.first); i < len(es) && es[i].base < r.end; i++ {
					e := &es[i]
					if cap(buf) < int(e.len) {
						buf = make([]byte, e.len)
					}
					buf = buf[:e.len]
					if _, err := f.ReadAt(buf, int64(e.off)); err != nil {
						if errors.Is(err, io.EOF) {
							return s.corrupt(int64(e.off), errBlockShort)
						}
						return err
					}
					if err := o.addMoved(s, p, r, buf, int64(e.off)); err != nil {
						return err
					}
					if err := flush(moveFrame); err != nil {
						return err
					}
				}
			}
		}
	}
	err = flush(frameHeader)
	j.freeOp(o)
	return err
}

// addMoved copies the blocks of p in a span that hold positions of r.
func (o *op) addMoved(s *segment, p *partition, r run, span []byte, at int64) error {
	for off := 0; off < len(span); {
		rest := span[off:]
		if len(rest) > kindAt && rest[kindAt] == kindFrame {
			if _, ok := parseFrameHead(rest, s.base+uint64(at)+uint64(off)); !ok {
				return s.corrupt(at+int64(off), errFrameHead)
			}
			off += frameHeader
			continue
		}
		h, data, err := parseBlock(rest, false)
		if err != nil {
			return s.corrupt(at+int64(off), err)
		}
		if h.kind == kindRecords && h.topic == p.topic.id && h.partition == p.num &&
			h.base < r.end && h.base+int64(h.count) > r.first {
			if checksum(data) != h.dataCRC {
				return s.corrupt(at+int64(off), errBlockData)
			}
			b := opBlock{p: p, off: len(o.buf), head: h}
			b.head.flags |= flagMoved
			o.grow(blockHeader + len(data))
			copy(o.buf[b.off+blockHeader:], data)
			o.blocks = append(o.blocks, b)
		}
		off += blockHeader + h.length
	}
	return nil
}
