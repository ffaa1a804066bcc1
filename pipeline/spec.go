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
	// Labels is the second source, of what becomes known about events later; nil without.
	Labels *Labels
	Tables []Table
	State  StateSpec
	// Models is the URL of the registry that names of models are looked up in;
	// empty is the program's own.
	Models  string
	Record  RecordSpec
	Steps   []Step
	Outputs []Output

	stepsPos, modelsPos Pos
	digest              string // SHA-256 of the file, in hexadecimal
}

// Freshness is the objective: this share of the predictions is published within the target.
type Freshness struct {
	Target   time.Duration
	Quantile float64
}

// Source says where events come from.
type Source struct {
	Topic string
	// From is the URL of a queue or bus whose messages are carried to Topic; empty without.
	From string
	// Contract is the path of the contract, as written.
	Contract string
	// ID and Key are fields of the event; empty means the contract's own.
	ID, Key string
	// TimeField and Lateness override the contract's event time where set.
	TimeField string
	Lateness  time.Duration
	// Late says what becomes of an event that is later than Lateness.
	Late LatePolicy
	// Order is a field. Where it is set, events are taken in the order of their
	// time and, within an instant, of this field: each waits until no earlier
	// one can come, or until the partition has been silent for OrderWait.
	Order     string
	OrderWait time.Duration
	// Partitions is the number of partitions when the topic has to be made.
	Partitions int
	// MaxBytes is the greatest payload; a larger one is a dead letter.
	MaxBytes int
	// Deduplicate is how long ids of events are remembered, so that one that is
	// stored twice is processed once; 0 does not look.
	Deduplicate time.Duration

	latenessSet bool // the file says Lateness, be it 0

	pos, fromPos, contractPos, idPos, keyPos, timePos, orderPos Pos
}

// LatePolicy is what becomes of events that are later than allowed.
type LatePolicy uint8

const (
	// LateScore counts them at their own time and scores them with what is known.
	LateScore LatePolicy = iota
	// LateDeadLetter makes dead letters of them.
	LateDeadLetter
	// LateDrop drops and counts them.
	LateDrop
)

// String returns the policy as it is written in pipelines.
func (l LatePolicy) String() string { return lateWords[l] }

// Labels says where labels come from: values that become known after their event.
// Every task that needs them reads all of them.
type Labels struct {
	Topic string
	// Contract is the path of the labels' contract, as written. Its time is when the label became known.
	Contract string
	// Event is the label's field with the id of the event that it is about. Or
	// Key is its field with a key: labels are then rows of their own in the windows by that key.
	Event, Key string
	// TimeField and Lateness override the contract's where set.
	TimeField string
	Lateness  time.Duration
	// Default holds the values of events without a label, by label field.
	Default map[string]Literal
	// Partitions is the number of partitions when the topic has to be made.
	Partitions int

	latenessSet                                             bool // the file says Lateness, be it 0
	pos, contractPos, eventPos, keyPos, timePos, defaultPos Pos
}

// StateSpec says where keyed state is kept beside memory.
type StateSpec struct {
	// Store is memory, or pebble: keys that do not fit into Memory bytes are kept on the local disk.
	Store  string
	Memory int64
	// Checkpoints is where checkpoints go: empty for the broker, or the URL of a
	// folder (file:///…) or of an S3-compatible store (s3://bucket/prefix?endpoint=…).
	Checkpoints string
	// Every is how long at most the state is behind in Checkpoints.
	Every time.Duration

	pos Pos
}

// Table is a lookup table: a static file, a compacted topic held in memory, or a server.
type Table struct {
	Name string
	// File is a path, Topic a topic, URL a server (redis://, postgres://, feast+http://); one of them is set.
	File, Topic, URL string
	// Key is the column, field or entity that is looked up.
	Key string
	// Time is the column or field with the time of a row's values; empty where they have none.
	Time string
	// Contract is the path of a topic's contract, as written.
	Contract string
	// From is what is read of a server: Redis' hash prefix, PostgreSQL's table, Feast's feature view.
	From string
	// Fields are a server's fields with their kinds.
	Fields []TableField
	// Cache bounds the rows of a server that are kept, and for how long.
	CacheRows int
	CacheTTL  time.Duration
	// Timeout bounds one request to a server.
	Timeout time.Duration
	// OnError is what becomes of an event whose look-up fails.
	OnError LookupPolicy

	pos, contractPos, urlPos Pos
}

