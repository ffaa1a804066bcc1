package forecast

import (
	"math"
	"time"
)

// holtWinters is exponential smoothing with an additive level, a damped additive trend and an additive season of a
// day (Holt 1957, Winters 1960; damped after Gardner & McKenzie 1985). Its level and trend
// live on the grid, its season on slots of ten minutes with straight lines between their middles. The smoothing
// parameters are searched for now and then on recent history, by the errors some minutes ahead.
type holtWinters struct {
	grid   Grid
	slot   int64 // nanoseconds
	season []float64
	first  []ewma // means of the slots, until the season begins
	days   float64
	p      smoothing
	level  float64
	trend  float64
	step   int64
	begun  int64
	seen   int
	recent []float64 // ring of deseasonalised values, NaN where unknown
	at     int
	until  int // steps to the next search
	wait   int
	probe  [2]int
	work   []float64
}

// smoothing are the parameters that are searched for.
type smoothing struct{ alpha, beta, phi float64 }

const (
	seasonRate  = 0.3 // share of a day's error that the season takes
	searchSteps = 1440
	searchEvery = 2160 // steps
)

func newHoltWinters(g Grid) Member {
	h := &holtWinters{grid: g, p: smoothing{0.2, 0, 0.9}, until: 60, wait: 60, recent: make([]float64, searchSteps), work: make([]float64, searchSteps)}
	h.slot = int64(max(10*time.Minute, g.Step))
	for int64(day)%h.slot != 0 && h.slot < int64(day) {
		h.slot += int64(time.Second)
	}
	n := int(int64(day) / h.slot)
	h.season, h.first = make([]float64, n), make([]ewma, n)
	for i := range h.first {
		h.first[i].keep = 1
	}
	h.probe = [2]int{g.steps(time.Minute), g.steps(5 * time.Minute)}
	return h
}

func (h *holtWinters) Name() string { return "holt-winters" }

// place returns a step's slot of the day, and how far between its middle and the next one's.
func (h *holtWinters) place(step int64) (int, float64) {
	ns := step*int64(h.grid.Step) + int64(h.grid.Phase) + int64(h.grid.Step)/2
	p := float64(ns%int64(day))/float64(h.slot) - 0.5
	if p < 0 {
		p += float64(len(h.season))
	}
	i := int(p)
	return i % len(h.season), p - float64(i)
}

func (h *holtWinters) seasonAt(step int64) float64 {
	i, f := h.place(step)
	j := i + 1
	if j == len(h.season) {
		j = 0
	}
	return h.season[i] + (h.season[j]-h.season[i])*f
}

func (h *holtWinters) Update(step int64, x float64) {
	if h.seen == 0 {
		if x != x {
			return
		}
		h.level, h.begun, h.step = x, step, step-1
	}
	h.step = step
	s := h.seasonAt(step)
	h.recent[h.at%searchSteps] = x - s
	h.at++
	h.level, h.trend = h.p.next(h.level, h.trend, x-s)
	if x == x {
		h.seen++
		h.learnSeason(step, x)
	}
	if h.until--; h.until <= 0 {
		h.search()
		h.wait = min(2*h.wait, searchEvery)
		h.until = h.wait
	}
}

// next returns level and trend after a deseasonalised value.
func (p smoothing) next(level, trend, x float64) (float64, float64) {
	to := level + p.phi*trend
	e := x - to
	if e != e {
		return to, p.phi * trend
	}
	return to + p.alpha*e, p.phi*trend + p.alpha*p.beta*e
}

// learnSeason begins with the first day's means about their mean, and corrects by the errors from then on.
func (h *holtWinters) learnSeason(step int64, x float64) {
	i, f := h.place(step)
	j := (i + 1) % len(h.season)
	perDay := float64(day) / float64(h.grid.Step)
	if h.days == 0 {
		h.first[i].add(x)
		if float64(step-h.begun) < perDay || float64(h.seen) < perDay/2 {
			return
		}
		h.days = 1
		var sum, n float64
		for k := range h.first {
			if h.first[k].weight > 0 {
				sum += h.first[k].value
				n++
			}
		}
		mean := sum / n
		// The slot of place begins at its middle, half a slot before that of the mean's.
		m := len(h.season)
		for k := range h.season {
			a, b := &h.first[k], &h.first[(k+m-1)%m]
			v := 0.0
			switch {
			case a.weight > 0 && b.weight > 0:
				v = (a.value+b.value)/2 - mean
			case a.weight > 0:
				v = a.value - mean
			}
			h.season[k] = v
		}
		h.level = x - h.seasonAt(step)
		h.trend = 0
		// What was remembered had no season.
		h.at = 0
		return
	}
	e := x - h.level - h.seasonAt(step)
	rate := seasonRate / float64(h.slot/int64(h.grid.Step))
	h.season[i] += rate * (1 - f) * e
	h.season[j] += rate * f * e
}

// search tries a grid of parameters on recent history.
func (h *holtWinters) search() {
	n := min(h.at, searchSteps)
	if n < 40 {
		return
	}
	v := h.work[:n]
	for i := range v {
		v[i] = h.recent[(h.at-n+i)%searchSteps]
	}
	best, least := h.p, h.loss(v, h.p)*0.99 // who is in place stays where others are hardly better
	for _, alpha := range [...]float64{0.01, 0.03, 0.08, 0.2, 0.5, 0.9} {
		for _, beta := range [...]float64{0, 0.02, 0.1, 0.4} {
			for _, phi := range [...]float64{0.9, 0.98, 0.995} {
				if beta == 0 && phi != 0.9 {
					continue
				}
				p := smoothing{alpha, beta, phi}
				if l := h.loss(v, p); l < least {
					best, least = p, l
				}
			}
		}
	}
	h.p = best
}

// loss is the sum of absolute errors one and five minutes ahead.
func (h *holtWinters) loss(v []float64, p smoothing) float64 {
	var level, trend, sum float64
	begun := false
	grow := [2]float64{p.reach(h.probe[0]), p.reach(h.probe[1])}
	for i, x := range v {
		if !begun {
			if x != x {
				continue
			}
			level, begun = x, true
		}
		level, trend = p.next(level, trend, x)
		if i%3 != 0 || i < len(v)/8 {
			continue
		}
		for k, lead := range h.probe {
			if i+lead < len(v) {
				if e := math.Abs(v[i+lead] - level - grow[k]*trend); e == e {
					sum += e
				}
			}
		}
	}
	return sum
}

// reach is what a trend of 1 adds in so many steps.
func (p smoothing) reach(steps int) float64 {
	return p.phi * (1 - math.Pow(p.phi, float64(steps))) / (1 - p.phi)
}

func (h *holtWinters) Predict(leads []int, dst []float64) {
	for k, l := range leads {
		if h.seen < 12 {
			dst[k] = nan
			continue
		}
		dst[k] = h.level + h.p.reach(l)*h.trend + h.seasonAt(h.step+int64(l))
	}
}
