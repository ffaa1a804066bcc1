package lease

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Lease is one partition held by a member. All methods may be called concurrently.
type Lease struct {
	m         *Member
	partition int
	holder    string // the member's id when it took the lease
	epoch     uint64
	start     int64

	lost chan struct{}
	once sync.Once

	// turn is held while the entry is written.
	turn     chan struct{}
	position int64
	version  uint64
	// missing is since when List has not shown the entry; the member's loop alone uses it.
	missing time.Time
}

// Partition is the partition held.
func (l *Lease) Partition() int { return l.partition }

// Epoch is above that of every holder of the partition before.
func (l *Lease) Epoch() uint64 { return l.epoch }

// Start is the group's position when the lease was taken, or NoPosition.
func (l *Lease) Start() int64 { return l.start }

// Lost is closed when the lease is lost, given up or released.
func (l *Lease) Lost() <-chan struct{} { return l.lost }

// Check returns a Conflict error when the lease is no longer held. It asks the
// clock, not the table: it is cheap, and says so at once when the process was
// stopped for too long.
func (l *Lease) Check() error {
	select {
	case <-l.lost:
	default:
		if !l.m.expired() {
			return nil
		}
		l.lose()
	}
	return l.conflict()
}

func (l *Lease) conflict() error {
	return errkind.Errorf(errkind.Conflict, "partition %d of topic %q is no longer held by this member of group %q", l.partition, l.m.cfg.Topic, l.m.cfg.Group)
}

func (l *Lease) lose() { l.once.Do(func() { close(l.lost) }) }

// Commit stores the group's position. It returns a Conflict error, and stores
// nothing, when the lease is no longer held.
func (l *Lease) Commit(ctx context.Context, position int64) error {
	if position < 0 {
		return errkind.Errorf(errkind.Invalid, "commit position %d: it is below 0", position)
	}
	if err := l.Check(); err != nil {
		return err
	}
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	if err := l.Check(); err != nil { // it may have been released meanwhile
		return err
	}
	if err := l.write(ctx, l.holder, position); err != nil {
		return fmt.Errorf("commit position %d: %w", position, err)
	}
	return nil
}

// Release gives the partition back to the group, which may hand it to this
// member again. Of a lost lease it does nothing. An error says that the table
// could not be told; the partition is free when the member is seen to be gone or
// takes it again itself.
func (l *Lease) Release() error {
	select {
	case <-l.lost:
		return nil
	default:
	}
	l.m.forget(l)
	ctx, cancel := context.WithTimeout(l.m.ctx, l.m.patience())
	defer cancel()
	if err := l.lock(ctx); err != nil {
		return err
	}
	defer l.unlock()
	err := l.write(ctx, "", l.position)
	l.m.again()
	if errkind.Is(err, errkind.Conflict) || l.m.ctx.Err() != nil {
		return nil // it is somebody else's, or the member leaves with all it has
	}
	return err
}

// write replaces the entry; l is locked. After an answer that was lost the entry
// has a version that is not known here, and is looked up: what names this holder
// and epoch was written by this lease.
func (l *Lease) write(ctx context.Context, holder string, position int64) error {
	h := holding{Holder: holder, Epoch: l.epoch, Position: position}
	for again := false; ; again = true {
		v, err := l.m.table.Put(ctx, partitionKey(l.m.prefix, l.partition), h.encode(), l.version)
		if err == nil {
			l.version, l.position = v, position
			return nil
		}
		if !errkind.Is(err, errkind.Conflict) {
			return err
		}
		if !again {
			seen, err := look(ctx, l.m.table, l.m.prefix)
			if err != nil {
				return err
			}
			now := seen.partitions[l.partition]
			if now.Holder == l.holder && now.Epoch == l.epoch && now.version > l.version {
				l.version = now.version
				continue
			}
		}
		l.lose()
		return l.conflict()
	}
}

func (l *Lease) lock(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Lease) unlock() { <-l.turn }
