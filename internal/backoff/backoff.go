// Package backoff says how often and how fast failed calls are repeated. Every
// port repeats those of its drivers by it.
package backoff

import (
	"math/rand/v2"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// Retry says how often and how fast a failed call is repeated. Only failures
// whose kind is Transient or Throttled are. A zero field takes the default of
// where it is used.
type Retry struct {
	// Attempts is the largest number of calls, the first one included.
	Attempts int
	// Min is the wait before the first repetition; it doubles with each, and is
	// four times as long after a Throttled failure.
	Min time.Duration
	// Max bounds the wait.
	Max time.Duration
	// Rand returns numbers in [0, 1) from which half of each wait is drawn, so
	// that callers which failed together do not come back together; nil is
	// math/rand/v2.
	Rand func() float64
}

// Or takes the fields that are zero from d.
func (r Retry) Or(d Retry) Retry {
	if r.Attempts <= 0 {
		r.Attempts = d.Attempts
	}
	if r.Min <= 0 {
		r.Min = d.Min
	}
	if r.Max <= 0 {
		r.Max = d.Max
	}
	if r.Rand == nil {
		r.Rand = rand.Float64
	}
	return r
}

// Wait returns the pause after failure number n, counted from 0, of kind k.
func (r *Retry) Wait(n int, k errkind.Kind) time.Duration {
	d := r.Min
	if k == errkind.Throttled {
		d *= 4
	}
	for ; n > 0 && d < r.Max; n-- {
		d *= 2
	}
	d = min(d, r.Max)
	return d/2 + time.Duration(r.Rand()*float64(d/2))
}
