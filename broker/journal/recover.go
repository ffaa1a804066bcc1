package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/freshet-io/freshet/errkind"
)

func owner(address string) Owner { return Owner{PID: os.Getpid(), Address: address} }

// folder is what lies in a journal's folder.
type folder struct {
	segments []*segment // ordered by base
	indexes  []string   // names
	tmp      []string
}

func listFolder(fs FS, dir string) (folder, error) {
	var f folder
	names, err := fs.ReadDir(dir)
	if err != nil {
		return f, err
	}
	for _, name := range names {
		if b, ok := segmentBase(name); ok {
			f.segments = append(f.segments, newSegment(dir, b))
			continue
		}
		switch stem, kind := strings.TrimSuffix(name, tmpSuffix), filepath.Ext(name); {
		case kind == tmpSuffix && (strings.HasSuffix(stem, segmentSuffix) || strings.HasSuffix(stem, indexSuffix)):
			f.tmp = append(f.tmp, name)
		case kind == indexSuffix:
			f.indexes = append(f.indexes, name)
		}
	}
	slices.SortFunc(f.segments, func(a, b *segment) int {
		if a.base < b.base {
			return -1
		}
		return 1
	})
	return f, nil
}

// recover reads the state from the folder, repairs what a crash has left, and
// makes the newest segment ready for appending.
func (j *Journal) recover() error {
	found, err := listFolder(j.fs, j.dir)
	if err != nil {
		return openError(j.dir, err)
	}
	for _, name := range found.tmp {
		if err := j.fs.Remove(filepath.Join(j.dir, name)); err != nil {
			return openError(j.dir, err)
		}
	}
	if err := found.checkNewest(j.dir); err != nil {
		return err
	}
	if len(found.segments) == 0 {
		return j.startEmpty()
	}
	if err := j.recoverActive(found); err != nil {
		return err
	}
	for _, t := range j.topics {
		for _, p := range t.parts {
			if err := j.checkRuns(p); err != nil {
				return err
			}
			p.next, p.nextTime = p.end, p.last
		}
	}
	// Names first made durable by a crashed predecessor's rename are relied on from here.
	if err := j.fs.SyncDir(j.dir); err != nil {
		return openError(j.dir, err)
	}
	return nil
}

// checkNewest refuses a folder whose newest segments were taken away: an index is
// written only when a later segment is there.
func (f *folder) checkNewest(dir string) error {
	if len(f.indexes) == 0 {
		return nil
	}
	last := f.indexes[len(f.indexes)-1]
	if n := len(f.segments); n == 0 || base(f.segments[n-1].indexPath()) <= last {
		return errkind.Errorf(errkind.Corrupt, "journal %s: there is an index %s, but not the segment that was written after it: restore the folder from a copy", dir, last)
	}
	return nil
}

func (j *Journal) startEmpty() error {
	s := newSegment(j.dir, 0)
	doc, err := j.snapshot()
	if err != nil {
		return err
	}
	f, size, err := j.createSegment(s, doc, 0)
	if err != nil {
		if errkind.Of(err) == errkind.Unknown {
			return openError(j.dir, err)
		}
		return err
	}
	s.size, s.active = size, segIndex{}
	j.segments = []*segment{s}
	j.cache.adopt(s, f)
	j.w = writer{seg: s, file: f, size: size, head: size, grown: max(size, j.growAhead), synced: uint64(size)}
	return nil
}

// recoverActive reads the newest segment: its snapshot, then every frame.
func (j *Journal) recoverActive(found folder) error {
	s := found.segments[len(found.segments)-1]
	f, err := j.fs.OpenFile(s.path, os.O_RDWR)
	if err != nil {
		return openError(j.dir, err)
	}
	j.cache.adopt(s, f)
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("open journal %s: %w", j.dir, err)
	}
	if err := checkSegmentHead(f, s); err != nil {
		return err
	}
	s.active = segIndex{}
	r := recovery{j: j, found: found, active: s, dropped: map[uint64]bool{}}
	sc := newScanner(f, s.base, size)
	for {
		at, h, body, err := sc.next()
		if err == nil && body == nil {
			s.size = at
			break
		}
		if err == nil {
			off := at + frameHeader
			err = walkFrame(h, body, func(o int, b blockHead, data []byte) error {
				return r.block(&b, data, off+int64(o))
			})
		}
		if err == nil {
			continue
		}
		if errkind.Is(err, errkind.Corrupt) || !frameFault(err) {
			return fmt.Errorf("open journal %s: %w", j.dir, err)
		}
		durable := !r.started // the snapshot was, before the segment had its name
		if !durable {
			var rerr error
			if durable, rerr = sc.provenDurable(at); rerr != nil {
				return fmt.Errorf("open journal %s: %w", j.dir, rerr)
			}
		}
		if durable {
			return s.corrupt(at, err)
		}
		j.log.Warn("journal: cut an unfinished frame off the end of the log", "file", s.path, "offset", at, "bytes", size-at, "why", err)
		s.size = at
		break
	}
	if !r.started {
		return s.corrupt(segmentHeader, errors.New("the snapshot is missing"))
	}
	if err := f.Truncate(s.size); err != nil {
		return openError(j.dir, err)
	}
	// What the predecessor wrote may be in memory only; from here on it counts as durable.
	if err := f.Sync(); err != nil {
		return fmt.Errorf("open journal %s: sync %s: %w", j.dir, s.path, err)
	}
	j.segments = append(j.segments, s)
	j.w = writer{seg: s, file: f, size: s.size, head: r.head, grown: s.size, synced: s.base + uint64(s.size)}
	return r.removeLeftovers()
}

