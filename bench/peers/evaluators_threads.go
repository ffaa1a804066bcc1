package main

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
	"github.com/freshet-io/freshet/inference/ort"
)

// evaluatorThreads is how many threads each side has.
const evaluatorThreads = 2

// caller evaluates batches, one at a time; callers of one side run beside each other.
type caller interface {
	// call evaluates a batch and returns the last output.
	call(in *inference.Tensor) (*inference.Tensor, error)
}

// evaluatorSide is one evaluator with its callers.
type evaluatorSide struct {
	name    string
	callers []caller
	close   func() error
}

// openPeerCallers opens a model in ONNX Runtime inside this process; it is nil in a
// build without it.
var openPeerCallers = newORTCallers

// driverCaller calls a driver.
type driverCaller struct {
	driver  inference.Driver
	in, out []inference.Tensor
}

func (c *driverCaller) call(in *inference.Tensor) (*inference.Tensor, error) {
	c.in[0] = *in
	err := c.driver.Infer(context.Background(), c.in, c.out)
	return &c.out[len(c.out)-1], err
}

func driverSide(name string, d inference.Driver) evaluatorSide {
	s := evaluatorSide{name: name, close: d.Close}
	for range evaluatorThreads {
		s.callers = append(s.callers, &driverCaller{driver: d, in: make([]inference.Tensor, 1), out: make([]inference.Tensor, len(d.Metadata().Outputs))})
	}
	return s
}

// threadedModel is a model of the comparison on several threads.
type threadedModel struct {
	name, path string
	target     float64
}

func threadedModels(root, dir string) ([]threadedModel, error) {
	models := []threadedModel{
		{"trees 100 × depth 6, 30 features", filepath.Join(dir, "trees-100.onnx"), 3},
		{"trees 500 × depth 8, 30 features", filepath.Join(dir, "trees-500.onnx"), 3},
	}
	for i, size := range [][2]int{{100, 6}, {500, 8}} {
		if err := os.WriteFile(models[i].path, randomTrees(size[0], size[1], 30), 0o600); err != nil {
			return nil, err
		}
	}
	file := func(name string) string {
		return filepath.Join(root, "inference/onnx/testdata/models", name+".onnx")
	}
	return append(models,
		threadedModel{"linear regression, 8 features", file("linear-regression"), 0.7},
		threadedModel{"MLP 30-64-64-1", file("mlp-30-64-64-1"), 0.7},
		threadedModel{"transformer encoder, 32 tokens", file("transformer-encoder"), 0.5},
	), nil
}

// compareThreads runs the interpreter, ONNX Runtime inside this process in the two
// ways of using the threads, and worker, in turn on every
// model and batch size.
func compareThreads(models []threadedModel, runs int, each time.Duration) (*group, error) {
	g := &group{ID: "f2", Title: fmt.Sprintf("Model evaluation against ONNX Runtime: rows/s on %d threads, rotating over 4,096 distinct rows; the ratio is to the better of the two ways of ONNX Runtime inside the process", evaluatorThreads)}
	for _, m := range models {
		for _, batch := range []int{1, 32, 256} {
			if err := g.compareThreaded(m, batch, runs, each); err != nil {
				return nil, fmt.Errorf("%s, batch %d, %d threads: %w", m.name, batch, evaluatorThreads, err)
			}
		}
	}
	return g, nil
}

