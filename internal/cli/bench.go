package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/freshet-io/freshet/bench/policies"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

func (a *app) benchCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Compare scaling policies and forecasters on traces of arrivals",
		Example: `  freshet bench policies --trace requests.csv --report report.html
  freshet bench forecasts --trace requests.csv
  freshet bench live --trace requests.csv --policies keda,freshet`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.benchPoliciesCommand(), a.benchForecastsCommand(), a.benchLiveCommand())
	return cmd
}

const traceHelp = `A trace is a file (.gz too) of one number a second, of a time and a number a step, or of
one request a line; a folder stands for the files in it. Without one, traces are made up.`

type benchPoliciesFlags struct {
	traces    []string
	policies  []string
	objective string
	seeds     int
	report    string
	output    string
	ablation  bool
	front     bool
	startUp   time.Duration
	longest   time.Duration
	parallel  int
	busy      float64
	most      int
}

func (a *app) benchPoliciesCommand() *cobra.Command {
	var f benchPoliciesFlags
	w := policies.DefaultWorld()
	cmd := &cobra.Command{
		Use:   "policies [FILE…]",
		Short: "Compare what scaling policies cost and how late they are",
		Long: `Compare scaling policies on traces of arrivals, in a simulation of workers and queues: cost over that of
a bound, late share, freshness, utilisation, changes and the worst minute.

Each trace is scaled to a mean that keeps --busy workers busy. Policies of others are tuned by the first
third of a trace; all figures are of the rest, and are compared by cost only where freshness is equal or
both keep the objective. The world, what was tuned over, and where ours loses are in the report.

` + traceHelp,
		Example: `  freshet bench policies
  freshet bench policies --trace requests.csv --objective 30s@0.99 --report report.html
  freshet bench policies --trace traces/ --policies keda,kpa --ablation --output markdown`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.benchPolicies(cmd.Context(), append(f.traces, args...), f)
		},
	}
	p := cmd.Flags()
	traceFlag(p, &f.traces)
	p.StringSliceVar(&f.policies, "policies", []string{"all"}, "policies to compare with "+policies.OursName+": all, or some of "+strings.Join(policies.Names(), ", "))
	p.StringVar(&f.objective, "objective", fmt.Sprintf("%s@%g", w.Objective.Target, w.Objective.Quantile), "freshness and the share of the events that has to keep it")
	p.IntVar(&f.seeds, "seeds", 5, "how often each policy is run, with arrivals and start-ups drawn anew")
	p.StringVar(&f.report, "report", "", "HTML file to write, with pictures")
	p.BoolVar(&f.ablation, "ablation", false, "show what each part of "+policies.OursName+" is worth")
	p.BoolVar(&f.front, "front", false, "instead show what freshness costs: "+policies.OursName+" with less and with more risk, those that no other beats; freshet orchestrate --policy horizon:risk=R takes one")
	p.DurationVar(&f.startUp, "start-up", w.Capacity.StartUp, "time from the order of a worker until it is ready")
	p.DurationVar(&f.longest, "longest", 28*24*time.Hour, "most of a trace to tune by, and to judge; 0s is all of it")
	p.Float64Var(&f.busy, "busy", w.Busy, "workers that the mean of a trace keeps busy")
	p.IntVar(&f.most, "max", w.Objective.Max, "most workers that a policy may order")
	p.IntVar(&f.parallel, "parallel", 0, "runs at a time; 0 is one for each core")
	outputFlag(p, &f.output, "text", "json", "markdown")
	return cmd
}

func traceFlag(p *pflag.FlagSet, to *[]string) {
	p.StringArrayVar(to, "trace", nil, "file of arrivals, or a folder of them; may be repeated")
}

func (a *app) benchPolicies(ctx context.Context, names []string, f benchPoliciesFlags) error {
	if err := checkOutput(f.output, "text", "json", "markdown"); err != nil {
		return err
	}
	c := policies.Config{
		World: policies.DefaultWorld(), Policies: f.policies, Ablation: f.ablation, Seeds: f.seeds,
		Longest: f.longest, Workers: f.parallel, Clock: a.Now, Made: a.benchMade(),
	}
	var err error
	if c.World.Objective.Target, c.World.Objective.Quantile, err = parseObjective("--objective", f.objective); err != nil {
		return err
	}
	c.World.Capacity.StartUp, c.World.Busy, c.World.Objective.Max = f.startUp, f.busy, f.most
	switch {
	case f.seeds < 1:
		return usagef("--seeds %d: expected 1 or more", f.seeds)
	case f.parallel < 0:
		return usagef("--parallel %d: expected 0 or more", f.parallel)
	}
	if c.Traces, err = a.traces(names); err != nil {
		return err
	}
	if f.front {
		fronts, err := policies.Fronts(ctx, c)
		if err != nil {
			return err
		}
		if f.output == "json" {
			return writeJSON(a.Stdout, fronts)
		}
		return policies.WriteFronts(a.Stdout, fronts)
	}
	var page *os.File
	if f.report != "" {
		// Before the work, so that a folder that is not there costs no time.
		if page, err = os.CreateTemp(filepath.Dir(f.report), ".report-*.html"); err != nil {
			return usagef("--report: %w", err)
		}
		defer os.Remove(page.Name())
		defer page.Close()
	}
	r, err := a.compare(ctx, c)
	if err != nil {
		return err
	}
	if page != nil {
		if err := finishPage(page, f.report, r); err != nil {
			return err
		}
		a.log.Info("report written", "file", f.report)
	}
	switch f.output {
	case "json":
		return r.WriteJSON(a.Stdout)
	case "markdown":
		return r.WriteMarkdown(a.Stdout)
	}
	return r.WriteText(a.Stdout)
}

