package policy

import (
	"fmt"
	"math"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

// DS2Config is DS2's scaling manager.
type DS2Config struct {
	// Interval is policy_interval, the length of an epoch.
	Interval time.Duration
	// WarmUp is how many epochs after a change are ignored; Activation after how many
	// evaluations a change may be made.
	WarmUp, Activation int
	// Factor is scaling_factor: this share more than needed.
	Factor float64
	// RateRatio is target_rate_ratio: where arrivals ÷ served is above it although no more
	// workers seem needed, they are multiplied by it.
	RateRatio float64
	// Busy is what useful time is taken from.
	Busy Busy
}

// DefaultDS2 is DS2's configuration.
func DefaultDS2() DS2Config {
	return DS2Config{Interval: 10 * time.Second, WarmUp: 2, Activation: 1, RateRatio: math.MaxFloat64, Busy: BusyCalls}
}

func (c *DS2Config) validate() error {
	if c.WarmUp < 0 || c.Activation < 0 {
		return errkind.Errorf(errkind.Config, "warm_up is %d and activation %d: neither may be negative", c.WarmUp, c.Activation)
	}
	return firstError(positive("interval", c.Interval), within("factor", c.Factor, 0, 100),
		within("rate_ratio", c.RateRatio, 1, math.MaxFloat64), c.Busy.validate())
}

// NewDS2 returns DS2 for one operator (Kalavri et al., "Three steps is all you need", OSDI 2018;
// strymon-system/ds2): arrivals ÷ the true rate of a worker, which is what it
// served ÷ the time it was of use. It ignores backlog, skew and the cost of a change, and
// lowers only by two workers or more, as its manager does.
func NewDS2(c DS2Config) (orchestrator.Policy, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("configure ds2: %w", err)
	}
	return &ds2{config: c}, nil
}

type ds2 struct {
	config      DS2Config
	epochs      int // since the last change
	evaluations int
	asked       int // workers of the last change, to see those of others
}

func (p *ds2) Name() string          { return "ds2" }
func (p *ds2) Period() time.Duration { return p.config.Interval }

// maxRescale is how long a change is waited for before workers are taken as they are.
const maxRescale = 10 * time.Minute

// rescaling reports whether workers that were ordered are not there yet.
func rescaling(in *orchestrator.Input) bool {
	s := in.Signals
	return (s.Starting > 0 || s.Ready < in.Target) && in.Now.Sub(in.Changed) < maxRescale && !in.Changed.IsZero()
}

func (p *ds2) Decide(in *orchestrator.Input) orchestrator.Decision {
	if !complete(in) {
		return hold(in, "no signals: nothing is done")
	}
	s := in.Signals
	const need = orchestrator.KnownArrivals | orchestrator.KnownServed | orchestrator.KnownWorkers
	use, ok := p.config.Busy.of(s, in.Capacity)
	if !ok || !s.Known.Has(need) || !usable(s.Arrivals) || !usable(s.Served) {
		return hold(in, "rates or useful time are not known: the epoch is ignored")
	}
	low, high := limits(in.Objective, 1)
	if rescaling(in) {
		return hold(in, "%d of %d workers are ready: the change is not done", s.Ready, in.Target)
	}
	if in.Target != p.asked {
		p.asked, p.epochs, p.evaluations = in.Target, 0, 0
	}
	if p.epochs < p.config.WarmUp {
		p.epochs++
		return hold(in, "epoch %d of %d to warm up", p.epochs, p.config.WarmUp)
	}
	p.epochs++
	p.evaluations++
	if use == 0 || s.Served == 0 {
		return hold(in, "nothing was served, so there is no true rate")
	}
	rate := s.Served / (use * float64(s.Ready))
	optimal := s.Arrivals / rate
	want := roundUp((1 + p.config.Factor) * optimal)
	adjusted := 1.0
	if ratio := s.Arrivals / s.Served; want <= in.Target && ratio > p.config.RateRatio {
		want = roundUp(ratio * float64(want))
		adjusted = ratio
	}
	n := min(max(want, low), high)
	change := n > in.Target || n < in.Target-1 || in.Target > high
	d := orchestrator.Decision{Workers: n}
	why := ""
	switch {
	case p.evaluations < p.config.Activation:
		d.Workers, why = in.Target, "; not enough evaluations yet"
	case !change:
		d.Workers, why = in.Target, "; not enough of a change"
	default:
		p.asked, p.epochs, p.evaluations = n, 0, 0
	}
	if in.Explain {
		d.Reason = fmt.Sprintf("%.1f arrivals/s at a true rate of %.1f/s a worker (served %.1f/s in %.0f %% of the time) need %.2f workers, so %d%s",
			s.Arrivals, rate, s.Served, 100*use, optimal, n, why)
		if adjusted > 1 {
			d.Reason += fmt.Sprintf("; times %.2f, as arrivals are that much more than served", adjusted)
		}
	}
	return d
}
