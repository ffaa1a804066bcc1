package model

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// stepEvidence is what this process sees of the running rollout's step.
type stepEvidence struct {
	rollout                            *Rollout
	championVersion, challengerVersion string
	champion, challenger               *collector
	quality                            [2]Quality // champion's, challenger's; of all steps
}

// begin starts the evidence of what v serves; mu is held. Evidence goes on within
// a step; labels within a rollout.
func (s *Service) begin(st *State, v *Serving) {
	if v.challenger == nil {
		s.step = nil
		return
	}
	r := *st.Rollout
	next := &stepEvidence{rollout: &r, championVersion: v.champion.Version, challengerVersion: v.challenger.Version}
	if before := s.step; before != nil && before.rollout.ID == r.ID {
		next.quality = before.quality
		if before.rollout.Step == r.Step {
			next.champion, next.challenger = before.champion, before.challenger
		}
	}
	if next.champion == nil {
		next.champion, next.challenger = s.newCollector(), s.newCollector()
	}
	v.champion.seen, v.challenger.seen = next.champion, next.challenger
	s.step = next
}

func (s *Service) newCollector() *collector {
	return &collector{target: s.cfg.Policy.Target.Seconds(), within: s.cfg.Policy.Gates.Within}
}

// own is this process's evidence; nil without a rollout.
func (s *Service) own() (*Evidence, *Rollout) {
	s.mu.Lock()
	defer s.mu.Unlock()
	step := s.step
	if step == nil {
		return nil, nil
	}
	e := &Evidence{Rollout: step.rollout.ID, Step: step.rollout.Step, Process: s.cfg.Process, Updated: s.cfg.Now(),
		Champion: step.champion.snapshot(), Challenger: step.challenger.snapshot()}
	e.ChampionQuality.merge(&step.quality[0])
	e.ChallengerQuality.merge(&step.quality[1])
	return e, step.rollout
}

func (s *Service) storeEvidence(ctx context.Context) error {
	e, r := s.own()
	if e == nil {
		return nil
	}
	if err := s.cfg.Source.PutEvidence(ctx, s.cfg.Name, r.ID, s.cfg.Process, e); err != nil {
		return fmt.Errorf("store evidence of rollout %s: %w", r.ID, err)
	}
	return nil
}

// judge stores this process's evidence, reads everyone's, and decides.
func (s *Service) judge(ctx context.Context) error {
	if err := s.storeEvidence(ctx); err != nil {
		return err
	}
	_, r := s.own()
	if r == nil {
		return nil
	}
	all, err := s.cfg.Source.Evidence(ctx, s.cfg.Name, r.ID)
	if err != nil {
		return fmt.Errorf("read evidence of rollout %s: %w", r.ID, err)
	}
	merged := Merge(r.ID, r.Step, all)
	d := Decide(r, merged, s.cfg.Policy, s.cfg.Now())
	s.mu.Lock()
	s.status.Decision, s.status.Evidence = &d, merged
	s.mu.Unlock()
	if d.Action == Hold {
		return nil
	}
	after, err := s.decided(ctx, r, d)
	if err != nil {
		return err
	}
	s.change.Lock()
	defer s.change.Unlock()
	return s.take(ctx, after)
}

// decided writes a decision about a step of a rollout into the state. Where
// another one was first, its state is returned.
func (s *Service) decided(ctx context.Context, r *Rollout, d Decision) (*State, error) {
	why := fmt.Sprintf("%s %s of %s: %s", d.Action, r.Role, r.Version, d.Reason)
	after, err := s.cfg.Source.Update(ctx, s.cfg.Name, why, func(st *State) error {
		return Apply(st, r.ID, r.Step, d)
	})
	if errkind.Is(err, errkind.Conflict) {
		return s.cfg.Source.State(ctx, s.cfg.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("decide rollout %s: %w", r.ID, err)
	}
	s.cfg.Logger.Info("rollout decided", "rollout", r.ID, "action", d.Action, "share", d.Share, "reason", d.Reason)
	return after, nil
}

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
	st := s.status
	st.Name, st.Own, st.Rollout = s.cfg.Name, own, r
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
	if d := st.Decision; r == nil || d != nil && st.Evidence != nil && (st.Evidence.Rollout != r.ID || st.Evidence.Step != r.Step) {
		st.Decision, st.Evidence = nil, nil
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

// note keeps what fails for Status, and logs where it begins and ends.
func (s *Service) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	before := s.status.Problem
	s.status.Problem = err
	if before == nil && err != nil {
		s.status.Since = s.cfg.Now()
	}
	s.mu.Unlock()
	switch {
	case before == nil && err != nil:
		s.cfg.Logger.Warn("the model's state is not followed: what serves now goes on", "error", err)
	case before != nil && err == nil:
		s.cfg.Logger.Info("the model's state is followed again")
	}
}
