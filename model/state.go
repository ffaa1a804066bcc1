package model

import (
	"context"
	"slices"
	"time"
)

// Stage is where a version stands.
type Stage string

const (
	Candidate Stage = "candidate" // admitted, scores nothing
	InRollout Stage = "canary"    // scores its share of a running rollout
	Current   Stage = "champion"  // scores what no rollout takes
	Archived  Stage = "archived"  // kept, not to be used again without being promoted
)

// State is what is decided about a model's versions. It changes as a whole, by
// compare-and-set, and every state is kept: the states are the log.
type State struct {
	// Generation counts the states from 1 on; 0 is before the first.
	Generation uint64 `json:"generation"`
	// Champion is the version in use; empty while there is none.
	Champion string `json:"champion,omitempty"`
	// Former are the champions before it, latest last.
	Former []string `json:"former,omitempty"`
	// Archived are the versions that are put away.
	Archived []string `json:"archived,omitempty"`
	// Deleted are the versions that are gone; their names are not used again.
	Deleted []string `json:"deleted,omitempty"`
	// Rollout is the running rollout, or how the last one ended; nil before the first.
	Rollout *Rollout `json:"rollout,omitempty"`
	// Time, By and Why say who made the state and for what reason.
	Time time.Time `json:"time"`
	By   string    `json:"by"`
	Why  string    `json:"why"`
}

// Source is where a Service takes versions from: a Registry, or another
// registry's server. Methods may be called concurrently.
type Source interface {
	// Version returns a version by its name, or by "champion" or "latest"; NotFound where there is none.
	Version(ctx context.Context, name, version string) (*Version, error)
	// Fetch returns a local folder with the version's files, checked against its
	// digest (Corrupt where it differs). The folder stays until the process ends.
	Fetch(ctx context.Context, v *Version) (dir string, err error)
	// State returns the latest state of a model; NotFound for an unknown model.
	State(ctx context.Context, name string) (*State, error)
	// Update changes the state: change is called with the latest one, again after a
	// Conflict, and what it leaves is written with the reason why.
	Update(ctx context.Context, name, why string, change func(*State) error) (*State, error)
	// PutEvidence stores what one process has seen of a rollout, in place of what
	// it stored before; Evidence returns what all processes stored.
	PutEvidence(ctx context.Context, name, rollout, process string, e *Evidence) error
	Evidence(ctx context.Context, name, rollout string) ([]*Evidence, error)
}

// Stage returns where a version stands.
func (s *State) Stage(version string) Stage {
	switch {
	case version == s.Champion:
		return Current
	case s.Rollout.Running() && version == s.Rollout.Version:
		return InRollout
	case slices.Contains(s.Archived, version):
		return Archived
	}
	return Candidate
}

// InUse says what a version is used for; empty where it is not.
func (s *State) InUse(version string) string {
	switch {
	case version == s.Champion:
		return "it is the champion"
	case s.Rollout.Running() && version == s.Rollout.Version:
		return "the rollout " + s.Rollout.ID + " tries it out"
	case s.Rollout.Running() && version == s.Rollout.Champion:
		return "the rollout " + s.Rollout.ID + " compares with it"
	}
	return ""
}

// Clone returns a copy that shares nothing but the rollout's own slices.
func (s *State) Clone() *State {
	c := *s
	c.Former, c.Archived, c.Deleted = slices.Clone(s.Former), slices.Clone(s.Archived), slices.Clone(s.Deleted)
	if s.Rollout != nil {
		r := *s.Rollout
		c.Rollout = &r
	}
	return &c
}

// SetChampion makes version the champion and remembers the one before it, of
// which the last maxFormer are kept. It ends no rollout.
func (s *State) SetChampion(version string) {
	if s.Champion == version {
		return
	}
	s.Former = without(s.Former, version)
	if s.Champion != "" {
		s.Former = append(s.Former, s.Champion)
	}
	if n := len(s.Former) - maxFormer; n > 0 {
		s.Former = slices.Delete(s.Former, 0, n)
	}
	s.Archived = without(s.Archived, version)
	s.Champion = version
}

const maxFormer = 20
