package pipeline

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
)

const (
	// laneRows is how many rows of one input may wait before no more is read.
	laneRows = 8192
	// moveFetch is how many records of a shuffle topic are fetched at a time where they are full, and
	// mostMoveFetch where they hold few rows each, as those of a stage that keeps up do: a task
	// that is behind needs whole frames all the same.
	moveFetch     = 16
	mostMoveFetch = 256
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

	looks    chan standing // of a broker that is not nearby
	looking  bool          // one is asked for
	looked   time.Time     // when the last one was learnt
	lookTook time.Duration
	lookers  sync.WaitGroup

	fetch  atomic.Int64 // how many records to fetch of a shuffle topic
	scan   int64        // the claim's position behind the records taken in
	end    int64        // the end of the partition when it was read last
	next0  int64        // the position given to the frame filled last
	done   *tracker     // of the first stage; from begin on
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
	m := &mergeIntake{t: t, orderInput: -1, newest: math.MinInt64, looks: make(chan standing, 1)}
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
			if learnt, err := m.look(ctx); err != nil {
				return err
			} else if learnt && m.merge.holderOfNext() == nil {
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
		case l := <-m.looks:
			m.looking = false
			if _, err := m.learn(l); err != nil {
				return err
			}
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

// standing is where the topics that a merge reads stood.
type standing struct {
	at     time.Time // before it was asked for
	labels broker.Topic
	silent []bool // of the stages before: whether a partition has nothing left to send
	own    broker.Topic
	took   time.Duration
	err    error
}

// nearby is how fast a broker answers that is asked in passing; one that is
// slower is asked beside the work, for rows may come meanwhile.
const nearby = time.Millisecond

// look asks the broker which inputs have nothing left, and reports whether it
// learnt anything at once.
func (m *mergeIntake) look(ctx context.Context) (learnt bool, err error) {
	switch {
	case m.looking || time.Since(m.looked) < m.lookTook:
		return false, nil
	case m.lookTook < nearby:
		return m.learn(m.stand(ctx))
	}
	m.looking = true
	m.lookers.Go(func() { m.looks <- m.stand(ctx) }) // never blocks: one is under way
	return false, nil
}

// stand asks where the topics stand.
func (m *mergeIntake) stand(ctx context.Context) (s standing) {
	s.at = time.Now()
	defer func() { s.took = time.Since(s.at) }()
	b, stage := m.t.p.broker, m.t.stage
	if len(m.labels) > 0 {
		if s.labels, s.err = b.Describe(ctx, m.t.p.plan.Spec.Labels.Topic, ""); s.err != nil {
			s.err = fmt.Errorf("look whether labels are left: %w", s.err)
			return s
		}
	}
	if stage.index == 0 {
		return s // events wait for labels only
	}
	if s.silent, s.err = m.t.p.silent(ctx, stage.index); s.err != nil {
		return s
	}
	if s.own, s.err = b.Describe(ctx, stage.topic, ""); s.err != nil {
		s.err = fmt.Errorf("look whether events are left: %w", s.err)
	}
	return s
}

// learn takes in which inputs have nothing left: what was on their topics before
// the broker was asked has then been taken in. It reports whether it learnt anything.
func (m *mergeIntake) learn(s standing) (learnt bool, err error) {
	m.looked, m.lookTook = time.Now(), s.took
	if s.err != nil {
		return false, s.err
	}
	for i, l := range m.labels {
		if p := s.labels.Partitions[l.index]; max(l.scan, p.Start) >= p.End || m.feeds[1+i].passed(p.End) {
			l.idle, learnt = s.at, true
		}
	}
	if m.t.stage.index == 0 {
		return learnt, nil
	}
	if p := s.own.Partitions[m.t.claim.Partition()]; max(m.scan, p.Start) < p.End && !m.feeds[0].passed(p.End) {
		return learnt, nil
	}
	for _, l := range m.events {
		if s.silent[l.index] && l.parked < 0 {
			l.idle, learnt = s.at, true
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
