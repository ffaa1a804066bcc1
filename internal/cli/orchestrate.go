package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
	"github.com/freshet-io/freshet/pipeline"
)

// orchestrateFlags are the flags of `orchestrate`.
type orchestrateFlags struct {
	pipeline, mode, observe, act string
	policy, objective, service   string
	period, startUp, stop, ttl   time.Duration
	min, max, batch, maxBatch    int
	partitions                   int
	cost, ceiling                float64
	tiers                        []string
	leave                        bool
	speed, busy                  float64
	seed                         uint64
	output                       string

	unit       string
	batchGiven bool
	capacity   orchestrator.Capacity
	goal       orchestrator.Objective
	places     []orchestrator.Tier
}

func (a *app) orchestrateCommand() *cobra.Command {
	var f orchestrateFlags
	cmd := &cobra.Command{
		Use:   "orchestrate",
		Short: "Keep a pipeline fresh at the least cost: forecast, decide, act, explain",
		Long: `Keep a pipeline's freshness objective with the fewest workers: signals are taken every few
seconds, arrivals are forecast, a plan is made for the next minutes, and what it
orders now is bounded by rails, written to a journal in the data folder, and carried out.
It runs until interrupted, and then takes back what it ordered, unless --leave is given.

--mode observe only writes the journal; advise prints what it would order as well; act
orders it. Orders expire unless they are renewed: when this process dies, what scaled the
pipeline before scales it again.

--observe says where signals come from:
  http://HOST:PORT[,HOST:PORT]   processes of freshet run
  prometheus+http://HOST:PORT    a Prometheus server that scrapes them
  trace:FILE, trace:demo         simulated workers on recorded or made-up arrivals: nothing
                                 needs to be installed or running
--act says what carries orders out:
  http://HOST:PORT               calls at a time and batches of a running freshet
  kubernetes://NAMESPACE/deployments/NAME
                                 the replicas of a workload
  keda://NAMESPACE/NAME          the least replicas of a ScaledObject; KEDA goes on above it
  external-scaler://HOST:PORT    KEDA's external scaler: KEDA asks here, and other triggers
                                 go on beside it`,
		Example: `  freshet orchestrate --observe trace:demo --mode act
  freshet orchestrate --pipeline pipeline.yaml --observe http://localhost:8080 --mode advise
  freshet orchestrate --pipeline pipeline.yaml --mode act --max 40 --observe prometheus+http://prometheus:9090 --act keda://default/scorer
  freshet orchestrate explain --costliest 3`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.observe == "" {
				return usagef("orchestrate needs --observe URL; --observe trace:demo tries it out with nothing installed")
			}
			f.batchGiven = cmd.Flags().Changed("batch")
			return a.orchestrate(cmd.Context(), &f)
		},
	}
	f.add(cmd.Flags())
	cmd.AddCommand(a.orchestrateJournalCommands()...)
	return cmd
}

