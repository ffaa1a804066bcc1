package pipeline

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lineage"
)

const (
	// labelFetch is how many labels are counted at a time.
	labelFetch = 4096
	// labelPatience is how old a label may become without a prediction of its event.
	labelPatience = 10 * time.Second
	// labelLeast and labelMost are how long is waited before predictions are looked for again.
	labelLeast = 20 * time.Millisecond
	labelMost  = time.Second
	// recordsPatience bounds the wait for a store of records that is behind.
	recordsPatience = time.Minute
)

const labelGroupSuffix = "-labels"

// LabelGroup is the consumer group that the pipeline counts labels with where a
// rollout names one.
func (s *Spec) LabelGroup() string { return s.Name + labelGroupSuffix }

// LabelStats counts the labels that came while a rollout ran.
type LabelStats struct {
	// Counted labels are evidence: one of the rollout's versions scored their event in its time.
	Counted uint64
	// Unknown labels are about events of which no prediction was found, Faulty ones break the contract.
	Unknown, Faulty uint64
}

// quality counts labels as evidence of the rollouts that run.
//
// Order of events, for each batch of labels: the predictions of their events are
// found, the labels are counted, the group's position is moved. While an event has
// no prediction its label is waited for, until it is labelPatience old; a label that is older when
// it is read is not waited for, so that waiting never adds up. The evidence is stored
// every few seconds and at the end of a run. So a run that ends in good order
// counts each label once; one that is killed loses what it counted after the
// evidence was stored last, and counts at most one batch a partition again.
type quality struct {
	p        *Pipeline
	consumer broker.Consumer
	steps    []*inferPlan // with a label
	fields   []string     // of the labels, each once
	field    []int        // of each step, in fields
	records  func(ctx context.Context) (lineage.Records, error)
	patience time.Duration
	// Each is logged once: that the store of records does not answer, and that labels are faulty.
	warned, faulty atomic.Bool
}

// openQuality joins the labels' topic; nil where no rollout asks for labels.
func (p *Pipeline) openQuality(ctx context.Context) (*quality, error) {
	q := &quality{p: p, records: p.deps.Records, patience: p.labelPatience}
	for _, ip := range p.plan.infers {
		if ip.label == "" {
			continue
		}
		at := len(q.fields)
		for i, name := range q.fields {
			if name == ip.label {
				at = i
			}
		}
		if at == len(q.fields) {
			q.fields = append(q.fields, ip.label)
		}
		q.steps, q.field = append(q.steps, ip), append(q.field, at)
	}
	if len(q.steps) == 0 {
		return nil, nil
	}
	if p.plan.Spec.Record.Off {
		q.records = nil
	}
	var err error
	q.consumer, err = p.broker.Subscribe(ctx, broker.Subscription{Topic: p.plan.Spec.Labels.Topic, Group: p.plan.Spec.LabelGroup()})
	if err != nil {
		return nil, fmt.Errorf("subscribe to the labels: %w", err)
	}
	return q, nil
}

// run counts labels of the partitions that the group hands over, until ctx ends.
func (q *quality) run(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var readers sync.WaitGroup
	defer readers.Wait()
	for {
		claim, err := q.consumer.Claim(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return quiet(context.Cause(ctx))
			}
			return fmt.Errorf("claim a partition of the labels: %w", err)
		}
		readers.Go(func() {
			err := quiet(q.read(ctx, claim))
			if rerr := quiet(claim.Release()); err == nil {
				err = rerr
			}
			if err != nil {
				stop(fmt.Errorf("count labels: %w", err))
			}
		})
	}
}

// idle reports whether every label on the topic is counted.
func (q *quality) idle(ctx context.Context) (bool, error) {
	if q == nil {
		return true, nil
	}
	t, err := q.p.broker.Describe(ctx, q.p.plan.Spec.Labels.Topic, q.p.plan.Spec.LabelGroup())
	if err != nil {
		return false, err
	}
	for _, part := range t.Partitions {
		if part.Waiting > 0 {
			return false, nil
		}
	}
	return true, nil
}

