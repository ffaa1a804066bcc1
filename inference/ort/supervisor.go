package ort

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// supervisor keeps a worker running.
type supervisor struct {
	o       *Options
	name    string // of the model
	launch  func(ctx context.Context) (*process, error)
	ctx     context.Context // until close
	cancel  context.CancelFunc
	closing <-chan struct{} // calls are to end
	done    chan struct{}   // run has returned

	current atomic.Pointer[process] // nil between workers

	mu      sync.Mutex
	changed chan struct{} // closed when what follows changes
	next    time.Time     // when a worker is started
	cause   error         // why there is none
}

// supervise takes a worker over.
func supervise(p *process, name string, o *Options, closing <-chan struct{}, launch func(ctx context.Context) (*process, error)) *supervisor {
	s := &supervisor{o: o, name: name, launch: launch, closing: closing, done: make(chan struct{}), changed: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.current.Store(p)
	go s.run(p)
	return s
}

// close ends the worker and waits for it.
func (s *supervisor) close() {
	s.cancel()
	<-s.done
}

func (s *supervisor) run(p *process) {
	defer close(s.done)
	inARow := 0
	for {
		select {
		case <-s.ctx.Done():
			p.stop()
			return
		case <-p.dead:
		}
		if time.Since(p.ready) > s.o.calm {
			inARow = 0
		}
		for cause := p.err; cause != nil; {
			inARow++
			pause := s.o.pauses[min(inARow, len(s.o.pauses))-1]
			s.o.Logger.Warn("the worker of ONNX Runtime is started again", "model", s.name, "because", cause, "in", pause, "ends in a row", inARow)
			s.set(nil, cause, time.Now().Add(pause))
			timer := time.NewTimer(pause)
			select {
			case <-s.ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			p, cause = s.launch(s.ctx)
			if s.ctx.Err() != nil {
				if p != nil {
					p.stop()
				}
				return
			}
		}
		s.set(p, nil, time.Time{})
	}
}

func (s *supervisor) set(p *process, cause error, next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current.Store(p)
	s.cause, s.next = cause, next
	close(s.changed)
	s.changed = make(chan struct{})
}

// acquire returns the worker. It waits for one, if that does not take too long.
func (s *supervisor) acquire(ctx context.Context) (*process, error) {
	if p := s.current.Load(); p != nil && !p.isDead() {
		return p, nil
	}
	timer := time.NewTimer(s.o.wait)
	defer timer.Stop()
	for {
		s.mu.Lock()
		p, cause, next, changed := s.current.Load(), s.cause, s.next, s.changed
		s.mu.Unlock()
		if p != nil && !p.isDead() {
			return p, nil
		}
		if until := time.Until(next); cause != nil && until > s.o.wait {
			err := errkind.Errorf(errkind.Transient, "no worker runs, the next is started in %v: %w", until.Round(time.Second), cause)
			return nil, inference.RetryAfterError(err, until)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.closing:
			return nil, errClosing
		case <-timer.C:
			if cause == nil {
				cause = p.err // it has just ended
			}
			return nil, errkind.Errorf(errkind.Transient, "no worker came within %v: %w", s.o.wait, cause)
		}
	}
}
