package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"text/template"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/tensors"
)

// maxPrompt bounds what a row may become, in bytes.
const maxPrompt = 4 << 20

func parsePrompt(text string) (*template.Template, error) {
	return template.New("prompt").Option("missingkey=error").Funcs(template.FuncMap{
		"json": func(v any) (string, error) {
			b, err := appendJSON(nil, v)
			return string(b), err
		},
		"has": func(v any) bool {
			f, isNumber := v.(float64)
			return !isNumber || f == f
		},
	}).Parse(text)
}

// text is what the model is shown of row i: the template over the inputs by name,
// or else the only input where that is a text, or a JSON object of them all.
func (d *Driver) text(in []inference.Tensor, i int) (string, error) {
	if d.c.prompt == nil && len(in) == 1 && in[0].Type == inference.String && len(in[0].Shape) == 1 {
		return bounded(in[0].Str[i])
	}
	row := make(map[string]any, len(in))
	for k := range in {
		row[d.meta.Inputs[k].Name] = tensors.Row(&in[k], i)
	}
	if d.c.prompt == nil {
		b, err := appendJSON(nil, row)
		if err != nil {
			return "", errkind.With(errkind.Invalid, err)
		}
		return bounded(string(b))
	}
	var b strings.Builder
	if err := d.c.prompt.Execute(&limited{b: &b}, row); err != nil {
		if errors.Is(err, errLong) {
			return "", errLong
		}
		return "", errkind.Errorf(errkind.Config, "prompt: %w", err)
	}
	return bounded(b.String())
}

var errLong = errkind.Errorf(errkind.Invalid, "the prompt is longer than %d bytes", maxPrompt)

func bounded(s string) (string, error) {
	if len(s) > maxPrompt {
		return "", errLong
	}
	return s, nil
}

type limited struct{ b *strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.b.Len()+len(p) > maxPrompt {
		return 0, errLong
	}
	return l.b.Write(p)
}

// appendJSON writes a value of a row; NaN and infinities, which JSON lacks, as null.
func appendJSON(out []byte, v any) ([]byte, error) {
	b, err := json.Marshal(plain(v))
	return append(out, b...), err
}

func plain(v any) any {
	switch v := v.(type) {
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil
		}
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = plain(v[i])
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for k := range v {
			m[k] = plain(v[k])
		}
		return m
	}
	return v
}

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// body is the request for a text of the chat or completions API.
func (d *Driver) body(text string) ([]byte, error) {
	c := d.c
	m := map[string]any{"model": c.model, "temperature": c.temperature, c.maxTokensAs: c.maxTokens}
	for k, v := range c.extra {
		m[k] = v
	}
	if c.api == completions {
		m["prompt"] = text
	} else {
		messages := []message{{"user", text}}
		if c.system != "" {
			messages = []message{{"system", c.system}, {"user", text}}
		}
		m["messages"] = messages
	}
	if c.schema != nil {
		switch c.schemaAs {
		case "json_schema":
			m["response_format"] = map[string]any{"type": "json_schema",
				"json_schema": map[string]any{"name": "answer", "strict": true, "schema": c.schema.sent}}
		case "json_object":
			m["response_format"] = map[string]any{"type": "json_object"}
		}
	}
	if c.topP > 0 {
		m["top_p"] = c.topP
	}
	if c.hasSeed {
		m["seed"] = c.seed
	}
	if len(c.stop) > 0 {
		m["stop"] = c.stop
	}
	if c.stream {
		m["stream"] = true
		m["stream_options"] = map[string]any{"include_usage": true}
	}
	return marshal(m)
}

func marshal(m map[string]any) ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "write the request: %w", err)
	}
	return b, nil
}

// tryPrompt writes the prompt of a row of zeros, so that a wrong name is found early.
func (d *Driver) tryPrompt() error {
	in := make([]inference.Tensor, len(d.meta.Inputs))
	for i, sig := range d.meta.Inputs {
		shape := sig.Shape
		sig.Shape = nil
		for _, n := range shape {
			sig.Shape = append(sig.Shape, max(n, 1))
		}
		tensors.Make(&in[i], &sig, 1)
	}
	if _, err := d.text(in, 0); err != nil {
		return fmt.Errorf("%w; the inputs are %s", err, strings.Join(names(d.meta.Inputs), ", "))
	}
	return nil
}

func names(sigs []inference.Signature) []string {
	var list []string
	for _, s := range sigs {
		list = append(list, s.Name)
	}
	return list
}
