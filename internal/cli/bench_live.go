package cli

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/bench/live"
	"github.com/freshet-io/freshet/bench/policies"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

type benchLiveFlags struct {
	traces    []string
	policies  []string
	objective string
	service   string
	from, fo  time.Duration
	startUp   time.Duration
	speed     float64
	busy      float64
	most      int
	faults    bool
	output    string
}

func (a *app) benchLiveCommand() *cobra.Command {
	var f benchLiveFlags
	cmd := &cobra.Command{
		Use:   "live",
		Short: "Play a trace through a real pipeline under scaling policies, beside the simulator",
		Long: `Play a trace of arrivals, sped up, through the card-fraud pipeline in this process, while a
policy orders how many calls of its model may run at once. Calls are stretched to --service, and
workers start after the time that is given, shortened like the trace. Each policy is run live and
in the simulator, and the figures of both are shown in the time of the trace. Policies of others
are tuned by what of the trace lies before --from, or by its first third where that is nothing.

The pipeline itself takes some milliseconds by the clock, and the faster the trace, the more these are in
its time: at --speed 288 an objective of 30 s is 100 ms by the clock, too little to say much.

With --faults a tenfold spike, the loss of three workers and a pause of the broker are brought about, and the
time until the oldest event is within the objective again is shown.

` + traceHelp,
		Example: `  freshet bench live --trace nasa-http-per-minute.csv --from 336h --for 48h --speed 288 --objective 2m@0.99 --start-up 4m --policies keda,freshet
  freshet bench live --faults --policies hpa,keda,kpa,freshet --busy 2 --max 60`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.benchLive(cmd.Context(), &f) },
	}
	p := cmd.Flags()
	traceFlag(p, &f.traces)
	p.StringSliceVar(&f.policies, "policies", []string{"keda", policies.OursName}, "policies to run: all, or some of them")
	p.StringVar(&f.objective, "objective", "30s@0.99", "freshness and the share of the events that has to keep it, in the time of the trace")
	p.DurationVar(&f.from, "from", 0, "where in the trace to begin")
	p.DurationVar(&f.fo, "for", 90*time.Minute, "how much of the trace to play")
	p.DurationVar(&f.startUp, "start-up", time.Minute, "time from the order of a worker until it is ready, in the time of the trace")
	p.StringVar(&f.service, "service", "8ms+1ms", "time of a model call by the clock, overhead + time per event")
	p.Float64Var(&f.speed, "speed", 72, "seconds of the trace in one second")
	p.Float64Var(&f.busy, "busy", 4, "workers that the mean of the trace keeps busy")
	p.IntVar(&f.most, "max", 40, "most workers that a policy may order")
	p.BoolVar(&f.faults, "faults", false, "bring about a spike, a loss of workers and a pause of the broker")
	outputFlag(p, &f.output, "text", "json")
	return cmd
}

// The calls of the model.
const (
	liveBatch = 16
	liveMost  = 64
)

func (a *app) benchLive(ctx context.Context, f *benchLiveFlags) error {
	if err := checkOutput(f.output, "text", "json"); err != nil {
		return err
	}
	if !(f.speed > 0) || !(f.busy > 0) || f.most < 1 || f.fo <= 0 || f.from < 0 {
		return usagef("--speed, --busy, --max and --for: expected more than 0; --from: not less than 0")
	}
	ts, err := a.traces(f.traces)
	if err != nil {
		return err
	}
	overhead, perEvent, err := parseService(f.service)
	if err != nil {
		return err
	}
	t := ts[len(ts)-1] // the bursty one of those made up
	c := orchestrator.Capacity{
		Overhead: overhead * f.speed, PerEvent: perEvent * f.speed, Batch: liveBatch, MaxBatch: liveMost,
		StartUp: f.startUp, Stop: 2 * time.Second,
	}
	o := orchestrator.Objective{Min: 1, Max: f.most}
	if o.Target, o.Quantile, err = parseObjective("--objective", f.objective); err != nil {
		return err
	}
	t = t.Scale(f.busy * c.Rate(liveBatch))
	first := t.Slice(0, f.from)
	if f.from == 0 {
		first, _ = t.Thirds()
	}
	part := t.Slice(f.from, min(f.from+f.fo, t.Duration()))
	if len(part.Counts) == 0 {
		return usagef("--from %s: the trace ends at %s", f.from, t.Duration())
	}
	w := simulate.World{
		Arrivals: part.Draw(1, time.Second), Capacity: c, Objective: o, Jitter: 0.2, Delay: 5 * time.Second, Seed: 1,
	}
	if f.faults {
		w.Faults = liveFaults(part)
	}
	w.Start = startOf(&w)
	names := f.policies
	if slices.Contains(names, "all") {
		names = slices.DeleteFunc(policies.Names(), func(n string) bool { return n == "foresight" })
	}
	var mu sync.Mutex
	share := 0.0
	cfg := live.Config{World: w, Speed: f.speed, Progress: func(s float64) {
		mu.Lock()
		defer mu.Unlock()
		share = s
	}}
	a.log.Info("live run", "trace", t.Name, "events", int64(part.Mean()*part.Duration().Seconds()), "by the clock", (time.Duration(len(names)) * time.Duration(float64(part.Duration())/f.speed)).Round(time.Second).String())
	shown := a.startProgress(func(time.Duration) string {
		mu.Lock()
		defer mu.Unlock()
		return fmt.Sprintf("%s of the trace, live", bar(int64(share*1000), 1000, 20))
	})
	rows, err := live.Compare(ctx, &cfg, names, first.Draw(0, time.Second))
	shown.finish()
	if err != nil {
		return err
	}
	if f.output == "json" {
		return writeJSON(a.Stdout, rows)
	}
	return live.WriteTable(a.Stdout, &cfg, rows)
}

// liveFaults are one of each kind, a quarter of the run apart.
func liveFaults(t *trace.Trace) []simulate.Fault {
	d := t.Duration()
	return []simulate.Fault{
		{Kind: simulate.Spike, At: d / 4, Duration: 2 * time.Minute, Size: 10},
		{Kind: simulate.WorkerLoss, At: d / 2, Size: 3},
		{Kind: simulate.BrokerPause, At: d * 3 / 4, Duration: time.Minute},
	}
}

// startOf is how many workers the first minutes need.
func startOf(w *simulate.World) int {
	n, sum := min(len(w.Arrivals.Counts), 300), 0.0
	for _, c := range w.Arrivals.Counts[:n] {
		if c > 0 {
			sum += c
		}
	}
	rate := sum / max(1, float64(n)*w.Arrivals.Step.Seconds())
	return min(w.Objective.Max, max(w.Objective.Min, 1+int(rate/w.Capacity.Rate(0))))
}
