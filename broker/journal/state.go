package journal

import (
	"encoding/json"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
)

// topic is what is known of one topic.
type topic struct {
	id    uint32
	conf  broker.TopicConfig
	parts []*partition
	dedup *dedup        // nil without a window
	gone  chan struct{} // closed when the topic is deleted
	robin atomic.Uint32 // spreads records without a key

	deleting bool // under Journal.mu

	// positions holds each group's next positions, -1 where it has none. Under Journal.view.
	positions map[string][]int64
}

// partition is what is known of one partition.
type partition struct {
	topic *topic
	num   int

	// What the next record gets. Under Journal.mu, ahead of the view by what
	// is on its way to disk.
	next     int64
	nextTime int64

	// What readers see. Under Journal.view.
	start, end int64
	last       int64 // time of the last record
	runs       []run // ordered by position, without overlap, covering start to end
	wake       chan struct{}
}

func (p *partition) key() partKey { return keyOf(p.topic.id, p.num) }

// run is a gapless range of a partition's positions within one segment.
type run struct {
	first, end int64
	bytes      int64
	last       int64 // time of its last record
	seg        *segment
}

// live is the share of the run's bytes from position start on.
func (r *run) live(start int64) int64 {
	if start <= r.first {
		return r.bytes
	}
	if start >= r.end {
		return 0
	}
	return int64(float64(r.bytes) * float64(r.end-start) / float64(r.end-r.first))
}

// extend adds a block that follows the partition's last record.
func (p *partition) extend(s *segment, h *blockHead) {
	end, n := h.base+int64(h.count), int64(blockHeader+h.length)
	if i := len(p.runs) - 1; i >= 0 && p.runs[i].seg == s && p.runs[i].end == h.base {
		r := &p.runs[i]
		r.end, r.bytes, r.last = end, r.bytes+n, h.time
	} else {
		p.runs = append(p.runs, run{first: h.base, end: end, bytes: n, last: h.time, seg: s})
	}
	p.end, p.last = end, h.time
}

// place puts a run where others may lie already: what is newer in the log holds.
func (p *partition) place(n run) {
	out := make([]run, 0, len(p.runs)+2)
	put := func(r run) {
		if r.first >= r.end {
			return
		}
		if i := len(out) - 1; i >= 0 && out[i].seg == r.seg && out[i].end == r.first {
			out[i].end, out[i].bytes, out[i].last = r.end, out[i].bytes+r.bytes, max(out[i].last, r.last)
			return
		}
		out = append(out, r)
	}
	placed := false
	for _, r := range p.runs {
		before, after := r, r
		before.end = min(r.end, n.first)
		before.bytes = r.bytes - r.live(before.end)
		after.first = max(r.first, n.end)
		after.bytes = r.live(after.first)
		put(before)
		if !placed && r.end > n.first {
			put(n)
			placed = true
		}
		put(after)
	}
	if !placed {
		put(n)
	}
	p.runs = out
}

// trim moves the start.
func (p *partition) trim(before int64) {
	if before <= p.start {
		return
	}
	p.start = before
	i := 0
	for i < len(p.runs) && p.runs[i].end <= before {
		i++
	}
	p.runs = slices.Delete(p.runs, 0, i)
}

// runAt returns the index of the run that holds position, or of the first one behind it.
func (p *partition) runAt(position int64) int {
	return sort.Search(len(p.runs), func(i int) bool { return p.runs[i].end > position })
}

func (p *partition) wakeAll() {
	if p.wake != nil {
		close(p.wake)
		p.wake = nil
	}
}

// waitChan is closed when records arrive or the start moves. Under view, for writing.
func (p *partition) waitChan() <-chan struct{} {
	if p.wake == nil {
		p.wake = make(chan struct{})
	}
	return p.wake
}

func newTopic(id uint32, c broker.TopicConfig) *topic {
	t := &topic{id: id, conf: c, gone: make(chan struct{}), positions: map[string][]int64{}}
	t.parts = make([]*partition, c.Partitions)
	for i := range t.parts {
		t.parts[i] = &partition{topic: t, num: i}
	}
	if c.DedupWindow > 0 {
		t.dedup = newDedup(c.DedupWindow)
	}
	return t
}

// setPosition moves a group. Under view.
func (t *topic) setPosition(group string, partition int, next int64) {
	ps := t.positions[group]
	if ps == nil {
		ps = make([]int64, len(t.parts))
		for i := range ps {
			ps[i] = -1
		}
		t.positions[group] = ps
	}
	ps[partition] = next
}

// topicDoc is a topic's configuration as the log keeps it, in JSON.
type topicDoc struct {
	ID          uint32        `json:"id"`
	Name        string        `json:"name"`
	Partitions  int           `json:"partitions"`
	Retention   time.Duration `json:"retention_ns,omitempty"`
	RetainBytes int64         `json:"retain_bytes,omitempty"`
	DedupWindow time.Duration `json:"dedup_window_ns,omitempty"`
}

func (t *topic) doc() topicDoc {
	return topicDoc{t.id, t.conf.Name, t.conf.Partitions, t.conf.Retention, t.conf.RetainBytes, t.conf.DedupWindow}
}

func (d topicDoc) config() broker.TopicConfig {
	return broker.TopicConfig{Name: d.Name, Partitions: d.Partitions, Retention: d.Retention, RetainBytes: d.RetainBytes, DedupWindow: d.DedupWindow}
}

// snapshotDoc is the state at the head of a segment, in JSON.
type snapshotDoc struct {
	NextTopic uint32             `json:"next_topic"`
	Topics    []topicSnapshotDoc `json:"topics"`
	Segments  []segmentDoc       `json:"segments"` // the sealed ones that are kept
}

type topicSnapshotDoc struct {
	topicDoc
	State  []partitionDoc     `json:"state"`
	Groups map[string][]int64 `json:"groups,omitempty"`
}

type partitionDoc struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
	Last  int64 `json:"last_ns"`
}

type segmentDoc struct {
	Base uint64 `json:"base"`
	Size int64  `json:"size"`
}

// snapshot describes the view. Under view.
func (j *Journal) snapshot() ([]byte, error) {
	doc := snapshotDoc{NextTopic: j.nextTopic, Topics: []topicSnapshotDoc{}, Segments: []segmentDoc{}}
	for _, t := range j.topics {
		d := topicSnapshotDoc{topicDoc: t.doc(), Groups: t.positions}
		for _, p := range t.parts {
			d.State = append(d.State, partitionDoc{p.start, p.end, p.last})
		}
		doc.Topics = append(doc.Topics, d)
	}
	slices.SortFunc(doc.Topics, func(a, b topicSnapshotDoc) int { return int(a.ID) - int(b.ID) })
	for _, s := range j.segments {
		if !s.removed {
			doc.Segments = append(doc.Segments, segmentDoc{s.base, s.size})
		}
	}
	return json.Marshal(doc)
}