func (f *orchestrateFlags) add(p *pflag.FlagSet) {
	p.StringVar(&f.pipeline, "pipeline", "", "the pipeline's file, which has its name and objective, or its name")
	p.StringVar(&f.mode, "mode", "observe", "what becomes of decisions: observe, advise or act")
	p.StringVar(&f.observe, "observe", "", "URL that signals come from")
	p.StringVar(&f.act, "act", "", "URL of what carries orders out; in the other modes it is only read")
	p.StringVar(&f.policy, "policy", "horizon", "who decides: "+policyNames()+"; settings as in hpa:target=0.5,sync=15s")
	p.StringVar(&f.objective, "objective", "", "freshness objective such as 30s@0.99; the default is the pipeline's, and then 30s@0.99")
	p.DurationVar(&f.period, "period", 0, "how often is decided; 0s is the policy's own")
	p.IntVar(&f.min, "min", 1, "fewest workers")
	p.IntVar(&f.max, "max", 10, "most workers")
	p.DurationVar(&f.startUp, "start-up", time.Minute, "time from an order to a ready worker, until more is known")
	p.DurationVar(&f.stop, "stop", 10*time.Second, "time from an order to the end of what a worker costs")
	p.StringVar(&f.service, "service", "20ms+2ms", "time of a model call, overhead + time per event, until more is known")
	p.IntVar(&f.batch, "batch", 64, "most events in a call; without the flag it is what --act works with, where that is known")
	p.IntVar(&f.maxBatch, "max-batch", 0, "most events in a call that may be ordered; 0 is --batch")
	p.IntVar(&f.partitions, "partitions", 0, "partitions of the source where each belongs to one worker at a time; 0 where workers share one queue")
	p.Float64Var(&f.cost, "cost", 1, "price of a worker for a second, in any currency")
	p.Float64Var(&f.ceiling, "ceiling", 0, "most that workers may cost an hour; 0 is no ceiling")
	p.StringArrayVar(&f.tiers, "tier", nil, "where events may go when capacity cannot be there in time: NAME:rate=100,cost=0.01,penalty=0.1,latency=50ms; may be repeated")
	p.DurationVar(&f.ttl, "ttl", 0, "how long orders last unless they are renewed; 0s is three periods, at least 1m")
	p.BoolVar(&f.leave, "leave", false, "leave the orders at the end, until they expire")
	p.Float64Var(&f.speed, "speed", 0, "for trace: seconds of the trace in one second; 0 is as fast as possible")
	p.Float64Var(&f.busy, "busy", 0, "for trace: scale the arrivals so that on the mean so many workers are busy; 0 leaves a file's, and is 6 for trace:demo")
	p.Uint64Var(&f.seed, "seed", 1, "for trace: seed of what is random")
	outputFlag(p, &f.output, "text", "json")
}

// check reads what the flags say together.
func (f *orchestrateFlags) check(a *app) error {
	if err := checkOutput(f.output, "text", "json"); err != nil {
		return err
	}
	if _, err := orchestrator.ParseMode(f.mode); err != nil {
		return usagef("--%w", err)
	}
	switch {
	case f.min < 0 || f.max < 1 || f.max < f.min:
		return usagef("--min %d --max %d: expected 0 ≤ min ≤ max, and a worker at least", f.min, f.max)
	case f.cost < 0 || f.ceiling < 0:
		return usagef("--cost %g --ceiling %g: expected 0 or more", f.cost, f.ceiling)
	case f.batch < 1 || f.maxBatch < 0 || f.partitions < 0:
		return usagef("--batch %d --max-batch %d --partitions %d: expected a batch of at least 1, and nothing negative", f.batch, f.maxBatch, f.partitions)
	case f.startUp < 0 || f.stop < 0 || f.period < 0 || f.ttl < 0:
		return usagef("--start-up, --stop, --period and --ttl: expected 0 or longer")
	case f.period > 0 && f.period < 100*time.Millisecond:
		return usagef("--period %s: expected 100ms or longer", f.period)
	case !(f.speed >= 0) || !(f.busy >= 0):
		return usagef("--speed %g --busy %g: expected 0 or more", f.speed, f.busy)
	}
	f.goal = orchestrator.Objective{Target: 30 * time.Second, Quantile: 0.99, Ceiling: f.ceiling, Min: f.min, Max: f.max}
	if err := f.readPipeline(a); err != nil {
		return err
	}
	if f.objective != "" {
		var err error
		if f.goal.Target, f.goal.Quantile, err = parseObjective("--objective", f.objective); err != nil {
			return err
		}
	}
	overhead, perEvent, err := parseService(f.service)
	if err != nil {
		return err
	}
	f.capacity = orchestrator.Capacity{
		Overhead: overhead, PerEvent: perEvent, Batch: f.batch, MaxBatch: max(f.batch, f.maxBatch), StartUp: f.startUp, Stop: f.stop, Cost: f.cost, Partitions: f.partitions,
	}
	f.places, err = parseTiers(f.tiers)
	return err
}

