package onnx

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// explained are the files of testdata that can be explained: the output and the best method.
var explained = map[string]string{
	"columns-onehot-logistic":       "probabilities linear",
	"columns-ordinal-boosting":      "probabilities treeshap",
	"decision-tree-deep":            "probabilities treeshap",
	"decision-tree-leaf":            "probabilities treeshap",
	"decision-tree-targets":         "variable treeshap",
	"decision-tree-chain":           "variable treeshap",
	"extra-trees":                   "probabilities treeshap",
	"extra-trees-double":            "variable treeshap",
	"gradient-boosting":             "probabilities treeshap",
	"gradient-boosting-multi":       "probabilities treeshap",
	"gradient-boosting-regressor":   "variable treeshap",
	"hist-boosting":                 "probabilities treeshap",
	"hist-boosting-multi":           "probabilities treeshap",
	"hist-boosting-regressor":       "variable treeshap",
	"imputer-mean":                  "probabilities linear",
	"lightgbm-binary":               "probabilities treeshap",
	"lightgbm-categorical":          "probabilities treeshap",
	"lightgbm-multi":                "probabilities treeshap",
	"lightgbm-regressor":            "variable treeshap",
	"lightgbm-split":                "variable treeshap",
	"lightgbm-zipmap":               "probabilities treeshap",
	"linear-regression":             "variable linear",
	"linear-svc":                    "probabilities linear",
	"linear-svc-multi":              "probabilities linear",
	"logistic-multinomial":          "probabilities linear",
	"logistic-scaled":               "probabilities linear",
	"logistic-strings":              "probabilities linear",
	"logistic-zipmap":               "output_probability linear",
	"logistic-zipmap-strings":       "output_probability linear",
	"random-forest":                 "probabilities treeshap",
	"random-forest-double":          "probabilities treeshap",
	"random-forest-ml1":             "probabilities treeshap",
	"random-forest-multi":           "probabilities treeshap",
	"random-forest-regressor":       "variable treeshap",
	"random-forest-zipmap":          "output_probability treeshap",
	"ridge-double":                  "variable linear",
	"ridge-two-targets":             "variable linear",
	"select-best":                   "probabilities treeshap",
	"sgd-classifier":                "probabilities linear",
	"sgd-regressor":                 "variable linear",
	"tree-average":                  "Y treeshap",
	"tree-double-tensor-classifier": "probabilities treeshap",
	"tree-double-tensor-regressor":  "Y treeshap",
	"tree-ensemble-5":               "Y treeshap",
	"tree-ensemble-5-member":        "Y treeshap",
	"tree-modes":                    "Y treeshap",
	"xgboost-binary":                "probabilities treeshap",
	"xgboost-forest":                "variable treeshap",
	"xgboost-multi":                 "probabilities treeshap",
	"xgboost-regressor":             "variable treeshap",
	"xgboost-stump":                 "probabilities treeshap",
}

// targets lists what the model explains.
func targets(m *Model) map[inference.Target][]inference.Method {
	out := map[inference.Target][]inference.Method{}
	for k := range m.Metadata().Outputs {
		for e := range 64 {
			t := inference.Target{Output: k, Element: e}
			if offered := m.Methods(t); len(offered) > 0 {
				out[t] = offered
			}
		}
	}
	return out
}

// firstRows are the first n rows of a batch.
func firstRows(in []inference.Tensor, n int) []inference.Tensor {
	var out []inference.Tensor
	for k := range in {
		t := in[k]
		w := 1
		for _, d := range t.Shape[1:] {
			w *= d
		}
		t.Shape = append([]int{n}, t.Shape[1:]...)
		switch t.Type {
		case inference.Float32:
			t.F32 = t.F32[:n*w]
		case inference.Float64:
			t.F64 = t.F64[:n*w]
		case inference.Int64:
			t.I64 = t.I64[:n*w]
		case inference.String:
			t.Str = t.Str[:n*w]
		}
		out = append(out, t)
	}
	return out
}

