package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/state"
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
	// OpenLookup opens the tables that are on servers; nil where the plan has none.
	OpenLookup LookupOpener
	// OpenObjects opens the store of checkpoints; nil where the plan names none.
	OpenObjects ObjectsOpener
	// OpenReceiver and OpenSender open queues and buses; nil where the plan names none.
	OpenReceiver ReceiverOpener
	OpenSender   SenderOpener
	// Envelope gives what finds id and key in messages for a topic; nil where messages bring their own.
	Envelope func(topic string) func(payload []byte) (id, key []byte)
	// OpenStore opens the local store of state; nil where the plan keeps it in memory.
	OpenStore StoreOpener
	// Records finds the predictions that the pipeline has recorded, for labels that come
	// late or after a restart; without it labels find recent predictions only.
	Records func(ctx context.Context) (lineage.Records, error)
}

// Pipeline is a plan at work. Run may be called once.
type Pipeline struct {
	plan   *Plan
	broker *broker.Broker
	log    *slog.Logger
	topics []string
	// partitions is the number of the source's partitions, set when Run begins.
	partitions int
	// partitionKeys select the partitions of internal topics.
	partitionKeys [][]byte
	// labelPartitions is the number of the labels' partitions.
	labelPartitions int
	ready           atomic.Bool
	progress        progress
	deps            Deps
	bridges         atomic.Pointer[bridges] // once Run has opened them
	openLookup      LookupOpener
	tables          map[*lookupPlan]rowSource
	openObjects     ObjectsOpener
	openStore       StoreOpener
	store           *state.Store // of keys that do not fit into memory; nil without
	mayLose         bool
	objects         state.Objects  // of checkpoints; nil where they go to the broker
	closers         []func() error // of tables and stores
	// frameEvents is fetchMax, cycle is cycleBytes, and so on; smaller in tests.
	frameEvents int
	cycle       int64
	laneRows    int
	ahead       ahead
	recalls     []*recall // by infer step; nil where no labels are counted
	quality     *quality  // nil where no step asks for labels
	// labelPatience is the constant; shorter in tests.
	labelPatience time.Duration
	began         time.Time
	capacity      atomic.Pointer[Capacity] // what was ordered; nil: everything

	counters counters
}

