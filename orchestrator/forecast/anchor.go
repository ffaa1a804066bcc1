package forecast

import (
	"math"
	"time"
)

// anchor is a lead time at which forecasts are scored and calibrated.
type anchor struct {
	start int // steps from the newest step to the beginning of the mean that is foretold
	// size is the mean absolute error as a share of the forecast.
	size ewma
	// square is the same of squares, for who does not calibrate.
	square ewma
	apart  ewma // the members' spread, as a share
	// factors are the learned exponents of the features of the scale; moved is the mean square of their steps.
	factors, moved [features]float64
	errors         errors
	// shift is what adaptive conformal inference adds to each level.
	shift []float64
	asked []float64
	// offset are the errors' quantiles, in units of the scale.
	offset []float64
	track  []float64
	floor  float64 // events a second: one event in the mean's time
	loss   ewma
	prior  float64
	// pace is how far one error moves a level: less for long lead times, as their errors come in runs.
	pace float64
}

const (
	features = 4
	// errorMemory is how many scored errors the distribution of errors remembers.
	errorMemory = 4000
	// priorErrors is how many errors the first guess counts for.
	priorErrors = 20
)

func newAnchor(start, span int, g Grid, at []float64) anchor {
	levels := len(at)
	minutes := float64(start+span) * g.Step.Minutes()
	a := anchor{
		start: start, size: newEWMA(2000), square: newEWMA(2000), apart: newEWMA(2000), loss: newEWMA(200),
		errors: newErrors(errorMemory, priorErrors),
		shift:  make([]float64, levels), asked: make([]float64, levels), offset: make([]float64, levels), track: make([]float64, levels),
		floor: 1 / (float64(span) * g.Step.Seconds()),
		prior: 0.05 + 0.05*math.Sqrt(minutes),
		pace:  0.2 / float64(4+start+span),
	}
	a.factors[0] = 0.3
	for j, l := range at {
		a.track[j] = laplaceQuantile(l)
	}
	return a
}

const (
	trackShare = 0.8 // how much the tracked quantiles count beside those of the distribution
	trackRate  = 0.02
	outlier    = 6
)

// issue is a forecast that waits for what it foretold.
type issue struct {
	step      int64
	points    []float64 // by anchor and member
	point     []float64 // by anchor, as the next three
	spread    []float64
	scale     []float64
	psi       [][features]float64
	quantiles []float64 // by anchor and level
	features  [features]float64
}

func newIssue(anchors, members, levels int) issue {
	return issue{
		step: -1, points: make([]float64, anchors*members), point: make([]float64, anchors), spread: make([]float64, anchors),
		scale: make([]float64, anchors), psi: make([][features]float64, anchors), quantiles: make([]float64, anchors*levels),
	}
}

func (is *issue) copyFrom(o *issue) {
	is.step, is.features = o.step, o.features
	copy(is.points, o.points)
	copy(is.point, o.point)
	copy(is.spread, o.spread)
	copy(is.scale, o.scale)
	copy(is.psi, o.psi)
	copy(is.quantiles, o.quantiles)
}

// scale foretells the size of the error: the usual share of the forecast, more or less of
// it as the last minutes were restless, the level is low, or the members disagree.
func (a *anchor) scale(is *issue, k int, c *Config) float64 {
	f := is.point[k]
	base := a.relative()*f + 0.8*math.Sqrt(f*a.floor)*min(1, 10/(1+a.size.weight)) + 0.5*a.floor
	if c.Uncalibrated {
		return base
	}
	psi := &is.psi[k]
	*psi = is.features
	psi[features-1] = 0
	if f > 0 && a.apart.value > 0 {
		psi[features-1] = clip(math.Log((is.spread[k]/f+1e-4)/(a.apart.value+1e-4)), 2)
	}
	var s float64
	for i, w := range a.factors {
		s += w * psi[i]
	}
	return base * math.Exp(clip(s, 1.6))
}

// relative is the usual size of errors as a share of the forecast, beginning from a guess.
func (a *anchor) relative() float64 {
	const guess = 10
	return (a.size.value*a.size.weight + guess*a.prior) / (a.size.weight + guess)
}

// learn takes what came and returns the loss of the ensemble's forecast, in units of its scale.
func (a *anchor) learn(is *issue, k int, y float64, levels []float64, c *Config) float64 {
	f, s := is.point[k], is.scale[k]
	q := is.quantiles[k*len(levels) : (k+1)*len(levels)]
	z := (y - f) / s
	var loss float64
	for j, l := range levels {
		// Adaptive conformal inference: the level that is asked for rises where too little was covered.
		covered := 0.0
		if y <= q[j] {
			covered = 1
			loss += (1 - l) * (q[j] - y)
		} else {
			loss += l * (y - q[j])
		}
		room := 0.9 * (1 - l)
		a.shift[j] = min(max(a.shift[j]+a.pace*min(1-l, l)*(l-covered), -min(2*(1-l), 0.5*l)), room)
	}
	a.loss.add(loss / float64(len(levels)) / s)
	rel := min(math.Abs(y-f)/(f+a.floor), 20)
	a.size.add(rel)
	a.square.add(rel * rel)
	if f > 0 {
		a.apart.add(is.spread[k] / f)
	}
	a.errors.add(clip(z, outlier))
	for j, l := range levels {
		if z > a.track[j] {
			a.track[j] += trackRate * l
		} else {
			a.track[j] -= trackRate * (1 - l)
		}
	}
	if !c.Uncalibrated && a.size.weight > 30 {
		// Stochastic gradient descent on the likelihood of Laplace errors of this scale.
		g := 1 - min(math.Abs(z), 4)
		for i := range a.factors {
			d := g * is.psi[k][i]
			a.moved[i] += 0.001 * (d*d - a.moved[i])
			a.factors[i] = clip(a.factors[i]-0.003*d/(math.Sqrt(a.moved[i])+0.3), 1)
		}
	}
	return max(a.loss.value, 1e-3)
}

// refresh looks the errors' quantiles up.
func (a *anchor) refresh(levels []float64, c *Config) {
	if c.Uncalibrated {
		share := math.Sqrt((a.square.value*a.square.weight + 10*a.prior*a.prior) / (a.square.weight + 10))
		for j, l := range levels {
			a.offset[j] = math.Sqrt2 * math.Erfinv(2*l-1) * share / a.relative()
		}
		return
	}
	const last = 0.9995
	for j, l := range levels {
		a.asked[j] = min(max(l+a.shift[j], 0.0005), last)
	}
	a.errors.quantiles(a.asked, a.offset)
	for j := range levels {
		a.offset[j] += trackShare * (a.track[j] - a.offset[j])
	}
}

// tell fills q with the quantiles of a forecast.
func (a *anchor) tell(f, s float64, q []float64) {
	low := 0.0
	for j, o := range a.offset {
		low = max(low, f+s*o)
		q[j] = low
	}
}

func clip(x, limit float64) float64 { return min(max(x, -limit), limit) }

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
		dst[2] = clip(math.Log((v.level.value+0.01*v.usual.value)/v.usual.value), 2)
	}
}
