package inference

import (
	"context"
	"slices"
	"time"
)

// enqueue adds r to the queue. The lock is held.
func (m *Model) enqueue(r *Request) {
	m.queue = append(m.queue, r)
	m.waiting += r.travelling()
	if m.cfg.Prefer == Throughput {
		r.queued = time.Now()
		m.demand.rows += r.travelling()
	}
	if !r.Expires.IsZero() {
		m.sweepBy(r.Expires)
	}
	if m.leader {
		m.wakeLeader()
	} else {
		m.work.Signal()
	}
}

func (m *Model) wakeLeader() {
	select {
	case m.arrived <- struct{}{}:
	default:
	}
}

// waitForSpace returns when the queue has room for r, the model closes, ctx is
// done, or r has expired and is answered. The lock is held on entry and exit.
func (m *Model) waitForSpace(ctx context.Context, r *Request) (answered bool, err error) {
	wake := func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.space.Broadcast()
	}
	defer context.AfterFunc(ctx, wake)()
	if !r.Expires.IsZero() {
		defer time.AfterFunc(time.Until(r.Expires), wake).Stop()
	}
	for m.waiting+r.travelling() > m.cfg.Queue && m.waiting > 0 && !m.closed {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if r.expired(time.Now) {
			m.expireOne(r, time.Now())
			return true, nil
		}
		m.space.Wait()
	}
	return false, nil
}

// take waits for the next batch and puts it into w; false means that the model
// is closed and empty.
func (m *Model) take(w *worker) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if w.busy {
		w.busy = false
		m.live--
		m.demand.answered(w.late, w.due)
		w.late, w.due = 0, 0
	}
	reason := FlushIdle
	for {
		for m.leader || m.waiting == 0 || m.warming || m.live >= m.places() {
			if m.closed && m.waiting == 0 && !m.leader {
				m.work.Broadcast() // the others, too, may go
				return false
			}
			m.work.Wait()
		}
		if m.cfg.Prefer == Throughput && !m.closed && m.breaker.state == BreakerClosed {
			reason = m.fill()
		}
		if m.waiting > 0 {
			break // else all have expired meanwhile
		}
	}
	room := m.ordered.Batch
	if m.cfg.Prefer == Throughput {
		room = m.room()
		m.demand.batch(time.Now())
	}
	rows := 0
	w.batch = w.batch[:0]
	for m.head < len(m.queue) {
		r := m.queue[m.head]
		if len(w.batch) > 0 && (rows+r.travelling() > room || m.open && !alike(w.batch[0].In, r.In)) {
			break
		}
		m.queue[m.head] = nil
		m.head++
		rows += r.travelling()
		w.batch = append(w.batch, r)
	}
	if m.head == len(m.queue) {
		m.queue, m.head = m.queue[:0], 0
	} else if m.head >= 64 && m.head*2 >= len(m.queue) {
		n := copy(m.queue, m.queue[m.head:])
		clear(m.queue[n:])
		m.queue, m.head = m.queue[:n], 0
	}
	m.waiting -= rows
	switch {
	case m.closed:
		reason = FlushDrain
	case rows >= m.ordered.Batch || m.waiting > 0 && reason != FlushDeadline:
		reason = FlushFull
	}
	m.live++
	w.busy, w.reason = true, reason
	m.space.Broadcast()
	if m.waiting > 0 {
		m.work.Signal()
	}
	return true
}

// fill waits, as the only leader, until the queue holds a full batch, the
// oldest row's time is up, or the model closes. The lock is held on entry and
// exit. Nobody takes while there is a leader, but requests may expire.
func (m *Model) fill() FlushReason {
	m.leader = true
	defer func() { m.leader = false }()
	for m.waiting < m.ordered.Batch && m.waiting > 0 && !m.closed {
		// A first call teaches how long calls take; until then there is nothing to wait by.
		if !m.service.known() {
			return FlushIdle
		}
		now := time.Now()
		deadline, allowed := oldest(m.queue[m.head:])
		margin := time.Duration(m.demand.margin * float64(allowed))
		rest := deadline.Add(-margin - m.service.predict(m.padded(m.waiting))).Sub(now)
		if rest <= 0 || !m.bearable(m.waiting, allowed, now) {
			return FlushDeadline
		}
		m.mu.Unlock()
		timer := time.NewTimer(rest)
		select {
		case <-m.arrived:
		case <-timer.C:
		}
		timer.Stop()
		m.mu.Lock()
	}
	return FlushFull
}

// bearable reports whether a batch of n rows leaves those that come during its
// call enough of the time that rows are allowed. It is not while twice as many have never been
// served at once: the line may be wrong there.
func (m *Model) bearable(n int, allowed time.Duration, now time.Time) bool {
	if n >= 2*m.service.seen {
		return false
	}
	took := m.service.likely(m.padded(n))
	next := int(m.demand.rate(now)*took.Seconds()) / max(1, m.places())
	return took+m.service.predict(m.padded(next)) < allowed
}

