package orchestrator

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Settings is what a Controller is made of.
type Settings struct {
	// Forecaster may be nil: then the policy has no forecast.
	Forecaster Forecaster
	Policy     Policy
	Rails      Rails
	// Capacity is what is believed in the beginning.
	Capacity  Capacity
	Objective Objective
	Tiers     []Tier
	// Fit corrects the capacity by what is seen (see Fit).
	Fit bool
	// Step, Leads and Levels are what is asked of the forecaster; zero values mean 30 s, as many
	// as make 10 minutes, and DefaultLevels.
	Step   time.Duration
	Leads  int
	Levels []float64
	// Explain asks for reasons and candidates of every round.
	Explain bool
}

// DefaultLevels are the quantiles that a forecaster is asked for.
func DefaultLevels() []float64 { return []float64{0.1, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99} }

// Controller binds a forecaster and a policy together within rails. It is used by one
// goroutine. The same steps in the same order give the same decisions.
type Controller struct {
	set      Settings
	capacity Capacity
	fit      *Fit
	rails    *railing
	demand   Demand
	round    Round
	input    Input
	seen     time.Time // end of the latest signals that were taken
	peak     float64   // largest rate seen, forgotten by half in a day
	notes    []string
}

// NewController returns a controller. It knows nothing yet but its settings.
func NewController(set Settings) *Controller {
	if set.Step <= 0 {
		set.Step = 30 * time.Second
	}
	if set.Leads <= 0 {
		set.Leads = max(1, int(10*time.Minute/set.Step))
	}
	if len(set.Levels) == 0 {
		set.Levels = DefaultLevels()
	}
	c := &Controller{set: set, capacity: set.Capacity}
	c.rails = newRailing(set.Rails, set.Policy.Period())
	c.rails.explain = set.Explain
	if set.Fit {
		c.fit = NewFit(set.Capacity)
	}
	return c
}

// Name is the policy's.
func (c *Controller) Name() string { return c.set.Policy.Name() }

// Period is the policy's.
func (c *Controller) Period() time.Duration { return c.set.Policy.Period() }

// Last returns the latest round, or nil before the first. It changes with the next Step.
func (c *Controller) Last() *Round {
	if c.round.Time.IsZero() {
		return nil
	}
	return &c.round
}

// Expected returns the forecast of the latest round at a lead time: low, middle and high
// quantile; NaN where there is none.
func (c *Controller) Expected(lead time.Duration) (low, mid, high float64) {
	d := &c.round.Demand
	if len(d.Rates) == 0 || d.Step <= 0 {
		return math.NaN(), math.NaN(), math.NaN()
	}
	i := int(lead / d.Step)
	return d.At(i, 0.1), d.At(i, 0.5), d.At(i, 0.9)
}

// Step decides one round. The signals may be nil, old, or come twice; values that cannot
// be are taken as unknown.
func (c *Controller) Step(now time.Time, s *Signals, ordered Orders) Decision {
	c.notes = c.notes[:0]
	c.rails.see(now, ordered)
	r := &c.round
	r.Time, r.Ordered, r.Objective, r.Capacity = now, ordered, c.set.Objective, c.capacity
	r.Demand.Rates, r.Stale, r.Signals = nil, 0, Signals{}
	missing := s == nil
	if s != nil {
		r.Signals = *s
		c.clean(&r.Signals)
		r.Stale = now.Sub(s.Time)
		missing = r.Signals.Known&(KnownArrivals|KnownLag) == 0
		c.learn(&r.Signals, ordered)
		r.Capacity = c.capacity
	}
	if d, dark := c.rails.dark(now, r.Stale, missing, ordered, &c.set.Objective); dark {
		r.Decided, r.Final = d, d
		return c.finish()
	}
	c.expect(now)
	c.input = Input{
		Now: now, Signals: &r.Signals, Demand: &r.Demand, Capacity: &r.Capacity, Objective: &r.Objective,
		Target: ordered.Workers, Changed: ordered.Changed, Tiers: c.set.Tiers, Explain: c.set.Explain,
	}
	r.Decided = c.set.Policy.Decide(&c.input)
	r.Final = c.rails.apply(now, r.Decided, &r.Signals, ordered, &r.Capacity, &c.set.Objective)
	return c.finish()
}

func (c *Controller) finish() Decision {
	r := &c.round
	r.Rails = c.rails.bites
	r.Note = strings.Join(c.notes, "; ")
	if c.set.Explain && r.Final.Workers != r.Decided.Workers {
		for _, b := range r.Rails {
			r.Final.Reason = strings.TrimSpace(r.Final.Reason + " Rail " + b.Rail + ": " + b.Why + ".")
		}
	}
	return r.Final
}

