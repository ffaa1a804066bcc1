package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// DedupWindow is how long a source topic that the pipeline makes remembers the
// ids of its events.
const DedupWindow = 10 * time.Minute

// Deps is what a pipeline is given to run with.
type Deps struct {
	// Broker carries its topics; it stays the caller's to close.
	Broker *broker.Broker
	// Logger takes what an operator may want to read; nil discards.
	Logger *slog.Logger
}

// Pipeline is a plan at work. Run may be called once.
type Pipeline struct {
	plan   *Plan
	broker *broker.Broker
	log    *slog.Logger
	model  *inference.Model // nil without an infer step
	topics []string
	// partitions is the number of the source's partitions, set when Run begins.
	partitions int
	ready      atomic.Bool
	// frameEvents is fetchMax and cycle is cycleBytes, smaller in tests.
	frameEvents int
	cycle       int64
	began       time.Time

	counters counters
}

// New prepares a pipeline. It takes the plan over: Run, or Close where Run is
// never called, releases the model. A broker without transactions or topic
// administration is Unsupported.
func New(plan *Plan, d Deps) (*Pipeline, error) {
	caps := d.Broker.Capabilities()
	if !caps.Transactions || !caps.Admin {
		return nil, errkind.New(errkind.Unsupported, "pipelines need a broker with transactions: use the journal")
	}
	p := &Pipeline{plan: plan, broker: d.Broker, log: d.Logger, topics: plan.Spec.topics(), began: time.Now(), frameEvents: fetchMax, cycle: cycleBytes}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.counters.reasons = map[string]uint64{}
	p.counters.keys, p.counters.bytes = map[int]int64{}, map[int]int64{}
	p.counters.routes = make([]atomic.Uint64, len(plan.routes))
	if plan.infer != nil {
		cfg := inference.Config{MaxBatch: plan.infer.spec.MaxBatch}
		if plan.infer.spec.Throughput {
			cfg.Prefer = inference.Throughput
		}
		p.model = inference.New(plan.Model, cfg)
	}
	return p, nil
}

// Close releases the model of a pipeline that is not run.
func (p *Pipeline) Close() error {
	if p.model == nil {
		return nil
	}
	return p.model.Close()
}

// RunOptions says how long to run.
type RunOptions struct {
	// UntilIdle ends the run when every event on the source topic is processed and committed.
	UntilIdle bool
}

// Ready reports whether the pipeline has joined its source and takes events.
func (p *Pipeline) Ready() bool { return p.ready.Load() }

// Run processes events until ctx is done, the source is idle (with UntilIdle),
// or an error occurs that does not pass. It then stops from the source on: no
// more events are fetched, those in progress are scored, committed and counted,
// and the model is closed.
func (p *Pipeline) Run(ctx context.Context, o RunOptions) (err error) {
	defer func() {
		if cerr := p.Close(); cerr != nil && err == nil {
			err = cerr
		}
	}()
	if err := p.ensureTopics(ctx); err != nil {
		return err
	}
	spec := p.plan.Spec
	consumer, err := p.broker.Subscribe(ctx, broker.Subscription{Topic: spec.Source.Topic, Group: spec.Group()})
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", spec.Source.Topic, err)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var tasks sync.WaitGroup
	if o.UntilIdle {
		tasks.Go(func() {
			if err := p.awaitIdle(ctx); err != nil {
				stop(err)
			}
		})
	}
	p.ready.Store(true)
	err = p.claims(ctx, consumer, &tasks, stop)
	p.ready.Store(false)
	stop(err)
	tasks.Wait()
	if cerr := consumer.Close(); cerr != nil && err == nil {
		err = cerr
	}
	// The cause is what ended the run first; the caller's own cancellation is no error.
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) && !errors.Is(cause, errIdle) {
		return cause
	}
	return quiet(err)
}

// errIdle ends a run whose source has nothing left.
var errIdle = errors.New("idle")

// claims starts a task for each partition that the group hands over.
func (p *Pipeline) claims(ctx context.Context, consumer broker.Consumer, tasks *sync.WaitGroup, stop context.CancelCauseFunc) error {
	for {
		claim, err := consumer.Claim(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("claim a partition: %w", err)
		}
		t, err := p.newTask(claim)
		if err != nil {
			return err
		}
		tasks.Go(func() {
			err := t.run(ctx)
			if rerr := claim.Release(); rerr != nil && err == nil {
				err = quiet(rerr)
			}
			if err != nil {
				stop(err)
			}
		})
	}
}

// ensureTopics makes the topics that are missing.
func (p *Pipeline) ensureTopics(ctx context.Context) error {
	spec := p.plan.Spec
	src, err := p.ensure(ctx, broker.TopicConfig{Name: spec.Source.Topic, Partitions: spec.Source.Partitions, DedupWindow: DedupWindow})
	if err != nil {
		return err
	}
	p.partitions = len(src.Partitions)
	for _, t := range p.topics {
		c := broker.TopicConfig{Name: t, Partitions: defaultParts}
		for _, o := range spec.Outputs {
			if o.Topic == t {
				c.Partitions, c.Retention = o.Partitions, o.Retention
			}
		}
		if _, err := p.ensure(ctx, c); err != nil {
			return err
		}
	}
	if _, err := p.ensure(ctx, broker.TopicConfig{Name: spec.DeadLetters(), Partitions: 1}); err != nil {
		return err
	}
	for _, s := range p.plan.front {
		if _, ok := s.(*windowsPlan); ok {
			st, err := p.ensure(ctx, broker.TopicConfig{Name: spec.StateTopic(), Partitions: p.partitions})
			if err == nil && len(st.Partitions) != p.partitions {
				err = errkind.Errorf(errkind.Config, "the source %s has %d partitions and the state topic %s has %d: delete the state topic to begin with empty windows",
					spec.Source.Topic, p.partitions, spec.StateTopic(), len(st.Partitions))
			}
			return err
		}
	}
	return nil
}

// ensure makes a topic unless it is there, with whatever partitions it has.
func (p *Pipeline) ensure(ctx context.Context, c broker.TopicConfig) (broker.Topic, error) {
	t, err := p.broker.Describe(ctx, c.Name, "")
	if errkind.Is(err, errkind.NotFound) {
		if err = p.broker.CreateTopic(ctx, c); err == nil {
			t, err = p.broker.Describe(ctx, c.Name, "")
		}
	}
	if err != nil {
		return t, fmt.Errorf("ensure topic %s: %w", c.Name, err)
	}
	return t, nil
}

// idlePoll is how often an UntilIdle run looks whether anything is left.
const idlePoll = 25 * time.Millisecond

// awaitIdle returns errIdle when the group has committed up to the end of every partition.
func (p *Pipeline) awaitIdle(ctx context.Context) error {
	spec := p.plan.Spec
	tick := time.NewTicker(idlePoll)
	defer tick.Stop()
	for {
		t, err := p.broker.Describe(ctx, spec.Source.Topic, spec.Group())
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("look whether the source is idle: %w", err)
		}
		idle := true
		for _, part := range t.Partitions {
			idle = idle && max(part.Committed, part.Start) >= part.End
		}
		if idle {
			return errIdle
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Lag is how far the pipeline is behind its source.
func (p *Pipeline) Lag(ctx context.Context) (broker.Lag, error) {
	total, _, err := p.broker.Lag(ctx, p.plan.Spec.Source.Topic, p.plan.Spec.Group())
	return total, err
}
