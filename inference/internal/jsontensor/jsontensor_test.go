package jsontensor

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

func TestListsBecomeTensors(t *testing.T) {
	for _, tc := range []struct {
		text  string
		shape []int
		want  inference.Tensor
		wrong string
	}{
		{`[[1, 2.5], [-3e2, 0]]`, []int{2, 2}, inference.Tensor{Type: inference.Float64, F64: []float64{1, 2.5, -300, 0}}, ""},
		{`[[1, 2], [3, 4]]`, []int{2, -1}, inference.Tensor{Type: inference.Int64, I64: []int64{1, 2, 3, 4}}, ""},
		{`[[], []]`, []int{2, -1}, inference.Tensor{Type: inference.Float32}, ""},
		{` [ true , false ] `, []int{2}, inference.Tensor{Type: inference.Bool, Bool: []bool{true, false}}, ""},
		{`["a\u00e9\n", "ü", ""]`, []int{3}, inference.Tensor{Type: inference.String, Str: []string{"aé\n", "ü", ""}}, ""},
		{`[NaN, -Infinity, Infinity, null]`, []int{4}, inference.Tensor{Type: inference.Float32, F32: []float32{float32(math.NaN()), float32(math.Inf(-1)), float32(math.Inf(1)), float32(math.NaN())}}, ""},
		{`[[1, 2], [3]]`, []int{2, -1}, inference.Tensor{Type: inference.Float64}, "1: 1 values, expected 2"},
		{`[1]`, []int{2}, inference.Tensor{Type: inference.Float64}, "1 values, expected 2"},
		{`[1, 2, 3]`, []int{2}, inference.Tensor{Type: inference.Float64}, "more than 2 values"},
		{`[[1], 2]`, []int{2, 1}, inference.Tensor{Type: inference.Float64}, "expected a list, not 2"},
		{`[1, [2]]`, []int{2}, inference.Tensor{Type: inference.Float64}, "expected a number, not [2]]"},
		{`[1, "2"]`, []int{2}, inference.Tensor{Type: inference.Float64}, `expected a number, not "2"`},
		{`[1e999]`, []int{1}, inference.Tensor{Type: inference.Float64}, "does not fit"},
		{`[1e39]`, []int{1}, inference.Tensor{Type: inference.Float32}, "does not fit"},
		{`[1.0]`, []int{1}, inference.Tensor{Type: inference.Int64}, "expected a whole number"},
		{`[9223372036854775808]`, []int{1}, inference.Tensor{Type: inference.Int64}, "expected a whole number"},
		{`[2147483648]`, []int{1}, inference.Tensor{Type: inference.Int32}, "32 bits"},
		{`[null]`, []int{1}, inference.Tensor{Type: inference.Int64}, "whole number, not null"},
		{`[nul]`, []int{1}, inference.Tensor{Type: inference.Float64}, "expected a number, not nul"},
		{`[0x1p4]`, []int{1}, inference.Tensor{Type: inference.Float64}, "expected a number"},
		{`[1 2]`, []int{2}, inference.Tensor{Type: inference.Float64}, "expected a comma"},
		{`[1,]`, []int{1}, inference.Tensor{Type: inference.Float64}, "more than 1"},
		{`[1`, []int{1}, inference.Tensor{Type: inference.Float64}, "the end of the text"},
		{``, []int{1}, inference.Tensor{Type: inference.Float64}, "the end of the text"},
		{`["a`, []int{1}, inference.Tensor{Type: inference.String}, "without an end"},
		{"[\"a\nb\"]", []int{1}, inference.Tensor{Type: inference.String}, "no JSON"},
		{`[1] 2`, []int{1}, inference.Tensor{Type: inference.Float64}, "expected the end"},
	} {
		r := New([]byte(tc.text), true, true)
		got := inference.Tensor{Type: tc.want.Type}
		err := r.Nested(&got, slices.Clone(tc.shape))
		if err == nil {
			err = r.End()
		}
		if tc.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tc.wrong) {
				t.Errorf("%s: %v, expected %q", tc.text, err, tc.wrong)
			}
			continue
		}
		if diff := cmp.Diff(tc.want, got, cmpopts.EquateNaNs(), cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", tc.text, err, diff)
		}
	}
	for _, text := range []string{"[NaN]", "[Infinity]", "[-Infinity]", "[null]"} {
		got := inference.Tensor{Type: inference.Float64}
		if err := New([]byte(text), false, false).Flat(&got, 1); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

func TestWhatIsWrittenReadsBackTheSame(t *testing.T) {
	in := []inference.Tensor{
		{Type: inference.Float64, Shape: []int{3, 2}, F64: []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, 5e-324, math.Pi}},
		{Type: inference.Float32, Shape: []int{2}, F32: []float32{math.MaxFloat32, 1e-45}},
		{Type: inference.Int64, Shape: []int{2}, I64: []int64{math.MinInt64, math.MaxInt64}},
		{Type: inference.Int32, Shape: []int{1, 1, 1}, I32: []int32{-5}},
		{Type: inference.Bool, Shape: []int{2}, Bool: []bool{true, false}},
		{Type: inference.String, Shape: []int{2}, Str: []string{"\"\\\n\x00ü", "</script>"}},
	}
	for i := range in {
		text, err := NaNLiteral.AppendNested(nil, &in[i])
		if err != nil {
			t.Fatal(err)
		}
		got := inference.Tensor{Type: in[i].Type, Shape: in[i].Shape}
		if err := New(text, true, false).Nested(&got, slices.Clone(in[i].Shape)); err != nil || cmp.Diff(in[i], got, cmpopts.EquateNaNs(), cmpopts.EquateEmpty()) != "" {
			t.Errorf("%s: %v %+v", text, err, got)
		}
	}
	for policy, wrong := range map[NaN][]float64{NaNNull: {math.Inf(1)}, NaNRefuse: {math.NaN()}} {
		if _, err := policy.AppendFlat(nil, &inference.Tensor{Type: inference.Float64, F64: wrong}, 1); !errkind.Is(err, errkind.Invalid) {
			t.Errorf("%s %v: %v", NaNNames[policy], wrong, err)
		}
	}
	if text, err := NaNNull.AppendFlat(nil, &in[0], 1); err != nil || string(text) != "[null]" {
		t.Errorf("%s %v", text, err)
	}
}

func FuzzTheReaderTakesWhatIsJSON(f *testing.F) {
	for _, s := range []string{`{"a": [1, {"b": null}], "c": "\u00e9"}`, `[`, `{"a"}`, `"\`, `-`, `1e`, strings.Repeat("[", 100), `{"a":1,}`, `01`, "\"\x1f\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := New(text, false, false)
		err := r.Skip()
		if err == nil {
			err = r.End()
		}
		if valid := json.Valid(text); valid != (err == nil) && !(valid && strings.Contains(err.Error(), "too deep")) {
			t.Fatalf("%q: %v, and JSON: %v", text, err, valid)
		}
	})
}
