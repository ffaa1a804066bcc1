package pipeline

import (
	"fmt"
	"math"
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

// posOf is the place of a node; the zero Pos for one that is not there.
func posOf(n *yaml.Node) Pos {
	if n == nil {
		return Pos{}
	}
	return Pos{n.Line, n.Column}
}

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

// object is fields for a mapping of the file. What it lacks is a fault.
func (r *reader) object(n *yaml.Node, what string, o *object) map[string]*yaml.Node {
	m := r.fields(n, what, o.names()...)
	r.missing(n, m, what, o)
	return m
}

func (r *reader) missing(n *yaml.Node, m map[string]*yaml.Node, what string, o *object) {
	for _, k := range o.keys {
		if k.needed != "" {
			r.need(n, m, what, k.name, k.needed)
		}
	}
}

// unknownIn reports whether a mapping holds keys beside those that fields returned, which were reported.
func unknownIn(n *yaml.Node, m map[string]*yaml.Node) bool { return len(n.Content) > 2*len(m) }

// items returns the elements of a sequence; none where it is not there.
func (r *reader) items(n *yaml.Node, what string) []*yaml.Node {
	if n == nil {
		return nil
	}
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

// str reads a text; "" with a fault where there is none to read.
func (r *reader) str(n *yaml.Node, what string) string {
	s, ok := r.scalar(n, what, "a text")
	if !ok {
		return ""
	}
	if s == "" {
		r.fault(posOf(n), "empty", "", "%s is empty, and must not be", what)
	}
	return s
}

// name reads a text that is also used as (part of) a topic name.
func (r *reader) name(n *yaml.Node, what string) string {
	s := r.str(n, what)
	if s != "" && !validTopic.MatchString(s) {
		r.fault(posOf(n), "name", "use letters, digits, dots, dashes and underscores, at most 200, beginning with a letter or digit",
			"%s %q is not a valid name", what, s)
		return ""
	}
	return s
}

// positive reads a duration that is longer than nothing; fallback where it is not there.
func (r *reader) positive(n *yaml.Node, what, example string, fallback time.Duration) time.Duration {
	if n == nil {
		return fallback
	}
	d, ok := r.duration(n, what)
	if ok && d <= 0 {
		r.fault(posOf(n), "range", "write for example "+example, "%s must be longer than nothing", what)
	}
	return d
}

// notNegative reads a duration of 0s or longer; ok is false where there is none.
func (r *reader) notNegative(n *yaml.Node, what, remedy string) (d time.Duration, ok bool) {
	if d, ok = r.duration(n, what); ok && d < 0 {
		r.fault(posOf(n), "range", remedy, "%s is negative", what)
	}
	return d, ok
}

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

// integer reads a whole number within bounds; fallback where it is not there, and lo with a fault where it is wrong.
func (r *reader) integer(n *yaml.Node, what string, lo, hi, fallback int) int {
	if n == nil {
		return fallback
	}
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

// number reads a number; ok is false where there is none to judge.
func (r *reader) number(n *yaml.Node, what string) (v float64, ok bool) {
	s, ok := r.scalar(n, what, "a number")
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		r.fault(posOf(n), "type", "", "%s must be a number, not %q", what, s)
	}
	return v, err == nil
}

// truth reads true or false; false where it is not there.
func (r *reader) truth(n *yaml.Node, what string) bool {
	s, ok := r.scalar(n, what, "true or false")
	if s = strings.ToLower(s); ok && s != "true" && s != "false" {
		r.fault(posOf(n), "type", "", "%s must be true or false, not %q", what, s)
	}
	return s == "true"
}

// choice reads one of some words and returns its index; 0 where it is not there or wrong.
func (r *reader) choice(n *yaml.Node, what string, words []string) int {
	s, ok := r.scalar(n, what, alternatives(words))
	i := slices.Index(words, s)
	if ok && i < 0 {
		remedy := ""
		if spell.Nearest(s, words) != "" {
			remedy = didYouMean(s, words)
		}
		r.fault(posOf(n), "choice", remedy, "%s must be %s, not %q", what, alternatives(words), s)
	}
	return max(i, 0)
}

// alternatives joins words as "a, b or c".
func alternatives(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// bytes reads a number of bytes of at least lo; fallback where it is not there.
func (r *reader) bytes(n *yaml.Node, what string, lo, fallback int64) int64 {
	if n == nil {
		return fallback
	}
	s, ok := r.scalar(n, what, "a number of bytes such as 512MiB")
	if !ok {
		return fallback
	}
	v, ok := parseBytes(s)
	if !ok {
		r.fault(posOf(n), "size", "write a whole number with KiB, MiB, GiB or TiB, or of bytes, such as 512MiB", "%s %q is not a number of bytes", what, s)
		return fallback
	}
	if v < lo {
		r.fault(posOf(n), "range", "write for example 512MiB", "%s must be at least %d bytes, not %d", what, lo, v)
	}
	return v
}

// parseBytes reads a whole number of bytes, KiB, MiB, GiB or TiB.
func parseBytes(s string) (n int64, ok bool) {
	unit := 0
	for i, u := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if rest, found := strings.CutSuffix(s, u); found {
			s, unit = strings.TrimRight(rest, " "), 10*(i+1)
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>unit {
		return 0, false
	}
	return n << unit, true
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
