package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/console"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/orchestrator/actuator"
	"github.com/freshet-io/freshet/pipeline"
)

type runFlags struct {
	listenFlags
	untilIdle bool
	newEmpty  bool
	print     bool
	output    string
}

// runSummary is what a run did.
type runSummary struct {
	Pipeline    string            `json:"pipeline"`
	Events      uint64            `json:"events"`
	Predictions uint64            `json:"predictions"`
	DeadLetters map[string]uint64 `json:"dead_letters"`
	// Late counts events that came later than allowed; LatePolicy says what became of them.
	Late       uint64 `json:"late"`
	LatePolicy string `json:"late_policy"`
	// Filled counts rows that resampling made in gaps.
	Filled    uint64                   `json:"filled_rows"`
	Lookups   map[string]lookupSummary `json:"lookups,omitempty"`
	Routes    map[string]uint64        `json:"routes"`
	Seconds   float64                  `json:"seconds"`
	PerSecond float64                  `json:"events_per_second"`
	Freshness map[string]float64       `json:"freshness_seconds"`
	Arrival   map[string]float64       `json:"arrival_to_publish_seconds"`
}

// lookupSummary counts the rows that were looked up in a table.
type lookupSummary struct {
	Found   uint64 `json:"found"`
	Missing uint64 `json:"missing"`
	Failed  uint64 `json:"failed"`
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run PIPELINE",
		Short: "Run a pipeline on the topics of the data folder, or of a broker",
		Long: `Run a pipeline: events of its source topic become results on its output topics, or
dead letters. It runs until interrupted, or with --until-idle until every event has
been processed. The first Ctrl-C (or SIGTERM) stops the source and finishes what is
under way; a second one stops at once. Either way nothing is lost and nothing is
published twice: the next run goes on where this one stopped.

While it runs, the HTTP API takes events (POST /topics/TOPIC), streams topics (GET
/topics/TOPIC) and shows health (/livez, /readyz) and metrics (/metrics).

` + listenHelp,
		Example: `  freshet run pipeline.yaml
  freshet run pipeline.yaml --until-idle --listen off --output json
  freshet run pipeline.yaml --broker kafka://localhost:9092`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.run(cmd.Context(), args[0], f) },
	}
	p := cmd.Flags()
	f.add(p)
	p.BoolVar(&f.untilIdle, "until-idle", false, "end when every event of the source has been processed")
	p.BoolVar(&f.newEmpty, "new-windows-empty", false, "after a change of the pipeline: windows whose old state cannot be kept begin empty")
	p.BoolVar(&f.print, "print-config", false, "print what the run would work with, without secrets, and end")
	outputFlag(p, &f.output, "text", "json")
	return cmd
}

