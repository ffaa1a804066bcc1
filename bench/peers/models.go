package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-io/freshet/bench/batching"
)

// Comparisons (l), (m) and (n): models inside this process, on a server, and how rows are batched.

// threads compares the evaluator with ONNX Runtime on several threads.
func (c *comparison) threads(context.Context) error {
	models, err := threadedModels(c.root, c.dir)
	if err != nil {
		return err
	}
	if openPeerCallers == nil {
		c.withoutORT()
	}
	g, err := compareThreads(models, c.runs, 300*time.Millisecond)
	if err != nil {
		return err
	}
	g.ID = "l"
	c.add(g)
	return nil
}

func (c *comparison) withoutORT() {
	c.report.Missing = append(c.report.Missing, "ONNX Runtime: this program was built without it (it needs a C compiler and "+
		"ONNX Runtime's shared library; bench/run.sh fetches the library with pip)")
}

// goTest runs a test or a benchmark of the product's module and returns what it prints.
func (c *comparison) goTest(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, cmp.Or(os.Getenv("GO"), "go"), append([]string{"test", "-count=1"}, args...)...)
	cmd.Dir = c.root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return out, nil
}

const plainLoop = "AgainstThePlainLoop"

// plainGRPC runs the benchmark that takes the client of the Open Inference Protocol and a plain loop in turn.
func (c *comparison) plainGRPC(ctx context.Context) error {
	out, err := c.goTest(ctx, "-run=^$", "-bench="+plainLoop, "-benchtime=4x", "-count="+strconv.Itoa(c.runs), "./inference/oip")
	if err != nil {
		return err
	}
	g := &group{ID: "m", Title: "The client of the Open Inference Protocol against the fastest plain gRPC loop, on one server in the same process that answers at once; 20 numbers a row, 16 calls in flight", Sides: []sideResult{
		{side: side{Name: "Freshet", What: "Infer: request written, answer's names, types, shapes and number of rows checked, deadline a call"}},
		{side: side{Name: "plain loop", What: "the request written beforehand, scores read from their place in the answer, nothing checked, deadline a call"}},
	}}
	names, figures := benchFigures(out)
	for _, name := range names {
		f := figures[name]
		_, batch, _ := strings.Cut(name, "batch=")
		for _, x := range []struct {
			name, unit, out string
			target          float64
		}{{"Freshet", "rows/s", "rows/s", 0}, {"plain loop", "plain-rows/s", "rows/s", 0}, {"ratio", "ratio", "×", 0.9}} {
			if len(f[x.unit]) != c.runs {
				return fmt.Errorf("%s printed %d figures in %s, expected %d:\n%s", name, len(f[x.unit]), x.unit, c.runs, out)
			}
			g.Rows = append(g.Rows, row{Name: "batch " + batch + ": " + x.name, Unit: x.out, Value: spreadOf(f[x.unit]), Target: x.target})
		}
	}
	if len(g.Rows) == 0 {
		return fmt.Errorf("no figures in what %s printed:\n%s", plainLoop, out)
	}
	c.add(g)
	return nil
}

// benchFigures reads what benchmarks print: their names in order, without the
// number of processors, and the figures of each by unit.
func benchFigures(out []byte) (names []string, figures map[string]map[string][]float64) {
	figures = map[string]map[string][]float64{}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		name := f[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		if figures[name] == nil {
			names = append(names, name)
			figures[name] = map[string][]float64{}
		}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				figures[name][f[i+1]] = append(figures[name][f[i+1]], v)
			}
		}
	}
	return names, figures
}