// TableField is a field of a server's table.
type TableField struct {
	Name string
	Kind event.Kind
	pos  Pos
}

// LookupPolicy is what becomes of an event whose look-up fails.
type LookupPolicy uint8

const (
	// LookupDefault goes on with the defaults, or nulls.
	LookupDefault LookupPolicy = iota
	// LookupWait repeats the look-up until it succeeds; the source waits.
	LookupWait
	// LookupDeadLetter makes a dead letter of the event.
	LookupDeadLetter
)

// String returns the policy as it is written in pipelines.
func (l LookupPolicy) String() string { return errorWords[l] }

// Output configures a topic that results go to.
type Output struct {
	Topic string
	// Partitions is the number of partitions when the topic has to be made.
	Partitions int
	// Retention is how long results are kept when the topic has to be made; 0 keeps them for ever.
	Retention time.Duration
	// Also are the URLs of what the topic's results are handed to as well: queues,
	// databases, files, webhooks.
	Also []string

	pos Pos
}

// Step is one of Resample, Features, Infer and Route.
type Step interface{ place() Pos }

// Features is a step that computes columns.
type Features struct {
	Items []FeatureItem
	pos   Pos
}

// Resample is a step that turns each key's readings into a series with a fixed
// step. It can only be the first; later steps see the series' rows.
type Resample struct {
	By    string
	Every time.Duration
	// Fields are the readings' fields that the series has.
	Fields []ResampleField
	// Limit is the longest gap that is filled.
	Limit time.Duration
	// Flag is the name of the boolean column that says whether a row was filled.
	Flag  string
	pos   Pos
	byPos Pos
}

// ResampleField is one field of a series and how its gaps are filled.
type ResampleField struct {
	Name string
	Fill feature.Fill
	pos  Pos
}

// FeatureItem is one feature: a window, an expression or a lookup.
type FeatureItem struct {
	Name string
	pos  Pos

	Window *WindowFeature
	Expr   *Expr
	Lookup *LookupFeature
}

// WindowFeature aggregates the events of a key over a window.
type WindowFeature struct {
	By        string
	Aggregate feature.Aggregate
	Shape     feature.Shape
	Field     string // empty for count, rate, since_last and duration of all events
	Over      time.Duration
	Delay     time.Duration
	Panes     int
	Q         float64
	Sketch    bool
	// Where is a condition: only events for which it holds are aggregated.
	Where *Expr
	// Default is the value where the window has none.
	Default  *Literal
	pos      Pos // of the aggregate
	fieldPos Pos
	byPos    Pos
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

func (s *Resample) place() Pos { return s.pos }
func (s *Features) place() Pos { return s.pos }
func (s *Infer) place() Pos    { return s.pos }
func (s *Route) place() Pos    { return s.pos }

// Group is the consumer group that the pipeline reads its source with.
func (s *Spec) Group() string { return s.Name }

// DeadLetters is the topic of the events that could not be processed.
func (s *Spec) DeadLetters() string { return s.Name + deadLetterSuffix }

// StateTopic is the internal topic that carries the changes of the keyed state.
func (s *Spec) StateTopic() string { return s.Name + stateSuffix }

// Predictions is the topic of the predictions' records.
func (s *Spec) Predictions() string { return s.Name + recordSuffix }

// What stands behind a pipeline's name in those of its own topics.
const (
	deadLetterSuffix = "-dead-letters"
	stateSuffix      = "-state"
	recordSuffix     = "-predictions"
	shuffleInfix     = "-by-" // and the field
)
