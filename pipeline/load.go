package pipeline

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
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
	sum := sha256.Sum256(data)
	s := &Spec{File: path, digest: hex.EncodeToString(sum[:]), Freshness: Freshness{Target: 2 * time.Second, Quantile: 0.99}}
	top := r.object(root, "the pipeline", &fileKeys)
	s.Name = r.name(top["name"], "name")
	r.freshness(top["freshness"], &s.Freshness)
	r.source(top["source"], &s.Source)
	s.Labels = r.labels(top["labels"])
	s.State = r.state(top["state"])
	s.Tables = r.tables(top["tables"])
	if n := top["models"]; n != nil {
		s.Models, s.modelsPos = r.str(n, "models"), posOf(n)
	}
	s.Record = r.record(top["record"])
	s.Steps, s.stepsPos = r.steps(top["steps"]), posOf(top["steps"])
	s.Outputs = r.outputs(top["outputs"])
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
	if n == nil {
		return
	}
	m := r.object(n, "freshness", &freshnessKeys)
	f.Target = r.positive(m["target"], "freshness.target", "2s", f.Target)
	if q := m["quantile"]; q != nil {
		f.Quantile = r.share(q, "freshness.quantile", "0.99")
	}
}

// share reads a number between 0 and 1, both left out.
func (r *reader) share(n *yaml.Node, what, example string) float64 {
	v, ok := r.number(n, what)
	if ok && !(v > 0 && v < 1) {
		r.fault(posOf(n), "range", "write for example "+example, "%s must lie between 0 and 1, not %v", what, v)
	}
	return v
}

// check finds the faults that concern more than one key.
func (r *reader) check(s *Spec) {
	if s.Labels != nil && s.Labels.Topic != "" && s.Labels.Topic == s.Source.Topic {
		r.fault(s.Labels.pos, "same-topic", "send labels to a topic of their own", "labels.topic is the source's topic %q", s.Source.Topic)
	}
	if src := &s.Source; src.Order != "" && src.OrderWait >= s.Freshness.Target && s.Freshness.Target > 0 {
		r.fault(src.orderPos, "order-wait", "shorten the wait, or give the freshness a longer target", "source.time.order waits %v, which leaves nothing of the freshness target of %v", src.OrderWait, s.Freshness.Target)
	}
	r.checkInfers(s)
	for i, st := range s.Steps {
		switch st := st.(type) {
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
			r.checkTarget(s, t, c.toPos[j])
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

// checkTarget refuses topics that results cannot go to.
func (r *reader) checkTarget(s *Spec, topic string, at Pos) {
	switch shuffles := s.Name + "-by-"; {
	case topic == s.Source.Topic:
		r.fault(at, "loop", "choose another topic", "route leads back to the source topic %q", topic)
	case s.Labels != nil && topic == s.Labels.Topic:
		r.fault(at, "loop", "choose another topic", "route leads back to the labels' topic %q", topic)
	case slices.ContainsFunc(s.Tables, func(t Table) bool { return t.Topic == topic }):
		r.fault(at, "loop", "choose another topic", "route leads back to the table's topic %q", topic)
	case topic == s.DeadLetters(), topic == s.StateTopic(), topic == s.Predictions():
		r.fault(at, "reserved-topic", "choose another topic", "the topic %q belongs to the pipeline itself", topic)
	case strings.HasPrefix(topic, shuffles):
		r.fault(at, "reserved-topic", "choose another topic", "topics that begin with %q belong to the pipeline itself", shuffles)
	}
}