// batches compares ways to batch in simulated time.
func (c *comparison) batches(ctx context.Context) error {
	file, err := filepath.Abs(filepath.Join(c.dir, "batching.json"))
	if err != nil {
		return err
	}
	args := []string{"./bench/batching", "-run=^TestTable$", "-table=" + file}
	if c.arrivals == "" {
		c.report.Missing = append(c.report.Missing, "batching under real arrivals: their traces are not here (-arrivals FOLDER; bench/batching says which)")
	} else {
		dir, err := filepath.Abs(c.arrivals)
		if err != nil {
			return err
		}
		args = append(args, "-arrivals="+dir)
	}
	if _, err := c.goTest(ctx, args...); err != nil {
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var t batching.Table
	if err := json.Unmarshal(text, &t); err != nil {
		return fmt.Errorf("read the table of batching: %w", err)
	}
	g := batchingGroup(&t)
	if len(g.Rows) == 0 {
		return errors.New("the table of batching is empty")
	}
	c.add(g)
	return nil
}

// batchingGroup sums a table up: each figure's spread is over loads or arrivals, not over runs, because simulated time
// gives the same again.
func batchingGroup(t *batching.Table) *group {
	const deadline = "deadline" // as the table calls it
	g := &group{ID: "n", Title: fmt.Sprintf("Deadline batching against other ways, in simulated time: a call takes %v + %v × rows, ± %.0f %%; 99 of 100 rows within %.0f ms; min – max over loads and arrivals",
		t.Server.Fixed, t.Server.PerRow, 100*t.Server.Jitter, t.Objective), Sides: []sideResult{
		{side: side{Name: "deadline", What: "Freshet's batcher, no setting but the objective"}},
		{side: side{Name: "fixed wait, fixed size", What: "for each load the setting with the fewest calls of those that keep the objective, known from hindsight; one fixed wait for all loads is " + cmp.Or(t.Setting, "none") + ", which keeps it under the most"}},
		{side: side{Name: "no wait", What: "Freshet's batcher when it prefers latency: what has come while the server was busy"}},
	}}
	var ways []string
	calls, busy := map[string][]float64{}, map[string][]float64{}
	for _, x := range t.Gains {
		if calls[x.Against] == nil {
			ways = append(ways, x.Against)
		}
		calls[x.Against], busy[x.Against] = append(calls[x.Against], x.Calls), append(busy[x.Against], x.Busy)
	}
	for _, way := range ways {
		note := fmt.Sprintf("%d of %d loads are kept by both", len(calls[way]), t.Loads)
		g.Rows = append(g.Rows,
			row{Name: "calls saved: " + way + " ÷ deadline", Unit: "×", Value: spreadOf(calls[way]), Note: note},
			row{Name: "the server's time saved: " + way + " ÷ deadline", Unit: "×", Value: spreadOf(busy[way]), Note: note})
	}
	most, best := map[string]map[string]batching.Throughput{}, map[string][]float64{}
	var arrivals []string
	ways = ways[:0]
	for _, x := range t.Throughput {
		if most[x.Arrivals] == nil {
			arrivals = append(arrivals, x.Arrivals)
			most[x.Arrivals] = map[string]batching.Throughput{}
		}
		most[x.Arrivals][x.Policy] = x
		if !slices.Contains(ways, x.Policy) {
			ways = append(ways, x.Policy)
		}
	}
	for _, a := range arrivals {
		for _, way := range ways {
			if x := most[a][way]; x.Rate > 0 {
				best[way] = append(best[way], most[a][deadline].Rate/x.Rate)
			}
		}
	}
	for _, way := range ways {
		if way == deadline || best[way] == nil {
			continue
		}
		note := ""
		if n := len(best[way]); n < len(arrivals) {
			note = fmt.Sprintf("%d of %d arrivals; no %s keeps it for the rest", n, len(arrivals), way)
		}
		g.Rows = append(g.Rows, row{Name: "greatest load that keeps the objective: deadline ÷ " + way, Unit: "×", Value: spreadOf(best[way]), Note: note})
	}
	for _, a := range arrivals {
		var others []string
		for _, way := range ways {
			if x := most[a][way]; way != deadline && x.Rate > 0 {
				others = append(others, x.Policy+" "+number(x.Rate))
			}
		}
		g.Rows = append(g.Rows, row{Name: "greatest load, " + a + ": deadline", Unit: "rows/s", Value: single(most[a][deadline].Rate), Note: strings.Join(others, ", ")})
	}
	g.Rows = append(g.Rows,
		row{Name: fmt.Sprintf("loads of %d within the objective: deadline", t.Loads), Value: single(float64(t.Deadline))},
		row{Name: fmt.Sprintf("loads of %d within the objective: one fixed wait", t.Loads), Value: single(float64(t.Kept))})
	return g
}
