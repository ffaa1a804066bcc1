package console

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// memory is a broker of this process, as small as the tests of this package
// allow: no groups but their positions, no transactions.
type memory struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	topics  map[string]*memoryTopic
	refuse  error         // what Publish returns, where it is set
	block   chan struct{} // what Publish waits for, where it is set
	entered chan struct{} // told when Publish begins to wait
	opened  int           // readers so far
	readers int           // open ones
}

type memoryTopic struct {
	parts []memoryPartition
	ids   map[string]bool
}

type memoryPartition struct {
	start, committed int64
	recs             []event.Record
}

func newMemory(topics map[string]int) *memory {
	m := &memory{changed: make(chan struct{}), topics: map[string]*memoryTopic{}, entered: make(chan struct{}, 16)}
	for name, n := range topics {
		m.topics[name] = &memoryTopic{parts: slices.Repeat([]memoryPartition{{committed: -1}}, n), ids: map[string]bool{}}
	}
	return m
}

func (m *memory) Capabilities() broker.Capabilities {
	return broker.Capabilities{Gapless: true, Admin: true, Dedup: true, MaxBatch: 100, MaxRecordBytes: 1000}
}
func (m *memory) Close() error { return nil }

func (m *memory) topic(name string) (*memoryTopic, error) {
	if t := m.topics[name]; t != nil {
		return t, nil
	}
	return nil, errkind.New(errkind.NotFound, "no such topic")
}

func (m *memory) Publish(ctx context.Context, topic string, recs []event.Record) (p broker.Published, err error) {
	if m.block != nil {
		m.entered <- struct{}{}
		select {
		case <-m.block:
		case <-ctx.Done():
			return p, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	t, err := m.topic(topic)
	if err != nil || m.refuse != nil {
		return p, errorOr(err, m.refuse)
	}
	for _, r := range recs {
		if len(r.ID) > 0 && t.ids[string(r.ID)] {
			p.Duplicates++
			continue
		}
		t.ids[string(r.ID)] = true
		part := &t.parts[broker.PartitionFor(r.Key, len(t.parts))]
		r.Position, r.Time = part.end(), time.Now().UnixNano()
		r.ID, r.Key, r.Headers, r.Value = bytes.Clone(r.ID), bytes.Clone(r.Key), bytes.Clone(r.Headers), bytes.Clone(r.Value)
		part.recs = append(part.recs, r)
		p.Stored++
	}
	m.notify()
	return p, nil
}

func errorOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (m *memory) notify() {
	close(m.changed)
	m.changed = make(chan struct{})
}

func (p *memoryPartition) end() int64 { return p.start + int64(len(p.recs)) }

func (m *memory) Subscribe(context.Context, broker.Subscription) (broker.Consumer, error) {
	return nil, errkind.New(errkind.Unsupported, "no groups")
}

func (m *memory) Describe(_ context.Context, topic, group string) (broker.Topic, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, err := m.topic(topic)
	if err != nil {
		return broker.Topic{}, err
	}
	out := broker.Topic{Config: broker.TopicConfig{Name: topic, Partitions: len(t.parts), Retention: time.Hour}}
	for _, p := range t.parts {
		s := broker.PartitionState{Start: p.start, End: p.end(), Committed: -1}
		for i := range p.recs {
			s.Bytes += int64(p.recs[i].Size())
		}
		if group != "" {
			s.Committed = p.committed
			if next := max(p.committed, p.start); next < s.End {
				s.OldestTime = p.recs[next-p.start].Time
			}
		}
		s.Waiting = s.End - max(s.Committed, s.Start)
		out.Partitions = append(out.Partitions, s)
	}
	return out, nil
}

func (m *memory) CreateTopic(context.Context, broker.TopicConfig) error { return nil }
func (m *memory) DeleteTopic(context.Context, string) error             { return nil }

func (m *memory) Topics(context.Context) ([]string, error) {
	return slices.Sorted(maps.Keys(m.topics)), nil
}

func (m *memory) Trim(_ context.Context, topic string, p int, before int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	part := &m.topics[topic].parts[p]
	part.recs = part.recs[before-part.start:]
	part.start = before
	return nil
}

func (m *memory) Seek(_ context.Context, topic string, p int, t time.Time) (int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	part := &m.topics[topic].parts[p]
	return part.start + int64(sort.Search(len(part.recs), func(i int) bool { return part.recs[i].Time >= t.UnixNano() })), nil
}

type memoryReader struct {
	m    *memory
	t    *memoryTopic
	p    int
	next int64
}

func (m *memory) Read(_ context.Context, topic string, p int, from int64) (broker.Reader, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, err := m.topic(topic)
	m.readers++
	m.opened++
	m.notify()
	return &memoryReader{m, t, p, from}, err
}

func (r *memoryReader) Fetch(ctx context.Context, n int) (*broker.Batch, error) {
	for {
		r.m.mu.Lock()
		part := &r.t.parts[r.p]
		r.next = max(r.next, part.start)
		b := &broker.Batch{Partition: r.p, End: part.end()}
		if r.next < b.End {
			at := int(r.next - part.start)
			b.Records = slices.Clone(part.recs[at:min(len(part.recs), at+n)])
			r.next = b.Next()
		}
		changed := r.m.changed
		r.m.mu.Unlock()
		if len(b.Records) > 0 {
			return b, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (r *memoryReader) Close() error {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	r.m.readers--
	r.m.notify()
	return nil
}