// New prepares a pipeline. It takes the plan over: Run, or Close where Run is
// never called, releases the model. A broker without topic administration
// is Unsupported.
func New(plan *Plan, d Deps) (*Pipeline, error) {
	if !d.Broker.Capabilities().Admin {
		return nil, errkind.New(errkind.Unsupported, "pipelines need a broker on which they can make topics")
	}
	p := &Pipeline{deps: d, plan: plan, broker: d.Broker, log: d.Logger, topics: plan.Spec.topics(), began: time.Now(), labelPatience: labelPatience, frameEvents: fetchMax, cycle: cycleBytes, laneRows: laneRows, ahead: ahead{aheadRecords, aheadCheck, aheadPatience}, openLookup: d.OpenLookup, openObjects: d.OpenObjects, openStore: d.OpenStore}
	if plan.series != nil {
		p.frameEvents = plan.series.fetch()
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	p.counters.reasons = map[string]uint64{}
	p.counters.states, p.counters.checkpoints = map[[2]int]stateSize{}, map[[2]int]checkpointed{}
	p.counters.tables = tableCountersOf(plan)
	for _, ip := range plan.infers {
		p.counters.steps = append(p.counters.steps, newStepCounters())
		var m *recall
		if ip.label != "" {
			m = newRecall()
		}
		p.recalls = append(p.recalls, m)
	}
	p.counters.routes = make([]atomic.Uint64, len(plan.routes))
	return p, nil
}

// Close releases the model of a pipeline that is not run.
func (p *Pipeline) Close() (err error) {
	for _, c := range p.closers {
		err = errors.Join(err, c())
	}
	p.closers = nil
	err = errors.Join(err, p.bridges.Load().close())
	return errors.Join(err, p.plan.Close())
}

// RunOptions says how long to run.
type RunOptions struct {
	// UntilIdle ends the run when every event on the source topic is processed and committed.
	UntilIdle bool
	// NewWindowsEmpty lets windows begin empty for which the state of an earlier
	// definition of the pipeline cannot be kept.
	NewWindowsEmpty bool
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
	if err := p.openTables(ctx); err != nil {
		return err
	}
	if err := p.openCheckpoints(ctx); err != nil {
		return err
	}
	if err := p.openSpill(); err != nil {
		return err
	}
	if err := p.openBridges(ctx); err != nil {
		return err
	}
	p.mayLose = o.NewWindowsEmpty
	var consumers []broker.Consumer
	defer func() {
		for _, c := range consumers {
			if cerr := c.Close(); cerr != nil && err == nil {
				err = cerr
			}
		}
	}()
	for _, st := range p.plan.stages {
		c, err := p.broker.Subscribe(ctx, broker.Subscription{Topic: st.topic, Group: p.plan.Spec.Group()})
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", st.topic, err)
		}
		consumers = append(consumers, c)
	}
	if p.quality, err = p.openQuality(ctx); err != nil {
		return err
	}
	if p.quality != nil {
		consumers = append(consumers, p.quality.consumer)
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var tasks, claimers sync.WaitGroup
	if o.UntilIdle {
		tasks.Go(func() {
			if err := p.awaitIdle(ctx); err != nil {
				stop(err)
			}
		})
	}
	p.bridges.Load().run(ctx, &tasks, stop)
	for _, in := range p.plan.infers {
		tasks.Go(func() {
			if err := in.service.Run(ctx); err != nil {
				stop(err)
			}
		})
	}
	if q := p.quality; q != nil {
		tasks.Go(func() {
			if err := q.run(ctx); err != nil {
				stop(err)
			}
		})
	}
	p.ready.Store(true)
	for i, st := range p.plan.stages {
		claimers.Go(func() {
			if err := p.claims(ctx, st, consumers[i], &tasks, stop); err != nil {
				stop(err)
			}
		})
	}
	<-ctx.Done()
	claimers.Wait()
	p.ready.Store(false)
	tasks.Wait()
	// The cause is what ended the run first; the caller's own cancellation is no error.
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) && !errors.Is(cause, errIdle) {
		return quiet(cause)
	}
	return nil
}

// openCheckpoints opens the store that the plan names for checkpoints.
func (p *Pipeline) openCheckpoints(ctx context.Context) (err error) {
	url := p.plan.Spec.State.Checkpoints
	if url == "" {
		return nil
	}
	if p.openObjects == nil {
		return errkind.New(errkind.Unsupported, "state.checkpoints: this program cannot open a store of checkpoints")
	}
	if rest, ok := strings.CutPrefix(url, "file:"); ok && !strings.HasPrefix(rest, "/") {
		abs, err := filepath.Abs(p.plan.Spec.path(rest))
		if err != nil {
			return fmt.Errorf("state.checkpoints: %w", err)
		}
		url = "file://" + abs
	}
	if p.objects, err = p.openObjects(ctx, url); err != nil {
		return fmt.Errorf("state.checkpoints: %w", err)
	}
	p.closers = append(p.closers, p.objects.Close)
	return nil
}

// openSpill opens the local store, where the plan wants one.
func (p *Pipeline) openSpill() (err error) {
	kind := p.plan.Spec.State.Store
	if kind == "" || kind == "memory" {
		return nil
	}
	if p.openStore == nil {
		return errkind.Errorf(errkind.Unsupported, "state.store: this program cannot open %q", kind)
	}
	if p.store, err = p.openStore(kind, p.plan.Spec.Name); err != nil {
		return fmt.Errorf("state.store: %w", err)
	}
	p.closers = append(p.closers, p.store.Close)
	return nil
}

// errIdle ends a run whose source has nothing left.
var errIdle = errors.New("idle")

