package model

import "time"

// Action is what a decision does.
type Action string

const (
	// Hold leaves everything as it is.
	Hold Action = "hold"
	// Advance gives the challenger the share Decision.Share of the keys.
	Advance Action = "advance"
	// Promote makes the challenger champion.
	Promote Action = "promote"
	// RollBack gives all keys to the champion.
	RollBack Action = "roll back"
)

// Decision is what is to be done about a rollout, and why.
type Decision struct {
	Action Action    `json:"action"`
	Time   time.Time `json:"time"`
	Step   int       `json:"step"`
	// Share is the share of keys from now on, with Advance.
	Share  float64 `json:"share,omitempty"`
	Reason string  `json:"reason"`
	// Findings are the gates' verdicts, Rows and Seconds the challenger's rows and time in the step.
	Findings []Finding `json:"findings,omitempty"`
	Rows     uint64    `json:"rows"`
	Seconds  float64   `json:"seconds"`
}

// Decide says what is to be done about a rollout.
func Decide(r *Rollout, e *Evidence, p Policy, now time.Time) Decision {
	return Decision{Action: Hold, Time: now, Step: r.Step}
}
