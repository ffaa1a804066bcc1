package redis

import (
	"context"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// leaveWithin bounds how long a consumer says goodbye to a server that is away.
const leaveWithin = 2 * time.Second

// consumer is a member of a group. Its goroutine keeps it alive on the server
// and takes what group.lua hands to it.
type consumer struct {
	d     *Driver
	t     *topic
	group string
	start broker.StartAt
	id    string

	syncing sync.Mutex // one call of the script at a time: answers are taken in their order

	mu     sync.Mutex
	claims map[int]*claim
	queue  []*claim // not yet handed to the caller
	// given are the epochs of partitions given back of which the server may not know yet.
	given  map[int]string
	err    error // why there is nothing more to claim
	more   chan struct{}
	closed bool

	done  chan struct{} // closed by Close
	stop  context.CancelFunc
	ended chan struct{} // closed when the goroutine has ended
}

// claim is a partition held under an epoch.
type claim struct {
	c         *consumer
	partition int
	epoch     string
	begin     int64
	reader    *reader
	revoked   chan struct{}
	once      sync.Once

	committing sync.Mutex
	number     int64 // of the last transaction under this claim
}

// Subscribe implements broker.Driver.
func (d *Driver) Subscribe(ctx context.Context, s broker.Subscription) (broker.Consumer, error) {
	t, err := d.resolve(ctx, s.Topic)
	if err != nil {
		return nil, err
	}
	c := &consumer{
		d: d, t: t, group: s.Group, start: s.Start, id: newToken(), claims: map[int]*claim{}, given: map[int]string{},
		more: make(chan struct{}, 1), done: make(chan struct{}), ended: make(chan struct{}),
	}
	if err := c.sync(ctx, "sync"); err != nil {
		return nil, d.failed(ctx, "join group on", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, d.errClosed()
	}
	var life context.Context
	life, c.stop = context.WithCancel(d.life)
	d.consumers[c] = struct{}{}
	d.running.Go(func() { c.live(life) })
	return c, nil
}

// live tells the server again and again that the member is alive.
func (c *consumer) live(ctx context.Context) {
	defer close(c.ended)
	tick := time.NewTicker(min(c.d.session/5, 500*time.Millisecond))
	defer tick.Stop()
	away := false
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		err := c.giveBack(ctx)
		if err == nil {
			err = c.sync(ctx, "sync")
		}
		switch k := kindOf(err); {
		case err == nil:
			away = false
		case ctx.Err() != nil:
			return
		case k == errkind.NotFound:
			c.fail(err)
			return
		default: // what it holds stays its own until somebody else takes it
			if !away {
				c.d.log.WarnContext(ctx, "a member of a group cannot reach the server", "broker", c.d.where, "topic", c.t.config.Name, "group", c.group, "error", err)
			}
			away = true
		}
	}
}

// sync calls group.lua and takes its answer.
func (c *consumer) sync(ctx context.Context, what string, more ...any) error {
	c.syncing.Lock()
	defer c.syncing.Unlock()
	keys := append([]string{c.t.meta(), c.t.group(c.group), c.t.members(c.group), c.t.groups()}, c.t.streams...)
	args := append([]any{c.t.uid, what, c.id, milliseconds(c.d.session), c.group}, more...)
	answer, err := c.d.script(ctx, scriptGroup, keys, args...)
	if err != nil {
		return err
	}
	if len(answer)%5 != 1 {
		return errReply
	}
	if code, _ := answer[0].(int64); code != 0 {
		return errMissing(c.t.config.Name)
	}
	return c.take(answer[1:])
}

// giveBack tells the server of partitions given back.
func (c *consumer) giveBack(ctx context.Context) error {
	c.mu.Lock()
	given := maps.Clone(c.given)
	c.mu.Unlock()
	for p, epoch := range given {
		if err := c.sync(ctx, "release", p, epoch); err != nil {
			return err
		}
		c.mu.Lock()
		if c.given[p] == epoch {
			delete(c.given, p)
		}
		c.mu.Unlock()
	}
	return nil
}

// take makes claims of what the member holds, and revokes those that it does
// not hold any more.
func (c *consumer) take(held []any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	keeps := map[int]bool{}
	for ; len(held) > 0; held = held[5:] {
		var f [5]string
		for i := range f {
			f[i], _ = held[i].(string)
		}
		p, err := strconv.Atoi(f[0])
		if err != nil || p < 0 || p >= len(c.t.streams) {
			return errReply
		}
		if c.given[p] == f[1] {
			continue
		}
		keeps[p] = true
		if old := c.claims[p]; old != nil {
			if old.epoch == f[1] {
				continue
			}
			c.lose(old)
		}
		begin, committed, err := c.begin(f)
		if err != nil {
			return err
		}
		n := &claim{c: c, partition: p, epoch: f[1], begin: begin, revoked: make(chan struct{})}
		n.reader = c.d.newReader(c.t, p, begin, n.held)
		if committed {
			n.reader.reached = begin
		}
		c.claims[p] = n
		c.queue = append(c.queue, n)
	}
	for p, old := range c.claims {
		if !keeps[p] {
			c.lose(old)
		}
	}
	c.wake()
	return nil
}

// begin is where the group continues: committed, first id and last id are f[2:].
func (c *consumer) begin(f [5]string) (position int64, committed bool, err error) {
	if f[2] != "" {
		i, err := parseID(f[2])
		if err != nil {
			return 0, false, err
		}
		position, err = c.t.positionOf(i)
		return position, true, err
	}
	start, end, err := c.t.bounds(f[3], f[4])
	if c.start == broker.Latest {
		return end, false, err
	}
	return start, false, err
}

// lose takes a claim away; with c.mu held.
func (c *consumer) lose(old *claim) {
	if c.claims[old.partition] == old {
		delete(c.claims, old.partition)
	}
	for i, q := range c.queue {
		if q == old {
			c.queue = append(c.queue[:i:i], c.queue[i+1:]...)
			break
		}
	}
	old.end()
}

func (c *consumer) wake() {
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// fail ends the consumer's claims for good.
func (c *consumer) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for _, old := range c.claims {
		c.lose(old)
	}
	c.wake()
}

// Claim implements broker.Consumer.
func (c *consumer) Claim(ctx context.Context) (broker.Claim, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.mu.Lock()
		closed, failure := c.closed, c.err
		var got *claim
		if !closed && len(c.queue) > 0 {
			got, c.queue = c.queue[0], c.queue[1:]
		}
		c.mu.Unlock()
		switch {
		case closed || c.d.ended():
			return nil, c.errClosed()
		case got != nil:
			return got, nil
		case failure != nil:
			return nil, failure
		}
		select {
		case <-c.more:
		case <-c.done:
		case <-c.d.done:
		case <-ctx.Done():
		}
	}
}