// read counts the labels of one partition until the claim is lost or ctx ends.
func (q *quality) read(ctx context.Context, claim broker.Claim) error {
	l := q.p.plan.Spec.Labels
	d, err := q.p.plan.LabelContract.NewDecoder(contract.Options{
		ID: l.Event, Time: l.timeRule(q.p.plan.LabelContract), MaxBytes: q.p.plan.Spec.Source.MaxBytes, Fields: q.fields,
	})
	if err != nil {
		return err
	}
	r := labelReader{q: q, decoder: d}
	for {
		batch, err := claim.Fetch(ctx, labelFetch)
		if err != nil {
			return err
		}
		found, err := r.find(ctx, batch.Records)
		next := batch.Next()
		if err == nil {
			q.count(found)
		}
		batch.Release()
		if err != nil {
			return err
		}
		// What is counted is over, even while the process is asked to stop.
		cctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout+q.p.broker.Patience())
		err = claim.Commit(cctx, next)
		cancel()
		if err != nil {
			return fmt.Errorf("commit up to label %d: %w", next, err)
		}
	}
}

// labelled is a label, and what its event's prediction was.
type labelled struct {
	step    int // in quality.steps
	trial   trial
	event   string
	label   float64
	arrival int64
	answers answers
}

// trial is the rollout that runs for a step.
type trial struct{ model, rollout, champion, challenger string }

// trial returns the running rollout of a step; the zero value for none.
func (ip *inferPlan) trial() trial {
	sv := ip.service.Acquire()
	defer sv.Release()
	c := sv.Challenger()
	if c == nil {
		return trial{}
	}
	return trial{c.Name, c.Rollout, sv.Champion().Version, c.Version}
}

// count makes evidence of labels. The second label of an event, and one whose
// rollout has ended meanwhile, is none.
func (q *quality) count(all []labelled) {
	for i := range all {
		l := &all[i]
		ip := q.steps[l.step]
		if ip.trial() != l.trial || !q.p.recalls[ip.index].count(l.trial.rollout, l.event, l.answers) {
			continue
		}
		if s := l.answers.champion; s == s {
			ip.service.Label(l.trial.champion, s, l.label)
		}
		if s := l.answers.challenger; s == s {
			ip.service.Label(l.trial.challenger, s, l.label)
		}
		q.p.counters.steps[ip.index].labels.Add(1)
	}
}

// labelReader finds the predictions of labels. It belongs to one goroutine.
type labelReader struct {
	q       *quality
	decoder *contract.Decoder
	rows    contract.Rows
	missing []labelled
	found   []labelled
	asked   time.Time // since when the store of records is behind
}

