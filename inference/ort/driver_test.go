package ort

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/inferencetest"
	"github.com/freshet-io/freshet/inference/internal/tensors"
	"github.com/freshet-io/freshet/inference/onnx"
	"github.com/freshet-io/freshet/test/frameworks"
)

func TestTheDriverKeepsItsContract(t *testing.T) {
	for i, name := range []string{"columns-onehot-logistic", "logistic-zipmap-strings"} {
		if testing.Short() && i > 0 {
			break // the full run has the others
		}
		t.Run(name, func(t *testing.T) {
			o := native(t)
			o.killAfter = 20 * time.Second
			inferencetest.Run(t, inferencetest.Harness{
				Open:     func(t testing.TB) inference.Driver { return openModel(t, testdata(name), o) },
				Freeze:   freeze,
				Patience: time.Minute,
			})
		})
	}
}

// TestMetadataAndAnswersAreTheInterpreters holds for each model that both load.
func TestMetadataAndAnswersAreTheInterpreters(t *testing.T) {
	o := native(t)
	o.Instances = 1
	files, err := filepath.Glob(testdata("*"))
	if err != nil || len(files) == 0 {
		t.Fatal("no models: ", err)
	}
	both := 0
	for i, path := range files {
		if testing.Short() && i%8 > 0 {
			continue // the full run has the others
		}
		want, err := onnx.Load(path, onnx.Options{Instances: 1})
		if err != nil {
			continue
		}
		got, err := Open(t.Context(), path, o)
		if err != nil {
			if !errkind.Is(err, errkind.Unsupported) && !errkind.Is(err, errkind.Invalid) {
				t.Errorf("%v: %v", errkind.Of(err), err)
			}
			t.Logf("refused: %v", err)
			continue
		}
		both++
		if diff := cmp.Diff(want.Metadata(), got.Metadata()); diff != "" {
			t.Errorf("%s (interpreter, worker):\n%s", path, diff)
		}
		in := random(want.Metadata(), 40, 7)
		x, y := make([]inference.Tensor, len(want.Metadata().Outputs)), make([]inference.Tensor, len(want.Metadata().Outputs))
		errX, errY := want.Infer(t.Context(), in, x), got.Infer(t.Context(), in, y)
		if errkind.Of(errX) != errkind.Of(errY) {
			t.Errorf("%s: the interpreter says %v, the worker %v", path, errX, errY)
		}
		for k := range x {
			if what := differ(&x[k], &y[k]); errX == nil && errY == nil && what != "" {
				t.Errorf("%s (interpreter, worker): %s", path, what)
			}
		}
		if err := got.Close(); err != nil {
			t.Error(err)
		}
		_ = want.Close()
	}
	t.Logf("%d models of %d", both, len(files))
	if !testing.Short() && both < len(files)*3/4 {
		t.Errorf("only %d of %d models were loaded by both", both, len(files))
	}
}

func TestPredictionsAreTheFrameworks(t *testing.T) {
	for _, c := range frameworks.Cases(t) {
		t.Run(c.Name, func(t *testing.T) {
			d := openModel(t, c.File(t), native(t))
			if err := c.Check(t.Context(), d, 500); err != nil {
				t.Error(err)
			}
		})
	}
}

// random makes n rows for a model: numbers about zero and short texts.
func random(m inference.Metadata, n int, seed uint64) []inference.Tensor {
	r := rand.New(rand.NewPCG(seed, 1))
	in := make([]inference.Tensor, len(m.Inputs))
	for k, sig := range m.Inputs {
		sig.Shape = slices.Clone(sig.Shape)
		for i, d := range sig.Shape {
			sig.Shape[i] = max(d, 1)
			if d < 0 {
				sig.Shape[i] = 4
			}
		}
		t := &in[k]
		tensors.Make(t, &sig, n)
		for i := range tensors.Len(t) {
			switch v := r.NormFloat64(); t.Type {
			case inference.Float32:
				t.F32[i] = float32(v)
			case inference.Float64:
				t.F64[i] = v
			case inference.Int64:
				t.I64[i] = int64(r.IntN(3))
			case inference.Int32:
				t.I32[i] = int32(r.IntN(3))
			case inference.Bool:
				t.Bool[i] = v > 0
			case inference.String:
				t.Str[i] = []string{"", "a", "ä", "web", "no such category"}[r.IntN(5)]
			}
		}
	}
	return in
}

// differ says where two outputs are further apart than 5e-5: float32 in another order of sums.
func differ(a, b *inference.Tensor) string {
	if a.Type != b.Type || !slices.Equal(a.Shape, b.Shape) || a.Name != b.Name {
		return fmt.Sprintf("%s %v %v and %s %v %v", a.Name, a.Type, a.Shape, b.Name, b.Type, b.Shape)
	}
	for i := range tensors.Len(a) {
		x, y := tensors.At(a, i), tensors.At(b, i)
		f, ok := x.(float64)
		if ok {
			g := y.(float64)
			ok = f == g || math.Abs(f-g) <= 5e-5*max(1, math.Abs(f)) || math.IsNaN(f) && math.IsNaN(g)
		} else {
			ok = x == y
		}
		if !ok {
			return fmt.Sprintf("%s: element %d is %v and %v", a.Name, i, x, y)
		}
	}
	return ""
}
