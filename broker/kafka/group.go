package kafka

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// consumer is a broker.Consumer: a client that is a member of the group and
// reads nothing. Each partition that the group hands to it becomes a claim,
// which has a client of its own.
type consumer struct {
	d      *Driver
	s      broker.Subscription
	client *kgo.Client

	mu      sync.Mutex
	mine    map[int32]*holding // partitions that the group gave to this member
	waiting []int32            // of them, those without a claim
	changed chan struct{}      // closed and replaced when waiting grows
	closed  bool
	left    chan struct{} // closed when Close has finished
}

// holding is a partition of this member from its assignment to its revocation.
type holding struct {
	claim *claim // nil while nobody has claimed it
}

// Subscribe implements broker.Driver.
func (d *Driver) Subscribe(ctx context.Context, s broker.Subscription) (broker.Consumer, error) {
	if _, err := d.topic(ctx, s.Topic); err != nil {
		return nil, d.failed(ctx, err, "subscribe")
	}
	c := &consumer{d: d, s: s, mine: map[int32]*holding{}, changed: make(chan struct{}), left: make(chan struct{})}
	var err error
	c.client, err = d.s.client(
		kgo.ConsumerGroup(s.Group),
		kgo.ConsumeTopics(s.Topic),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(d.s.session),
		kgo.HeartbeatInterval(max(d.s.session/10, 50*time.Millisecond)),
		kgo.RebalanceTimeout(max(2*d.s.session, 20*time.Second)),
		kgo.OnPartitionsAssigned(c.assigned),
		kgo.OnPartitionsRevoked(c.revoked),
		kgo.OnPartitionsLost(c.lost),
		kgo.FetchMaxBytes(1<<10),
	)
	if err != nil {
		return nil, d.failed(ctx, err, "subscribe to topic %q as group %q", s.Topic, s.Group)
	}
	c.client.PauseFetchTopics(s.Topic) // claims read
	if err := d.keep(c); err != nil {
		c.client.Close()
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	return c, nil
}

func (c *consumer) assigned(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range parts[c.s.Topic] {
		if c.mine[p] == nil && !c.closed {
			c.mine[p] = &holding{}
			c.offer(p)
		}
	}
}

// offer lets Claim take p; c.mu is held.
func (c *consumer) offer(p int32) {
	c.waiting = append(c.waiting, p)
	close(c.changed)
	c.changed = make(chan struct{})
}

// handover bounds how long a partition that goes to another member waits for a
// commit in progress.
const handover = 5 * time.Second

func (c *consumer) revoked(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	c.giveUp(parts[c.s.Topic], handover)
}

func (c *consumer) lost(_ context.Context, _ *kgo.Client, parts map[string][]int32) {
	c.giveUp(parts[c.s.Topic], 0)
}

// giveUp ends the claims of parts and waits for their commits for at most patience.
func (c *consumer) giveUp(parts []int32, patience time.Duration) {
	var claims []*claim
	c.mu.Lock()
	for _, p := range parts {
		if h := c.mine[p]; h != nil && h.claim != nil {
			claims = append(claims, h.claim)
		}
		delete(c.mine, p)
		c.waiting = slices.DeleteFunc(c.waiting, func(w int32) bool { return w == p })
	}
	c.mu.Unlock()
	for _, claim := range claims {
		claim.end("the partition went to another member of the group")
	}
	if patience == 0 {
		return
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	for _, claim := range claims {
		select {
		case claim.busy <- struct{}{}:
			<-claim.busy
		case <-t.C:
			return
		}
	}
}

// Claim implements broker.Consumer. What passes by itself, such as a server
// that is away, is waited for.
func (c *consumer) Claim(ctx context.Context) (broker.Claim, error) {
	for n := 1; ; {
		p, h, err := c.next(ctx)
		if err != nil {
			return nil, err
		}
		claim, err := c.prepare(ctx, p)
		c.mu.Lock()
		held := c.mine[p] == h && !c.closed
		switch {
		case held && err == nil:
			h.claim = claim
			c.d.claims.put(claim)
		case held:
			c.offer(p)
		}
		c.mu.Unlock()
		if held && err == nil {
			return claim, nil
		}
		if err == nil { // it went to somebody else meanwhile
			claim.end("the partition went to another member of the group")
			claim.dispose()
			continue
		}
		if ctx.Err() != nil || c.d.ctx.Err() != nil || !retryableClaim(err) {
			return nil, c.d.failed(ctx, err, "claim topic %q partition %d", c.s.Topic, p)
		}
		c.d.log.Debug("claim is repeated", "topic", c.s.Topic, "partition", p, "error", err)
		_ = wait(ctx, pause(n))
		n++
	}
}

// retryableClaim: a conflict means that somebody else began as owner at the same moment.
func retryableClaim(err error) bool {
	k := kindOf(err)
	return k.Retryable() || k == errkind.Conflict || k == errkind.Closed
}

// next waits for a partition without a claim.
func (c *consumer) next(ctx context.Context) (int32, *holding, error) {
	for {
		c.mu.Lock()
		closed, changed := c.closed, c.changed
		var p int32
		var h *holding
		if !closed && len(c.waiting) > 0 && ctx.Err() == nil {
			p, c.waiting = c.waiting[0], c.waiting[1:]
			h = c.mine[p]
		}
		c.mu.Unlock()
		switch {
		case closed || c.d.ctx.Err() != nil:
			return 0, nil, errkind.Errorf(errkind.Closed, "claim: the consumer of topic %q is closed", c.s.Topic)
		case ctx.Err() != nil:
			return 0, nil, fmt.Errorf("claim: %w", ctx.Err())
		case h != nil:
			return p, h, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
		case <-c.d.ctx.Done():
		}
	}
}

// prepare becomes the owner of partition p: first of its transactions, which
// fences whoever was it before and ends what that one left open, then of the
// group's position, in which nothing is pending any more.
func (c *consumer) prepare(ctx context.Context, p int32) (*claim, error) {
	call, cancel := c.d.begin(ctx)
	defer cancel()
	t, err := c.d.topic(call, c.s.Topic)
	if err != nil {
		return nil, err
	}
	if _, err := t.partition(int(p)); err != nil {
		return nil, errkind.With(errkind.Transient, err) // partitions were added, and not all servers know
	}
	f, err := c.d.newFeed(t, p)
	if err != nil {
		return nil, err
	}
	claim := &claim{feed: f, c: c, busy: make(chan struct{}, 1)}
	for i := range c.d.producersPerClaim() {
		id := fmt.Sprintf("%s-%s-%s-%d", c.d.s.txPrefix, c.s.Group, c.s.Topic, p)
		if i > 0 {
			id = fmt.Sprintf("%s-%d", id, i)
		}
		claim.producers = append(claim.producers, c.d.newProducer(f.client, id))
	}
	if err := claim.begin(call, t); err != nil {
		claim.dispose()
		return nil, err
	}
	return claim, nil
}

// member says who this member of the group is at the moment.
func (c *consumer) member() (id string, generation int32) {
	return c.client.GroupMetadata()
}

// release lets the group hand p out again.
func (c *consumer) release(claim *claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.mine[claim.part]; h != nil && h.claim == claim && !c.closed {
		h.claim = nil
		c.offer(claim.part)
	}
}

// Close implements broker.Consumer.
func (c *consumer) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		<-c.left
		return nil
	}
	c.closed = true
	var all []int32
	for p := range c.mine {
		all = append(all, p)
	}
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	c.d.forget(c)
	patience := handover
	if c.d.ctx.Err() != nil {
		patience = time.Second
	}
	c.giveUp(all, patience)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.client.LeaveGroupContext(ctx); err != nil {
		c.d.log.Warn("the group could not be left and gives this member up after its session", "group", c.s.Group, "error", err)
	}
	c.client.Close()
	close(c.left)
	return nil
}
