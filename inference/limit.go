package inference

import (
	"math/bits"
	"time"
)

// limit is how many calls are made at a time. An adaptive one rises by one each
// round of calls while they take about as long as the quickest rounds of late, and falls
// by a tenth when they take twice as long, or by three tenths when the server says that it is too
// much or does not answer: additive increase, multiplicative decrease on delay
// (Chiu and Jain, 1989; TCP Vegas, Brakmo 1994). Every epoch it halves and measures the
// quickest anew, as BBR does (Cardwell 2016), so that a server that has become
// slower for good is not taken for a busy one. The model's lock guards it.
type limit struct {
	adaptive bool
	most     int
	now      float64
	started  bool // the first fall has come: no doubling any more
	cooling  int  // answers until the next fall may come: those of calls begun before the last
	sizes    [24]delay
	epoch    time.Time
}

// delay is how long calls of about one size take, in seconds.
type delay struct {
	mean, quickest float64
	n              int
}

const (
	limitEpoch  = 30 * time.Second
	limitSlower = 2.0 // times the quickest: calls queue in the server
	limitRound  = 8   // calls that a mean looks back on
)

func newLimit(most int, adaptive bool) limit {
	l := limit{adaptive: adaptive, most: most, now: float64(most)}
	if adaptive {
		l.now = 1
	}
	return l
}

func (l *limit) size() int { return int(l.now) }

// answered takes the time of a call of so many rows. Live is how many were under way.
// A whole power of two of rows would take scale times as long.
func (l *limit) answered(rows, live int, took time.Duration, scale float64, now time.Time) {
	if !l.adaptive {
		return
	}
	if l.epoch.IsZero() {
		l.epoch = now
	}
	if now.Sub(l.epoch) >= limitEpoch {
		l.epoch = now
		l.sizes = [24]delay{}
		l.fall(0.5)
	}
	d := &l.sizes[min(bits.Len(uint(rows)), len(l.sizes)-1)]
	d.n++
	d.mean += (took.Seconds()*scale - d.mean) / float64(min(d.n, limitRound))
	if d.n >= limitRound/2 && (d.quickest == 0 || d.mean < d.quickest) {
		d.quickest = d.mean
	}
	if l.cooling > 0 {
		l.cooling--
	}
	switch {
	case d.quickest > 0 && d.mean > limitSlower*d.quickest:
		if l.cooling == 0 {
			l.fall(0.9)
		}
	case live >= l.size(): // else more would not be used
		step := 1.0
		if l.started {
			step /= l.now
		}
		l.now = min(float64(l.most), l.now+step)
	}
}

// refused takes a call that was too much for the server.
func (l *limit) refused() {
	if l.adaptive && l.cooling == 0 {
		l.fall(0.7)
	}
}

func (l *limit) fall(to float64) {
	l.started = true
	l.cooling = l.size() + limitRound
	l.now = max(1, l.now*to)
}
