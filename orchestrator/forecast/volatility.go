package forecast

import (
	"math"
	"time"
)

// volatility tells how restless the series is.
type volatility struct {
	level           ewma // a minute
	usual           ewma // six hours
	fast, mid, slow ewma // of relative changes: 3 minutes, 20 minutes, 6 hours
}

func newVolatility(g Grid) volatility {
	of := func(d time.Duration) ewma { return newEWMA(float64(d) / float64(g.Step)) }
	return volatility{level: of(time.Minute), usual: of(6 * time.Hour), fast: of(3 * time.Minute), mid: of(20 * time.Minute), slow: of(6 * time.Hour)}
}

func (v *volatility) add(x float64) {
	if x != x {
		return
	}
	if l := v.level.value; v.level.weight > 0 && l > 0 {
		r := min(math.Abs(x-l)/l, 10)
		v.fast.add(r)
		v.mid.add(r)
		v.slow.add(r)
	}
	v.level.add(x)
	v.usual.add(x)
}

// features fills in what the scale of errors depends on, all around zero in usual times.
func (v *volatility) features(dst *[features]float64) {
	const least = 1e-4
	dst[0] = clip(math.Log((v.fast.value+least)/(v.slow.value+least)), 2)
	dst[1] = clip(math.Log((v.mid.value+least)/(v.slow.value+least)), 2)
	dst[2] = 0
	if v.usual.value > 0 {
		dst[2] = clip(math.Log((v.level.value+0.01*v.usual.value)/v.usual.value), 3)
	}
}
