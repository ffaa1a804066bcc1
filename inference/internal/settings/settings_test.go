package settings

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
)

func TestValuesAreReadByType(t *testing.T) {
	s := Read("options", map[string]any{
		"name": "a", "on": true, "n": int64(3), "whole": 4.0, "f": 1, "wait": "250ms", "api": "chat",
		"one": "x", "list": []any{"x", "y"}, "dims": []any{1, uint64(2)}, "nothing": nil,
		"request": map[any]any{"method": "GET", "headers": map[string]any{"A": "b"}},
		"schema":  map[string]any{"type": "object"},
	})
	r := s.Map("request")
	got := []any{
		s.String("name", ""), s.Bool("on", false), s.Int("n", 0, 1), s.Int("whole", 0, 1), s.Float("f", 0, 0, 2),
		s.Duration("wait", 0), s.Choice("api", "completions", "chat"), s.Strings("one"), s.Strings("list"), s.Ints("dims", 1),
		r.String("method", "POST"), r.Texts("headers"), s.Any("schema"),
		s.String("absent", "z"), s.Int("nothing", 7, 1), s.Has("nothing"), s.Map("none").Int("deep", 9, 1),
	}
	want := []any{
		"a", true, 3, 4, 1.0, 250 * time.Millisecond, "chat", []string{"x"}, []string{"x", "y"}, []int{1, 2},
		"GET", map[string]string{"A": "b"}, map[string]any{"type": "object"}, "z", 7, false, 9,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := s.Done(); err != nil {
		t.Error(err)
	}
}

func TestFaultsNameTheKey(t *testing.T) {
	read := func(s *Settings) {
		s.String("model", "")
		s.Bool("stream", false)
		s.Int("max_tokens", 1, 1)
		s.Float("temperature", 0, 0, 2)
		s.Float("price", 0, 0, math.Inf(1))
		s.Duration("timeout", time.Second)
		s.Choice("api", "chat", "embeddings")
		s.Strings("stop")
		s.Ints("shape", 1)
		b := s.Map("budget")
		b.Int("tokens_per_minute", 0, 1)
		s.Texts("headers")
	}
	for _, tc := range []struct {
		values map[string]any
		want   string
	}{
		{map[string]any{"model": 3}, "options: model: expected a text, not 3"},
		{map[string]any{"stream": "yes"}, `options: stream: expected true or false, not "yes"`},
		{map[string]any{"max_tokens": 0}, "options: max_tokens: expected a whole number of at least 1, not 0"},
		{map[string]any{"max_tokens": 1.5}, "options: max_tokens: expected a whole number of at least 1, not 1.5"},
		{map[string]any{"max_tokens": math.NaN()}, "whole number"},
		{map[string]any{"max_tokens": math.Inf(1)}, "whole number"},
		{map[string]any{"temperature": 3}, "options: temperature: expected a number from 0 to 2, not 3"},
		{map[string]any{"temperature": math.NaN()}, "number from 0 to 2"},
		{map[string]any{"price": -1}, "number of at least 0"},
		{map[string]any{"timeout": "soon"}, "options: timeout: expected a duration such as 500ms"},
		{map[string]any{"timeout": "-1s"}, "duration"},
		{map[string]any{"api": "embedings"}, `options: api: "embedings" is none of chat, embeddings; did you mean "embeddings"?`},
		{map[string]any{"stop": []any{1}}, "options: stop: expected a list of texts, not 1"},
		{map[string]any{"stop": map[string]any{}}, "not a mapping"},
		{map[string]any{"shape": []any{0}}, "whole numbers of at least 1"},
		{map[string]any{"budget": 100}, "options: budget: expected a mapping, not 100"},
		{map[string]any{"budget": map[string]any{"token_per_minute": 1}}, `options: unknown key "budget.token_per_minute"; did you mean "tokens_per_minute"?`},
		{map[string]any{"headers": map[string]any{"A": 1}}, "options: headers.A: expected a text"},
		{map[string]any{"headers": map[any]any{1: "a"}}, "the key 1 is no text"},
		{map[string]any{"moodel": "x"}, `options: unknown key "moodel"; did you mean "model"?`},
		{map[string]any{"zzzzzz": "x"}, `options: unknown key "zzzzzz"; known are api, budget, headers, max_tokens`},
		{map[string]any{"max_tokens": "sk-1234567890abcdef"}, "not a text"},
	} {
		s := Read("options", tc.values)
		read(s)
		err := s.Done()
		if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v: %v, expected %q", tc.values, err, tc.want)
		}
	}
	if err := Read("options of a rule", map[string]any{"a": 1}).Done(); err == nil || !strings.Contains(err.Error(), "there are no settings") {
		t.Error(err)
	}
}

func TestTheFirstFaultIsTold(t *testing.T) {
	s := Read("options", map[string]any{"a": 1, "b": 2})
	s.Map("m").Fail("x", "first")
	s.String("a", "")
	if err := s.Done(); err == nil || err.Error() != "options: m.x: first" {
		t.Error(err)
	}
}
