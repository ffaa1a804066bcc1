package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
)

// Comparison (o): Shapley values of tree ensembles.

// frameworksPython is the environment variable with a Python that has what
// test/frameworks/requirements.txt lists.
const frameworksPython = "FRESHET_FRAMEWORKS_PYTHON"

// contributed is a line of test/frameworks/contributions.py.
type contributed struct {
	Model   string  `json:"model"`
	Peer    string  `json:"peer"`
	Threads int     `json:"threads"`
	Rate    float64 `json:"rows_per_s"`
	CPURate float64 `json:"rows_per_cpu_s"`
}

const (
	contributionRows  = 1000 // of 100 trees; the peers' large model has a twentieth
	contributionBatch = 32
	contributionLimit = 20 * time.Minute // of a busy machine
)

func (c *comparison) contributions(ctx context.Context) error {
	python := os.Getenv(frameworksPython)
	if python == "" {
		c.report.Missing = append(c.report.Missing, "Shapley values: no Python with XGBoost and shap (bench/run.sh makes one with python3 and pip; "+frameworksPython+" names another)")
		return nil
	}
	peers, err := c.peerContributions(ctx, python)
	if err != nil {
		return err
	}
	rows, err := readFloats(filepath.Join(c.dir, "rows.f32"))
	if err != nil {
		return err
	}
	g := &group{ID: "o", Title: "Shapley values of trees on 30 features: rows/s", Sides: []sideResult{
		{side: side{Name: "Freshet", What: fmt.Sprintf("Explain by TreeSHAP in batches of %d, rotating over 4,096 rows, which are the background too; each row's values add up, which is looked at", contributionBatch)}},
		{side: side{Name: "xgboost", What: "predict(pred_contribs=True); its rows and shap's are fewer and explained once, before Freshet's rounds"}},
		{side: side{Name: "shap", What: "the C code of TreeExplainer with tree_path_dependent, one thread"}},
	}}
	var models []string
	for _, p := range peers {
		if !slices.Contains(models, p.Model) {
			models = append(models, p.Model)
		}
	}
	for _, model := range models {
		own := map[int][]contributed{}
		for run := range c.runs {
			for _, threads := range []int{1, evaluatorThreads} {
				x, err := ownContributions(ctx, filepath.Join(c.dir, model+".onnx"), rows, threads, time.Second)
				if err != nil {
					return fmt.Errorf("%s: %w", model, err)
				}
				own[threads] = append(own[threads], x)
				fmt.Fprintf(os.Stderr, "run %d of %d: %s on %d threads %s rows a second\n", run+1, c.runs, model, threads, number(x.Rate))
			}
		}
		g.contributed(model, own, peers)
	}
	c.add(g)
	return nil
}

// contributed adds a model's figures and the ratios to the peers on as many threads.
func (g *group) contributed(model string, own map[int][]contributed, peers []contributed) {
	over := func(of []contributed, rate func(contributed) float64, by float64) spread {
		var v []float64
		for _, x := range of {
			v = append(v, rate(x)/by)
		}
		return spreadOf(v)
	}
	clock, processor := func(x contributed) float64 { return x.Rate }, func(x contributed) float64 { return x.CPURate }
	on := func(threads int) string { return fmt.Sprintf("%s, %d thread", model, threads) + plural(threads) }
	for _, threads := range []int{1, evaluatorThreads} {
		g.Rows = append(g.Rows, row{Name: on(threads) + ": Freshet", Unit: "rows/s", Value: over(own[threads], clock, 1)})
		for _, p := range peers {
			if p.Model != model || p.Threads != threads {
				continue
			}
			g.Rows = append(g.Rows,
				row{Name: on(threads) + ": " + p.Peer, Unit: "rows/s", Value: single(p.Rate)},
				row{Name: on(threads) + ": Freshet ÷ " + p.Peer, Unit: "×", Value: over(own[threads], clock, p.Rate), Target: 5},
				row{Name: on(threads) + ": Freshet ÷ " + p.Peer + ", by processor time", Unit: "×", Value: over(own[threads], processor, p.CPURate)})
		}
	}
}

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// peerContributions has the peers make the models, and says how fast they are.
func (c *comparison) peerContributions(ctx context.Context, python string) ([]contributed, error) {
	ctx, cancel := context.WithTimeout(ctx, contributionLimit)
	defer cancel()
	fmt.Fprintln(os.Stderr, "XGBoost trains the models and explains them; about a minute")
	cmd := exec.CommandContext(ctx, python, filepath.Join(c.root, "test/frameworks/contributions.py"), c.dir, fmt.Sprint(contributionRows))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("XGBoost and shap: %w", err)
	}
	var peers []contributed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var x contributed
		switch err := d.Decode(&x); {
		case err == io.EOF:
			return peers, nil
		case err != nil:
			return nil, fmt.Errorf("read what XGBoost and shap printed: %w", err)
		case !(x.Rate > 0) || !(x.CPURate > 0):
			return nil, fmt.Errorf("%s says %v rows/s of %s", x.Peer, x.Rate, x.Model)
		}
		peers = append(peers, x)
	}
}

func readFloats(file string) ([]float32, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	out := make([]float32, len(data)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out, nil
}

// ownContributions explains rows of a classifier for a while.
func ownContributions(ctx context.Context, file string, rows []float32, threads int, each time.Duration) (x contributed, err error) {
	m, err := onnx.Load(file, onnx.Options{Instances: threads})
	if err != nil {
		return x, err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	meta := m.Metadata()
	width := meta.Inputs[0].Shape[0]
	sample := func(from, n int) []inference.Tensor {
		return []inference.Tensor{{Type: inference.Float32, Shape: []int{n, width}, F32: rows[from*width : (from+n)*width]}}
	}
	if err := m.SetBackground(sample(0, len(rows)/width)); err != nil {
		return x, err
	}
	last := len(meta.Outputs) - 1
	target := inference.Target{Output: last, Element: 1} // the second class
	batches := len(rows) / width / contributionBatch
	explain := func(i int, a *inference.Attributions) error {
		if err := m.Explain(ctx, sample(i%batches*contributionBatch, contributionBatch), target, inference.TreeSHAP, a); err != nil {
			return err
		}
		return addsUp(a)
	}
	var first inference.Attributions
	if err := explain(0, &first); err != nil { // the plan is made
		return x, err
	}
	runtime.GC()
	done, errs := make([]int, threads), make([]error, threads)
	at, cpu := time.Now(), cpuTime()
	var all sync.WaitGroup
	for k := range threads {
		all.Go(func() {
			var a inference.Attributions
			for i := k * batches / threads; time.Since(at) < each; i++ {
				if errs[k] = explain(i, &a); errs[k] != nil {
					return
				}
				done[k] += contributionBatch
			}
		})
	}
	all.Wait()
	wall, used := time.Since(at), cpuTime()-cpu
	total := 0
	for _, n := range done {
		total += n
	}
	return contributed{Threads: threads, Rate: float64(total) / wall.Seconds(), CPURate: float64(total) / used.Seconds()}, cmp.Or(errs...)
}

// addsUp holds attributions to what they are: without it a fast wrong answer would win.
func addsUp(a *inference.Attributions) error {
	for r, want := range a.Raw {
		sum := a.Base[r]
		for _, v := range a.Values[r*a.Width : (r+1)*a.Width] {
			sum += v
		}
		if d := math.Abs(sum - want); !(d <= 1e-6*max(1, math.Abs(want))) {
			return fmt.Errorf("row %d: the attributions add up to %v, the model's raw score is %v", r, sum, want)
		}
	}
	return nil
}
