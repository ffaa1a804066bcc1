package simulate

import (
	"math"
	"time"
)

// Foreseer is a pilot that tells which rate it expects at a lead time, events a second, as a low, a middle and a
// high value; NaN where it expects nothing. A Controller is one.
type Foreseer interface {
	Expected(lead time.Duration) (low, mid, high float64)
}

// pointSums are the sums of the point that is being made.
type pointSums struct {
	width                 float64
	at                    int
	span                  float64
	arrivals, ready, paid float64
	lag, late, published  float64
	served                float64 // the count at its beginning
	oldest                float64
	forecasts             []float64 // how many there were, by point
	foreseer              Foreseer
}

func (e *engine) initPoints() {
	e.points = e.w.Points
	if e.points == 0 {
		return
	}
	e.point.width = e.end / float64(e.points)
	e.point.foreseer, _ = e.pilot.(Foreseer)
	e.point.forecasts = make([]float64, e.points)
	e.res.Series = make([]Point, e.points)
	for i := range e.res.Series {
		e.res.Series[i].At = seconds(float64(i) * e.point.width)
	}
}

// pointTime is when the current point ends.
func (e *engine) pointTime() float64 {
	if e.points == 0 || e.point.at+1 >= e.points {
		return never
	}
	return float64(e.point.at+1) * e.point.width
}

// tally adds a stretch to the current point.
func (e *engine) tally(dt, arrivals, paid, oldest float64) {
	p := &e.point
	p.span += dt
	p.arrivals += arrivals
	p.ready += float64(len(e.ready)) * dt
	p.paid += paid * dt
	p.lag += max(0, e.queued-e.served) * dt
	if oldest > p.oldest {
		p.oldest = max(p.oldest, min(oldest, e.oldest()))
	}
}

// nextPoint writes the points that are over.
func (e *engine) nextPoint() {
	for e.pointTime() <= e.now {
		e.writePoint()
		e.point.at++
	}
}

func (e *engine) writePoint() {
	p := &e.point
	x := &e.res.Series[p.at]
	if p.span > 0 {
		x.Arrivals, x.Ready, x.Paid, x.Lag = p.arrivals/p.span, p.ready/p.span, p.paid/p.span, p.lag/p.span
	}
	if n := e.served - p.served + p.published; n > 0 {
		x.Late = min(1, p.late/n)
	}
	x.Oldest = seconds(p.oldest)
	p.span, p.arrivals, p.ready, p.paid, p.lag, p.late, p.published, p.oldest = 0, 0, 0, 0, 0, 0, 0, 0
	p.served = e.served
}

// foresee writes the pilot's forecast into the point of the time that it is about.
func (e *engine) foresee() {
	p := &e.point
	if e.points == 0 || p.foreseer == nil {
		return
	}
	lead := e.w.Capacity.StartUp
	low, mid, up := p.foreseer.Expected(lead)
	i := int((e.now + lead.Seconds()) / p.width)
	if i >= e.points || math.IsNaN(low+mid+up) {
		return
	}
	x := &e.res.Series[i]
	p.forecasts[i]++
	x.Forecast += mid
	x.ForecastLow += low
	x.ForecastUp += up
}

func (e *engine) finishPoints() {
	if e.points == 0 {
		return
	}
	e.writePoint()
	for i := range e.res.Series {
		x, n := &e.res.Series[i], e.point.forecasts[i]
		if n == 0 {
			n = math.NaN()
		}
		x.Forecast, x.ForecastLow, x.ForecastUp = x.Forecast/n, x.ForecastLow/n, x.ForecastUp/n
	}
}