// note keeps what is wrong with the inputs. What varies belongs into args: they are printed only where somebody reads.
func (c *Controller) note(format string, args ...any) {
	if c.set.Explain {
		format = fmt.Sprintf(format, args...)
	}
	c.notes = append(c.notes, format)
}

// absurd is how many times what all workers together can do is not believed as a rate of arrivals.
const absurd = 1000

// clean takes as unknown what cannot be.
func (c *Controller) clean(s *Signals) {
	drop := func(bit Known, what string, values ...float64) {
		if !s.Known.Has(bit) {
			return
		}
		for _, v := range values {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 {
				s.Known &^= bit
				c.note("%s of %v is not taken", what, v)
				return
			}
		}
	}
	drop(KnownArrivals, "an arrival rate", s.Arrivals)
	drop(KnownServed, "a rate of served events", s.Served)
	drop(KnownLag, "a lag", s.Lag)
	drop(KnownInFlight, "a number of events in flight", s.InFlight)
	drop(KnownOldest, "an age of the oldest event", float64(s.Oldest))
	drop(KnownWorkers, "a number of workers", float64(s.Ready), float64(s.Starting), float64(s.Stopping))
	drop(KnownBusy, "a busy share", s.Busy)
	drop(KnownLate, "a late share", s.Late)
	most := absurd * max(1, float64(c.set.Objective.Max)) * c.capacity.Rate(max(c.capacity.Batch, c.capacity.MaxBatch))
	if s.Known.Has(KnownArrivals) && s.Arrivals > most {
		s.Known &^= KnownArrivals
		c.note("an arrival rate of %.3g events/s is not believed", s.Arrivals)
	}
	if s.Known.Has(KnownLag) && s.Lag > most*1e5 {
		s.Known &^= KnownLag
		c.note("a lag of %.3g events is not believed", s.Lag)
	}
	s.Arrivals, s.Served = s.ifKnown(KnownArrivals, s.Arrivals), s.ifKnown(KnownServed, s.Served)
	s.Lag, s.InFlight = s.ifKnown(KnownLag, s.Lag), s.ifKnown(KnownInFlight, s.InFlight)
	s.Busy, s.Late = min(s.ifKnown(KnownBusy, s.Busy), 1), min(s.ifKnown(KnownLate, s.Late), 1)
	if !s.Known.Has(KnownOldest) {
		s.Oldest = 0
	}
	if !s.Known.Has(KnownWorkers) {
		s.Ready, s.Starting, s.Stopping = 0, 0, 0
	}
}

func (s *Signals) ifKnown(k Known, v float64) float64 {
	if s.Known.Has(k) {
		return v
	}
	return 0
}

// learn shows the signals to forecaster and fit, once each.
func (c *Controller) learn(s *Signals, ordered Orders) {
	if !s.Time.After(c.seen) {
		if s.Time.Before(c.seen.Add(-c.rails.Stale)) {
			c.note("the clock of the signals went back by %v", c.seen.Sub(s.Time))
			c.seen = s.Time
		}
		return
	}
	if c.set.Forecaster != nil && s.Window > 0 {
		rate := math.NaN()
		if s.Known.Has(KnownArrivals) {
			rate = s.Arrivals
		}
		c.set.Forecaster.Observe(s.Time, s.Window, rate)
	}
	if s.Known.Has(KnownArrivals) {
		gone := s.Window.Hours() / 24
		c.peak = max(c.peak*math.Exp2(-min(max(gone, 0), 1)), s.Arrivals)
	}
	c.seen = s.Time
	if c.fit != nil {
		c.fit.Observe(s, ordered)
		c.fit.Into(&c.capacity)
	}
}

// diverged is how many times the largest rate seen of late a forecast's middle may be, and
// what its upper quantiles are cut at.
const diverged = 8

// expect asks for a forecast and throws it away where it makes no sense.
func (c *Controller) expect(now time.Time) {
	if c.set.Forecaster == nil {
		return
	}
	d := &c.demand
	d.Time, d.Step, d.Levels, d.Note = now, c.set.Step, c.set.Levels, ""
	if d.Time.Before(c.seen) {
		d.Time = c.seen
	}
	c.set.Forecaster.Forecast(d, c.set.Leads)
	if len(d.Rates) == 0 {
		c.note("there is no forecast")
		return
	}
	limit := diverged * c.peak
	for i, row := range d.Rates {
		if len(row) != len(d.Levels) {
			c.note("lead %d of the forecast has %d quantiles of %d: not used", i, len(row), len(d.Levels))
			return
		}
		last := 0.0
		for j, v := range row {
			if math.IsNaN(v) || math.IsInf(v, 0) || v < 0 || d.Levels[j] <= 0.5 && v > limit {
				c.note("the forecast diverges (%.3g events/s at lead %d, at most %.3g were seen): not used", v, i, c.peak)
				return
			}
			last = max(last, min(v, limit))
			row[j] = last
		}
	}
	c.round.Demand = *d
}
