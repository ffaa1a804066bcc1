package forecast

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// Forecast fills in d. See orchestrator.Forecaster, and Config.Span for what a row is of.
func (e *Ensemble) Forecast(d *orchestrator.Demand, leads int) {
	d.Note = ""
	d.Members = d.Members[:0]
	if leads <= 0 || leads > 1e6 || d.Step <= 0 || len(d.Levels) == 0 {
		d.Rates = d.Rates[:0]
		d.Note = "no lead times, step or levels were asked for"
		return
	}
	e.adopt(d.Levels)
	if !e.asked {
		e.asked = true
		if s := e.grid.grid.steps(d.Step); s != e.span {
			e.span = s
			if e.started {
				e.arrange()
			}
		}
	}
	if !e.started {
		d.Rates = d.Rates[:0]
		d.Note = "nothing was observed yet"
		return
	}
	e.foresee()
	// What was observed ends where the open step begins.
	g := e.grid.grid
	ahead := 0.0
	if ns, ok := e.grid.nanos(d.Time); ok {
		ahead = max(0, float64(ns-e.grid.startOf(e.step+1))/float64(g.Step))
	}
	e.fill(d, leads, ahead, float64(d.Step)/float64(g.Step))
	e.credit(d)
	e.note(d, ahead)
}

// fill interpolates between anchors. ahead is where lead 0 begins and each how long leads are, in steps.
func (e *Ensemble) fill(d *orchestrator.Demand, leads int, ahead, each float64) {
	if cap(d.Rates) < leads {
		d.Rates = append(d.Rates[:cap(d.Rates)], make([][]float64, leads-cap(d.Rates))...)
	}
	d.Rates = d.Rates[:leads]
	n, l := len(d.Levels), len(e.levels)
	q := e.now.quantiles
	var place [maxLevels + 1]int
	if n > maxLevels {
		n = maxLevels
	}
	for j := range n {
		place[j] = e.nearest(d.Levels[j])
	}
	lastAnchor := len(e.anchors) - 1
	a := 0
	for i := range d.Rates {
		row := d.Rates[i]
		if cap(row) < len(d.Levels) {
			row = make([]float64, len(d.Levels))
		}
		row = row[:len(d.Levels)]
		d.Rates[i] = row
		p := ahead + float64(i)*each
		for a < lastAnchor && float64(e.anchors[a+1].start) <= p {
			a++
		}
		low := 0.0
		if a == lastAnchor {
			// Behind the horizon errors go on growing as those of a random walk.
			at := e.anchors[a].start
			wide := math.Sqrt(max(1, (p+float64(e.span))/float64(at+e.span)))
			f := e.now.point[a]
			for j := range n {
				low = max(low, f+(q[a*l+place[j]]-f)*wide)
				row[j] = low
			}
		} else {
			s, t := float64(e.anchors[a].start), float64(e.anchors[a+1].start)
			u := (p - s) / (t - s)
			for j := range n {
				x := q[a*l+place[j]]
				low = max(low, x+(q[(a+1)*l+place[j]]-x)*u)
				row[j] = low
			}
		}
		for j := n; j < len(row); j++ {
			row[j] = low
		}
	}
}

func (e *Ensemble) nearest(level float64) int {
	best := 0
	for j, l := range e.levels {
		if math.Abs(l-level) < math.Abs(e.levels[best]-level) {
			best = j
		}
	}
	return best
}

// credit fills in the members' mean weights.
func (e *Ensemble) credit(d *orchestrator.Demand) {
	for _, m := range e.members {
		d.Members = append(d.Members, orchestrator.Member{Name: m.Name(), Weight: m.meanWeight()})
	}
	slices.SortStableFunc(d.Members, func(a, b orchestrator.Member) int { return cmp.Compare(b.Weight, a.Weight) })
}

// note says what is unusual.
func (e *Ensemble) note(d *orchestrator.Demand, ahead float64) {
	g := e.grid.grid
	var notes []string
	if need := 2 * (e.anchors[len(e.anchors)-1].start + e.span); e.seen < int64(need) {
		notes = append(notes, fmt.Sprintf("only %v was observed", time.Duration(e.seen)*g.Step))
	}
	if stale := time.Duration(ahead * float64(g.Step)); stale > max(3*g.Step, 2*d.Step, time.Minute) {
		notes = append(notes, fmt.Sprintf("nothing was observed for %v", stale.Round(time.Second)))
	}
	for _, m := range e.members {
		if m.diverged {
			notes = append(notes, m.Name()+" diverged and is left out")
		}
	}
	if e.grid.behind > 0 {
		notes = append(notes, "observations come from before earlier ones")
	}
	if len(notes) > 0 {
		d.Note = strings.Join(notes, "; ")
	}
}

func (m *entrant) meanWeight() float64 {
	var sum float64
	for _, w := range m.weight {
		sum += w
	}
	return sum / float64(len(m.weight))
}
