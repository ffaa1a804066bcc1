package pipeline

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/state"
)

// ObjectsOpener opens the store of checkpoints that a URL names.
type ObjectsOpener func(ctx context.Context, url string) (state.Objects, error)

// checkpoint carries a task's changelog to the store of checkpoints, behind its
// commits. The state topic then has to hold only what the checkpoint lacks. It
// belongs to the task's committer.
//
// Order of events: a record is committed on the topic; it is appended here; a
// flush makes it durable in the store; the topic is trimmed up to there. So at
// any moment checkpoint and topic together hold the whole changelog.
type checkpoint struct {
	t       *task
	archive *state.Archive
	trimmed int64
	failed  chan error // of the flusher; one at most
	stop    chan struct{}
	done    chan struct{} // of the flusher; nil before start
}

// checkpointTimeout bounds one flush.
const checkpointTimeout = 2 * time.Minute

// openCheckpoint takes over the checkpoint of the task's partition.
func (t *task) openCheckpoint(ctx context.Context) (*checkpoint, error) {
	if t.p.objects == nil {
		return nil, nil
	}
	host, _ := os.Hostname() // a name for people only
	var token [8]byte
	if _, err := rand.Read(token[:]); err != nil {
		return nil, err
	}
	owner := host + ":" + strconv.Itoa(os.Getpid()) + ":" + hex.EncodeToString(token[:])
	name := t.p.plan.Spec.Name + "/" + topicPart(t.stage.state) + "/" + strconv.Itoa(t.claim.Partition())
	a, err := state.OpenArchive(ctx, t.p.objects, name, owner, state.ArchiveConfig{}, nil)
	if err != nil {
		return nil, fmt.Errorf("open the checkpoint: %w", err)
	}
	return &checkpoint{t: t, archive: a, failed: make(chan error, 1), stop: make(chan struct{})}, nil
}

// apply makes the state that of the checkpoint, and returns how many records it held.
func (c *checkpoint) apply(ctx context.Context, log *changelog) (records int64, err error) {
	next, err := c.archive.Restore(ctx, func(r state.Record) error {
		records++
		_, _, err := log.applyBytes(r.Value)
		if err == nil && !log.reading.began {
			err = errkind.New(errkind.Corrupt, "its first record begins no cycle")
		}
		if err != nil {
			return fmt.Errorf("checkpoint, record %d of the state: %w", r.Position, err)
		}
		return nil
	})
	if err != nil {
		return records, fmt.Errorf("restore the checkpoint: %w", err)
	}
	log.next = next
	return records, nil
}

// start begins to flush at intervals.
func (c *checkpoint) start(ctx context.Context, every time.Duration) {
	ctx = context.WithoutCancel(ctx) // a flush under way has its own deadline
	c.done = make(chan struct{})
	c.note(time.Now())
	go func() {
		defer close(c.done)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-c.stop:
				return
			case <-tick.C:
			}
			if err := c.flush(ctx); err != nil {
				if errkind.Is(err, errkind.Conflict) {
					c.failed <- fmt.Errorf("write the checkpoint: %w", err)
					return
				}
				// What is not in the store yet stays on the topic; the next flush tries again.
				c.t.log.Warn("write the checkpoint", "error", err)
			}
		}
	}()
}

// flush makes the checkpoint durable and trims the topic up to it.
func (c *checkpoint) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkpointTimeout)
	defer cancel()
	began := time.Now()
	if err := c.archive.Flush(ctx); err != nil {
		return err
	}
	c.note(began)
	s := c.archive.Stats()
	if before := c.t.places.of(uint64(s.Next)); before > c.trimmed {
		if err := c.t.p.broker.Trim(ctx, c.t.changelog.topic, c.t.claim.Partition(), before); err != nil {
			return fmt.Errorf("trim the state topic: %w", err)
		}
		c.trimmed = before
	}
	return nil
}

// note counts the size of the checkpoint, which holds everything up to a time.
func (c *checkpoint) note(upTo time.Time) {
	c.t.p.counters.checkpoint([2]int{c.t.stage.index, c.t.claim.Partition()}, c.archive.Stats().Bytes, upTo)
}

// append takes in a record that was committed.
func (c *checkpoint) append(ctx context.Context, record []byte, number int64) error {
	select {
	case err := <-c.failed:
		return err
	default:
	}
	err := c.archive.Append(ctx, state.Record{Position: number, CycleBegin: record[1]&flagCycleBegin != 0, CycleEnd: record[1]&flagCycleEnd != 0, Value: record})
	if err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	return nil
}

// close flushes what is left, unless the task has failed, and ends.
func (c *checkpoint) close(ok bool) error {
	if c.done != nil {
		close(c.stop)
		<-c.done
	}
	var err error
	if ok {
		ctx, cancel := context.WithTimeout(context.Background(), checkpointTimeout)
		defer cancel()
		// Nothing is being committed any more, so everything can be trimmed, unless
		// another has taken the partition over.
		end, derr := c.t.endOfState(ctx)
		if derr == nil && c.t.claim.Commit(ctx, c.t.position) == nil {
			c.t.places.add(place{uint64(c.archive.Next()), end})
		}
		err = c.flush(ctx)
	}
	if cerr := c.archive.Close(); cerr != nil && err == nil {
		err = cerr
	}
	return err
}
