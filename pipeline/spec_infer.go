package pipeline

import (
	"time"

	"github.com/freshet-io/freshet/inference"
)

// Infer is a step that scores rows with a model.
type Infer struct {
	// Name names the step among several; the model's name without it.
	Name string
	// Model is a name in the registry, a path or a URL, as written.
	Model string
	// Runtime evaluates a file where there is a choice; empty is the runtime of its kind.
	Runtime string
	// Options are the runtime's own settings.
	Options map[string]any
	// Inputs are the names that feed the model's single input in order, or, with
	// InputNames, one for each named input.
	Inputs     []string
	InputNames []string
	Outputs    []ModelOutput
	// Calls says how the model is batched and guarded.
	Calls inference.Config
	// Late says what becomes of rows that are older than the freshness target.
	Late LateScoring
	// Fallbacks are tried in order where the model gives no answer.
	Fallbacks []Fallback
	Rollout   Rollout
	Explain   *Explain

	pos, namePos, modelPos, runtimePos, optionsPos Pos
	inputPos                                       []Pos
}

// ModelOutput names a value of the model's answer.
type ModelOutput struct {
	Name string
	// Value is probability, label, value, or a model output's name, with [i] for
	// one element; or vector(OUTPUT) for its whole row.
	Value string
	pos   Pos
}

// LateScoring is what becomes of a row whose freshness target has passed.
type LateScoring uint8

const (
	// LateAnyway scores it all the same.
	LateAnyway LateScoring = iota
	// LateFallback gives it to the fallbacks.
	LateFallback
	// LateSkip publishes it without a score.
	LateSkip
)

// Fallback is one way to an answer where the model gives none. One field is set.
type Fallback struct {
	// Previous: the champion before this one.
	Previous bool
	// Cached: the model's own answer to the same inputs, at most this old.
	Cached time.Duration
	// Rule: expressions by the outputs that they give.
	Rule []FallbackOutput
	// Value: a fixed score.
	Value *Literal
	pos   Pos
}

// FallbackOutput is an expression for an output.
type FallbackOutput struct {
	Name string
	Expr *Expr
	pos  Pos
}

// Rollout is how versions are tried out on this step's events.
type Rollout struct {
	// Key is the field whose values are dealt to arms; empty is the event's key.
	Key string
	// Label is the field of the labels that scores are compared with; "" for none.
	Label string
	// Steps are the shares that a canary goes through.
	Steps []float64
	// Hold is how long at least each step lasts, MinRows how many rows it needs.
	Hold    time.Duration
	MinRows int
	// Gates bound what the new version may do worse, by gate.
	Gates map[string]float64

	keyPos, labelPos, qualityPos Pos
}

// Explain says which rows are explained, and how.
type Explain struct {
	// Method is one of the methods' names; empty takes the best that the model offers.
	Method string
	// Share is the share of rows, dealt by their event's id; When a condition. A row
	// is explained where both hold.
	Share float64
	When  *Expr
	// Top is how many attributions a result shows.
	Top int
	// Background is the path of a sample of rows; a version of a registry has its own.
	Background    string
	pos           Pos
	backgroundPos Pos
	methodPos     Pos
}

// RecordSpec says how long the records of predictions are kept.
type RecordSpec struct {
	// Off keeps none.
	Off bool
	// Retention is that of the topic NAME-predictions; 0 is for ever.
	Retention time.Duration
	// Keep says what the local store keeps for how long, the first that holds;
	// empty keeps everything as long as the topic.
	Keep []KeepRule
	pos  Pos
}

// KeepRule keeps the predictions for which it holds.
type KeepRule struct {
	// When is a condition on the record; empty holds for all. Share is a share by the event's id.
	When  string
	Share float64
	For   time.Duration
}
