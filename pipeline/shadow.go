package pipeline

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/model"
)

const (
	// shadowRuns bounds the requests under way that are only compared: beyond it
	// rows are not compared, so that a slow version never slows the stream.
	shadowRuns = 64
	// shadowWait is how long a frame waits for what is only compared.
	shadowWait = 5 * time.Millisecond
)

// shadows scores rows with a second version for comparison.
type shadows struct {
	slots  chan struct{}
	filler filler
	score  int // index of the score among the step's outputs; -1 without
	late   sync.WaitGroup
}

func newShadows(p *Plan, ip *inferPlan) *shadows {
	s := &shadows{slots: make(chan struct{}, shadowRuns), filler: newFiller(p, ip), score: -1}
	for i := range ip.outputs {
		if ip.outputs[i].column >= 0 && ip.outputs[i].column == ip.score {
			s.score = i
		}
	}
	return s
}

// full is a context that is done: with it, Submit does not wait for room.
var full = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// send submits rows to a version whose answers are not published.
func (s *shadows) send(c *scorer, f *frame, sc *scoring, arm *model.Arm, rows []int32) {
	a := sc.armOf(arm)
	most := arm.Model.MaxBatch()
	for from := 0; from < len(rows); from += most {
		select {
		case s.slots <- struct{}{}:
		default:
			return
		}
		part := rows[from:min(from+most, len(rows))]
		r := &run{arm: a, rows: append([]int32(nil), part...), n: len(part), sent: time.Now()}
		for _, row := range part {
			r.keys = append(r.keys, sc.keys[row])
		}
		s.filler.fill(&r.req, arm.Model.Metadata().Inputs, f, r)
		r.req.Deadline = time.Unix(0, f.rows.Arrival[r.row(0)]).Add(c.target)
		if arm.Model.Submit(full, &r.req) != nil {
			<-s.slots
			continue
		}
		sc.beside = append(sc.beside, r)
	}
}

// collect takes the answers that are there soon; the others are waited for
// beside the stream, and only compared.
func (s *shadows) collect(c *scorer, f *frame, sc *scoring) {
	if len(sc.beside) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), shadowWait)
	defer cancel()
	for _, r := range sc.beside {
		published := make([]float64, r.n)
		for i := range published {
			row := r.row(i)
			published[i] = nan
			if sc.path[row] == lineage.Scored && c.plan.score >= 0 && !f.columns[c.plan.score].IsNull(row) {
				published[i] = f.columns[c.plan.score].Floats[row]
			}
		}
		arm := sc.arms[r.arm]
		if r.req.Wait(ctx) == nil {
			scores := s.scores(c, r)
			<-s.slots
			for i, v := range scores {
				if arm.Role == model.Shadow && v == v {
					sc.shadowed = append(sc.shadowed, lineage.Shadowed{Row: r.row(i), Score: v, Arm: r.arm})
				}
			}
			c.compare(sc, r, arm, scores, published)
			continue
		}
		if arm.Role != model.Shadow {
			// The evidence of a canary is reported with the frame: without this comparison.
			s.late.Go(func() {
				_ = r.req.Wait(context.Background())
				<-s.slots
			})
			continue
		}
		s.late.Go(func() {
			_ = r.req.Wait(context.Background()) // the model answers within its timeout
			<-s.slots
			c.compare(nil, r, arm, s.scores(c, r), published)
		})
	}
}

// compare makes evidence of a second version's scores beside the published ones.
func (c *scorer) compare(sc *scoring, r *run, arm *model.Arm, scores, published []float64) {
	if arm.Role != model.Shadow { // the champion, beside a canary
		for i, v := range scores {
			sc.compared[r.row(i)] = v
		}
		return
	}
	o := model.Outcomes{Arm: arm, Rows: r.n, Batch: r.req.BatchRows, Service: r.req.Answered.Sub(r.sent).Seconds()}
	if r.req.Err != nil {
		o.Failures[errkind.Of(r.req.Err)] = uint32(r.n)
	}
	for _, b := range r.req.Failed {
		o.Failures[errkind.Of(b.Err)]++
	}
	for i, v := range scores {
		if !math.IsNaN(v) {
			o.Scores, o.Champion, o.Keys = append(o.Scores, v), append(o.Champion, published[i]), append(o.Keys, r.keys[i])
		}
	}
	c.service.Report(&o)
}

// scores are the run's scores; NaN where a row has none.
func (s *shadows) scores(c *scorer, r *run) []float64 {
	scores := make([]float64, r.n)
	for i := range scores {
		scores[i] = nan
	}
	if r.req.Err != nil || s.score < 0 {
		return scores
	}
	o := &c.outputs[s.score]
	t := &r.req.Out[o.tensor]
	w := rowSize(t)
	if t.Rows() != r.n || o.element >= w {
		return scores
	}
	for i := range scores {
		switch t.Type {
		case inference.Float32:
			scores[i] = float64(t.F32[i*w+o.element])
		case inference.Float64:
			scores[i] = t.F64[i*w+o.element]
		}
	}
	for _, b := range r.req.Failed {
		scores[b.Row] = nan
	}
	return scores
}

// wait returns when every comparison is done.
func (s *shadows) wait() { s.late.Wait() }
