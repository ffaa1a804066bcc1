package oip

import (
	"encoding/json"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/inferencetest"
	"github.com/freshet-io/freshet/test/frameworks"
	"github.com/freshet-io/freshet/test/servers"
)

func name(name, datatype string, shape ...any) map[string]any {
	return map[string]any{"name": name, "datatype": datatype, "shape": shape}
}

// logistic is what a caller has to say of a model whose server says nothing.
func logistic() map[string]any {
	return map[string]any{
		"concurrency": 2, "inputs": []any{name("x", "FP64", 4)},
		"outputs": []any{name("predict_proba", "FP64", 2)},
	}
}

func TestMLServer(t *testing.T) {
	folder := t.TempDir()
	cases := frameworks.Cases(t)
	for _, c := range cases {
		if err := os.WriteFile(filepath.Join(folder, c.Name+".onnx"), c.ONNX, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := servers.Run(t, "mlserver", "onnx="+folder)
	byGRPC, byHTTP := "oip://"+s.Address+"/", "oip+http://"+s.Word("http")+"/"

	t.Run("Suite", func(t *testing.T) {
		for name, tc := range map[string]struct {
			url      string
			settings map[string]any
			special  bool
		}{
			"scikit-learn by gRPC":          {byGRPC + "boosting?version=v3", map[string]any{"concurrency": 2, "outputs": []any{"predict_proba", "predict"}}, true},
			"scikit-learn by HTTP":          {byHTTP + "boosting", map[string]any{"concurrency": 2}, false}, // JSON has no infinities
			"scikit-learn, told by options": {byGRPC + "logistic", logistic(), false},                       // it takes no NaN
			"ONNX by gRPC":                  {byGRPC + "sklearn-forest", map[string]any{"concurrency": 2}, true},
			"ONNX, typed":                   {byGRPC + "sklearn-mlp", map[string]any{"concurrency": 2, "contents": "typed"}, true},
			"numbers by gRPC":               {byGRPC + "numbers", map[string]any{"concurrency": 2}, true},
			"numbers by HTTP":               {byHTTP + "numbers", map[string]any{"concurrency": 2}, false},
		} {
			t.Run(name, func(t *testing.T) {
				h := inferencetest.Harness{Remote: true, NoSpecial: !tc.special, Open: func(t testing.TB) inference.Driver {
					return mustOpen(t, tc.url, tc.settings)
				}}
				if strings.HasSuffix(tc.url, "numbers") {
					h.Freeze = func(t testing.TB, _ inference.Driver) func() { return freeze(t, s) }
					h.Faults = []inferencetest.Fault{{
						Name: "the model is unloaded", Kind: errkind.NotFound,
						Provoke: func(t testing.TB, _ inference.Driver) { repository(t, s, "numbers", "unload") },
						Recover: func(t testing.TB, _ inference.Driver) { repository(t, s, "numbers", "load") },
					}}
				}
				if strings.HasSuffix(tc.url, "logistic") {
					h.Golden = []inferencetest.Golden{scikitLearn(t, s)}
				}
				inferencetest.Run(t, h)
			})
		}
	})
	t.Run("PredictionsAreTheFrameworksOwn", func(t *testing.T) {
		for i := range cases {
			c := &cases[i]
			for _, base := range []string{byGRPC, byHTTP} {
				if base == byHTTP && c.Name != "sklearn-forest" && c.Name != "xgboost-binary" {
					continue
				}
				d := mustOpen(t, base+c.Name, map[string]any{"batch": 1000})
				if err := c.Check(t.Context(), d, 1000); err != nil {
					t.Error(err)
				}
				_ = d.Close()
			}
		}
	})
	t.Run("EveryDatatypePasses", func(t *testing.T) { everyDatatype(t, byGRPC+"echo") })
	t.Run("NaNFromAServerIsNoScoreUnlessAllowed", func(t *testing.T) { missing(t, byHTTP+"numbers") })
	t.Run("ErrorsHaveKinds", func(t *testing.T) {
		for _, base := range []string{byGRPC, byHTTP} {
			for _, path := range []string{"nope", "boosting?version=v9"} {
				if _, err := open(t, base+path, nil); !errkind.Is(err, errkind.NotFound) {
					t.Errorf("%s: %v %v", path, errkind.Of(err), err)
				}
			}
			// scikit-learn refuses NaN in a linear model: the server says that it failed.
			d := mustOpen(t, base+"logistic", logistic())
			in := rows(d, 2)
			in[0].F64[3] = math.NaN()
			if err := d.Infer(t.Context(), in, make([]inference.Tensor, 1)); !errkind.Is(err, errkind.Transient) && !errkind.Is(err, errkind.Invalid) {
				t.Errorf("%v %v", errkind.Of(err), err)
			}
			// The declared width is another than the model's: the settings are wrong, and no score comes.
			_ = d.Close()
			wrong := logistic()
			wrong["inputs"] = []any{name("x", "FP64", 5)}
			d = mustOpen(t, base+"logistic", wrong)
			if err := d.Infer(t.Context(), rows(d, 2), make([]inference.Tensor, 1)); err == nil {
				t.Error("rows of 5 values for a model of 4")
			}
			_ = d.Close()
			wrong = logistic()
			wrong["outputs"] = []any{name("predict_proba", "FP64", 3)}
			d = mustOpen(t, base+"logistic", wrong)
			if err := d.Infer(t.Context(), rows(d, 2), make([]inference.Tensor, 1)); !errkind.Is(err, errkind.Permanent) || !strings.Contains(err.Error(), "expected rows of [3]") {
				t.Errorf("another width of answers: %v %v", errkind.Of(err), err)
			}
			_ = d.Close()
		}
	})
	t.Run("AKilledServerIsFoundAgain", func(t *testing.T) { kill(t, s, byGRPC, byHTTP) })
}

// scikitLearn are rows with scikit-learn's own probabilities.
func scikitLearn(t *testing.T, s *servers.Server) inferencetest.Golden {
	t.Helper()
	data, err := os.ReadFile(s.Word("golden"))
	if err != nil {
		t.Fatal(err)
	}
	var golden struct{ X, Proba []float64 }
	if err := json.Unmarshal(data, &golden); err != nil {
		t.Fatal(err)
	}
	n := len(golden.X) / 4
	return inferencetest.Golden{
		Name: "scikit-learn", Tolerance: 1e-12,
		In:  []inference.Tensor{{Name: "x", Type: inference.Float64, Shape: []int{n, 4}, F64: golden.X}},
		Out: []inference.Tensor{{Name: "predict_proba", Type: inference.Float64, Shape: []int{n, 2}, F64: golden.Proba}},
	}
}

func everyDatatype(t *testing.T, url string) {
	d := mustOpen(t, url, nil)
	defer d.Close()
	meta := d.Metadata()
	in, out := rows(d, 2), make([]inference.Tensor, len(meta.Outputs))
	for i := range in {
		copy(in[i].F32, []float32{1.5, -0.25, float32(math.Inf(-1)), 3})
		copy(in[i].F64, []float64{math.Pi, math.Inf(1), -1, 5e-324})
		copy(in[i].I64, []int64{0, 1, 1 << 31, 4})
		copy(in[i].I32, []int32{0, 1, 127, 3})
		copy(in[i].Bool, []bool{true, false, false, true})
		copy(in[i].Str, []string{"a", "", "ü\n", "zz"})
	}
	if err := d.Infer(t.Context(), in, out); err != nil {
		t.Fatal(err)
	}
	for i := range in {
		for k := range 4 {
			if at(&in[i], k) != at(&out[i], k) {
				t.Errorf("%s: %v came back as %v", meta.Inputs[i].Name, at(&in[i], k), at(&out[i], k))
			}
		}
	}
}

func at(t *inference.Tensor, i int) any {
	switch t.Type {
	case inference.Float32:
		return t.F32[i]
	case inference.Float64:
		return t.F64[i]
	case inference.Int64:
		return t.I64[i]
	case inference.Int32:
		return t.I32[i]
	case inference.Bool:
		return t.Bool[i]
	}
	return t.Str[i]
}

// missing holds that what the server writes as null is a number only where the caller says so.
func missing(t *testing.T, url string) {
	for _, null := range []string{"error", "nan"} {
		d := mustOpen(t, url, map[string]any{"null": null})
		in, out := rows(d, 2), make([]inference.Tensor, 1)
		in[0].F64[1] = math.NaN()
		err := d.Infer(t.Context(), in, out)
		if null == "nan" && (err != nil || !math.IsNaN(out[0].F64[1]) || out[0].F64[0] != 0) {
			t.Errorf("%v %v", out[0].F64, err)
		}
		if null == "error" && (!errkind.Is(err, errkind.Permanent) || !strings.Contains(err.Error(), "not null")) {
			t.Errorf("%v %v", errkind.Of(err), err)
		}
		_ = d.Close()
	}
}

// repository calls MLServer's repository API.
func repository(t testing.TB, s *servers.Server, model, action string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.Word("http")+"/v2/repository/models/"+model+"/"+action, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %s", action, model, resp.StatusCode, body)
	}
}

func freeze(t testing.TB, s *servers.Server) (thaw func()) {
	t.Helper()
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := s.Resume(); err != nil {
			t.Error(err)
		}
	}
}

func kill(t *testing.T, s *servers.Server, bases ...string) {
	var drivers []inference.Driver
	out := make([]inference.Tensor, 1)
	for _, base := range bases {
		d := mustOpen(t, base+"numbers", nil)
		t.Cleanup(func() { _ = d.Close() })
		if err := d.Infer(t.Context(), rows(d, 2), out); err != nil {
			t.Fatal(err)
		}
		drivers = append(drivers, d)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, d := range drivers {
		for range 3 {
			if err := d.Infer(t.Context(), rows(d, 2), out); !errkind.Is(err, errkind.Transient) {
				t.Errorf("killed: %v %v", errkind.Of(err), err)
			}
		}
	}
	if err := s.Restart(); err != nil {
		t.Fatal(err)
	}
	for _, d := range drivers {
		works(t, d)
	}
}

// works calls until a call works; what fails until then is Transient.
func works(t *testing.T, d inference.Driver) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		err := d.Infer(t.Context(), rows(d, 2), make([]inference.Tensor, 1))
		if err == nil {
			return
		}
		if !errkind.Is(err, errkind.Transient) || time.Now().After(end) {
			t.Fatalf("%v %v", errkind.Of(err), err)
		}
		select {
		case <-t.Context().Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}