// readPipeline finds the name of what is scaled, and its objective where it is a file.
func (f *orchestrateFlags) readPipeline(a *app) error {
	if f.pipeline == "" {
		return nil
	}
	f.unit = f.pipeline
	if _, err := os.Stat(f.pipeline); err != nil {
		if strings.ContainsAny(f.pipeline, `/\`) || strings.HasSuffix(f.pipeline, ".yaml") || strings.HasSuffix(f.pipeline, ".yml") {
			return usagef("--pipeline: %w", err)
		}
		return nil
	}
	spec, faults := pipeline.Load(f.pipeline, a.lookupEnv)
	if err := pipeline.Error(faults); err != nil {
		return err
	}
	f.unit, f.goal.Target, f.goal.Quantile = spec.Name, spec.Freshness.Target, spec.Freshness.Quantile
	return nil
}

// parseService reads 20ms+2ms, or 2ms.
func parseService(text string) (overhead, perEvent float64, err error) {
	first, second, both := strings.Cut(text, "+")
	if !both {
		first, second = "0s", text
	}
	o, oerr := time.ParseDuration(strings.TrimSpace(first))
	e, eerr := time.ParseDuration(strings.TrimSpace(second))
	if oerr != nil || eerr != nil || o < 0 || e < 0 || o+e <= 0 {
		return 0, 0, usagef("--service %q: expected OVERHEAD+PER-EVENT such as 20ms+2ms", text)
	}
	return o.Seconds(), e.Seconds(), nil
}

// parseTiers reads NAME:rate=R,cost=C,penalty=P,latency=D.
func parseTiers(texts []string) ([]orchestrator.Tier, error) {
	var tiers []orchestrator.Tier
	for _, text := range texts {
		name, list, _ := strings.Cut(text, ":")
		t := orchestrator.Tier{Name: name}
		if name == "" {
			return nil, usagef("--tier %q: expected NAME:rate=100,cost=0.01", text)
		}
		for _, part := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
			key, value, _ := strings.Cut(part, "=")
			var err error
			switch key {
			case "rate":
				t.Rate, err = strconv.ParseFloat(value, 64)
			case "cost":
				t.Cost, err = strconv.ParseFloat(value, 64)
			case "penalty":
				t.Penalty, err = strconv.ParseFloat(value, 64)
			case "latency":
				t.Latency, err = time.ParseDuration(value)
			default:
				err = errors.New("the settings of a tier are rate, cost, penalty and latency")
			}
			if err != nil || !(t.Rate >= 0) || !(t.Cost >= 0) || !(t.Penalty >= 0) || t.Latency < 0 {
				return nil, usagef("--tier %q: %q: expected a number of at least 0, or a duration for latency", text, part)
			}
		}
		tiers = append(tiers, t)
	}
	return tiers, nil
}

func (a *app) orchestrate(ctx context.Context, f *orchestrateFlags) error {
	if err := f.check(a); err != nil {
		return err
	}
	if source, ok := strings.CutPrefix(f.observe, "trace:"); ok {
		return a.orchestrateTrace(ctx, f, source)
	}
	if f.unit == "" {
		return usagef("orchestrate needs --pipeline: the name of what is scaled, or the pipeline's file")
	}
	if f.mode == string(orchestrator.ModeAct) && f.act == "" {
		return usagef("--mode act needs --act URL")
	}
	return a.orchestrateLive(ctx, f)
}

// orchestrateLive runs the loop against the world.
func (a *app) orchestrateLive(ctx context.Context, f *orchestrateFlags) (err error) {
	options := builtin.OrchestratorOptions{Logger: a.log, Env: a.lookupEnv, Pipeline: f.unit, Quantile: f.goal.Quantile}
	observer, err := builtin.OpenObserver(ctx, f.observe, options)
	if err != nil {
		return err
	}
	o := orchestrator.LoopOptions{
		Unit: f.unit, Mode: orchestrator.Mode(f.mode), Observer: observer, Objective: f.goal, Capacity: f.capacity,
		TTL: f.ttl, Leave: f.leave, Now: a.Now, Logger: a.log,
	}
	if f.act != "" {
		unit, err := a.openActuator(ctx, f.act, options)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, unit.Close()) }()
		if f.mode == string(orchestrator.ModeAct) {
			if _, err := unit.Resume(ctx); err != nil {
				return fmt.Errorf("take up earlier orders: %w", err)
			}
		}
		st, err := unit.Status(ctx)
		if err != nil {
			return fmt.Errorf("look at what is scaled: %w", err)
		}
		if st.Batch > 0 && !f.batchGiven { // what it works with is better known there
			f.capacity.Batch = st.Batch
			f.capacity.MaxBatch = max(f.capacity.MaxBatch, st.Batch)
			o.Capacity = f.capacity
		}
		o.Actuator = unit
	}
	if o.Pilot, err = f.openPilot(f.capacity, a.decisions(f.unit)); err != nil {
		return err
	}
	journal, err := orchestrator.OpenJournal(a.decisions(f.unit), orchestrator.JournalOptions{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	o.Journal = journal
	p := roundPrinter{a: a, output: f.output}
	o.Seen = p.print
	loop, err := orchestrator.NewLoop(o)
	if err != nil {
		return err
	}
	a.log.Info("orchestrating", "pipeline", f.unit, "mode", f.mode, "policy", o.Pilot.Name(), "period", o.Pilot.Period(), "journal", a.decisions(f.unit))
	return errors.Join(loop.Run(ctx), p.err)
}

// openActuator opens an actuator, and waits a little where it cannot be reached.
func (a *app) openActuator(ctx context.Context, url string, o builtin.OrchestratorOptions) (*actuator.Unit, error) {
	began := a.Now()
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		u, err := builtin.OpenActuator(ctx, url, o)
		if err == nil || !errkind.Of(err).Retryable() || a.Now().Sub(began) > cmp.Or(a.brokerWait, commandPatience) || !wait(ctx, pause) {
			return u, err
		}
	}
}

// decisions is the folder of the journal of a unit.
func (a *app) decisions(unit string) string {
	return filepath.Join(a.data, "orchestrator", fileName(unit))
}

// fileName makes a name one of a folder.
func fileName(name string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
			return r
		}
		return '_'
	}, name)
	if strings.Trim(clean, ".") == "" {
		return "_" + clean
	}
	return clean
}

// roundPrinter prints rounds as they come: as text those that change something.
type roundPrinter struct {
	a      *app
	output string
	last   orchestrator.Orders
	begun  bool
	err    error
}

func (p *roundPrinter) print(e *orchestrator.Entry) {
	if p.err != nil {
		return
	}
	if p.output == "json" {
		_, p.err = p.a.Stdout.Write(append(orchestrator.EncodeEntry(e), '\n'))
		return
	}
	after := e.After
	after.Changed = time.Time{}
	if p.begun && after == p.last {
		return
	}
	p.begun, p.last = true, after
	verb := "would be"
	switch {
	case e.Held != "":
		verb = "held"
	case e.Carried():
		verb = "ordered"
	case e.Act != nil:
		verb = "refused"
	}
	s := &e.Round.Signals
	var seen []string
	if s.Known.Has(orchestrator.KnownArrivals) {
		seen = append(seen, fmt.Sprintf("%.4g events/s", s.Arrivals))
	}
	if s.Known.Has(orchestrator.KnownOldest) {
		seen = append(seen, fmt.Sprintf("oldest %s", s.Oldest.Round(100*time.Millisecond)))
	}
	batch := ""
	if after.Batch > 0 {
		batch = fmt.Sprintf(", %d a call", after.Batch)
	}
	if after.Route.Share > 0 {
		batch += fmt.Sprintf(", %s to %s", shareText(after.Route.Share), after.Route.To)
	}
	_, err := fmt.Fprintf(p.a.Stdout, "%s  %-8s %3d → %d workers%s  (%s)\n", e.Time.UTC().Format("2006-01-02 15:04:05"), verb,
		e.Before.Workers, after.Workers, batch, strings.Join(seen, ", "))
	p.err = err
}