// TestExplanationsAddUpToTheOutput explains every file that can be, at its awkward rows too: base and attributions
// make the raw value, and the raw value through its link is what Infer answers.
func TestExplanationsAddUpToTheOutput(t *testing.T) {
	files, err := filepath.Glob("testdata/models/*.onnx")
	if err != nil || len(files) == 0 {
		t.Fatalf("no models in testdata/models: %v", err)
	}
	got := map[string]string{}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".onnx")
		m, err := Load(f, Options{Instances: 1})
		if err != nil {
			t.Fatal(err)
		}
		c := readCase(t, strings.TrimSuffix(f, ".onnx")+".json")
		in := inputsOf(t, m, c)
		if n := len(targets(m)); n > 0 {
			t.Errorf("%s: %d targets are offered without a background", name, n)
		}
		if err := m.SetBackground(firstRows(in, min(40, in[0].Shape[0]))); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		offered := targets(m)
		if len(offered) == 0 {
			continue
		}
		out := make([]inference.Tensor, len(m.Metadata().Outputs))
		if err := m.Infer(context.Background(), in, out); err != nil {
			t.Fatal(err)
		}
		for target, methods := range offered {
			sig := m.Metadata().Outputs[target.Output]
			got[name] = sig.Name + " " + methods[0].String()
			for _, method := range methods {
				if d := addsUp(m, in, &out[target.Output], target, method); d != "" {
					t.Errorf("%s, %s[%d] by %v: %s", name, sig.Name, target.Element, method, d)
				}
			}
		}
	}
	if d := cmp.Diff(explained, got); d != "" {
		t.Errorf("explained models (-expected +got):\n%s", d)
	}
}

// addsUp explains the rows and compares with the model's answers.
func addsUp(m *Model, in []inference.Tensor, out *inference.Tensor, target inference.Target, method inference.Method) string {
	var a inference.Attributions
	if err := m.Explain(context.Background(), in, target, method, &a); err != nil {
		return err.Error()
	}
	rows, k := out.Shape[0], len(m.prog.forms[target.Output])
	if len(a.Base) != rows || len(a.Raw) != rows || len(a.Values) != rows*a.Width || a.Method != method {
		return fmt.Sprintf("%d bases, %d raw and %d values for %d rows of %d", len(a.Base), len(a.Raw), len(a.Values), rows, a.Width)
	}
	link := m.form(target).link
	raws := make([]inference.Attributions, k) // for a softmax
	if link == 2 {
		for e := range raws {
			if err := m.Explain(context.Background(), in, inference.Target{Output: target.Output, Element: e}, method, &raws[e]); err != nil {
				return err.Error()
			}
		}
	}
	for r := range rows {
		sum := a.Base[r]
		for _, v := range a.Values[r*a.Width : (r+1)*a.Width] {
			sum += v
		}
		raw := a.Raw[r]
		want := 0.0
		if out.Type == inference.Float64 {
			want = out.F64[r*k+target.Element]
		} else {
			want = float64(out.F32[r*k+target.Element])
		}
		if math.IsNaN(want) && math.IsNaN(raw) || math.IsInf(raw, 0) || math.Abs(raw) > 1e30 {
			continue
		}
		if math.Abs(sum-raw) > 1e-6*max(1, math.Abs(raw)) || math.IsNaN(sum) {
			return fmt.Sprintf("row %d: base %v and attributions make %v, raw is %v", r, a.Base[r], sum, raw)
		}
		got := raw
		switch {
		case a.Link == inference.Logistic:
			got = 1 / (1 + math.Exp(-raw))
		case link == 2:
			total := 0.0
			for e := range raws {
				total += math.Exp(raws[e].Raw[r] - raw)
			}
			got = 1 / total
		}
		if math.Abs(got-want) > 2e-5*max(1, math.Abs(want)) {
			return fmt.Sprintf("row %d: raw %v through its link is %v, the model answers %v", r, raw, got, want)
		}
	}
	return ""
}