func (c *consumer) errClosed() error {
	return errkind.Errorf(errkind.Closed, "the consumer of topic %s is closed", c.t.config.Name)
}

// Close implements broker.Consumer.
func (c *consumer) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		<-c.ended
		return nil
	}
	c.closed = true
	close(c.done)
	for _, old := range c.claims {
		c.lose(old)
	}
	c.mu.Unlock()
	c.stop()
	<-c.ended
	ctx, cancel := context.WithTimeout(c.d.life, leaveWithin)
	defer cancel()
	// Where it fails the server finds out when the session ends.
	_ = c.sync(ctx, "leave")
	c.d.mu.Lock()
	delete(c.d.consumers, c)
	c.d.mu.Unlock()
	return nil
}

// end makes the claim's calls fail from now on.
func (c *claim) end() {
	c.once.Do(func() { close(c.revoked) })
	c.reader.interrupt()
}

// revoke ends a claim and gives the partition back at the next occasion: who
// holds it next has another epoch, and begins where the group stands then.
func (c *claim) revoke() {
	c.c.mu.Lock()
	defer c.c.mu.Unlock()
	if c.c.claims[c.partition] == c {
		c.c.given[c.partition] = c.epoch
	}
	c.c.lose(c)
}

// held is nil while the claim is.
func (c *claim) held() error {
	if c.c.d.ended() {
		return c.c.d.errClosed()
	}
	select {
	case <-c.revoked:
		return errkind.Errorf(errkind.Conflict, "the claim of topic %s partition %d was revoked", c.c.t.config.Name, c.partition)
	default:
		return nil
	}
}

// Partition implements broker.Claim.
func (c *claim) Partition() int { return c.partition }

// Start implements broker.Claim.
func (c *claim) Start() int64 { return c.begin }

// Position implements broker.Positioner.
func (c *claim) Position() int64 { return c.reader.Position() }

// Fetch implements broker.Claim.
func (c *claim) Fetch(ctx context.Context, limit int) (*broker.Batch, error) {
	return c.reader.Fetch(ctx, limit)
}

// SeekTo implements broker.Claim.
func (c *claim) SeekTo(position int64) error {
	if err := c.held(); err != nil {
		return err
	}
	c.reader.seekTo(position)
	return nil
}

// Commit implements broker.Claim.
func (c *claim) Commit(ctx context.Context, next int64) error {
	return c.c.d.Commit(ctx, &broker.Tx{Positions: []broker.ClaimPosition{{Claim: c, Next: next}}})
}

// Release implements broker.Claim.
func (c *claim) Release() error {
	if err := c.held(); err != nil {
		return err
	}
	c.revoke()
	ctx, cancel := context.WithTimeout(c.c.d.life, c.c.d.timeout)
	defer cancel()
	if err := c.c.giveBack(ctx); err != nil {
		return c.c.d.failed(ctx, "release partition on", err)
	}
	return nil
}