// frameFault reports whether err says that bytes are not a valid frame, as
// against a read that failed.
func frameFault(err error) bool {
	for _, e := range []error{errBlockShort, errBlockHead, errBlockData, errBlockKind, errFrameHead, errFrameShort, errFrameBlocks} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func checkSegmentHead(f File, s *segment) error {
	b := make([]byte, segmentHeader)
	if n, err := f.ReadAt(b, 0); n < len(b) {
		if err == nil || n > 0 {
			err = errNotSegment
		}
		return s.corrupt(0, err)
	}
	h, err := parseSegmentHead(b)
	if errors.Is(err, errVersion) {
		return errkind.Errorf(errkind.Unsupported, "journal file %s: %w (%d is)", s.path, err, formatVersion)
	}
	if err != nil {
		return s.corrupt(0, err)
	}
	if h.base != s.base {
		return s.corrupt(0, fmt.Errorf("the header says that the segment begins at %016x", h.base))
	}
	return nil
}

// recovery applies the frames of the active segment.
type recovery struct {
	j       *Journal
	found   folder
	active  *segment
	started bool            // the snapshot was read
	head    int64           // end of the snapshot's frame
	missing []uint64        // segments that the snapshot lists and the folder lacks
	dropped map[uint64]bool // segments that went after the snapshot
}

func (r *recovery) bad(off int64, format string, args ...any) error {
	return r.active.corrupt(off, fmt.Errorf(format, args...))
}

func (r *recovery) block(h *blockHead, data []byte, off int64) error {
	j := r.j
	if !r.started {
		if h.kind != kindSnapshot {
			return r.bad(off, "the snapshot is missing")
		}
		r.started = true
		r.head = off + int64(blockHeader+h.length)
		return r.snapshot(data, off)
	}
	var t *topic
	var p *partition
	switch h.kind {
	case kindRecords, kindPositions, kindTopicGone, kindTrim:
		if t = j.topics[h.topic]; t == nil {
			return r.bad(off, "there is no topic %d", h.topic)
		}
		if h.partition >= len(t.parts) {
			return r.bad(off, "topic %q has no partition %d", t.conf.Name, h.partition)
		}
		p = t.parts[h.partition]
	}
	switch h.kind {
	case kindRecords:
		if h.flags&flagMoved != 0 {
			r.active.active.add(p.key(), h, off)
			p.placeMoved(r.active, h)
			return nil
		}
		if h.base != p.end || h.count == 0 {
			return r.bad(off, "the records of topic %q partition %d begin at position %d; %d was expected", t.conf.Name, p.num, h.base, p.end)
		}
		r.active.active.add(p.key(), h, off)
		p.extend(r.active, h)
	case kindPositions:
		group, moves, ok := decodeMoves(h, data)
		if !ok {
			return r.bad(off, "the positions do not add up to the block's length")
		}
		for _, m := range moves {
			if m.partition < 0 || m.partition >= len(t.parts) || m.next < 0 || m.next > t.parts[m.partition].end {
				return r.bad(off, "a position of group %q on topic %q is out of range", group, t.conf.Name)
			}
			t.setPosition(group, m.partition, m.next)
		}
	case kindTopic:
		var doc topicDoc
		if err := json.Unmarshal(data, &doc); err != nil {
			return r.bad(off, "topic: %w", err)
		}
		if doc.Partitions < 1 || doc.Partitions > maxPartitions || j.topics[doc.ID] != nil || j.byName[doc.Name] != nil {
			return r.bad(off, "topic %q cannot be made", doc.Name)
		}
		j.addTopic(newTopic(doc.ID, doc.config()))
	case kindTopicGone:
		j.removeTopic(t)
	case kindTrim:
		if h.base > p.end {
			return r.bad(off, "topic %q partition %d cannot begin at %d", t.conf.Name, p.num, h.base)
		}
		p.trim(h.base)
	case kindSegmentGone:
		r.dropped[uint64(h.base)] = true
		if i := slices.IndexFunc(j.segments, func(s *segment) bool { return s.base == uint64(h.base) }); i >= 0 {
			j.removeSegment(j.segments[i])
		}
	case kindSnapshot:
		return r.bad(off, "a second snapshot")
	}
	return nil
}

// snapshot sets the state up, with the sealed segments and their indexes.
func (r *recovery) snapshot(data []byte, off int64) error {
	j := r.j
	var doc snapshotDoc
	if err := json.Unmarshal(data, &doc); err != nil {
		return r.bad(off, "snapshot: %w", err)
	}
	for _, d := range doc.Topics {
		if d.Partitions < 1 || d.Partitions > maxPartitions || len(d.State) != d.Partitions || j.topics[d.ID] != nil || j.byName[d.Name] != nil {
			return r.bad(off, "the snapshot's topic %q does not fit", d.Name)
		}
		t := newTopic(d.ID, d.config())
		for i, st := range d.State {
			if st.Start < 0 || st.Start > st.End {
				return r.bad(off, "the snapshot's positions of topic %q do not fit", d.Name)
			}
			t.parts[i].start, t.parts[i].end, t.parts[i].last = st.Start, st.End, st.Last
		}
		for group, ps := range d.Groups {
			if len(ps) != d.Partitions {
				return r.bad(off, "the snapshot's group %q does not fit topic %q", group, d.Name)
			}
			t.positions[group] = ps
		}
		j.addTopic(t)
	}
	j.nextTopic = max(j.nextTopic, doc.NextTopic)
	// Which of the listed segments went meanwhile is only known at the end of
	// the active one, so that those missing are asked about there. What is there
	// is indexed now, in log order, before the active segment's own records.
	for _, d := range doc.Segments {
		i := slices.IndexFunc(r.found.segments, func(s *segment) bool { return s.base == d.Base })
		if i < 0 {
			r.missing = append(r.missing, d.Base)
			continue
		}
		s := r.found.segments[i]
		s.size, s.sealed = d.Size, true
		j.segments = append(j.segments, s)
		if err := j.loadSealed(s); err != nil {
			return err
		}
	}
	return nil
}

// loadSealed notes where the records of a sealed segment lie.
func (j *Journal) loadSealed(s *segment) error {
	f, err := j.fs.OpenFile(s.path, os.O_RDONLY)
	if err != nil {
		return openError(j.dir, err)
	}
	size, err := f.Size()
	if err == nil && size < s.size {
		err = s.corrupt(size, fmt.Errorf("the file has %d bytes; it was sealed with %d", size, s.size))
	}
	if err == nil {
		err = checkSegmentHead(f, s)
	}
	_ = f.Close()
	if err != nil {
		return err
	}
	x, err := loadIndex(j.fs, s)
	if err != nil {
		return err
	}
	for _, t := range j.topics {
		for _, p := range t.parts {
			for _, r := range runsOf(x[p.key()], s) {
				if r.end > p.start {
					p.place(r)
				}
			}
		}
	}
	j.cache.putIndex(s, x)
	return nil
}

// removeLeftovers unlinks what the log says is gone, and refuses to go on where
// something else is gone.
func (r *recovery) removeLeftovers() error {
	j := r.j
	live := map[string]bool{}
	for _, s := range j.segments {
		live[base(s.path)] = true
		live[base(s.indexPath())] = true
	}
	for _, missing := range r.missing {
		if !r.dropped[missing] {
			return errkind.Errorf(errkind.Corrupt, "journal %s: segment %s is missing: restore the folder from a copy", j.dir, segmentName(missing))
		}
	}
	for _, s := range r.found.segments {
		if live[base(s.path)] {
			continue
		}
		if err := j.unlink(s); err != nil {
			return openError(j.dir, err)
		}
	}
	for _, name := range r.found.indexes {
		if live[name] {
			continue
		}
		if err := j.fs.Remove(filepath.Join(j.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return openError(j.dir, err)
		}
	}
	return nil
}

// checkRuns makes sure that every kept record is somewhere.
func (j *Journal) checkRuns(p *partition) error {
	at := p.start
	for i := range p.runs {
		r := &p.runs[i]
		if r.first > at {
			break
		}
		at = max(at, r.end)
	}
	if at < p.end {
		return errkind.Errorf(errkind.Corrupt, "journal %s: topic %q partition %d: records from %d on are missing: restore the folder from a copy", j.dir, p.topic.conf.Name, p.num, at)
	}
	return nil
}
