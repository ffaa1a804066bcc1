package live

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/freshet-io/freshet/bench/policies"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// Row is one policy in a comparison: what it did live, and in the simulator's same world.
type Row struct {
	Policy, Setting string
	Live            *Result
	Simulated       *simulate.Result
}

// Compare runs policies one after another, each live and simulated. Those of others are tuned by the
// arrivals of first, in the simulator. What the pipeline itself takes is measured first, and
// written into the world.
func Compare(ctx context.Context, c *Config, names []string, first *trace.Trace) ([]Row, error) {
	if err := c.calibrate(ctx); err != nil {
		return nil, err
	}
	var rows []Row
	for _, name := range names {
		choice, err := policies.Choose(ctx, name, c.World, first)
		if err != nil {
			return nil, err
		}
		row := Row{Policy: name, Setting: choice.Setting}
		pilot, err := choice.Make()
		if err != nil {
			return nil, err
		}
		if row.Simulated, err = simulate.Run(c.World, pilot); err != nil {
			return nil, fmt.Errorf("simulate %s: %w", name, err)
		}
		if pilot, err = choice.Make(); err != nil {
			return nil, err
		}
		if row.Live, err = Run(ctx, *c, pilot); err != nil {
			return nil, fmt.Errorf("run %s: %w", name, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// WriteTable prints the rows, live and simulated under each other.
func WriteTable(w io.Writer, c *Config, rows []Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "POLICY\t\tWORKER-HOURS\tLATE\tMEAN\tP50\tP95\tP99\tBUSY\tACTIONS\tPEAK")
	for _, f := range c.World.Faults {
		fmt.Fprintf(t, "\t%s", f.Kind)
	}
	fmt.Fprintln(t)
	for _, r := range rows {
		line(t, r.Policy, "live", &r.Live.Result)
		line(t, "", "simulated", r.Simulated)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	for _, r := range rows {
		if r.Setting != "" {
			fmt.Fprintf(w, "%s: %s\n", r.Policy, r.Setting)
		}
	}
	fmt.Fprintf(w, "the pipeline, measured before: events reach the model in portions of %v, and spend %v outside of it\n", round(c.World.Linger), round(c.World.Path))
	for _, r := range rows {
		l := r.Live
		_, err := fmt.Fprintf(w, "%s live ÷ simulated: cost %.3f, late %+.2f points, mean freshness %.2f, p99 %.2f; calls took %v and were to take %v; arrivals at most %v and decisions %v behind\n",
			r.Policy, l.Cost/r.Simulated.Cost, 100*(share(&l.Result)-share(r.Simulated)), ratio(l.Mean, r.Simulated.Mean), ratio(l.P99, r.Simulated.P99),
			round(l.Service), round(l.Wanted), round(l.Behind), round(l.Delayed))
		if err != nil {
			return fmt.Errorf("write output: %w", err)
		}
	}
	return nil
}

func line(t io.Writer, policy, how string, r *simulate.Result) {
	fmt.Fprintf(t, "%s\t%s\t%.1f\t%.2f %%\t%v\t%v\t%v\t%v\t%.0f %%\t%d\t%d", policy, how, r.WorkerSeconds/3600, 100*share(r),
		round(r.Mean), round(r.P50), round(r.P95), round(r.P99), 100*r.Busy, r.Actions, r.Peak)
	for _, d := range r.Recovery {
		if d < 0 {
			fmt.Fprint(t, "\tnever")
		} else {
			fmt.Fprintf(t, "\t%v", d.Round(time.Second))
		}
	}
	fmt.Fprintln(t)
}

func share(r *simulate.Result) float64 {
	if r.Events <= 0 {
		return 0
	}
	return r.Late / r.Events
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(max(b, 1)) }

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// calibration is how long the pipeline is measured, by the clock.
const calibration = 10 * time.Second

// ample orders all workers.
type ample int

func (ample) Name() string          { return "ample" }
func (ample) Period() time.Duration { return 15 * time.Second }
func (n ample) Step(time.Time, *orchestrator.Signals, orchestrator.Orders) orchestrator.Decision {
	return orchestrator.Decision{Workers: int(n)}
}

// calibrate measures, at the mean rate and with all workers, in what portions the pipeline hands events to
// its model (Linger) and what time they spend outside of it (Path).
func (c *Config) calibrate(ctx context.Context) error {
	try := *c
	w := &try.World
	w.Faults, w.Start, w.Jitter = nil, w.Objective.Max, 0
	rate := c.World.Arrivals.Mean()
	counts := make([]float64, max(1, int(c.traced(calibration)/w.Arrivals.Step)))
	for i := range counts {
		counts[i] = rate * w.Arrivals.Step.Seconds()
	}
	w.Arrivals = &trace.Trace{Start: w.Arrivals.Start, Step: w.Arrivals.Step, Counts: counts}
	r, err := Run(ctx, try, ample(w.Objective.Max))
	if err != nil {
		return fmt.Errorf("measure the pipeline: %w", err)
	}
	rows := (r.Wanted.Seconds() - w.Capacity.Overhead) / w.Capacity.PerEvent
	linger := rows / rate
	c.World.Linger = seconds(max(0, linger))
	c.World.Path = max(0, r.Mean-r.Wanted-c.World.Linger/2)
	return nil
}
