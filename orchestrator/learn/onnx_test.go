package learn

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
)

// session makes a Net of a file, by our own runtime.
type session struct {
	model   *onnx.Model
	in, out []inference.Tensor
}

func newSession(t testing.TB, file []byte) *session {
	t.Helper()
	m, err := onnx.Parse("policy", file, onnx.Options{Instances: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return &session{model: m, in: make([]inference.Tensor, 1), out: make([]inference.Tensor, 1)}
}

func (s *session) Infer(obs, out []float32) error {
	s.in[0] = inference.Tensor{Type: inference.Float32, Shape: []int{1, len(obs)}, F32: obs}
	if err := s.model.Infer(context.Background(), s.in, s.out); err != nil {
		return err
	}
	copy(out, s.out[0].F32)
	return nil
}

func TestExportedPolicyGivesTheSameLogits(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 12))
	trained := &Trained{net: newNetwork(rng, 1, Observations, 32, 32, Actions)}
	// The file holds single precision, and so must what it is compared with.
	for i, w := range trained.net.params {
		trained.net.params[i] = float64(float32(w))
	}
	s := newSession(t, trained.ONNX())
	meta := s.model.Metadata()
	if in, out := meta.Inputs[0], meta.Outputs[0]; len(meta.Inputs) != 1 || len(meta.Outputs) != 1 ||
		in.Name != inputName || in.Shape[0] != Observations || out.Name != outputName || out.Shape[0] != Actions {
		t.Fatalf("the file's signature is %+v", meta)
	}
	compare(t, rng, trained, s)
}

// compare wants the same logits to 1e-6 of their size.
func compare(t *testing.T, rng *rand.Rand, a, b Net) {
	t.Helper()
	obs, x, y := make([]float32, Observations), make([]float32, Actions), make([]float32, Actions)
	worst := 0.0
	for range 2000 {
		for i := range obs {
			obs[i] = float32(7*rng.Float64() - 3)
		}
		if err := a.Infer(obs, x); err != nil {
			t.Fatal(err)
		}
		if err := b.Infer(obs, y); err != nil {
			t.Fatal(err)
		}
		for i := range x {
			worst = max(worst, math.Abs(float64(x[i]-y[i]))/max(1, math.Abs(float64(x[i]))))
		}
	}
	t.Logf("largest difference %.2g", worst)
	if !(worst <= 1e-6) {
		t.Errorf("logits differ by %.2g", worst)
	}
}