func (a *app) run(ctx context.Context, file string, f runFlags) (err error) {
	if err := checkOutput(f.output, "text", "json"); err != nil {
		return err
	}
	plan, faults := a.plan(file)
	if err := pipeline.Error(faults); err != nil {
		return err
	}
	if f.print {
		return errors.Join(a.printConfig(plan), plan.Close())
	}
	envelope, err := sourceEnvelope(plan)
	if err != nil {
		return errors.Join(err, plan.Close())
	}
	l, err := a.listen(ctx, f.listenFlags)
	if err != nil {
		return errors.Join(err, plan.Close())
	}
	b, err := a.ownBroker(ctx, l.url())
	if err != nil {
		return errors.Join(err, l.close(), plan.Close())
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	deps := builtin.PipelineDeps(b, a.log, filepath.Join(a.data, "local-state"))
	deps.Envelope = envelope
	library := a.lineageLibrary(b, plan.Spec)
	defer func() { err = errors.Join(err, library.Close()) }()
	deps.Records = func(ctx context.Context) (lineage.Records, error) { return library.Records(ctx, plan.Spec.Name) }
	p, err := pipeline.New(plan, deps)
	if err != nil {
		return errors.Join(err, l.close(), plan.Close())
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(console.NewCollector(p))
	o := a.consoleOptions(b)
	o.Lineage = library.Records
	held := builtin.HoldCapacity(p)
	defer func() { err = errors.Join(err, held.Close()) }()
	o.Capacity = func(name string) (actuator.Driver, error) {
		if name != plan.Spec.Name {
			return nil, errkind.Errorf(errkind.NotFound, "this process runs the pipeline %s, not %s", plan.Spec.Name, name)
		}
		return held, nil
	}
	o.Metrics, o.Envelope = registry, envelope
	o.Ready = func() error {
		if !p.Ready() {
			return errors.New("the pipeline has not joined its source yet")
		}
		return nil
	}
	if l != nil {
		a.log.Info("listening", "address", l.url(), "pipeline", plan.Spec.Name, "broker", a.where())
	}
	start := a.Now()
	bar := a.startProgress(func(elapsed time.Duration) string { return runProgress(ctx, p, elapsed) })
	err = serveAndRun(ctx, l, o, func(ctx context.Context) error {
		return p.Run(ctx, pipeline.RunOptions{UntilIdle: f.untilIdle, NewWindowsEmpty: f.newEmpty})
	})
	bar.finish()
	if err != nil {
		return err
	}
	return a.runSummary(p.Stats(), a.Now().Sub(start), f.output)
}

// serveAndRun serves HTTP while run runs. When run ends the server is stopped;
// when the server fails run is told to drain.
func serveAndRun(ctx context.Context, l *listener, o console.Options, run func(context.Context) error) error {
	running, stopRunning := context.WithCancel(ctx)
	defer stopRunning()
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()
	served := make(chan error, 1)
	go func() {
		served <- l.serve(serving, o)
		stopRunning()
	}()
	err := run(running)
	stopServing()
	return errors.Join(err, <-served)
}

// sourceEnvelope returns what finds id and key in plain events posted to the source topic.
func sourceEnvelope(plan *pipeline.Plan) (func(topic string) func([]byte) (id, key []byte), error) {
	src := plan.Spec.Source
	s, err := contractShape(plan.Contract.Name, src.ID, src.Key)
	if err != nil {
		return nil, err
	}
	find := func(payload []byte) (id, key []byte) {
		id, key, _ = s.envelope(payload)
		return id, key
	}
	return func(topic string) func([]byte) (id, key []byte) {
		if topic != src.Topic {
			return nil
		}
		return find
	}, nil
}

func runProgress(ctx context.Context, p *pipeline.Pipeline, elapsed time.Duration) string {
	s := p.Stats()
	lag := broker.Lag{}
	if p.Ready() {
		lag, _ = p.Lag(ctx) // a progress line without it is no failure
	}
	return progressLine(s, lag, elapsed)
}

// progressLine is the state of a run. Its lag is that of all stages.
func progressLine(s pipeline.Stats, lag broker.Lag, elapsed time.Duration) string {
	late := ""
	if s.Late > 0 {
		late = fmt.Sprintf("  %s late", group(int64(s.Late)))
	}
	oldest := ""
	if lag.Records > 0 {
		oldest = ", the oldest " + short(int64(lag.OldestAge))
	}
	return fmt.Sprintf("%s events  %s events/s  %s predictions  %s dead letters%s  freshness p99 %s  lag %s%s",
		group(int64(s.Consumed)), group(int64(perSecond(int64(s.Consumed), elapsed))), group(int64(s.Predictions)),
		group(int64(s.Letters())), late, short(s.SinceArrival.Quantile(0.99)), group(lag.Records), oldest)
}

func (a *app) runSummary(s pipeline.Stats, elapsed time.Duration, output string) error {
	if output == "json" {
		quantiles := func(q func(float64) int64) map[string]float64 {
			return map[string]float64{"p50": float64(q(0.5)) / 1e9, "p99": float64(q(0.99)) / 1e9, "p999": float64(q(0.999)) / 1e9}
		}
		lookups := map[string]lookupSummary{}
		for _, t := range s.Tables {
			lookups[t.Name] = lookupSummary{t.Found, t.Missing, t.Failed}
		}
		return writeJSON(a.Stdout, runSummary{
			Pipeline: s.Name, Events: s.Consumed, Predictions: s.Predictions, DeadLetters: s.DeadLetters, Routes: s.Routes,
			Late: s.Late, LatePolicy: s.LatePolicy.String(), Filled: s.Filled, Lookups: lookups,
			Seconds: elapsed.Seconds(), PerSecond: perSecond(int64(s.Consumed), elapsed),
			Freshness: quantiles(s.Freshness.Quantile), Arrival: quantiles(s.SinceArrival.Quantile),
		})
	}
	if _, err := fmt.Fprintln(a.Stdout, summaryLine(s, elapsed)); err != nil {
		return errkind.Errorf(errkind.Permanent, "write output: %w", err)
	}
	return nil
}

// summaryLine is what a run did. What did not happen, and need not, is left out.
func summaryLine(s pipeline.Stats, elapsed time.Duration) string {
	f := demoFrame{stats: s}
	letters := ""
	if r := f.reasons(); r != "" {
		letters = " (" + r + ")"
	}
	more := ""
	if s.Filled > 0 {
		more += fmt.Sprintf(", %s rows filled", group(int64(s.Filled)))
	}
	switch { // late events that are dead letters stand among those
	case s.Late > 0 && s.LatePolicy == pipeline.LateScore:
		more += fmt.Sprintf(", %s late (scored)", group(int64(s.Late)))
	case s.Late > 0 && s.LatePolicy == pipeline.LateDrop:
		more += fmt.Sprintf(", %s late (dropped)", group(int64(s.Late)))
	}
	for _, t := range s.Tables {
		if t.Failed > 0 {
			more += fmt.Sprintf(", %s look-ups in %s failed", group(int64(t.Failed)), t.Name)
		}
	}
	return fmt.Sprintf("%s: %s events, %s predictions, %s dead letters%s%s in %.1f s, %s events/s",
		s.Name, group(int64(s.Consumed)), group(int64(s.Predictions)), group(int64(s.Letters())), letters, more,
		elapsed.Seconds(), group(int64(perSecond(int64(s.Consumed), elapsed))))
}
