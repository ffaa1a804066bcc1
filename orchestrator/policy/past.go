package policy

import (
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// past keeps the arrival rates of the latest windows.
type past struct {
	end  [pastWindows]time.Time
	rate [pastWindows]float64
	last int // index of the newest
	n    int
	from time.Time // beginning of the oldest
}

const pastWindows = 64

// most is what no rate and no number of events reaches; beyond it sums lose their sense.
const most = 1e12

// see adds the window of s, once.
func (p *past) see(s *orchestrator.Signals) {
	if !s.Known.Has(orchestrator.KnownArrivals) || s.Window <= 0 || !(s.Arrivals >= 0 && s.Arrivals < most) {
		return
	}
	if p.n > 0 && !s.Time.After(p.end[p.last]) {
		if p.end[p.last].Sub(s.Time) > time.Minute {
			p.n = 0 // the clock was set back
		} else {
			return
		}
	}
	if p.n == 0 {
		p.from = s.Time.Add(-s.Window)
	}
	p.last = (p.last + 1) % pastWindows
	if p.n == pastWindows {
		p.from = p.end[p.last]
	} else {
		p.n++
	}
	p.end[p.last], p.rate[p.last] = s.Time, s.Arrivals
}

// latest is the rate of the newest window.
func (p *past) latest() float64 {
	if p.n == 0 {
		return 0
	}
	return p.rate[p.last]
}

// between returns the events that arrived from one time to another. Before the first window
// and after the last one the nearest rate goes on.
func (p *past) between(from, to time.Time) float64 {
	if p.n == 0 || !to.After(from) {
		return 0
	}
	sum := 0.0
	end := to
	for k := 0; k < p.n && end.After(from); k++ {
		i := (p.last - k + pastWindows) % pastWindows
		// Window i reaches back to the end of the one before; the newest reaches on.
		begin := p.from
		if k+1 < p.n {
			begin = p.end[(i-1+pastWindows)%pastWindows]
		}
		if k+1 == p.n {
			begin = from
		}
		if begin.Before(from) {
			begin = from
		}
		if d := end.Sub(begin); d > 0 {
			sum += p.rate[i] * d.Seconds()
			end = begin
		}
	}
	return sum
}

// mean is the mean rate of the last stretch of time up to now.
func (p *past) mean(now time.Time, stretch time.Duration) float64 {
	if p.n > 0 {
		// What is not seen yet is left out.
		now = p.end[p.last]
		if age := now.Sub(p.from); age < stretch && age > 0 {
			stretch = age
		}
	}
	return p.between(now.Add(-stretch), now) / stretch.Seconds()
}
