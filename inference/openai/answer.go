package openai

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/web"
)

// usage is what a call came to, in tokens.
type usage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
}

// fits tells whether the counts can be meant.
func (u *usage) fits() bool {
	return u != nil && u.Prompt >= 0 && u.Completion >= 0 && u.Prompt < math.MaxInt32 && u.Completion < math.MaxInt32 && u.Prompt+u.Completion > 0
}

// part is what a message holds, or a piece of it.
type part struct {
	Content   string          `json:"content"`
	Refusal   string          `json:"refusal"`
	ToolCalls json.RawMessage `json:"tool_calls"`
}

// completion is an answer of the chat or completions API, or an event of its stream.
type completion struct {
	Model   string `json:"model"`
	Choices []struct {
		Text         string `json:"text"`
		Message      part   `json:"message"`
		Delta        part   `json:"delta"`
		FinishReason string `json:"finish_reason"`
	} `json:"choices"`
	Usage *usage          `json:"usage"`
	Error json.RawMessage `json:"error"`
}

// said is what a model said to one prompt.
type said struct {
	text, refusal, finish, model string
	tools                        bool
	usage                        *usage
}

// read takes an answer that came as a whole.
func (s *said) read(data []byte) error {
	var a completion
	if err := json.Unmarshal(data, &a); err != nil {
		return errkind.Errorf(errkind.Permanent, "the answer is none of this API: %s", web.Shown(data))
	}
	if failed(a.Error) {
		return errkind.Errorf(errkind.Transient, "the server failed: %s", web.Shown(a.Error))
	}
	if len(a.Choices) != 1 {
		return errkind.Errorf(errkind.Permanent, "the answer has %d choices, expected 1: %s", len(a.Choices), web.Shown(data))
	}
	c := &a.Choices[0]
	s.text, s.refusal, s.finish = c.Message.Content+c.Text, c.Message.Refusal, c.FinishReason
	s.tools = failed(c.Message.ToolCalls) && string(c.Message.ToolCalls) != "[]"
	s.model, s.usage = a.Model, a.Usage
	return nil
}

// failed tells whether a field is there and not null.
func failed(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// values takes the model's words apart. An error is Permanent: the same question
// would be answered so again.
func (d *Driver) values(s *said) ([]any, error) {
	var why string
	switch {
	case s.refusal != "":
		why = "the model declines: " + web.Shown([]byte(s.refusal))
	case s.finish == "content_filter":
		why = "the server's filter held the answer back"
	case s.tools, s.finish == "tool_calls", s.finish == "function_call":
		why = "the model wants to call a tool, which nobody offered"
	case s.finish == "length":
		why = fmt.Sprintf("the answer was cut off at max_tokens, %d: %s", d.c.maxTokens, web.Shown([]byte(s.text)))
	}
	var values []any
	if why == "" {
		if d.c.schema == nil {
			return []any{s.text}, nil
		}
		var err error
		if values, err = d.c.schema.read(s.text); err == nil {
			return values, nil
		}
		why = err.Error()
	}
	d.counters.count(&d.counters.stats.Unfit)
	return nil, errkind.New(errkind.Permanent, why)
}

// set writes a value of a schema as row of an output.
func set(out *inference.Tensor, row int, v any) {
	switch v := v.(type) {
	case string:
		// A part of a long answer would keep all of it.
		out.Str[row] = strings.Clone(v)
	case bool:
		out.Bool[row] = v
	case int64:
		out.I64[row] = v
	case float64:
		out.F64[row] = v
	case []float64:
		copy(out.F64[row*len(v):], v)
	}
}
