package lease

import (
	"context"
	"slices"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// step renews, looks at the table and does what follows from it.
func (m *Member) step() error {
	ctx, cancel := context.WithTimeout(m.ctx, m.patience())
	defer cancel()
	if since := time.Since(m.born) - m.sent; m.version == 0 || since >= m.cfg.Heartbeat/2 {
		if err := m.renew(ctx); err != nil {
			return err
		}
	}
	v, err := look(ctx, m.table, m.prefix)
	if err != nil {
		return err
	}
	if err := m.watch(ctx, v); err != nil {
		return err
	}
	return m.balance(ctx, v)
}

// watch removes members that have been silent for TTL, in the table and from v.
func (m *Member) watch(ctx context.Context, v *view) error {
	now := time.Now()
	for id := range m.seen {
		if _, there := v.members[id]; !there {
			delete(m.seen, id)
		}
	}
	for id, version := range v.members {
		if id == m.id {
			continue
		}
		s, known := m.seen[id]
		if !known || s.version != version {
			m.seen[id] = sighting{version, now}
			continue
		}
		if now.Sub(s.at) < m.cfg.TTL {
			continue
		}
		switch err := m.table.Delete(ctx, m.prefix+memberPart+id, version); {
		case err == nil:
			delete(v.members, id)
			delete(m.seen, id)
			m.cfg.Logger.Info("consumer group: a member is gone", "group", m.cfg.Group, "topic", m.cfg.Topic, "silent", now.Sub(s.at))
		case errkind.Is(err, errkind.Conflict): // it has come back
			delete(m.seen, id)
		default:
			return err
		}
	}
	return nil
}

// balance gives up and takes partitions as the assignment says.
func (m *Member) balance(ctx context.Context, v *view) error {
	v.members[m.id] = m.version // which List may not show yet
	members := make([]string, 0, len(v.members))
	for id := range v.members {
		members = append(members, id)
	}
	slices.Sort(members)
	holders := make([]string, m.cfg.Partitions)
	for p := range holders {
		holders[p] = v.partitions[p].Holder
	}
	m.dropLost(v)
	target := assign(m.cfg.Partitions, members, holders)
	for p, id := range target {
		m.mu.Lock()
		l := m.leases[p]
		m.mu.Unlock()
		_, held := v.members[holders[p]]
		mine := holders[p] == m.id
		var err error
		switch {
		case id != m.id && (l != nil || mine):
			if l != nil {
				m.forget(l)
			}
			// Where a Commit is on its way this is a Conflict, and the next step does it.
			err = m.free(ctx, p, v.partitions[p])
		case id == m.id && l == nil && (mine || !held):
			err = m.take(ctx, p, v.partitions[p])
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// free frees a partition of which this member is the holder in the table.
func (m *Member) free(ctx context.Context, p int, h holding) error {
	if h.Holder != m.id {
		return nil // List does not show it yet
	}
	h.Holder = ""
	_, err := m.table.Put(ctx, partitionKey(m.prefix, p), h.encode(), h.version)
	if errkind.Is(err, errkind.Conflict) {
		return nil
	}
	return err
}

// dropLost loses the leases that, as v shows, are somebody else's, or whose entries are gone.
func (m *Member) dropLost(v *view) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, l := range m.leases {
		h, there := v.partitions[p]
		switch {
		case !there: // or not listed yet
			if l.missing.IsZero() {
				l.missing = time.Now()
			} else if time.Since(l.missing) >= 2*m.cfg.Heartbeat {
				l.lose()
				delete(m.leases, p)
			}
		case h.Epoch > l.epoch:
			l.lose()
			delete(m.leases, p)
		default:
			l.missing = time.Time{}
		}
	}
}

// take makes the partition this member's. A Conflict says that another was
// faster: the next step sees who.
func (m *Member) take(ctx context.Context, p int, h holding) error {
	if m.expired() {
		return nil
	}
	if h.version == 0 {
		h.Position = NoPosition
	}
	next := holding{Holder: m.id, Epoch: h.Epoch + 1, Position: h.Position}
	v, err := m.table.Put(ctx, partitionKey(m.prefix, p), next.encode(), h.version)
	if errkind.Is(err, errkind.Conflict) {
		return nil
	}
	if err != nil {
		return err
	}
	l := &Lease{
		m: m, partition: p, holder: m.id, epoch: next.Epoch, start: h.Position, position: h.Position,
		version: v, lost: make(chan struct{}), turn: make(chan struct{}, 1),
	}
	m.mu.Lock()
	m.leases[p] = l
	m.queue = append(m.queue, l)
	m.mu.Unlock()
	select {
	case m.queued <- struct{}{}:
	default:
	}
	return nil
}