// demand measures how fast rows come, over the time from one to two batches, and
// how well their deadlines are kept.
type demand struct {
	rows        int // all that came
	last, older struct {
		rows int
		at   time.Time
	}
	// margin is the share of the time that rows are allowed which is not waited: it
	// grows while more than lateShare of the rows are late and shrinks else, so that
	// whatever the line leaves out (timers, networks, load that comes and goes) is learnt too.
	margin float64
}

const (
	lateShare  = 0.0025
	marginStep = 0.5
	marginRows = 32 // a batch of fewer rows counts for less
)

// answered takes a batch's rows that were due and those of them that were late.
func (d *demand) answered(late, due int) {
	if due > 0 {
		step := marginStep / float64(max(due, marginRows))
		d.margin = min(1, max(0, d.margin+step*(float64(late)-lateShare*float64(due))))
	}
}

// batch begins a new stretch of time.
func (d *demand) batch(now time.Time) {
	d.older = d.last
	d.last.rows, d.last.at = d.rows, now
}

// rate is in rows a second.
func (d *demand) rate(now time.Time) float64 {
	if d.older.at.IsZero() || !d.older.at.Before(now) {
		return 0
	}
	return float64(d.rows-d.older.rows) / now.Sub(d.older.at).Seconds()
}

// room is how many rows the next batch may have. It is MaxBatch, except where
// waiting rows would make the oldest late that a smaller batch keeps on time,
// and where the rows left over can still be on time in a call after it. Where that is
// not so the largest batch is best: it serves most rows a second.
func (m *Model) room() int {
	full := m.ordered.Batch
	n := min(m.waiting, full)
	if n < 2 || !m.service.known() {
		return full
	}
	now := time.Now()
	deadline, _ := oldest(m.queue[m.head:])
	rest := deadline.Sub(now)
	if rest <= 0 || m.service.likely(m.padded(n)) <= rest {
		return full
	}
	k := m.service.most(rest, n)
	for _, b := range slices.Backward(m.cfg.Buckets) {
		if b <= k {
			k = b
			break
		}
	}
	if k < 1 || m.service.likely(m.padded(k)) > rest {
		return full
	}
	rows := 0
	for i, r := range m.queue[m.head:] {
		if rows+r.travelling() > k {
			if rows == 0 {
				return full
			}
			end := now.Add(m.service.likely(m.padded(rows)) + m.service.likely(m.padded(n-rows)))
			if deadline, _ := oldest(m.queue[m.head+i:]); end.After(deadline) {
				return full
			}
			return rows
		}
		rows += r.travelling()
	}
	return full
}

// oldest is the earliest deadline of requests, and the time that its rows were allowed.
func oldest(queue []*Request) (deadline time.Time, allowed time.Duration) {
	first := queue[0]
	for _, r := range queue[1:] {
		if r.Deadline.Before(first.Deadline) {
			first = r
		}
	}
	return first.Deadline, first.Deadline.Sub(first.queued)
}

// sweepBy sees to it that the queue is looked through at t. The lock is held.
func (m *Model) sweepBy(t time.Time) {
	if !m.sweepAt.IsZero() && !t.Before(m.sweepAt) {
		return
	}
	m.sweepAt = t
	if m.sweep == nil {
		m.sweep = time.AfterFunc(time.Until(t), m.sweepQueue)
	} else {
		m.sweep.Reset(time.Until(t))
	}
}

// sweepQueue answers the requests of the queue that have expired. It runs on a
// timer of its own, so that they are answered while every instance hangs.
func (m *Model) sweepQueue() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sweepAt = time.Time{}
	now := time.Now()
	kept := m.queue[:0]
	var next time.Time
	for _, r := range m.queue[m.head:] {
		if r.Expires.IsZero() || r.Expires.After(now) {
			kept = append(kept, r)
			if !r.Expires.IsZero() && (next.IsZero() || r.Expires.Before(next)) {
				next = r.Expires
			}
			continue
		}
		m.waiting -= r.travelling()
		m.expireOne(r, now)
	}
	clear(m.queue[len(kept):])
	m.queue, m.head = kept, 0
	if !next.IsZero() {
		m.sweepBy(next)
	}
	m.space.Broadcast()
	if m.leader {
		m.wakeLeader()
	}
	if m.closed && m.waiting == 0 {
		m.work.Broadcast()
	}
}

// expireOne answers a request that has no use for an answer any more.
func (m *Model) expireOne(r *Request, now time.Time) {
	m.stats.Expired.Add(uint64(r.travelling()))
	m.refuse(r, ErrExpired)
	r.answered(now)
}
