package broker

import (
	"context"
	"sync/atomic"
)

// consumer is what callers hold of a driver's Consumer.
type consumer struct {
	b *Broker
	Consumer
}

func (c *consumer) Claim(ctx context.Context) (Claim, error) {
	var inner Claim
	err := c.b.do(ctx, func() (err error) {
		inner, err = c.Consumer.Claim(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	w := &claim{b: c.b, Claim: inner}
	w.next.Store(inner.Start())
	return w, nil
}

// claim is what callers hold of a driver's Claim.
type claim struct {
	b *Broker
	Claim
	next atomic.Int64
}

func (c *claim) Fetch(ctx context.Context, max int) (*Batch, error) {
	return c.b.fetch(ctx, c.Claim.Fetch, max, &c.next)
}

func (c *claim) SeekTo(position int64) error {
	err := c.Claim.SeekTo(position)
	if err == nil {
		c.next.Store(position)
	}
	return err
}

func (c *claim) Commit(ctx context.Context, next int64) error {
	return c.b.do(ctx, func() error { return c.Claim.Commit(ctx, next) })
}

// Position implements Positioner.
func (c *claim) Position() int64 { return position(c.Claim, &c.next) }

// reader is what callers hold of a driver's Reader.
type reader struct {
	b *Broker
	Reader
	next atomic.Int64
}

func newReader(b *Broker, inner Reader, from int64) *reader {
	r := &reader{b: b, Reader: inner}
	r.next.Store(from)
	return r
}

func (r *reader) Fetch(ctx context.Context, max int) (*Batch, error) {
	return r.b.fetch(ctx, r.Reader.Fetch, max, &r.next)
}

// Position implements Positioner.
func (r *reader) Position() int64 { return position(r.Reader, &r.next) }

// position is the driver's word, or behind what it gave last.
func position(inner any, next *atomic.Int64) int64 {
	if p, ok := inner.(Positioner); ok {
		return max(p.Position(), next.Load())
	}
	return next.Load()
}

func (b *Broker) fetch(ctx context.Context, fetch func(context.Context, int) (*Batch, error), max int, next *atomic.Int64) (*Batch, error) {
	var batch *Batch
	err := b.do(ctx, func() (err error) {
		batch, err = fetch(ctx, max)
		return err
	})
	if err != nil {
		return nil, err
	}
	next.Store(batch.Next())
	return batch, nil
}

// unwrap makes the claims of a transaction the driver's.
func (b *Broker) unwrap(tx *Tx) *Tx {
	inner := &Tx{Publish: tx.Publish, Positions: make([]ClaimPosition, len(tx.Positions))}
	for i, p := range tx.Positions {
		if c, ok := p.Claim.(*claim); ok {
			p.Claim = c.Claim
		}
		inner.Positions[i] = p
	}
	return inner
}
