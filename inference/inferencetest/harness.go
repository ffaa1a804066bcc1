package inferencetest

import (
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// Harness says how to open the driver under test, and what it can be put through.
type Harness struct {
	// Open returns a fresh driver of one and the same model; the suite closes it. The model's
	// inputs and outputs may be of any type; sizes that it leaves open are taken as Width.
	Open func(t testing.TB) inference.Driver
	// Width stands for sizes left open in input shapes (default 1).
	Width int
	// Batch makes n rows of input, one tensor per input of the Metadata, different for
	// different seeds. Nil means random numbers and short strings.
	Batch func(t testing.TB, d inference.Driver, n int, seed uint64) []inference.Tensor
	// Tolerance is the relative difference allowed between the same row in two batches
	// (default 1e-5; many models give the same bits).
	Tolerance float64
	// NoSpecial leaves out the case that feeds NaN and infinities, for a model that
	// cannot take them.
	NoSpecial bool
	// Remote says that a cancelled context may be noticed late and that an error may be
	// Transient.
	Remote bool
	// Golden are rows whose outputs are known, from the model's own framework.
	Golden []Golden
	// Faults are the failures that the harness can bring about.
	Faults []Fault
	// Freeze makes the server keep its connections and answer nothing until thaw is
	// called, which the suite does. Nil where nothing can freeze.
	Freeze func(t testing.TB, d inference.Driver) (thaw func())
	// Patience is how long the suite waits for what must happen (default 10 s).
	Patience time.Duration
}

// Golden is rows and what the model must answer.
type Golden struct {
	Name    string
	In, Out []inference.Tensor
	// Tolerance is the relative difference allowed; 0 means 1e-5. NaN equals NaN.
	Tolerance float64
}

// Fault is a failure and the kind of error that it must come to, exactly.
type Fault struct {
	// Name says what happens: "server down".
	Name string
	// Kind is what calls fail with.
	Kind errkind.Kind
	// Open opens a driver for this fault; nil means Harness.Open.
	Open func(t testing.TB) inference.Driver
	// Provoke brings the fault about, once the driver has answered a call; nil where
	// In is what fails.
	Provoke func(t testing.TB, d inference.Driver)
	// In are the rows that are given; nil means ordinary ones.
	In []inference.Tensor
	// RetryAfter is the pause that the error must carry; 0 is none to be looked for.
	RetryAfter time.Duration
	// Recover ends the fault; the driver must then answer by itself within Patience.
	// Nil where it does not end.
	Recover func(t testing.TB, d inference.Driver)
}

func (h *Harness) setDefaults() {
	if h.Width <= 0 {
		h.Width = 1
	}
	if h.Tolerance <= 0 {
		h.Tolerance = 1e-5
	}
	if h.Batch == nil {
		h.Batch = h.random
	}
	if h.Patience <= 0 {
		h.Patience = 10 * time.Second
	}
}
