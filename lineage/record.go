package lineage

import (
	"encoding/json"
	"math"
	"strconv"
	"time"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
)

// Record is a Prediction as programs read it: the JSON of `freshet lineage` and of
// the HTTP API. Absent members are not known, or do not apply.
type Record struct {
	Pipeline string `json:"pipeline"`
	// Config is the SHA-256 of the pipeline's file and contract.
	Config   string      `json:"config,omitempty"`
	Contract string      `json:"contract,omitempty"`
	Event    EventRecord `json:"event"`
	Result   Result      `json:"result"`
	Times    Times       `json:"times"`
	Features []Shown     `json:"features"`
	Answers  []Answered  `json:"answers"`
}

// EventRecord says which event was scored.
type EventRecord struct {
	ID          string `json:"id"`
	Key         string `json:"key,omitempty"`
	Topic       string `json:"topic"`
	Partition   int32  `json:"partition"`
	Position    int64  `json:"position"`
	Traceparent string `json:"traceparent,omitempty"`
}

// Result says what came of it.
type Result struct {
	ID    string `json:"id,omitempty"`
	Route string `json:"route,omitempty"`
}

// Times are those of one prediction, and the seconds between.
type Times struct {
	Event     time.Time  `json:"event"`
	Arrival   *time.Time `json:"arrival,omitempty"`
	Inference *time.Time `json:"inference,omitempty"`
	Published *time.Time `json:"published,omitempty"`
	// ToArrival is from the event to its arrival, ToInference from there to the last
	// step's answer, ToPublication from there on; Freshness is all of it.
	ToArrival     *float64 `json:"event_to_arrival_seconds,omitempty"`
	ToInference   *float64 `json:"arrival_to_inference_seconds,omitempty"`
	ToPublication *float64 `json:"inference_to_publication_seconds,omitempty"`
	Freshness     *float64 `json:"freshness_seconds,omitempty"`
}

// Shown is a value with what is known of its time.
type Shown struct {
	Name  string `json:"name"`
	Value any    `json:"value"`
	// Newest is the time of the newest event that can be in the value.
	Newest *time.Time `json:"newest_event,omitempty"`
	// DelaySeconds and WindowSeconds are those of a window.
	DelaySeconds  float64 `json:"delay_seconds,omitempty"`
	WindowSeconds float64 `json:"window_seconds,omitempty"`
	// Lookup says that the value was looked up, and Newest is the time of its row.
	Lookup bool `json:"lookup,omitempty"`
}

// Answered is what one infer step said.
type Answered struct {
	Model   string `json:"model,omitempty"`
	Version string `json:"version,omitempty"`
	Digest  string `json:"digest,omitempty"`
	Role    string `json:"role,omitempty"`
	Rollout string `json:"rollout,omitempty"`
	// Path says how the answer came about: one of PathNames.
	Path    string  `json:"path"`
	Outputs []Shown `json:"outputs"`
	Call    *Called `json:"call,omitempty"`
	Shadows []Shade `json:"shadows,omitempty"`
	// Explanation is there for answers that were explained.
	Explanation *Explanation `json:"explanation,omitempty"`
}

// Called is the call of a model.
type Called struct {
	Answered  time.Time `json:"answered"`
	BatchRows int       `json:"batch_rows"`
	Flush     string    `json:"flush_reason"`
	Attempts  int       `json:"attempts"`
}

// Shade is a shadow's answer.
type Shade struct {
	Model   string `json:"model"`
	Version string `json:"version"`
	Role    string `json:"role,omitempty"`
	Score   any    `json:"score"`
}

// Explanation is why: Base and the attributions add up to Raw, which Link makes the output.
type Explanation struct {
	Method string `json:"method"`
	Link   string `json:"link"`
	Base   any    `json:"base"`
	Raw    any    `json:"raw"`
	// Output is Raw behind Link.
	Output       any          `json:"output"`
	Attributions []Attributed `json:"attributions"`
}

// Attributed is what one input did.
type Attributed struct {
	Input       string `json:"input"`
	Value       any    `json:"value"`
	Attribution any    `json:"attribution"`
}

// number is a float64 as JSON takes it: NaN and infinities are the texts "NaN",
// "Infinity" and "-Infinity".
func number(v float64) any {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 1):
		return "Infinity"
	case math.IsInf(v, -1):
		return "-Infinity"
	}
	return v
}

