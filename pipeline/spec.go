package pipeline

import (
	"time"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
)

// Spec is a pipeline file as read: what a user wrote, with the places of what
// later checks may have to name. Its values are valid in themselves; whether
// they fit the contract, the tables and the model is New's question.
type Spec struct {
	// File is the path as given; paths inside are relative to its folder.
	File string
	// Name names the pipeline, its consumer group and its internal topics.
	Name      string
	Freshness Freshness
	Source    Source
	Tables    []Table
	Steps     []Step
	Outputs   []Output

	stepsPos Pos
}

// Freshness is the objective: this share of the predictions is published within the target.
type Freshness struct {
	Target   time.Duration
	Quantile float64
}

// Source says where events come from.
type Source struct {
	Topic string
	// Contract is the path of the contract, as written.
	Contract string
	// ID and Key are fields of the event; empty means the contract's own.
	ID, Key string
	// TimeField and Lateness override the contract's event time where set.
	TimeField string
	Lateness  time.Duration
	// Partitions is the number of partitions when the topic has to be made.
	Partitions int
	// MaxBytes is the greatest payload; a larger one is a dead letter.
	MaxBytes int

	pos, contractPos, idPos, keyPos, timePos Pos
}

// Table is a static lookup table in a file.
type Table struct {
	Name, File, Key string
	pos             Pos
}

// Output configures a topic that results go to.
type Output struct {
	Topic string
	// Partitions is the number of partitions when the topic has to be made.
	Partitions int
	// Retention is how long results are kept when the topic has to be made; 0 keeps them for ever.
	Retention time.Duration
	pos       Pos
}

// Step is one of Features, Infer and Route.
type Step interface{ place() Pos }

// Features is a step that computes columns.
type Features struct {
	Items []FeatureItem
	pos   Pos
}

// FeatureItem is one feature: a window, an expression or a lookup.
type FeatureItem struct {
	Name string
	pos  Pos

	Window *WindowFeature
	Expr   *Expr
	Lookup *LookupFeature
}

// WindowFeature aggregates the events of a key over a sliding window.
type WindowFeature struct {
	By        string
	Aggregate feature.Aggregate
	Field     string // empty for count
	Over      time.Duration
	fieldPos  Pos
	byPos     Pos
}

// Expr is a CEL expression.
type Expr struct {
	Source string
	pos    Pos
}

// LookupFeature reads fields of the row of a table that a key names.
type LookupFeature struct {
	Table, Key string
	Fields     []string
	// Default holds the values used where the table has no such row.
	Default                      map[string]Literal
	tablePos, keyPos, defaultPos Pos
	fieldPos                     []Pos
}

// Literal is a value written in the file.
type Literal struct {
	Kind   event.Kind
	Float  float64
	Bool   bool
	String string
	pos    Pos
}

// Infer is the step that scores rows with a model.
type Infer struct {
	// Model is a path, as written.
	Model string
	// Inputs are the names that feed the model's single input in order, or, with
	// InputNames, one for each named input.
	Inputs     []string
	InputNames []string
	Outputs    []ModelOutput
	MaxBatch   int
	Throughput bool
	Fallback   *Expr
	pos        Pos
	modelPos   Pos
	inputPos   []Pos
}

// ModelOutput names a value of the model's answer.
type ModelOutput struct {
	Name string
	// Value is probability, label, value, or a model output's name, with [i] for one element.
	Value string
	pos   Pos
}

// Route is the step that chooses where a result goes: the first case that holds.
type Route struct {
	Cases []RouteCase
	pos   Pos
}

// RouteCase is one way out.
type RouteCase struct {
	// Name is the result's route; the first topic's name where none is given.
	Name string
	// When is the condition; nil always holds.
	When *Expr
	// To are the topics that the result is published to.
	To    []string
	pos   Pos
	toPos []Pos
}

func (s *Features) place() Pos { return s.pos }
func (s *Infer) place() Pos    { return s.pos }
func (s *Route) place() Pos    { return s.pos }

// Group is the consumer group that the pipeline reads its source with.
func (s *Spec) Group() string { return s.Name }

// DeadLetters is the topic of the events that could not be processed.
func (s *Spec) DeadLetters() string { return s.Name + "-dead-letters" }

// StateTopic is the internal topic that carries the changes of the keyed state.
func (s *Spec) StateTopic() string { return s.Name + "-state" }
