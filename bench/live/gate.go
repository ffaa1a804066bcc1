package live

import (
	"context"
	"sync"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
)

// gate is a journal that can be paused for whoever consumes: arrivals are stored, and nothing is committed.
type gate struct {
	*journal.Journal

	mu     sync.Mutex
	closed chan struct{} // nil while open; closed when it opens again
}

func (g *gate) pause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed == nil {
		g.closed = make(chan struct{})
	}
}

func (g *gate) resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed != nil {
		close(g.closed)
		g.closed = nil
	}
}

// Commit implements broker.Transactor.
func (g *gate) Commit(ctx context.Context, tx *broker.Tx) error {
	g.mu.Lock()
	wait := g.closed
	g.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return g.Journal.Commit(ctx, tx)
}
