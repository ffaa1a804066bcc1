package model

import "time"

// Rollout is the try-out of one version beside the champion.
type Rollout struct {
	// ID is unique; keys are dealt to arms by its hash with the key.
	ID   string `json:"id"`
	Role Role   `json:"role"` // Canary, Variant or Shadow
	// Version is on trial, Champion is what it is compared with.
	Version  string `json:"version"`
	Champion string `json:"champion"`
	// Share is the share of keys that the version scores, 0 to 1.
	Share float64   `json:"share"`
	Began time.Time `json:"began"`
}

// Evidence is what one process has seen of a rollout, arm by arm.
type Evidence struct{}
