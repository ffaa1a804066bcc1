package openai

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/inferencetest"
	"github.com/freshet-io/freshet/test/servers"
)

// The model of this server has random weights: what it says means nothing, and is held to
// the schema by llama.cpp's grammar.
func TestOllama(t *testing.T) {
	url := "openai://" + servers.Start(t, "ollama") + "/v1"
	schema := map[string]any{"properties": map[string]any{
		"category": map[string]any{"type": "string", "enum": []any{"billing", "technical", "other"}},
		"urgent":   map[string]any{"type": "boolean"},
	}}
	open := func(t testing.TB, settings map[string]any) *Driver {
		d, err := tryOpen(t, url, settings)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for name, settings := range map[string]map[string]any{
		"chat":        {"schema": schema, "stream": true, "concurrency": 2, "batch": 3, "prompt": "{{.subject}}", "seed": 1},
		"embeddings":  {"api": "embeddings", "concurrency": 2, "batch": 6, "prompt": "{{.subject}}"},
		"completions": {"api": "completions", "concurrency": 1, "batch": 1, "prompt": "{{.subject}}", "max_tokens": 8, "stop": []any{"m"}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "completions" {
				// Whether words of random weights end within max_tokens is chance.
				d := open(t, settings)
				defer d.Close()
				out := make([]inference.Tensor, 1)
				if err := d.Infer(t.Context(), rows("hi"), out); err != nil && !strings.Contains(err.Error(), "cut off at max_tokens, 8") {
					t.Error(err)
				}
				if u := d.Stats().Models; len(u) != 1 || u[0].OutputTokens == 0 || u[0].OutputTokens > 8 || u[0].Estimated > 0 {
					t.Errorf("usage %+v", u)
				}
				return
			}
			servers.Heavy(t) // some prompts make random weights write hundreds of spaces
			inferencetest.Run(t, inferencetest.Harness{Remote: true, Tolerance: 1e-3, Open: func(t testing.TB) inference.Driver { return open(t, settings) }})
		})
	}
	t.Run("what comes out is counted", func(t *testing.T) {
		for _, stream := range []bool{false, true} {
			d := open(t, map[string]any{"schema": schema, "stream": stream, "system": "Sort."})
			t.Cleanup(func() { _ = d.Close() })
			out := make([]inference.Tensor, 2)
			if err := d.Infer(t.Context(), rows("my bill", "it is broken"), out); err != nil {
				t.Fatal(err)
			}
			for _, c := range out[0].Str {
				if !slices.Contains([]string{"billing", "technical", "other"}, c) {
					t.Errorf("category %q", c)
				}
			}
			st := d.Stats()
			if u := st.Models; len(u) != 1 || u[0].Model != "tiny:latest" && u[0].Model != "tiny" || u[0].Calls != 2 || u[0].InputTokens == 0 || u[0].OutputTokens == 0 || u[0].Estimated > 0 {
				t.Errorf("stream %v: usage %+v", stream, u)
			}
			if stream != (st.FirstToken.Count == 2) {
				t.Errorf("stream %v: %d first pieces", stream, st.FirstToken.Count)
			}
		}
	})
	t.Run("an embedding's width is found", func(t *testing.T) {
		d := open(t, map[string]any{"api": "embeddings", "model": "tiny"})
		defer d.Close()
		if s := d.Metadata().Outputs[0].Shape; !slices.Equal(s, []int{64}) {
			t.Errorf("rows of %v", s)
		}
		both, one := make([]inference.Tensor, 1), make([]inference.Tensor, 1)
		if err := errors.Join(d.Infer(t.Context(), rows("a", "bc"), both), d.Infer(t.Context(), rows("bc"), one)); err != nil {
			t.Fatal(err)
		}
		for i, x := range one[0].F32 {
			if y := both[0].F32[64+i]; math.Abs(float64(x-y)) > 1e-3 {
				t.Fatalf("number %d of the second text is %v in two and %v alone", i, y, x)
			}
		}
	})
	t.Run("a model that is not there", func(t *testing.T) {
		if _, err := tryOpen(t, url, map[string]any{"model": "tony"}); !errkind.Is(err, errkind.NotFound) || !strings.Contains(err.Error(), "tiny") {
			t.Error(err)
		}
	})
	t.Run("a request that is refused", func(t *testing.T) {
		d := open(t, map[string]any{"extra": map[string]any{"keep_alive": "never", "frequency_penalty": "much"}})
		defer d.Close()
		if err := d.Infer(t.Context(), rows("a"), make([]inference.Tensor, 1)); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("%v %v", errkind.Of(err), err)
		}
	})
}
