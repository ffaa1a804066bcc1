package jetstream

import (
	"context"
	"sync"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/internal/lease"
)

// consumer is a member of a group.
type consumer struct {
	d      *Driver
	s      broker.Subscription
	member *lease.Member
	claims sync.WaitGroup // until their leases are lost
}

// Subscribe implements broker.Driver.
func (d *Driver) Subscribe(ctx context.Context, s broker.Subscription) (broker.Consumer, error) {
	t, err := d.topic(ctx, s.Topic)
	if err != nil {
		return nil, err
	}
	m, err := lease.Join(ctx, d.table, lease.Config{
		Group: s.Group, Topic: s.Topic, Partitions: len(t.partitions), TTL: d.session, Logger: d.log,
	})
	if err != nil {
		return nil, err
	}
	c := &consumer{d: d, s: s, member: m}
	if err := d.own(c); err != nil {
		_ = m.Close()
		return nil, err
	}
	return c, nil
}

// Claim implements broker.Consumer.
func (c *consumer) Claim(ctx context.Context) (broker.Claim, error) {
	if err := c.d.check(ctx); err != nil {
		return nil, err
	}
	l, err := c.member.Next(ctx)
	if err != nil {
		return nil, err
	}
	start := l.Start()
	if start == lease.NoPosition {
		if start, err = c.begin(ctx, l.Partition()); err != nil {
			_ = l.Release()
			return nil, err
		}
	}
	r, err := c.d.newReader(ctx, c.s.Topic, l.Partition(), start)
	if err != nil {
		_ = l.Release()
		return nil, err
	}
	out := &claim{c: c, lease: l, r: r, start: start}
	c.claims.Go(out.endWithLease)
	return out, nil
}

// begin is where a group without a position begins.
func (c *consumer) begin(ctx context.Context, part int) (int64, error) {
	if c.s.Start == broker.Earliest {
		return 0, nil
	}
	p, err := c.d.find(ctx, c.s.Topic, part)
	if err != nil {
		return 0, err
	}
	ctx, cancel := c.d.within(ctx)
	defer cancel()
	s, err := c.d.stream(ctx, c.s.Topic, p)
	if err != nil {
		return 0, err
	}
	return int64(s.CachedInfo().State.LastSeq), nil
}

// Close implements broker.Consumer.
func (c *consumer) Close() error {
	c.d.disown(c)
	err := c.member.Close()
	c.claims.Wait()
	return err
}

// claim is a partition that a lease holds.
type claim struct {
	c     *consumer
	lease *lease.Lease
	start int64

	mu sync.Mutex // held by Fetch, and by whoever ends r
	r  *reader
}

// endWithLease ends reading when the lease is lost, whether or not anybody asks
// for more.
func (c *claim) endWithLease() {
	<-c.lease.Lost()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r.drop()
}

// Partition implements broker.Claim.
func (c *claim) Partition() int { return c.lease.Partition() }

// Start implements broker.Claim.
func (c *claim) Start() int64 { return c.start }

// Position implements broker.Positioner.
func (c *claim) Position() int64 { return c.r.Position() }

// Fetch implements broker.Claim.
func (c *claim) Fetch(ctx context.Context, max int) (*broker.Batch, error) {
	if err := c.c.d.check(ctx); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.lease.Check(); err != nil {
		return nil, err
	}
	b, err := c.r.fetch(ctx, max, c.lease.Lost())
	if err != nil {
		return nil, c.c.d.orClosed(err)
	}
	return b, nil
}

// SeekTo implements broker.Claim.
func (c *claim) SeekTo(position int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.r.seek(position)
}

// Commit implements broker.Claim.
func (c *claim) Commit(ctx context.Context, next int64) error {
	if err := c.c.d.check(ctx); err != nil {
		return err
	}
	ctx, cancel := c.c.d.within(ctx)
	defer cancel()
	return c.c.d.orClosed(c.lease.Commit(ctx, next))
}

// Release implements broker.Claim.
func (c *claim) Release() error { return c.lease.Release() }

// orClosed is err, or that the driver was closed, which loses leases too.
func (d *Driver) orClosed(err error) error {
	if err == nil {
		return nil
	}
	select {
	case <-d.done:
		return d.closedError()
	default:
		return err
	}
}
