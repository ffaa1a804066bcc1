package pipeline

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
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
	done   *tracker // of the first stage
	last   time.Time
	newest int64 // time of any row given out
	// lateness is how much earlier one may be that is yet to come.
	lateness int64
	letters  []letter
	read     int // records read and not yet counted
	free     []*block
}

// feed fetches batches of one input, each when it is asked to.
type feed struct {
	want  chan struct{}
	out   bool // one is asked for
	fetch func(ctx context.Context) (*broker.Batch, error)
	lane  *lane // of labels
	done  chan struct{}
	close func()
}

type arrival struct {
	from  *feed
	batch *broker.Batch
	err   error
}

func (t *task) newMergeIntake() (*mergeIntake, error) {
	plan, st := t.p.plan, t.stage
	m := &mergeIntake{t: t, orderInput: -1, newest: math.MinInt64, scan: t.claim.Start(), next0: t.claim.Start()}
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
		m.done = newTracker(t.claim.Start())
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

// start begins to read. The lanes have been restored by then.
func (m *mergeIntake) start(ctx context.Context) error {
	ctx, m.stop = context.WithCancel(ctx)
	m.arrived = make(chan arrival, 1+len(m.labels))
	size := m.t.p.frameEvents
	if m.t.stage.index > 0 {
		size = moveFetch
	}
	m.feeds = append(m.feeds, &feed{fetch: func(ctx context.Context) (*broker.Batch, error) { return m.t.claim.Fetch(ctx, size) }})
	for _, l := range m.labels {
		r, err := m.t.p.broker.Read(ctx, m.t.p.plan.Spec.Labels.Topic, l.index, l.scan)
		if err != nil {
			return fmt.Errorf("read the labels: %w", err)
		}
		m.feeds = append(m.feeds, &feed{
			lane:  l,
			fetch: func(ctx context.Context) (*broker.Batch, error) { return r.Fetch(ctx, m.t.p.frameEvents) },
			close: func() { _ = r.Close() }, // reading left nothing to lose
		})
	}
	for _, f := range m.feeds {
		f.want, f.done = make(chan struct{}, 1), make(chan struct{})
		go func() {
			defer close(f.done)
			for {
				select {
				case <-f.want:
				case <-ctx.Done():
					return
				}
				b, err := f.fetch(ctx)
				m.arrived <- arrival{f, b, err} // never blocks: there is room for one of each
				if err != nil {
					return
				}
			}
		}()
	}
	return nil
}

func (m *mergeIntake) close() {
	if m.stop == nil {
		return
	}
	m.stop()
	for _, f := range m.feeds {
		if f.done != nil { // else start ended before it began
			<-f.done
		}
		if f.close != nil {
			f.close()
		}
	}
}

func (m *mergeIntake) next(ctx context.Context, f *frame) error {
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
			if m.scan >= m.end && rest <= 0 {
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

// drain takes in what has arrived.
func (m *mergeIntake) drain() error {
	for {
		select {
		case a := <-m.arrived:
			if err := m.take(a); err != nil {
				return err
			}
		default:
			return nil
		}
	}
}

// ask asks every input for more that has not too much waiting already. The claim
// is always asked, for it may bring what others wait for; lanes that are too
// full leave their rows on the topic.
func (m *mergeIntake) ask() {
	for i, f := range m.feeds {
		if f.out {
			continue
		}
		if f.lane != nil && f.lane.rows() > m.t.p.laneRows {
			continue
		}
		if i == 0 && !m.wantsEvents() {
			continue
		}
		f.out = true
		f.want <- struct{}{}
	}
}

// wantsEvents reports whether a lane of events has room, and none of those that do is parked.
func (m *mergeIntake) wantsEvents() bool {
	for _, l := range m.events {
		if l.parked < 0 && l.rows() < m.t.p.laneRows {
			return true
		}
	}
	return false
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

// block returns an empty block whose memory is reused.
func (m *mergeIntake) block() *block {
	if n := len(m.free); n > 0 {
		b := m.free[n-1]
		m.free = m.free[:n-1]
		return b
	}
	return &block{}
}

// lend makes the rows of a block alias a batch until all of them are gone.
func (m *mergeIntake) lend(b *block, release func()) {
	b.left, b.taken = b.rows.N, time.Now()
	b.done = func() {
		release()
		m.free = append(m.free, b)
	}
	if b.left == 0 {
		b.done()
	}
}

// takeEvents takes in records of the source.
func (m *mergeIntake) takeEvents(batch *broker.Batch) error {
	recs := batch.Records
	if first := recs[0].Position; first > m.scan {
		m.done.gap(m.scan, first)
	}
	if recs[0].Position < m.done.end { // read before, by a task that has ended
		recs = slices.DeleteFunc(slices.Clone(recs), func(r event.Record) bool { return m.done.has(r.Position) })
	}
	b, l := m.block(), m.events[0]
	from := len(m.letters)
	m.letters = m.source.decode(recs, &b.rows, m.letters)
	for i := from; i < len(m.letters); i++ {
		m.letters[i].rec = cloneRecord(m.letters[i].rec)
	}
	b.at, b.keys = -1, nil
	b.origins = sized(b.origins, b.rows.N)
	at := 0
	for row := range b.rows.N {
		for ; at < int(b.rows.Index[row]); at++ {
			m.done.add(recs[at].Position) // not a row: a letter, or dropped
		}
		at++
		rec := &recs[b.rows.Index[row]]
		b.origins[row] = origin{partition: int32(batch.Partition), position: rec.Position, trace: traceOf(rec.Headers)}
	}
	for ; at < len(recs); at++ {
		m.done.add(recs[at].Position)
	}
	if b.order = nil; m.orderInput >= 0 {
		b.order = &b.rows.Columns[m.orderInput]
	}
	m.scan, m.end = batch.Next(), batch.End
	if m.scan >= m.source.judged { // before, any row may come that was taken in before the restart
		l.watermark = m.source.watermark()
	}
	m.read += len(recs)
	if m.t.p.plan.order >= 0 {
		if n := l.hold(b); n > 0 {
			m.t.log.Warn("events go before their order is certain: more of them lie within the lateness than are held", "events", n, "held", heldRows)
		}
	} else {
		l.add(b)
	}
	m.lend(b, batch.Release)
	return nil
}

// traceOf keeps a record's trace headers, which are rare.
func traceOf(h event.Headers) (trace event.Headers) {
	if len(h) == 0 {
		return nil
	}
	for _, name := range [...]string{"traceparent", "tracestate"} {
		if v, ok := h.Get(name); ok {
			trace = trace.Append(name, v)
		}
	}
	return trace
}

func cloneRecord(r *event.Record) *event.Record {
	return &event.Record{ID: slices.Clone(r.ID), Key: slices.Clone(r.Key), Headers: slices.Clone(r.Headers),
		Value: slices.Clone(r.Value), Position: r.Position, Time: r.Time}
}

// takeMoved takes in records of the stage before.
func (m *mergeIntake) takeMoved(batch *broker.Batch) error {
	users := 1
	release := func() {
		if users--; users == 0 {
			batch.Release()
		}
	}
	defer release()
	for i := range batch.Records {
		rec := &batch.Records[i]
		b := m.block()
		task, watermark, ok := readMove(rec, b, m.inputs)
		if !ok || task >= len(m.events) {
			return errkind.Errorf(errkind.Corrupt, "topic %s, partition %d, position %d: not a record of this pipeline's shuffle: delete the topic and the pipeline's state topics to begin anew", batch.Topic, batch.Partition, rec.Position)
		}
		l := m.events[task]
		if b.at < l.from { // done before the lane was restored
			m.free = append(m.free, b)
			continue
		}
		if l.parked >= 0 || l.rows() >= 2*m.t.p.laneRows {
			if l.parked < 0 {
				l.parked = rec.Position
			}
			m.free = append(m.free, b)
			continue
		}
		users++
		if err := m.addMoved(l, b, watermark, release); err != nil {
			return err
		}
	}
	m.scan, m.end = batch.Next(), batch.End
	return nil
}

func (m *mergeIntake) addMoved(l *lane, b *block, watermark int64, release func()) error {
	if b.at == l.from && int(l.fromRow) > b.rows.N {
		return errkind.Errorf(errkind.Corrupt, "topic %s, partition %d, position %d: the state begins at row %d, and the record has %d",
			m.t.stage.topic, m.t.claim.Partition(), b.at, l.fromRow, b.rows.N)
	}
	if b.order = nil; m.orderInput >= 0 && b.rows.N > 0 {
		b.order = &b.rows.Columns[m.orderInput]
	}
	l.add(b)
	m.lend(b, release)
	if b.at == l.from && l.fromRow > 0 {
		n := len(l.ready) - b.rows.N
		l.ready = append(l.ready[:n], l.ready[n+int(l.fromRow):]...)
		if b.left -= int(l.fromRow); b.left == 0 {
			b.done()
		}
	}
	l.watermark = max(l.watermark, watermark)
	return nil
}

// unpark reads on where a lane left rows on the topic, until it has some, or has
// caught up with the others.
func (m *mergeIntake) unpark(ctx context.Context, l *lane) error {
	r, err := m.t.p.broker.Read(ctx, m.t.stage.topic, m.t.claim.Partition(), l.parked)
	if err != nil {
		return fmt.Errorf("read again what was left: %w", err)
	}
	defer r.Close()
	for l.parked < m.scan {
		batch, err := r.Fetch(ctx, moveFetch)
		if err != nil {
			return fmt.Errorf("read again what was left: %w", err)
		}
		users := 1
		release := func() {
			if users--; users == 0 {
				batch.Release()
			}
		}
		for i := range batch.Records {
			rec := &batch.Records[i]
			if rec.Position >= m.scan || l.rows() >= m.t.p.laneRows {
				break
			}
			l.parked = rec.Position + 1
			b := m.block()
			task, watermark, ok := readMove(rec, b, m.inputs)
			if !ok || task != l.index {
				m.free = append(m.free, b)
				continue
			}
			users++
			if err := m.addMoved(l, b, watermark, release); err != nil {
				release()
				return err
			}
		}
		release()
		if l.rows() >= m.t.p.laneRows {
			return nil
		}
	}
	l.parked = -1
	return nil
}

// takeLabels takes in records of the labels' topic.
func (m *mergeIntake) takeLabels(l *lane, batch *broker.Batch) error {
	b := m.block()
	m.t.labelDecoder.Decode(batch.Records, &b.rows)
	// Every task reads all labels; one of them speaks of the faulty ones.
	if l.index%m.t.p.partitions == m.t.claim.Partition() && m.t.stage.index == m.t.p.plan.firstLabels() {
		for _, x := range b.rows.Faults {
			if rec := &batch.Records[x.Record]; rec.Position >= l.told {
				m.letters = append(m.letters, letter{rec: cloneRecord(rec), partition: l.index, label: true,
					reason: x.Reason, step: "labels", attempts: 1, err: x.Err})
			}
		}
	}
	b.at, b.origins, b.order = -1, nil, nil
	joined := b.rows.ID
	if m.t.p.plan.Spec.Labels.Key != "" {
		joined = b.rows.Key
	}
	b.keys = append(b.keys[:0], joined...) // storage of its own, for the block is reused
	b.origins = sized(b.origins, b.rows.N)
	lateness := int64(m.t.labelRule.Lateness)
	newest := l.watermark
	for row := range b.rows.N {
		b.origins[row] = origin{partition: int32(l.index), position: batch.Records[b.rows.Index[row]].Position}
		newest = max(newest, b.rows.Time[row]-lateness)
	}
	l.add(b)
	l.watermark, l.scan = newest, batch.Next()
	m.lend(b, batch.Release)
	return nil
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
		for _, l := range m.labels {
			if p := t.Partitions[l.index]; max(l.scan, p.Start) >= p.End {
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
	if p := own.Partitions[m.t.claim.Partition()]; max(m.scan, p.Start) < p.End {
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

type lanePlace struct {
	position int64
	row      int32
}

// place is where the lane goes on: the first row that has not been taken.
func (l *lane) place(scan int64) lanePlace {
	switch {
	case !l.empty():
		p := l.head()
		if p.b.at < 0 {
			return lanePlace{p.position(), 0}
		}
		return lanePlace{p.b.at, p.row}
	case l.parked >= 0:
		return lanePlace{l.parked, 0}
	case scan <= l.from:
		return lanePlace{l.from, l.fromRow} // restored, and not read again yet
	}
	return lanePlace{scan, 0}
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

// The state of a merge, behind the source's: the newest time given out; of the
// first stage the position up to which events were taken in, and which of them
// are done (see tracker); of a later one the place, row and watermark of each
// lane; then the place and watermark of each lane of labels, and the position
// up to which its faulty labels have their dead letters.
func (m *mergeIntake) appendState(b []byte) []byte {
	b = appendZigzag(b, m.newest)
	if m.source != nil {
		b = m.source.appendState(b)
		b = binary.AppendUvarint(b, uint64(max(m.scan, m.source.judged)))
		b = m.done.append(b)
	} else {
		b = binary.AppendUvarint(b, uint64(len(m.events)))
		for _, l := range m.events {
			b = l.appendPlace(b, m.scan)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(m.labels)))
	for _, l := range m.labels {
		b = l.appendPlace(b, l.scan)
		b = binary.AppendUvarint(b, uint64(max(l.scan, l.told)))
	}
	return b
}

func (l *lane) appendPlace(b []byte, scan int64) []byte {
	p := l.place(scan)
	b = binary.AppendUvarint(b, uint64(p.position))
	b = binary.AppendUvarint(b, uint64(p.row))
	w := l.watermark
	if !l.empty() {
		w = min(w, l.head().time()) // what is left will bring the rest again
	}
	return appendZigzag(b, w)
}

func (l *lane) restore(c *cursor) {
	l.from, l.fromRow, l.watermark = int64(c.uvarint()), int32(c.uvarint()), c.zigzag()
	l.scan = l.from
}

func (m *mergeIntake) restore(b []byte) error {
	c := cursor{b: b}
	m.newest = c.zigzag()
	if m.source != nil {
		m.source.restore(&c)
		m.source.judged = int64(c.uvarint())
		m.done = readTracker(&c)
	} else {
		if n := c.uvarint(); !c.bad && n != uint64(len(m.events)) {
			return errkind.Errorf(errkind.Config, "the state is of %d partitions, and the topic has %d: delete the pipeline's internal topics to begin with empty windows", n, len(m.events))
		}
		for _, l := range m.events {
			l.restore(&c)
		}
	}
	if n := c.uvarint(); !c.bad && n != uint64(len(m.labels)) {
		return errkind.Errorf(errkind.Config, "the state is of %d partitions of labels, and their topic has %d: delete the pipeline's internal topics to begin with empty windows", n, len(m.labels))
	}
	for _, l := range m.labels {
		l.restore(&c)
		l.told = int64(c.uvarint())
	}
	if c.bad || len(c.b) > 0 {
		return errkind.New(errkind.Corrupt, "the state of the inputs is cut short or too long")
	}
	return nil
}

// firstLabels is the first stage that reads the labels; -1 for none.
func (p *Plan) firstLabels() int {
	return slices.IndexFunc(p.stages, (*stagePlan).usesLabels)
}
