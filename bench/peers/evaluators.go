package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
)

// rotated is the number of distinct rows: enough that no branch predictor learns them.
const rotated = 4096

// evaluator scores batches of a fixed size.
type evaluator interface {
	// run evaluates rows, a batch's values one after the other, and returns the last output.
	run(rows []float32) ([]float32, error)
	close()
}

// openPeer opens a model in ONNX Runtime with one thread; it is nil in a build without it.
var openPeer = newORT

// ortLibrary is the environment variable with the path of ONNX Runtime's shared library.
const ortLibrary = "FRESHET_ORT_LIB"

// goEvaluator is the product's own.
type goEvaluator struct {
	driver  *onnx.Model
	in, out []inference.Tensor
	batch   int
}

func newGoEvaluator(path string, batch int) (*goEvaluator, error) {
	d, err := onnx.Load(path, onnx.Options{Instances: 1})
	if err != nil {
		return nil, err
	}
	m := d.Metadata()
	return &goEvaluator{driver: d, batch: batch, in: []inference.Tensor{{Name: m.Inputs[0].Name, Type: inference.Float32}}, out: make([]inference.Tensor, len(m.Outputs))}, nil
}

func (g *goEvaluator) run(rows []float32) ([]float32, error) {
	in := &g.in[0]
	in.Shape = append(in.Shape[:0], g.batch, len(rows)/g.batch)
	in.F32 = append(in.F32[:0], rows...) // ONNX Runtime's side copies too
	err := g.driver.Infer(context.Background(), g.in, g.out)
	return g.out[len(g.out)-1].F32, err
}

func (g *goEvaluator) close() { _ = g.driver.Close() }

// evaluated is a model with rows for it.
type evaluated struct {
	name, path string
	rows       []float32
	width      int
	target     float64
}

// evaluatedModels are the models of the comparison, written to dir where they are made here.
func evaluatedModels(s *scenario, root, dir string) ([]evaluated, error) {
	trees := filepath.Join(dir, "trees.onnx")
	if err := os.WriteFile(trees, randomTrees(100, 6, 30), 0o600); err != nil {
		return nil, err
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	noise := make([]float32, rotated*30)
	for i := range noise {
		noise[i] = float32(rnd.NormFloat64())
	}
	w := windows{}
	var payments []float32
	// The last of the events, so that the windows are full.
	for i, e := range s.events {
		p, err := decodePayment(e)
		if err != nil {
			return nil, err
		}
		x, _ := s.features(w, p)
		if i >= len(s.events)-rotated {
			payments = append(payments, x[:]...)
		}
	}
	return []evaluated{
		{"trees 100 × depth 6, 30 features", trees, noise, 30, 3},
		{"trees of the example, 9 features", s.model, payments, inputs, 3},
		{"MLP 30-64-64-1", filepath.Join(root, "inference/onnx/testdata/models/mlp-30-64-64-1.onnx"), noise, 30, 0.7},
	}, nil
}

// compareEvaluators runs both evaluators in turn on every model and batch size.
func compareEvaluators(models []evaluated, runs int, each time.Duration) (*group, error) {
	g := &group{ID: "f", Title: "Model evaluation against ONNX Runtime: rows/s, one thread, rotating over 4,096 distinct rows, both with prepared outputs"}
	for _, m := range models {
		for _, batch := range []int{1, 32, 512} {
			if err := g.compareBatch(m, batch, runs, each); err != nil {
				return nil, fmt.Errorf("%s, batch %d: %w", m.name, batch, err)
			}
		}
	}
	return g, nil
}

func (g *group) compareBatch(m evaluated, batch, runs int, each time.Duration) error {
	ours, err := newGoEvaluator(m.path, batch)
	if err != nil {
		return err
	}
	defer ours.close()
	name := fmt.Sprintf("%s, batch %d", m.name, batch)
	if openPeer == nil {
		var v []float64
		for range runs {
			r, err := rowsPerSecond(ours, m, batch, each)
			if err != nil {
				return err
			}
			v = append(v, r)
		}
		g.Rows = append(g.Rows, row{Name: name + ": Freshet", Unit: "rows/s", Value: spreadOf(v), Note: "ONNX Runtime not measured"})
		return nil
	}
	peer, err := openPeer(m.path, ours.driver.Metadata(), batch)
	if err != nil {
		return err
	}
	defer peer.close()
	if err := sameAnswers(ours, peer, m, batch); err != nil {
		return err
	}
	var own, other, ratio []float64
	for range runs {
		a, err := rowsPerSecond(ours, m, batch, each)
		if err != nil {
			return err
		}
		b, err := rowsPerSecond(peer, m, batch, each)
		if err != nil {
			return err
		}
		own, other, ratio = append(own, a), append(other, b), append(ratio, a/b)
	}
	g.Rows = append(g.Rows,
		row{Name: name + ": Freshet", Unit: "rows/s", Value: spreadOf(own)},
		row{Name: name + ": ONNX Runtime", Unit: "rows/s", Value: spreadOf(other)},
		row{Name: name + ": ratio", Unit: "×", Value: spreadOf(ratio), Target: m.target})
	return nil
}

func rowsPerSecond(e evaluator, m evaluated, batch int, each time.Duration) (float64, error) {
	step, rows, at := batch*m.width, 0, time.Now()
	for {
		// A whole turn between looks at the clock.
		for from := 0; from+step <= len(m.rows); from += step {
			if _, err := e.run(m.rows[from : from+step]); err != nil {
				return 0, err
			}
			rows += batch
		}
		if d := time.Since(at); d >= each {
			return float64(rows) / d.Seconds(), nil
		}
	}
}

// sameAnswers compares both sides over all rows.
func sameAnswers(a, b evaluator, m evaluated, batch int) error {
	step := batch * m.width
	for from := 0; from+step <= len(m.rows); from += step {
		x, err := a.run(m.rows[from : from+step])
		if err != nil {
			return err
		}
		y, err := b.run(m.rows[from : from+step])
		if err != nil {
			return err
		}
		if len(x) != len(y) {
			return fmt.Errorf("%d values against %d of ONNX Runtime", len(x), len(y))
		}
		for i := range x {
			if d := math.Abs(float64(x[i] - y[i])); !(d <= 1e-5) {
				return fmt.Errorf("row %d: %v, ONNX Runtime says %v", from/m.width+i*batch/len(x), x[i], y[i])
			}
		}
	}
	return nil
}
