package rabbitmq

import (
	"context"
	"fmt"
	"sync"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/internal/lease"
	"github.com/freshet-io/freshet/errkind"
)

// Subscribe implements broker.Driver.
func (d *Driver) Subscribe(ctx context.Context, s broker.Subscription) (broker.Consumer, error) {
	if err := d.begin(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := d.during(ctx)
	defer cancel()
	c, err := d.join(ctx, s)
	if err != nil {
		return nil, d.failed(fmt.Sprintf("subscribe to topic %q as group %q", s.Topic, s.Group), err)
	}
	return c, nil
}

func (d *Driver) join(ctx context.Context, s broker.Subscription) (*consumer, error) {
	t, err := d.topic(ctx, s.Topic)
	if err != nil {
		return nil, err
	}
	m, err := lease.Join(ctx, d.table, lease.Config{
		Group: s.Group, Topic: s.Topic, Partitions: len(t.streams), TTL: d.session, Logger: d.log,
	})
	if err != nil {
		return nil, err
	}
	c := &consumer{d: d, t: t, s: s, m: m, claims: map[*claim]struct{}{}}
	d.mu.Lock()
	closed := d.closed
	if !closed {
		d.consumers[c] = struct{}{}
	}
	d.mu.Unlock()
	if closed {
		_ = m.Close()
		return nil, errClosed
	}
	return c, nil
}

// consumer is a member of a group.
type consumer struct {
	d *Driver
	t *topic
	s broker.Subscription
	m *lease.Member

	once sync.Once
	err  error

	mu      sync.Mutex
	pending *lease.Lease // taken, and not yet returned as a claim
	claims  map[*claim]struct{}
}

// Claim implements broker.Consumer.
func (c *consumer) Claim(ctx context.Context) (broker.Claim, error) {
	for {
		c.mu.Lock()
		l := c.pending
		c.pending = nil
		c.mu.Unlock()
		if l == nil {
			var err error
			if l, err = c.m.Next(ctx); err != nil {
				return nil, c.d.failed("claim a partition", err)
			}
		}
		start, err := c.start(ctx, l)
		if err != nil {
			c.mu.Lock()
			c.pending = l
			c.mu.Unlock()
			return nil, c.d.failed("claim a partition", err)
		}
		if l.Check() != nil {
			continue
		}
		k := &claim{c: c, l: l, start: start, r: newReader(c.d, c.t, l.Partition(), start)}
		c.mu.Lock()
		if c.claims != nil {
			c.claims[k] = struct{}{}
		}
		c.mu.Unlock()
		return k, nil
	}
}

// start is where a claim begins.
func (c *consumer) start(ctx context.Context, l *lease.Lease) (int64, error) {
	if p := l.Start(); p != lease.NoPosition {
		return p, nil
	}
	ctx, cancel := c.d.during(ctx)
	defer cancel()
	if c.s.Start == broker.Latest {
		return c.d.end(ctx, c.t, l.Partition())
	}
	return c.d.start(ctx, c.t, l.Partition())
}

// Close implements broker.Consumer.
func (c *consumer) Close() error {
	c.once.Do(func() {
		c.err = c.m.Close()
		c.mu.Lock()
		claims := c.claims
		c.claims = nil
		c.mu.Unlock()
		for k := range claims {
			_ = k.r.Close()
		}
		c.d.mu.Lock()
		delete(c.d.consumers, c)
		c.d.mu.Unlock()
	})
	return c.err
}

// claim is a partition held by this member.
type claim struct {
	c     *consumer
	l     *lease.Lease
	start int64
	r     *reader
}

// Partition implements broker.Claim.
func (k *claim) Partition() int { return k.l.Partition() }

// Start implements broker.Claim.
func (k *claim) Start() int64 { return k.start }

// Position implements broker.Positioner.
func (k *claim) Position() int64 { return k.r.Position() }

// Fetch implements broker.Claim.
func (k *claim) Fetch(ctx context.Context, max int) (*broker.Batch, error) {
	if err := k.c.d.begin(ctx); err != nil {
		return nil, err
	}
	if err := k.l.Check(); err != nil {
		k.dropReader()
		return nil, k.c.d.failed("fetch", err)
	}
	b, err := k.r.fetch(ctx, max, k.l.Lost())
	if b == nil && err == nil {
		k.dropReader()
		return nil, k.c.d.failed("fetch", k.l.Check())
	}
	return b, err
}

func (k *claim) dropReader() {
	_ = k.r.Close()
	k.c.mu.Lock()
	delete(k.c.claims, k) // of no map after the consumer's Close
	k.c.mu.Unlock()
}

// SeekTo implements broker.Claim.
func (k *claim) SeekTo(position int64) error {
	if err := k.c.d.begin(context.Background()); err != nil {
		return err
	}
	if position < 0 {
		return errkind.Errorf(errkind.Invalid, "seek to position %d", position)
	}
	k.r.seek(position)
	return nil
}

// Commit implements broker.Claim.
func (k *claim) Commit(ctx context.Context, next int64) error {
	if err := k.c.d.begin(ctx); err != nil {
		return err
	}
	ctx, cancel := k.c.d.during(ctx)
	defer cancel()
	return k.c.d.failed(fmt.Sprintf("commit in topic %q partition %d", k.c.s.Topic, k.l.Partition()), k.l.Commit(ctx, next))
}

// Release implements broker.Claim.
func (k *claim) Release() error {
	err := k.l.Release()
	k.dropReader()
	return k.c.d.failed("release a partition", err)
}
