package pipeline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

const (
	// fetchMax is the greatest number of events of a frame: few enough that the
	// frame stays in the processor's cache.
	fetchMax = 1024
	// framesInFlight is how many frames a task works on at a time: one in the
	// front, one in the back, the others being committed together or waiting.
	framesInFlight = 8
)

// task runs one stage of the plan on one claimed partition.
type task struct {
	p     *Pipeline
	stage *stagePlan
	claim broker.Claim
	log   *slog.Logger

	intake       intake
	labelDecoder *contract.Decoder // nil where the stage has no labels
	labelRule    contract.TimeRule
	front        []frameStep
	series       *seriesStep // nil without a resample step
	seen         *seenStep   // nil where repeats of the source are not looked for
	groups       []stateStep
	changelog    *changelog  // nil where the stage has no state
	checkpoint   *checkpoint // nil without a store of checkpoints
	// back are the parts behind the front: one for each model, or a single one.
	back []*part
	// Of the last stage.
	results  *results
	recorder *recorder // nil where no records are kept
	routed   []uint64  // rows by route
	// Of the others.
	shuffle    *shuffle
	frameCount int

	letters      *letters
	labelLetters *letters // nil where the stage has no labels

	free  chan *frame // to the front
	ready chan *frame // from the back to the committer

	frames    []*frame // of the commit in hand
	tx        broker.Tx
	stepwise  stepwise // commits of brokers without transactions
	position  int64    // committed last
	stateEnd  int64    // end of the state topic as this task left it; without transactions
	places    places
	untrimmed int // commits since the stage's topic was trimmed
}

func (p *Pipeline) newTask(st *stagePlan, claim broker.Claim) (*task, error) {
	t := &task{
		p: p, stage: st, claim: claim, log: p.log.With("partition", claim.Partition()),
		free: make(chan *frame, framesInFlight), ready: make(chan *frame, framesInFlight),
	}
	plan := p.plan
	if st.index > 0 {
		t.log = t.log.With("by", st.by)
	}
	var err error
	if plan.series != nil && st.index == 0 {
		if t.series, err = newSeriesStep(plan); err != nil {
			return nil, err
		}
		t.groups = append(t.groups, t.series)
	}
	if t.front, err = t.steps(st.steps); err != nil {
		return nil, err
	}
	if d := plan.Spec.Source.Deduplicate; d > 0 && st.index == 0 {
		t.seen = newSeenStep(d)
		t.groups = append(t.groups, t.seen)
	}
	if err := t.openIntake(); err != nil {
		return nil, fmt.Errorf("make a decoder: %w", err)
	}
	if p.keepsState(st) {
		t.changelog = newChangelog(st.state, claim.Partition(), t.intake, t.groups, p.cycle)
		t.changelog.mayLose = p.mayLose
	}
	limit := p.broker.Capabilities().MaxRecordBytes
	if st.index+1 < len(plan.stages) {
		t.shuffle = newShuffle(plan.stages[st.index+1], claim.Partition(), p.partitions, limit)
		t.back = []*part{newPart(nil, nil)}
	} else {
		for _, ip := range plan.infers {
			steps, err := t.steps(ip.after)
			if err != nil {
				return nil, err
			}
			t.back = append(t.back, newPart(t.newScorer(ip), steps))
		}
		if len(t.back) == 0 {
			t.back = []*part{newPart(nil, nil)}
		}
		if !plan.Spec.Record.Off {
			t.recorder = newRecorder(plan, claim.Partition(), limit)
		}
		t.routed = make([]uint64, len(plan.routes))
		t.results = newResults(plan, p.topics, claim.Partition(), limit)
	}
	t.letters = newLetters(plan.Spec, plan.Spec.Source.Topic, limit, p.eventAt)
	if st.usesLabels() {
		t.labelLetters = newLetters(plan.Spec, plan.Spec.Labels.Topic, limit, nil)
	}
	for range framesInFlight {
		f := plan.newFrame()
		f.out = make([][]event.Record, len(p.topics))
		t.free <- f
	}
	return t, nil
}

// openIntake chooses how the stage's rows come in.
func (t *task) openIntake() error {
	plan := t.p.plan
	if t.stage.usesLabels() {
		var err error
		if t.labelDecoder, err = plan.LabelContract.NewDecoder(plan.labelOptions(t.stage)); err != nil {
			return err
		}
		t.labelRule = plan.Spec.Labels.timeRule(plan.LabelContract)
	}
	if t.stage.index > 0 || t.stage.usesLabels() || plan.order >= 0 {
		m, err := t.newMergeIntake()
		t.intake = m
		return err
	}
	src, err := t.newSourceDecoder()
	t.intake = &direct{claim: t.claim, max: t.p.frameEvents, source: src}
	return err
}

