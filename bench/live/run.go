package live

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/bench/workload"
	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/errkind"
	cardfraud "github.com/freshet-io/freshet/examples/card-fraud"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/pipeline"
)

// Config is a live run. World is in the time of the trace, as the simulator takes it; its
// Capacity must be without partitions, for the tasks of one process share their model.
type Config struct {
	World simulate.World
	// Speed is how many seconds of the trace pass in one by the clock.
	Speed float64
	// Folder takes the journal; it is emptied at the end.
	Folder string
	// Progress, where set, is told now and then how much of the trace has passed.
	Progress func(share float64)
}

// Result is what came of a live run, in the time of the trace.
type Result struct {
	simulate.Result
	// Service is the mean time of a call as it was, and Wanted as it was to be, both for the
	// calls that were made: how well the clock kept the model's pace.
	Service, Wanted time.Duration
	// Behind is the most that arrivals were published after their time.
	Behind time.Duration
	// Delayed is the most that a decision came after its time.
	Delayed time.Duration
}

func (c *Config) validate() error {
	if c.World.Capacity.Partitions != 0 {
		return errkind.New(errkind.Config, "run live: workers in one process share a queue: the world must have no partitions")
	}
	if !(c.Speed > 0) || math.IsInf(c.Speed, 0) {
		return errkind.Errorf(errkind.Config, "run live: a speed of %v, expected more than 0", c.Speed)
	}
	for _, f := range c.World.Faults {
		switch f.Kind {
		case simulate.Spike, simulate.WorkerLoss, simulate.BrokerPause:
		default:
			return errkind.Errorf(errkind.Unsupported, "run live: the fault %s can only be simulated", f.Kind)
		}
	}
	return c.World.Validate()
}

// stage is a pipeline ready to run.
type stage struct {
	gate *gate
	b    *broker.Broker
	p    *pipeline.Pipeline
	down *atomic.Bool
}

// Run plays the world's arrivals through the pipeline under the pilot.
func Run(ctx context.Context, c Config, pilot orchestrator.Pilot) (res *Result, err error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(c.Folder, "freshet-live-")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the journal: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	st, err := c.open(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, st.b.Close()) }()
	gen, err := workload.NewCardFraud(workload.CardFraud{Seed: 1})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- st.p.Run(ctx, pipeline.RunOptions{}); stop() }()
	for !st.p.Ready() && ctx.Err() == nil {
		sleepUntil(ctx, time.Now().Add(time.Millisecond))
	}
	w := &watch{c: &c, st: st, pilot: pilot, start: time.Now(), f: &feeder{
		b: st.b, topic: "transactions", speed: c.Speed, gen: gen, due: cumulative(c.World.Arrivals, c.World.Faults), tick: c.World.Arrivals.Step,
	}}
	fed := make(chan error, 1)
	go func() {
		err := w.f.run(ctx, w.start)
		if err != nil {
			stop()
		}
		fed <- err
	}()
	w.run(ctx)
	ended := ctx.Err() != nil // before its time
	stop()
	err = errors.Join(<-fed, <-ran)
	if err == nil && ended {
		err = errkind.New(errkind.Canceled, "the run was ended before the trace was")
	}
	if err != nil {
		return nil, err
	}
	return w.result(), nil
}

// clock turns a time of the trace into one by the clock.
func (c *Config) clock(d time.Duration) time.Duration { return time.Duration(float64(d) / c.Speed) }

// traced turns a time by the clock into one of the trace.
func (c *Config) traced(d time.Duration) time.Duration { return time.Duration(float64(d) * c.Speed) }

func (c *Config) open(ctx context.Context, dir string) (*stage, error) {
	example := filepath.Join(dir, "example")
	if err := os.CopyFS(example, cardfraud.Files); err != nil {
		return nil, fmt.Errorf("copy the example: %w", err)
	}
	spec, faults := pipeline.Load(filepath.Join(example, "pipeline.yaml"), nil)
	if faults != nil {
		return nil, pipeline.Error(faults)
	}
	capacity := &c.World.Capacity
	down := new(atomic.Bool)
	plan, faults := pipeline.MakePlan(spec, pipeline.Files(func(path string) (inference.Driver, error) {
		m, err := onnx.Load(path, onnx.Options{Instances: c.World.Objective.Max})
		if err != nil {
			return nil, err
		}
		return &paced{
			Model: m, places: c.World.Objective.Max, down: down, debt: new(atomic.Int64),
			overhead: c.clock(seconds(capacity.Overhead)), event: c.clock(seconds(capacity.PerEvent)),
		}, nil
	}))
	if faults != nil {
		return nil, pipeline.Error(faults)
	}
	j, err := journal.Open(filepath.Join(dir, "journal"), journal.Options{})
	if err != nil {
		return nil, errors.Join(err, plan.Close())
	}
	st := &stage{gate: &gate{Journal: j}, down: down}
	st.b = broker.New(st.gate, broker.Options{})
	if st.p, err = pipeline.New(plan, builtin.PipelineDeps(st.b, nil, filepath.Join(dir, "state"))); err != nil {
		return nil, errors.Join(err, plan.Close(), st.b.Close())
	}
	// Payments and results of the run need no keeping.
	if err := st.b.CreateTopic(ctx, broker.TopicConfig{Name: spec.Source.Topic, Partitions: 4}); err != nil {
		return nil, errors.Join(err, st.p.Close(), st.b.Close())
	}
	return st, nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
