package inference

import "time"

// BreakerState is whether calls are made.
type BreakerState uint8

const (
	// BreakerClosed: calls are made.
	BreakerClosed BreakerState = iota
	// BreakerOpen: rows fail with ErrOpen.
	BreakerOpen
	// BreakerHalfOpen: one call tries whether the model is well again.
	BreakerHalfOpen
)

// String returns the state's name as metrics carry it.
func (s BreakerState) String() string { return [...]string{"closed", "open", "half_open"}[s] }

// most is how many times Breaker.Pause a breaker stays open at most: long enough
// to spare a server that is down, short enough to see it come back.
const most = 8

func (b Breaker) withDefaults() Breaker {
	if b.Failures <= 0 {
		b.Failures = 0.5
	}
	if b.Calls <= 0 {
		b.Calls = 20
	}
	if b.Pause <= 0 {
		b.Pause = 5 * time.Second
	}
	return b
}

// breaker gives a model up that fails, and tries it again from time to time
// (Nygard, Release It!, 2007). The zero value with a Config is closed; the
// model's lock guards it.
type breaker struct {
	cfg    Breaker
	state  BreakerState
	ring   []bool // failures among the last calls; those not made yet count as answered
	at     int
	failed int
	until  time.Time // open: when the next call may try
	pause  time.Duration
	opened uint64
}

// allow lets a call begin; probe says that it is the one that tries.
func (b *breaker) allow(now time.Time) (probe bool, err error) {
	switch b.state {
	case BreakerClosed:
		return false, nil
	case BreakerOpen:
		if !now.Before(b.until) {
			b.state = BreakerHalfOpen
			return true, nil
		}
	}
	return false, ErrOpen
}

// record takes the outcome of a call that allow let begin.
func (b *breaker) record(failed, probe bool, now time.Time) {
	switch {
	case probe && failed:
		b.pause = min(2*b.pause, most*b.cfg.Pause)
		b.open(now)
	case probe:
		b.state, b.pause = BreakerClosed, 0
		clear(b.ring)
		b.failed = 0
	case b.state != BreakerClosed || b.cfg.Failures >= 1:
		// A call that began before it opened says nothing new.
	default:
		if b.ring == nil {
			b.ring = make([]bool, b.cfg.Calls)
		}
		if b.ring[b.at] {
			b.failed--
		}
		if b.ring[b.at] = failed; failed {
			b.failed++
		}
		if b.at++; b.at == len(b.ring) {
			b.at = 0
		}
		if failed && float64(b.failed) >= b.cfg.Failures*float64(len(b.ring)) {
			b.pause = b.cfg.Pause
			b.opened++
			b.open(now)
		}
	}
}

func (b *breaker) open(now time.Time) {
	b.state, b.until = BreakerOpen, now.Add(b.pause)
}

// release takes back a probe whose call said nothing about the model; the next call is one.
func (b *breaker) release(probe bool) {
	if probe {
		b.state = BreakerOpen
	}
}
