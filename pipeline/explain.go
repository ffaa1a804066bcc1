package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/model"
)

// explainer explains the scores of a step's rows, or of a part of them.
type explainer struct {
	plan *inferPlan
	when *exprStep // nil: always
	hold event.Column
	rows []int32
	attr inference.Attributions
	id   []byte
}

func newExplainer(ip *inferPlan) *explainer {
	e := &explainer{plan: ip}
	if ip.explain != nil {
		e.when = newExprStep(ip.explain)
		e.when.out = &e.hold
	}
	return e
}

// run explains the rows that are chosen, version by version. What cannot be
// explained is counted, and published without.
func (e *explainer) run(ctx context.Context, s *scorer, f *frame, sc *scoring) {
	if e.when != nil {
		e.when.fill(f)
	}
	for a, arm := range sc.arms {
		if arm.Explainer == nil {
			continue
		}
		e.rows = e.rows[:0]
		for row := range f.rows.N {
			if int(sc.arm[row]) == a && e.wanted(s, f, sc, row) {
				e.rows = append(e.rows, int32(row))
			}
		}
		if len(e.rows) > 0 {
			if err := e.explain(ctx, s, f, sc, arm); err != nil {
				if s.counters.unexplained.Add(uint64(len(e.rows))) == uint64(len(e.rows)) { // the first: the others are counted
					s.log.Warn("predictions are published without their explanation", "step", e.plan.spec.Name, "version", arm.Version, "error", err)
				}
				continue
			}
			s.counters.explained.Add(uint64(len(e.rows)))
		}
	}
	if len(sc.arms) > 1 {
		slices.SortFunc(sc.explained, func(x, y lineage.Explained) int { return cmp.Compare(x.Row, y.Row) })
	}
}

// wanted reports whether a row is explained.
func (e *explainer) wanted(s *scorer, f *frame, sc *scoring, row int) bool {
	if f.skip[row] || sc.path[row] > lineage.FallbackVersion {
		return false
	}
	if e.when != nil && (e.hold.IsNull(row) || !e.hold.Bools[row]) {
		return false
	}
	share := e.plan.spec.Explain.Share
	if share >= 1 {
		return true
	}
	// An event without an id is dealt by its place, as results name it.
	partition, position, _ := f.place(row, s.partition)
	e.id = appendSource(e.id[:0], f.rows.ID[row], partition, position)
	return shareOf(e.id) < share
}

func (e *explainer) explain(ctx context.Context, s *scorer, f *frame, sc *scoring, arm *model.Arm) error {
	r := &run{rows: e.rows, n: len(e.rows)}
	s.again.fill(&r.req, arm.Model.Metadata().Inputs, f, r)
	m, err := e.method(arm)
	if err != nil {
		return err
	}
	if err := arm.Explainer.Explain(ctx, r.req.In, e.plan.target, m, &e.attr); err != nil {
		return fmt.Errorf("explain scores: %w", err)
	}
	w := e.attr.Width
	from := len(sc.values)
	sc.values = append(sc.values, e.attr.Values[:w*r.n]...)
	for i := range r.n {
		sc.explained = append(sc.explained, lineage.Explained{
			Row: r.row(i), Method: e.attr.Method, Link: e.attr.Link, Base: e.attr.Base[i], Raw: e.attr.Raw[i],
			Values: sc.values[from+i*w : from+(i+1)*w : from+(i+1)*w],
		})
	}
	return nil
}

// method is the one that the step names, or the best of the version's.
func (e *explainer) method(arm *model.Arm) (inference.Method, error) {
	offered := arm.Explainer.Methods(e.plan.target)
	for _, m := range offered {
		if name := e.plan.spec.Explain.Method; name == "" || m.String() == name {
			return m, nil
		}
	}
	return 0, fmt.Errorf("version %s offers no explanation by %q", arm.Version, e.plan.spec.Explain.Method)
}

// names are the names of the values that attributions are of.
func (ip *inferPlan) names(p *Plan) (names []string) {
	for _, in := range ip.inputs {
		if in.vector >= 0 {
			for i := range max(0, p.vectors[in.vector].width) {
				names = append(names, fmt.Sprintf("%s[%d]", p.vectors[in.vector].name, i))
			}
			continue
		}
		for _, c := range in.columns {
			names = append(names, p.columns[c].name)
		}
	}
	return names
}

// shareOf deals an id to a place between 0 and 1: FNV-1a, mixed as SplitMix64 ends.
func shareOf(id []byte) float64 {
	h := uint64(14695981039346656037)
	for _, c := range id {
		h = (h ^ uint64(c)) * 1099511628211
	}
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return float64((h^h>>31)>>11) / (1 << 53)
}
