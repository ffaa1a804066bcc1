package simulate

import (
	"math"
	"time"

	"github.com/freshet-io/freshet/internal/histogram"
)

const (
	// Freshness buckets are 1/64 of a power of two wide, from 2^-20 s (a microsecond) on.
	fineBits = 6
	fineMin  = (1023 - 20) << fineBits
	fineLen  = 56 << fineBits
)

// fine is the bucket of x seconds.
func fine(x float64) int {
	i := int(math.Float64bits(x)>>(52-fineBits)) - fineMin
	return min(max(i, 0), fineLen-1)
}

// fineValue is the middle of a bucket, in seconds.
func fineValue(i int) float64 {
	lo := math.Float64frombits(uint64(i+fineMin) << (52 - fineBits))
	hi := math.Float64frombits(uint64(i+1+fineMin) << (52 - fineBits))
	return (lo + hi) / 2
}

// freshness is a histogram of events by their freshness. Those since the last fold lie in recent.
type freshness struct {
	recent, total [fineLen]float64
	lo, hi        int // touched in recent; lo > hi where nothing is
	sum           float64
}

func (h *freshness) add(x, mass float64) {
	i := fine(x)
	h.recent[i] += mass
	h.sum += x * mass
	if i < h.lo {
		h.lo = i
	}
	if i > h.hi {
		h.hi = i
	}
}

// addRange adds a mass that is spread evenly over x0 to x1, as up to eight points.
func (h *freshness) addRange(x0, x1, mass float64) {
	n := fine(x1) - fine(x0)
	if n < 0 {
		n = -n
	}
	if n == 0 {
		h.add((x0+x1)/2, mass)
		return
	}
	n = min(n+1, 8)
	step := (x1 - x0) / float64(n)
	mass /= float64(n)
	x := x0 + step/2
	for range n {
		h.add(x, mass)
		x += step
	}
}

// quantile is of recent, in seconds.
func (h *freshness) quantile(q float64) float64 {
	sum := 0.0
	for i := h.lo; i <= h.hi; i++ {
		sum += h.recent[i]
	}
	return quantile(&h.recent, h.lo, h.hi, q*sum)
}

func quantile(counts *[fineLen]float64, lo, hi int, want float64) float64 {
	seen, last := 0.0, -1
	for i := lo; i <= hi; i++ {
		if counts[i] <= 0 {
			continue
		}
		last = i
		if seen += counts[i]; seen >= want {
			return fineValue(i)
		}
	}
	if last < 0 {
		return 0
	}
	return fineValue(last)
}

// fold moves recent into total.
func (h *freshness) fold() {
	for i := h.lo; i <= h.hi; i++ {
		h.total[i] += h.recent[i]
		h.recent[i] = 0
	}
	h.lo, h.hi = fineLen, -1
}

// finish writes the freshness of a result.
func (h *freshness) finish(r *Result) {
	h.fold()
	mass, sum := 0.0, 0.0
	for i, c := range h.total {
		mass += c
		sum += c * fineValue(i)
	}
	r.Freshness = new(histogram.Histogram)
	r.Unit = 1
	if mass <= 0 {
		return
	}
	// A million units resolve every quantile that is asked for; the sum must not overflow.
	r.Unit = max(mass/1e6, sum*1e9/4e18)
	carry := 0.0
	for i, c := range h.total {
		carry += c / r.Unit
		if n := math.Round(carry); n >= 1 {
			r.Freshness.RecordN(int64(min(fineValue(i)*1e9, math.MaxInt64/2)), uint64(n))
			carry -= n
		}
	}
	r.Mean = seconds(h.sum / mass)
	r.P50 = seconds(quantile(&h.total, 0, fineLen-1, 0.5*mass))
	r.P95 = seconds(quantile(&h.total, 0, fineLen-1, 0.95*mass))
	r.P99 = seconds(quantile(&h.total, 0, fineLen-1, 0.99*mass))
}

// seconds makes a duration; too long ones are the longest.
func seconds(x float64) time.Duration {
	x *= 1e9
	if !(x < math.MaxInt64/2) {
		return math.MaxInt64 / 2
	}
	return time.Duration(math.Round(x))
}

// publish counts events that were answered: mass of them, that arrived evenly from a0 to a1 and were then
// x0 to x1 seconds old.
func (e *engine) publish(a0, a1, x0, x1, mass float64) {
	e.fresh.addRange(x0, x1, mass)
	if x0 <= e.target && x1 <= e.target {
		return
	}
	e.lateRange(a0, a1, x0, x1, mass)
}

func (e *engine) lateRange(a0, a1, x0, x1, mass float64) {
	switch {
	case x0 > e.target && x1 > e.target:
	case x0 > e.target: // becomes younger
		k := (x0 - e.target) / (x0 - x1)
		a1, mass = a0+k*(a1-a0), mass*k
	default:
		k := (x1 - e.target) / (x1 - x0)
		a0, mass = a1-k*(a1-a0), mass*k
	}
	e.late(a0, a1, mass)
}

// late counts events that are late, by the minute of their arrival.
func (e *engine) late(a0, a1, mass float64) {
	e.res.Late += mass
	e.win.late += mass
	e.point.late += mass
	spread(e.minuteLate, a0, a1, mass)
}

// spread adds a mass that is even over a to b to the minutes that it lies in.
func spread(minutes []float64, a, b, mass float64) {
	i, j := int(a/60), int(b/60)
	if j > i && b <= float64(j)*60 {
		j--
	}
	i = min(i, len(minutes)-1)
	if j <= i {
		minutes[i] += mass
		return
	}
	j = min(j, len(minutes)-1)
	d := mass / (b - a)
	for m := i; m <= j; m++ {
		minutes[m] += d * (min(b, float64(m+1)*60) - max(a, float64(m)*60))
	}
}

// worstMinute finds the minute with the largest share of late events.
func (e *engine) worstMinute() {
	for i, late := range e.minuteLate {
		if late <= 0 || e.minuteAll[i] <= 0 {
			continue
		}
		if s := min(1, late/e.minuteAll[i]); s > e.res.WorstMinute {
			e.res.WorstMinute, e.res.WorstMinuteAt = s, time.Duration(i)*time.Minute
		}
	}
}
