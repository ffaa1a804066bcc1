package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// claim is a broker.Claim.
type claim struct {
	*feed
	c         *consumer
	producers []*producer
	turn      int // of the producers
	start     int64

	busy     chan struct{} // full during a commit
	disposed sync.Once

	mu       sync.Mutex
	position int64 // committed last by this claim; -1 where nothing was
}

var _ broker.Positioner = (*claim)(nil)

// begin takes the partition over.
func (c *claim) begin(ctx context.Context, t *topic) error {
	c.position = -1
	for _, p := range c.producers {
		if err := p.begin(ctx); err != nil {
			return fmt.Errorf("begin as owner of %s: %w", p.id, err)
		}
	}
	var err error
	if c.start, err = c.d.settled(ctx, c.client, t, c.c.s.Group, c.part); err != nil {
		return fmt.Errorf("ask for the position of group %q: %w", c.c.s.Group, err)
	}
	if c.start < 0 {
		at := int64(earliest)
		if c.c.s.Start == broker.Latest {
			at = latest
		}
		if c.start, err = c.d.listOffset(ctx, t.name, c.part, at); err != nil {
			return fmt.Errorf("ask where the partition begins: %w", err)
		}
	}
	c.seek(c.start)
	return nil
}

// producer is whose turn it is; busy is held.
func (c *claim) producer() *producer {
	c.turn = (c.turn + 1) % len(c.producers)
	return c.producers[c.turn]
}

// Partition implements broker.Claim.
func (c *claim) Partition() int { return int(c.part) }

// Start implements broker.Claim.
func (c *claim) Start() int64 { return c.start }

// Position implements broker.Positioner.
func (c *claim) Position() int64 { return c.pos.Load() }

// Fetch implements broker.Claim.
func (c *claim) Fetch(ctx context.Context, limit int) (*broker.Batch, error) {
	return c.fetch(ctx, limit)
}

// SeekTo implements broker.Claim.
func (c *claim) SeekTo(position int64) error {
	if err := c.alive(); err != nil {
		return err
	}
	c.seek(max(position, 0))
	return nil
}

// alive reports that the claim is over.
func (c *claim) alive() error {
	switch {
	case c.d.ctx.Err() != nil:
		return errkind.Errorf(errkind.Closed, "topic %q partition %d: the driver is closed", c.topic.name, c.part)
	case c.ended.Err() != nil:
		return fmt.Errorf("topic %q partition %d: %w", c.topic.name, c.part, context.Cause(c.ended))
	}
	return nil
}

// Commit implements broker.Claim.
func (c *claim) Commit(ctx context.Context, next int64) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("commit position: %w", err)
	}
	c.busy <- struct{}{}
	defer func() { <-c.busy }()
	call, cancel := c.d.begin(ctx)
	defer cancel()
	err := c.c.asMember(call, []*claim{c}, func(member string, generation int32) error {
		req := kmsg.NewPtrOffsetCommitRequest()
		req.Group, req.MemberID, req.Generation = c.c.s.Group, member, generation
		rt := kmsg.NewOffsetCommitRequestTopic()
		rt.Topic = c.topic.name
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset, rp.LeaderEpoch = c.part, next, -1
		rt.Partitions = append(rt.Partitions, rp)
		req.Topics = append(req.Topics, rt)
		kresp, err := c.client.Request(call, req)
		if err != nil {
			return err
		}
		for _, rt := range kresp.(*kmsg.OffsetCommitResponse).Topics {
			for _, rp := range rt.Partitions {
				if err := code(rp.ErrorCode); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err == nil {
		c.committed(next)
		return nil
	}
	if alive := c.alive(); alive != nil {
		return fmt.Errorf("commit position: %w", alive)
	}
	if kindOf(err) == errkind.Conflict {
		c.lose("the group no longer knows this member")
	}
	return c.d.failed(ctx, err, "commit position %d of topic %q partition %d", next, c.topic.name, c.part)
}

// asMember calls f as the member of the group that this client is. In the
// middle of a rebalance the group refuses the generation before: the next one
// is waited for, unless a claim is lost in it.
func (c *consumer) asMember(ctx context.Context, claims []*claim, f func(member string, generation int32) error) error {
	for n := 1; ; n++ {
		for _, x := range claims {
			if err := x.alive(); err != nil {
				return err
			}
		}
		member, generation := c.member()
		err := f(member, generation)
		switch {
		case errors.Is(err, kerr.RebalanceInProgress):
		case errors.Is(err, kerr.IllegalGeneration), errors.Is(err, kerr.UnknownMemberID):
			if !c.newGeneration(ctx, claims, member, generation) {
				return err
			}
			continue
		default:
			return err
		}
		if wait(ctx, min(pause(n), 100*time.Millisecond)) != nil {
			return errkind.Errorf(errkind.Transient, "the group is being rebalanced: %s", err.Error())
		}
	}
}

// newGeneration waits until this member is in a later generation than that
// which the group refused. A member that was expelled finds out at its next
// heartbeat, and then loses its claims.
func (c *consumer) newGeneration(ctx context.Context, claims []*claim, member string, generation int32) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if m, g := c.member(); m == member && g > generation {
			return true
		} else if m != member {
			return false
		}
		for _, x := range claims {
			if x.alive() != nil {
				return false
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
}

// committed notes what was committed, for Describe.
func (c *claim) committed(next int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.position = next
}

// end ends the claim: Fetch and Commit return a Conflict from now on.
func (c *claim) end(why string) {
	c.finish(errkind.Errorf(errkind.Conflict, "the claim is lost: %s", why))
	c.d.claims.remove(c)
	c.d.spawn(c.dispose)
}

// lose ends a claim that the group still gives to this member, and offers the
// partition again.
func (c *claim) lose(why string) {
	c.end(why)
	c.c.release(c)
}

// dispose closes the claim's client, when no commit is in progress.
func (c *claim) dispose() {
	c.disposed.Do(func() {
		c.busy <- struct{}{}
		defer func() { <-c.busy }()
		c.finish(errkind.New(errkind.Conflict, "the claim is given back"))
		c.close()
	})
}

// Release implements broker.Claim. The partition stays with this member of the
// group, whose Claim hands it out again.
func (c *claim) Release() error {
	if err := c.alive(); err != nil {
		return err
	}
	c.lose("it was released")
	return nil
}

// claimKey names a group's partition.
type claimKey struct {
	group, topic string
	id           [16]byte
	partition    int32
}

// claimTable knows the claims of this process. What their owner committed is
// the group's position, also while the markers of the transaction are on their way.
type claimTable struct {
	mu sync.Mutex
	m  map[claimKey]*claim
}

func (c *claim) key() claimKey { return claimKey{c.c.s.Group, c.topic.name, c.topic.id, c.part} }

func (t *claimTable) put(c *claim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m == nil {
		t.m = map[claimKey]*claim{}
	}
	t.m[c.key()] = c
}

func (t *claimTable) remove(c *claim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.m[c.key()] == c {
		delete(t.m, c.key())
	}
}

// position is what the owner here committed, or what the server says.
func (t *claimTable) position(k claimKey, server int64) int64 {
	t.mu.Lock()
	c := t.m[k]
	t.mu.Unlock()
	if c == nil {
		return server
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.position < 0 {
		return server
	}
	return c.position
}
