package pipeline

import (
	"context"
	"math"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/lineage"
)

// fallbackStep is one of a step's fallbacks at work.
type fallbackStep struct {
	plan    *fallbackPlan
	rule    []*exprStep
	columns []event.Column // of the rule's values
}

func newFallbacks(ip *inferPlan) (steps []fallbackStep) {
	for i := range ip.fallbacks {
		fp := &ip.fallbacks[i]
		st := fallbackStep{plan: fp, columns: make([]event.Column, len(fp.rule))}
		for j := range fp.rule {
			x := newExprStep(fp.rule[j].expr)
			x.out = &st.columns[j]
			st.rule = append(st.rule, x)
		}
		steps = append(steps, st)
	}
	return steps
}

// fallBack gives rows without an answer to the fallbacks, one after another, and
// makes dead letters of the rest.
func (s *scorer) fallBack(ctx context.Context, f *frame, sc *scoring) {
	rest := sc.failed
	for i := range s.fallbacks {
		if len(rest) == 0 {
			return
		}
		st := &s.fallbacks[i]
		switch {
		case st.plan.previous:
			rest = s.askPrevious(ctx, f, sc, rest)
		case st.plan.cached:
			rest = s.askCache(f, sc, rest)
		case st.plan.value != nil:
			for _, x := range rest {
				sc.path[x.row] = lineage.FallbackValue
				score := f.columns[s.plan.score]
				score.Floats[x.row], score.Null[x.row] = *st.plan.value, false
			}
			rest = nil
		default:
			rest = s.askRule(f, sc, st, rest)
		}
	}
	for _, x := range rest {
		s.refuse(f, x)
	}
}

// askRule takes the values of expressions; the row needs the score's, or any.
func (s *scorer) askRule(f *frame, sc *scoring, st *fallbackStep, rows []failure) (rest []failure) {
	for _, x := range st.rule {
		x.fill(f)
	}
	for _, x := range rows {
		if row := int(x.row); !st.apply(f, s.plan.score, row) {
			rest = append(rest, x)
		} else {
			sc.path[row] = lineage.FallbackRule
		}
	}
	return rest
}

// apply sets a row's outputs; false where the score, or all that the rule gives, has no value.
func (st *fallbackStep) apply(f *frame, score, row int) bool {
	any := false
	for j, r := range st.plan.rule {
		c := &st.columns[j]
		null := c.IsNull(row) || c.Kind == event.Float && (math.IsNaN(c.Floats[row]) || math.IsInf(c.Floats[row], 0))
		if null && r.column == score {
			return false
		}
		any = any || !null
	}
	for j, r := range st.plan.rule {
		if from := &st.columns[j]; any && !from.IsNull(row) {
			setValue(f.columns[r.column], row, from)
		}
	}
	return any
}

// setValue copies a row's value, whole numbers to fractions where that is wanted.
func setValue(to *event.Column, row int, from *event.Column) {
	if to.Null != nil {
		to.Null[row] = false
	}
	switch to.Kind {
	case event.Float:
		if from.Kind == event.Int {
			to.Floats[row] = float64(from.Ints[row])
		} else {
			to.Floats[row] = from.Floats[row]
		}
	case event.Bool:
		to.Bools[row] = from.Bools[row]
	case event.String:
		to.Strings[row] = from.Strings[row]
	default:
		to.Ints[row] = from.Ints[row]
	}
}

// askPrevious scores rows with the champion before this one.
func (s *scorer) askPrevious(ctx context.Context, f *frame, sc *scoring, rows []failure) (rest []failure) {
	arm := sc.serving.Previous()
	if arm == nil {
		return rows
	}
	a := sc.armOf(arm)
	keep := sc.failed
	for from := 0; from < len(rows); from += arm.Model.MaxBatch() {
		part := rows[from:min(from+arm.Model.MaxBatch(), len(rows))]
		r := &run{arm: a, n: len(part)}
		for _, x := range part {
			r.rows = append(r.rows, x.row)
		}
		s.again.fill(&r.req, arm.Model.Metadata().Inputs, f, r)
		if err := arm.Model.Submit(context.WithoutCancel(ctx), &r.req); err != nil {
			rest = append(rest, part...)
			continue
		}
		_ = r.req.Wait(context.Background())
		for _, x := range part {
			unset(f, s.outputs, sc, int(x.row))
		}
		sc.failed = nil
		s.take(f, sc, r, lineage.FallbackVersion)
		for _, x := range sc.failed {
			s.clear(f, sc, int(x.row))
		}
		rest = append(rest, sc.failed...)
	}
	sc.failed = keep
	return rest
}

// unset makes room for a second answer.
func unset(f *frame, outputs []outputPlan, sc *scoring, row int) {
	for i := range outputs {
		if c := outputs[i].column; c < 0 {
			sc.vectors[outputs[i].vector].null[row] = false
		} else if f.columns[c].Null != nil {
			f.columns[c].Null[row] = false
		}
	}
}

// askCache takes older answers to the same inputs.
func (s *scorer) askCache(f *frame, sc *scoring, rows []failure) (rest []failure) {
	arm := sc.serving.Champion()
	a := sc.armOf(arm)
	r := &run{arm: a, n: len(rows)}
	for _, x := range rows {
		r.rows = append(r.rows, x.row)
	}
	s.again.fill(&r.req, arm.Model.Metadata().Inputs, f, r)
	out := make([]inference.Tensor, len(arm.Model.Metadata().Outputs))
	for i, x := range rows {
		one := &run{rows: []int32{x.row}, n: 1, arm: a}
		if !arm.Model.Stale(r.req.In, i, out) {
			rest = append(rest, x)
			continue
		}
		unset(f, s.outputs, sc, int(x.row))
		var err error
		for j := range s.outputs {
			o := &s.outputs[j]
			if o.column < 0 {
				err = sc.vectors[o.vector].gather(one, &out[o.tensor])
			} else {
				err = gather(f.columns[o.column], one, &out[o.tensor], o.element)
			}
			if err != nil {
				break
			}
		}
		if err != nil {
			s.clear(f, sc, int(x.row))
			rest = append(rest, failure{x.row, x.attempts, err})
			continue
		}
		sc.arm[x.row] = a
		sc.path[x.row] = lineage.FallbackCached
	}
	return rest
}
