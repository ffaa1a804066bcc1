package pipeline

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/freshet-io/freshet/contract"
)

// Limits of what a file may say.
const (
	maxPartitions   = 4096
	defaultParts    = 4
	defaultMaxBytes = 1 << 20
	maxBatch        = 8192
)

// Load reads a pipeline file. env looks environment variables up for ${NAME};
// nil means the process's own. The Spec is complete only when there are no faults.
func Load(path string, env func(string) (string, bool)) (*Spec, []Fault) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, []Fault{{File: path, Rule: "file", Message: fmt.Sprintf("cannot read the pipeline file: %v", errors.Unwrap(err)), Remedy: "check the path"}}
	}
	return Parse(path, data, env)
}

// Parse is Load for the bytes of a file.
func Parse(path string, data []byte, env func(string) (string, bool)) (*Spec, []Fault) {
	if env == nil {
		env = os.LookupEnv
	}
	r := &reader{file: path, env: env}
	root := r.document(data)
	if root == nil {
		return nil, r.faults
	}
	s := &Spec{File: path, Freshness: Freshness{Target: 2 * time.Second, Quantile: 0.99}}
	top := r.fields(root, "the pipeline", "name", "freshness", "source", "tables", "steps", "outputs")
	if n, ok := r.need(root, top, "the pipeline", "name", "name: card-fraud"); ok {
		s.Name = r.name(n, "name")
	}
	if n := top["freshness"]; n != nil {
		r.freshness(n, &s.Freshness)
	}
	if n, ok := r.need(root, top, "the pipeline", "source", "source: {topic: …, contract: …}"); ok {
		r.source(n, &s.Source)
	}
	if n := top["tables"]; n != nil {
		s.Tables = r.tables(n)
	}
	if n, ok := r.need(root, top, "the pipeline", "steps", "steps: [{features: …}, {infer: …}, {route: …}]"); ok {
		s.stepsPos = posOf(n)
		s.Steps = r.steps(n)
	}
	if n := top["outputs"]; n != nil {
		s.Outputs = r.outputs(n)
	}
	r.check(s)
	return s, r.faults
}

var yamlLine = regexp.MustCompile(`line (\d+)`)

// document parses the file's only YAML document.
func (r *reader) document(data []byte) *yaml.Node {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	err := dec.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF) || err == nil && (len(doc.Content) == 0 || doc.Content[0].Tag == "!!null"):
		r.fault(Pos{}, "empty", "begin with `name:`, `source:` and `steps:`", "the file holds no pipeline")
		return nil
	case err != nil:
		p := Pos{}
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			p.Line, _ = strconv.Atoi(m[1])
			p.Column = 1
		}
		r.fault(p, "yaml", "check the indentation, the quotes and the brackets at and above this line", "not valid YAML: %v", err)
		return nil
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		r.fault(Pos{}, "yaml", "write one pipeline a file", "the file holds more than one YAML document")
	}
	return doc.Content[0]
}

// need returns a key that must be there.
func (r *reader) need(parent *yaml.Node, m map[string]*yaml.Node, what, key, example string) (*yaml.Node, bool) {
	n, ok := m[key]
	if !ok && parent.Kind == yaml.MappingNode {
		r.fault(posOf(parent), "missing-key", "add `"+example+"`", "%s needs the key %q", what, key)
	}
	return n, ok
}

func (r *reader) freshness(n *yaml.Node, f *Freshness) {
	m := r.fields(n, "freshness", "target", "quantile")
	if t := m["target"]; t != nil {
		var ok bool
		if f.Target, ok = r.duration(t, "freshness.target"); ok && f.Target <= 0 {
			r.fault(posOf(t), "range", "write for example 2s", "freshness.target must be longer than nothing")
		}
	}
	if q := m["quantile"]; q != nil {
		f.Quantile = r.number(q, "freshness.quantile")
		if f.Quantile <= 0 || f.Quantile >= 1 {
			r.fault(posOf(q), "range", "write for example 0.99", "freshness.quantile must lie between 0 and 1, not %v", f.Quantile)
		}
	}
}

func (r *reader) source(n *yaml.Node, s *Source) {
	s.pos, s.Partitions, s.MaxBytes = posOf(n), defaultParts, defaultMaxBytes
	m := r.fields(n, "source", "topic", "contract", "id", "key", "time", "partitions", "max_bytes")
	if t, ok := r.need(n, m, "source", "topic", "topic: transactions"); ok {
		s.Topic = r.name(t, "source.topic")
	}
	if c, ok := r.need(n, m, "source", "contract", "contract: contracts/transaction.schema.json"); ok {
		s.Contract, s.contractPos = r.str(c, "source.contract"), posOf(c)
	}
	if k := m["id"]; k != nil {
		s.ID, s.idPos = r.str(k, "source.id"), posOf(k)
	}
	if k := m["key"]; k != nil {
		s.Key, s.keyPos = r.str(k, "source.key"), posOf(k)
	}
	if t := m["time"]; t != nil {
		tm := r.fields(t, "source.time", "field", "lateness")
		s.timePos = posOf(t)
		if f := tm["field"]; f != nil {
			s.TimeField, s.timePos = r.str(f, "source.time.field"), posOf(f)
		}
		if l := tm["lateness"]; l != nil {
			if s.Lateness, _ = r.duration(l, "source.time.lateness"); s.Lateness < 0 {
				r.fault(posOf(l), "range", "write 0s or longer", "source.time.lateness is negative")
			}
		}
	}
	if p := m["partitions"]; p != nil {
		s.Partitions = r.integer(p, "source.partitions", 1, maxPartitions)
	}
	if b := m["max_bytes"]; b != nil {
		s.MaxBytes = r.integer(b, "source.max_bytes", 1, defaultMaxBytes)
	}
}

