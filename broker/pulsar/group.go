package pulsar

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
	"github.com/apache/pulsar-client-go/pulsar/backoff"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

const (
	// membersSubscription is the failover subscription by which the broker chooses who holds a partition.
	membersSubscription = "members"
	// keepPositions is how much of a group's old positions is kept, in MiB; the last one always is.
	keepPositions = 16
	// reacquire is the pause before a member takes a partition that another one
	// took from it, though the broker names it the holder.
	reacquire = time.Second
)

// consumer is a member of a group. mu guards seats.
type consumer struct {
	d      *Driver
	s      broker.Subscription
	t      *topic
	name   string // of the topic with the group's positions
	inner  pulsar.Consumer
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu      sync.Mutex
	seats   []seat
	changed chan struct{} // closed and replaced at each change
	once    sync.Once
}

// seat is what a member knows of one partition.
type seat struct {
	active bool // the broker says that this member holds it
	taken  bool // a claim is out, or being made
	claim  *claim
	after  time.Time // no new claim before
}

// Subscribe implements broker.Driver.
func (d *Driver) Subscribe(ctx context.Context, s broker.Subscription) (broker.Consumer, error) {
	what := fmt.Sprintf("subscribe to topic %q as group %q", s.Topic, s.Group)
	if err := d.enter(ctx); err != nil {
		return nil, err
	}
	_, t, err := d.look(ctx, s.Topic)
	if err != nil {
		return nil, err
	}
	c := &consumer{d: d, s: s, t: t, name: groupTopic(s.Topic, s.Group), seats: make([]seat, len(t.parts)), changed: make(chan struct{})}
	m := metadata{len(t.parts), map[string]string{propGroup: s.Group}}
	err = d.createPartitioned(ctx, c.name, m)
	if err == nil {
		err = d.setPolicies(ctx, c.name, -1, keepPositions, false)
	} else if errkind.Is(err, errkind.Conflict) {
		err = nil
	}
	if err != nil {
		return nil, d.fail(ctx, what, err)
	}
	c.ctx, c.cancel = context.WithCancel(d.ctx)
	o := pulsar.ConsumerOptions{
		Topic:                       d.url(c.name),
		SubscriptionName:            membersSubscription,
		Type:                        pulsar.Failover,
		SubscriptionInitialPosition: pulsar.SubscriptionPositionLatest,
		ReceiverQueueSize:           100,
		EventListener:               c,
		BackOffPolicyFunc:           func() backoff.Policy { return &reconnect{} },
	}
	d.members.Store(c, struct{}{})
	inner, err := await(ctx, d, func() (pulsar.Consumer, error) { return d.client.Subscribe(o) }, func(c pulsar.Consumer) { release(c.Close) })
	if err != nil {
		c.end()
		return nil, d.fail(ctx, what, err)
	}
	c.inner = inner
	if !d.spawn(c.forget) {
		c.end()
		return nil, errClosed
	}
	return c, nil
}

// forget acknowledges the positions that the subscription delivers, so that the
// broker can delete old ones; they are read from the topic's end instead.
func (c *consumer) forget() {
	defer release(c.inner.Close)
	for {
		m, err := c.inner.Receive(c.ctx)
		if err != nil {
			return
		}
		_ = c.inner.AckIDCumulative(m.ID())
	}
}

// BecameActive implements pulsar.ConsumerEventListener.
func (c *consumer) BecameActive(_ pulsar.Consumer, _ string, partition int32) {
	c.update(func() {
		if p := int(partition); p >= 0 && p < len(c.seats) {
			c.seats[p].active = true
		}
	})
}

// BecameInactive implements pulsar.ConsumerEventListener.
func (c *consumer) BecameInactive(_ pulsar.Consumer, _ string, partition int32) {
	c.update(func() {
		if p := int(partition); p >= 0 && p < len(c.seats) {
			c.seats[p].active = false
			c.seats[p].claim.revoke()
		}
	})
}

func (c *consumer) update(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	close(c.changed)
	c.changed = make(chan struct{})
}

// Claim implements broker.Consumer.
func (c *consumer) Claim(ctx context.Context) (broker.Claim, error) {
	for {
		if err := c.d.enter(ctx); err != nil {
			return nil, err
		}
		if c.ctx.Err() != nil {
			return nil, errkind.New(errkind.Closed, "the consumer is closed")
		}
		p, changed, wait := c.choose()
		if p >= 0 {
			claim, err := c.acquire(ctx, p)
			if err != nil || claim != nil {
				return claim.orNil(), err
			}
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
		case <-c.ctx.Done():
		}
		t.Stop()
	}
}

func (c *claim) orNil() broker.Claim {
	if c == nil {
		return nil
	}
	return c
}

// choose takes a seat that the broker gives to this member, or says how long to wait.
func (c *consumer) choose() (p int, changed chan struct{}, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait = time.Hour
	for p := range c.seats {
		s := &c.seats[p]
		if !s.active || s.taken {
			continue
		}
		if left := time.Until(s.after); left > 0 {
			wait = min(wait, left)
			continue
		}
		s.taken = true
		return p, nil, 0
	}
	return -1, c.changed, wait
}

