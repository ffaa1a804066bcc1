package pipeline

import (
	"math"

	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/model"
)

var nan = math.NaN()

// report gives a rollout what became of a frame's rows. Without a rollout it does nothing.
func (s *scorer) report(f *frame, sc *scoring) {
	if !sc.trial {
		return
	}
	o := &s.outcomes
	for _, r := range sc.runs[:sc.busy] {
		*o = model.Outcomes{Arm: sc.arms[r.arm], Rows: r.n, Scores: o.Scores[:0], Keys: o.Keys[:0], Freshness: o.Freshness[:0], Champion: o.Champion[:0], Batch: r.req.BatchRows, Failures: r.failed}
		if at := r.req.Answered; !at.IsZero() {
			o.Service = at.Sub(sc.began).Seconds()
		}
		for i := range r.n {
			row := r.row(i)
			if p := sc.path[row]; p != lineage.Scored && p != lineage.Cached {
				continue
			}
			o.Freshness = append(o.Freshness, float64(r.req.Answered.UnixNano()-f.rows.Arrival[row])/1e9)
			if s.plan.score < 0 {
				continue
			}
			c := f.columns[s.plan.score]
			if c.IsNull(row) {
				continue
			}
			o.Scores = append(o.Scores, c.Floats[row])
			o.Keys = append(o.Keys, sc.keys[row])
			o.Champion = append(o.Champion, sc.compared[row])
		}
		s.service.Report(o)
	}
	if s.recall != nil {
		s.recall.remember(f, sc, f.columns[s.plan.score])
	}
}
