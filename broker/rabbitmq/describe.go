package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/internal/lease"
	"github.com/freshet-io/freshet/errkind"
)

// firstFor is how long the first position kept is taken for granted.
const firstFor = 5 * time.Second

// describeAtOnce is how many partitions are described beside each other.
const describeAtOnce = 16

// end looks where a partition ends: behind the last message of its last chunk.
func (d *Driver) end(ctx context.Context, t *topic, partition int) (int64, error) {
	k, err := d.lookAt(ctx, t.streams[partition], last)
	if err != nil {
		return 0, d.missed(t, err)
	}
	return t.sawEnd(partition, k), nil
}

// missed lets go of a topic whose stream has gone.
func (d *Driver) missed(t *topic, err error) error {
	if errkind.Is(err, errkind.NotFound) {
		d.forgetTopic(t)
	}
	return err
}

// sawEnd notes the last chunk, which may be nil.
func (t *topic) sawEnd(partition int, k *chunk) int64 {
	c := &t.parts[partition]
	c.mu.Lock()
	defer c.mu.Unlock()
	if k != nil {
		c.end = max(c.end, k.end())
	}
	return c.end
}

// start is the first position that can be read.
func (d *Driver) start(ctx context.Context, t *topic, partition int) (int64, error) {
	c := &t.parts[partition]
	c.mu.Lock()
	first, fresh := c.first, time.Since(c.firstAt) < firstFor
	c.mu.Unlock()
	if !fresh {
		k, err := d.lookAt(ctx, t.streams[partition], firstChunk)
		if err != nil {
			return 0, d.missed(t, err)
		}
		c.mu.Lock()
		c.firstAt = time.Now()
		if k != nil {
			c.first = k.first
		}
		first = c.first
		c.mu.Unlock()
	}
	return max(first, d.low(t, partition)), nil
}

// storedAt is when the first record at or behind position was stored, in milliseconds since the epoch.
func (d *Driver) storedAt(ctx context.Context, t *topic, partition int, position int64) (int64, error) {
	c := &t.parts[partition]
	if millis, known := c.timeOf(position); known {
		return millis, nil
	}
	k, err := d.lookAt(ctx, t.streams[partition], at(position))
	if err != nil || k == nil {
		return 0, d.missed(t, err)
	}
	c.passed(k)
	return k.millis, nil
}

// passed notes when a chunk of records was stored.
func (c *partitionCache) passed(k *chunk) {
	if !k.user {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times[c.turn%len(c.times)] = chunkTime{k.first, k.end(), k.millis}
	c.turn++
}

// timeOf is when the chunk with a position was stored, where it passed here.
func (c *partitionCache) timeOf(position int64) (millis int64, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range min(c.turn, len(c.times)) {
		if t := &c.times[(c.turn-1-i)%len(c.times)]; position >= t.from && position < t.to {
			return t.millis, true
		}
	}
	return 0, false
}

// Describe implements broker.Driver.
func (d *Driver) Describe(ctx context.Context, name, group string) (broker.Topic, error) {
	if err := d.begin(ctx); err != nil {
		return broker.Topic{}, err
	}
	ctx, cancel := d.during(ctx)
	defer cancel()
	out, err := d.describe(ctx, name, group)
	return out, d.failed(fmt.Sprintf("describe topic %q", name), err)
}

func (d *Driver) describe(ctx context.Context, name, group string) (broker.Topic, error) {
	// All that has to be asked goes out before the first answer is waited for.
	known, err := d.table.open(ctx, false)
	if err != nil {
		return broker.Topic{}, err
	}
	var synced func(context.Context) (*chunk, error)
	if known {
		if synced, err = d.startLook(ctx, d.table.stream, last); err != nil {
			return broker.Topic{}, err
		}
	}
	t, err := d.topic(ctx, name)
	if err != nil {
		return broker.Topic{}, err
	}
	ends := make([]func(context.Context) (*chunk, error), len(t.streams))
	for p, s := range t.streams {
		if ends[p], err = d.startLook(ctx, s, last); err != nil {
			return broker.Topic{}, err
		}
	}
	positions := map[int]int64{}
	if known {
		k, err := d.finishLook(ctx, d.table.stream, last, synced)
		if err != nil {
			return broker.Topic{}, err
		}
		if err := d.table.await(ctx, k); err != nil {
			return broker.Topic{}, err
		}
		if group != "" {
			if positions, err = lease.Positions(ctx, d.table, name, group); err != nil {
				return broker.Topic{}, err
			}
		}
	}
	out := broker.Topic{Config: t.config, Partitions: make([]broker.PartitionState, len(t.streams))}
	errs := make([]error, len(t.streams))
	turn := make(chan struct{}, describeAtOnce)
	var wg sync.WaitGroup
	for p := range t.streams {
		committed, ok := positions[p]
		if !ok {
			committed = -1
		}
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			k, err := d.finishLook(ctx, t.streams[p], last, ends[p])
			if err == nil {
				out.Partitions[p], err = d.state(ctx, t, p, k, committed)
			}
			errs[p] = d.missed(t, err)
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

// state describes a partition whose last chunk is k.
func (d *Driver) state(ctx context.Context, t *topic, p int, k *chunk, committed int64) (broker.PartitionState, error) {
	s := broker.PartitionState{End: t.sawEnd(p, k), Committed: committed}
	start, err := d.start(ctx, t, p)
	if err != nil {
		return s, err
	}
	s.Start = min(start, s.End)
	if k != nil && k.records > 0 {
		s.Bytes = (s.End - s.Start) * int64(len(k.data)) / int64(k.records)
	}
	from := max(committed, s.Start)
	if s.Waiting = max(0, s.End-from); s.Waiting > 0 {
		millis, err := d.storedAt(ctx, t, p, from)
		if err != nil {
			return s, err
		}
		s.OldestTime = millis * int64(time.Millisecond)
	}
	return s, nil
}

// Seek implements broker.Admin.
func (d *Driver) Seek(ctx context.Context, name string, partition int, when time.Time) (int64, error) {
	if err := d.begin(ctx); err != nil {
		return 0, err
	}
	ctx, cancel := d.during(ctx)
	defer cancel()
	position, err := d.seek(ctx, name, partition, when)
	return position, d.failed(fmt.Sprintf("seek in topic %q partition %d", name, partition), err)
}

func (d *Driver) seek(ctx context.Context, name string, partition int, when time.Time) (int64, error) {
	t, err := d.partition(ctx, name, partition)
	if err != nil {
		return 0, err
	}
	start, err := d.start(ctx, t, partition)
	if err != nil {
		return 0, err
	}
	// The server tells milliseconds, of chunks: all of one have the same time.
	millis := max(0, when.UnixMilli())
	if when.After(time.UnixMilli(millis)) {
		millis++
	}
	k, err := d.lookAt(ctx, t.streams[partition], atTime(millis))
	for err == nil && k != nil && k.millis < millis {
		k, err = d.lookAt(ctx, t.streams[partition], at(k.end()))
	}
	if err != nil {
		return 0, d.missed(t, err)
	}
	if k == nil {
		return d.end(ctx, t, partition)
	}
	return max(k.first, start), nil
}
