package model

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// Role is what an arm is there for.
type Role uint8

const (
	// Champion scores every key that no rollout takes.
	Champion Role = iota
	// Canary scores its share of the keys, and their results are published.
	Canary
	// Variant is the second arm of an A/B comparison.
	Variant
	// Shadow scores its share of the keys beside the champion; its answers are
	// recorded and compared, never published.
	Shadow
)

var roleNames = [...]string{"champion", "canary", "variant", "shadow"}

// String returns the role's name as results and records carry it.
func (r Role) String() string {
	if int(r) < len(roleNames) {
		return roleNames[r]
	}
	return "?"
}

// MarshalText writes the role's name.
func (r Role) MarshalText() ([]byte, error) {
	if int(r) >= len(roleNames) {
		return nil, errkind.Errorf(errkind.Invalid, "role %d is none of %v", uint8(r), roleNames)
	}
	return []byte(roleNames[r]), nil
}

// UnmarshalText reads a role's name.
func (r *Role) UnmarshalText(b []byte) error {
	for i, name := range roleNames {
		if name == string(b) {
			*r = Role(i)
			return nil
		}
	}
	return errkind.Errorf(errkind.Invalid, "role %q is none of %v", b, roleNames)
}

// Arm is one version at work.
type Arm struct {
	Role Role
	// Name, Version and Digest are the model's, as results and records name it.
	Name, Version, Digest string
	// Rollout is the id of the rollout that the arm takes part in; empty without.
	Rollout string
	Model   *inference.Model
	// Explainer explains the version's outputs; nil where it cannot.
	Explainer inference.Explainer

	seen *collector // of the rollout's step; nil without
}

// Serving is what serves a model at one moment: the arms and how keys are dealt
// to them. A pipeline acquires one for a frame and releases it when all answers
// are there. Its methods may be called concurrently.
type Serving struct {
	service    *Service
	generation uint64
	champion   *Arm
	challenger *Arm // nil without a rollout
	former     string
	deal       deal
	compare    uint64 // rows with a comparison hash below it are compared

	holders atomic.Int64 // 1 for being the current one, 1 for each Acquire
	opened  []*opened

	once     sync.Once
	previous atomic.Pointer[Arm]
}

// Generation is that of the State that is served.
func (s *Serving) Generation() uint64 { return s.generation }

// Champion is the arm that scores what no rollout takes.
func (s *Serving) Champion() *Arm { return s.champion }

// Challenger is the version on trial; nil without a rollout.
func (s *Serving) Challenger() *Arm { return s.challenger }

// Choose returns the arm whose answer is published for a key. Within a rollout a
// key moves from the champion to the challenger when the share reaches it, and
// never back; see Service for what ends that.
func (s *Serving) Choose(key string) *Arm {
	if s.challenger == nil || s.challenger.Role == Shadow || !s.deal.takes(key) {
		return s.champion
	}
	return s.challenger
}

// Shadowed reports whether the challenger scores the key beside the champion,
// whose answer is published.
func (s *Serving) Shadowed(key string) bool {
	return s.challenger != nil && s.challenger.Role == Shadow && s.deal.takes(key)
}

// Compared reports whether the champion is to score the row beside the
// challenger, for the gate on agreement: a sample of the keys that Choose gives
// to the challenger.
func (s *Serving) Compared(key string) bool {
	if s.compare == 0 || s.challenger == nil || s.challenger.Role == Shadow {
		return false
	}
	h := s.deal.hash(key)
	return h < s.deal.below && mix(h^0x9e3779b97f4a7c15)>>11 < s.compare
}

// KeyHash is the hash of a key for Outcomes.Keys.
func (s *Serving) KeyHash(key string) uint64 { return s.deal.hash(key) }

// Previous returns the former champion, for fallbacks; nil where there is none or
// it does not open. It is opened ahead with ServiceConfig.Previous; otherwise the
// first call opens it, and waits.
func (s *Serving) Previous() *Arm {
	s.once.Do(func() {
		if s.service != nil && s.former != "" {
			s.openPrevious(context.Background())
		}
	})
	return s.previous.Load()
}

// acquire adds a holder unless the last one is gone.
func (s *Serving) acquire() bool {
	for {
		n := s.holders.Load()
		if n == 0 {
			return false
		}
		if s.holders.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Release ends an Acquire. Versions that nobody serves any more are closed by it
// in the background.
func (s *Serving) Release() {
	if s.holders.Add(-1) == 0 && s.service != nil {
		s.service.drained(s)
	}
}
