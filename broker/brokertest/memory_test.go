package brokertest

import (
	"bytes"
	"context"
	"sort"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// memStore is the reference: the plainest broker that keeps the contract. It
// holds its records in memory and outlives the drivers on it, as a disk would.
// faults make it break the contract in one way each.
type memStore struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	topics  map[string]*memTopic
	caps    broker.Capabilities
	gaps    gapKind
	faults  faults
}

// gapKind is how the positions of a store have gaps.
type gapKind int

const (
	noGaps      gapKind = iota
	markers             // what ends a transaction, and every third publish, takes a position of its own
	packedTimes         // a position is the millisecond of storing, then a number
)

type memTopic struct {
	cfg    broker.TopicConfig
	parts  []memPartition
	ids    map[string]bool
	groups map[string]*memGroup
	spread int
}

type memPartition struct {
	start int64
	end   int64          // no record to come has a lower position
	recs  []event.Record // by position
	calls int            // of Publish, to put markers in
}

// from is the index of the first record at or behind position.
func (p *memPartition) from(position int64) int {
	return sort.Search(len(p.recs), func(i int) bool { return p.recs[i].Position >= position })
}

// last is behind the last record.
func (p *memPartition) last() int64 {
	if n := len(p.recs); n > 0 {
		return p.recs[n-1].Position + 1
	}
	return p.start
}

type memGroup struct {
	committed []int64
	members   []*memConsumer // by age
	claims    []*memClaim    // by partition; nil where unclaimed
}

func newMemStore(f faults, k gapKind, caps broker.Capabilities) *memStore {
	return &memStore{changed: make(chan struct{}), topics: map[string]*memTopic{}, gaps: k, faults: f, caps: caps}
}

// fullCaps is everything that there is.
func fullCaps() broker.Capabilities {
	return broker.Capabilities{
		Transactions: true, Append: true, Gapless: true, Admin: true, Dedup: true, Durable: true, MaxBatch: 1000, MaxRecordBytes: 1 << 20,
	}
}

func (s *memStore) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// memDriver is one connection to a store.
type memDriver struct {
	s      *memStore
	closed bool          // under s.mu
	end    chan struct{} // closed by Close
}

func (s *memStore) open() *memDriver { return &memDriver{s: s, end: make(chan struct{})} }

func (d *memDriver) Capabilities() broker.Capabilities { return d.s.caps }

func (d *memDriver) Close() error {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if !d.s.faults.deafToClose {
		close(d.end)
	}
	for _, t := range d.s.topics {
		t.groups = t.saved()
		if d.s.faults.forgetPositions {
			t.groups = map[string]*memGroup{}
		}
	}
	if !d.s.faults.deafToClose {
		d.s.notify()
	}
	return nil
}

// enter locks the store for a call that may go on.
func (d *memDriver) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.s.mu.Lock()
	if d.closed {
		d.s.mu.Unlock()
		return errClosed
	}
	return nil
}

var errClosed = errkind.New(errkind.Closed, "closed")

func (s *memStore) topic(name string) (*memTopic, error) {
	if t := s.topics[name]; t != nil {
		return t, nil
	}
	return nil, errkind.Errorf(errkind.NotFound, "no topic %q", name)
}

func (s *memStore) partition(name string, p int) (*memPartition, error) {
	t, err := s.topic(name)
	if err != nil {
		return nil, err
	}
	if p < 0 || p >= len(t.parts) {
		return nil, errkind.Errorf(errkind.NotFound, "topic %q has %d partitions, not %d", name, len(t.parts), p)
	}
	return &t.parts[p], nil
}

// saved is what remains of the groups when their members are gone.
func (t *memTopic) saved() map[string]*memGroup {
	kept := map[string]*memGroup{}
	for name, g := range t.groups {
		for _, c := range g.claims {
			if c != nil {
				c.revoked = true
			}
		}
		kept[name] = &memGroup{committed: g.committed, claims: make([]*memClaim, len(t.parts))}
	}
	return kept
}

func (d *memDriver) Publish(ctx context.Context, topic string, recs []event.Record) (broker.Published, error) {
	if err := d.enter(ctx); err != nil {
		return broker.Published{}, err
	}
	defer d.s.mu.Unlock()
	t, err := d.s.topic(topic)
	if err != nil {
		return broker.Published{}, err
	}
	if err := d.s.check(recs); err != nil {
		return broker.Published{}, err
	}
	p := d.s.append(t, broker.AnyPartition, recs, true)
	if d.s.gaps == markers {
		for i := range t.parts {
			part := &t.parts[i]
			if part.calls++; part.calls%3 == 0 {
				part.end++
			}
		}
	}
	d.s.notify()
	return p, nil
}

func (s *memStore) check(recs []event.Record) error {
	if len(recs) > s.caps.MaxBatch {
		return errkind.New(errkind.Invalid, "too many records")
	}
	for i := range recs {
		if recs[i].Size() > s.caps.MaxRecordBytes {
			return errkind.New(errkind.Invalid, "record too large")
		}
	}
	return nil
}

