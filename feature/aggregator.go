package feature

import (
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// State is keyed state that belongs to one goroutine and is the consequence of
// the bytes that it gave out: who stores them in order can replay them.
type State interface {
	// Fingerprint identifies the definition, names aside. State of another
	// fingerprint must not be applied.
	Fingerprint() uint64
	// Keys is the number of keys with state, Bytes its approximate size in memory.
	Keys() int
	Bytes() int64
	// ApplyDelta replays one change. Afterwards the state is as it was after
	// that change, provided that it was as before it. On an error, of kind
	// Corrupt, nothing has changed.
	ApplyDelta(delta []byte) error
	// BeginSnapshot starts a cycle over all keys present now; a cycle in progress is abandoned.
	BeginSnapshot()
	// AppendSnapshot appends the full state of the cycle's next keys, at least
	// one and about budget bytes, and reports whether that was the last of them.
	AppendSnapshot(dst []byte, budget int) (out []byte, done bool)
	// ApplySnapshot replaces the state of the keys that one AppendSnapshot wrote.
	// After an error, of kind Corrupt, the state must not be used any more.
	ApplySnapshot(b []byte) error
}

// Aggregator computes windows: Windows those that are exact, Sums the others.
type Aggregator interface {
	State
	// Definition describes the windows, names aside: those of equal definitions
	// can read each other's state.
	Definition() []byte
	// Fields returns the row columns that Update wants, LabelFields those of labels, in order.
	// Where they say Float, Update takes Int and Bool columns as well.
	Fields() []Field
	LabelFields() []Field
	// Update takes in a batch, in order. It fills out, one column for each
	// window, with what the windows hold as of each row, and appends to delta
	// the change that ApplyDelta replays. Nothing of the arguments is kept.
	// Wrong kinds or short columns panic: they are mistakes in the program.
	// NaN and infinite values count as null.
	Update(b *Batch, out []*event.Column, delta []byte) []byte
}

// Join is how labels find what they are about.
type Join uint8

const (
	// NoLabels: there are none.
	NoLabels Join = iota
	// ByEvent: a label names an event by its id and fills in the label fields of
	// that event's row.
	ByEvent
	// ByKey: a label names a key and is a row of its own in the windows; events
	// read the windows and are not in them.
	ByKey
)

// Config defines the windows of one key.
type Config struct {
	Windows []Window
	// Retain is how much older than its key's newest row a row may be and still be counted exactly.
	Retain time.Duration
	// Labels is how labels are joined; with NoLabels no window may have Label.
	Labels Join
	// Unlabelled holds, for each window with Label, in order of Windows, the value that a row
	// counts with as long as it has no label; NaN for none.
	Unlabelled []float64
}

// Batch is the rows that one Update takes in, in the order of processing.
type Batch struct {
	// N is the number of rows.
	N    int
	Keys []string
	// Times are event times in Unix nanoseconds.
	Times []int64
	// IDs are the events' ids; they may be nil unless labels are joined ByEvent.
	IDs []string
	// Fields are the rows' columns, as Aggregator.Fields says.
	Fields []*event.Column
	Labels Labels
}

// Labels are values that become known after their event, in the order of processing.
type Labels struct {
	// Before is, for each label, the row before which it is applied, rising; N is behind the last.
	Before []int32
	// IDs are the ids of the events that the labels are about; joined ByKey it is the keys.
	IDs []string
	// Times are the times at which the labels became known.
	Times []int64
	// Fields are the labels' columns, as Aggregator.LabelFields says.
	Fields []*event.Column
}

// New compiles windows that are all exact, or none of them: Windows computes the
// first, Sums the others. Errors are of kind Config.
func New(c Config) (Aggregator, error) {
	sums := 0
	for i := range c.Windows {
		if !c.Windows[i].Exact() {
			sums++
		}
	}
	switch {
	case sums == 0:
		return NewWindows(c)
	case sums < len(c.Windows):
		return nil, errkind.New(errkind.Config, "windows that are kept as rows and windows that are kept as sums need an aggregator each")
	default:
		return NewSums(c)
	}
}

// Fill is how the gaps of a series are filled.
type Fill uint8

const (
	// FillNone leaves them null.
	FillNone Fill = iota
	// FillLinear draws a straight line between the readings around the gap.
	FillLinear
	// FillLast repeats the reading before the gap.
	FillLast
)
