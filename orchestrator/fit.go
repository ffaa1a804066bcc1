package orchestrator

import (
	"math"
	"slices"
	"time"
)

// Fit corrects a believed capacity by what is seen: the time of a call by least squares over
// (events, seconds) with exponential forgetting, drawn towards what was believed where few sizes are seen;
// the start-up time by a quantile of the latest; the loss among n workers (n^Exponent) by the least
// loss that is seen under backlog, as DS2's true rate and Flink's observed scalability do it. Every
// value stays within bounds around what was believed in the beginning.
type Fit struct {
	prior Capacity
	// Weighted sums over calls: 1, n, n², s, n·s.
	w, wn, wnn, ws, wns float64
	overhead, perEvent  float64

	pending  []time.Time // when workers that are not ready yet were ordered, oldest first
	ready    int
	ordered  int
	known    bool
	startups []float64
	next     int
	exponent float64
}

const (
	fitHalfLife = 2 * time.Hour // of a call's weight
	fitFactor   = 8.0           // most that a value may differ from what was believed, both ways
	fitPrior    = 16.0          // weight of what was believed, in calls of three sizes
	fitStarts   = 32            // start-ups that are kept
	fitStartsQ  = 0.8           // their quantile that counts
	fitExponent = 0.7           // least exponent
)

// NewFit starts with what is believed.
func NewFit(c Capacity) *Fit {
	f := &Fit{prior: c, overhead: c.Overhead, perEvent: c.PerEvent, exponent: c.Exponent}
	if f.exponent <= 0 {
		f.exponent = 1
	}
	for _, n := range []float64{1, float64(max(c.Batch, 2)), float64(max(c.MaxBatch, c.Batch, 3))} {
		f.add(n, c.Service(n), fitPrior/3)
	}
	return f
}

func (f *Fit) add(n, s, w float64) {
	// Relative errors are alike across sizes: weighted by 1/service², or large calls decide everything.
	if p := f.prior.Service(n); p > 0 {
		w /= p * p
	}
	f.w += w
	f.wn += w * n
	f.wnn += w * n * n
	f.ws += w * s
	f.wns += w * n * s
}

// Observe takes the signals of one window, and what was ordered during it.
func (f *Fit) Observe(s *Signals, ordered Orders) {
	if s.Known.Has(KnownCalls) && len(s.Calls) > 0 {
		f.calls(s)
	}
	if s.Known.Has(KnownWorkers) {
		f.starts(s, ordered)
		f.scale(s)
	}
}

func (f *Fit) calls(s *Signals) {
	keep := 1.0
	if s.Window > 0 {
		keep = math.Exp2(-float64(s.Window) / float64(fitHalfLife))
	}
	f.w, f.wn, f.wnn, f.ws, f.wns = f.w*keep, f.wn*keep, f.wnn*keep, f.ws*keep, f.wns*keep
	// What was believed never loses all its weight, or one size seen for long would leave the slope to chance.
	if keep < 1 {
		for _, n := range []float64{1, float64(max(f.prior.Batch, 2)), float64(max(f.prior.MaxBatch, f.prior.Batch, 3))} {
			f.add(n, f.prior.Service(n), fitPrior/3*(1-keep))
		}
	}
	for _, c := range s.Calls {
		if !(c.Rows >= 1 && c.Rows < 1e7 && c.Seconds > 0 && c.Seconds < 3600 && c.N > 0) {
			continue
		}
		f.add(c.Rows, c.Seconds, min(c.N, 100))
	}
	det := f.w*f.wnn - f.wn*f.wn
	if det <= 1e-9*f.w*f.wnn {
		return
	}
	b := (f.w*f.wns - f.wn*f.ws) / det
	a := (f.ws - b*f.wn) / f.w
	if b < 0 {
		a, b = f.ws/f.w, 0
	}
	if a < 0 {
		a, b = 0, f.wns/f.wnn
	}
	f.overhead = within(a, f.prior.Overhead)
	f.perEvent = within(b, f.prior.PerEvent)
}

// within bounds a fitted value around what was believed.
func within(x, prior float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return prior
	}
	if prior <= 0 {
		return max(x, 0)
	}
	return min(max(x, prior/fitFactor), prior*fitFactor)
}

// starts measures how long ordered workers take: the oldest order belongs to the first that is ready.
func (f *Fit) starts(s *Signals, ordered Orders) {
	if !f.known {
		f.known, f.ready, f.ordered = true, s.Ready, ordered.Workers
		return
	}
	if up := s.Ready - f.ready; up > 0 {
		for ; up > 0 && len(f.pending) > 0; up-- {
			// It became ready some time within the window.
			took := s.Time.Sub(f.pending[0]) - s.Window/2
			f.pending = f.pending[:copy(f.pending, f.pending[1:])]
			if took <= 0 {
				continue
			}
			if len(f.startups) < fitStarts {
				f.startups = append(f.startups, took.Seconds())
			} else {
				f.startups[f.next] = took.Seconds()
				f.next = (f.next + 1) % fitStarts
			}
		}
	}
	f.ready = s.Ready
	switch change := ordered.Workers - f.ordered; {
	case change > 0:
		at := ordered.Changed
		if at.IsZero() {
			at = s.Time
		}
		for i := 0; i < change && len(f.pending) < 4096; i++ {
			f.pending = append(f.pending, at)
		}
	case change < 0:
		// Those still starting go first, the newest before the others.
		f.pending = f.pending[:max(0, len(f.pending)+change)]
	}
	f.ordered = ordered.Workers
	if s.Starting == 0 && len(f.pending) > 0 && s.Time.After(f.pending[len(f.pending)-1]) && s.Ready >= ordered.Workers {
		f.pending = f.pending[:0]
	}
}

// scale compares what was served with what as many workers would do alone, while all of them
// had enough to do. Losses of even deals of partitions are Effective's, not the exponent's.
func (f *Fit) scale(s *Signals) {
	if !s.Known.Has(KnownServed|KnownBusy|KnownBatch) || s.Ready < 2 || s.Busy < 0.99 || s.Batch < 1 || s.Starting > 0 || s.Stopping > 0 {
		return
	}
	service := f.overhead + f.perEvent*s.Batch
	if service <= 0 {
		return
	}
	even := f.prior
	even.Exponent = 1
	workers := s.Served * service / s.Batch // as many as would do this alone
	ratio := workers / even.Effective(s.Ready)
	if !(ratio > 0) {
		return
	}
	e := 1 + math.Log(min(ratio, 1))/math.Log(float64(s.Ready))
	f.exponent += 0.05 * (min(max(e, fitExponent), 1) - f.exponent)
}

// StartUp returns the quantile of the start-up times seen, or false where fewer than five were.
func (f *Fit) StartUp() (time.Duration, bool) {
	if len(f.startups) < 5 {
		return 0, false
	}
	var sorted [fitStarts]float64
	k := copy(sorted[:], f.startups)
	slices.Sort(sorted[:k])
	x := sorted[min(k-1, int(fitStartsQ*float64(k)))]
	return time.Duration(within(x, f.prior.StartUp.Seconds()) * float64(time.Second)), true
}

// Into writes what is believed now into c.
func (f *Fit) Into(c *Capacity) {
	c.Overhead, c.PerEvent = f.overhead, f.perEvent
	if f.exponent < 1 || c.Exponent != 0 {
		c.Exponent = f.exponent
	}
	if d, ok := f.StartUp(); ok {
		c.StartUp = d
	}
}
