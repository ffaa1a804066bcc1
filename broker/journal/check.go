package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/freshet-io/freshet/errkind"
)

// Report is what Check found.
type Report struct {
	Segments []SegmentReport
	// Topics are those that the readable part of the log knows at its end, sorted by name.
	Topics []TopicReport
	// Damage is the first damage; nil where there is none.
	Damage *Damage
	// Unfinished is the number of bytes of an unfinished frame at the end, which
	// the next Open cuts off. Nobody was told that they are durable.
	Unfinished int64
}

// SegmentReport counts what one segment holds, up to damage.
type SegmentReport struct {
	File    string
	Sealed  bool
	Frames  int
	Bytes   int64
	Records int64
}

// TopicReport counts what a topic has in the log.
type TopicReport struct {
	Name       string
	Partitions int
	// Records is the number kept: what can be read.
	Records int64
	// Stored is the number of records lying in the segments, trimmed ones and
	// copies included, with their bytes.
	Stored, Bytes int64
}

// Damage is a place where the log is not what was written.
type Damage struct {
	File   string
	Offset int64
	Reason string
}

func (d Damage) String() string { return fmt.Sprintf("%s: offset %d: %s", d.File, d.Offset, d.Reason) }

// Check reads the journal in dir frame by frame, comparing every checksum, and
// writes nothing. It may run beside the process that owns the folder: then what
// is being written at that moment counts as unfinished. The error is about the
// folder; damage is in the report.
func Check(dir string) (Report, error) { return CheckFS(nil, dir) }

// CheckFS is Check on another file system; nil is the operating system's.
func CheckFS(fs FS, dir string) (Report, error) {
	if fs == nil {
		fs = osFS{}
	}
	var rep Report
	found, err := listFolder(fs, dir)
	if errors.Is(err, os.ErrNotExist) {
		return rep, errkind.Errorf(errkind.NotFound, "check journal %s: there is no such folder", dir)
	}
	if err != nil {
		return rep, fmt.Errorf("check journal: %w", err)
	}
	if len(found.segments) == 0 && len(found.indexes) == 0 {
		return rep, errkind.Errorf(errkind.NotFound, "check journal %s: there is no journal in the folder", dir)
	}
	c := checker{fs: fs, dir: dir, rep: &rep, topics: map[uint32]*topicCheck{}, listed: map[uint64]int64{}}
	if err := found.checkNewest(dir); err != nil {
		c.damage(dir, 0, err)
	}
	for i, s := range found.segments {
		if err := c.segment(s, i == len(found.segments)-1); err != nil {
			return rep, err
		}
	}
	c.finish(found)
	return rep, nil
}

type checker struct {
	fs     FS
	dir    string
	rep    *Report
	topics map[uint32]*topicCheck
	listed map[uint64]int64 // segments of the newest snapshot, less those that went
}

type topicCheck struct {
	TopicReport
	start, end map[int]int64
}

func (c *checker) damage(file string, off int64, reason error) {
	if c.rep.Damage == nil {
		c.rep.Damage = &Damage{File: file, Offset: off, Reason: reason.Error()}
	}
}

func (c *checker) segment(s *segment, active bool) error {
	f, err := c.fs.OpenFile(s.path, os.O_RDONLY)
	if errors.Is(err, os.ErrNotExist) {
		return nil // freed by its owner since the folder was listed
	}
	if err != nil {
		return fmt.Errorf("check journal: %w", err)
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return fmt.Errorf("check journal: %w", err)
	}
	r := SegmentReport{File: s.path, Sealed: !active}
	defer func() { c.rep.Segments = append(c.rep.Segments, r) }()
	if err := checkSegmentHead(f, s); err != nil {
		c.damage(s.path, 0, err)
		return nil
	}
	sc := newScanner(f, s.base, size)
	for {
		at, h, body, err := sc.next()
		r.Bytes = at
		if err == nil && body == nil {
			s.size = at
			return nil
		}
		if err == nil {
			err = walkFrame(h, body, func(_ int, b blockHead, data []byte) error {
				if b.kind == kindRecords {
					r.Records += int64(b.count)
				}
				return c.block(&b, data)
			})
		}
		if err == nil {
			r.Frames++
			continue
		}
		if !frameFault(err) && !errors.Is(err, errRecords) {
			return fmt.Errorf("check journal: %w", err)
		}
		durable := !active || r.Frames == 0 || errors.Is(err, errRecords)
		if !durable {
			var rerr error
			if durable, rerr = sc.provenDurable(at); rerr != nil {
				return fmt.Errorf("check journal: %w", rerr)
			}
		}
		if durable {
			c.damage(s.path, at, err)
		} else {
			c.rep.Unfinished = size - at
		}
		s.size = at
		return nil
	}
}

func (c *checker) block(h *blockHead, data []byte) error {
	t := c.topics[h.topic]
	switch h.kind {
	case kindRecords:
		if _, err := appendRecords(nil, h, data, 0); err != nil {
			return err
		}
		if t == nil {
			break // of a topic deleted since, or damaged before
		}
		t.Stored += int64(h.count)
		t.Bytes += int64(blockHeader + len(data))
		t.end[h.partition] = max(t.end[h.partition], h.base+int64(h.count))
	case kindPositions:
		if _, _, ok := decodeMoves(h, data); !ok {
			return errRecords
		}
	case kindTopic:
		var doc topicDoc
		if json.Unmarshal(data, &doc) != nil {
			return errRecords
		}
		c.addTopic(doc)
	case kindTopicGone:
		delete(c.topics, h.topic)
	case kindTrim:
		if t != nil {
			t.start[h.partition] = max(t.start[h.partition], h.base)
		}
	case kindSegmentGone:
		delete(c.listed, uint64(h.base))
	case kindSnapshot:
		var doc snapshotDoc
		if json.Unmarshal(data, &doc) != nil {
			return errRecords
		}
		clear(c.listed)
		for _, s := range doc.Segments {
			c.listed[s.Base] = s.Size
		}
		for _, d := range doc.Topics {
			t := c.addTopic(d.topicDoc)
			for i, st := range d.State {
				t.start[i], t.end[i] = max(t.start[i], st.Start), max(t.end[i], st.End)
			}
		}
	}
	return nil
}

func (c *checker) addTopic(doc topicDoc) *topicCheck {
	t := c.topics[doc.ID]
	if t == nil {
		t = &topicCheck{TopicReport: TopicReport{Name: doc.Name, Partitions: doc.Partitions}, start: map[int]int64{}, end: map[int]int64{}}
		c.topics[doc.ID] = t
	}
	return t
}

// finish compares the folder with the newest list of segments.
func (c *checker) finish(found folder) {
	for base, size := range c.listed {
		i := slices.IndexFunc(found.segments, func(s *segment) bool { return s.base == base })
		switch {
		case i < 0:
			c.damage(segmentName(base), 0, errors.New("the segment is missing"))
		case found.segments[i].size < size:
			c.damage(found.segments[i].path, found.segments[i].size, fmt.Errorf("the segment ends here; it was sealed with %d bytes", size))
		}
	}
	for _, t := range c.topics {
		for p, end := range t.end {
			t.Records += end - t.start[p]
		}
		c.rep.Topics = append(c.rep.Topics, t.TopicReport)
	}
	slices.SortFunc(c.rep.Topics, func(a, b TopicReport) int { return strings.Compare(a.Name, b.Name) })
}