func (s *memStore) append(t *memTopic, partition int, recs []event.Record, dedup bool) (p broker.Published) {
	now := time.Now().UnixNano()
	if s.gaps == packedTimes {
		now -= now % int64(time.Millisecond)
	}
	for i := range recs {
		i = s.faults.index(i, len(recs))
		r := recs[i]
		if dedup && t.cfg.DedupWindow > 0 && len(r.ID) > 0 {
			if t.ids[string(r.ID)] && !s.faults.noDedup {
				p.Duplicates++
				continue
			}
			t.ids[string(r.ID)] = true
		}
		at := partition
		switch {
		case at != broker.AnyPartition:
		case r.Key != nil && s.faults.wrongPartition:
			at = len(r.Key) % len(t.parts)
		case r.Key != nil:
			at = broker.PartitionFor(r.Key, len(t.parts))
		default:
			at = t.spread % len(t.parts)
			t.spread++
		}
		p.Stored++
		if s.faults.dropRecord && i > 3 && i == len(recs)-1 {
			continue
		}
		for range s.faults.copies(t) {
			part := &t.parts[at]
			r.Position, r.Time = part.end, now
			if d := now / int64(time.Millisecond) << 8; s.gaps == packedTimes {
				r.Position = max(part.end, d)
			}
			part.end = r.Position + 1
			if !s.faults.keepCallersBytes {
				r.ID, r.Key = bytes.Clone(r.ID), bytes.Clone(r.Key)
				r.Headers, r.Value = bytes.Clone(r.Headers), bytes.Clone(r.Value)
			}
			part.recs = append(part.recs, r)
		}
	}
	return p
}

func (d *memDriver) Read(ctx context.Context, topic string, partition int, from int64) (broker.Reader, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.s.mu.Unlock()
	if _, err := d.s.partition(topic, partition); err != nil {
		return nil, err
	}
	return &memReader{d: d, topic: topic, partition: partition, next: from}, nil
}

func (d *memDriver) Describe(ctx context.Context, topic, group string) (broker.Topic, error) {
	d.s.faults.look()
	if err := d.enter(ctx); err != nil {
		return broker.Topic{}, err
	}
	defer d.s.mu.Unlock()
	t, err := d.s.topic(topic)
	if err != nil {
		return broker.Topic{}, err
	}
	out := broker.Topic{Config: t.cfg}
	g := t.groups[group]
	for p := range t.parts {
		part := &t.parts[p]
		s := broker.PartitionState{Start: part.start, End: part.end, Committed: -1}
		if g != nil {
			s.Committed = g.committed[p]
		}
		next := part.from(max(s.Committed, s.Start))
		s.Waiting = int64(len(part.recs) - next)
		switch {
		case d.s.faults.staleWaiting:
			s.Waiting = s.End - max(s.Committed, s.Start)
		case d.s.gaps != noGaps:
			s.Waiting *= 2 // an estimate
		}
		if next < len(part.recs) {
			s.OldestTime = part.recs[next].Time
			if d.s.faults.staleLag {
				s.OldestTime = part.recs[len(part.recs)-1].Time
			}
		}
		out.Partitions = append(out.Partitions, s)
	}
	return out, nil
}

func (d *memDriver) Commit(ctx context.Context, tx *broker.Tx) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	defer d.s.mu.Unlock()
	for _, p := range tx.Positions {
		if p.Claim.(*memClaim).revoked && !d.s.faults.noFence {
			return errRevoked
		}
	}
	if d.s.faults.tornCommit {
		for _, p := range tx.Positions {
			c := p.Claim.(*memClaim)
			c.g.committed[c.partition] = p.Next
		}
	}
	torn := false
	for i, p := range tx.Publish {
		t, err := d.s.topic(p.Topic)
		if err != nil {
			return err
		}
		if p.Partition < broker.AnyPartition || p.Partition >= len(t.parts) {
			return errkind.New(errkind.NotFound, "no such partition")
		}
		if err := d.s.check(p.Records); err != nil {
			return err
		}
		if d.s.faults.tornVisibility && i == 1 && len(d.s.topics[tx.Publish[0].Topic].parts[0].recs) == 0 {
			torn = true
			d.s.append(d.s.topics[tx.Publish[0].Topic], tx.Publish[0].Partition, tx.Publish[0].Records, true)
			d.s.mu.Unlock()
			d.s.faults.awaitLooks()
			d.s.mu.Lock()
		}
	}
	for i, p := range tx.Publish {
		if torn && i == 0 {
			continue
		}
		d.s.append(d.s.topics[p.Topic], p.Partition, p.Records, true)
		if d.s.gaps == markers {
			for i := range d.s.topics[p.Topic].parts {
				d.s.topics[p.Topic].parts[i].end++
			}
		}
	}
	for _, p := range tx.Positions {
		c := p.Claim.(*memClaim)
		c.g.committed[c.partition] = p.Next
	}
	d.s.notify()
	return nil
}