func (r *reader) tables(n *yaml.Node) (ts []Table) {
	for _, e := range r.entries(n, "tables") {
		t := Table{Name: e.key, pos: e.pos}
		what := "table " + e.key
		m := r.fields(e.value, what, "file", "key")
		if f, ok := r.need(e.value, m, what, "file", "file: tables/"+e.key+".csv"); ok {
			t.File = r.str(f, what+".file")
		}
		if k, ok := r.need(e.value, m, what, "key", "key: id"); ok {
			t.Key = r.str(k, what+".key")
		}
		ts = append(ts, t)
	}
	return ts
}

func (r *reader) outputs(n *yaml.Node) (os []Output) {
	for _, e := range r.entries(n, "outputs") {
		o := Output{Topic: e.key, Partitions: defaultParts, pos: e.pos}
		if !topicName.MatchString(e.key) {
			r.fault(e.pos, "name", "use letters, digits, dots, dashes and underscores", "output %q is not a valid topic name", e.key)
		}
		if e.value.Tag != "!!null" {
			m := r.fields(e.value, "output "+e.key, "partitions", "retention")
			if p := m["partitions"]; p != nil {
				o.Partitions = r.integer(p, "partitions", 1, maxPartitions)
			}
			if d := m["retention"]; d != nil {
				if o.Retention, _ = r.duration(d, "retention"); o.Retention < 0 {
					r.fault(posOf(d), "range", "write 0s to keep results for ever", "retention is negative")
				}
			}
		}
		os = append(os, o)
	}
	return os
}

// check finds the faults that concern more than one key.
func (r *reader) check(s *Spec) {
	infers := 0
	for i, st := range s.Steps {
		switch st := st.(type) {
		case *Infer:
			if infers++; infers == 2 {
				r.fault(st.pos, "one-infer", "keep one, or make a second pipeline that reads the first one's results", "a pipeline has one infer step, and this is the second")
			}
		case *Route:
			if i != len(s.Steps)-1 {
				r.fault(s.Steps[i+1].place(), "after-route", "move it before the route step", "no step can follow route: the results have left")
			}
			r.checkRoute(s, st)
		}
	}
	if len(s.Steps) == 0 && len(r.faults) == 0 {
		r.fault(s.stepsPos, "empty", "end with `- route: [{to: results}]`", "steps is empty")
	}
	if n := len(s.Steps); n > 0 {
		if _, ok := s.Steps[n-1].(*Route); !ok {
			r.fault(s.Steps[n-1].place(), "no-route", "add `- route: [{to: results}]` as the last step", "the last step must be route, so that the results have a topic to go to")
		}
	}
}

func (r *reader) checkRoute(s *Spec, st *Route) {
	to := map[string]bool{}
	for i, c := range st.Cases {
		if c.When == nil && i != len(st.Cases)-1 {
			r.fault(st.Cases[i+1].pos, "unreachable", "give the case above a `when`, or move it to the end", "this case is never reached: the one above always holds")
		}
		if c.When != nil && i == len(st.Cases)-1 {
			r.fault(c.pos, "no-default", "add `- {to: other-results}` as the last case", "the last case has a condition, so that a result may have nowhere to go")
		}
		for j, t := range c.To {
			to[t] = true
			switch t {
			case s.Source.Topic:
				r.fault(c.toPos[j], "loop", "choose another topic", "route leads back to the source topic %q", t)
			case s.DeadLetters(), s.StateTopic():
				r.fault(c.toPos[j], "reserved-topic", "choose another topic", "the topic %q belongs to the pipeline itself", t)
			}
		}
	}
	names := make([]string, 0, len(to))
	for t := range to {
		names = append(names, t)
	}
	for _, o := range s.Outputs {
		if !to[o.Topic] {
			r.fault(o.pos, "unused-output", didYouMean(o.Topic, names), "no route leads to the output %q", o.Topic)
		}
	}
}

// timeRule is the source's event time: the contract's, with what the file overrides.
func (s *Source) timeRule(c *contract.Contract) contract.TimeRule {
	t := c.Time
	if s.TimeField != "" {
		t.Field = s.TimeField
	}
	if s.Lateness != 0 {
		t.Lateness = s.Lateness
	}
	return t
}
