package policies

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
)

// Sizes of pictures, in their own units; a page stretches them.
const (
	pictureWidth  = 900.0
	pictureHeight = 190.0
)

// palette gives each policy a colour class of its own; the same one all over the page.
type palette map[string]int

func newPalette(r *Report) palette {
	p := palette{}
	var names []string
	for _, o := range r.Over {
		names = append(names, o.Policy)
	}
	for _, t := range r.Traces {
		for _, l := range t.Lines {
			names = append(names, l.Policy)
		}
	}
	// Ours has the first colour, the rest follow by name.
	p[r.Ours] = 0
	slices.Sort(names)
	for _, n := range slices.Compact(names) {
		if _, ok := p[n]; !ok {
			p[n] = 1 + (len(p)-1)%colours
		}
	}
	return p
}

// colours is how many the style sheet has beside that of ours.
const colours = 11

func (p palette) class(policy string) string { return fmt.Sprintf("c%d", p[policy]) }

// load draws the arrivals of a part with the forecast band of ours.
func (d *drawing) load(ours string) string {
	var line *drawnLine
	for i := range d.Lines {
		if line == nil || d.Lines[i].Policy == ours {
			line = &d.Lines[i]
		}
	}
	if line == nil || len(line.Points) == 0 {
		return ""
	}
	n := len(line.Points)
	xs, load := make([]float64, n), make([]float64, n)
	mid, low, high := make([]float64, n), make([]float64, n), make([]float64, n)
	most := 0.0
	for i, q := range line.Points {
		xs[i], load[i], mid[i], low[i], high[i] = q.At, q.Arrivals, q.Forecast, q.Lowest, q.Greatest
		most = max(most, q.Arrivals)
	}
	y := scale{low: 0, high: most * 1.25}
	p := newPlot(pictureWidth, pictureHeight, scale{low: 0, high: d.Length.Hours()}, y, "arrivals with the forecast of "+ours, "events/s", "hours", compact)
	p.band("band", xs, low, high)
	p.path("line load", xs, load, false)
	p.path("line forecast", xs, mid, false)
	p.xTicks(8, compact)
	return p.svg()
}

// workers draws who pays for how many workers, and how many are ready.
func (d *drawing) workers(colour palette, shown func(string) bool) string {
	most := 1.0
	for _, l := range d.Lines {
		if !shown(l.Policy) {
			continue
		}
		for _, q := range l.Points {
			most = max(most, q.Paid)
		}
	}
	p := newPlot(pictureWidth, pictureHeight, scale{low: 0, high: d.Length.Hours()}, scale{low: 0, high: most * 1.08}, "workers paid and ready", "workers paid (dotted: ready)", "hours", compact)
	d.each(p, colour, shown, func(l *drawnLine, xs []float64) {
		paid, ready := make([]float64, len(xs)), make([]float64, len(xs))
		for i, q := range l.Points {
			paid[i], ready[i] = q.Paid, q.Ready
		}
		p.path("line "+colour.class(l.Policy), xs, paid, true)
		p.path("line dotted "+colour.class(l.Policy), xs, ready, true)
	})
	p.xTicks(8, compact)
	return p.svg()
}

// lateness draws the age of the oldest event.
func (d *drawing) lateness(colour palette, shown func(string) bool, target float64) string {
	most := 3 * target
	for _, l := range d.Lines {
		if !shown(l.Policy) {
			continue
		}
		for _, q := range l.Points {
			most = max(most, q.Oldest)
		}
	}
	y := scale{low: min(target/100, 0.1), high: min(most, 1000*target) * 1.2, log: true, marks: ages}
	p := newPlot(pictureWidth, pictureHeight, scale{low: 0, high: d.Length.Hours()}, y, "age of the oldest event", "oldest event", "hours", ageText)
	p.level("target", target, "objective")
	d.each(p, colour, shown, func(l *drawnLine, xs []float64) {
		ys := make([]float64, len(xs))
		for i, q := range l.Points {
			ys[i] = q.Oldest
		}
		p.path("line "+colour.class(l.Policy), xs, ys, false)
	})
	p.xTicks(8, compact)
	return p.svg()
}

// ages are the ticks of a scale of ages, in seconds.
var ages = []float64{0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 6 * 3600, 24 * 3600}

func ageText(s float64) string {
	switch {
	case s >= 3600:
		return fmt.Sprintf("%g h", s/3600)
	case s >= 60:
		return fmt.Sprintf("%g min", s/60)
	}
	return fmt.Sprintf("%g s", s)
}

// each draws the lines of all policies, ours last and so on top, those not shown hidden.
func (d *drawing) each(p *plot, colour palette, shown func(string) bool, draw func(l *drawnLine, xs []float64)) {
	for pass := range 2 {
		for i := range d.Lines {
			l := &d.Lines[i]
			if (l.Group == Ours) != (pass == 1) {
				continue
			}
			xs := make([]float64, len(l.Points))
			for k, q := range l.Points {
				xs[k] = q.At
			}
			hidden := ""
			if !shown(l.Policy) {
				hidden = ` style="display:none"`
			}
			fmt.Fprintf(&p.b, `<g data-p="%s"%s>`, html.EscapeString(l.Policy), hidden)
			draw(l, xs)
			p.b.WriteString("</g>")
		}
	}
}

