// Package settings reads the mapping that a pipeline hands to an adapter as its
// own settings, strictly: a value of another type, a number out of range or a key
// that nobody asked for is an error of kind Config that names the key and, where one
// is near, the key that was meant.
//
//	s := settings.Read("options of "+where, o.Settings)
//	r := s.Map("request")
//	method := r.String("method", "POST")
//	slots := s.Int("concurrency", 8, 1)
//	if err := s.Done(); err != nil { … }
//
// The getters remember the first fault and go on with the value for an absent key,
// so that one Done at the end is all that is checked. A key whose value is null is
// absent.
package settings

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/spell"
)

// Settings are a mapping that is being read. It belongs to one goroutine.
type Settings struct {
	where  string
	prefix string // of keys in errors: "request." in a mapping below request
	values map[string]any
	taken  []string
	below  []*Settings
	fault  *error // shared with the mappings below
}

// Read begins to read values, which may be nil; where begins each error.
func Read(where string, values map[string]any) *Settings {
	return &Settings{where: where, values: values, fault: new(error)}
}

// Fail remembers a fault of a key's value that the adapter found by itself; the
// first fault of all is what Done returns.
func (s *Settings) Fail(key, format string, args ...any) {
	if *s.fault == nil {
		*s.fault = errkind.Errorf(errkind.Config, "%s: %s: %w", s.where, s.prefix+key, fmt.Errorf(format, args...))
	}
}

func (s *Settings) take(key string) (any, bool) {
	s.taken = append(s.taken, key)
	v := s.values[key]
	return v, v != nil
}

func (s *Settings) wrong(key string, v any, expected string) {
	s.Fail(key, "expected %s, not %s", expected, describe(v))
}

// describe shows a wrong value; a text is not shown in full, for it may be a secret
// at the wrong place.
func describe(v any) string {
	switch v := v.(type) {
	case string:
		if len(v) > 12 {
			return "a text"
		}
		return fmt.Sprintf("%q", v)
	case map[string]any, map[any]any:
		return "a mapping"
	case []any:
		return "a list"
	}
	return fmt.Sprint(v)
}

// Has reports whether a key has a value; it does not count as asked for.
func (s *Settings) Has(key string) bool { return s.values[key] != nil }

// Keys are the keys of the mapping, sorted.
func (s *Settings) Keys() []string { return slices.Sorted(maps.Keys(s.values)) }

// Peek is a value as it is, for what may be of several kinds; it does not count as asked for.
func (s *Settings) Peek(key string) any { return s.values[key] }

// Any takes a value as it is; nil where there is none.
func (s *Settings) Any(key string) any {
	v, _ := s.take(key)
	return v
}

// String takes a text.
func (s *Settings) String(key, absent string) string {
	v, ok := s.take(key)
	if !ok {
		return absent
	}
	t, ok := v.(string)
	if !ok {
		s.wrong(key, v, "a text")
		return absent
	}
	return t
}

// Choice takes a text that is one of some; the first stands for an absent key.
func (s *Settings) Choice(key string, choices ...string) string {
	v := s.String(key, choices[0])
	if !slices.Contains(choices, v) {
		s.Fail(key, "%q is none of %s%s", v, strings.Join(choices, ", "), hint(v, choices))
		return choices[0]
	}
	return v
}

// Bool takes true or false.
func (s *Settings) Bool(key string, absent bool) bool {
	v, ok := s.take(key)
	if !ok {
		return absent
	}
	b, ok := v.(bool)
	if !ok {
		s.wrong(key, v, "true or false")
		return absent
	}
	return b
}

// Int takes a whole number of at least least.
func (s *Settings) Int(key string, absent, least int) int {
	v, ok := s.take(key)
	if !ok {
		return absent
	}
	f, ok := number(v)
	if !ok || f != math.Trunc(f) || f < float64(least) || math.Abs(f) > 1<<53 {
		s.wrong(key, v, fmt.Sprintf("a whole number of at least %d", least))
		return absent
	}
	return int(f)
}

// Float takes a number from least to most.
func (s *Settings) Float(key string, absent, least, most float64) float64 {
	v, ok := s.take(key)
	if !ok {
		return absent
	}
	f, ok := number(v)
	if !ok || !(f >= least && f <= most) {
		expected := fmt.Sprintf("a number from %v to %v", least, most)
		if math.IsInf(most, 1) {
			expected = fmt.Sprintf("a number of at least %v", least)
		}
		s.wrong(key, v, expected)
		return absent
	}
	return f
}

