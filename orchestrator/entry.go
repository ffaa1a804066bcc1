package orchestrator

import (
	"fmt"
	"math"
	"time"
)

// Mode says what a loop does with its decisions.
type Mode string

// The modes.
const (
	ModeObserve Mode = "observe" // write them down
	ModeAdvise  Mode = "advise"  // and say them
	ModeAct     Mode = "act"     // and carry them out
)

// ParseMode reads a mode's name.
func ParseMode(name string) (Mode, error) {
	switch m := Mode(name); m {
	case ModeObserve, ModeAdvise, ModeAct:
		return m, nil
	}
	return "", fmt.Errorf("mode %q: expected observe, advise or act", name)
}

// EntryKind says what an entry is about.
type EntryKind string

// The kinds of entries. Act and Outcome are added to an earlier one, and who reads the
// journal finds them there.
const (
	KindRound   EntryKind = "round"   // a decision
	KindRevert  EntryKind = "revert"  // the loop takes its orders back
	KindUndo    EntryKind = "undo"    // a person does
	KindStart   EntryKind = "start"   // a loop begins
	KindStop    EntryKind = "stop"    // a loop ends
	KindAct     EntryKind = "act"     // what the actuator answered to entry Of
	KindOutcome EntryKind = "outcome" // what came of entry Of
)

// Entry is one entry of the journal.
type Entry struct {
	// ID rises from 1 in the order of writing. Entries of kind act and outcome have none.
	ID   uint64
	Kind EntryKind
	Time time.Time
	// Unit is what is scaled, Pilot who decides.
	Unit, Pilot string
	Mode        Mode
	// Period is how often the pilot is asked.
	Period time.Duration
	// Of is the entry that this one is about: what was undone, or answered, or came about.
	Of uint64
	// By is who undid, Why says why an entry was made that is no round.
	By, Why string
	// Round is all that the decision stands on; nil in entries of other kinds.
	Round *Round
	// Before and After are the orders that were in force and those that the loop wants in force. They are
	// carried out in mode act only, and only where Held is empty.
	Before, After Orders
	// Held says why orders were not carried out in mode act.
	Held string
	// Expires is when the orders end unless they are renewed; of an undo, until when the loop holds its hands.
	Expires time.Time
	// Notes say what the loop found out of order.
	Notes []string
	// Act is what the actuator answered; nil where it was not asked.
	Act *Act
	// Outcome is what came about in the minutes behind; nil where that is not known yet.
	Outcome *Outcome
}

// Act is what an actuator answered.
type Act struct {
	Time time.Time
	// Error is empty where the orders were accepted; ErrorKind is its kind.
	Error, ErrorKind string
}

// Outcome is what came about in the time behind an entry. It is not what came of it alone:
// what was ordered before and behind has its part in it.
type Outcome struct {
	// Until is the end of the time, which began with the entry.
	Until time.Time
	// Known says which of the values were measured: arrivals, late, oldest, lag and workers.
	Known Known
	// Arrivals is the mean rate in events a second. Late is the share of late events,
	// Fresh the worst freshness at the objective's quantile, Oldest the largest age seen.
	Arrivals, Late float64
	Fresh, Oldest  time.Duration
	// Lag is what was left at the end.
	Lag float64
	// WorkerSeconds were paid, for Cost.
	WorkerSeconds, Cost float64
	// Ready is how long it took until the ordered workers were ready; negative where they were not.
	Ready time.Duration
}

// Carried says that the orders were given to the actuator and accepted.
func (e *Entry) Carried() bool { return e.Act != nil && e.Act.Error == "" }

// Changes says that the orders after differ from those before.
func (e *Entry) Changes() bool { return !sameOrders(e.Before, e.After) }

// sameOrders leaves Changed out.
func sameOrders(a, b Orders) bool {
	return a.Workers == b.Workers && a.Batch == b.Batch && sameRoute(a.Route, b.Route)
}

func sameRoute(a, b Route) bool {
	if a.Share <= 0 && b.Share <= 0 {
		return true
	}
	return a.To == b.To && math.Abs(a.Share-b.Share) < 1e-9
}
