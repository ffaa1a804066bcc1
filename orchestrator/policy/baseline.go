package policy

import (
	"fmt"
	"math"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

// Busy says what counts as the use of a worker, for rules that read CPU or busy time.
type Busy string

const (
	// BusyCalls is the share of the time spent in model calls: what CPU and busy-time
	// metrics show. A worker that takes what there is makes many small calls, and so
	// looks busy at a small part of what it can do.
	BusyCalls Busy = "calls"
	// BusyWork is served events ÷ what ready workers serve in full calls: what those metrics would
	// show if workers waited for full batches. Kinder to a rule than BusyCalls.
	BusyWork Busy = "work"
)

// of returns the mean use of a ready worker, 0 to 1; false where it is not known.
func (b Busy) of(s *orchestrator.Signals, c *orchestrator.Capacity) (float64, bool) {
	if !s.Known.Has(orchestrator.KnownWorkers) || s.Ready <= 0 {
		return 0, false
	}
	if b == BusyWork {
		rate := c.Rate(0)
		if !s.Known.Has(orchestrator.KnownServed) || !usable(s.Served) || !(rate > 0) {
			return 0, false
		}
		return min(s.Served/(rate*float64(s.Ready)), 1), true
	}
	if !s.Known.Has(orchestrator.KnownBusy) || !usable(s.Busy) {
		return 0, false
	}
	return min(s.Busy, 1), true
}

func (b Busy) validate() error {
	if b != BusyCalls && b != BusyWork {
		return errkind.Errorf(errkind.Config, "busy is %q: it is %q or %q", string(b), string(BusyCalls), string(BusyWork))
	}
	return nil
}

// usable reports whether x can be a rate, a count or a share.
func usable(x float64) bool { return x >= 0 && !math.IsInf(x, 1) }

// complete reports whether there is anything to decide on.
func complete(in *orchestrator.Input) bool {
	return in.Signals != nil && in.Capacity != nil && in.Objective != nil
}

// hold leaves the orders as they are and says why.
func hold(in *orchestrator.Input, format string, args ...any) orchestrator.Decision {
	d := orchestrator.Decision{Workers: in.Target, Hold: true}
	if in.Explain {
		d.Reason = fmt.Sprintf(format, args...)
	}
	return d
}

// limits are the objective's bounds; at least floor workers, and no upper bound where Max is 0.
func limits(o *orchestrator.Objective, floor int) (low, high int) {
	low, high = max(o.Min, floor, 0), math.MaxInt32
	if o.Max > 0 {
		high = o.Max
	}
	return min(low, high), high
}

// roundUp is ceil for counts computed from floats: 3.0000000001 workers are three.
// Absurd values become bounds, never a wrapped integer.
func roundUp(x float64) int {
	switch {
	case math.IsNaN(x) || x <= 0:
		return 0
	case x >= math.MaxInt32:
		return math.MaxInt32
	}
	return int(math.Ceil(x - 1e-9*max(1, x)))
}

// due reports whether every has passed since last, and then moves last; a quarter of a
// second early counts, as the ticks of two clocks never meet.
func due(now time.Time, last *time.Time, every time.Duration) bool {
	if !last.IsZero() && now.Sub(*last) < every-min(every/8, 250*time.Millisecond) && !now.Before(*last) {
		return false
	}
	*last = now
	return true
}

// positive holds durations of a configuration to be above zero.
func positive(name string, d time.Duration) error {
	if d <= 0 {
		return errkind.Errorf(errkind.Config, "%s is %v: it has to be above 0", name, d)
	}
	return nil
}

// within holds a number of a configuration to a range.
func within(name string, x, low, high float64) error {
	if !(x >= low && x <= high) {
		return errkind.Errorf(errkind.Config, "%s is %v: it has to be %v to %v", name, x, low, high)
	}
	return nil
}

// firstError returns the first that is one.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
