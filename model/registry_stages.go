package model

import (
	"context"
	"slices"

	"github.com/freshet-io/freshet/errkind"
)

// Promote makes a version (latest is one too) the champion at once. A running
// rollout that tries out or compares with another version is a Conflict.
func (r *Registry) Promote(ctx context.Context, name, version, why string) (*State, error) {
	v, err := r.Version(ctx, name, version)
	if err != nil {
		return nil, err
	}
	return r.Update(ctx, name, reason("promoted "+v.Version, why), func(s *State) error {
		if rolloutRuns(s.Rollout) && s.Champion != v.Version {
			return errkind.Errorf(errkind.Conflict, "promote version %s of model %s: rollout %s of version %s is running: end it first, by rollback or by its own gates",
				v.Version, name, s.Rollout.ID, s.Rollout.Version)
		}
		s.SetChampion(v.Version)
		return nil
	})
}

// Rollback makes the former champion the champion again. The version that it
// replaces is no former champion after that, so that a second Rollback goes further back.
func (r *Registry) Rollback(ctx context.Context, name, why string) (*State, error) {
	previous, err := r.Version(ctx, name, PreviousAlias)
	if err != nil {
		return nil, err
	}
	return r.Update(ctx, name, reason("rolled back to "+previous.Version, why), func(s *State) error {
		if rolloutRuns(s.Rollout) {
			return errkind.Errorf(errkind.Conflict, "roll back model %s: rollout %s is running: end it first", name, s.Rollout.ID)
		}
		if n := len(s.Former); n == 0 || s.Former[n-1] != previous.Version {
			return errkind.Errorf(errkind.Conflict, "roll back model %s: somebody changed its champion meanwhile", name)
		}
		s.Former = without(s.Former, previous.Version)
		s.Champion = previous.Version
		return nil
	})
}

// Archive puts a version away; while it is in use that is a Conflict.
func (r *Registry) Archive(ctx context.Context, name, version, why string) (*State, error) {
	v, err := r.Version(ctx, name, version)
	if err != nil {
		return nil, err
	}
	return r.Update(ctx, name, reason("archived "+v.Version, why), func(s *State) error {
		if use := s.InUse(v.Version); use != "" {
			return errkind.Errorf(errkind.Conflict, "archive version %s of model %s: %s", v.Version, name, use)
		}
		s.Former = without(s.Former, v.Version)
		if !slices.Contains(s.Archived, v.Version) {
			s.Archived = append(s.Archived, v.Version)
		}
		return nil
	})
}

func reason(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}
