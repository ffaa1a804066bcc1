package rule

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/expr"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/internal/spell"
)

// Suffix is how the name of a rule's file ends.
const Suffix = ".rule.yaml"

const (
	// maxBytes bounds a file, and maxFields its inputs and outputs each.
	maxBytes  = 1 << 20
	maxFields = 1024
)

// Options bound what a rule may use; the zero value of a field means its default.
type Options struct {
	// Instances is how many Infer calls may run at once (default GOMAXPROCS).
	Instances int
}

var kinds = map[string]event.Kind{"float": event.Float, "int": event.Int, "bool": event.Bool, "string": event.String}

var kindNames = []string{"float", "int", "bool", "string"}

var dataTypes = [...]inference.DataType{
	event.Float: inference.Float64, event.Int: inference.Int64, event.Bool: inference.Bool, event.String: inference.String,
}

// Load reads a rule's file; the model is named after it. A file that is not there is
// NotFound, one that is no rule is Config, with the line.
func Load(path string, o Options) (*Rule, error) {
	f, err := os.Open(path)
	if err != nil {
		kind := errkind.Config
		if errors.Is(err, fs.ErrNotExist) {
			kind = errkind.NotFound
		}
		return nil, errkind.Errorf(kind, "load rule: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "load rule %s: %w", path, err)
	}
	r, err := Parse(strings.TrimSuffix(filepath.Base(path), Suffix), data, o)
	if err != nil {
		return nil, fmt.Errorf("load rule %s: %w", path, err)
	}
	return r, nil
}

// Parse reads a rule from what its file holds. Every error is Config and says the line.
func Parse(name string, data []byte, o Options) (*Rule, error) {
	if len(data) > maxBytes {
		return nil, errkind.Errorf(errkind.Config, "the rule is larger than %d bytes", maxBytes)
	}
	sum := sha256.Sum256(data)
	r := &Rule{bytes: int64(len(data))}
	r.meta = inference.Metadata{Name: name, Digest: hex.EncodeToString(sum[:]), Format: "rule", Producer: "CEL"}
	if err := r.read(data); err != nil {
		return nil, errkind.With(errkind.Config, err)
	}
	if r.meta.Version == "" {
		r.meta.Version = r.meta.Digest[:12]
	}
	if o.Instances <= 0 {
		o.Instances = runtime.GOMAXPROCS(0)
	}
	r.start(o.Instances)
	return r, nil
}

func (r *Rule) read(data []byte) error {
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return fmt.Errorf("read the rule as YAML: %w", err)
	}
	if len(doc.Content) != 1 {
		return errors.New("the file holds no rule: it needs inputs and outputs")
	}
	top, err := entries(doc.Content[0], "the rule")
	if err != nil {
		return err
	}
	var inputs, outputs *yaml.Node
	for _, e := range top {
		switch e.key.Value {
		case "inputs":
			inputs = e.value
		case "outputs":
			outputs = e.value
		case "version", "description":
			if e.value.Kind != yaml.ScalarNode {
				return fmt.Errorf("line %d: %s must be a text", e.value.Line, e.key.Value)
			}
			if e.key.Value == "version" {
				r.meta.Version = e.value.Value
			}
		default:
			return unknown(e.key, "key", []string{"inputs", "outputs", "version", "description"})
		}
	}
	switch {
	case inputs == nil:
		return errors.New("the rule has no inputs: write inputs: {NAME: float}")
	case outputs == nil:
		return errors.New(`the rule has no outputs: write outputs: {score: "EXPRESSION"}`)
	}
	if err := r.readInputs(inputs); err != nil {
		return err
	}
	return r.readOutputs(outputs)
}

func (r *Rule) readInputs(n *yaml.Node) error {
	list, err := entries(n, "inputs")
	if err != nil {
		return err
	}
	for _, e := range list {
		kind, ok := kinds[e.value.Value]
		if !ok || e.value.Kind != yaml.ScalarNode {
			return unknown(e.value, fmt.Sprintf("kind of the input %s", e.key.Value), kindNames)
		}
		r.vars = append(r.vars, expr.Var{Name: e.key.Value, Kind: kind})
		r.meta.Inputs = append(r.meta.Inputs, inference.Signature{Name: e.key.Value, Type: dataTypes[kind]})
	}
	return nil
}

func (r *Rule) readOutputs(n *yaml.Node) error {
	list, err := entries(n, "outputs")
	if err != nil {
		return err
	}
	for _, e := range list {
		if e.value.Kind != yaml.ScalarNode || e.value.Value == "" {
			return fmt.Errorf("line %d: the output %s must be an expression", e.value.Line, e.key.Value)
		}
		p, err := expr.Compile(e.value.Value, r.vars, event.Float, event.Int, event.Bool, event.String)
		if err != nil {
			return fmt.Errorf("line %d: output %s: %w", e.value.Line, e.key.Value, err)
		}
		o := output{name: e.key.Value, program: p}
		for _, v := range p.Vars() {
			for i := range r.vars {
				if r.vars[i].Name == v {
					o.inputs = append(o.inputs, i)
				}
			}
		}
		r.outputs = append(r.outputs, o)
		r.meta.Outputs = append(r.meta.Outputs, inference.Signature{Name: e.key.Value, Type: dataTypes[p.Kind()]})
	}
	return nil
}

type entry struct{ key, value *yaml.Node }

// entries are the pairs of a mapping, in the order of the file.
func entries(n *yaml.Node, what string) ([]entry, error) {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		return nil, fmt.Errorf("line %d: %s must be a mapping with at least one pair", n.Line, what)
	}
	if len(n.Content)/2 > maxFields {
		return nil, fmt.Errorf("line %d: %s: more than %d pairs", n.Line, what, maxFields)
	}
	seen := map[string]bool{}
	var list []entry
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch {
		case k.Kind != yaml.ScalarNode || k.Value == "" || k.Tag == "!!merge":
			return nil, fmt.Errorf("line %d: %s: a key must be a name", k.Line, what)
		case v.Kind == yaml.AliasNode:
			return nil, fmt.Errorf("line %d: %s: write %s out, without an alias", v.Line, what, k.Value)
		case seen[k.Value]:
			return nil, fmt.Errorf("line %d: %s: %s stands there twice", k.Line, what, k.Value)
		}
		seen[k.Value] = true
		list = append(list, entry{k, v})
	}
	return list, nil
}

func unknown(n *yaml.Node, what string, known []string) error {
	hint := "; known are " + strings.Join(known, ", ")
	if near := spell.Nearest(n.Value, known); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	return fmt.Errorf("line %d: unknown %s %q%s", n.Line, what, n.Value, hint)
}
