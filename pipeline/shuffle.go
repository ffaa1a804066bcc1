package pipeline

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// shuffle sends a stage's rows on to the next one, keyed anew: one record for
// each frame and partition, so that every partition learns how far time is. It
// belongs to one task.
type shuffle struct {
	to    *stagePlan
	task  int // the partition of this task
	limit int // the broker's greatest record; 0 without
	rows  [][]int32
	keys  []string
	parts uint64 // records of the frame in hand
	// before is the watermark of the frame before.
	before int64
}

func newShuffle(to *stagePlan, task, partitions, limit int) *shuffle {
	return &shuffle{to: to, task: task, limit: limit, rows: make([][]int32, partitions), before: math.MinInt64}
}

// moved is a record for a partition of the next stage's topic.
type moved struct {
	partition int
	record    [1]event.Record
}

// write fills f.moved, one record or more a partition.
func (s *shuffle) write(f *frame) {
	for i := range s.rows {
		s.rows[i] = s.rows[i][:0]
	}
	s.keyRows(f)
	for row := range f.rows.N {
		if f.skip[row] {
			continue
		}
		p := broker.PartitionFor(keyBytes(s.keys[row]), len(s.rows))
		s.rows[p] = append(s.rows[p], int32(row))
	}
	f.moved, s.parts = f.moved[:0], 0
	for p, rows := range s.rows {
		s.move(f, p, rows)
	}
	s.before = f.watermark
}

// number is that of the next record: it rises with each, and a record that is
// published again has the same. 0 where the task keeps no state that counts.
func (s *shuffle) number(f *frame) uint64 {
	if f.number == 0 {
		return 0
	}
	return f.number<<moveBits | s.parts
}

// moveBits are enough for the records of a frame: a part for each row and partition.
const moveBits = 24

// move writes rows for a partition, in two records where they are too many for one.
func (s *shuffle) move(f *frame, partition int, rows []int32) {
	from := len(f.arena)
	f.arena = appendMove(f.arena, f, rows, s.task, s.number(f), s.keys, s.to.inputs)
	if size := len(f.arena) - from; s.limit > 0 && size > s.limit {
		f.arena = f.arena[:from]
		if half := len(rows) / 2; half > 0 {
			// The frame's watermark holds only once all of its rows have come.
			w := f.watermark
			f.watermark = s.before
			s.move(f, partition, rows[:half])
			f.watermark = w
			s.move(f, partition, rows[half:])
			return
		}
		f.refuse(int(rows[0]), s.task, "result_too_large", "features", 1, errkind.Errorf(errkind.Invalid,
			"the event has %d bytes with its features, and the broker takes at most %d", size, s.limit))
		s.move(f, partition, nil)
		return
	}
	s.parts++
	f.moved = append(f.moved, moved{partition, [1]event.Record{{Value: f.arena[from:len(f.arena):len(f.arena)]}}})
}

// keyRows writes the next stage's keys as texts; a row without one becomes a dead letter.
func (s *shuffle) keyRows(f *frame) {
	s.keys = sized(s.keys, f.rows.N)
	if s.to.key < 0 {
		copy(s.keys, f.rows.Key)
		return
	}
	key := f.columns[s.to.key]
	for row := range f.rows.N {
		switch {
		case f.skip[row]:
		case key.IsNull(row):
			f.refuse(row, s.task, "no_key", "features", 1, errkind.Errorf(errkind.Invalid,
				"the event has no %q, by which some of the pipeline's windows go: make the field required in the contract, or fill it with an expression", s.to.by))
		case key.Kind == event.Int:
			from := len(f.arena)
			f.arena = strconv.AppendInt(f.arena, key.Ints[row], 10)
			s.keys[row] = textOf(f.arena[from:])
		default:
			s.keys[row] = key.Strings[row]
		}
	}
}

// silent reports, for each partition of the stage before the given one, whether
// it had nothing left to send when it was asked: all that had arrived at the
// source by then is done there.
func (p *Pipeline) silent(ctx context.Context, stage int) ([]bool, error) {
	silent := make([]bool, p.partitions)
	all := true
	for _, st := range p.plan.stages[:stage] {
		t, err := p.broker.Describe(ctx, st.topic, p.plan.Spec.Group())
		if err != nil {
			return nil, fmt.Errorf("look whether events are left: %w", err)
		}
		next := true
		for i, part := range t.Partitions {
			silent[i] = all && part.Waiting == 0
			next = next && silent[i]
		}
		all = next
	}
	return silent, nil
}

const (
	// aheadRecords is how many records of a shuffle topic may wait before the
	// tasks that fill it wait too, each a frame's part for one partition.
	aheadRecords = 2048
	// aheadCheck is every how many frames a task looks.
	aheadCheck = 32
	// aheadPatience is how long a task waits when nothing moves: the next stage
	// may be waiting for events that this very task, or another process, has to send.
	aheadPatience = time.Second
)

// ahead bounds how far tasks run ahead of the next stage.
type ahead struct {
	records  int64
	check    int
	patience time.Duration
}

// awaitRoom waits while the next stage is far behind, unless this task is the
// one that is last in event time: then the others wait for what it sends.
func (t *task) awaitRoom(ctx context.Context) error {
	if t.frameCount++; t.shuffle == nil || t.frameCount%t.p.ahead.check != 0 {
		return nil
	}
	deadline := time.Now().Add(t.p.ahead.patience)
	for time.Now().Before(deadline) && !t.p.progress.last(t.stage.index, t.claim.Partition()) {
		topic, err := t.p.broker.Describe(ctx, t.shuffle.to.topic, t.p.plan.Spec.Group())
		if err != nil {
			return fmt.Errorf("look how far the next stage is: %w", err)
		}
		room := true
		for _, part := range topic.Partitions {
			room = room && part.Waiting < t.p.ahead.records
		}
		if room {
			return nil
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