// TestAttributionsBelongToTheirValues changes one value of a row at a time: of a linear function, no attribution of
// another value may change.
func TestAttributionsBelongToTheirValues(t *testing.T) {
	// Two columns of numbers, two of categories coded together, joined and scaled, then chosen in another order.
	data := modelOf(graphPB{
		nodes: []pb{
			node("OneHotEncoder", "ai.onnx.ml", []string{"codes"}, []string{"hot"}, attr("cats_int64s", []int64{0, 1, 2})),
			node("Reshape", "", []string{"hot", "shape"}, []string{"flat"}),
			node("Scaler", "ai.onnx.ml", []string{"x"}, []string{"scaled"}, attr("scale", []float32{2, 3}), attr("offset", []float32{1, -1})),
			node("Concat", "", []string{"flat", "scaled"}, []string{"joined"}, attr("axis", 1)),
			node("Gather", "", []string{"joined", "places"}, []string{"chosen"}, attr("axis", 1)),
			node("MatMul", "", []string{"chosen", "w"}, []string{"product"}),
			node("Add", "", []string{"product", "c"}, []string{"margin"}),
			node("Sigmoid", "", []string{"margin"}, []string{"p"}),
		},
		inits: []pb{
			pb(tensorOf("shape", []int64{2}, []int64{-1, 6})), pb(tensorOf("places", []int64{7}, []int64{6, 0, 4, 2, 7, 3, 5})),
			pb(tensorOf("w", []int64{7, 1}, []float32{0.5, -1, 2, 0.25, -0.75, 1.5, 3})), pb(tensorOf("c", []int64{1}, []float32{0.1})),
		},
		ins:  []pb{tensorInfo("codes", 7, -1, 2), tensorInfo("x", 1, -1, 2)},
		outs: []pb{tensorInfo("p", 1, -1, 1)},
	})
	m, err := Parse("linear", data, Options{Instances: 1})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(9, 9))
	const rows = 60
	in := []inference.Tensor{
		{Type: inference.Int64, Shape: []int{rows, 2}, I64: make([]int64, 2*rows)},
		{Type: inference.Float32, Shape: []int{rows, 2}, F32: make([]float32, 2*rows)},
	}
	for i := range 2 * rows {
		in[0].I64[i], in[1].F32[i] = r.Int64N(3), float32(r.NormFloat64())
	}
	if err := m.SetBackground(in); err != nil {
		t.Fatal(err)
	}
	out := make([]inference.Tensor, 1)
	if err := m.Infer(context.Background(), in, out); err != nil {
		t.Fatal(err)
	}
	if d := addsUp(m, in, &out[0], inference.Target{}, inference.LinearAttribution); d != "" {
		t.Fatal(d)
	}
	explain := func() []float64 {
		var a inference.Attributions
		if err := m.Explain(context.Background(), in, inference.Target{}, inference.LinearAttribution, &a); err != nil {
			t.Fatal(err)
		}
		if a.Width != 4 || a.Link != inference.Logistic {
			t.Fatalf("width %d, link %v", a.Width, a.Link)
		}
		return a.Values[:4]
	}
	in[0].I64[0], in[0].I64[1] = 0, 1
	before := explain()
	for i, change := range []func(){
		func() { in[0].I64[0] = 2 }, func() { in[0].I64[1] = 2 }, func() { in[1].F32[0]++ }, func() { in[1].F32[1]++ },
	} {
		change()
		after := explain()
		for k := range after {
			if (after[k] != before[k]) != (k == i) {
				t.Errorf("value %d was changed: attributions go from %v to %v", i, before, after)
				break
			}
		}
		before = after
	}
}

// explainable is a model of boosted trees with a background.
func explainable(t testing.TB, instances int) (*Model, []inference.Tensor) {
	t.Helper()
	m, err := Parse("boosted", boosted(20, 5, 12, true), Options{Instances: instances, MaxBatch: 250})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(8, 8))
	const rows = 300
	x := make([]float32, rows*12)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	in := []inference.Tensor{{Type: inference.Float32, Shape: []int{rows, 12}, F32: x}}
	if err := m.SetBackground(in); err != nil { // more rows than a batch
		t.Fatal(err)
	}
	return m, firstRows(in, 200)
}

