package policy

import (
	"math"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// pace compares the late events of late with those that may be late.
type pace struct {
	events, late float64 // forgotten by half in paceHalfLife
	seen         time.Time
	allowed      float64
}

const (
	paceHalfLife = 6 * time.Hour
	paceStart    = time.Hour // of events on budget are held to have been before the first
	paceLimit    = 1.0       // budgets too many that count
)

// see takes the late events of one window.
func (p *pace) see(s *orchestrator.Signals, o *orchestrator.Objective, spend float64) {
	p.allowed = max(1e-5, min(1, spend*(1-o.Quantile)))
	if !s.Known.Has(orchestrator.KnownLate|orchestrator.KnownServed) || s.Window <= 0 || !s.Time.After(p.seen) {
		return
	}
	n := s.Served * s.Window.Seconds()
	if !(n >= 0) || math.IsInf(n, 0) {
		return
	}
	if p.seen.IsZero() {
		p.events = s.Served * paceStart.Seconds()
		p.late = p.allowed * p.events
	}
	keep := math.Exp2(-float64(s.Window) / float64(paceHalfLife))
	p.events = p.events*keep + n
	p.late = p.late*keep + n*min(max(s.Late, 0), 1)
	p.seen = s.Time
}

// ease is 1 while nothing is late, 0 on budget, and negative beyond it.
func (p *pace) ease() float64 {
	if p.events <= 0 || p.allowed <= 0 {
		return 0
	}
	return 1 - min(p.late/p.events/p.allowed, 1+paceLimit)
}
