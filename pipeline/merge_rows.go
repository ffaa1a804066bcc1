package pipeline

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

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
	again := false
	for i := range recs {
		upTo := batch.Next()
		if i+1 < len(recs) {
			upTo = recs[i+1].Position
		}
		again = m.done.read(recs[i].Position, upTo) || again
	}
	if again { // read before, by a task that has ended
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
	rows := 0
	for i := range batch.Records {
		rec := &batch.Records[i]
		b := m.block()
		task, watermark, ok := readMove(rec, b, m.inputs)
		if !ok || task >= len(m.events) {
			return errkind.Errorf(errkind.Corrupt, "topic %s, partition %d, position %d: not a record of this pipeline's shuffle: delete the topic and the pipeline's state topics to begin anew", batch.Topic, batch.Partition, rec.Position)
		}
		rows += b.rows.N
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
	m.fetch.Store(int64(min(mostMoveFetch, max(moveFetch, m.t.p.frameEvents*len(batch.Records)/max(1, rows)))))
	return nil
}

func (m *mergeIntake) addMoved(l *lane, b *block, watermark int64, release func()) error {
	if b.number > 0 && b.number <= l.number { // published again
		m.t.p.counters.repeats.Add(1)
		m.free = append(m.free, b)
		release()
		return nil
	}
	b.before = l.number
	l.number = max(l.number, b.number)
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
	err = m.t.p.readTo(ctx, r, l.parked, m.scan, func(batch *broker.Batch) (more bool, err error) {
		users := 1
		release := func() {
			if users--; users == 0 {
				batch.Release()
			}
		}
		defer release()
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
				return false, err
			}
		}
		return l.rows() < m.t.p.laneRows, nil
	})
	if err != nil {
		return fmt.Errorf("read again what was left: %w", err)
	}
	if l.rows() < m.t.p.laneRows {
		l.parked = -1
	}
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
