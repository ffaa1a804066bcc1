package inference

import (
	"context"
	"math"
	"slices"
	"testing"

	"github.com/freshet-io/freshet/errkind"
)

// formula is 2a − 3b + 4·(a·b) + 10·(s is "x") + 1, of two inputs.
type formula struct {
	remote
	largest int
}

func (*formula) Metadata() Metadata {
	return Metadata{
		Name:     "formula",
		Inputs:   []Signature{{Name: "n", Type: Float64, Shape: []int{2}}, {Name: "s", Type: String}},
		Outputs:  []Signature{{Name: "label", Type: String}, {Name: "y", Type: Float64, Shape: []int{1}}},
		MaxBatch: 7,
	}
}

func (d *formula) Infer(_ context.Context, in, out []Tensor) error {
	n := in[0].Rows()
	d.calls.Add(1)
	d.largest = max(d.largest, n)
	out[0].shape(String, nil, n)
	out[1].shape(Float64, []int{1}, n)
	for r := range n {
		a, b := in[0].F64[2*r], in[0].F64[2*r+1]
		y := 2*a - 3*b + 4*a*b + 1
		if in[1].Str[r] == "x" {
			y += 10
		}
		out[1].F64[r] = y
	}
	return nil
}

func numbersAndStrings(s []string, ns ...float64) []Tensor {
	return []Tensor{{Type: Float64, Shape: []int{len(s), 2}, F64: ns}, {Type: String, Shape: []int{len(s)}, Str: s}}
}

func TestSampledAttributionsAddUpAndFindTheShapleyValues(t *testing.T) {
	d := &formula{}
	target := Target{Output: 1}
	e, err := Sampled(d, numbersAndStrings([]string{"o", "x"}, 0, 0, 1, 1), 200, 7)
	if err != nil || !slices.Equal(e.Methods(target), []Method{SampledShapley}) {
		t.Fatal(err, e.Methods(target))
	}
	in := numbersAndStrings([]string{"x", "o", "x"}, 2, 1, 0, 5, 2, 1)
	var a Attributions
	if err := e.Explain(t.Context(), in, target, SampledShapley, &a); err != nil {
		t.Fatal(err)
	}
	if a.Width != 3 || len(a.Base) != 3 || len(a.Values) != 9 || d.largest > 7 {
		t.Fatalf("%+v, calls of %d", a, d.largest)
	}
	for r := range 3 {
		sum := a.Base[r]
		for _, v := range a.Values[3*r : 3*r+3] {
			sum += v
		}
		if math.Abs(sum-a.Raw[r]) > 1e-9 {
			t.Errorf("row %d: %v is not %v", r, sum, a.Raw[r])
		}
	}
	// Against (0,0,o) a·b gives 4 to each of a and b; against (1,1,x), which is f = 14, it is
	// 2·(2−1) + 4·1 for a and nothing else. Base is the mean of 1 and 14.
	want := []float64{(4 + 4 + 6) / 2., (-3 + 4 + 0) / 2., 5}
	for i, v := range want {
		if math.Abs(a.Values[i]-v) > 1e-9 {
			t.Errorf("value %d: %v, expected %v", i, a.Values[i], v)
		}
	}
	if a.Base[0] != 7.5 || a.Raw[0] != 20 {
		t.Errorf("base %v, raw %v", a.Base, a.Raw)
	}
	// The same row has the same explanation wherever it stands.
	if !slices.Equal(a.Values[:3], a.Values[6:]) {
		t.Errorf("%v and %v", a.Values[:3], a.Values[6:])
	}
	again, _ := Sampled(d, numbersAndStrings([]string{"o", "x"}, 0, 0, 1, 1), 200, 7)
	var b Attributions
	if err := again.Explain(t.Context(), numbersAndStrings([]string{"o"}, 0, 5), target, SampledShapley, &b); err != nil || !slices.Equal(b.Values, a.Values[3:6]) {
		t.Errorf("%v, and before %v", b.Values, a.Values[3:6])
	}
}

func TestSampledWorksThroughAModel(t *testing.T) {
	m := New(&formula{}, Config{})
	defer m.Close()
	e, err := Sampled(m, numbersAndStrings([]string{"o"}, 0, 0), 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	var a Attributions
	if err := e.Explain(t.Context(), numbersAndStrings([]string{"x"}, 2, 1), Target{Output: 1}, SampledShapley, &a); err != nil {
		t.Fatal(err)
	}
	if math.Abs(a.Base[0]+a.Values[0]+a.Values[1]+a.Values[2]-20) > 1e-9 || a.Raw[0] != 20 {
		t.Errorf("%+v", a)
	}
}

func TestSampledRefusesWhatItCannotExplain(t *testing.T) {
	d := &formula{}
	bare, err := Sampled(d, nil, 2, 1)
	if err != nil {
		t.Fatal(err)
	}
	var a Attributions
	in := numbersAndStrings([]string{"x"}, 2, 1)
	if err := bare.Explain(t.Context(), in, Target{Output: 1}, SampledShapley, &a); !errkind.Is(err, errkind.Unsupported) {
		t.Errorf("without a background: %v", err)
	}
	if err := bare.SetBackground(in); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		in     []Tensor
		target Target
		method Method
		kind   errkind.Kind
	}{
		"a string output":  {in, Target{}, SampledShapley, errkind.Unsupported},
		"no such element":  {in, Target{Output: 1, Element: 1}, SampledShapley, errkind.Unsupported},
		"no such output":   {in, Target{Output: 2}, SampledShapley, errkind.Unsupported},
		"another method":   {in, Target{Output: 1}, TreeSHAP, errkind.Unsupported},
		"an input too few": {in[:1], Target{Output: 1}, SampledShapley, errkind.Invalid},
		"elements too few": {numbersAndStrings([]string{"x", "y"}, 2, 1), Target{Output: 1}, SampledShapley, errkind.Invalid},
		"rows of other size": {[]Tensor{{Type: Float64, Shape: []int{1, 3}, F64: make([]float64, 3)}, in[1]},
			Target{Output: 1}, SampledShapley, errkind.Invalid},
	} {
		if err := bare.Explain(t.Context(), tc.in, tc.target, tc.method, &a); !errkind.Is(err, tc.kind) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Sampled(d, in[:1], 2, 1); !errkind.Is(err, errkind.Invalid) {
		t.Errorf("half a background: %v", err)
	}
}
