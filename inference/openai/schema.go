package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/web"
)

const (
	maxWidth      = 1 << 16
	maxProperties = 256
)

// schema is that of an answer.
type schema struct {
	sent     json.RawMessage // as the server gets it
	compiled *jsonschema.Schema
	outputs  []inference.Signature // one for each property, in the order of names
}

// noLoader refuses to fetch what a schema refers to.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s lies outside of the schema", url)
}

// newSchema reads the schema of an object, each of whose properties becomes an
// output. What strict servers want is added where it is missing: that all
// properties are required and that there are no others.
func newSchema(v any) (*schema, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("it cannot be written as JSON: %w", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	top, ok := doc.(map[string]any)
	if !ok {
		return nil, errors.New("expected a mapping")
	}
	if t, has := top["type"]; !has {
		top["type"] = "object"
	} else if t != "object" {
		return nil, errors.New("the answer must be an object, each of whose properties is an output: type: object")
	}
	properties, _ := top["properties"].(map[string]any)
	if len(properties) == 0 || len(properties) > maxProperties {
		return nil, fmt.Errorf("name from 1 to %d properties: each is an output", maxProperties)
	}
	s := &schema{}
	var names []any
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		sig, err := signature(name, properties[name])
		if err != nil {
			return nil, fmt.Errorf("property %s: %w", name, err)
		}
		s.outputs = append(s.outputs, sig)
		names = append(names, name)
	}
	if required, has := top["required"]; !has {
		top["required"] = names
	} else if list, _ := required.([]any); len(list) != len(names) {
		return nil, errors.New("every property is an output, so that all are required: leave required out")
	}
	if _, has := top["additionalProperties"]; !has {
		top["additionalProperties"] = false
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	if err := c.AddResource("schema.json", top); err != nil {
		return nil, err
	}
	if s.compiled, err = c.Compile("schema.json"); err != nil {
		return nil, err
	}
	s.sent, err = json.Marshal(top)
	return s, err
}

// signature is the output that a property becomes.
func signature(name string, v any) (inference.Signature, error) {
	sig := inference.Signature{Name: name}
	p, _ := v.(map[string]any)
	types := map[string]inference.DataType{
		"string": inference.String, "number": inference.Float64, "integer": inference.Int64, "boolean": inference.Bool,
	}
	t, _ := p["type"].(string)
	if t == "" && allTexts(p["enum"]) {
		t = "string"
	}
	if t == "array" {
		low, err1 := size(p["minItems"])
		high, err2 := size(p["maxItems"])
		items, _ := p["items"].(map[string]any)
		if inner, _ := items["type"].(string); inner != "number" || err1 != nil || err2 != nil || low != high || low < 1 || low > maxWidth {
			return sig, errors.New("a list is one of numbers with minItems and maxItems the same: {type: array, items: {type: number}, minItems: 3, maxItems: 3}")
		}
		sig.Type, sig.Shape = inference.Float64, []int{low}
		return sig, nil
	}
	var ok bool
	if sig.Type, ok = types[t]; !ok {
		return sig, errors.New("an output is of type string, number, integer, boolean, or a list of numbers")
	}
	return sig, nil
}

func size(v any) (int, error) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, errors.New("no number")
	}
	return strconv.Atoi(n.String())
}

func allTexts(v any) bool {
	list, _ := v.([]any)
	for _, e := range list {
		if _, ok := e.(string); !ok {
			return false
		}
	}
	return len(list) > 0
}

// read takes an answer apart: one value for each output, float64, int64, bool,
// string or []float64.
func (s *schema) read(text string) ([]any, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("the answer is no JSON: %s", web.Shown([]byte(text)))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the answer goes on behind its JSON: %s", web.Shown([]byte(text)))
	}
	if err := s.compiled.Validate(v); err != nil {
		return nil, fmt.Errorf("the answer does not fit the schema: %s: %s", reason(err), web.Shown([]byte(text)))
	}
	object, _ := v.(map[string]any)
	values := make([]any, len(s.outputs))
	for i := range s.outputs {
		sig := &s.outputs[i]
		var ok bool
		if values[i], ok = value(sig, object[sig.Name]); !ok {
			return nil, fmt.Errorf("the answer's %s is no %v: %s", sig.Name, sig.Type, web.Shown([]byte(text)))
		}
	}
	return values, nil
}

func value(sig *inference.Signature, v any) (any, bool) {
	switch sig.Type {
	case inference.String:
		t, ok := v.(string)
		return t, ok
	case inference.Bool:
		b, ok := v.(bool)
		return b, ok
	case inference.Int64:
		n, _ := v.(json.Number)
		i, err := n.Int64()
		if err != nil { // 3.0 is an integer to a schema
			f, err := n.Float64()
			return int64(f), err == nil && f == math.Trunc(f) && math.Abs(f) <= 1<<53
		}
		return i, true
	}
	if len(sig.Shape) == 0 {
		n, _ := v.(json.Number)
		f, err := n.Float64()
		return f, err == nil
	}
	list, ok := v.([]any)
	if !ok || len(list) != sig.Shape[0] {
		return nil, false
	}
	out := make([]float64, len(list))
	for i, e := range list {
		n, _ := e.(json.Number)
		f, err := n.Float64()
		if err != nil {
			return nil, false
		}
		out[i] = f
	}
	return out, true
}

// reason is the innermost cause of a failed validation, on one line.
func reason(err error) string {
	var v *jsonschema.ValidationError
	if !errors.As(err, &v) {
		return web.Shown([]byte(err.Error()))
	}
	for len(v.Causes) > 0 {
		v = v.Causes[0]
	}
	lines := strings.Split(v.Error(), "\n")
	return web.Shown([]byte(strings.TrimPrefix(strings.TrimSpace(lines[len(lines)-1]), "- ")))
}
