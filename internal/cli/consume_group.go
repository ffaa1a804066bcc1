package cli

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// consumeGroup reads as a member of a group. A position is committed after the
// records before it have been written.
func consumeGroup(ctx context.Context, b *broker.Broker, topic string, t broker.Topic, f consumeFlags, from startAt, p *printer) (err error) {
	start := broker.Earliest
	if from.latest {
		start = broker.Latest
	}
	member, err := b.Subscribe(ctx, broker.Subscription{Topic: topic, Group: f.group, Start: start})
	if err != nil {
		return err
	}
	g := &groupReader{deliveries: make(chan *delivery), errs: make(chan error, 1)}
	inner, cancel := context.WithCancel(ctx)
	g.wg.Add(1)
	go g.claim(inner, member)
	defer func() {
		cancel()
		g.wg.Wait()
		err = errors.Join(err, member.Close())
	}()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if !f.follow {
			done, err := groupDone(ctx, b, topic, f.group, t, from)
			if err != nil || done {
				return err
			}
		}
		select {
		case d := <-g.deliveries:
			next, err := printBatch(d.batch, p)
			if err == nil || errors.Is(err, errLimit) {
				// What was written is committed even when interrupted meanwhile.
				if cerr := commitWritten(ctx, d.claim, next); cerr != nil {
					err = cerr
				}
			}
			d.batch.Release()
			if err != nil {
				return err
			}
			d.done <- struct{}{}
		case err := <-g.errs:
			return err
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// groupDone reports whether the group has come to where the topic ended when it was first described.
func groupDone(ctx context.Context, b *broker.Broker, topic, group string, was broker.Topic, from startAt) (bool, error) {
	now, err := b.Describe(ctx, topic, group)
	if err != nil {
		return false, err
	}
	for i, p := range now.Partitions {
		if i >= len(was.Partitions) {
			break
		}
		at := p.Committed
		if at < 0 {
			at = p.Start
			if from.latest {
				at = was.Partitions[i].End
			}
		}
		if max(at, p.Start) < was.Partitions[i].End {
			return false, nil
		}
	}
	return true, nil
}

func printBatch(b *broker.Batch, p *printer) (next int64, err error) {
	next = b.Records[0].Position
	for i := range b.Records {
		if err = p.print(b.Partition, &b.Records[i]); err != nil && !errors.Is(err, errLimit) {
			return next, err
		}
		next = b.Records[i].Position + 1
		if err != nil {
			break
		}
	}
	if ferr := p.w.Flush(); ferr != nil {
		return next, ferr
	}
	return next, err
}

func commitWritten(ctx context.Context, c broker.Claim, next int64) error {
	err := c.Commit(context.WithoutCancel(ctx), next)
	if errkind.Is(err, errkind.Conflict) {
		return nil // the partition went to another member, which will read it again
	}
	return err
}

// groupReader fetches from every claimed partition and hands batches to one reader.
type groupReader struct {
	deliveries chan *delivery
	errs       chan error
	wg         sync.WaitGroup
}

type delivery struct {
	claim broker.Claim
	batch *broker.Batch
	done  chan struct{}
}

func (g *groupReader) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	select {
	case g.errs <- err:
	default:
	}
}

func (g *groupReader) claim(ctx context.Context, member broker.Consumer) {
	defer g.wg.Done()
	for {
		c, err := member.Claim(ctx)
		if err != nil {
			g.fail(ctx, err)
			return
		}
		g.wg.Add(1)
		go g.read(ctx, c)
	}
}

func (g *groupReader) read(ctx context.Context, c broker.Claim) {
	defer g.wg.Done()
	d := &delivery{claim: c, done: make(chan struct{}, 1)}
	for {
		var err error
		if d.batch, err = c.Fetch(ctx, fetchRecords); err != nil {
			if !errkind.Is(err, errkind.Conflict) {
				g.fail(ctx, err)
			}
			return
		}
		select {
		case g.deliveries <- d:
		case <-ctx.Done():
			d.batch.Release()
			return
		}
		select {
		case <-d.done:
		case <-ctx.Done():
			return
		}
	}
}
