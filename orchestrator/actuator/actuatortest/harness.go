package actuatortest

import (
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
)

// Harness says how to make units of the adapter under test.
type Harness struct {
	// Unit makes a unit of its own for the test, whose orders nobody has changed yet.
	Unit func(t testing.TB) Unit
	// Forgets says that orders end when their driver is closed, so that a later driver has
	// nothing to take back.
	Forgets bool
	// Life is how long orders live that the suite waits for to end (default 300 ms).
	Life time.Duration
	// Patience is how long the suite waits for what must happen (default 10 s).
	Patience time.Duration
}

// Unit is what is scaled, and what can be done to it behind its driver's back.
type Unit struct {
	// Open returns a new driver of the unit, as a process that starts does. The suite closes it,
	// and has one open at a time unless Together.
	Open     func(t testing.TB) actuator.Driver
	Together bool
	// Orders makes orders of about n workers (or of batches, for drivers that order only
	// those); nil means n workers. Different n give different orders; n is 1 to 9.
	Orders func(n int) orchestrator.Orders
	// Rule reads, not by the driver, what the unit goes by: the number of workers or the bounds
	// of its scaler, as text. It is the same before Apply and after Revert.
	Rule func(t testing.TB) string
	// Marks reads whatever else a driver leaves there and takes away again, such as annotations; nil
	// where there is nothing.
	Marks func(t testing.TB) string

	// What follows is nil where it cannot happen.

	// Meddle lets someone else change what the driver orders; n is another order, as in Orders.
	Meddle func(t testing.TB, n int)
	// Work makes the workers that are ordered ready, as a cluster does in time.
	Work func(t testing.TB)
	// Lie lets orders be accepted and not be carried out, until the test ends.
	Lie func(t testing.TB)
	// Refuse takes the driver's permission to write away, and gives it back.
	Refuse func(t testing.TB, on bool)
	// Break makes calls fail that write, after so many more have gone through, until Mend.
	Break func(t testing.TB, after int)
	Mend  func(t testing.TB)
	// Writes is the most writes that an Apply makes (default 1).
	Writes int
	// Freeze lets whoever is asked keep connections and answer nothing until thaw is called.
	Freeze func(t testing.TB) (thaw func())
	// Remove takes the unit away.
	Remove func(t testing.TB)
}

func (h *Harness) setDefaults() {
	if h.Life <= 0 {
		h.Life = 300 * time.Millisecond
	}
	if h.Patience <= 0 {
		h.Patience = 10 * time.Second
	}
}
