package onnx

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/inferencetest"
)

// TestConformance proves the driver on models of several kinds.
func TestConformance(t *testing.T) {
	for _, name := range []string{"xgboost-binary", "random-forest-multi", "columns-onehot-logistic", "mlp-30-64-64-1", "lightgbm-zipmap", "logistic-zipmap-strings"} {
		t.Run(name, func(t *testing.T) {
			inferencetest.Run(t, inferencetest.Harness{Open: func(t testing.TB) inference.Driver {
				m, err := Load(filepath.Join("testdata", "models", name+".onnx"), Options{Instances: 3, MaxBatch: 256})
				if err != nil {
					t.Fatal(err)
				}
				return m
			}})
		})
	}
}

// TestSteadyStateAllocatesNothing holds for every model once its buffers have grown.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	files, _ := filepath.Glob("testdata/models/*.onnx")
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".onnx")
		m, err := Load(f, Options{Instances: 1})
		if err != nil {
			t.Fatal(err)
		}
		in := inputsOf(t, m, readCase(t, strings.TrimSuffix(f, ".onnx")+".json"))
		out := make([]inference.Tensor, len(m.Metadata().Outputs))
		ctx := context.Background()
		n := testing.AllocsPerRun(20, func() {
			if err := m.Infer(ctx, in, out); err != nil {
				t.Fatal(err)
			}
		})
		if n > 0 {
			t.Errorf("%s: %v allocations per call", name, n)
		}
	}
}

func TestVersionComesFromTheFile(t *testing.T) {
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"metadata", pb(network(2, 1)).msg(14, pb{}.str(1, "version").str(2, "2024-06")).num(5, 3), "2024-06"},
		{"model_version", pb(network(2, 1)).num(5, 3), "3"},
		{"digest", network(2, 1), ""},
	} {
		m, err := Parse("v", c.data, Options{})
		if err != nil {
			t.Fatal(err)
		}
		meta := m.Metadata()
		if c.want == "" {
			c.want = meta.Digest[:12]
		}
		if meta.Version != c.want || meta.Producer != "writer 1" || len(meta.Digest) != 64 {
			t.Errorf("%s: %+v", c.name, meta)
		}
	}
}

func TestFeatureNamesFitTheInput(t *testing.T) {
	names := func(s string) []byte { return pb(network(2, 1)).msg(14, pb{}.str(1, "feature_names").str(2, s)) }
	for list, want := range map[string]int{"a,b": 2, "a,b,c": 0} {
		m, err := Parse("f", names(list), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Metadata().FeatureNames; len(got) != want {
			t.Errorf("%q gives %v", list, got)
		}
	}
}

func TestMissingFileIsNotFound(t *testing.T) {
	_, err := Load(filepath.Join(t.TempDir(), "none.onnx"), Options{})
	if !errkind.Is(err, errkind.NotFound) {
		t.Errorf("got %v", err)
	}
}

func TestFileAboveMaxBytesIsExhausted(t *testing.T) {
	_, err := Load(filepath.Join("testdata", "models", "xgboost-binary.onnx"), Options{MaxBytes: 100})
	if !errkind.Is(err, errkind.Exhausted) {
		t.Errorf("got %v", err)
	}
}
