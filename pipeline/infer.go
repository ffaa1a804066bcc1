package pipeline

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/model"
)

// scorer hands the rows of frames to the versions of a step's model and takes
// the answers back. It belongs to one task: submit to the goroutine in front of
// the model, collect to the one behind it.
type scorer struct {
	plan     *inferPlan
	service  *model.Service
	counters *stepCounters
	target   time.Duration
	outputs  []outputPlan
	vectors  []vectorDef

	partition int
	log       *slog.Logger
	outcomes  model.Outcomes
	dealer    dealer
	filler    filler
	fallbacks []fallbackStep
	again     filler // of collect: for fallbacks and explanations
	explainer *explainer
	shadows   *shadows
	recall    *recall // nil where no labels are counted

	ordered *atomic.Pointer[Capacity] // nil for steps that are not scaled
	applied appliedCapacity
	id      []byte // scratch
}

func (t *task) newScorer(ip *inferPlan) *scorer {
	p := t.p.plan
	s := &scorer{
		plan: ip, service: ip.service, counters: t.p.counters.steps[ip.index], target: p.Spec.Freshness.Target, outputs: ip.outputs, vectors: p.vectors,
		partition: t.claim.Partition(), log: t.log, filler: newFiller(p, ip), again: newFiller(p, ip),
		fallbacks: newFallbacks(ip), shadows: newShadows(p, ip), recall: t.p.recalls[ip.index],
	}
	if ip == p.main() {
		s.ordered = &t.p.capacity
	}
	if ip.spec.Explain != nil {
		s.explainer = newExplainer(ip)
	}
	return s
}

// submit deals the frame's rows to versions and sends them there, in runs of at
// most the greatest batch. It blocks while a version's queue is full, except for
// what is only compared.
func (s *scorer) submit(ctx context.Context, f *frame) error {
	sc := &f.scorings[s.plan.index]
	sc.begin(f.rows.N, len(s.vectors))
	sc.serving = s.service.Acquire()
	if sc.trial = sc.serving.Challenger() != nil; sc.trial {
		sc.try(f.rows.N)
	}
	d := &s.dealer
	d.deal(s, f, sc, s.order(sc.serving))
	var err error
	if d.all {
		err = s.send(ctx, f, sc, sc.serving.Champion(), nil, f.rows.N)
	}
	for i := 0; !d.all && err == nil && i < len(d.hands); i++ {
		h := &d.hands[i]
		err = s.send(ctx, f, sc, h.arm, h.rows, len(h.rows))
	}
	if err != nil {
		for _, r := range sc.runs[:sc.busy] {
			_ = r.req.Wait(context.Background())
		}
		sc.release()
		return err
	}
	if len(d.beside) > 0 {
		s.shadows.send(s, f, sc, d.besideArm, d.beside)
	}
	return nil
}

// send submits rows to one version.
func (s *scorer) send(ctx context.Context, f *frame, sc *scoring, arm *model.Arm, rows []int32, n int) error {
	a := sc.armOf(arm)
	most := arm.Model.Batch()
	for from := 0; from < n; from += most {
		to := min(from+most, n)
		r := sc.next()
		r.arm, r.from, r.n, r.rows = a, from, to-from, r.rows[:0]
		if rows != nil {
			r.rows = append(r.rows, rows[from:to]...)
		} else {
			r.rows = nil
		}
		s.fillRun(f, r, arm)
		if err := arm.Model.Submit(ctx, &r.req); err != nil {
			sc.busy--
			return err
		}
	}
	return nil
}

// fillRun writes a run's inputs and times.
func (s *scorer) fillRun(f *frame, r *run, arm *model.Arm) {
	s.filler.fill(&r.req, arm.Model.Metadata().Inputs, f, r)
	first, last := f.rows.Arrival[r.row(0)], f.rows.Arrival[r.row(r.n-1)]
	// Rows that were late when they arrived do not hold a batch open.
	r.req.Deadline = time.Unix(0, first).Add(s.target)
	r.req.Expires = time.Time{}
	if s.plan.spec.Late != LateAnyway {
		r.req.Expires = time.Unix(0, max(first, last)).Add(s.target)
	}
}

