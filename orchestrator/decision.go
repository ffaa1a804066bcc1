package orchestrator

import "time"

// Input is all that a policy decides on.
type Input struct {
	// Now is the time of the decision; Signals.Time lies before it.
	Now       time.Time
	Signals   *Signals
	Demand    *Demand // nil or without Rates where there is no forecast
	Capacity  *Capacity
	Objective *Objective
	// Target is how many workers are ordered at the moment, and when that last changed.
	Target  int
	Changed time.Time
	// Tiers are where events may be sent instead, cheapest first.
	Tiers []Tier
	// Explain asks for Reason and Candidates, which cost time.
	Explain bool
}

// Tier is another place where events can be answered: a smaller model, a
// fallback, another region's topic.
type Tier struct {
	Name string
	// Rate is the most it takes, events a second; 0 means any.
	Rate float64
	// Cost is the price of one event there, in Capacity.Cost's currency.
	Cost float64
	// Penalty is what a worse answer is held to cost, on top; 0 where it is as good.
	Penalty float64
	// Latency is the time that an answer takes there.
	Latency time.Duration
}

// Decision is what a policy wants.
type Decision struct {
	// Workers is how many there should be, ready and starting together.
	Workers int
	// Batch is the most events that a call should take; 0 leaves it.
	Batch int
	// Route is the share of arriving events to send to a tier; the zero value sends none.
	Route Route
	// Hold says that nothing could be decided, and why is in Reason: the orders stay as they are.
	Hold bool
	// Reason says why, in a sentence. Candidates are what else was weighed. Both only where Input.Explain.
	Reason     string
	Candidates []Candidate
}

// Route sends a share of the events elsewhere.
type Route struct {
	To    string  // a Tier's name
	Share float64 // 0 to 1
}

// Candidate is a choice that was weighed.
type Candidate struct {
	Workers, Batch int
	// Cost is expected over the horizon, in the currency; Late is the expected share of late
	// events there. Negative where unknown.
	Cost, Late float64
	// Why it lost; empty for the one chosen.
	Why string
}

// A Policy decides. It holds no clock, no randomness and no input or output of its own: the
// same inputs in the same order give the same decisions, so a journal can be replayed
// through any of them. It is used by one goroutine.
type Policy interface {
	// Name is short, as tables print it.
	Name() string
	// Period is how often it is asked.
	Period() time.Duration
	Decide(in *Input) Decision
}

// Pilot is asked once a period with fresh signals and gives the orders to carry out:
// a policy with its forecaster within its rails (Controller), or a bare policy.
// Live loops and the simulator drive it in the same way.
type Pilot interface {
	Name() string
	Period() time.Duration
	// Step takes the time, the signals, and what is ordered at the moment.
	Step(now time.Time, s *Signals, ordered Orders) Decision
}

// Orders is what is in force.
type Orders struct {
	Workers int
	Batch   int
	Route   Route
	// Changed is when Workers last changed.
	Changed time.Time
}
