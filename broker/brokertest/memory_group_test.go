package brokertest

import (
	"context"
	"slices"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

var errRevoked = errkind.New(errkind.Conflict, "the claim went to another member")

// memReader reads a partition; revoked, where it is set, ends it.
type memReader struct {
	d         *memDriver
	topic     string
	partition int
	next      int64
	revoked   func() error // called with the store locked
	fetched   func(next int64)
	last      []event.Record
}

func (r *memReader) Close() error { return nil }

func (r *memReader) Fetch(ctx context.Context, n int) (*broker.Batch, error) {
	if r.d.s.faults.slowStart && !passes(ctx, 2*mostPatience) {
		return nil, ctx.Err()
	}
	for {
		if err := r.d.enter(ctx); err != nil {
			return nil, err
		}
		b, err := r.poll(n)
		changed := r.d.s.changed
		r.d.s.mu.Unlock()
		if b != nil && r.d.s.faults.dropGivenUp && !passes(ctx, leastPatience) {
			return nil, ctx.Err()
		}
		if b != nil || err != nil {
			return b, err
		}
		if r.d.s.faults.uncancellable {
			ctx = context.Background()
		}
		select {
		case <-changed:
		case <-r.d.end:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// passes says whether d passes before ctx ends.
func passes(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *memReader) poll(n int) (*broker.Batch, error) {
	if r.revoked != nil {
		if err := r.revoked(); err != nil {
			return nil, err
		}
	}
	p, err := r.d.s.partition(r.topic, r.partition)
	if err != nil {
		return nil, err
	}
	r.next = max(r.next, p.start)
	at := p.from(r.next)
	if at == len(p.recs) {
		if !r.d.s.faults.stuckPosition {
			r.next = max(r.next, p.end)
		}
		return nil, nil
	}
	b := &broker.Batch{Topic: r.topic, Partition: r.partition, End: p.end}
	b.Records = slices.Clone(p.recs[at:min(at+n, len(p.recs))])
	if at+n >= len(p.recs) && r.d.s.gaps == markers && !r.d.s.faults.stuckPosition {
		b.After = p.end
	}
	if r.d.s.faults.reuseBatch {
		r.last = append(r.last[:0], b.Records...)
		b.Records = r.last
	}
	r.next = b.Next()
	if r.fetched != nil && r.d.s.faults.commitsByItself {
		r.fetched(r.next)
	}
	return b, nil
}

// Position implements broker.Positioner.
func (r *memReader) Position() int64 {
	r.d.s.mu.Lock()
	defer r.d.s.mu.Unlock()
	if p, err := r.d.s.partition(r.topic, r.partition); err == nil && r.d.s.faults.hastyPosition {
		return p.end
	}
	return r.next
}

// memConsumer is a member of a group. The members share the partitions in
// turns, by the order in which they joined.
type memConsumer struct {
	d     *memDriver
	sub   broker.Subscription
	g     *memGroup
	end   chan struct{} // closed by Close
	ended bool
}

func (d *memDriver) Subscribe(ctx context.Context, sub broker.Subscription) (broker.Consumer, error) {
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	defer d.s.mu.Unlock()
	t, err := d.s.topic(sub.Topic)
	if err != nil {
		return nil, err
	}
	g := t.groups[sub.Group]
	if g == nil {
		g = &memGroup{committed: slices.Repeat([]int64{-1}, len(t.parts)), claims: make([]*memClaim, len(t.parts))}
		t.groups[sub.Group] = g
	}
	c := &memConsumer{d: d, sub: sub, g: g, end: make(chan struct{})}
	g.members = append(g.members, c)
	d.rebalance(g)
	return c, nil
}

// rebalance takes claims from members whose turn it is no longer.
func (d *memDriver) rebalance(g *memGroup) {
	for p, c := range g.claims {
		if c != nil && (len(g.members) == 0 || g.owner(p) != c.c) {
			c.revoked = true
			g.claims[p] = nil
		}
	}
	d.s.notify()
}

func (g *memGroup) owner(p int) *memConsumer { return g.members[p%len(g.members)] }

func (c *memConsumer) Claim(ctx context.Context) (broker.Claim, error) {
	for {
		if err := c.d.enter(ctx); err != nil {
			return nil, err
		}
		if c.ended {
			c.d.s.mu.Unlock()
			return nil, errClosed
		}
		claim := c.poll()
		changed := c.d.s.changed
		c.d.s.mu.Unlock()
		if claim != nil {
			return claim, nil
		}
		select {
		case <-changed:
		case <-c.end:
		case <-c.d.end:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *memConsumer) poll() *memClaim {
	for p := range c.g.claims {
		if c.g.claims[p] != nil || c.g.owner(p) != c {
			continue
		}
		claim := &memClaim{c: c, g: c.g, partition: p, start: c.g.committed[p]}
		if part, err := c.d.s.partition(c.sub.Topic, p); err == nil && claim.start < 0 {
			claim.start = part.start
			if c.sub.Start == broker.Latest {
				claim.start = part.end
			}
		}
		claim.r = memReader{d: c.d, topic: c.sub.Topic, partition: p, next: claim.start, revoked: func() error {
			if claim.revoked {
				return errRevoked
			}
			return nil
		}, fetched: func(next int64) { claim.g.committed[p] = next }}
		c.g.claims[p] = claim
		return claim
	}
	return nil
}

func (c *memConsumer) Close() error {
	c.d.s.mu.Lock()
	defer c.d.s.mu.Unlock()
	if c.ended || c.d.closed {
		return nil
	}
	c.ended = true
	close(c.end)
	if c.d.s.faults.lostRedelivery {
		for p, claim := range c.g.claims {
			if claim != nil && claim.c == c {
				c.g.committed[p] = claim.r.next
			}
		}
	}
	c.g.members = slices.DeleteFunc(c.g.members, func(m *memConsumer) bool { return m == c })
	c.d.rebalance(c.g)
	return nil
}

type memClaim struct {
	c         *memConsumer
	g         *memGroup
	partition int
	start     int64
	r         memReader
	revoked   bool
}

func (c *memClaim) Partition() int { return c.partition }
func (c *memClaim) Start() int64   { return c.start }

func (c *memClaim) Fetch(ctx context.Context, n int) (*broker.Batch, error) {
	return c.r.Fetch(ctx, n)
}

func (c *memClaim) SeekTo(position int64) error {
	c.r.d.s.mu.Lock()
	defer c.r.d.s.mu.Unlock()
	c.r.next = position
	return nil
}

// Position implements broker.Positioner.
func (c *memClaim) Position() int64 { return c.r.Position() }

func (c *memClaim) Commit(ctx context.Context, next int64) error {
	if err := c.c.d.enter(ctx); err != nil {
		return err
	}
	defer c.c.d.s.mu.Unlock()
	if c.revoked && !c.c.d.s.faults.noFence {
		return errRevoked
	}
	c.g.committed[c.partition] = next
	return nil
}

func (c *memClaim) Release() error {
	c.c.d.s.mu.Lock()
	defer c.c.d.s.mu.Unlock()
	if c.revoked {
		return errRevoked
	}
	c.revoked = true
	c.g.claims[c.partition] = nil
	c.c.d.s.notify()
	return nil
}
