package lease

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Config says what a member joins and how fast others notice its end.
type Config struct {
	Group, Topic string
	// Partitions is the topic's number of partitions.
	Partitions int
	// TTL is how long a member may be silent before others take over what it
	// holds; 6 s by default. All members of a group have the same.
	TTL time.Duration
	// Heartbeat is how often a member renews and looks at the table; TTL/12 by
	// default. A partition changes hands within about two of them.
	Heartbeat time.Duration
	// Logger hears of tables that do not answer; nil is silent.
	Logger *slog.Logger
}

const defaultTTL = 6 * time.Second

// Member is one member of a consumer group on one topic.
type Member struct {
	table  Table
	cfg    Config
	prefix string

	born time.Time
	// until is when the leases end by this member's own clock, counted from born in nanoseconds.
	until atomic.Int64
	timer *time.Timer // expires at until

	ctx    context.Context // of the table's calls
	cancel context.CancelFunc
	wake   chan struct{} // asks the loop for a step
	done   chan struct{} // closed by Close
	once   sync.Once
	wg     sync.WaitGroup

	// The loop alone uses these.
	id      string
	version uint64        // of the member's entry; 0 before there is one
	sent    time.Duration // since born: when the last successful heartbeat was begun
	seen    map[string]sighting
	silent  bool // the table did not answer

	mu     sync.Mutex
	leases map[int]*Lease // held
	queue  []*Lease       // not yet returned by Next
	queued chan struct{}  // has an element when the queue may have one
}

// sighting is when another member's entry was first seen at a version.
type sighting struct {
	version uint64
	at      time.Time
}

// Join makes a member of a group. It returns when the member is known to the
// others, or with the table's error. Close ends it.
func Join(ctx context.Context, t Table, c Config) (*Member, error) {
	if c.Partitions < 1 {
		return nil, errkind.Errorf(errkind.Invalid, "join group %q: topic %q has %d partitions", c.Group, c.Topic, c.Partitions)
	}
	if c.TTL <= 0 {
		c.TTL = defaultTTL
	}
	if c.Heartbeat <= 0 {
		c.Heartbeat = c.TTL / 12
	}
	if c.Heartbeat > c.TTL/3 {
		return nil, errkind.Errorf(errkind.Config, "join group %q: a heartbeat every %v is too slow for members that are gone after %v", c.Group, c.Heartbeat, c.TTL)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Member{
		table: t, cfg: c, prefix: groupPrefix(c.Topic, c.Group), born: time.Now(),
		wake: make(chan struct{}, 1), done: make(chan struct{}), queued: make(chan struct{}, 1),
		id: rand.Text(), seen: map[string]sighting{}, leases: map[int]*Lease{},
	}
	if err := m.renew(ctx); err != nil {
		return nil, err
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.wg.Go(m.run)
	return m, nil
}

// Next waits for the next partition that falls to this member. After Close it
// returns a Closed error.
func (m *Member) Next(ctx context.Context) (*Lease, error) {
	for {
		select {
		case <-m.done:
			return nil, m.closed()
		default:
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if l := m.pop(); l != nil {
			return l, nil
		}
		select {
		case <-m.queued:
		case <-ctx.Done():
		case <-m.done:
		}
	}
}

func (m *Member) closed() error {
	return errkind.Errorf(errkind.Closed, "this member of group %q has left", m.cfg.Group)
}

func (m *Member) pop() *Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.queue) > 0 {
		l := m.queue[0]
		m.queue = m.queue[1:]
		if l.Check() == nil {
			return l
		}
	}
	return nil
}

// Close leaves the group: its leases are lost, and free for others at once where
// the table can be told. A second Close does nothing.
func (m *Member) Close() error {
	m.once.Do(func() {
		close(m.done)
		m.cancel()
		m.wg.Wait()
		m.loseAll()
		m.timer.Stop()
		ctx, cancel := context.WithTimeout(context.Background(), m.patience())
		defer cancel()
		m.leave(ctx)
	})
	return nil
}

// leave removes the member's entry, by which everything it holds is free. That
// it does not succeed is no failure: the others notice after TTL.
func (m *Member) leave(ctx context.Context) {
	err := m.table.Delete(ctx, m.memberKey(), m.version)
	if errkind.Is(err, errkind.Conflict) { // a heartbeat whose answer was lost
		if v, lookErr := look(ctx, m.table, m.prefix); lookErr == nil && v.members[m.id] != 0 {
			err = m.table.Delete(ctx, m.memberKey(), v.members[m.id])
		}
	}
	if err != nil {
		m.cfg.Logger.Debug("leave consumer group", "group", m.cfg.Group, "topic", m.cfg.Topic, "error", err)
	}
}

func (m *Member) memberKey() string { return m.prefix + memberPart + m.id }

// patience bounds a call of the table, so that several fit into TTL.
func (m *Member) patience() time.Duration { return m.cfg.TTL / 4 }

// expired says whether the leases have ended by this member's own clock.
func (m *Member) expired() bool { return int64(time.Since(m.born)) >= m.until.Load() }

func (m *Member) expire() {
	if m.expired() {
		m.loseAll()
	}
}

func (m *Member) loseAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, l := range m.leases {
		l.lose()
		delete(m.leases, p)
	}
	m.queue = nil
}

// forget drops a lease that is no longer held.
func (m *Member) forget(l *Lease) {
	l.lose()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.leases[l.partition] == l {
		delete(m.leases, l.partition)
	}
}

// again asks the loop for a step.
func (m *Member) again() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *Member) run() {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-m.done:
			return
		case <-t.C:
		case <-m.wake:
		}
		err := m.step()
		if m.ctx.Err() != nil {
			return
		}
		if silent := err != nil; silent != m.silent {
			m.silent = silent
			if silent {
				m.cfg.Logger.Warn("consumer group: the broker does not answer", "group", m.cfg.Group, "topic", m.cfg.Topic, "error", err)
			} else {
				m.cfg.Logger.Info("consumer group: the broker answers again", "group", m.cfg.Group, "topic", m.cfg.Topic)
			}
		}
		t.Reset(m.cfg.Heartbeat)
	}
}

// renew rewrites the member's entry. A Conflict says that the others have removed
// it, or that an answer was lost: the entry itself tells.
func (m *Member) renew(ctx context.Context) error {
	m.expireBefore()
	begun := time.Since(m.born)
	v, err := m.table.Put(ctx, m.memberKey(), nil, m.version)
	if errkind.Is(err, errkind.Conflict) {
		var seen *view
		if seen, err = look(ctx, m.table, m.prefix); err != nil {
			return err
		}
		if m.version = seen.members[m.id]; m.version == 0 {
			m.loseAll()
			m.id = rand.Text()
		}
		v, err = m.table.Put(ctx, m.memberKey(), nil, m.version)
	}
	if err != nil {
		return err
	}
	m.version, m.sent = v, begun
	until := begun + m.cfg.TTL
	m.until.Store(int64(until))
	left := until - time.Since(m.born)
	if m.timer == nil {
		m.timer = time.AfterFunc(left, m.expire)
	} else {
		m.timer.Reset(left)
	}
	return nil
}

// expireBefore gives up, before a heartbeat could prolong them, leases that have ended.
func (m *Member) expireBefore() {
	if m.version != 0 {
		m.expire()
	}
}
