package onnx

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/inference"
)

// jsonTensor is a tensor of testdata/models/*.json; see the README there.
type jsonTensor struct {
	Type  string
	Shape []int
	Data  []any
	Keys  []any
}

func (j *jsonTensor) tensor(t testing.TB, name string) inference.Tensor {
	t.Helper()
	out := inference.Tensor{Name: name, Shape: j.Shape}
	float := func(v any) float64 {
		switch v := v.(type) {
		case float64:
			return v
		case string:
			return map[string]float64{"NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1)}[v]
		case json.Number:
			f, err := v.Float64()
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		t.Fatalf("%s: %v is not a number", name, v)
		return 0
	}
	integer := func(v any) int64 {
		i, err := v.(json.Number).Int64()
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	for _, v := range j.Data {
		switch j.Type {
		case "float32":
			out.Type, out.F32 = inference.Float32, append(out.F32, float32(float(v)))
		case "float64":
			out.Type, out.F64 = inference.Float64, append(out.F64, float(v))
		case "int64":
			out.Type, out.I64 = inference.Int64, append(out.I64, integer(v))
		case "int32":
			out.Type, out.I32 = inference.Int32, append(out.I32, int32(integer(v)))
		case "bool":
			out.Type, out.Bool = inference.Bool, append(out.Bool, v.(bool))
		case "string":
			out.Type, out.Str = inference.String, append(out.Str, v.(string))
		default:
			t.Fatalf("%s: type %q", name, j.Type)
		}
	}
	return out
}

type modelCase struct {
	Inputs, Outputs map[string]*jsonTensor
}

func readCase(t testing.TB, path string) *modelCase {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d := json.NewDecoder(f)
	d.UseNumber()
	var c modelCase
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	return &c
}

// inputsOf puts the case's inputs in the model's order.
func inputsOf(t testing.TB, m *Model, c *modelCase) []inference.Tensor {
	t.Helper()
	var in []inference.Tensor
	for _, sig := range m.Metadata().Inputs {
		j := c.Inputs[sig.Name]
		if j == nil {
			t.Fatalf("no input %q", sig.Name)
		}
		in = append(in, j.tensor(t, sig.Name))
	}
	return in
}

// TestModelsMatchONNXRuntime runs models exported by scikit-learn, LightGBM and XGBoost and
// compares with what ONNX Runtime made of the same inputs, NaN and infinities among them.
func TestModelsMatchONNXRuntime(t *testing.T) {
	files, err := filepath.Glob("testdata/models/*.onnx")
	if err != nil || len(files) == 0 {
		t.Fatalf("no models in testdata/models: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".onnx"), func(t *testing.T) {
			c := readCase(t, strings.TrimSuffix(f, ".onnx")+".json")
			m, err := Load(f, Options{Instances: 1})
			if err != nil {
				t.Fatal(err)
			}
			in := inputsOf(t, m, c)
			out := make([]inference.Tensor, len(m.Metadata().Outputs))
			// Twice, the second time into used buffers; then row by row.
			for range 2 {
				if err := m.Infer(context.Background(), in, out); err != nil {
					t.Fatal(err)
				}
				for k, sig := range m.Metadata().Outputs {
					want := c.Outputs[sig.Name]
					if want == nil {
						t.Fatalf("no expected output %q", sig.Name)
					}
					w := want.tensor(t, sig.Name)
					if d := diff(&out[k], &w, 1e-5, 2e-6); d != "" {
						t.Errorf("output %s: %s", sig.Name, d)
					}
					var keys []string
					for _, key := range want.Keys {
						keys = append(keys, fmt.Sprint(key))
					}
					if keys != nil && fmt.Sprint(sig.Labels) != fmt.Sprint(keys) {
						t.Errorf("output %s has labels %v, expected %v", sig.Name, sig.Labels, keys)
					}
				}
			}
			byRow(t, m, in, out)
		})
	}
}

// byRow holds that a batch gives what its rows give one by one.
func byRow(t *testing.T, m *Model, in, out []inference.Tensor) {
	t.Helper()
	one := make([]inference.Tensor, len(out))
	row := make([]inference.Tensor, len(in))
	for r := range in[0].Shape[0] {
		for k := range in {
			row[k] = rowOf(&in[k], r)
		}
		if err := m.Infer(context.Background(), row, one); err != nil {
			t.Fatalf("row %d: %v", r, err)
		}
		for k := range out {
			w := rowOf(&out[k], r)
			if d := diff(&one[k], &w, 1e-5, 2e-6); d != "" {
				t.Fatalf("output %s of row %d alone: %s", out[k].Name, r, d)
			}
		}
	}
}

func rowOf(t *inference.Tensor, r int) inference.Tensor {
	n := 1
	for _, d := range t.Shape[1:] {
		n *= d
	}
	out := inference.Tensor{Name: t.Name, Type: t.Type, Shape: append([]int{1}, t.Shape[1:]...)}
	switch t.Type {
	case inference.Float32:
		out.F32 = t.F32[r*n : (r+1)*n]
	case inference.Float64:
		out.F64 = t.F64[r*n : (r+1)*n]
	case inference.Int64:
		out.I64 = t.I64[r*n : (r+1)*n]
	case inference.Int32:
		out.I32 = t.I32[r*n : (r+1)*n]
	case inference.Bool:
		out.Bool = t.Bool[r*n : (r+1)*n]
	case inference.String:
		out.Str = t.Str[r*n : (r+1)*n]
	}
	return out
}

// diff says how got differs from want; floats may differ by abs + rel·|want|.
func diff(got, want *inference.Tensor, rel, abs float64) string {
	if got.Type != want.Type || fmt.Sprint(got.Shape) != fmt.Sprint(want.Shape) {
		return fmt.Sprintf("got %v %v, expected %v %v", got.Type, got.Shape, want.Type, want.Shape)
	}
	close := func(i int, g, w float64) string {
		switch {
		case math.IsNaN(g) && math.IsNaN(w), g == w:
			return ""
		case math.Abs(g-w) <= abs+rel*math.Abs(w) && !math.IsInf(w, 0) && !math.IsInf(g, 0):
			return ""
		}
		return fmt.Sprintf("element %d of %v is %v, expected %v", i, got.Shape, g, w)
	}
	switch got.Type {
	case inference.Float32:
		for i, w := range want.F32 {
			if d := close(i, float64(got.F32[i]), float64(w)); d != "" {
				return d
			}
		}
	case inference.Float64:
		for i, w := range want.F64 {
			if d := close(i, got.F64[i], w); d != "" {
				return d
			}
		}
	case inference.Int64:
		return same(got.I64, want.I64)
	case inference.Int32:
		return same(got.I32, want.I32)
	case inference.Bool:
		return same(got.Bool, want.Bool)
	case inference.String:
		return same(got.Str, want.Str)
	}
	return ""
}

func same[T comparable](got, want []T) string {
	for i, w := range want {
		if got[i] != w {
			return fmt.Sprintf("element %d is %v, expected %v", i, got[i], w)
		}
	}
	return ""
}
