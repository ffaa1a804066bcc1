package tensors

import (
	"context"
	"sync"

	"github.com/freshet-io/freshet/errkind"
)

// Gate lets calls in until it is closed, and waits for those inside.
type Gate struct {
	name   string
	slots  chan struct{}
	mu     sync.Mutex
	closed bool
	done   chan struct{}
	inside sync.WaitGroup
}

// NewGate lets slots calls of the model with that name in at a time.
func NewGate(name string, slots int) *Gate {
	return &Gate{name: name, slots: make(chan struct{}, slots), done: make(chan struct{})}
}

// Enter waits for a slot, until ctx is done. After nil, Leave gives it back. After
// Close the error is Closed.
func (g *Gate) Enter(ctx context.Context) error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return g.refusal()
	}
	g.inside.Add(1)
	g.mu.Unlock()
	if err := ctx.Err(); err != nil {
		g.inside.Done()
		return err
	}
	select {
	case g.slots <- struct{}{}:
		return nil
	default:
	}
	select {
	case g.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		g.inside.Done()
		return ctx.Err()
	case <-g.done:
		g.inside.Done()
		return g.refusal()
	}
}

func (g *Gate) refusal() error {
	return errkind.Errorf(errkind.Closed, "model %q is closed", g.name)
}

// Leave gives a slot back.
func (g *Gate) Leave() {
	<-g.slots
	g.inside.Done()
}

// Closing is closed by Close, before it waits.
func (g *Gate) Closing() <-chan struct{} { return g.done }

// Close refuses calls from now on and returns when none is inside; true for the first Close.
func (g *Gate) Close() bool {
	g.mu.Lock()
	first := !g.closed
	if first {
		g.closed = true
		close(g.done)
	}
	g.mu.Unlock()
	g.inside.Wait()
	return first
}