func instant(ns int64) *time.Time {
	if ns == 0 {
		return nil
	}
	t := time.Unix(0, ns).UTC()
	return &t
}

func since(to, from int64) *float64 {
	if to == 0 || from == 0 {
		return nil
	}
	s := seconds(to, from)
	return &s
}

// Record returns p as programs read it.
func (p *Prediction) Record() Record {
	r := Record{
		Pipeline: p.Source.Pipeline, Config: p.Source.Config, Contract: p.Source.Contract,
		Event:    EventRecord{p.ID, p.Key, p.Source.Topic, p.Partition, p.Position, p.Trace},
		Result:   Result{p.Result, p.Route},
		Features: []Shown{}, Answers: []Answered{},
	}
	if p.ID == "" {
		r.Event.ID = "@" + strconv.Itoa(int(p.Partition)) + "/" + strconv.FormatInt(p.Position, 10)
	}
	inferred := int64(0)
	for i := range p.Steps {
		if s := &p.Steps[i]; s.Called {
			inferred = max(inferred, s.Call.Answered)
		}
	}
	r.Times = Times{
		Event: time.Unix(0, p.Time).UTC(), Arrival: instant(p.Arrival), Inference: instant(inferred), Published: instant(p.Published),
		ToArrival: since(p.Arrival, p.Time), ToInference: since(inferred, p.Arrival), ToPublication: since(p.Published, inferred), Freshness: since(p.Published, p.Time),
	}
	values := map[string]any{}
	for i := range p.Features {
		s := p.Features[i].shown()
		f := &p.Source.Features[i]
		s.Newest, s.Lookup = instant(p.Features[i].Newest), f.Lookup >= 0
		s.DelaySeconds, s.WindowSeconds = float64(f.Delay)/1e9, float64(f.Window)/1e9
		r.Features = append(r.Features, s)
		values[s.Name] = s.Value
	}
	for i := range p.Steps {
		a := p.Steps[i].record(values)
		for _, o := range a.Outputs {
			values[o.Name] = o.Value // a later step may take it
		}
		r.Answers = append(r.Answers, a)
	}
	return r
}

func (v *Value) shown() Shown {
	s := Shown{Name: v.Name, Value: v.Value}
	switch x := v.Value.(type) {
	case float64:
		s.Value = number(x)
	case int64:
		if v.Kind == event.Time {
			s.Value = time.Unix(0, x).UTC()
		}
	}
	return s
}

func (a *Answer) record(values map[string]any) Answered {
	out := Answered{
		Model: a.Arm.Model, Version: a.Arm.Version, Digest: a.Arm.Digest, Role: a.Arm.Role, Rollout: a.Arm.Rollout,
		Path: a.Path.String(), Outputs: []Shown{},
	}
	for i := range a.Outputs {
		out.Outputs = append(out.Outputs, a.Outputs[i].shown())
	}
	if a.Called {
		out.Call = &Called{time.Unix(0, a.Call.Answered).UTC(), a.Call.Rows, a.Call.Reason.String(), a.Call.Attempts}
	}
	for _, s := range a.Shadows {
		out.Shadows = append(out.Shadows, Shade{s.Arm.Model, s.Arm.Version, s.Arm.Role, number(s.Score)})
	}
	if x := a.Explained; x != nil {
		e := &Explanation{Method: x.Method.String(), Link: x.Link.String(), Base: number(x.Base), Raw: number(x.Raw), Output: number(x.Output()), Attributions: []Attributed{}}
		for i, v := range x.Values {
			name := "input " + strconv.Itoa(i)
			if i < len(a.Inputs) {
				name = a.Inputs[i]
			}
			e.Attributions = append(e.Attributions, Attributed{name, values[name], number(v)})
		}
		out.Explanation = e
	}
	return out
}

// Output is the raw output behind its link.
func (x *Explained) Output() float64 {
	if x.Link == inference.Logistic {
		return 1 / (1 + math.Exp(-x.Raw))
	}
	return x.Raw
}

// MarshalJSON writes p as a Record.
func (p Prediction) MarshalJSON() ([]byte, error) { return json.Marshal(p.Record()) }
