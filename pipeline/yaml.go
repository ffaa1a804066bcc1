package pipeline

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/freshet-io/freshet/internal/spell"
)

// Pos is a place in a pipeline file, counted from 1.
type Pos struct{ Line, Column int }

func posOf(n *yaml.Node) Pos { return Pos{n.Line, n.Column} }

// reader walks YAML nodes and collects faults instead of stopping at the first.
type reader struct {
	file   string
	env    func(string) (string, bool)
	faults []Fault
}

func (r *reader) fault(p Pos, rule, remedy, format string, args ...any) {
	r.faults = append(r.faults, Fault{
		File: r.file, Line: p.Line, Column: p.Column,
		Rule: rule, Message: fmt.Sprintf(format, args...), Remedy: remedy,
	})
}

// entry is one key and value of a mapping.
type entry struct {
	key   string
	pos   Pos // of the key
	value *yaml.Node
}

// entries returns the pairs of a mapping in file order. Keys that occur twice are faults.
func (r *reader) entries(n *yaml.Node, what string) []entry {
	n = deref(n)
	if n.Kind != yaml.MappingNode {
		r.fault(posOf(n), "type", "write it as `key: value` pairs", "%s must be a mapping, not %s", what, kindName(n))
		return nil
	}
	var es []entry
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if line, ok := seen[k.Value]; ok {
			r.fault(posOf(k), "duplicate-key", "keep one of them", "key %q of %s stands here a second time (first on line %d)", k.Value, what, line)
			continue
		}
		seen[k.Value] = k.Line
		es = append(es, entry{k.Value, posOf(k), deref(n.Content[i+1])})
	}
	return es
}

// fields is entries for a mapping with known keys; others are faults.
func (r *reader) fields(n *yaml.Node, what string, known ...string) map[string]*yaml.Node {
	m := map[string]*yaml.Node{}
	for _, e := range r.entries(n, what) {
		if !slices.Contains(known, e.key) {
			r.fault(e.pos, "unknown-key", didYouMean(e.key, known), "%s has no key %q", what, e.key)
			continue
		}
		m[e.key] = e.value
	}
	return m
}

// items returns the elements of a sequence.
func (r *reader) items(n *yaml.Node, what string) []*yaml.Node {
	if n.Kind != yaml.SequenceNode {
		r.fault(posOf(n), "type", "write it as a list of `- item` lines or [a, b]", "%s must be a list, not %s", what, kindName(n))
		return nil
	}
	items := make([]*yaml.Node, len(n.Content))
	for i, c := range n.Content {
		items[i] = deref(c)
	}
	return items
}

// scalar returns the text of a scalar with ${NAME} replaced from the environment.
func (r *reader) scalar(n *yaml.Node, what, want string) (string, bool) {
	if n == nil {
		return "", false
	}
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		r.fault(posOf(n), "type", "", "%s must be %s, not %s", what, want, kindName(n))
		return "", false
	}
	return r.expand(n, what)
}

var variable = regexp.MustCompile(`\$\{([^}]*)\}`)

func (r *reader) expand(n *yaml.Node, what string) (string, bool) {
	ok := true
	s := variable.ReplaceAllStringFunc(n.Value, func(m string) string {
		name := m[2 : len(m)-1]
		v, set := r.env(name)
		if !set {
			r.fault(posOf(n), "environment", fmt.Sprintf("set it, for example: export %s=…", name),
				"%s uses the environment variable %q, which is not set", what, name)
			ok = false
		}
		return v
	})
	return s, ok
}

func (r *reader) str(n *yaml.Node, what string) string {
	s, ok := r.scalar(n, what, "a text")
	if ok && s == "" {
		r.fault(posOf(n), "empty", "", "%s is empty", what)
	}
	return s
}

// name reads a text that is also used as (part of) a topic name.
func (r *reader) name(n *yaml.Node, what string) string {
	s := r.str(n, what)
	if s != "" && !topicName.MatchString(s) {
		r.fault(posOf(n), "name", "use letters, digits, dots, dashes and underscores, at most 200, beginning with a letter or digit",
			"%s %q is not a valid name", what, s)
		return ""
	}
	return s
}

var topicName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)

// duration reads a duration; ok is false where there is none to judge.
func (r *reader) duration(n *yaml.Node, what string) (d time.Duration, ok bool) {
	s, ok := r.scalar(n, what, "a duration such as 500ms, 2s, 10m, 24h or 7d")
	if !ok {
		return 0, false
	}
	d, err := parseDuration(s)
	if err != nil {
		r.fault(posOf(n), "duration", "write a number with its unit, such as 500ms, 2s, 10m, 24h or 7d", "%s %q is not a duration", what, s)
	}
	return d, err == nil
}

// parseDuration is time.ParseDuration with a unit d of 24 hours for whole values.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseInt(days, 10, 32)
		if err == nil && n < 100000 && n > -100000 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	return time.ParseDuration(s)
}

func (r *reader) integer(n *yaml.Node, what string, lo, hi int) int {
	s, ok := r.scalar(n, what, "a whole number")
	if !ok {
		return lo
	}
	v, err := strconv.Atoi(s)
	if err != nil {
		r.fault(posOf(n), "type", "", "%s must be a whole number, not %q", what, s)
		return lo
	}
	if v < lo || v > hi {
		r.fault(posOf(n), "range", "", "%s must lie between %d and %d, not %d", what, lo, hi, v)
		return lo
	}
	return v
}

func (r *reader) number(n *yaml.Node, what string) float64 {
	s, ok := r.scalar(n, what, "a number")
	if !ok {
		return 0
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		r.fault(posOf(n), "type", "", "%s must be a number, not %q", what, s)
	}
	return v
}

func deref(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	if n.Tag == "!!null" || n.Value == "" {
		return "empty"
	}
	return strconv.Quote(n.Value)
}

// didYouMean is the remedy for an unknown word.
func didYouMean(word string, known []string) string {
	if s := spell.Nearest(word, known); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	if len(known) == 0 {
		return ""
	}
	if len(known) > 24 {
		known = append(slices.Clone(known[:24]), "…")
	}
	return "known are: " + strings.Join(known, ", ")
}
