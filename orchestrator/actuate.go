package orchestrator

import (
	"context"
	"time"
)

// Observer takes signals of the unit that is scaled. A call ends by its context. Values that
// cannot be had now are left out of Signals.Known, with no error; an error says that nothing
// is known.
type Observer interface {
	Observe(ctx context.Context) (Signals, error)
}

// Actuator is what the loop needs of one. Package actuator has the port, whose drivers
// have these methods and prove them with a suite.
type Actuator interface {
	// Status reads what is there now.
	Status(ctx context.Context) (Status, error)
	// Apply makes the orders be in force until expires; the same orders again prolong them.
	Apply(ctx context.Context, o Orders, expires time.Time) error
	// Revert takes back everything that Apply has left.
	Revert(ctx context.Context) error
	// Capabilities never change.
	Capabilities() Capabilities
}

// Status is what an actuator finds.
type Status struct {
	// Workers is the number that is ordered; Ready, Starting and Stopping are those that are there.
	Workers, Ready, Starting, Stopping int
	Batch                              int
	Route                              Route
	// Most and MostBatch bound what can be ordered; 0 where that is not known.
	Most, MostBatch int
	// Ours says that an Apply is in force, until Expires; zero where none is recorded. Capabilities.Expires says
	// whether the orders end by themselves then.
	Ours    bool
	Expires time.Time
	// Note says what a person should know: who else scales this unit, what the bounds are.
	Note string
}

// Capabilities says what an actuator can do.
type Capabilities struct {
	// Workers, Batch and Route can be ordered.
	Workers, Batch, Route bool
	// Floor says that the number of workers is a lower bound under which a reactive scaler goes on.
	Floor bool
	// Expires says that orders end by themselves when they are not renewed, also when this process is dead.
	Expires bool
	// Ready says that Status tells ready workers from starting ones.
	Ready bool
}
