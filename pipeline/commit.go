package pipeline

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

const (
	// commitTimeout bounds one commit where the broker answers.
	commitTimeout = time.Minute
	// trimEvery is after how many commits the topic between two stages is given free.
	trimEvery = 32
)

// commit makes what t.frames say durable, the position behind them last, or with
// everything else at once.
func (t *task) commit() error {
	next := t.frames[len(t.frames)-1].next
	// The commit is finished even while the process is asked to stop, so it
	// runs under its own deadline.
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout+t.p.broker.Patience())
	defer cancel()
	here, err := t.newPlace(ctx)
	if err != nil {
		return err
	}
	if t.p.transactions() {
		err = t.commitAtOnce(ctx, next)
	} else {
		err = t.commitInSteps(ctx, next)
	}
	if err != nil {
		return fmt.Errorf("commit up to position %d: %w", next, err)
	}
	if t.position = next; here != nil {
		t.places.add(*here) // nobody else has written between: the claim was held
	}
	now := time.Now().UnixNano()
	trim := uint64(0)
	for _, f := range t.frames {
		t.count(f, now)
		if t.checkpoint != nil {
			if err := t.checkpoint.append(ctx, f.change[:f.stated], int64(f.number-1)); err != nil {
				return err
			}
		}
		trim = max(trim, f.trim)
	}
	if t.checkpoint == nil && trim > 0 {
		if at := t.places.of(trim); at > 0 {
			t.trim(ctx, t.changelog.topic, at)
		}
	}
	if t.untrimmed++; t.stage.index > 0 && t.untrimmed >= trimEvery {
		t.trim(ctx, t.stage.topic, next)
		t.untrimmed = 0
	}
	return nil
}

// trim gives records of the task's partition free. What cannot be costs space
// only, and is tried again later.
func (t *task) trim(ctx context.Context, topic string, before int64) {
	if err := t.p.broker.Trim(ctx, topic, t.claim.Partition(), before); err != nil {
		t.log.Warn("trim an internal topic", "topic", topic, "error", err)
	}
}

// newPlace is where the commit's first state record is going to lie, asked for now
// and then and where a cycle begins; else nil.
func (t *task) newPlace(ctx context.Context) (*place, error) {
	if t.changelog == nil {
		return nil, nil
	}
	first := t.frames[0].number - 1
	begins := false
	for _, f := range t.frames {
		begins = begins || f.change[1]&flagCycleBegin != 0
	}
	if !begins && !t.places.wants(first) {
		return nil, nil
	}
	end, err := t.endOfState(ctx)
	return &place{first, end}, err
}

// endOfState is the end of the task's partition of the state topic.
func (t *task) endOfState(ctx context.Context) (int64, error) {
	if !t.p.transactions() {
		return t.stateEnd, nil
	}
	topic, err := t.p.broker.Describe(ctx, t.changelog.topic, "")
	if err != nil {
		return 0, fmt.Errorf("describe the state topic: %w", err)
	}
	return topic.Partitions[t.claim.Partition()].End, nil
}

// commitAtOnce commits frames in one transaction.
func (t *task) commitAtOnce(ctx context.Context, next int64) error {
	t.tx.Publish, t.tx.Positions = t.tx.Publish[:0], t.tx.Positions[:0]
	for _, f := range t.frames {
		for i, recs := range f.out {
			if len(recs) > 0 {
				t.tx.Publish = append(t.tx.Publish, broker.Publication{Topic: t.p.topics[i], Partition: broker.AnyPartition, Records: recs})
			}
		}
		if len(f.records) > 0 {
			t.tx.Publish = append(t.tx.Publish, broker.Publication{Topic: t.p.plan.Spec.Predictions(), Partition: t.claim.Partition(), Records: f.records})
		}
		for i := range f.moved {
			t.tx.Publish = append(t.tx.Publish, broker.Publication{Topic: t.shuffle.to.topic, Partition: f.moved[i].partition, Records: f.moved[i].record[:]})
		}
		if len(f.dead) > 0 {
			t.tx.Publish = append(t.tx.Publish, broker.Publication{Topic: t.p.plan.Spec.DeadLetters(), Partition: broker.AnyPartition, Records: f.dead})
		}
		if t.changelog != nil {
			t.tx.Publish = append(t.tx.Publish, broker.Publication{Topic: t.changelog.topic, Partition: t.claim.Partition(), Records: f.state})
		}
	}
	t.tx.Positions = append(t.tx.Positions, broker.ClaimPosition{Claim: t.claim, Next: next})
	return t.p.broker.Commit(ctx, &t.tx)
}

