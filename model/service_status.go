package model

import (
	"context"
	"errors"
	"time"
)

// Status is what a service does now, for metrics and people.
type Status struct {
	Name       string
	Generation uint64
	// Champion, Challenger and Previous are the versions that are open; empty for none.
	Champion, Challenger, Previous string
	// Rollout is the running one; nil for none.
	Rollout *Rollout
	// Next is the share of the next step, 1 for promotion; 0 where none follows.
	Next float64
	// Own is what this process has seen of the rollout's step, Evidence what all
	// had when the last Decision was made.
	Own, Evidence *Evidence
	Decision      *Decision
	// Draining is the number of servings before the current one that are still held.
	Draining int
	// Swaps counts the states that were taken in.
	Swaps uint64
	// Problem is what fails now, Since since when: the source, or a version that does not open.
	Problem error
	Since   time.Time
}

// Status returns the current status.
func (s *Service) Status() Status {
	own, r := s.own()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Name: s.cfg.Name, Own: own, Rollout: r}
	if v := s.current.Load(); v != nil {
		st.Generation, st.Champion = v.generation, v.champion.Version
		if v.challenger != nil {
			st.Challenger = v.challenger.Version
		}
		if p := v.previous.Load(); p != nil {
			st.Previous = p.Version
		}
	}
	if r != nil && r.Role == Canary {
		st.Next = nextShare(s.cfg.Policy, r.Share)
	}
	if m := s.merged; r != nil && m != nil && m.Rollout == r.ID && m.Step == r.Step {
		st.Decision, st.Evidence = s.decision, m
	}
	for _, p := range s.problems {
		if p.err != nil {
			st.Problem = errors.Join(st.Problem, p.err)
			if st.Since.IsZero() || p.since.Before(st.Since) {
				st.Since = p.since
			}
		}
	}
	st.Draining, st.Swaps = int(max(0, s.draining.Load())), s.swaps.Load()
	return st
}

// nextShare is the share of the step behind share; 1 for promotion.
func nextShare(p Policy, share float64) float64 {
	for _, next := range p.Steps {
		if next > share {
			return next
		}
	}
	return 1
}

// activity is what Run does.
type activity int

const (
	following activity = iota
	judging
	numActivities
)

// problem is why an activity fails, and since when.
type problem struct {
	err   error
	since time.Time
}

// note keeps what fails for Status, and logs where it begins and ends.
func (s *Service) note(ctx context.Context, a activity, err error) {
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	p := &s.problems[a]
	before := p.err
	if p.err = err; before == nil && err != nil {
		p.since = s.cfg.Now()
	}
	s.mu.Unlock()
	what := [...]string{"following the state of the model", "judging the rollout"}[a]
	switch {
	case before == nil && err != nil:
		s.cfg.Logger.Warn(what+" fails: what serves now goes on", "error", err)
	case before != nil && err == nil:
		s.cfg.Logger.Info(what + " works again")
	}
}
