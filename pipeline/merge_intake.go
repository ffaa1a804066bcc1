package pipeline

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"
)

const (
	// laneRows is how many rows of one input may wait before no more is read.
	laneRows = 8192
	// moveFetch is how many records of a shuffle topic are fetched at a time.
	moveFetch = 16
	// pollLeast and pollMost are how long a merge that is held back waits before
	// it looks again whether the input it waits for is silent.
	pollLeast = time.Millisecond
	pollMost  = 20 * time.Millisecond
)

// mergeIntake is the intake of a task that takes rows in the order of their
// time: from the tasks of the stage before, from the labels, or from a source
// whose events are put in order.
type mergeIntake struct {
	t      *task
	merge  merge
	events []*lane // one in the first stage, else one for each partition of the stage before
	labels []*lane // one for each partition of the labels' topic

	inputs      []columnDef
	labelFields []columnDef
	source      *sourceDecoder // of the first stage
	orderInput  int            // the index in inputs of the order column; -1 without

	feeds   []*feed // the claim, then the label partitions
	arrived chan arrival
	stop    context.CancelFunc

	scan   int64    // the claim's position behind the records taken in
	end    int64    // the end of the partition when it was read last
	next0  int64    // the position given to the frame filled last
	done   *tracker // of the first stage; from begin on
	last   time.Time
	newest int64 // time of any row given out
	// lateness is how much earlier one may be that is yet to come.
	lateness int64
	letters  []letter
	read     int // records read and not yet counted
	free     []*block
}

func (t *task) newMergeIntake() (*mergeIntake, error) {
	plan, st := t.p.plan, t.stage
	m := &mergeIntake{t: t, orderInput: -1, newest: math.MinInt64}
	for _, c := range st.inputs {
		m.inputs = append(m.inputs, plan.columns[c])
	}
	m.orderInput = slices.Index(st.inputs, plan.order)
	m.lateness = int64(plan.Spec.Source.timeRule(plan.Contract).Lateness)
	lanes := 1
	if st.index > 0 {
		lanes = t.p.partitions
	} else {
		var err error
		if m.source, err = t.newSourceDecoder(); err != nil {
			return nil, err
		}
	}
	for i := range lanes {
		m.events = append(m.events, newLane(false, i))
	}
	if st.usesLabels() {
		for i := range t.p.labelPartitions {
			m.labels = append(m.labels, newLane(true, i))
		}
		for _, name := range st.labels {
			f, _ := plan.LabelContract.Field(name)
			m.labelFields = append(m.labelFields, columnDef{name: name, kind: f.Kind})
		}
	}
	m.merge.lanes = append(slices.Clone(m.labels), m.events...)
	return m, nil
}