// keepsState reports whether a stage has something to remember between frames.
func (p *Pipeline) keepsState(st *stagePlan) bool {
	return st.index > 0 || p.plan.byKey(st) || p.plan.order >= 0 || p.plan.Spec.Source.Late != LateScore ||
		st.index == 0 && p.plan.Spec.Source.Deduplicate > 0 ||
		st.index+1 < len(p.plan.stages) && !p.transactions()
}

// transactions reports whether the broker commits results, state and position at once.
func (p *Pipeline) transactions() bool { return p.broker.Capabilities().Transactions }

func (t *task) steps(plans []planStep) (steps []frameStep, err error) {
	for _, s := range plans {
		switch s := s.(type) {
		case *windowsPlan:
			w, err := newWindowsStep(t.p.plan, s)
			if err != nil {
				return nil, err
			}
			for _, f := range w.windows.LabelFields() {
				w.labels = append(w.labels, slices.Index(t.stage.labels, f.Name))
			}
			t.groups = append(t.groups, w)
			steps = append(steps, w)
		case *exprPlan:
			steps = append(steps, newExprStep(s))
		case *maskPlan:
			steps = append(steps, &maskStep{s})
		case *lookupPlan:
			steps = append(steps, t.newLookupStep(s))
		}
	}
	return steps, nil
}

// run works until ctx is done, the claim is revoked, or something fails that
// does not pass. What was fetched by then is finished first, except after a failure.
func (t *task) run(ctx context.Context) (err error) {
	defer t.intake.close()
	defer t.p.counters.forget([2]int{t.stage.index, t.claim.Partition()}) // whoever takes the partition next counts it
	if t.changelog != nil {
		if err := t.usePager(); err != nil {
			return err
		}
		defer t.dropPages()
		err := t.restore(ctx)
		if t.checkpoint != nil {
			defer func() {
				if cerr := t.checkpoint.close(err == nil); cerr != nil && err == nil {
					err = quiet(cerr)
				}
			}()
		}
		if err != nil {
			// Where the claim went to another member meanwhile, what was read is that one's.
			if lost := t.claim.Commit(ctx, t.claim.Start()); errkind.Is(lost, errkind.Conflict) {
				return nil
			}
			return err
		}
		if t.checkpoint != nil {
			t.checkpoint.start(ctx, t.p.plan.Spec.State.Every)
		}
	} else {
		t.intake.begin(t.claim.Start())
	}
	t.refresh(ctx)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer t.p.progress.drop(t.stage.index, t.claim.Partition())
	var stages sync.WaitGroup
	var commit error
	back := make([]error, len(t.back))
	for i := range t.back {
		stages.Go(func() { back[i] = t.runBack(ctx, i, stop) })
	}
	stages.Go(func() { commit = t.runCommitter(stop) })
	front := t.runFront(ctx)
	close(t.back[0].full)
	stages.Wait()
	errs := []error{quiet(commit)}
	for _, err := range back {
		errs = append(errs, quiet(err))
	}
	if err := errors.Join(append(errs, quiet(front))...); err != nil {
		return fmt.Errorf("partition %d: %w", t.claim.Partition(), err)
	}
	return nil
}

// refreshTimeout bounds the look at the registries before a task begins.
const refreshTimeout = 5 * time.Second

// refresh looks at the registries, so that the task deals keys at least as its
// partition's former owner did. A registry that cannot be reached stops no task.
func (t *task) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	for _, p := range t.back {
		if p.scorer == nil {
			continue
		}
		if err := p.scorer.service.Refresh(ctx); err != nil {
			t.log.Warn("look at the registry of models", "step", p.scorer.plan.spec.Name, "error", err)
		}
	}
}

// quiet drops the errors that only say that the work ends here.
func quiet(err error) error {
	switch errkind.Of(err) {
	case errkind.Canceled, errkind.Conflict, errkind.Closed:
		return nil
	}
	return err
}

// restoreError keeps a Conflict at the restore from passing as a revoked claim.
type restoreError struct{ err error }

func (e *restoreError) Error() string { return "restore the state: " + e.err.Error() }

func (t *task) countState() {
	var keys, bytes int64
	for _, g := range t.groups {
		keys += int64(g.keyed().Keys())
		bytes += g.keyed().Bytes()
	}
	t.p.counters.state([2]int{t.stage.index, t.claim.Partition()}, keys, bytes)
}