// collect waits for the answers, writes them into the frame's columns, and
// turns rows without one over to the fallbacks or to dead letters. It always
// waits for every request, for they belong to the model until then.
func (s *scorer) collect(ctx context.Context, f *frame) (failed int) {
	sc := &f.scorings[s.plan.index]
	for i := range s.outputs {
		if c := s.outputs[i].column; c >= 0 {
			f.columns[c].Reset(f.rows.N)
		} else {
			sc.vectors[s.outputs[i].vector].reset(f.rows.N)
		}
	}
	for _, r := range sc.runs[:sc.busy] {
		_ = r.req.Wait(context.Background()) // cannot fail: the context is never done
		s.take(f, sc, r, lineage.Scored)
	}
	failed = len(sc.failed)
	s.blank(f, sc)
	if len(sc.failed) > 0 {
		s.fallBack(ctx, f, sc)
	}
	s.shadows.collect(s, f, sc)
	if s.explainer != nil {
		s.explainer.run(ctx, s, f, sc)
	}
	return failed
}

// take writes the answers of a run into the frame, and notes the rows without one.
func (s *scorer) take(f *frame, sc *scoring, r *run, path lineage.Path) {
	r.failed = model.Failures{}
	call := uint16(len(sc.calls))
	sc.calls = append(sc.calls, lineage.Call{Answered: r.req.Answered.UnixNano(), Rows: r.req.BatchRows, Reason: r.req.Reason, Attempts: r.req.Attempts})
	err := r.req.Err
	for i := 0; err == nil && i < len(s.outputs); i++ {
		o := &s.outputs[i]
		if o.column < 0 {
			err = sc.vectors[o.vector].gather(r, &r.req.Out[o.tensor])
		} else {
			err = gather(f.columns[o.column], r, &r.req.Out[o.tensor], o.element)
		}
	}
	if err != nil {
		for i := range r.n {
			s.miss(sc, r, i, err)
			sc.arm[r.row(i)] = r.arm
		}
		return
	}
	for i := range r.n {
		row := r.row(i)
		sc.arm[row], sc.path[row], sc.call[row] = r.arm, path, call
		if i < len(r.req.Cached) && r.req.Cached[i] && path == lineage.Scored {
			sc.path[row] = lineage.Cached
		}
	}
	bad := r.req.Failed
	for _, b := range bad {
		s.miss(sc, r, b.Row, b.Err)
	}
	if s.plan.score < 0 {
		return
	}
	// A score that is no number is no answer, unless the row lacks an input: then it
	// is known to be unknown, and published as null where no fallback knows better.
	score := f.columns[s.plan.score].Floats
	for i := range r.n {
		if row := r.row(i); math.IsNaN(score[row]) || math.IsInf(score[row], 0) {
			if len(bad) > 0 && bad[0].Row == i { // refused already
				bad = bad[1:]
				continue
			}
			if len(s.fallbacks) > 0 || !lacks(r.req.In, i) {
				s.miss(sc, r, i, errNoNumber)
			}
		}
	}
}

// lacks reports whether a row of inputs has a value that is NaN, as missing ones are.
func lacks(in []inference.Tensor, row int) bool {
	for i := range in {
		t := &in[i]
		n := rowSize(t)
		for j := row * n; j < (row+1)*n; j++ {
			if t.Type == inference.Float32 && t.F32[j] != t.F32[j] || t.Type == inference.Float64 && math.IsNaN(t.F64[j]) {
				return true
			}
		}
	}
	return false
}

