package onnx

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/ops"
	"github.com/freshet-io/freshet/inference/onnx/internal/wire"
)

// TestMisfitsAreErrors runs the test models, and ONNX's node tests where they are installed, on inputs of
// random ranks, sizes and values, whole and with an attribute changed: a result or an error, never a
// panic.
func TestMisfitsAreErrors(t *testing.T) {
	files, _ := filepath.Glob("testdata/models/*.onnx")
	nodes, _ := filepath.Glob(filepath.Join(nodeTestDir(), "test_*", "model.onnx"))
	r := rand.New(rand.NewPCG(1, 9))
	ran := 0
	for _, name := range append(files, nodes...) {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for trial := range 16 {
			if trial > 2 && len(data) > 20_000 {
				break
			}
			w, err := wire.Decode(data, wire.Limits{MaxNodes: 1000})
			if err != nil {
				t.Fatal(err)
			}
			if trial > 0 {
				bend(r, w)
			}
			p, err := plan(w, Options{MaxElements: 1 << 14}.withDefaults())
			if err != nil {
				continue
			}
			i := newInstance(p)
			for range 8 {
				var in []inference.Tensor
				for _, info := range p.inputInfo {
					typ, _ := ops.TypeFromWire(info.Type)
					in = append(in, misfit(r, typ, info))
				}
				ran++
				if err := i.run(context.Background(), in, make([]inference.Tensor, len(p.outputs))); errors.Is(err, errInternal) {
					t.Errorf("%s, trial %d: %v", name, trial, err)
					for k := range in {
						t.Logf("  %+v", in[k])
					}
				}
			}
		}
	}
	t.Logf("%d runs", ran)
}

// bend changes one attribute or constant of the model.
func bend(r *rand.Rand, w *wire.Model) {
	numbers := []int64{0, 1, -1, 2, 3, -2, 7, 100, 1 << 20, 1 << 40, -1 << 63, 1<<63 - 1}
	for range 20 {
		n := &w.Graph.Nodes[r.IntN(len(w.Graph.Nodes))]
		if len(n.Attrs) == 0 || r.IntN(4) == 0 {
			if k := len(w.Graph.Initializers); k > 0 {
				c := &w.Graph.Initializers[r.IntN(k)]
				if len(c.Int64s) > 0 {
					c.Int64s[r.IntN(len(c.Int64s))] = numbers[r.IntN(len(numbers))]
					return
				}
				if len(c.Dims) > 1 {
					c.Dims[0], c.Dims[1] = c.Dims[1], c.Dims[0]
					return
				}
			}
			continue
		}
		a := &n.Attrs[r.IntN(len(n.Attrs))]
		switch {
		case len(a.Ints) > 0 && r.IntN(2) == 0:
			a.Ints[r.IntN(len(a.Ints))] = numbers[r.IntN(len(numbers))]
		case len(a.Ints) > 0:
			a.Ints = a.Ints[:r.IntN(len(a.Ints))]
		case len(a.Floats) > 0:
			a.Floats = a.Floats[:r.IntN(len(a.Floats))]
		case len(a.Strings) > 0:
			a.Strings = a.Strings[:r.IntN(len(a.Strings))]
		case a.Kind == wire.AttrInt:
			a.I = numbers[r.IntN(len(numbers))]
		default:
			n.Attrs = append(n.Attrs[:0:0], n.Attrs[1:]...)
		}
		return
	}
}

// misfit is a tensor of the type whose shape is near what the graph declares, or not.
func misfit(r *rand.Rand, typ inference.DataType, info wire.ValueInfo) inference.Tensor {
	sig := inference.Signature{Type: typ}
	for _, d := range info.Dims {
		if d < 0 || r.IntN(5) == 0 {
			d = r.Int64N(4)
		}
		sig.Shape = append(sig.Shape, int(min(d, 64)))
	}
	switch r.IntN(6) {
	case 0:
		sig.Shape = nil
		for range r.IntN(6) {
			sig.Shape = append(sig.Shape, r.IntN(4))
		}
	case 1:
		sig.Shape = append(sig.Shape, r.IntN(3))
	}
	if _, ok := ops.Size(1<<14, sig.Shape); !ok {
		sig.Shape = nil
	}
	t := awkward(sig, 1)
	t.Shape = t.Shape[1:]
	big := []int64{0, 1, -1, 2, 3, -2, 1 << 20, 1 << 40, -1 << 63, 1<<63 - 1}
	for i := range t.I64 {
		t.I64[i] = big[r.IntN(len(big)-5*r.IntN(2))]
	}
	return t
}
