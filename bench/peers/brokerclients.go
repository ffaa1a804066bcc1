package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
)

const (
	logBatch   = 1000 // records of a call, and of a commit
	logCallers = 8    // calls under way at the same time
)

// logClient does the work of comparison (k) on topics of one partition: Freshet's
// adapter does, and the best loop on each broker's own client.
type logClient interface {
	create(ctx context.Context, topic string) error
	// publish stores recs again and again, logBatch a call, with about logCallers
	// batches under way, as long as s wants more.
	publish(ctx context.Context, topic string, recs []event.Record, s *stopwatch) error
	// consume reads the first n records and returns the bytes of their values.
	consume(ctx context.Context, topic string, n int) (bytes int, err error)
	// move publishes what it reads from the beginning of one topic to another,
	// logBatch at a time with the position behind them, as long as s wants more.
	move(ctx context.Context, from, to string, s *stopwatch) error
	close() error
}

// adapterClient is Freshet's side.
type adapterClient struct {
	b      *broker.Broker
	groups int
}

func (a *adapterClient) create(ctx context.Context, topic string) error {
	return a.b.CreateTopic(ctx, broker.TopicConfig{Name: topic, Partitions: 1})
}

func (a *adapterClient) publish(ctx context.Context, topic string, recs []event.Record, s *stopwatch) error {
	return inParallel(ctx, logCallers, s, func(ctx context.Context) error {
		_, err := a.b.Publish(ctx, topic, recs[:logBatch])
		return err
	})
}

// inParallel makes calls of logBatch records from several goroutines as long as s wants more.
func inParallel(ctx context.Context, callers int, s *stopwatch, call func(context.Context) error) error {
	s.start()
	var begun, done atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range callers {
		g.Go(func() error {
			for s.more(int(begun.Add(logBatch)) - logBatch) {
				if err := call(ctx); err != nil {
					return err
				}
				done.Add(logBatch)
			}
			return nil
		})
	}
	err := g.Wait()
	s.stop(int(done.Load()))
	return err
}

func (a *adapterClient) consume(ctx context.Context, topic string, n int) (bytes int, err error) {
	r, err := a.b.Read(ctx, topic, 0, 0)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for n > 0 {
		batch, err := r.Fetch(ctx, min(n, logBatch))
		if err != nil {
			return 0, err
		}
		for i := range batch.Records {
			bytes += len(batch.Records[i].Value)
		}
		n -= len(batch.Records)
		batch.Release()
	}
	return bytes, nil
}

func (a *adapterClient) move(ctx context.Context, from, to string, s *stopwatch) (err error) {
	a.groups++
	c, err := a.b.Subscribe(ctx, broker.Subscription{Topic: from, Group: fmt.Sprintf("move-%d", a.groups)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	claim, err := c.Claim(ctx)
	if err != nil {
		return err
	}
	first, err := claim.Fetch(ctx, 1)
	if err != nil {
		return err
	}
	first.Release()
	s.start()
	n := 0
	for s.more(n) {
		batch, err := claim.Fetch(ctx, logBatch)
		if err != nil {
			return err
		}
		err = moveBatch(ctx, a.b, claim, to, batch)
		n += len(batch.Records)
		batch.Release()
		if err != nil {
			return err
		}
	}
	s.stop(n)
	return nil
}

// moveBatch publishes a batch and commits the position behind it, in one transaction where there are any.
func moveBatch(ctx context.Context, b *broker.Broker, claim broker.Claim, to string, batch *broker.Batch) error {
	if b.Capabilities().Transactions {
		return b.Commit(ctx, &broker.Tx{
			Publish:   []broker.Publication{{Topic: to, Partition: broker.AnyPartition, Records: batch.Records}},
			Positions: []broker.ClaimPosition{{Claim: claim, Next: batch.Next()}},
		})
	}
	if _, err := b.Publish(ctx, to, batch.Records); err != nil {
		return err
	}
	return claim.Commit(ctx, batch.Next())
}

func (a *adapterClient) close() error { return nil } // the broker is the caller's

// stopwatch measures work that goes on for so long, or until most events are done.
// Connecting comes before its start, and disconnecting after its stop.
type stopwatch struct {
	length time.Duration
	most   int
	m      meter
	taken  sample
}

func (s *stopwatch) start()             { s.m = startMeter() }
func (s *stopwatch) more(done int) bool { return done < s.most && time.Since(s.m.at) < s.length }
func (s *stopwatch) stop(done int)      { s.taken = s.m.stop(done) }