// whole draws the load of a whole trace with the part that is drawn large.
func (t *Trace) whole() string {
	d := t.drawn
	if d == nil || len(d.Whole) == 0 {
		return ""
	}
	most := 0.0
	xs := make([]float64, len(d.Whole))
	for i, v := range d.Whole {
		xs[i] = t.Judged * float64(i) / float64(len(d.Whole))
		if !math.IsNaN(v) {
			most = max(most, v)
		}
	}
	p := newPlot(pictureWidth, 110, scale{low: 0, high: t.Judged}, scale{low: 0, high: most * 1.2}, "arrivals of the whole trace", "events/s", "hours", compact)
	from := d.From.Hours()
	fmt.Fprintf(&p.b, `<rect class="part" x="%.1f" y="%g" width="%.1f" height="%g"/>`,
		p.px(from), top, max(2, p.px(from+d.Length.Hours())-p.px(from)), p.height-top-bottom)
	p.path("line load", xs, d.Whole, false)
	p.xTicks(8, compact)
	return p.svg()
}

// mark is a policy in the picture of cost against lateness.
type mark struct {
	policy     string
	group      Group
	cost, late float64
}

// scatter draws cost against late share with the front of those that nobody beats in both.
func scatter(marks []mark, colour palette, allowed float64) string {
	const floor = 1e-5 // less is drawn at the edge
	most := 1.5
	for _, m := range marks {
		most = max(most, m.cost)
	}
	most = min(most*1.15, 60)
	const width, height = 900.0, 380.0
	p := newPlot(width, height, scale{low: floor, high: 1, log: true}, scale{low: 0.9, high: most, log: true}, "cost against late share", "cost ÷ bound", "", func(v float64) string { return fmt.Sprintf("%g×", v) })
	p.xTicks(5, func(v float64) string {
		if v <= floor*1.01 {
			return "≤0.001 %"
		}
		return fmt.Sprintf("%g %%", math.Round(v*1e7)/1e5)
	})
	fmt.Fprintf(&p.b, `<rect class="part" x="%g" y="%g" width="%.1f" height="%g"/><text class="t" x="%.1f" y="%g" text-anchor="end">late share allowed</text>`,
		left, top, p.px(allowed)-left, height-top-bottom, p.px(allowed)-4, height-bottom-6)
	fmt.Fprintf(&p.b, `<text class="t" x="%g" y="%g" text-anchor="end">late share →</text>`, width-right, height-bottom-6)
	front := pareto(marks)
	var fx, fy []float64
	for _, m := range front {
		fx, fy = append(fx, max(m.late, floor)), append(fy, m.cost)
	}
	p.path("line front", fx, fy, false)
	p.marks(marks, colour, floor)
	return p.svg()
}

// marks draws points with their names, moved apart where they would cover each other.
func (p *plot) marks(marks []mark, colour palette, floor float64) {
	type box struct{ x0, x1, y float64 }
	var taken []box
	marks = slices.Clone(marks)
	slices.SortStableFunc(marks, func(a, b mark) int {
		switch {
		case (a.group == Ours) != (b.group == Ours):
			if a.group == Ours {
				return -1
			}
			return 1
		case a.cost < b.cost:
			return -1
		case a.cost > b.cost:
			return 1
		}
		return strings.Compare(a.policy, b.policy)
	})
	for _, m := range marks {
		x, y := p.px(max(m.late, floor)), p.py(m.cost)
		class := colour.class(m.policy)
		if m.group == Offline || m.group == Ablation || m.group == Default {
			fmt.Fprintf(&p.b, `<circle class="ring %s" cx="%.1f" cy="%.1f" r="4.5"/>`, class, x, y)
		} else {
			fmt.Fprintf(&p.b, `<circle class="dot %s" cx="%.1f" cy="%.1f" r="5.5"/>`, class, x, y)
		}
		wide := 6.6 * float64(len([]rune(m.policy)))
		tx, anchor := x+9, "start"
		if tx+wide > p.width-right {
			tx, anchor = x-9, "end"
		}
		x0, x1 := tx, tx+wide
		if anchor == "end" {
			x0, x1 = tx-wide, tx
		}
		ty := y + 4
		for _, shift := range []float64{0, 13, -13, 26, -26, 39, -39, 52, -52, 65, -65} {
			free := true
			for _, t := range taken {
				if x0 < t.x1 && t.x0 < x1 && math.Abs(t.y-(y+4+shift)) < 12 {
					free = false
					break
				}
			}
			if free && y+4+shift > top+8 && y+4+shift < p.height-bottom-2 {
				ty = y + 4 + shift
				break
			}
		}
		taken = append(taken, box{x0, x1, ty})
		if math.Abs(ty-y-4) > 1 {
			fmt.Fprintf(&p.b, `<line class="lead" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, x, y, tx, ty-4)
		}
		bold := ""
		if m.group == Ours {
			bold = " ours"
		}
		fmt.Fprintf(&p.b, `<text class="t name%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, bold, tx, ty, anchor, html.EscapeString(m.policy))
	}
}

// pareto returns the marks that none is better than in both, by late share; those
// that know the future do not count.
func pareto(marks []mark) []mark {
	ms := slices.DeleteFunc(slices.Clone(marks), func(m mark) bool { return m.group == Offline })
	slices.SortStableFunc(ms, func(a, b mark) int {
		switch {
		case a.late < b.late || a.late == b.late && a.cost < b.cost:
			return -1
		case a.late == b.late && a.cost == b.cost:
			return 0
		}
		return 1
	})
	var front []mark
	best := math.Inf(1)
	for _, m := range ms {
		if m.cost < best {
			best = m.cost
			front = append(front, m)
		}
	}
	return front
}