// acquire makes a claim: the member before is fenced, so that it commits no
// more, and then the group's position is read. nil says that the partition has
// gone to another member meanwhile.
func (c *consumer) acquire(ctx context.Context, p int) (_ *claim, err error) {
	var producer pulsar.Producer
	defer func() {
		if err != nil {
			c.vacate(p, nil, producer, 0)
			err = c.d.fail(ctx, fmt.Sprintf("claim topic %q partition %d as group %q", c.s.Topic, p, c.s.Group), err)
		}
	}()
	producer, err = c.d.exclusive(ctx, partitionName(c.name, p), pulsar.ProducerOptions{
		SendTimeout:       c.d.set.timeout,
		DisableBatching:   true,
		BackOffPolicyFunc: func() backoff.Policy { return &reconnect{} },
	})
	if err != nil {
		return nil, err
	}
	start, err := c.d.committed(ctx, c.name, p)
	if err != nil {
		return nil, err
	}
	if start < 0 {
		var s broker.PartitionState
		if _, _, err = c.d.span(ctx, c.t.parts[p], &s); err != nil {
			return nil, err
		}
		if start = s.Start; c.s.Start == broker.Latest {
			start = s.End
		}
	}
	cl := &claim{c: c, p: p, start: start, producer: producer, revoked: make(chan struct{})}
	cl.cursor = newCursor(c.d, c.t.parts[p], start, cl.revoked)
	c.mu.Lock()
	active := c.seats[p].active && c.ctx.Err() == nil
	if active {
		c.seats[p].claim = cl
	}
	c.mu.Unlock()
	if !active {
		c.vacate(p, nil, producer, 0)
		return nil, nil
	}
	return cl, nil
}

// vacate frees a seat after a claim, or an attempt at one, has ended.
func (c *consumer) vacate(p int, cl *claim, producer pulsar.Producer, pause time.Duration) {
	if producer != nil {
		c.d.spawn(func() { closeProducer(producer) })
	}
	c.update(func() {
		s := &c.seats[p]
		if s.claim == cl {
			s.claim, s.taken, s.after = nil, false, time.Now().Add(pause)
		}
	})
}

// Close implements broker.Consumer.
func (c *consumer) Close() error {
	c.end()
	return nil
}

// end leaves the group.
func (c *consumer) end() {
	c.once.Do(func() {
		c.cancel()
		c.d.members.Delete(c)
		c.mu.Lock()
		for p := range c.seats {
			c.seats[p].active = false
			c.seats[p].claim.revoke()
		}
		c.mu.Unlock()
	})
}

// claim is a partition held by a member.
type claim struct {
	c        *consumer
	p        int
	start    int64
	producer pulsar.Producer // of positions; fenced when another member takes the partition
	cursor   *cursor
	revoked  chan struct{}
	once     sync.Once
}

// revoke ends the claim; a nil claim has ended.
func (c *claim) revoke() { c.end(0) }

func (c *claim) end(pause time.Duration) {
	if c == nil {
		return
	}
	c.once.Do(func() {
		close(c.revoked)
		// Not here: the caller may be the library, or hold the consumer's lock.
		c.c.d.spawn(func() { c.c.vacate(c.p, c, c.producer, pause) })
	})
}

// Partition implements broker.Claim.
func (c *claim) Partition() int { return c.p }

// Start implements broker.Claim.
func (c *claim) Start() int64 { return c.start }

// Position implements broker.Positioner.
func (c *claim) Position() int64 { return c.cursor.Position() }

// Fetch implements broker.Claim.
func (c *claim) Fetch(ctx context.Context, most int) (*broker.Batch, error) {
	return c.cursor.Fetch(ctx, most)
}

// SeekTo implements broker.Claim.
func (c *claim) SeekTo(position int64) error {
	if err := c.cursor.alive(context.Background()); err != nil {
		return err
	}
	c.cursor.seek(position)
	return nil
}

// Commit implements broker.Claim: the position is stored behind the group's others.
func (c *claim) Commit(ctx context.Context, next int64) error {
	if err := c.cursor.alive(ctx); err != nil {
		return err
	}
	scope, stop := c.c.d.scope(ctx)
	defer stop()
	_, err := c.send(scope, strconv.AppendInt(nil, next, 10))
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("commit topic %q partition %d as group %q", c.c.s.Topic, c.p, c.c.s.Group)
	if k := kindOf(err); k == errkind.Conflict || isClosed(err) && c.c.d.ctx.Err() == nil {
		c.end(reacquire)
		return errkind.Errorf(errkind.Conflict, "%s: another member has taken the partition: %w", what, err)
	}
	if e := c.cursor.alive(ctx); e != nil {
		return e
	}
	return c.c.d.fail(ctx, what, err)
}

func (c *claim) send(ctx context.Context, payload []byte) (_ pulsar.MessageID, err error) {
	defer func() {
		if recover() != nil { // the library, where the server closes the producer at this moment
			err = pulsar.ErrProducerClosed
		}
	}()
	return c.producer.Send(ctx, &pulsar.ProducerMessage{Payload: payload})
}

// Release implements broker.Claim.
func (c *claim) Release() error {
	c.end(0)
	return nil
}
