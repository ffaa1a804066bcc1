package forecast

import (
	"math"
	"time"

	"github.com/freshet-io/freshet/orchestrator/trace"
)

// Table is what a backtest found on one trace.
type Table struct {
	Trace  string
	Span   time.Duration // of the means that were foretold
	Levels []float64
	Rows   []Row
}

// Row is one forecaster at one lead time: the ensemble, or a member of it.
type Row struct {
	Name string
	Lead time.Duration
	// Scored is the number of forecasts.
	Scored int
	// Pinball is the mean pinball loss over the levels and WAPE the mean absolute error of the
	// point, both as shares of the mean rate.
	Pinball, WAPE float64
	// Coverage is the share of what came that was at most the quantile, by level.
	Coverage []float64
	// Width is the mean of the quantile beyond the point, by level, as a share of the mean rate.
	Width []float64
	// Weight is the mean weight in the ensemble; 1 for the ensemble itself.
	Weight float64
}

// Backtest runs an ensemble over a trace, observing it step by step, and scores what it
// and each of its members said at the lead times against what came then. The first share warm of the trace
// is learned from and not scored. A trace with longer steps than the grid's is taken as the straight lines between
// the middles of its steps.
func Backtest(t *trace.Trace, c Config, leads []time.Duration, warm float64) Table {
	if c.Span == 0 {
		c.Span = c.filled().Grid
	}
	e := New(c)
	tab := Table{Trace: t.Name, Span: c.Span, Levels: e.levels}
	b := &backtest{e: e, leads: leads, from: t.Start.Add(time.Duration(warm * float64(t.Duration())))}
	e.watch = b.see
	step := t.Step
	if step > e.cfg.Grid {
		step = e.cfg.Grid
	}
	n := int(t.Duration() / max(step, 1))
	for i := range n {
		end := t.Start.Add(time.Duration(i+1) * step)
		e.Observe(end, step, rateAt(t, time.Duration(i)*step+step/2))
	}
	for k := range b.tallies {
		tab.Rows = append(tab.Rows, b.tallies[k].row(b, k))
	}
	return tab
}

// rateAt returns the rate of a trace, in events a second, at a time from its start.
func rateAt(t *trace.Trace, at time.Duration) float64 {
	n := len(t.Counts)
	p := float64(at)/float64(t.Step) - 0.5
	i := int(math.Floor(p))
	s := t.Step.Seconds()
	a, b := t.Counts[min(max(i, 0), n-1)]/s, t.Counts[min(max(i+1, 0), n-1)]/s
	return a + (b-a)*(p-float64(i))
}

type backtest struct {
	e       *Ensemble
	leads   []time.Duration
	from    time.Time
	anchors []int
	tallies []tally // lead by lead: the ensemble, then the members
}

// tally adds up one row.
type tally struct {
	n                            int
	pinball, wrong, weight, rate float64
	covered, width               []float64
}

func (b *backtest) see(a int, is *issue, y float64) {
	e := b.e
	m, l := len(e.members), len(e.levels)
	if b.tallies == nil {
		for _, lead := range b.leads {
			b.anchors = append(b.anchors, e.anchorOf(lead))
		}
		b.tallies = make([]tally, len(b.leads)*(m+1))
		for i := range b.tallies {
			b.tallies[i].covered, b.tallies[i].width = make([]float64, l), make([]float64, l)
		}
	}
	if e.grid.time(is.step).Before(b.from) {
		return
	}
	q := make([]float64, l)
	for k, want := range b.anchors {
		if want != a {
			continue
		}
		b.tallies[k*(m+1)].add(is.point[a], y, is.quantiles[a*l:(a+1)*l], e.levels, 1)
		for i, en := range e.members {
			p := is.points[a*m+i]
			if p != p {
				continue
			}
			for j := range q {
				q[j] = max(0, p+is.scale[a]*is.offsets[i*len(en.offsets)+a*l+j])
			}
			b.tallies[k*(m+1)+1+i].add(p, y, q, e.levels, en.weight[a])
		}
	}
}

func (t *tally) add(point, y float64, q, levels []float64, weight float64) {
	t.n++
	t.rate += y
	t.weight += weight
	t.wrong += math.Abs(y - point)
	for j, l := range levels {
		if y <= q[j] {
			t.covered[j]++
			t.pinball += (1 - l) * (q[j] - y) / float64(len(levels))
		} else {
			t.pinball += l * (y - q[j]) / float64(len(levels))
		}
		t.width[j] += q[j] - point
	}
}

func (t *tally) row(b *backtest, k int) Row {
	m := len(b.e.members) + 1
	r := Row{Name: "ensemble", Lead: b.leads[k/m], Scored: t.n, Coverage: make([]float64, len(t.covered)), Width: make([]float64, len(t.covered))}
	if k%m > 0 {
		r.Name = b.e.members[k%m-1].Name()
	}
	if t.n == 0 || t.rate == 0 {
		return r
	}
	n := float64(t.n)
	r.Pinball, r.WAPE = t.pinball/t.rate, t.wrong/t.rate
	r.Weight = t.weight / float64(max(1, b.tallies[k/m*m].n))
	for j := range t.covered {
		r.Coverage[j], r.Width[j] = t.covered[j]/n, t.width[j]/t.rate
	}
	return r
}

// anchorOf returns the anchor nearest to a lead time.
func (e *Ensemble) anchorOf(lead time.Duration) int {
	want, best := e.grid.grid.steps(lead), 0
	for a := range e.anchors {
		if abs(e.anchors[a].start-want) < abs(e.anchors[best].start-want) {
			best = a
		}
	}
	return best
}

func abs(x int) int { return max(x, -x) }
