package kafka

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// Times with a meaning in ListOffsets.
const (
	latest   = -1
	earliest = -2
)

// Describe implements broker.Driver. A partition's End is its high watermark:
// what a transaction has written and not yet ended lies before it, so that who
// has read up to End has read all that belongs to anything that was visible
// when Describe was called.
func (d *Driver) Describe(ctx context.Context, name, group string) (broker.Topic, error) {
	call, cancel := d.begin(ctx)
	defer cancel()
	for again := false; ; again = true {
		t, err := d.topic(call, name)
		if err == nil {
			var out broker.Topic
			if out, err = d.describe(call, t, group); err == nil {
				return out, nil
			}
			d.topics.drop(name)
			if !again && stale(err) && call.Err() == nil {
				continue // moved, or made anew
			}
		}
		return broker.Topic{}, d.failed(ctx, err, "describe topic %q", name)
	}
}

func (d *Driver) describe(ctx context.Context, t *topic, group string) (broker.Topic, error) {
	n := len(t.leaders)
	out := broker.Topic{Partitions: make([]broker.PartitionState, n)}
	var starts, ends, committed []int64
	var f *facts
	var wg sync.WaitGroup
	var errs [4]error
	wg.Go(func() { starts, errs[0] = d.listOffsets(ctx, t, earliest) })
	wg.Go(func() { ends, errs[1] = d.listOffsets(ctx, t, latest) })
	if group != "" {
		wg.Go(func() { committed, errs[2] = d.committed(ctx, t, group) })
	}
	if f = d.facts.get(t); f == nil {
		wg.Go(func() { f, errs[3] = d.learn(ctx, t) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return out, err
		}
	}
	out.Config = f.config
	from := make([]int64, n)
	for p := range out.Partitions {
		s := &out.Partitions[p]
		s.Start, s.End, s.Bytes, s.Committed = starts[p], max(ends[p], starts[p]), f.bytes[p], -1
		if committed != nil {
			s.Committed = d.claims.position(claimKey{group, t.name, t.id, int32(p)}, committed[p])
		}
		from[p] = max(s.Start, s.Committed)
	}
	return out, d.look(ctx, t, from, out.Partitions)
}

// listOffsets asks for an offset of each partition of t.
func (d *Driver) listOffsets(ctx context.Context, t *topic, at int64) ([]int64, error) {
	all := make([]int32, len(t.leaders))
	for p := range all {
		all[p] = int32(p)
	}
	return d.askOffsets(ctx, t.name, all, at)
}

func (d *Driver) listOffset(ctx context.Context, topic string, p int32, at int64) (int64, error) {
	offsets, err := d.askOffsets(ctx, topic, []int32{p}, at)
	if err != nil {
		return 0, err
	}
	return offsets[0], nil
}

func (d *Driver) askOffsets(ctx context.Context, topic string, partitions []int32, at int64) ([]int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	rt := kmsg.NewListOffsetsRequestTopic()
	rt.Topic = topic
	for _, p := range partitions {
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = p, at, -1
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	kresp, err := d.client.Request(ctx, req)
	if err != nil {
		return nil, err
	}
	found := map[int32]int64{}
	for _, rt := range kresp.(*kmsg.ListOffsetsResponse).Topics {
		for _, rp := range rt.Partitions {
			if err := code(rp.ErrorCode); err != nil {
				return nil, err
			}
			found[rp.Partition] = rp.Offset
		}
	}
	out := make([]int64, len(partitions))
	for i, p := range partitions {
		o, ok := found[p]
		if !ok {
			return nil, errkind.Errorf(errkind.Transient, "the server left partition %d out", p)
		}
		out[i] = o
	}
	return out, nil
}

// committed is the group's position in each partition, -1 where it has none.
func (d *Driver) committed(ctx context.Context, t *topic, group string) ([]int64, error) {
	all := make([]int32, len(t.leaders))
	for p := range all {
		all[p] = int32(p)
	}
	return d.askCommitted(ctx, d.client, t, group, all, false)
}

// settled is the group's position in partition p, -1 where it has none. That of
// a transaction that is not ended is waited for. Those of other partitions are
// not: their former owners' may be open until somebody claims them.
func (d *Driver) settled(ctx context.Context, cl requester, t *topic, group string, p int32) (int64, error) {
	for n := 1; ; n++ {
		out, err := d.askCommitted(ctx, cl, t, group, []int32{p}, true)
		if err == nil {
			return out[p], nil
		}
		if !errors.Is(err, kerr.UnstableOffsetCommit) {
			return 0, err
		}
		if err := wait(ctx, min(pause(n)/8, 50*time.Millisecond)); err != nil {
			return 0, err
		}
	}
}

// askCommitted asks for the positions in parts; those of others are -1.
func (d *Driver) askCommitted(ctx context.Context, cl requester, t *topic, group string, parts []int32, stable bool) ([]int64, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = stable
	req.Group = group
	rt := kmsg.NewOffsetFetchRequestTopic()
	rt.Topic = t.name
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group, g.MemberEpoch = group, -1
	gt := kmsg.NewOffsetFetchRequestGroupTopic()
	gt.Topic = t.name
	rt.Partitions, gt.Partitions = parts, parts
	req.Topics = append(req.Topics, rt)
	g.Topics = append(g.Topics, gt)
	req.Groups = append(req.Groups, g)
	kresp, err := cl.Request(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := kresp.(*kmsg.OffsetFetchResponse)
	out := make([]int64, len(t.leaders))
	for i := range out {
		out[i] = -1
	}
	take := func(p int32, offset int64, c int16) error {
		switch err := code(c); {
		case errors.Is(err, kerr.GroupIDNotFound):
			return nil
		case err != nil:
			return err
		}
		if p >= 0 && int(p) < len(out) {
			out[p] = offset
		}
		return nil
	}
	if len(resp.Groups) > 0 {
		switch err := code(resp.Groups[0].ErrorCode); {
		case errors.Is(err, kerr.GroupIDNotFound):
			return out, nil
		case err != nil:
			return nil, err
		}
		for _, rt := range resp.Groups[0].Topics {
			for _, rp := range rt.Partitions {
				if err := take(rp.Partition, rp.Offset, rp.ErrorCode); err != nil {
					return nil, err
				}
			}
		}
		return out, nil
	}
	switch err := code(resp.ErrorCode); {
	case errors.Is(err, kerr.GroupIDNotFound):
		return out, nil
	case err != nil:
		return nil, err
	}
	for _, rt := range resp.Topics {
		for _, rp := range rt.Partitions {
			if err := take(rp.Partition, rp.Offset, rp.ErrorCode); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// facts are what changes rarely about a topic.
type facts struct {
	id     [16]byte
	config broker.TopicConfig
	bytes  []int64 // of each partition
	at     time.Time
}

// factsAge is how old they may be: sizes are approximate.
const factsAge = 10 * time.Second

type factCache struct {
	mu sync.Mutex
	m  map[string]*facts
}

func (c *factCache) get(t *topic) *facts {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.m[t.name]; f != nil && f.id == t.id && len(f.bytes) == len(t.leaders) && time.Since(f.at) < factsAge {
		return f
	}
	return nil
}

func (c *factCache) put(name string, f *facts) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.m == nil {
		c.m = map[string]*facts{}
	}
	c.m[name] = f
}

func (c *factCache) drop(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.m, name)
}

// learn asks for the topic's configuration and size. Servers and users that may
// not tell them leave them at zero.
func (d *Driver) learn(ctx context.Context, t *topic) (*facts, error) {
	f := &facts{id: t.id, bytes: make([]int64, len(t.leaders)), at: time.Now()}
	f.config = broker.TopicConfig{Name: t.name, Partitions: len(t.leaders)}
	var wg sync.WaitGroup
	wg.Go(func() {
		configs, err := d.admin.DescribeTopicConfigs(ctx, t.name)
		if err != nil {
			return
		}
		for _, c := range configs {
			for _, x := range c.Configs {
				if x.Value == nil {
					continue
				}
				n, err := strconv.ParseInt(*x.Value, 10, 64)
				switch {
				case err != nil || n < 0:
				case x.Key == "retention.ms":
					f.config.Retention = time.Duration(min(n, int64(1<<63-1)/int64(time.Millisecond))) * time.Millisecond
				case x.Key == "retention.bytes":
					f.config.RetainBytes = n
				}
			}
		}
	})
	wg.Go(func() {
		var set = kmsg.NewPtrDescribeLogDirsRequest()
		rt := kmsg.NewDescribeLogDirsRequestTopic()
		rt.Topic = t.name
		for p := range t.leaders {
			rt.Partitions = append(rt.Partitions, int32(p))
		}
		set.Topics = append(set.Topics, rt)
		for _, shard := range d.client.RequestSharded(ctx, set) {
			if shard.Err != nil {
				continue
			}
			for _, dir := range shard.Resp.(*kmsg.DescribeLogDirsResponse).Dirs {
				for _, rt := range dir.Topics {
					for _, rp := range rt.Partitions {
						if rp.Partition >= 0 && int(rp.Partition) < len(f.bytes) {
							f.bytes[rp.Partition] = max(f.bytes[rp.Partition], rp.Size)
						}
					}
				}
			}
		}
	})
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.facts.put(t.name, f)
	return f, nil
}
