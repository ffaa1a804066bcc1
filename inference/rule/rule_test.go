package rule

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/inferencetest"
)

const fraud = `
version: "3"
description: flags large amounts
inputs: {amount: float, count: int, night: bool, country: string}
outputs:
  score: "amount > 220.0 ? (night ? 0.95 : 0.9) : 0.1"
  reason: "has(amount) ? (amount > 220.0 ? 'large' : country) : 'unknown'"
  count: "count * 2"
  flag: "night && country == 'c'"
`

func parse(t testing.TB, text string) *Rule {
	t.Helper()
	r, err := Parse("fraud", []byte(text), Options{Instances: 2})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSuite(t *testing.T) {
	for name, text := range map[string]string{
		"every kind": fraud,
		"a constant": "inputs: {x: float}\noutputs: {score: \"0.5\"}",
		"row by row": "inputs: {s: string, x: float}\noutputs: {n: \"s.split('a').size()\", y: \"x * 2.0\"}",
	} {
		t.Run(name, func(t *testing.T) {
			inferencetest.Run(t, inferencetest.Harness{Open: func(t testing.TB) inference.Driver { return parse(t, text) }})
		})
	}
}

func TestRowsAreScoredByTheRule(t *testing.T) {
	r := parse(t, fraud)
	defer r.Close()
	nan := math.NaN()
	in := []inference.Tensor{
		{Type: inference.Float64, Shape: []int{4}, F64: []float64{300, 300, 10, nan}},
		{Type: inference.Int64, Shape: []int{4}, I64: []int64{1, 2, 3, 4}},
		{Type: inference.Bool, Shape: []int{4}, Bool: []bool{true, false, true, true}},
		{Type: inference.String, Shape: []int{4}, Str: []string{"a", "b", "c", "d"}},
	}
	out := make([]inference.Tensor, 4)
	for range 2 { // the second time without what the first left behind
		if err := r.Infer(t.Context(), in, out); err != nil {
			t.Fatal(err)
		}
		if s := out[0].F64; s[0] != 0.95 || s[1] != 0.9 || s[2] != 0.1 || !math.IsNaN(s[3]) {
			t.Errorf("scores %v: an amount that is not there is no small one", s)
		}
		if !slices.Equal(out[1].Str, []string{"large", "large", "c", "unknown"}) || !slices.Equal(out[2].I64, []int64{2, 4, 6, 8}) ||
			!slices.Equal(out[3].Bool, []bool{false, false, true, false}) {
			t.Errorf("%v %v %v", out[1].Str, out[2].I64, out[3].Bool)
		}
	}
	in[0].F64[3] = 1
	if err := r.Infer(t.Context(), in, out); err != nil || out[0].F64[3] != 0.1 {
		t.Errorf("%v %v", out[0].F64, err)
	}
	if !r.Vectorised() {
		t.Error("the rule runs row by row")
	}
}

func TestARowWithoutAResultIsInvalid(t *testing.T) {
	for text, want := range map[string]string{
		`inputs: {x: float}
outputs: {label: "x > 1.0 ? 'big' : 'small'"}`: "output label of row 1 is null",
		`inputs: {x: float, n: int}
outputs: {y: "1 / n"}`: "output y of row 1",
	} {
		r := parse(t, text)
		in := []inference.Tensor{{Type: inference.Float64, Shape: []int{2}, F64: []float64{1, math.NaN()}}}
		if len(r.meta.Inputs) == 2 {
			in = append(in, inference.Tensor{Type: inference.Int64, Shape: []int{2}, I64: []int64{1, 0}})
		}
		if err := r.Infer(t.Context(), in, make([]inference.Tensor, 1)); !errkind.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %q", err, want)
		}
		_ = r.Close()
	}
}

