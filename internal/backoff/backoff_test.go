package backoff

import (
	"testing"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

func TestWaitsDoubleUpToTheirBound(t *testing.T) {
	whole := func() float64 { return 1 }
	r := Retry{Rand: whole}.Or(Retry{Attempts: 3, Min: 10 * time.Millisecond, Max: 50 * time.Millisecond})
	for n, want := range []time.Duration{10, 20, 40, 50, 50} {
		if got := r.Wait(n, errkind.Transient); got != want*time.Millisecond {
			t.Errorf("after failure %d: %v, not %v", n, got, want*time.Millisecond)
		}
	}
	if got := r.Wait(0, errkind.Throttled); got != 40*time.Millisecond {
		t.Errorf("throttled: %v", got)
	}
	r.Rand = func() float64 { return 0 }
	if got := r.Wait(0, errkind.Transient); got != 5*time.Millisecond {
		t.Errorf("half of a wait is not drawn: %v", got)
	}
	if own := (Retry{Attempts: 7, Min: 1, Max: 2}).Or(r); own.Attempts != 7 || own.Min != 1 || own.Max != 2 {
		t.Errorf("%+v", own)
	}
}
