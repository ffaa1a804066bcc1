package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/freshet-io/freshet/bridge"
	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// ReceiverOpener opens what messages come from.
type ReceiverOpener func(ctx context.Context, url string) (bus.Receiver, error)

// SenderOpener opens what results go to.
type SenderOpener func(ctx context.Context, url string) (bus.Sender, error)

// idleBus is how long no message may have come for a source to count as idle.
const idleBus = 2 * time.Second

// bridges carry messages to the source topic and results away from their topics.
// A pipeline has them beside its stages: what it reads lies on a topic first, in
// partitions and order, and what it hands over has been committed.
type bridges struct {
	in   *bridge.In
	outs []*outlet

	closers []func() error
}

// outlet is one way out.
type outlet struct {
	*bridge.Out
	shown string // its URL, as people may see it
}

// openBridges opens both ends; the topics are there. What was opened is kept for
// close, be it not all.
func (p *Pipeline) openBridges(ctx context.Context) error {
	spec := p.plan.Spec
	b := &bridges{}
	defer p.bridges.Store(b)
	if url := spec.Source.From; url != "" {
		if p.deps.OpenReceiver == nil {
			return errkind.New(errkind.Unsupported, "source.from: this program cannot receive messages")
		}
		r, err := p.deps.OpenReceiver(ctx, url)
		if err != nil {
			return fmt.Errorf("source.from: %w", err)
		}
		b.closers = append(b.closers, r.Close)
		b.in = &bridge.In{Receiver: r, Broker: p.broker, Topic: spec.Source.Topic, Logger: p.log}
		if p.deps.Envelope != nil {
			b.in.Envelope = p.deps.Envelope(spec.Source.Topic)
		}
	}
	for _, o := range spec.Outputs {
		for i, url := range o.Also {
			if p.deps.OpenSender == nil {
				return errkind.New(errkind.Unsupported, "outputs: this program cannot hand results over")
			}
			s, err := p.deps.OpenSender(ctx, url)
			if err != nil {
				return fmt.Errorf("output %s: also[%d]: %w", o.Topic, i, err)
			}
			b.closers = append(b.closers, s.Close)
			shown := endpoint.Redact(url)
			out := &bridge.Out{
				Broker: p.broker, Topic: o.Topic, Sender: s, Logger: p.log.With("to", shown),
				// By its place, so that a new password or port does not begin anew.
				Group: fmt.Sprintf("%s-%s-also-%d", spec.Name, o.Topic, i),
			}
			out.Refused = p.refusedBy(shown)
			b.outs = append(b.outs, &outlet{out, shown})
		}
	}
	return nil
}

// run carries until ctx ends or one of the bridges fails for good.
func (b *bridges) run(ctx context.Context, wg *sync.WaitGroup, stop func(error)) {
	if b.in != nil {
		wg.Go(func() {
			if err := b.in.Run(ctx); err != nil {
				stop(err)
			}
		})
	}
	for _, o := range b.outs {
		wg.Go(func() {
			if err := o.Run(ctx); err != nil {
				stop(fmt.Errorf("output %s to %s: %w", o.Topic, o.shown, err))
			}
		})
	}
}

// idle reports whether nothing is under way on any bridge.
func (b *bridges) idle(ctx context.Context, br *broker.Broker) (bool, error) {
	if b.in != nil && b.in.Idle(time.Now()) < idleBus {
		return false, nil
	}
	for _, o := range b.outs {
		l, _, err := br.Lag(ctx, o.Topic, o.Group)
		if err != nil || l.Records > 0 {
			return false, err
		}
	}
	return true, nil
}

func (b *bridges) close() (err error) {
	if b == nil {
		return nil
	}
	for _, c := range b.closers {
		err = errors.Join(err, c())
	}
	b.closers = nil
	return err
}

// refusedBy makes dead letters of results that the receiving side will never take.
func (p *Pipeline) refusedBy(shown string) func(ctx context.Context, r bridge.RefusedRecord) error {
	limit := p.broker.Capabilities().MaxRecordBytes
	return func(ctx context.Context, r bridge.RefusedRecord) error {
		l := newLetters(p.plan.Spec, r.Topic, limit, nil)
		f := &frame{letters: []letter{{
			rec: r.Record, partition: r.Partition, reason: "refused_by_output", step: "outputs", attempts: 1,
			err: fmt.Errorf("%s refuses the result: %w", shown, r.Err),
		}}}
		if err := l.write(f, false); err != nil {
			return err
		}
		if _, err := p.broker.Publish(ctx, p.plan.Spec.DeadLetters(), f.dead); err != nil {
			return fmt.Errorf("write a dead letter: %w", err)
		}
		p.counters.dead(f.letters)
		return nil
	}
}

// BridgeStats says what a way in or out of a pipeline carried.
type BridgeStats struct {
	Topic string
	// URL is that of the other side, without secrets.
	URL string
	// In: messages came from it; else results went there.
	In bool
	// Carried counts what is durable on the other side, Repeats messages that were on
	// the topic already, Refused results that will never be taken.
	Carried, Repeats, Refused uint64
}

// bridgeStats is what each way in and out carried since the pipeline began to run.
func (p *Pipeline) bridgeStats() (all []BridgeStats) {
	b := p.bridges.Load()
	if b == nil {
		return nil
	}
	if in := b.in; in != nil {
		stored, repeats := in.Stored()
		all = append(all, BridgeStats{Topic: in.Topic, URL: endpoint.Redact(p.plan.Spec.Source.From), In: true, Carried: stored, Repeats: repeats})
	}
	for _, o := range b.outs {
		sent, refused := o.Sent()
		all = append(all, BridgeStats{Topic: o.Topic, URL: o.shown, Carried: sent, Refused: refused})
	}
	return all
}