var secondClass = inference.Target{Output: 1, Element: 1}

func TestExplainRefusesWhatItDoesNotOffer(t *testing.T) {
	m, in := explainable(t, 1)
	var a inference.Attributions
	ctx := context.Background()
	for _, c := range []struct {
		target inference.Target
		method inference.Method
	}{
		{secondClass, inference.LinearAttribution},
		{secondClass, inference.SampledShapley},
		{inference.Target{Output: 0}, inference.TreeSHAP},
		{inference.Target{Output: 1, Element: 2}, inference.TreeSHAP},
		{inference.Target{Output: -1, Element: -1}, inference.TreeSHAP},
	} {
		if err := m.Explain(ctx, in, c.target, c.method, &a); errkind.Of(err) != errkind.Unsupported {
			t.Errorf("%v of %v: %v, expected Unsupported", c.method, c.target, err)
		}
	}
	in[0].Shape = []int{100, 24}
	if err := m.Explain(ctx, in, secondClass, inference.TreeSHAP, &a); errkind.Of(err) != errkind.Invalid {
		t.Errorf("rows of another width: %v, expected Invalid", err)
	}
	in[0].Shape = []int{200, 12}
	if err := m.SetBackground([]inference.Tensor{{Type: inference.Float32, Shape: []int{0, 12}}}); errkind.Of(err) != errkind.Invalid {
		t.Errorf("an empty background: %v, expected Invalid", err)
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	if err := m.Explain(done, in, secondClass, inference.TreeSHAP, &a); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled call: %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.Explain(ctx, in, secondClass, inference.TreeSHAP, &a); errkind.Of(err) != errkind.Closed {
		t.Errorf("after Close: %v, expected Closed", err)
	}
}

func TestExplainAndInferShareAModel(t *testing.T) {
	m, in := explainable(t, 2)
	var wg sync.WaitGroup
	var want inference.Attributions
	if err := m.Explain(context.Background(), in, secondClass, inference.TreeSHAP, &want); err != nil {
		t.Fatal(err)
	}
	for g := range 4 {
		wg.Go(func() {
			var a inference.Attributions
			out := make([]inference.Tensor, 2)
			for range 5 {
				if g == 0 {
					if err := m.Infer(context.Background(), in, out); err != nil {
						t.Error(err)
					}
					continue
				}
				if err := m.Explain(context.Background(), in, secondClass, m.Methods(secondClass)[g%2], &a); err != nil {
					t.Error(err)
				} else if a.Method == inference.TreeSHAP && !slices.Equal(a.Values, want.Values) {
					t.Error("two calls explain the same rows differently")
				}
			}
		})
	}
	wg.Wait()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestExplainAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, name := range []string{"xgboost-binary", "columns-ordinal-boosting", "logistic-scaled", "lightgbm-split"} {
		m, err := Load("testdata/models/"+name+".onnx", Options{Instances: 1})
		if err != nil {
			t.Fatal(err)
		}
		in := inputsOf(t, m, readCase(t, "testdata/models/"+name+".json"))
		if err := m.SetBackground(in); err != nil {
			t.Fatal(err)
		}
		var a inference.Attributions
		for target, methods := range targets(m) {
			for _, method := range methods {
				if n := testing.AllocsPerRun(20, func() {
					if err := m.Explain(context.Background(), in, target, method, &a); err != nil {
						t.Fatal(err)
					}
				}); n > 0 {
					t.Errorf("%s, %v: %v allocations", name, method, n)
				}
			}
		}
	}
}

func TestComplexityCountsTrees(t *testing.T) {
	m, _ := explainable(t, 1)
	got := m.Complexity()
	want := inference.Complexity{Bytes: got.Bytes, Nodes: 1, Trees: 20, TreeNodes: 20 * 63, Depth: 5, Parameters: 20 * (63 + 32)}
	if got != want || got.Bytes < 10_000 {
		t.Errorf("%+v, expected %+v", got, want)
	}
}
