// Package actuator is the port by which capacity is changed, and its suite proves what makes a
// change safe: it is idempotent, it can be seen, and it can be taken back.
package actuator

import (
	"context"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// Driver changes the capacity of one unit. One call runs at a time. Every call ends by its
// context; errors carry a kind (errkind): Transient and Throttled may be repeated, Config and NotFound
// are for people, Conflict says that someone else has changed the unit since.
type Driver interface {
	// Status reads what is there now. It changes nothing.
	Status(ctx context.Context) (Status, error)
	// Apply makes the orders be in force until expires; the same orders again only prolong
	// them. What a driver cannot do (Capabilities) must be zero in them. Returning nil means: accepted and
	// stored by whoever carries it out, not yet that workers are ready.
	Apply(ctx context.Context, o orchestrator.Orders, expires time.Time) error
	// Revert takes back everything that Apply has left, so that what ruled before rules again (a reactive
	// scaler, or the number of workers found at the beginning). With nothing to take back it does nothing.
	Revert(ctx context.Context) error
	// Capabilities never change.
	Capabilities() Capabilities
	// Close lets go of connections and waits for goroutines. It does not revert.
	Close() error
}

// Status is what is there. The loop, which does not see this port, knows it by the same name.
type Status = orchestrator.Status

// Capabilities says what a driver can do.
type Capabilities = orchestrator.Capabilities
