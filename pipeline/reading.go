package pipeline

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet-io/freshet/broker"
)

// readPatience is how long a read waits for records before it looks whether any
// can still come: before the end of a partition there may lie positions without.
const readPatience = 250 * time.Millisecond

// readTo gives f the batches of a reader until it has come to end, or f wants no
// more. The last one may go on behind end. The batches are f's to release.
func (p *Pipeline) readTo(ctx context.Context, r broker.Reader, from, end int64, f func(*broker.Batch) (more bool, err error)) error {
	gapless := p.broker.Capabilities().Gapless
	for next := from; next < end; next = max(next, r.(broker.Positioner).Position()) {
		wait, cancel := ctx, context.CancelFunc(func() {})
		if !gapless {
			wait, cancel = context.WithTimeout(ctx, readPatience)
		}
		batch, err := r.Fetch(wait, 256)
		waited := wait.Err() != nil && ctx.Err() == nil
		cancel()
		if err != nil {
			if waited {
				continue
			}
			return err
		}
		next = batch.Next()
		more, err := f(batch)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// readTopic is readTo for what a partition holds now.
func (p *Pipeline) readTopic(ctx context.Context, topic string, partition int, part broker.PartitionState, f func(*broker.Batch) (more bool, err error)) error {
	if part.Start >= part.End {
		return nil
	}
	r, err := p.broker.Read(ctx, topic, partition, part.Start)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := p.readTo(ctx, r, part.Start, part.End, f); err != nil {
		return fmt.Errorf("read topic %s, partition %d: %w", topic, partition, err)
	}
	return nil
}
