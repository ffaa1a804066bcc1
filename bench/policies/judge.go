package policies

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

const (
	// equal is the difference of late shares that counts as none: a twentieth of what 0.99 allows.
	equal = 0.0005
	// sudden is the rise, over the mean rate, that one minute in a thousand exceeds on a bursty trace.
	sudden = 0.5
)

// report puts the results in order; drawings and conclusions follow.
func (c *Config) report(entrants []*entrant, fields []*field) *Report {
	r := &Report{Made: c.Made, World: c.World.stated(), Seeds: c.Seeds, Ours: OursName}
	for _, e := range entrants {
		if e.tuned {
			g := Grid{Policy: e.name, Defaults: e.defaults.text}
			for _, s := range e.settings {
				g.Settings = append(g.Settings, s.text)
			}
			r.Grids = append(r.Grids, g)
		}
	}
	for _, f := range fields {
		r.Traces = append(r.Traces, c.traceOf(f))
	}
	return r
}

func (c *Config) traceOf(f *field) Trace {
	t := Trace{
		Name: f.whole.Name, Step: f.whole.Step.Seconds(), Tick: f.tick.Seconds(), Notes: slices.Clone(f.whole.Notes),
		Tuned: f.first.Duration().Hours(), Judged: f.rest.Duration().Hours(),
	}
	if f.whole.Step < f.tick {
		t.Step = f.tick.Seconds()
	}
	t.Rise, t.Peak = suddenness(f.whole.Draw(1, f.tick))
	t.Bursty = t.Rise > sudden
	for _, b := range f.bounds {
		t.Bound += b / float64(c.Seeds) / c.World.Capacity.Price() / 3600
	}
	all := f.whole.Duration().Hours()
	if left := all - t.Tuned - t.Judged; left > 0.01*all {
		t.Notes = append(t.Notes, fmt.Sprintf("%.3g of %.4g h are left out: at most %s are tuned by and judged", left, all, c.Longest))
	}
	for i, row := range f.rows {
		t.Lines = append(t.Lines, c.lineOf(f, row, f.results[i]))
	}
	for i, row := range f.rows {
		l := &t.Lines[i]
		if l.Group != Tuned || row.entrant.name == "static" {
			continue // not reactive
		}
		if b := t.line(t.Best); b == nil || l.preferred(b) {
			t.Best = l.Policy
		}
	}
	return t
}

// preferred is better for lines: the objective kept at less cost, or nearer to it.
func (l *Line) preferred(b *Line) bool {
	switch {
	case l.Keeps && b.Keeps:
		return l.Cost.Mean < b.Cost.Mean
	case l.Keeps != b.Keeps:
		return l.Keeps
	}
	return l.Late.Mean < b.Late.Mean
}

func (t *Trace) line(policy string) *Line {
	for i := range t.Lines {
		if t.Lines[i].Policy == policy {
			return &t.Lines[i]
		}
	}
	return nil
}

func (c *Config) lineOf(f *field, row contender, results []*simulate.Result) Line {
	l := Line{Policy: row.name, Group: row.group}
	switch row.group {
	case Tuned:
		l.Setting = row.entrant.settings[row.setting].text
	case Default:
		l.Setting = row.entrant.defaults.text
	}
	n := float64(len(results))
	for s, res := range results {
		cost := math.NaN()
		if f.bounds[s] > 0 {
			cost = res.Cost / f.bounds[s]
		}
		l.costs, l.lates = append(l.costs, cost), append(l.lates, lateShare(res))
		l.P50 += res.P50.Seconds() / n
		l.P95 += res.P95.Seconds() / n
		l.P99 += res.P99.Seconds() / n
		l.Busy += res.Busy / n
		l.Actions += float64(res.Actions) / (res.Seconds / 86400) / n
		l.Worst = max(l.Worst, res.WorstMinute)
	}
	l.Cost, l.Late = intervalOf(l.costs), intervalOf(l.lates)
	l.Keeps = l.Late.Mean <= allowed(&c.World.Objective)
	return l
}

// suddenness gives the rise from minute to minute, over the mean, that one minute in a thousand exceeds, and
// the largest minute over the mean.
func suddenness(t *trace.Trace) (rise, peak float64) {
	per := max(1, int(time.Minute/t.Step))
	var rates []float64
	for i := 0; i+per <= len(t.Counts); i += per {
		sum := 0.0
		for _, n := range t.Counts[i : i+per] {
			sum += n
		}
		rates = append(rates, sum/float64(per)/t.Step.Seconds())
	}
	mean := t.Mean()
	if mean <= 0 {
		return 0, 0
	}
	var rises []float64
	for i, r := range rates {
		if math.IsNaN(r) {
			continue
		}
		peak = max(peak, r/mean)
		if i > 0 && !math.IsNaN(rates[i-1]) {
			rises = append(rises, (r-rates[i-1])/mean)
		}
	}
	if len(rises) == 0 {
		return 0, peak
	}
	slices.Sort(rises)
	return max(0, rises[int(math.Ceil(0.999*float64(len(rises))))-1]), peak
}