// stepwise is storage for commits of brokers without transactions.
type stepwise struct {
	out   [][]event.Record // by output topic, then dead letters, then records of predictions
	state []event.Record
	moved []event.Record
	errs  []error
}

// commitInSteps commits frames on a broker without transactions.
//
// Order of events: results and dead letters are published; the state records,
// which hold the position and what goes to the next stage, are appended, all of
// them or none, and none where another task has appended since; what goes to the
// next stage is published; the group's position is moved. A task that takes over
// goes on behind the last state record and publishes again what that commit sent
// on. So nothing is lost; what is sent to the next stage is dropped there when it
// comes twice, by its number; and a result that comes twice has the same id.
func (t *task) commitInSteps(ctx context.Context, next int64) error {
	s := &t.stepwise
	if len(s.out) == 0 {
		s.out, s.errs = make([][]event.Record, len(t.p.topics)+2), make([]error, len(t.p.topics)+2)
	}
	for i := range s.out {
		s.out[i] = s.out[i][:0]
	}
	s.state, s.moved = s.state[:0], s.moved[:0]
	for _, f := range t.frames {
		for i, recs := range f.out {
			s.out[i] = append(s.out[i], recs...)
		}
		s.out[len(t.p.topics)] = append(s.out[len(t.p.topics)], f.dead...)
		for _, rec := range f.records {
			rec.Key = t.p.partitionKeys[t.claim.Partition()]
			s.out[len(t.p.topics)+1] = append(s.out[len(t.p.topics)+1], rec)
		}
		for i := range f.moved {
			s.moved = t.appendMoved(s.moved, &f.moved[i])
		}
		if t.changelog != nil {
			s.state = append(s.state, f.state...)
		}
	}
	if err := t.publishResults(ctx); err != nil {
		return err
	}
	if len(s.state) > 0 {
		s.state[0].Value[1] |= flagCommit
		if err := t.appendState(ctx, s.state); err != nil {
			return err
		}
	}
	if len(s.moved) > 0 {
		if _, err := t.p.broker.Publish(ctx, t.shuffle.to.topic, s.moved); err != nil {
			return err
		}
	}
	return t.claim.Commit(ctx, next)
}

// publishResults publishes to all topics at once.
func (t *task) publishResults(ctx context.Context) error {
	s := &t.stepwise
	var wg sync.WaitGroup
	for i, recs := range s.out {
		if s.errs[i] = nil; len(recs) == 0 {
			continue
		}
		topic := t.p.plan.Spec.DeadLetters()
		switch {
		case i < len(t.p.topics):
			topic = t.p.topics[i]
		case i > len(t.p.topics):
			topic = t.p.plan.Spec.Predictions()
		}
		wg.Go(func() { _, s.errs[i] = t.p.broker.Publish(ctx, topic, recs) })
	}
	wg.Wait()
	for _, err := range s.errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// appendState appends to the task's partition of the state topic. Brokers that
// cannot tell whether another has written there take it as it comes.
func (t *task) appendState(ctx context.Context, recs []event.Record) error {
	caps := t.p.broker.Capabilities()
	if !caps.Append {
		for i := range recs {
			recs[i].Key = t.p.partitionKeys[t.claim.Partition()]
		}
		_, err := t.p.broker.Publish(ctx, t.changelog.topic, recs)
		return err
	}
	for len(recs) > 0 {
		n := len(recs)
		if caps.MaxBatch > 0 {
			n = min(n, caps.MaxBatch)
		}
		end, err := t.p.broker.Append(ctx, t.changelog.topic, t.claim.Partition(), t.stateEnd, recs[:n:n])
		if err != nil {
			return err
		}
		t.stateEnd = end
		recs = recs[n:]
	}
	return nil
}

// publishMoved sends records to the next stage.
func (t *task) publishMoved(ctx context.Context, sent []moved) error {
	if t.shuffle == nil {
		return errkind.Errorf(errkind.Config, "the state of %s is of a pipeline with another stage behind: delete the pipeline's internal topics to begin with empty windows", t.changelog.topic)
	}
	var recs []event.Record
	for i := range sent {
		recs = t.appendMoved(recs, &sent[i])
	}
	_, err := t.p.broker.Publish(ctx, t.shuffle.to.topic, recs)
	return err
}

// appendMoved gives a record for the next stage a key that selects its partition.
func (t *task) appendMoved(to []event.Record, m *moved) []event.Record {
	rec := m.record[0]
	rec.Key = t.p.partitionKeys[m.partition]
	return append(to, rec)
}

// partitionKey is a key that selects a partition among n.
func partitionKey(partition, n int) []byte {
	for i := 0; ; i++ {
		if key := strconv.AppendInt(nil, int64(i), 10); broker.PartitionFor(key, n) == partition {
			return key
		}
	}
}
