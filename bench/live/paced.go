package live

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
)

// paced is a model whose calls take a known time.
type paced struct {
	*onnx.Model
	places          int
	overhead, event time.Duration // by the clock
	down            *atomic.Bool  // no worker is there
	debt            *atomic.Int64 // nanoseconds that calls took too long, for later ones to make good
}

// Concurrency implements inference.Driver.
func (p *paced) Concurrency() int { return p.places }

// Infer implements inference.Driver. A call is measured from its beginning, and what the clock slept too
// long is taken off the calls after it, so that calls take the right time on the mean.
func (p *paced) Infer(ctx context.Context, in, out []inference.Tensor) error {
	for p.down.Load() && ctx.Err() == nil {
		sleepUntil(ctx, time.Now().Add(time.Millisecond))
	}
	start := time.Now()
	if err := p.Model.Infer(ctx, in, out); err != nil {
		return err
	}
	took := p.overhead + time.Duration(in[0].Rows())*p.event
	less := min(time.Duration(max(0, p.debt.Load())), took/2)
	p.debt.Add(-int64(less))
	due := start.Add(took - less)
	sleepUntil(ctx, due)
	p.debt.Add(int64(time.Since(due)))
	return nil
}

func sleepUntil(ctx context.Context, t time.Time) {
	rest := time.Until(t)
	if rest <= 0 {
		return
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