// runFront fetches, decodes, computes features and hands rows to the model.
func (t *task) runFront(ctx context.Context) error {
	for {
		var f *frame
		select {
		case f = <-t.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := t.awaitRoom(ctx); err != nil {
			return err
		}
		f.reset()
		if err := t.intake.next(ctx, f); err != nil {
			return err
		}
		if err := t.prepare(ctx, f); err != nil {
			return err
		}
		if err := t.back[0].take(ctx, f); err != nil {
			return err
		}
	}
}

// prepare runs the steps before the model.
func (t *task) prepare(ctx context.Context, f *frame) error {
	if t.series != nil {
		t.series.run(f)
		t.p.counters.filled.Add(uint64(t.series.filled))
		t.p.counters.lateReadings.Add(uint64(f.series.Late))
	}
	t.stage.bind(t.p.plan, f)
	if err := t.runSteps(ctx, t.front, f); err != nil {
		return err
	}
	if t.changelog != nil {
		if err := t.changelog.record(f, f.next); err != nil {
			return err
		}
		t.countState()
	}
	t.p.counters.consumed.Add(uint64(f.consumed))
	t.p.progress.set(t.stage.index, t.claim.Partition(), f.watermark)
	f.watermark = t.p.plan.series.reach(f.watermark)
	return nil
}

func (t *task) runSteps(ctx context.Context, steps []frameStep, f *frame) error {
	c := &t.p.counters
	for _, s := range steps {
		began := time.Now()
		n, err := s.run(ctx, f)
		if err != nil {
			return err
		}
		faults := uint64(n)
		switch s.(type) {
		case *exprStep:
			c.exprFaults.Add(faults)
		case *lookupStep:
			c.lookupMisses.Add(faults)
			c.lookupSeconds.Record(int64(time.Since(began)))
		default:
			c.lookupSeconds.Record(int64(time.Since(began)))
		}
	}
	return nil
}

// finish turns a frame into records.
func (t *task) finish(f *frame) error {
	f.arena = f.arena[:0]
	f.predictions = 0
	if t.shuffle != nil {
		t.shuffle.write(f)
	} else {
		f.predictions = t.results.write(f)
		if t.recorder != nil {
			t.recorder.write(f)
		}
	}
	f.dead = f.dead[:0]
	if len(f.letters) > 0 {
		if err := t.letters.write(f, false); err != nil {
			return err
		}
		if t.labelLetters != nil {
			if err := t.labelLetters.write(f, true); err != nil {
				return err
			}
		}
	}
	if t.changelog != nil {
		f.stated = len(f.change)
		if t.shuffle != nil && !t.p.transactions() {
			f.change = appendSent(f.change, f.moved)
		}
		f.state = split(f.state[:0], f.change, t.p.broker.Capabilities().MaxRecordBytes)
	}
	return nil
}

// runCommitter commits frames in order, those that are ready together in one
// transaction, until the back has closed the queue. After a failure it stops
// the front and only lets go of what is still under way.
func (t *task) runCommitter(stopFront func()) (err error) {
	for f := range t.ready {
		t.frames = append(t.frames[:0], f)
		for more := true; more; {
			select {
			case g, ok := <-t.ready:
				if more = ok; ok {
					t.frames = append(t.frames, g)
				}
			default:
				more = false
			}
		}
		if err == nil {
			if err = t.commit(); err != nil {
				stopFront()
			}
		}
		for _, f := range t.frames {
			f.recs.Release()
			if err == nil {
				t.free <- f
			}
		}
	}
	return err
}

// count measures a frame that was committed at now.
func (t *task) count(f *frame, now int64) {
	c := &t.p.counters
	c.predictions.Add(uint64(f.predictions))
	if t.stage.index == 0 {
		c.processed.Add(uint64(f.consumed))
	}
	c.batchRows.Record(int64(f.rows.N))
	c.dead(f.letters)
	if t.results == nil {
		return
	}
	freshness, sinceArrival := c.freshness.Run(), c.sinceArrival.Run()
	clear(t.routed)
	for row := range f.rows.N {
		if f.skip[row] {
			continue
		}
		freshness.Record(now - f.rows.Time[row])
		sinceArrival.Record(now - f.rows.Arrival[row])
		t.routed[f.route[row]]++
	}
	freshness.Flush()
	sinceArrival.Flush()
	for i, n := range t.routed {
		c.routes[i].Add(n)
	}
	for i := range f.scorings {
		t.p.counters.fallbacks.Add(t.p.counters.steps[i].scored(f, &f.scorings[i]))
		t.back[i].scorer.report(f, &f.scorings[i])
	}
}
