package lease

import (
	"context"
	"sync"

	"github.com/freshet-io/freshet/errkind"
)

// gate is a table that can be made to fail or to hang, as when the process of a
// member is killed, cut off or stopped.
type gate struct {
	*memory
	mu     sync.Mutex
	failed bool
	frozen chan struct{} // closed when the process goes on
	// deaf loses the answers of Puts that were applied.
	deaf bool
}

func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	failed, frozen := g.failed, g.frozen
	g.mu.Unlock()
	if frozen != nil {
		<-frozen // a stopped process looks at no context
	}
	if failed {
		return errkind.New(errkind.Transient, "cut off")
	}
	return ctx.Err()
}

func (g *gate) set(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *gate) List(ctx context.Context, prefix string) ([]Entry, error) {
	if err := g.pass(ctx); err != nil {
		return nil, err
	}
	return g.memory.List(ctx, prefix)
}

func (g *gate) Put(ctx context.Context, key string, value []byte, version uint64) (uint64, error) {
	if err := g.pass(ctx); err != nil {
		return 0, err
	}
	v, err := g.memory.Put(ctx, key, value, version)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.deaf && err == nil {
		return 0, errkind.New(errkind.Transient, "the answer is lost")
	}
	return v, err
}

func (g *gate) Delete(ctx context.Context, key string, version uint64) error {
	if err := g.pass(ctx); err != nil {
		return err
	}
	return g.memory.Delete(ctx, key, version)
}
