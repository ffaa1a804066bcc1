package lineage

import (
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
)

// Source says what a pipeline's predictions have in common. It is written into
// each batch once (a few hundred bytes), so that a message stands for itself.
type Source struct {
	Pipeline string
	// Config is the SHA-256 of the pipeline's file and contract, in hexadecimal.
	Config string
	// Topic is the source topic.
	Topic string
	// Contract is its contract's name with the version.
	Contract string
	// Features are the names of the values that results show, in order.
	Features []Feature
	// Steps are the infer steps, in order.
	Steps []Step
	// Routes are the names of the routes.
	Routes []string
}

// Feature names a value with what is known of its time.
type Feature struct {
	Name string
	// Delay is how far the newest event in a window lies before the event that is
	// scored, at least, in nanoseconds.
	Delay int64
	// Window is the length of the window, in nanoseconds; 0 for what is no window.
	Window int64
	// Lookup is the index in Batch.Lookups of the time of a looked-up value; −1 elsewhere.
	Lookup int
}

// Step names an infer step's outputs and inputs.
type Step struct {
	// Outputs are the names of its outputs; Inputs those of the values that explanations attribute to.
	Outputs, Inputs []string
}

// Batch is predictions side by side, as a pipeline makes them: one entry per
// row in every slice. It is only read, and nothing of it is kept.
type Batch struct {
	N int
	// IDs are the events' ids, Keys their keys.
	IDs, Keys []string
	// Results are the ids of the results.
	Results [][]byte
	// Partition and Position say where the event lies on the source topic.
	Partition []int32
	Position  []int64
	// Time is the event's, Arrival when the broker took it; nanoseconds since 1970, as all times here.
	Time, Arrival []int64
	Route         []int
	// Trace are the events' traceparents; "" without.
	Trace []string
	// Features are columns by Source.Features.
	Features []*event.Column
	// Lookups are columns of times of looked-up rows.
	Lookups []*event.Column
	// Steps are the answers by Source.Steps.
	Steps []Answers
}

// Answers are what one infer step said of the rows of a batch.
type Answers struct {
	// Arms are the versions at work; Arm[i] is the one that scored row i.
	Arms []Arm
	Arm  []uint8
	// Path[i] says how the answer came about.
	Path []Path
	// Outputs are columns by Step.Outputs.
	Outputs []*event.Column
	// Called[i] indexes Calls.
	Called []uint16
	Calls  []Call
	// Shadow are the shadow's answers for the rows that it scored; empty without.
	Shadow []Shadowed
	// Explained are the rows that have an explanation, rising by Row.
	Explained []Explained
}

// Arm is a version with its role in a rollout.
type Arm struct {
	Model, Version, Digest string
	Role, Rollout          string
}

// Call is one call of the model.
type Call struct {
	// Answered is when the answer was there.
	Answered int64
	// Rows is the size of the batch; Reason says why it was closed.
	Rows   int
	Reason inference.FlushReason
	// Attempts is how often the call was made.
	Attempts int
}

// Path is how an answer came about.
type Path uint8

const (
	// Scored by the arm's model.
	Scored Path = iota
	// Cached: the model's own answer to the same inputs, within its time to live.
	Cached
	// FallbackVersion: another version, named as the arm.
	FallbackVersion
	// FallbackCached: a stale answer.
	FallbackCached
	// FallbackRule: an expression of the pipeline.
	FallbackRule
	// FallbackValue: a fixed value.
	FallbackValue
	// Skipped: the row was late and the pipeline skips late rows.
	Skipped
)

// PathNames are the names of the paths, by Path, as results and metrics carry them.
var PathNames = [...]string{"scored", "cached", "fallback_version", "fallback_cached", "fallback_rule", "fallback_value", "skipped"}

// String returns the path's name.
func (p Path) String() string { return PathNames[p] }

// Shadowed is the answer of a shadow to one row.
type Shadowed struct {
	Row   int
	Score float64
	Arm   uint8 // in Arms
}

// Explained is the explanation of one row.
type Explained struct {
	Row    int
	Method inference.Method
	Link   inference.Link
	// Base + Σ Values = Raw; Values are by Step.Inputs.
	Base, Raw float64
	Values    []float64
}
