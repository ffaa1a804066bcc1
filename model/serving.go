package model

import (
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
func (r Role) String() string { return roleNames[r] }

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
}

// Outcome is what became of a row, as a rollout's evidence.
type Outcome struct {
	Arm *Arm
	// Scored is false where the model gave no answer (a fallback or dead letter).
	Scored bool
	Score  float64
	// Freshness and Service are the seconds from event to answer and of the call.
	Freshness, Service float64
	// ChampionScore is the champion's score of the same row, with Compared.
	Compared      bool
	ChampionScore float64
}