func (m *mergeIntake) next(ctx context.Context, f *frame) error {
	if m.source != nil {
		m.source.seen.begin()
	}
	if m.stop == nil {
		if err := m.start(ctx); err != nil {
			return err
		}
	}
	poll := pollLeast
	for {
		if err := m.drain(); err != nil {
			return err
		}
		m.ask()
		blocked := m.merge.take(m.t.p.frameEvents)
		if len(m.merge.events)+len(m.merge.labels)+len(m.letters) > 0 {
			m.fill(f)
			return nil
		}
		if blocked == nil {
			blocked = m.merge.left() // nobody waits for it, and nobody else will bring it
		}
		if blocked != nil && blocked.parked >= 0 {
			if err := m.unpark(ctx, blocked); err != nil {
				return err
			}
			continue
		}
		if m.position() > m.next0 && len(m.arrived) == 0 {
			m.fill(f) // only the position has moved
			return nil
		}
		m.t.p.progress.hold(m.t.stage.index, m.t.claim.Partition(), m.rows())
		var wait <-chan time.Time
		switch {
		case blocked != nil:
			if seen, err := m.lookForSilence(ctx); err != nil {
				return err
			} else if seen && m.merge.holderOfNext() == nil {
				continue
			}
			wait = time.After(poll)
			poll = min(2*poll, pollMost)
		case len(m.events[0].held) > 0:
			rest := m.t.p.plan.Spec.Source.OrderWait - time.Since(m.last)
			if (m.scan >= m.end || m.feeds[0].passed(m.end)) && rest <= 0 {
				m.events[0].release(math.MaxInt64)
				continue
			}
			wait = time.After(max(rest, pollLeast))
		}
		select {
		case a := <-m.arrived:
			if err := m.take(a); err != nil {
				return err
			}
			poll = pollLeast
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// holderOfNext is the lane that holds back the next row; nil for none.
func (m *merge) holderOfNext() *lane {
	if l := m.least(); l != nil {
		return m.holder(l.head())
	}
	return nil
}

// rows is how many events were read and wait for their turn.
func (m *mergeIntake) rows() (n int) {
	for _, l := range m.events {
		n += l.rows() + len(l.held)
	}
	return n
}

// take takes in a batch.
func (m *mergeIntake) take(a arrival) error {
	a.from.out = false
	if a.err != nil {
		return fmt.Errorf("fetch: %w", a.err)
	}
	if a.from.lane == nil {
		m.last = time.Now()
	}
	switch {
	case a.from.lane != nil:
		return m.takeLabels(a.from.lane, a.batch)
	case m.t.stage.index == 0:
		return m.takeEvents(a.batch)
	}
	return m.takeMoved(a.batch)
}

// lookForSilence learns from the broker which inputs have nothing left: what was
// on their topics before now has then been taken in. It reports whether it learnt anything.
func (m *mergeIntake) lookForSilence(ctx context.Context) (learnt bool, err error) {
	now := time.Now()
	if len(m.labels) > 0 {
		t, err := m.t.p.broker.Describe(ctx, m.t.p.plan.Spec.Labels.Topic, "")
		if err != nil {
			return false, fmt.Errorf("look whether labels are left: %w", err)
		}
		for i, l := range m.labels {
			if p := t.Partitions[l.index]; max(l.scan, p.Start) >= p.End || m.feeds[1+i].passed(p.End) {
				l.idle, learnt = now, true
			}
		}
	}
	if m.t.stage.index == 0 {
		return learnt, nil // events wait for labels only
	}
	silent, err := m.t.p.silent(ctx, m.t.stage.index)
	if err != nil {
		return learnt, err
	}
	own, err := m.t.p.broker.Describe(ctx, m.t.stage.topic, "")
	if err != nil {
		return learnt, fmt.Errorf("look whether events are left: %w", err)
	}
	if p := own.Partitions[m.t.claim.Partition()]; max(m.scan, p.Start) < p.End && !m.feeds[0].passed(p.End) {
		return learnt, nil
	}
	for _, l := range m.events {
		if silent[l.index] && l.parked < 0 {
			l.idle, learnt = now, true
		}
	}
	return learnt, nil
}

// position is the first position of the claim that is not done.
func (m *mergeIntake) position() int64 {
	if m.done != nil {
		return m.done.next
	}
	p := m.scan
	for _, l := range m.events {
		p = min(p, l.place(m.scan).position)
	}
	return p
}

// fill makes what was taken a frame.
func (m *mergeIntake) fill(f *frame) {
	if m.done != nil {
		for _, p := range m.merge.events {
			m.done.add(p.position())
		}
	}
	m.merge.fill(f, m.inputs, m.labelFields)
	f.letters = append(f.letters, m.letters...)
	clear(m.letters)
	m.letters = m.letters[:0]
	f.next = m.position()
	m.next0 = f.next
	f.consumed, m.read = m.read, 0
	if n := f.rows.N; n > 0 {
		for _, t := range f.rows.Time {
			m.newest = max(m.newest, t)
		}
	}
	if f.watermark = m.newest; m.t.p.plan.order < 0 && m.newest > math.MinInt64 {
		f.watermark -= m.lateness
	}
	m.t.p.progress.hold(m.t.stage.index, m.t.claim.Partition(), m.rows())
}

// firstLabels is the first stage that reads the labels; -1 for none.
func (p *Plan) firstLabels() int {
	return slices.IndexFunc(p.stages, (*stagePlan).usesLabels)
}