// conclude compares over traces.
func (c *Config) conclude(r *Report) error {
	names := r.policies()
	for _, n := range names {
		r.Over = append(r.Over, r.over(n))
	}
	slices.SortStableFunc(r.Over, func(a, b Over) int {
		switch {
		case a.Cost < b.Cost:
			return -1
		case a.Cost > b.Cost:
			return 1
		}
		return 0
	})
	for _, o := range r.Over {
		if o.Group == Tuned || o.Group == Default {
			r.Rivals = append(r.Rivals, r.rival(o.Policy, o.Group, func(*Trace) string { return o.Policy }))
		}
	}
	if best := r.rival(bestName, Tuned, func(t *Trace) string { return t.Best }); len(best.Saved) > 0 {
		r.Rivals = append([]Rival{best}, r.Rivals...)
	}
	r.losses()
	r.Notes = append(r.Notes, notes...)
	return c.goals(r)
}

// notes hold for every report.
var notes = []string{
	"Tuned policies have, on each trace, the setting that was cheapest on the first third with the objective kept there, or least late where none kept it. Ours has one setting for all traces; its forecaster has seen the arrivals of the first third.",
	"Static peak has as many workers as the busiest stretch of the first third needs. Foresight knows all arrivals and is no rival. The bound pays for no start-up, no idle partition and no late event.",
	"The best tuned reactive policy of a trace is the cheapest that keeps the objective on what is judged, chosen with hindsight.",
	fmt.Sprintf("Late shares that differ by less than %s count as equal. A policy that does not keep the objective is compared by cost only where it costs more as well.", percent(equal, 2)),
	fmt.Sprintf("A trace is bursty where, in one minute of a thousand, the rate rises by more than %s of its mean over the minute before.", percent(sudden, 0)),
	"Where the steps of a trace are longer than a tick, arrivals are Poisson around a rate between steps; shorter ones keep their own noise, and seeds vary start-ups only.",
}

// policies are the names of all lines in order, each once.
func (r *Report) policies() []string {
	var names []string
	for i := range r.Traces {
		for _, l := range r.Traces[i].Lines {
			if !slices.Contains(names, l.Policy) {
				names = append(names, l.Policy)
			}
		}
	}
	return names
}

func (r *Report) over(policy string) Over {
	o := Over{Policy: policy}
	var costs, lates []float64
	for i := range r.Traces {
		l := r.Traces[i].line(policy)
		if l == nil {
			continue
		}
		o.Group = l.Group
		o.N++
		if l.Keeps {
			o.Keeps++
		}
		costs, lates = append(costs, l.Cost.Mean), append(lates, l.Late.Mean)
		o.MostLate = max(o.MostLate, l.Late.Mean)
	}
	o.Cost, o.Late = median(costs), median(lates)
	return o
}

// rival compares ours with a policy, trace by trace.
func (r *Report) rival(name string, g Group, pick func(*Trace) string) Rival {
	v := Rival{Policy: name, Group: g}
	var kept, strict, costs, lates []float64
	for i := range r.Traces {
		t := &r.Traces[i]
		ours, other := t.line(r.Ours), t.line(pick(t))
		if ours == nil || other == nil {
			continue
		}
		s := Saving{
			Trace: t.Name, Against: other.Policy, Saved: 1 - ours.Cost.Mean/other.Cost.Mean, Limit: 1 - 1/other.Cost.Mean,
			NoLater: ours.Late.Mean <= other.Late.Mean+equal, OursKeeps: ours.Keeps, BothKeep: ours.Keeps && other.Keeps,
		}
		s.Comparable = s.BothKeep || s.NoLater && s.Saved > 0
		if s.Comparable {
			kept = append(kept, s.Saved)
			if s.NoLater {
				strict = append(strict, s.Saved)
			}
		}
		costs = append(costs, math.Log(ours.Cost.Mean/other.Cost.Mean))
		lates = append(lates, ours.Late.Mean-other.Late.Mean)
		v.Saved = append(v.Saved, s)
	}
	v.Strict, v.NoLater = orZero(median(strict)), len(strict)
	v.Kept, v.Comparable = orZero(median(kept)), len(kept)
	v.Cost, v.LateTest = signedRank(costs), signedRank(lates)
	return v
}

// orZero keeps NaN out of JSON.
func orZero(x float64) float64 {
	if math.IsNaN(x) {
		return 0
	}
	return x
}

// losses says where others do better.
func (r *Report) losses() {
	for i := range r.Traces {
		t := &r.Traces[i]
		ours := t.line(r.Ours)
		if ours == nil {
			continue
		}
		if !ours.Keeps {
			r.Losses = append(r.Losses, fmt.Sprintf("%s: the objective is not kept, %s of the events are late.", t.Name, percent(ours.Late.Mean, 2)))
		}
		for k := range t.Lines {
			l := &t.Lines[k]
			if l.Group == Ours || l.Group == Offline || !(l.Cost.Mean < ours.Cost.Mean) {
				continue
			}
			who := l.Policy
			if l.Group == Ablation {
				who = "ours with “" + l.Policy + "”"
			}
			less := percent(1-l.Cost.Mean/ours.Cost.Mean, 1)
			switch {
			case l.Late.Mean <= ours.Late.Mean+equal:
				r.Losses = append(r.Losses, fmt.Sprintf("%s: %s costs %s less and is no later (%s late, ours %s).", t.Name, who, less, percent(l.Late.Mean, 2), percent(ours.Late.Mean, 2)))
			case l.Keeps:
				r.Losses = append(r.Losses, fmt.Sprintf("%s: %s costs %s less within the objective, though later (%s late, ours %s).", t.Name, who, less, percent(l.Late.Mean, 2), percent(ours.Late.Mean, 2)))
			}
		}
	}
	if len(r.Losses) == 0 {
		r.Losses = append(r.Losses, "On none of these traces is another policy cheaper within the objective.")
	}
}