// claims starts a task for each partition that the group hands over.
func (p *Pipeline) claims(ctx context.Context, st *stagePlan, consumer broker.Consumer, tasks *sync.WaitGroup, stop context.CancelCauseFunc) error {
	ended := map[int]chan struct{}{} // of each partition's last task
	for {
		claim, err := consumer.Claim(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("claim a partition: %w", err)
		}
		t, err := p.newTask(st, claim)
		if err != nil {
			return err
		}
		// A partition that was taken away and comes back finds its former task still
		// at work on what it held, the local store among it.
		before, done := ended[claim.Partition()], make(chan struct{})
		ended[claim.Partition()] = done
		tasks.Go(func() {
			defer close(done)
			if before != nil {
				<-before
			}
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
	for i := range p.partitions {
		p.partitionKeys = append(p.partitionKeys, partitionKey(i, p.partitions))
	}
	for _, t := range p.topics {
		c := broker.TopicConfig{Name: t, Partitions: defaultParts}
		if !p.transactions() {
			c.DedupWindow = DedupWindow // a task that starts again may publish results twice
		}
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
	if !spec.Record.Off {
		c := broker.TopicConfig{Name: spec.Predictions(), Partitions: p.partitions, Retention: spec.Record.Retention}
		if err := p.ensureAs(ctx, c, "the topic of predictions"); err != nil {
			return err
		}
	}
	if l := spec.Labels; l != nil {
		t, err := p.ensure(ctx, broker.TopicConfig{Name: l.Topic, Partitions: l.Partitions, DedupWindow: DedupWindow})
		if err != nil {
			return err
		}
		p.labelPartitions = len(t.Partitions)
	}
	for _, st := range p.plan.stages {
		if st.index > 0 {
			if err := p.ensureEqual(ctx, st.topic, "the topic between two stages"); err != nil {
				return err
			}
		}
		if p.keepsState(st) {
			if err := p.ensureEqual(ctx, st.state, "the state topic"); err != nil {
				return err
			}
		}
	}
	return nil
}

// ensureEqual makes an internal topic, which has the source's partitions.
func (p *Pipeline) ensureEqual(ctx context.Context, topic, what string) error {
	return p.ensureAs(ctx, broker.TopicConfig{Name: topic, Partitions: p.partitions}, what)
}

// ensureAs makes a topic that has to have the partitions of c.
func (p *Pipeline) ensureAs(ctx context.Context, c broker.TopicConfig, what string) error {
	topic := c.Name
	t, err := p.ensure(ctx, c)
	if err == nil && len(t.Partitions) != p.partitions {
		err = errkind.Errorf(errkind.Config, "the source %s has %d partitions and %s %s has %d: delete the pipeline's internal topics to begin with empty windows",
			p.plan.Spec.Source.Topic, p.partitions, what, topic, len(t.Partitions))
	}
	return err
}

// eventAt reads an event again, for its dead letter. Where it is gone from the
// source only its place is known.
func (p *Pipeline) eventAt(o origin) (*event.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	r, err := p.broker.Read(ctx, p.plan.Spec.Source.Topic, int(o.partition), o.position)
	if err != nil {
		return nil, fmt.Errorf("read an event again for its dead letter: %w", err)
	}
	defer r.Close()
	t, err := p.broker.Describe(ctx, p.plan.Spec.Source.Topic, "")
	if err != nil {
		return nil, fmt.Errorf("read an event again for its dead letter: %w", err)
	}
	rec := &event.Record{Position: o.position}
	if part := t.Partitions[o.partition]; o.position < part.Start || o.position >= part.End {
		return rec, nil
	}
	err = p.readTo(ctx, r, o.position, o.position+1, func(batch *broker.Batch) (bool, error) {
		defer batch.Release()
		if batch.Records[0].Position == o.position {
			rec = cloneRecord(&batch.Records[0])
		}
		return false, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read an event again for its dead letter: %w", err)
	}
	return rec, nil
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
		idle := true
		for _, st := range p.plan.stages {
			t, err := p.broker.Describe(ctx, st.topic, spec.Group())
			if err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return fmt.Errorf("look whether the source is idle: %w", err)
			}
			for _, part := range t.Partitions {
				idle = idle && part.Waiting == 0
			}
		}
		if idle {
			var err error
			if idle, err = p.bridges.Load().idle(ctx, p.broker); err != nil && ctx.Err() == nil {
				return fmt.Errorf("look whether the outputs are idle: %w", err)
			}
		}
		if idle {
			var err error
			if idle, err = p.quality.idle(ctx); err != nil && ctx.Err() == nil {
				return fmt.Errorf("look whether the labels are counted: %w", err)
			}
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
