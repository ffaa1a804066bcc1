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

// restore applies the checkpoint and returns the position of the state topic
// behind it; begin and end are those of the topic.
func (c *checkpoint) restore(ctx context.Context, log *changelog, begin, end int64) (next int64, records int64, err error) {
	next = c.archive.Next()
	switch {
	case next == 0 || next < begin:
		// Nothing there, or the topic was trimmed beyond it by a run without checkpoints.
		if err := c.archive.Reset(begin); err != nil {
			return 0, 0, fmt.Errorf("begin a checkpoint: %w", err)
		}
		return begin, 0, nil
	case next > end:
		return 0, 0, errkind.Errorf(errkind.Conflict,
			"the checkpoint reaches to position %d of the state topic %s, which ends at %d: the topic is not the one that it was made of; delete the checkpoint, or give the pipeline another name",
			next, log.topic, end)
	}
	next, err = c.archive.Restore(ctx, func(r state.Record) error {
		records++
		if err := log.applyBytes(r.Value, records == 1 && r.Position > 0); err != nil {
			return fmt.Errorf("checkpoint, position %d of the state: %w", r.Position, err)
		}
		return nil
	})
	if err != nil {
		return 0, records, fmt.Errorf("restore the checkpoint: %w", err)
	}
	return next, records, nil
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
	if s.Next > c.trimmed {
		if err := c.t.p.broker.Trim(ctx, c.t.changelog.topic, c.t.claim.Partition(), s.Next); err != nil {
			return fmt.Errorf("trim the state topic: %w", err)
		}
		c.trimmed = s.Next
	}
	return nil
}

// note counts the size of the checkpoint, which holds everything up to a time.
func (c *checkpoint) note(upTo time.Time) {
	c.t.p.counters.checkpoint([2]int{c.t.stage.index, c.t.claim.Partition()}, c.archive.Stats().Bytes, upTo)
}

// append takes in a record that was committed.
func (c *checkpoint) append(ctx context.Context, f *frame) error {
	select {
	case err := <-c.failed:
		return err
	default:
	}
	err := c.archive.Append(ctx, state.Record{Position: f.changeAt, CycleBegin: f.change[1]&flagCycleBegin != 0, CycleEnd: f.change[1]&flagCycleEnd != 0, Value: f.change})
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
		err = c.flush(context.Background())
	}
	if cerr := c.archive.Close(); cerr != nil && err == nil {
		err = cerr
	}
	return err
}

// restore makes the task's state what it was behind the claim's position: from
// the checkpoint, where there is one, and then from the state topic.
func (t *task) restore(ctx context.Context) (err error) {
	began := time.Now()
	topic, err := t.p.broker.Describe(ctx, t.changelog.topic, "")
	if err != nil {
		return fmt.Errorf("describe the state topic: %w", err)
	}
	part := topic.Partitions[t.claim.Partition()]
	if t.checkpoint, err = t.openCheckpoint(ctx); err != nil {
		return &restoreError{err}
	}
	from, records := part.Start, int64(0)
	if t.checkpoint != nil {
		if from, records, err = t.checkpoint.restore(ctx, t.changelog, part.Start, part.End); err != nil {
			return &restoreError{err}
		}
	}
	n, err := t.changelog.restore(ctx, t.p.broker, t.claim.Start(), from, part.End, records > 0, t.checkpoint)
	if err != nil {
		return &restoreError{err}
	}
	if records += n; records > 0 {
		t.log.Info("state restored", "records", records, "position", t.claim.Start(), "took", time.Since(began).Round(time.Millisecond))
	} else if part.End > 0 {
		return &restoreError{errkind.Errorf(errkind.Conflict,
			"the state topic %s held %d records of partition %d, and neither they nor a checkpoint of them are there: name the checkpoints that the pipeline had (state.checkpoints), or delete the topic to begin with empty windows",
			t.changelog.topic, part.End, t.claim.Partition())}
	} else if t.claim.Start() > 0 {
		t.log.Warn("no state found for the events already processed; windows begin empty", "position", t.claim.Start())
	}
	t.countState()
	return nil
}
