package journal

import (
	"context"
	"slices"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

type groupKey struct {
	topic uint32
	name  string
}

// consumerGroup is the members of a group on one topic. Under Journal.mu.
type consumerGroup struct {
	t       *topic
	name    string
	members []*member
	owner   []*claim // by partition; nil while nobody has it
}

// member is one consumer.
type member struct {
	j      *Journal
	group  *consumerGroup
	start  broker.StartAt
	held   []*claim // assigned, handed out or not. Under mu
	queue  []*claim // of them, those not handed out. Under mu
	notify chan struct{}
	left   chan struct{} // closed by Close
	closed bool          // under mu
}

// claim is a partition assigned to a member.
type claim struct {
	j       *Journal
	group   *consumerGroup
	member  *member
	p       *partition
	begin   int64
	reader  reader
	gone    bool          // under Journal.mu
	revoked chan struct{} // closed with gone
}

func errRevoked(p *partition) error {
	return errkind.Errorf(errkind.Conflict, "the claim on topic %q partition %d was revoked: the group has given it to another member", p.topic.conf.Name, p.num)
}

// Subscribe joins a consumer group.
func (j *Journal) Subscribe(ctx context.Context, s broker.Subscription) (broker.Consumer, error) {
	if err := j.usable(ctx); err != nil {
		return nil, err
	}
	if s.Group == "" {
		return nil, errkind.Errorf(errkind.Invalid, "subscribe to topic %q: a group needs a name", s.Topic)
	}
	t, err := j.topicByName(s.Topic)
	if err != nil {
		return nil, err
	}
	m := &member{j: j, start: s.Start, notify: make(chan struct{}, 1), left: make(chan struct{})}
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closing {
		return nil, errClosed
	}
	key := groupKey{t.id, s.Group}
	g := j.groups[key]
	if g == nil {
		g = &consumerGroup{t: t, name: s.Group, owner: make([]*claim, len(t.parts))}
		j.groups[key] = g
	}
	m.group = g
	g.members = append(g.members, m)
	g.balance(j)
	return m, nil
}

// balance gives every member its fair share: those with too many lose the ones
// they got last, the others get what is free. Under mu.
func (g *consumerGroup) balance(j *Journal) {
	if len(g.members) == 0 {
		return
	}
	order := slices.Clone(g.members)
	slices.SortStableFunc(order, func(a, b *member) int { return len(b.held) - len(a.held) })
	share, extra := len(g.owner)/len(order), len(g.owner)%len(order)
	quota := func(i int) int {
		if i < extra {
			return share + 1
		}
		return share
	}
	for i, m := range order {
		for len(m.held) > quota(i) {
			m.held[len(m.held)-1].revoke()
		}
	}
	i := 0
	for p := range g.owner {
		if g.owner[p] != nil {
			continue
		}
		for len(order[i].held) >= quota(i) {
			i++
		}
		g.assign(j, p, order[i])
	}
}

func (g *consumerGroup) assign(j *Journal, partition int, m *member) {
	c := &claim{j: j, group: g, member: m, p: g.t.parts[partition], revoked: make(chan struct{})}
	g.owner[partition] = c
	m.held = append(m.held, c)
	m.queue = append(m.queue, c)
	select {
	case m.notify <- struct{}{}:
	default:
	}
}

// revoke takes the claim away: no commit through it is accepted any more. Under mu.
func (c *claim) revoke() {
	if c.gone {
		return
	}
	c.gone = true
	close(c.revoked)
	c.group.owner[c.p.num] = nil
	same := func(o *claim) bool { return o == c }
	c.member.held = slices.DeleteFunc(c.member.held, same)
	c.member.queue = slices.DeleteFunc(c.member.queue, same)
}

// Claim waits for the next partition assigned to this member.
func (m *member) Claim(ctx context.Context) (broker.Claim, error) {
	j := m.j
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		j.mu.Lock()
		if m.closed || j.closing {
			j.mu.Unlock()
			return nil, errkind.New(errkind.Closed, "the consumer is closed")
		}
		if len(m.queue) == 0 {
			j.mu.Unlock()
			select {
			case <-m.notify:
			case <-m.left:
			case <-ctx.Done():
			case <-m.group.t.gone:
				return nil, errkind.Errorf(errkind.NotFound, "topic %q was deleted", m.group.t.conf.Name)
			case <-j.closed:
			}
			continue
		}
		c := m.queue[0]
		before := j.barrier()
		j.mu.Unlock()
		// A commit of the former owner may be on its way. What becomes of it is
		// decided before the position is read; its failure concerns its owner.
		if err := waitAll(ctx, before); err != nil && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		j.mu.Lock()
		if c.gone {
			j.mu.Unlock()
			continue
		}
		m.queue = slices.Delete(m.queue, 0, 1)
		if len(m.queue) > 0 {
			select {
			case m.notify <- struct{}{}:
			default:
			}
		}
		j.view.RLock()
		c.begin = c.p.start
		if m.start == broker.Latest {
			c.begin = c.p.end
		}
		if ps := c.group.t.positions[c.group.name]; ps != nil && ps[c.p.num] >= 0 {
			c.begin = ps[c.p.num]
		}
		j.view.RUnlock()
		j.mu.Unlock()
		c.reader = reader{j: j, p: c.p, next: c.begin}
		return c, nil
	}
}

