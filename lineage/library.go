package lineage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// LibraryOptions are what NewLibrary takes.
type LibraryOptions struct {
	Broker *broker.Broker
	// Dir is the folder of the stores; each has a folder of its pipeline's name in it.
	Dir string
	// Topic names a pipeline's topic of predictions.
	Topic func(pipeline string) string
	// Policy says what is kept of a pipeline; nil is what Policy's zero value keeps.
	Policy func(pipeline string) Policy
	// Logger hears of what goes wrong; nil discards.
	Logger *slog.Logger
	// Patience is how long Records waits for a store to catch up; 20 s by default.
	Patience time.Duration
}

// Library opens the stores of pipelines as they are asked for, and lets them catch
// up with their topics. All methods may be called concurrently.
type Library struct {
	o      LibraryOptions
	ctx    context.Context // of catching up
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	shelf  map[string]*shelved
	closed bool
}

// shelved is a store that is open.
type shelved struct {
	s *Store
	x *Indexer

	mu          sync.Mutex
	catching    chan struct{} // closed when the catching up under way has ended; nil without
	err         error         // of the last one
	done, total int64
}

// NewLibrary returns a Library. Close closes what it opens, and not the broker.
func NewLibrary(o LibraryOptions) *Library {
	if o.Patience <= 0 {
		o.Patience = 20 * time.Second
	}
	l := &Library{o: o, shelf: map[string]*shelved{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// Close ends catching up and closes all stores; a second Close returns nil.
func (l *Library) Close() error {
	l.mu.Lock()
	l.closed = true
	shelf := l.shelf
	l.shelf = nil
	l.mu.Unlock()
	l.cancel()
	l.wg.Wait()
	var errs []error
	for _, s := range shelf {
		errs = append(errs, s.s.Close())
	}
	return errors.Join(errs...)
}

// Records returns the predictions of a pipeline, all that its topic held when it was
// called. A pipeline without records is NotFound. Where catching up takes longer than
// Patience the error is Transient and says how far it is; it goes on meanwhile.
func (l *Library) Records(ctx context.Context, pipeline string) (Records, error) {
	s, err := l.find(ctx, pipeline)
	if err != nil {
		return nil, err
	}
	// What is under way may have begun before this call; then another follows.
	for range 2 {
		before := s.begin(l)
		select {
		case <-before.end:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(l.o.Patience):
			done, total := s.progress()
			return nil, errkind.Errorf(errkind.Transient, "the store of predictions of %s is being made: %d of %d messages are in it; ask again in a while", pipeline, done, total)
		}
		s.mu.Lock()
		err := s.err
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if before.own {
			break
		}
	}
	return s.s, nil
}

func (s *shelved) progress() (done, total int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done, s.total
}

type catching struct {
	end chan struct{}
	own bool // begun by this call
}

// begin catches up in a goroutine of the library, unless that is under way.
func (s *shelved) begin(l *Library) catching {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.catching != nil {
		return catching{end: s.catching}
	}
	end := make(chan struct{})
	s.catching = end
	l.wg.Go(func() {
		err := s.x.CatchUp(l.ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.err, s.catching = err, nil
		close(end)
	})
	return catching{end, true}
}

// find opens a pipeline's store.
func (l *Library) find(ctx context.Context, pipeline string) (*shelved, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	if s := l.shelf[pipeline]; s != nil {
		return s, nil
	}
	if pipeline == "" || !filepath.IsLocal(pipeline) || filepath.Base(pipeline) != pipeline || pipeline[0] == '.' {
		return nil, errkind.Errorf(errkind.NotFound, "%q is no name of a pipeline", pipeline)
	}
	topic := l.o.Topic(pipeline)
	if _, err := l.o.Broker.Describe(ctx, topic, ""); err != nil {
		if errkind.Is(err, errkind.NotFound) {
			return nil, errkind.Errorf(errkind.NotFound, "there are no predictions of a pipeline %q: the topic %q does not exist", pipeline, topic)
		}
		return nil, fmt.Errorf("look for the predictions of %s: %w", pipeline, err)
	}
	so := StoreOptions{Logger: l.o.Logger}
	if l.o.Policy != nil {
		so.Policy = l.o.Policy(pipeline)
	}
	store, err := OpenStore(filepath.Join(l.o.Dir, pipeline), so)
	if err != nil {
		return nil, err
	}
	s := &shelved{s: store, x: NewIndexer(l.o.Broker, topic, store)}
	s.x.Progress = func(done, total int64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.done, s.total = done, total
	}
	l.shelf[pipeline] = s
	return s, nil
}
