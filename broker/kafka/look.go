package kafka

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// Markers of transactions and what was aborted take positions, so the distance
// between a group's position and the end does not say whether a record waits.
// A look does: a small read from the position on. What it found is remembered.

// place is a partition of one making of a topic.
type place struct {
	id        [16]byte
	partition int32
}

// found says what lies in [from, to): no record, and at to the first one,
// stored at time, or, where time is 0, nothing is known of to.
type found struct {
	from, to int64
	time     int64 // Unix nanoseconds
}

// lookCache remembers what was found. Its size is bounded by dropping everything.
type lookCache struct {
	mu sync.Mutex
	m  map[place]found
}

const maxLooks = 1 << 16

func (c *lookCache) get(k place, from int64) (f found, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok = c.m[k]
	return f, ok && f.from <= from && from <= f.to
}

func (c *lookCache) put(k place, f found) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil || len(c.m) >= maxLooks {
		c.m = map[place]found{}
	}
	c.m[k] = f
}

// look fills in Waiting and OldestTime of each partition: what lies between
// from and End.
func (d *Driver) look(ctx context.Context, t *topic, from []int64, parts []broker.PartitionState) error {
	type open struct {
		p int32
		found
	}
	var todo []open
	settle := func(p int32, f found) bool {
		s := &parts[p]
		switch {
		case f.time != 0 && f.to < s.End:
			s.Waiting, s.OldestTime = s.End-f.to, f.time
			return true
		}
		return f.to >= s.End
	}
	for p := range parts {
		if from[p] >= parts[p].End {
			continue
		}
		f, ok := d.looks.get(place{t.id, int32(p)}, from[p])
		if !ok {
			f = found{from: from[p], to: from[p]}
		}
		if !ok || !settle(int32(p), f) {
			f.time = 0
			todo = append(todo, open{int32(p), f})
		}
	}
	for len(todo) > 0 {
		byLeader := map[int32][]open{}
		for _, o := range todo {
			byLeader[t.leaders[o.p]] = append(byLeader[t.leaders[o.p]], o)
		}
		todo = todo[:0]
		for leader, list := range byLeader {
			ask := make(map[int32]int64, len(list))
			for _, o := range list {
				ask[o.p] = o.to
			}
			peeks, err := d.peek(ctx, t, leader, ask)
			if err != nil {
				return err
			}
			for _, o := range list {
				pk := peeks[o.p]
				if pk.time == 0 && pk.next <= o.to { // the server sent nothing: rather too much than nothing waits
					parts[o.p].Waiting, parts[o.p].OldestTime = parts[o.p].End-o.to, time.Now().UnixNano()
					continue
				}
				o.to, o.time = max(o.to, pk.next), pk.time
				if !pk.undecided {
					d.looks.put(place{t.id, o.p}, o.found)
				}
				if !settle(o.p, o.found) {
					todo = append(todo, o)
				}
			}
		}
	}
	return nil
}

// peeked is what one look saw: the first record lies at next, stored at time;
// or there is none before next (time 0).
type peeked struct {
	next, time int64
	// undecided: the record at next belongs to a transaction that is not ended.
	undecided bool
}

// peekBytes bounds what a look reads of a partition. The server sends a whole
// batch in any case.
const peekBytes = 4 << 10

func (d *Driver) peek(ctx context.Context, t *topic, leader int32, from map[int32]int64) (map[int32]peeked, error) {
	out := map[int32]peeked{}
	open := map[int32]int64{}
	err := d.readAt(ctx, t, leader, from, kgo.ReadCommitted(), func(p int32, fp kgo.FetchPartition, next int64) {
		at := from[p]
		switch {
		case len(fp.Records) > 0:
			r := fp.Records[0]
			out[p] = peeked{next: r.Offset, time: max(r.Timestamp.UnixNano(), 1)}
		case next > at:
			out[p] = peeked{next: next}
		case fp.LogStartOffset > at: // trimmed meanwhile
			out[p] = peeked{next: fp.LogStartOffset}
		default: // the first transaction that is not ended begins here, or a reply without a batch
			open[p] = at
		}
	})
	if err != nil || len(open) == 0 {
		return out, err
	}
	return out, d.readAt(ctx, t, leader, open, kgo.ReadUncommitted(), func(p int32, fp kgo.FetchPartition, next int64) {
		pk := peeked{next: max(next, open[p])}
		if len(fp.Records) > 0 {
			pk = peeked{next: fp.Records[0].Offset, time: max(fp.Records[0].Timestamp.UnixNano(), 1), undecided: true}
		}
		out[p] = pk
	})
}

// readAt reads a little of partitions of one leader, without waiting.
func (d *Driver) readAt(ctx context.Context, t *topic, leader int32, from map[int32]int64, level kgo.IsolationLevel, each func(p int32, fp kgo.FetchPartition, next int64)) error {
	if leader < 0 {
		return errkind.Errorf(errkind.Transient, "topic %q has a partition without a leader", t.name)
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxBytes, req.SessionEpoch = -1, 1<<20, -1
	if level == kgo.ReadCommitted() {
		req.IsolationLevel = 1
	}
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = t.name, t.id
	for p, at := range from {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = p, at, peekBytes
		rp.CurrentLeaderEpoch, rp.LogStartOffset = -1, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	kresp, err := d.client.Broker(int(leader)).RetriableRequest(ctx, req)
	if err != nil {
		return err
	}
	resp := kresp.(*kmsg.FetchResponse)
	if err := code(resp.ErrorCode); err != nil {
		return err
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			rp := &resp.Topics[i].Partitions[j]
			at, ok := from[rp.Partition]
			if !ok {
				continue
			}
			if err := code(rp.ErrorCode); err != nil && !errors.Is(err, kerr.OffsetOutOfRange) {
				return err
			}
			rp.ErrorCode = 0
			o := kgo.ProcessFetchPartitionOpts{Offset: at, IsolationLevel: level, Topic: t.name, Partition: rp.Partition}
			fp, next := kgo.ProcessFetchPartition(o, rp, d.unpacking, nil)
			if fp.Err != nil {
				return fp.Err
			}
			each(rp.Partition, fp, next)
		}
	}
	return nil
}