// Duration takes a duration above 0, such as 500ms.
func (s *Settings) Duration(key string, absent time.Duration) time.Duration {
	v, ok := s.take(key)
	if !ok {
		return absent
	}
	switch v := v.(type) {
	case time.Duration:
		if v > 0 {
			return v
		}
	case string:
		if d, err := time.ParseDuration(v); err == nil && d > 0 {
			return d
		}
	}
	s.wrong(key, v, "a duration such as 500ms")
	return absent
}

// Strings takes a list of texts; a text alone is a list of one.
func (s *Settings) Strings(key string) []string {
	v, ok := s.take(key)
	if !ok {
		return nil
	}
	switch v := v.(type) {
	case string:
		return []string{v}
	case []string:
		return slices.Clone(v)
	case []any:
		var list []string
		for _, e := range v {
			t, ok := e.(string)
			if !ok {
				s.wrong(key, e, "a list of texts")
				return nil
			}
			list = append(list, t)
		}
		return list
	}
	s.wrong(key, v, "a list of texts")
	return nil
}

// Ints takes a list of whole numbers of at least least; a number alone is a list of one.
func (s *Settings) Ints(key string, least int) []int {
	v, ok := s.take(key)
	if !ok {
		return nil
	}
	list, isList := v.([]any)
	if !isList {
		list = []any{v}
		if ints, ok := v.([]int); ok {
			list = list[:0]
			for _, n := range ints {
				list = append(list, n)
			}
		}
	}
	var out []int
	for _, e := range list {
		f, ok := number(e)
		if !ok || f != math.Trunc(f) || f < float64(least) || math.Abs(f) > 1<<53 {
			s.wrong(key, e, fmt.Sprintf("whole numbers of at least %d", least))
			return nil
		}
		out = append(out, int(f))
	}
	return out
}

// Texts takes a mapping of texts to texts.
func (s *Settings) Texts(key string) map[string]string {
	m := s.Map(key)
	out := make(map[string]string, len(m.values))
	for _, k := range m.Keys() {
		out[k] = m.String(k, "")
	}
	return out
}

// Map takes a mapping, to be read in its turn; it is empty where the key is absent.
// Done of the receiver speaks for it too.
func (s *Settings) Map(key string) *Settings {
	v, ok := s.take(key)
	b := &Settings{where: s.where, prefix: s.prefix + key + ".", fault: s.fault}
	s.below = append(s.below, b)
	if !ok {
		return b
	}
	switch v := v.(type) {
	case map[string]any:
		b.values = v
	case map[string]string:
		b.values = make(map[string]any, len(v))
		for k, t := range v {
			b.values[k] = t
		}
	case map[any]any:
		b.values = make(map[string]any, len(v))
		for k, e := range v {
			name, ok := k.(string)
			if !ok {
				s.Fail(key, "the key %v is no text", k)
				return b
			}
			b.values[name] = e
		}
	default:
		s.wrong(key, v, "a mapping")
	}
	return b
}

// Done returns the first fault, or else names a key that nobody asked for.
func (s *Settings) Done() error {
	if *s.fault != nil {
		return *s.fault
	}
	for _, key := range s.Keys() {
		if slices.Contains(s.taken, key) {
			continue
		}
		known := slices.Clone(s.taken)
		slices.Sort(known)
		known = slices.Compact(known)
		if len(known) == 0 {
			return errkind.Errorf(errkind.Config, "%s: unknown key %q: there are no settings here", s.where, s.prefix+key)
		}
		near := hint(key, known)
		if near == "" {
			near = "; known are " + strings.Join(known, ", ")
		}
		return errkind.Errorf(errkind.Config, "%s: unknown key %q%s", s.where, s.prefix+key, near)
	}
	for _, b := range s.below {
		if err := b.Done(); err != nil {
			return err
		}
	}
	return nil
}

func hint(word string, known []string) string {
	if near := spell.Nearest(word, known); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// number reads what decoders of YAML and JSON make of a number.
func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int:
		return float64(v), true
	case int32:
		return float64(v), true
	case int64:
		return float64(v), true
	case uint:
		return float64(v), true
	case uint64:
		return float64(v), true
	case float32:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}
