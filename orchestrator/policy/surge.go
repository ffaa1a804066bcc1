package policy

import "github.com/freshet-io/freshet/orchestrator"

// surge notices a rate that rises above everything that was forecast for it, and draws the
// rise on for a while: a forecaster learns from errors, and the first minute of a surge is too short to learn in.
type surge struct {
	on     bool
	from   float64 // the rate now
	slope  float64 // a second
	lasts  float64 // seconds that it goes on
	upper  float64 // of what was forecast last
	before float64 // the rate of the window before
	seen   int64
}

func (u *surge) see(in *orchestrator.Input, p *past, seconds float64) {
	s := in.Signals
	if !s.Known.Has(orchestrator.KnownArrivals) || s.Window <= 0 || !(s.Arrivals >= 0 && s.Arrivals < most) || s.Time.UnixNano() <= u.seen {
		return
	}
	u.seen = s.Time.UnixNano()
	r := s.Arrivals
	slope := (r - u.before) / s.Window.Seconds()
	u.on = seconds > 0 && u.upper > 0 && u.before > 0 && r > u.upper
	if u.on {
		u.from, u.slope, u.lasts = r, max(slope, 0), seconds
	}
	u.before = r
	if in.Demand != nil && len(in.Demand.Rates) > 0 {
		u.upper = demandAt(in.Demand, in.Now, 0, 0.99)
	} else {
		u.upper = 0
	}
}

// rate is what is to be expected t seconds from now.
func (u *surge) rate(t float64) float64 {
	return min(u.from+u.slope*min(t, u.lasts), 3*u.from)
}