// compare shows how far the comparison is.
func (a *app) compare(ctx context.Context, c policies.Config) (*policies.Report, error) {
	var mu sync.Mutex
	done, total, what := 0, 1, ""
	_, terminal := a.Width(a.Stderr)
	c.Progress = func(d, t int, w string) {
		mu.Lock()
		defer mu.Unlock()
		if !terminal && d*10/t > done*10/total {
			a.log.Info("comparing policies", "done", d, "of", t)
		}
		done, total, what = d, t, w
	}
	shown := a.startProgress(func(time.Duration) string {
		mu.Lock()
		defer mu.Unlock()
		return fmt.Sprintf("%s %d of %d  %s", bar(int64(done), int64(total), 20), done, total, what)
	})
	defer shown.finish()
	return policies.Compare(ctx, c)
}

// finishPage writes the report to the file that was begun, and gives it its name.
func finishPage(f *os.File, name string, r *policies.Report) error {
	var b bytes.Buffer
	if err := r.WritePage(&b); err != nil {
		return err
	}
	_, err := f.Write(b.Bytes())
	err = cmp.Or(err, f.Chmod(0o644), f.Close(), os.Rename(f.Name(), name))
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

// benchMade says what a report was made with.
func (a *app) benchMade() string {
	return fmt.Sprintf("Made on %s by freshet %s, %d cores of %s.", a.Now().UTC().Format("2006-01-02"), readVersion().Version, runtime.GOMAXPROCS(0), runtime.GOOS+"/"+runtime.GOARCH)
}

// traces reads files and the files of folders; without any, two are made up.
func (a *app) traces(names []string) ([]*trace.Trace, error) {
	var ts []*trace.Trace
	if len(names) == 0 {
		for _, kind := range []string{"smooth", "bursts"} {
			t, err := trace.Generate(kind, 1, 3*24*time.Hour)
			if err != nil {
				return nil, err
			}
			ts = append(ts, t)
		}
		return ts, nil
	}
	var files []string
	for _, name := range names {
		st, err := os.Stat(name)
		if err != nil {
			return nil, usagef("--trace: %w", err)
		}
		if !st.IsDir() {
			files = append(files, name)
			continue
		}
		entries, err := os.ReadDir(name)
		if err != nil {
			return nil, usagef("--trace: %w", err)
		}
		n := len(files)
		for _, e := range entries {
			if e.Type().IsRegular() && !strings.HasPrefix(e.Name(), ".") {
				files = append(files, filepath.Join(name, e.Name()))
			}
		}
		if len(files) == n {
			return nil, usagef("--trace %s: the folder has no files", name)
		}
	}
	for _, file := range files {
		t, err := trace.Read(file)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(ts, func(o *trace.Trace) bool { return o.Name == t.Name }) {
			t.Name = file
		}
		for _, n := range t.Notes {
			a.log.Info("trace was mended", "file", file, "note", n)
		}
		ts = append(ts, t)
	}
	return ts, nil
}

// parseObjective reads TARGET@QUANTILE, such as 30s@0.99.
func parseObjective(flag, text string) (target time.Duration, quantile float64, err error) {
	before, after, ok := strings.Cut(text, "@")
	if ok {
		target, err = time.ParseDuration(before)
		if err == nil {
			quantile, err = strconv.ParseFloat(after, 64)
		}
	}
	if !ok || err != nil || target <= 0 || !(quantile > 0 && quantile < 1) {
		return 0, 0, usagef("%s %q: expected a time and a share of the events below 1, such as 30s@0.99", flag, text)
	}
	return target, quantile, nil
}

// writeTo hands what was laid out in memory to standard output.
func (a *app) writeOut(b *bytes.Buffer) error {
	if _, err := io.Copy(a.Stdout, b); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
