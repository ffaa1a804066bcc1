package model

import (
	"context"
	"fmt"

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
	if d := s.decision; d != nil && s.merged.Rollout == e.Rollout && d.Step == e.Step {
		e.Decision = d
	}
	return e, step.rollout
}

func (s *Service) storeEvidence(ctx context.Context) error {
	e, _ := s.own()
	if e == nil {
		return nil
	}
	if err := s.cfg.Source.PutEvidence(ctx, s.cfg.Name, e.Rollout, s.cfg.Process, e); err != nil {
		return fmt.Errorf("store evidence of rollout %s: %w", e.Rollout, err)
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
	if v := s.current.Load(); v.champion.Version != r.Champion {
		return s.settle(ctx, r, Decision{Action: RollBack, Time: s.cfg.Now(), Step: r.Step,
			Reason: fmt.Sprintf("the champion is %s now, no more %s, with which it was compared", v.champion.Version, r.Champion)})
	}
	merged, err := Seen(ctx, s.cfg.Source, s.cfg.Name, &State{Rollout: r})
	if err != nil {
		return err
	}
	d := Decide(r, merged, s.cfg.Policy, s.cfg.Now())
	s.mu.Lock()
	s.decision, s.merged = &d, merged
	s.mu.Unlock()
	if d.Action == Hold {
		return nil
	}
	return s.settle(ctx, r, d)
}

// settle writes a decision and takes in what comes of it.
func (s *Service) settle(ctx context.Context, r *Rollout, d Decision) error {
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