// find returns the labels whose events have a prediction of a running rollout.
// Their texts alias the records.
func (r *labelReader) find(ctx context.Context, recs []event.Record) ([]labelled, error) {
	r.missing, r.found, r.asked = r.missing[:0], r.found[:0], time.Time{}
	if r.decode(recs); len(r.missing) == 0 {
		return nil, nil
	}
	wait := labelLeast
	for first := true; ; first = false {
		r.missing = r.sift(r.missing, func(l *labelled) (answers, bool) {
			return r.q.p.recalls[r.q.steps[l.step].index].find(l.trial.rollout, l.event)
		})
		left := r.left()
		behind := false
		if len(r.missing) > 0 && (first || left <= 0) {
			behind = r.ask(ctx)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if len(r.missing) == 0 || left <= 0 && !behind {
			break
		}
		if left > 0 {
			wait = min(wait, left)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		wait = min(2*wait, labelMost)
	}
	for i := range r.missing {
		r.q.p.counters.steps[r.q.steps[r.missing[i].step].index].unknownLabels.Add(1)
	}
	return r.found, nil
}

// decode makes missing the labels that a running rollout asks for.
func (r *labelReader) decode(recs []event.Record) {
	decoded := false
	for i, ip := range r.q.steps {
		tr := ip.trial()
		if tr.rollout == "" {
			continue
		}
		if !decoded {
			r.decoder.Decode(recs, &r.rows)
			decoded = true
		}
		if n := len(r.rows.Faults); n > 0 {
			r.q.p.counters.steps[ip.index].faultyLabels.Add(uint64(n))
			if !r.q.faulty.Swap(true) {
				r.q.p.log.Warn("a label that breaks its contract is no evidence; of others like it only the number is shown", "error", r.rows.Faults[0].Err)
			}
		}
		values := &r.rows.Columns[r.q.field[i]]
		for row := range r.rows.N {
			if values.IsNull(row) || r.rows.ID[row] == "" {
				continue
			}
			l := labelled{step: i, trial: tr, event: r.rows.ID[row], arrival: r.rows.Arrival[row]}
			switch values.Kind {
			case event.Float:
				l.label = values.Floats[row]
			case event.Bool:
				if values.Bools[row] {
					l.label = 1
				}
			default:
				l.label = float64(values.Ints[row])
			}
			r.missing = append(r.missing, l)
		}
	}
}

// left is how long the youngest of the missing is still waited for.
func (r *labelReader) left() time.Duration {
	youngest := int64(math.MinInt64)
	for i := range r.missing {
		youngest = max(youngest, r.missing[i].arrival)
	}
	return r.q.patience - time.Since(time.Unix(0, youngest))
}

// sift moves what get knows from ls to found, drops what has no use any more, and
// returns the rest.
func (r *labelReader) sift(ls []labelled, get func(*labelled) (answers, bool)) []labelled {
	rest := ls[:0]
	trials := make([]trial, len(r.q.steps))
	for i, ip := range r.q.steps {
		trials[i] = ip.trial()
	}
	for _, l := range ls {
		a, known := get(&l)
		switch {
		case trials[l.step] != l.trial: // the rollout is over
		case !known:
			rest = append(rest, l)
		case a.any():
			l.answers = a
			r.found = append(r.found, l)
		}
	}
	return rest
}

// ask looks for the missing in the store of records, and reports whether that is behind.
func (r *labelReader) ask(ctx context.Context) (behind bool) {
	if r.q.records == nil {
		return false
	}
	records, err := r.q.records(ctx)
	r.missing = r.sift(r.missing, func(l *labelled) (answers, bool) {
		if err != nil {
			return answers{}, false
		}
		var ps []lineage.Prediction
		if ps, err = records.Event(ctx, l.event); errkind.Is(err, errkind.NotFound) {
			err = nil
			return answers{}, false
		}
		return answersOf(ps, l), err == nil
	})
	if err == nil || ctx.Err() != nil {
		return false
	}
	if r.asked.IsZero() {
		r.asked = time.Now()
	}
	if !r.q.warned.Swap(true) {
		r.q.p.log.Warn("labels are matched with recent predictions only: the store of records does not answer", "error", err)
	}
	return errkind.Is(err, errkind.Transient) && time.Since(r.asked) < recordsPatience
}

// answersOf is what the versions of the label's rollout said of its event in its time.
func answersOf(ps []lineage.Prediction, l *labelled) answers {
	for i := range ps { // the latest first
		if ps[i].ID != l.event {
			continue
		}
		for _, st := range ps[i].Steps {
			if st.Arm.Model != l.trial.model {
				continue
			}
			a := noAnswers
			for _, o := range st.Outputs {
				if s, ok := o.Value.(float64); ok && o.Name == "score" && st.Arm.Rollout == l.trial.rollout && counts(st.Path) {
					a.set(st.Arm.Role == "champion", s)
				}
			}
			for _, sh := range st.Shadows {
				if sh.Arm.Rollout == l.trial.rollout {
					a.set(false, sh.Score)
				}
			}
			return a
		}
	}
	return noAnswers
}