// Close leaves the group.
func (m *member) Close() error {
	j := m.j
	j.mu.Lock()
	defer j.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	close(m.left)
	for len(m.held) > 0 {
		m.held[len(m.held)-1].revoke()
	}
	g := m.group
	g.members = slices.DeleteFunc(g.members, func(o *member) bool { return o == m })
	if len(g.members) == 0 {
		delete(j.groups, groupKey{g.t.id, g.name})
		return nil
	}
	g.balance(j)
	return nil
}

// Partition is the claimed partition.
func (c *claim) Partition() int { return c.p.num }

// Start is where the group continues.
func (c *claim) Start() int64 { return c.begin }

// Fetch is Reader.Fetch; a revoked claim returns a Conflict error.
func (c *claim) Fetch(ctx context.Context, limit int) (*broker.Batch, error) {
	return c.reader.fetch(ctx, limit, c.revoked)
}

// SeekTo makes the next Fetch begin at position.
func (c *claim) SeekTo(position int64) error {
	if position < 0 {
		return errkind.Errorf(errkind.Invalid, "seek in topic %q partition %d: position %d is negative", c.p.topic.conf.Name, c.p.num, position)
	}
	c.reader.seek(position)
	return nil
}

// held says why the claim cannot be committed. Under mu.
func (c *claim) held() error {
	if c.gone {
		return errRevoked(c.p)
	}
	return nil
}

// Commit moves the group's position and returns when that is durable.
func (c *claim) Commit(ctx context.Context, next int64) error {
	if err := c.j.usable(ctx); err != nil {
		return err
	}
	if err := c.checkNext(next); err != nil {
		return err
	}
	o := c.j.newOp()
	moves := [1]move{{c.p.num, next}}
	o.addMoves(c.p.topic, c.group.name, moves[:])
	c.j.mu.Lock()
	err := c.held()
	var tk ticket
	if err == nil {
		tk, err = c.j.enqueue(o)
	}
	c.j.mu.Unlock()
	if err != nil {
		c.j.freeOp(o)
		return err
	}
	return tk.wait(ctx)
}

// Release gives the partition back: to another member where there is one.
func (c *claim) Release() error {
	c.j.mu.Lock()
	defer c.j.mu.Unlock()
	if c.gone {
		return nil
	}
	c.revoke()
	g := c.group
	to := c.member
	for _, m := range g.members {
		if to == c.member && m != to || m != c.member && len(m.held) < len(to.held) {
			to = m
		}
	}
	g.assign(c.j, c.p.num, to)
	return nil
}