func TestTheFileIsNamedAndDigested(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fraud"+Suffix)
	if err := os.WriteFile(path, []byte(fraud), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := Load(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sum := sha256.Sum256([]byte(fraud))
	if m := r.Metadata(); m.Name != "fraud" || m.Version != "3" || m.Digest != hex.EncodeToString(sum[:]) || r.Complexity().Bytes != int64(len(fraud)) {
		t.Errorf("%+v", m)
	}
	if _, err := Load(path+".not", Options{}); !errkind.Is(err, errkind.NotFound) {
		t.Error(err)
	}
	plain := parse(t, "inputs: {x: float}\noutputs: {y: x}")
	if m := plain.Metadata(); m.Version != m.Digest[:12] {
		t.Errorf("%+v", m)
	}
}

func TestFaultsOfAFileNameTheLine(t *testing.T) {
	long := "inputs: {x: float}\noutputs: {y: \"" + strings.Repeat("(", 5000) + "x" + strings.Repeat(")", 5000) + "\"}"
	for text, want := range map[string]string{
		"":                    "no rule",
		"[]":                  "line 1: the rule must be a mapping",
		"inputs: {x: float":   "YAML",
		"inputs: {x: float}":  "no outputs",
		"outputs: {y: \"1\"}": "no inputs",
		"inputs: {x: float}\noutputs: {y: \"z > 1.0\"}":                           `line 2: output y: column 1: undeclared name "z"`,
		"inputs: {x: flaot}\noutputs: {y: x}":                                     `line 1: unknown kind of the input x "flaot"; did you mean "float"?`,
		"inputs: {x: time}\noutputs: {y: x}":                                      "known are float, int, bool, string",
		"inputs: {x: float}\noutput: {y: x}":                                      `line 2: unknown key "output"; did you mean "outputs"?`,
		"inputs: {x: float}\noutputs: {y: [x]}":                                   "line 2: the output y must be an expression",
		"inputs: {x: float}\noutputs: {y: 'timestamp(\"2026-01-01T00:00:00Z\")'}": "output y",
		"inputs: {x: float}\noutputs: {}":                                         "at least one",
		"inputs: &a {x: float}\noutputs: *a":                                      "alias",
		"inputs: {x: float, x: int}\noutputs: {y: x}":                             "line 1",
		long: "",
	} {
		r, err := Parse("r", []byte(text), Options{})
		if err == nil {
			if want != "" {
				t.Errorf("%.60q: no error, expected %q", text, want)
			}
			_ = r.Close()
			continue
		}
		if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %.200v, expected %q", text, err, want)
		}
	}
	if _, err := Parse("r", make([]byte, maxBytes+1), Options{}); !errkind.Is(err, errkind.Config) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(fraud)
	f.Add("inputs: {x: float}\noutputs: {y: \"x / 0.0\"}")
	f.Add("inputs: &a {x: float}\noutputs: {y: *a}")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse("r", []byte(text), Options{Instances: 1})
		if err != nil {
			if !errkind.Is(err, errkind.Config) {
				t.Fatal(err)
			}
			return
		}
		if len(r.meta.Inputs) == 0 || len(r.meta.Outputs) == 0 {
			t.Fatalf("%+v", r.meta)
		}
		_ = r.Close()
	})
}

func BenchmarkInfer(b *testing.B) {
	for _, n := range []int{1, 32, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := parse(b, "inputs: {amount: float, night: bool}\noutputs: {score: \"amount > 220.0 ? (night ? 0.95 : 0.9) : 0.1\"}")
			defer r.Close()
			in := []inference.Tensor{
				{Type: inference.Float64, Shape: []int{n}, F64: make([]float64, n)},
				{Type: inference.Bool, Shape: []int{n}, Bool: make([]bool, n)},
			}
			for i := range in[0].F64 {
				in[0].F64[i] = float64(i * 7 % 500)
			}
			out := make([]inference.Tensor, 1)
			b.ReportAllocs()
			for b.Loop() {
				if err := r.Infer(b.Context(), in, out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
