package orchestrator

import "time"

// Round is all of one round of a Controller: what was known, what was expected, what was
// decided, what the rails made of it. It is the controller's own and changes with the next
// step; who keeps it copies it (Clone).
type Round struct {
	Time    time.Time
	Signals Signals
	// Stale is how old the signals were.
	Stale time.Duration
	// Demand is the forecast that was decided on; without Rates where there was none.
	Demand Demand
	// Capacity is what was believed then.
	Capacity  Capacity
	Objective Objective
	// Ordered is what was in force.
	Ordered Orders
	// Decided is what the policy wanted; Final what became of it within the rails.
	Decided, Final Decision
	// Rails are those that bit, in the order in which they did.
	Rails []Bite
	// Note says what was wrong with the inputs; empty in normal times.
	Note string
}

// Bite is a rail that changed an order.
type Bite struct {
	// Rail is its name, one of the Rail constants.
	Rail string
	// From and To are the workers before and after it.
	From, To int
	// Why says it in a sentence.
	Why string
}

// Clone returns a copy that shares nothing with r but capacity's shares, which nobody changes.
func (r *Round) Clone() *Round {
	c := *r
	c.Signals.Partitions = append([]PartitionSignals(nil), r.Signals.Partitions...)
	c.Signals.Calls = append([]Call(nil), r.Signals.Calls...)
	c.Demand = r.Demand.clone()
	c.Rails = append([]Bite(nil), r.Rails...)
	c.Decided.Candidates = append([]Candidate(nil), r.Decided.Candidates...)
	c.Final.Candidates = append([]Candidate(nil), r.Final.Candidates...)
	return &c
}

func (d *Demand) clone() Demand {
	c := *d
	c.Levels = append([]float64(nil), d.Levels...)
	c.Members = append([]Member(nil), d.Members...)
	c.Rates = nil
	if len(d.Rates) > 0 {
		c.Rates = make([][]float64, len(d.Rates))
		for i, row := range d.Rates {
			c.Rates[i] = append([]float64(nil), row...)
		}
	}
	return c
}
