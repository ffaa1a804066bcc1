package onnx

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/ops"
	"github.com/freshet-io/freshet/inference/onnx/internal/wire"
)

// FuzzParse loads mutated models and runs those that load, as a driver does and, since many of them
// mix rows, as a bare graph on inputs of the declared shapes.
func FuzzParse(f *testing.F) {
	files, _ := filepath.Glob("testdata/models/*.onnx")
	for _, name := range files {
		if data, err := os.ReadFile(name); err == nil && len(data) < 20_000 {
			f.Add(data)
		}
	}
	// ONNX's node tests bring every operator, where they are installed.
	nodes, _ := filepath.Glob(filepath.Join(nodeTestDir(), "test_*", "model.onnx"))
	for _, name := range nodes {
		if data, err := os.ReadFile(name); err == nil && len(data) < 5000 {
			f.Add(data)
		}
	}
	for _, c := range hostile() {
		if len(c.data) < 20_000 {
			f.Add(c.data)
		}
	}
	f.Add(boosted(3, 3, 4, true))
	f.Add(network(3, 4, 2))
	limits := Options{Instances: 1, MaxBytes: 1 << 20, MaxNodes: 1000, MaxElements: 1 << 16}
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		m, err := Parse("fuzz", data, limits)
		if err == nil {
			in := make([]inference.Tensor, len(m.Metadata().Inputs))
			for k, sig := range m.Metadata().Inputs {
				in[k] = awkward(sig, 3)
			}
			err = m.Infer(context.Background(), in, make([]inference.Tensor, len(m.Metadata().Outputs)))
			if err == nil {
				err = explainAll(m, in)
			}
		}
		if err != nil && strings.Contains(err.Error(), errInternal.Error()) {
			t.Fatal(err)
		}
		if err := runGraph(data, limits); err != nil && strings.Contains(err.Error(), errInternal.Error()) {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Fatalf("took %v", d)
		}
	})
}

// explainAll explains whatever the model offers, with the rows as their own background.
func explainAll(m *Model, in []inference.Tensor) error {
	if err := m.SetBackground(in); err != nil {
		return err
	}
	var a inference.Attributions
	for target, methods := range targets(m) {
		for _, method := range methods {
			if err := m.Explain(context.Background(), in, target, method, &a); err != nil {
				return err
			}
			size := 1.0 // of what is added: beside large leaves that cancel, small differences are lost
			for _, v := range a.Values {
				size = max(size, math.Abs(v))
			}
			for r, raw := range a.Raw {
				sum := a.Base[r]
				for _, v := range a.Values[r*a.Width : (r+1)*a.Width] {
					sum += v
				}
				if d := math.Abs(sum - raw); d > 1e-6*max(size, math.Abs(raw)) && size < 1e15 && !math.IsInf(raw, 0) {
					return fmt.Errorf("%w: %v of %v: %v and attributions make %v, not %v", errInternal, method, target, a.Base[r], sum, raw)
				}
			}
		}
	}
	return nil
}

// runGraph runs a model on inputs of the shapes that it declares.
func runGraph(data []byte, o Options) error {
	w, err := wire.Decode(data, wire.Limits{MaxNodes: o.MaxNodes})
	if err != nil {
		return err
	}
	p, err := plan(w, o.withDefaults())
	if err != nil {
		return err
	}
	var in []inference.Tensor
	for _, info := range p.inputInfo {
		typ, _ := ops.TypeFromWire(info.Type)
		sig := inference.Signature{Name: info.Name, Type: typ}
		for _, d := range info.Dims {
			sig.Shape = append(sig.Shape, int(min(d, 1<<40)))
		}
		if _, ok := ops.Size(1<<12, sizes(sig.Shape, 1)); !ok || len(sig.Shape) > ops.MaxRank {
			return nil
		}
		t := awkward(sig, 1)
		t.Shape = t.Shape[1:]
		in = append(in, t)
	}
	i := newInstance(p)
	i.frame.Limited, i.frame.Work = true, 1<<20
	return i.run(context.Background(), in, make([]inference.Tensor, len(p.outputs)))
}

// awkward is a batch with numbers of all kinds.
func awkward(sig inference.Signature, rows int) inference.Tensor {
	t := inference.Tensor{Name: sig.Name, Type: sig.Type, Shape: sizes(sig.Shape, rows)}
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	numbers := []float64{0, 1, math.NaN(), -1, math.Inf(1), 0.5, math.Inf(-1), 1e30, -3}
	for i := range n {
		v := numbers[i%len(numbers)]
		switch sig.Type {
		case inference.Float32:
			t.F32 = append(t.F32, float32(v))
		case inference.Float64:
			t.F64 = append(t.F64, v)
		case inference.Int64:
			t.I64 = append(t.I64, int64(i%7-3))
		case inference.Int32:
			t.I32 = append(t.I32, int32(i%7-3))
		case inference.Bool:
			t.Bool = append(t.Bool, i%2 == 0)
		case inference.String:
			t.Str = append(t.Str, []string{"", "a", "1"}[i%3])
		}
	}
	return t
}
