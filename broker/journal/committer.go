package journal

import (
	"fmt"
	"slices"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

const (
	// directWrite is the size from which a frame is written as it is; smaller
	// ones are gathered first.
	directWrite = 64 << 10
	// stageBytes is how much is gathered for one write.
	stageBytes = 1 << 20
	// growAhead is how far a segment file is made longer than its content, so
	// that a sync need not write the length each time. Zeros mark the end.
	growAhead = 16 << 20
)

// writer is the committer's own state: where the log ends.
type writer struct {
	seg   *segment
	file  File
	size  int64 // written and acknowledged
	head  int64 // where the first frame after the snapshot begins
	grown int64 // length of the file
	// synced is the log offset before which everything is durable.
	synced uint64
	dirty  bool // relaxed mode: something is written and not synced
	stage  []byte
}

// runCommitter writes what appenders hand over until Close. It is the only
// writer of the log.
func (j *Journal) runCommitter() {
	defer j.running.Done()
	var timer *time.Timer
	var due <-chan time.Time
	for {
		select {
		case <-j.kick:
		case <-due:
			due = nil
			j.syncLate()
		case <-j.stopCommits:
			// Appends are refused by now; what was enqueued before is written.
			for j.commitPending() {
			}
			j.seal()
			return
		}
		for j.commitPending() {
		}
		if j.w.dirty && due == nil {
			if timer == nil {
				timer = time.NewTimer(j.sync.every)
			} else {
				timer.Reset(j.sync.every)
			}
			due = timer.C
		}
	}
}

// commitPending takes what waits and sees it through.
func (j *Journal) commitPending() bool {
	j.mu.Lock()
	g := j.pending
	if len(g.ops) == 0 {
		j.mu.Unlock()
		return false
	}
	j.inflight = g
	j.pending = &group{done: make(chan struct{})}
	close(j.room)
	j.room = make(chan struct{})
	broken := j.broken
	j.mu.Unlock()

	if broken != nil {
		j.fail(g, 0, broken)
		return true
	}
	for n := 0; n < len(g.ops); {
		k, size := n, j.w.size
		for k < len(g.ops) {
			next := size + int64(len(g.ops[k].buf))
			if next > j.segmentBytes && size > j.w.head {
				break
			}
			size = next
			k++
		}
		var err error
		if k == n {
			err = j.roll()
		} else {
			err = j.write(g.ops[n:k])
		}
		if err != nil {
			j.fail(g, n, err)
			return true
		}
		n = k
	}
	j.mu.Lock()
	j.inflight = nil
	j.mu.Unlock()
	close(g.done)
	for _, o := range g.ops {
		j.freeOp(o)
	}
	return true
}

// write lays the frames of ops into the active segment, syncs and applies them.
// On error nothing of them is left, or the journal is broken.
func (j *Journal) write(ops []*op) error {
	w := &j.w
	off := w.size
	w.stage = w.stage[:0]
	staged := off // file offset of stage
	flush := func() error {
		if len(w.stage) == 0 {
			return nil
		}
		_, err := w.file.WriteAt(w.stage, staged)
		staged += int64(len(w.stage))
		w.stage = w.stage[:0]
		return err
	}
	total := int64(0)
	for _, o := range ops {
		total += int64(len(o.buf))
	}
	var err error
	if off+total > w.grown {
		grown := (off + total + j.growAhead - 1) / j.growAhead * j.growAhead
		if err = w.file.Truncate(grown); err == nil {
			w.grown = grown
		}
	}
	for _, o := range ops {
		if err != nil {
			break
		}
		o.finish(w.seg.base+uint64(off), w.synced)
		off += int64(len(o.buf))
		if len(o.buf) < directWrite {
			w.stage = append(w.stage, o.buf...)
			if len(w.stage) >= stageBytes {
				err = flush()
			}
			continue
		}
		if err = flush(); err == nil {
			_, err = w.file.WriteAt(o.buf, staged)
			staged += int64(len(o.buf))
		}
	}
	if err == nil {
		err = flush()
	}
	if err != nil {
		return j.takeBack(err)
	}
	if j.sync.every == 0 {
		if err := w.file.Sync(); err != nil {
			return j.breakdown(fmt.Errorf("sync %s: %w", w.seg.path, err))
		}
		w.synced = w.seg.base + uint64(off)
	} else {
		w.dirty = true
	}
	w.size = off
	j.apply(ops)
	return nil
}

// finish fills the headers in.
func (o *op) finish(at, synced uint64) {
	for i := range o.blocks {
		b := &o.blocks[i]
		b.head.put(o.buf[b.off:])
	}
	h := frameHead{length: len(o.buf) - frameHeader, blocks: len(o.blocks), at: at, synced: synced}
	h.put(o.buf)
}

// takeBack restores the end of the log after a failed write, and says what failed.
func (j *Journal) takeBack(err error) error {
	w := &j.w
	terr := w.file.Truncate(w.size)
	w.grown = w.size
	if terr == nil {
		terr = w.file.Sync()
	}
	if terr != nil {
		return j.breakdown(fmt.Errorf("write %s: %w; then restoring its length: %w", w.seg.path, err, terr))
	}
	return writeError(w.seg, err)
}

// writeError words a write that failed and left nothing behind.
func writeError(s *segment, err error) error {
	if diskFull(err) {
		return errkind.Errorf(errkind.Exhausted, "write journal %s: no space left on the device: nothing was stored; free space or shorten retention, then try again: %w", s.path, err)
	}
	return fmt.Errorf("write journal %s: %w", s.path, err)
}

// breakdown refuses every later write: what is on disk is not known any more.
func (j *Journal) breakdown(err error) error {
	err = errkind.Errorf(errkind.Permanent, "journal %s cannot be written any more, because the state of the disk is unknown: check the disk and start again: %w", j.dir, err)
	j.mu.Lock()
	if j.broken == nil {
		j.broken = err
	}
	j.mu.Unlock()
	j.log.Error("journal stopped writing", "dir", j.dir, "error", err)
	return err
}

// fail ends a group whose ops from n on were not stored, and with it whatever was
// appended behind them: those records had got their positions after them.
func (j *Journal) fail(g *group, n int, err error) {
	j.mu.Lock()
	rest := j.pending
	j.pending = &group{done: make(chan struct{})}
	close(j.room)
	j.room = make(chan struct{})
	for _, ops := range [][]*op{g.ops[n:], rest.ops} {
		for _, o := range ops {
			for i := range o.blocks {
				j.undo(&o.blocks[i])
			}
		}
	}
	j.mu.Unlock()
	for _, ops := range [][]*op{g.ops[n:], rest.ops} {
		for _, o := range ops {
			for len(o.added) > 0 {
				d := o.added[0].d
				d.mu.Lock()
				d.takeBack(o.added)
				d.mu.Unlock()
				o.added = slices.DeleteFunc(o.added, func(a idAdded) bool { return a.d == d })
			}
		}
	}
	g.err, g.failedFrom = err, n
	rest.err = err
	j.mu.Lock()
	j.inflight = nil
	j.mu.Unlock()
	close(g.done)
	close(rest.done)
}

// undo takes back what enqueue did for a block. Under mu; only the committer
// changes the view, so that it can be read.
func (j *Journal) undo(b *opBlock) {
	switch b.head.kind {
	case kindRecords:
		b.p.next, b.p.nextTime = b.p.end, b.p.last
	case kindTopicGone:
		b.t.deleting = false
	}
}

// apply makes ops visible, all at once.
func (j *Journal) apply(ops []*op) {
	s := j.w.seg
	off := s.size
	j.view.Lock()
	for _, o := range ops {
		for i := range o.blocks {
			b := &o.blocks[i]
			switch b.head.kind {
			case kindRecords:
				s.active.add(b.p.key(), &b.head, off+int64(b.off))
				if b.head.flags&flagMoved != 0 {
					b.p.placeMoved(s, &b.head)
					break
				}
				b.p.extend(s, &b.head)
				b.p.wakeAll()
			case kindPositions:
				for _, m := range o.moves[b.movesFrom:b.movesTo] {
					b.t.setPosition(b.group, m.partition, m.next)
				}
			case kindTopic:
				j.addTopic(b.t)
			case kindTopicGone:
				j.removeTopic(b.t)
			case kindTrim:
				b.p.trim(b.head.base)
				b.p.wakeAll()
			case kindSegmentGone:
				j.removeSegment(b.s)
			}
		}
		off += int64(len(o.buf))
	}
	s.size = off
	j.view.Unlock()
}

func (p *partition) placeMoved(s *segment, h *blockHead) {
	end := h.base + int64(h.count)
	if end > p.start { // otherwise trimmed meanwhile
		p.place(run{first: h.base, end: end, bytes: int64(blockHeader + h.length), last: h.time, seg: s})
	}
}

func (j *Journal) addTopic(t *topic) {
	j.topics[t.id] = t
	j.byName[t.conf.Name] = t
	j.nextTopic = max(j.nextTopic, t.id+1)
}

func (j *Journal) removeTopic(t *topic) {
	delete(j.topics, t.id)
	delete(j.byName, t.conf.Name)
	close(t.gone)
}

func (j *Journal) removeSegment(s *segment) {
	s.removed = true
	j.segments = slices.DeleteFunc(j.segments, func(o *segment) bool { return o == s })
}

// syncLate is the sync of the relaxed mode.
func (j *Journal) syncLate() {
	w := &j.w
	j.mu.Lock()
	broken := j.broken
	j.mu.Unlock()
	if !w.dirty || broken != nil {
		return
	}
	if err := w.file.Sync(); err != nil {
		_ = j.breakdown(fmt.Errorf("sync %s: %w", w.seg.path, err)) // logged there; later writes return it
		return
	}
	w.dirty = false
	w.synced = w.seg.base + uint64(w.size)
}

// mark writes an empty frame that says how far the log was durable, so that
// damage to the last group is seen.
func (j *Journal) mark() error {
	o := &op{buf: make([]byte, frameHeader)}
	return j.write([]*op{o})
}

// seal ends the log at Close.
func (j *Journal) seal() {
	w := &j.w
	j.mu.Lock()
	broken := j.broken
	j.mu.Unlock()
	if broken == nil {
		j.syncLate()
		if w.size > w.head {
			if err := j.mark(); err != nil {
				j.log.Warn("journal closed without an end mark", "dir", j.dir, "error", err)
			}
			j.syncLate()
		}
		if err := w.file.Truncate(w.size); err != nil {
			j.log.Warn("journal closed with room at its end", "dir", j.dir, "error", err)
		}
	}
}
