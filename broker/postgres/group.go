package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/internal/lease"
	"github.com/freshet-io/freshet/errkind"
)

// consumer is a member of a group.
type consumer struct {
	d      *Driver
	t      *topic
	group  string
	start  broker.StartAt
	member *lease.Member
}

// Subscribe implements broker.Driver.
func (d *Driver) Subscribe(ctx context.Context, s broker.Subscription) (broker.Consumer, error) {
	t, err := d.resolve(ctx, s.Topic)
	if err != nil {
		return nil, err
	}
	m, err := lease.Join(ctx, d.table, lease.Config{
		Group: s.Group, Topic: t.leases(), Partitions: t.config.Partitions, TTL: d.session, Logger: d.log,
	})
	if err != nil {
		return nil, err
	}
	c := &consumer{d: d, t: t, group: s.Group, start: s.Start, member: m}
	if !d.own(c) {
		_ = m.Close()
		return nil, d.errClosed()
	}
	return c, nil
}

// own has Close close c; false where it has begun already.
func (d *Driver) own(c *consumer) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.closing:
		return false
	default:
		d.consumers[c] = struct{}{}
		return true
	}
}

// Claim implements broker.Consumer.
func (c *consumer) Claim(ctx context.Context) (broker.Claim, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l, err := c.member.Next(ctx)
	if err != nil {
		return nil, err
	}
	out := &claim{c: c, lease: l, r: c.d.newReader(c.t, l.Partition())}
	if out.start, err = c.begin(ctx, l.Partition()); err != nil {
		_ = l.Release()
		return nil, err
	}
	out.r.next = out.start
	return out, nil
}

// begin is where the group continues. It is asked for when the lease is taken, so
// nobody who held it before moves it any more.
func (c *consumer) begin(ctx context.Context, partition int) (int64, error) {
	var end, position int64
	err := c.d.do(ctx, "claim a partition on", func(ctx context.Context) error {
		return c.d.pool.QueryRow(ctx, begin, c.t.id, c.group, partition).Scan(&end, &position)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, c.t.errGone()
	case err != nil || position >= 0:
		return position, err
	case c.start == broker.Latest:
		return end, nil
	}
	return 0, nil
}

// Close implements broker.Consumer.
func (c *consumer) Close() error {
	err := c.member.Close()
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	delete(c.d.consumers, c)
	return err
}

// claim is a partition that a lease holds. The group's position is no part of the
// lease: it moves in transactions that compare the lease's epoch.
type claim struct {
	c     *consumer
	lease *lease.Lease
	r     *reader
	start int64
}

// Partition implements broker.Claim.
func (c *claim) Partition() int { return c.lease.Partition() }

// Start implements broker.Claim.
func (c *claim) Start() int64 { return c.start }

func (c *claim) key() string { return lease.Key(c.c.t.leases(), c.c.group, c.lease.Partition()) }

// check returns an error when the claim is no longer held.
func (c *claim) check() error {
	err := c.lease.Check()
	if err == nil {
		return nil
	}
	select {
	case <-c.c.d.closing:
		return c.c.d.errClosed()
	default:
		return err
	}
}

// Fetch implements broker.Claim.
func (c *claim) Fetch(ctx context.Context, max int) (*broker.Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	b, err := c.r.fetch(ctx, max, c.lease.Lost())
	if b != nil || err != nil {
		return b, err
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return nil, errkind.Errorf(errkind.Conflict, "partition %d of topic %q was taken away", c.Partition(), c.c.t.config.Name)
}

// SeekTo implements broker.Claim.
func (c *claim) SeekTo(position int64) error { return c.r.seek(position) }

// Commit implements broker.Claim.
func (c *claim) Commit(ctx context.Context, next int64) error {
	return c.c.d.Commit(ctx, &broker.Tx{Positions: []broker.ClaimPosition{{Claim: c, Next: next}}})
}

// Release implements broker.Claim.
func (c *claim) Release() error { return c.lease.Release() }