func (g *group) compareThreaded(m threadedModel, batch, runs int, each time.Duration) (err error) {
	var sides []evaluatorSide
	defer func() {
		for _, s := range sides {
			err = cmp.Or(err, s.close())
		}
	}()
	ours, err := onnx.Load(m.path, onnx.Options{Instances: evaluatorThreads})
	if err != nil {
		return err
	}
	meta := ours.Metadata()
	sides = append(sides, driverSide("Freshet", ours))
	if openPeerCallers != nil {
		for _, threads := range []int{1, evaluatorThreads} {
			s, err := openPeerCallers(m.path, meta, batch, evaluatorThreads/threads, threads)
			if err != nil {
				return err
			}
			sides = append(sides, s)
		}
	}
	peers := len(sides) - 1
	if os.Getenv(ort.EnvWorker) != "" {
		d, err := ort.Open(context.Background(), m.path, ort.Options{Instances: evaluatorThreads, Threads: 1})
		if err != nil {
			return err
		}
		sides = append(sides, driverSide("worker", d))
	}
	batches := threadedBatches(meta, batch)
	for _, s := range sides[1:] {
		if err := sameCalls(sides[0], s, batches); err != nil {
			return err
		}
	}
	figures := make([][]float64, len(sides))
	var ratio, overhead []float64
	for range runs {
		for i, s := range sides {
			r, err := s.rowsPerSecond(batches, batch, each)
			if err != nil {
				return err
			}
			figures[i] = append(figures[i], r)
		}
		last := func(i int) float64 { return figures[i][len(figures[i])-1] }
		if peers > 0 {
			best := max(last(1), last(2))
			ratio = append(ratio, last(0)/best)
			if len(sides) > 1+peers {
				overhead = append(overhead, last(1+peers)/best)
			}
		}
	}
	name := fmt.Sprintf("%s, batch %d", m.name, batch)
	for i, s := range sides {
		g.Rows = append(g.Rows, row{Name: name + ": " + s.name, Unit: "rows/s", Value: spreadOf(figures[i])})
	}
	if ratio != nil {
		g.Rows = append(g.Rows, row{Name: name + ": ratio", Unit: "×", Value: spreadOf(ratio), Target: m.target})
	}
	if overhead != nil {
		g.Rows = append(g.Rows, row{Name: name + ": worker ÷ ONNX Runtime", Unit: "×", Value: spreadOf(overhead)})
	}
	return nil
}

// threadedBatches are rows at random: numbers, or tokens where the model takes them.
func threadedBatches(meta inference.Metadata, batch int) []inference.Tensor {
	rnd := rand.New(rand.NewPCG(5, 6))
	sig := meta.Inputs[0]
	width := 1
	for _, d := range sig.Shape {
		width *= d
	}
	batches := make([]inference.Tensor, rotated/batch)
	for i := range batches {
		t := &batches[i]
		t.Name, t.Type, t.Shape = sig.Name, sig.Type, append([]int{batch}, sig.Shape...)
		for range batch * width {
			if sig.Type == inference.Int64 {
				t.I64 = append(t.I64, rnd.Int64N(64))
			} else {
				t.F32 = append(t.F32, float32(rnd.NormFloat64()))
			}
		}
	}
	return batches
}

// rowsPerSecond lets all callers of a side run for a while.
func (s *evaluatorSide) rowsPerSecond(batches []inference.Tensor, batch int, each time.Duration) (float64, error) {
	runtime.GC()
	calls, errs := make([]int, len(s.callers)), make([]error, len(s.callers))
	at := time.Now()
	var all sync.WaitGroup
	for k, c := range s.callers {
		all.Go(func() {
			// Each begins elsewhere; looks at the clock are rare beside calls of microseconds.
			for i := k * len(batches) / len(s.callers); ; i++ {
				if _, errs[k] = c.call(&batches[i%len(batches)]); errs[k] != nil {
					return
				}
				if calls[k]++; (batch > 1 || calls[k]%64 == 0) && time.Since(at) >= each {
					return
				}
			}
		})
	}
	all.Wait()
	total := 0
	for _, n := range calls {
		total += n
	}
	return float64(total*batch) / time.Since(at).Seconds(), cmp.Or(errs...)
}

// sameCalls compares the answers of both sides.
func sameCalls(a, b evaluatorSide, batches []inference.Tensor) error {
	for i := range batches[:min(len(batches), 64)] {
		x, err := a.callers[0].call(&batches[i])
		if err != nil {
			return err
		}
		for _, c := range b.callers {
			y, err := c.call(&batches[i])
			if err != nil {
				return err
			}
			if len(x.F32) != len(y.F32) {
				return fmt.Errorf("%d values against %d of %s", len(x.F32), len(y.F32), b.name)
			}
			for k := range x.F32 {
				if d := math.Abs(float64(x.F32[k] - y.F32[k])); !(d <= 1e-5*max(1, math.Abs(float64(x.F32[k])))) {
					return fmt.Errorf("batch %d, value %d: %v, %s says %v", i, k, x.F32[k], b.name, y.F32[k])
				}
			}
		}
	}
	return nil
}
