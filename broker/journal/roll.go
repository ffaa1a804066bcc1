package journal

import (
	"fmt"
)

// roll seals the active segment and begins the next.
func (j *Journal) roll() error {
	w := &j.w
	if w.dirty {
		if err := w.file.Sync(); err != nil {
			return j.breakdown(fmt.Errorf("sync %s: %w", w.seg.path, err))
		}
		w.dirty = false
		w.synced = w.seg.base + uint64(w.size)
	}
	if err := w.file.Truncate(w.size); err != nil {
		return writeError(w.seg, err)
	}
	w.grown = w.size
	old := w.seg
	next := newSegment(j.dir, old.base+uint64(w.size))
	j.view.RLock()
	doc, err := j.snapshot()
	j.view.RUnlock()
	if err != nil {
		return err
	}
	f, size, err := j.createSegment(next, doc, w.synced)
	if err != nil {
		return err
	}
	j.cache.adopt(next, f)
	*w = writer{seg: next, file: f, size: size, head: size, grown: max(size, j.growAhead), synced: next.base + uint64(size), stage: w.stage}
	next.size = size
	next.active = segIndex{}
	j.view.Lock()
	old.sealed = true
	j.segments = append(j.segments, next)
	j.view.Unlock()
	j.cache.release(old)
	select {
	case j.maintain <- struct{}{}:
	default:
	}
	return nil
}

// createSegment makes a segment with its header and snapshot. It has its name
// only when both are durable.
func (j *Journal) createSegment(s *segment, snapshot []byte, synced uint64) (File, int64, error) {
	b := make([]byte, segmentHeader)
	segmentHead{base: s.base, created: j.clock().UnixNano()}.put(b)
	var o op
	o.buf = make([]byte, frameHeader)
	o.addBlock(opBlock{head: blockHead{kind: kindSnapshot}}, snapshot)
	o.finish(s.base+segmentHeader, synced)
	b = append(b, o.buf...)

	tmp := s.path + tmpSuffix
	fail := func(err error) (File, int64, error) {
		_ = j.fs.Remove(tmp)
		return nil, 0, writeError(s, err)
	}
	f, err := createFile(j.fs, tmp)
	if err != nil {
		return fail(err)
	}
	if _, err = f.WriteAt(b, 0); err == nil {
		err = f.Truncate(max(int64(len(b)), j.growAhead))
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = j.fs.Rename(tmp, s.path)
	}
	if err != nil {
		_ = f.Close()
		return fail(err)
	}
	if err := j.fs.SyncDir(j.dir); err != nil {
		_ = f.Close()
		return nil, 0, j.breakdown(fmt.Errorf("sync folder %s: %w", j.dir, err))
	}
	return f, int64(len(b)), nil
}
