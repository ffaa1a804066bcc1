package pipeline

import (
	"context"
	"fmt"

	"github.com/freshet-io/freshet/broker"
)

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