// miss notes that the i-th row of a run has no answer.
func (s *scorer) miss(sc *scoring, r *run, i int, err error) {
	r.failed[errkind.Of(err)]++
	sc.failed = append(sc.failed, failure{int32(r.row(i)), r.req.Attempts, err})
}

var errNoNumber = errkind.New(errkind.Permanent, "the model's score is not a number (NaN or infinite)")

// blank takes the values of rows without an answer away.
func (s *scorer) blank(f *frame, sc *scoring) {
	for _, x := range sc.failed {
		s.clear(f, sc, int(x.row))
	}
	for row, p := range sc.path {
		if p == lineage.Skipped {
			s.clear(f, sc, row)
		}
	}
}

func (s *scorer) clear(f *frame, sc *scoring, row int) {
	sc.call[row] = noCall
	for i := range s.outputs {
		if c := s.outputs[i].column; c >= 0 {
			f.columns[c].SetNull(row)
		} else {
			sc.vectors[s.outputs[i].vector].null[row] = true
		}
	}
}

// refuse makes dead letters of rows that nothing gave an answer for.
func (s *scorer) refuse(f *frame, x failure) {
	err := x.err
	if len(s.fallbacks) > 0 {
		err = errkind.Errorf(errkind.Of(err), "%w; and no fallback has an answer", err)
	}
	if errors.Is(err, inference.ErrExpired) {
		f.refuse(int(x.row), s.partition, "expired", "infer", x.attempts, err)
		return
	}
	f.refuse(int(x.row), s.partition, "inference", "infer", x.attempts, err)
}

// gather copies one element of each row of a tensor into a column.
func gather(c *event.Column, r *run, t *inference.Tensor, element int) error {
	stride := rowSize(t)
	if element >= stride {
		return errkind.Errorf(errkind.Permanent, "the model's output %q has %d values a row, and element %d is wanted", t.Name, stride, element)
	}
	if t.Rows() != r.n {
		return errkind.Errorf(errkind.Permanent, "the model's output %q has %d rows for %d", t.Name, t.Rows(), r.n)
	}
	at := element
	for i := range r.n {
		row := r.row(i)
		switch t.Type {
		case inference.Float32:
			c.Floats[row] = float64(t.F32[at])
		case inference.Float64:
			c.Floats[row] = t.F64[at]
		case inference.Int64:
			c.Ints[row] = t.I64[at]
		case inference.Int32:
			c.Ints[row] = int64(t.I32[at])
		case inference.Bool:
			c.Bools[row] = t.Bool[at]
		case inference.String:
			c.Strings[row] = t.Str[at]
		}
		at += stride
	}
	return nil
}

// rowSize is the number of elements of a tensor's row.
func rowSize(t *inference.Tensor) int {
	n := 1
	for _, d := range t.Shape[1:] {
		n *= d
	}
	return n
}

func (v *vector) reset(n int) {
	v.width = 0
	v.values = v.values[:0]
	v.null = sized(v.null, n)
	clear(v.null)
}

// gather copies whole rows of a tensor.
func (v *vector) gather(r *run, t *inference.Tensor) error {
	w := rowSize(t)
	if v.width == 0 {
		v.width = w
		v.values = sized(v.values, w*len(v.null))
		clear(v.values)
	}
	if w != v.width || t.Rows() != r.n {
		return errkind.Errorf(errkind.Permanent, "the model's output %q has %d rows of %d values, and %d of %d are wanted", t.Name, t.Rows(), w, r.n, v.width)
	}
	for i := range r.n {
		to := v.values[r.row(i)*w:][:w]
		switch t.Type {
		case inference.Float32:
			for j, x := range t.F32[i*w : (i+1)*w] {
				to[j] = float64(x)
			}
		case inference.Float64:
			copy(to, t.F64[i*w:(i+1)*w])
		default:
			return errkind.Errorf(errkind.Permanent, "the model's output %q holds %s, and a vector holds numbers", t.Name, t.Type)
		}
	}
	return nil
}
