package pipeline

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
)

// feed fetches batches of one input, each when it is asked to.
type feed struct {
	want  chan struct{}
	out   bool // one is asked for
	fetch func(ctx context.Context) (*broker.Batch, error)
	input broker.Positioner
	at    atomic.Int64 // how far it was read when it last had nothing
	lane  *lane        // of labels
	done  chan struct{}
	close func()
}

// feedPatience is how long a fetch waits for records before the feed looks whether
// it has come further without any.
const feedPatience = 50 * time.Millisecond

// next is one batch. Where positions have gaps it notes meanwhile how far the
// input was read: every batch before that has been taken in, for the feed is
// asked for one only then.
func (f *feed) next(ctx context.Context, gapless bool) (*broker.Batch, error) {
	for {
		if gapless {
			return f.fetch(ctx)
		}
		wait, cancel := context.WithTimeout(ctx, feedPatience)
		b, err := f.fetch(wait)
		waited := err != nil && wait.Err() != nil && ctx.Err() == nil
		cancel()
		if !waited {
			return b, err
		}
		f.at.Store(f.input.Position())
	}
}

// passed reports whether nothing before end is left to be read and taken in,
// though the last record taken in may lie further ahead.
func (f *feed) passed(end int64) bool { return f.at.Load() >= end }

type arrival struct {
	from  *feed
	batch *broker.Batch
	err   error
}

// start begins to read. The lanes have been restored by then.
func (m *mergeIntake) start(ctx context.Context) error {
	ctx, m.stop = context.WithCancel(ctx)
	m.arrived = make(chan arrival, 1+len(m.labels))
	size := func() int { return m.t.p.frameEvents }
	if m.t.stage.index > 0 {
		m.fetch.Store(moveFetch)
		size = func() int { return int(m.fetch.Load()) }
	}
	m.feeds = append(m.feeds, &feed{input: m.t.claim.(broker.Positioner), fetch: func(ctx context.Context) (*broker.Batch, error) { return m.t.claim.Fetch(ctx, size()) }})
	for _, l := range m.labels {
		r, err := m.t.p.broker.Read(ctx, m.t.p.plan.Spec.Labels.Topic, l.index, l.scan)
		if err != nil {
			return fmt.Errorf("read the labels: %w", err)
		}
		m.feeds = append(m.feeds, &feed{
			lane:  l,
			input: r.(broker.Positioner),
			fetch: func(ctx context.Context) (*broker.Batch, error) { return r.Fetch(ctx, m.t.p.frameEvents) },
			close: func() { _ = r.Close() }, // reading left nothing to lose
		})
	}
	gapless := m.t.p.broker.Capabilities().Gapless
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
				b, err := f.next(ctx, gapless)
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
	m.lookers.Wait()
	for _, f := range m.feeds {
		if f.done != nil { // else start ended before it began
			<-f.done
		}
		if f.close != nil {
			f.close()
		}
	}
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
