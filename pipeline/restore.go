package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// restorer makes a task's state what it was behind the last commit: from the
// checkpoint, where there is one, and then from the state topic.
type restorer struct {
	t     *task
	log   *changelog
	part  broker.PartitionState // of the state topic
	based bool                  // a checkpoint was applied
	seen  int64                 // records on the topic
	used  int64                 // of them and of the checkpoint, those applied
	// sent is what the last commit on the topic sent to the next stage: it may not
	// have arrived there.
	sent []moved
}

// restore prepares the task: its state, and the position at which it goes on.
func (t *task) restore(ctx context.Context) error {
	began := time.Now()
	topic, err := t.p.broker.Describe(ctx, t.changelog.topic, "")
	if err != nil {
		return fmt.Errorf("describe the state topic: %w", err)
	}
	r := &restorer{t: t, log: t.changelog, part: topic.Partitions[t.claim.Partition()]}
	t.stateEnd = r.part.End
	if t.checkpoint, err = t.openCheckpoint(ctx); err != nil {
		return &restoreError{err}
	}
	at, err := r.run(ctx)
	if err != nil {
		return &restoreError{err}
	}
	if at != t.claim.Start() {
		if err := t.claim.SeekTo(at); err != nil {
			return fmt.Errorf("go on at position %d: %w", at, err)
		}
	}
	t.position = at
	t.intake.begin(at)
	// A task before may have ended between its state and what comes behind that.
	if len(r.sent) > 0 {
		if err := t.publishMoved(ctx, r.sent); err != nil {
			return fmt.Errorf("publish again what was sent to the next stage: %w", err)
		}
	}
	if at != t.claim.Start() {
		if err := t.claim.Commit(ctx, at); err != nil {
			return fmt.Errorf("go on at position %d: %w", at, err)
		}
	}
	if r.used > 0 {
		t.log.Info("state restored", "records", r.used, "position", at, "took", time.Since(began).Round(time.Millisecond))
	} else if t.claim.Start() > 0 && t.p.broker.Capabilities().Gapless {
		t.log.Warn("no state found for the events already processed; windows begin empty", "position", t.claim.Start())
	}
	t.countState()
	return nil
}

// run restores and returns the source position behind the state.
func (r *restorer) run(ctx context.Context) (at int64, err error) {
	t := r.t
	start := t.claim.Start()
	if t.checkpoint != nil {
		if err := r.fromCheckpoint(ctx); err != nil {
			return 0, err
		}
	}
	if err := r.fromTopic(ctx); err != nil {
		return 0, err
	}
	if r.seen > 0 && !r.log.whole {
		return 0, errkind.Errorf(errkind.Corrupt, "state topic %s, partition %d: its %d records hold no whole cycle: older ones are missing, or in a checkpoint that this pipeline does not name",
			r.log.topic, t.claim.Partition(), r.seen)
	}
	if r.used == 0 {
		switch {
		case r.part.End > 0 && t.p.broker.Capabilities().Gapless:
			return 0, errkind.Errorf(errkind.Conflict,
				"the state topic %s held %d records of partition %d, and neither they nor a checkpoint of them are there: name the checkpoints that the pipeline had (state.checkpoints), or delete the topic to begin with empty windows",
				r.log.topic, r.part.End, t.claim.Partition())
		}
		return start, nil
	}
	if err := r.log.reading.finish(r.log); err != nil {
		return 0, err
	}
	if err := t.intake.restore(r.log.inputs); err != nil {
		return 0, err
	}
	at = r.log.at
	// With transactions the group stands where the state does. Without, it follows
	// behind; only a hand other than the pipeline's has moved it ahead.
	if at < start || at > start && t.p.transactions() {
		return 0, errkind.Errorf(errkind.Conflict,
			"the state of partition %d belongs to position %d of the source, but the group stands at %d: move the group back, or delete the topic %s to begin with empty windows",
			t.claim.Partition(), at, start, r.log.topic)
	}
	return at, nil
}

// fromCheckpoint applies the checkpoint, unless the topic does not join it.
func (r *restorer) fromCheckpoint(ctx context.Context) error {
	c := r.t.checkpoint
	next := c.archive.Next()
	first, any, err := r.firstNumber(ctx)
	if err != nil {
		return err
	}
	switch {
	case next == 0 || any && next < first:
		// Nothing there, or the topic was trimmed beyond it by a run without checkpoints.
		if err := c.archive.Reset(first); err != nil {
			return fmt.Errorf("begin a checkpoint: %w", err)
		}
		return nil
	case next > r.part.End && r.t.p.broker.Capabilities().Gapless:
		return r.otherTopic(next)
	}
	records := int64(0)
	if records, err = c.apply(ctx, r.log); err != nil {
		return err
	}
	r.based = records > 0
	r.used += records
	return nil
}

func (r *restorer) otherTopic(next int64) error {
	return errkind.Errorf(errkind.Conflict,
		"the checkpoint reaches to record %d of the state topic %s, which ends before: the topic is not the one that it was made of; delete the checkpoint, or give the pipeline another name",
		next, r.log.topic)
}

// firstNumber is the number of the first record that the topic keeps.
func (r *restorer) firstNumber(ctx context.Context) (number int64, any bool, err error) {
	err = r.read(ctx, func(b []byte, _ int64) (bool, error) {
		d := cursor{b: b[2:]}
		number, any = int64(d.uvarint()), !d.bad
		return false, nil
	})
	return number, any, err
}

// fromTopic applies what the topic has beyond the checkpoint, and adds it there.
func (r *restorer) fromTopic(ctx context.Context) error {
	last := int64(-1)
	err := r.read(ctx, func(b []byte, position int64) (bool, error) {
		d := cursor{b: b[2:]}
		number := int64(d.uvarint())
		r.seen++
		last = number
		if number < r.log.next {
			return true, nil // the checkpoint has it
		}
		number, sent, err := r.log.applyBytes(b)
		if err != nil {
			return false, fmt.Errorf("state topic %s, partition %d, position %d: %w", r.log.topic, r.t.claim.Partition(), position, err)
		}
		if !r.log.reading.began {
			return true, nil
		}
		if b[1]&flagCommit != 0 {
			r.sent = r.sent[:0]
		}
		r.sent = append(r.sent, sent...)
		if r.t.checkpoint != nil {
			if err := r.t.checkpoint.append(ctx, b, number); err != nil {
				return false, err
			}
		}
		r.used++
		return true, nil
	})
	if err == nil && r.based && last >= 0 && last+1 < r.log.next {
		err = r.otherTopic(r.log.next)
	}
	return err
}

// read calls f with each whole record of the topic's partition, until it says no.
func (r *restorer) read(ctx context.Context, f func(b []byte, position int64) (more bool, err error)) error {
	var j joiner
	return r.t.p.readTopic(ctx, r.log.topic, r.t.claim.Partition(), r.part, func(batch *broker.Batch) (more bool, err error) {
		defer batch.Release()
		for i := range batch.Records {
			rec := &batch.Records[i]
			if rec.Position >= r.part.End {
				return false, nil
			}
			whole, err := j.add(rec.Value)
			if err != nil {
				return false, fmt.Errorf("position %d: %w", rec.Position, err)
			}
			if whole == nil {
				continue
			}
			if more, err := f(whole, rec.Position); err != nil || !more {
				return false, err
			}
		}
		return true, nil
	})
}
