package model

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// ServiceConfig says how a model is served to one infer step of a pipeline.
type ServiceConfig struct {
	// Name is the model's in Source.
	Name   string
	Source Source
	// Open opens a version's driver; dir is empty for remote ones.
	Open func(ctx context.Context, v *Version, dir string) (inference.Driver, error)
	// Model is how each version is batched and guarded.
	Model inference.Config
	// Explain makes a version explainable, with its background sample; nil for none.
	// An error leaves the version without explanations.
	Explain func(d inference.Driver, v *Version, dir string) (inference.Explainer, error)
	// Check refuses a version that does not fit the step; nil for none.
	Check  func(v *Version) error
	Policy Policy
	// Previous opens the former champion ahead, for fallbacks to it.
	Previous bool
	// Process names this process's evidence; it is unique to a start.
	Process string
	// Poll is how often the source's state is read; 0 means 2 s.
	Poll time.Duration
	// Evidence is how often evidence is stored and decided on; 0 means 5 s.
	Evidence time.Duration
	// Patience is how long opening a version is repeated that fails with a passing
	// error, before its rollout is rolled back; 0 means 1 minute.
	Patience time.Duration
	Logger   *slog.Logger
	Now      func() time.Time
}

// Service serves a model to the tasks of a process, and follows its state.
//
// Order of events: a version serves after its files were fetched and checked, it
// was opened and gave a first answer. Until then the state before it serves on.
// A state of an older generation is never taken in after a newer one. What no
// Serving holds any more is closed, after the last Release.
//
// Keys and arms: within a rollout, from its first step to its end, each process
// moves a key from the champion to the challenger at most once and never back:
// the share never falls, the hash of a key is the same everywhere, and states are
// taken in by rising generation. Processes see a state at slightly different
// moments; a process that takes over a partition calls Refresh first, and then
// serves a generation at least as new as any that was served before the call.
type Service struct {
	cfg     ServiceConfig
	current atomic.Pointer[Serving]

	change sync.Mutex // held while a state is read and taken in
	state  *State     // what is served; under change

	mu       sync.Mutex // guards the rest
	opens    map[string]*opened
	step     *stepEvidence
	decision *Decision
	merged   *Evidence // of decision
	failing  failure
	problems [numActivities]problem
	closed   bool

	work     sync.WaitGroup // a version from being opened to being closed
	draining atomic.Int64
	swaps    atomic.Uint64
}

// NewService opens the champion, and the challenger where a rollout runs. Without
// a champion it is NotFound; the error of one that does not open has its kind.
// A challenger that does not open is rolled back.
func NewService(ctx context.Context, c ServiceConfig) (*Service, error) {
	if c.Source == nil || c.Open == nil || c.Process == "" {
		return nil, errkind.New(errkind.Invalid, "serve a model: a source, a way to open versions, and a process name are needed")
	}
	if err := c.Policy.Validate(); err != nil {
		return nil, err
	}
	c.Policy = c.Policy.withDefaults()
	if c.Poll <= 0 {
		c.Poll = 2 * time.Second
	}
	if c.Evidence <= 0 {
		c.Evidence = 5 * time.Second
	}
	if c.Patience <= 0 {
		c.Patience = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Logger = c.Logger.With("model", c.Name)
	s := &Service{cfg: c, opens: map[string]*opened{}}
	if err := s.start(ctx); err != nil {
		return nil, fmt.Errorf("serve model %s: %w", c.Name, errors.Join(err, s.Close()))
	}
	return s, nil
}

// start takes in the first state. A challenger that cannot be opened for now is
// waited for: without it, its keys would go back to the champion.
func (s *Service) start(ctx context.Context) error {
	for {
		err := s.Refresh(ctx)
		if s.current.Load() != nil {
			return nil
		}
		s.mu.Lock()
		f := s.failing
		s.mu.Unlock()
		if f.err == nil || !f.waits {
			return err
		}
		timer := time.NewTimer(f.next.Sub(s.cfg.Now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// Fixed serves one arm for ever: a model from a file or a URL, without versions.
// Close closes its Model.
func Fixed(a Arm) *Service {
	s := &Service{cfg: ServiceConfig{Name: a.Name, Logger: slog.New(slog.DiscardHandler), Now: time.Now}, opens: map[string]*opened{}}
	o := &opened{model: a.Model, refs: 1}
	s.opens[a.Version] = o
	s.work.Add(1)
	v := &Serving{service: s, champion: &a, opened: []*opened{o}}
	v.holders.Store(1)
	s.current.Store(v)
	return s
}

// Acquire returns what serves now, until Release. Within one goroutine, later
// calls never return an older generation. After Close the models of what it
// returns are closed.
func (s *Service) Acquire() *Serving {
	for {
		v := s.current.Load()
		if v.acquire() {
			return v
		}
		if s.current.Load() == v { // nothing came after it
			return &Serving{generation: v.generation, champion: v.champion, challenger: v.challenger, deal: v.deal, compare: v.compare}
		}
	}
}

// Report counts outcomes as evidence of the running rollout. It may be called
// concurrently, after the Serving was released too.
func (s *Service) Report(o *Outcomes) {
	if o.Arm != nil && o.Arm.seen != nil {
		o.Arm.seen.add(o)
	}
}

// Label counts the label of a row that a version scored, whenever it comes. It is
// evidence where the version takes part in the running rollout.
func (s *Service) Label(version string, score, label float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e := s.step; {
	case e == nil:
	case version == e.championVersion:
		e.quality[0].add(score, label)
	case version == e.challengerVersion:
		e.quality[1].add(score, label)
	}
}

// Run follows the source until ctx ends: it takes in new states, stores evidence,
// and decides. A source that fails leaves what serves now in place.
func (s *Service) Run(ctx context.Context) error {
	if s.cfg.Source == nil {
		<-ctx.Done()
		return nil
	}
	poll, judge := time.NewTicker(s.cfg.Poll), time.NewTicker(s.cfg.Evidence)
	defer poll.Stop()
	defer judge.Stop()
	for {
		select {
		case <-ctx.Done():
			s.lastEvidence(context.WithoutCancel(ctx))
			return nil
		case <-poll.C:
			s.note(ctx, following, s.Refresh(ctx))
		case <-judge.C:
			s.note(ctx, judging, s.judge(ctx))
		}
	}
}

// lastWords bounds what is written while the process stops.
const lastWords = 5 * time.Second

func (s *Service) lastEvidence(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	if err := s.storeEvidence(ctx); err != nil {
		s.cfg.Logger.Warn("the last evidence of the rollout is not stored", "error", err)
	}
}

// Close stores evidence and closes all versions, after the calls in progress. The
// servings should be released by then; it waits for them for 30 seconds at most.
func (s *Service) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	s.mu.Unlock()
	if again {
		return nil
	}
	s.change.Lock()
	defer s.change.Unlock()
	s.lastEvidence(context.Background())
	if v := s.current.Load(); v != nil {
		s.draining.Add(1)
		v.Release() // the service's own hold
	}
	return s.waitClosed(30 * time.Second)
}
