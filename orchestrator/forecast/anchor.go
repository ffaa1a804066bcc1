package forecast

import (
	"math"
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
	// track are the tracked quantiles of the errors, in units of the scale; offset is what is told.
	track, offset []float64
	floor         float64 // events a second: one event in the mean's time
	loss          ewma
	prior         float64
}

const (
	features = 5
	// errorMemory is how many scored errors the usual size of errors is of.
	errorMemory = 2000
	// trackRate is how far one error moves a quantile of errors, in units of the scale.
	trackRate = 0.008
	// guesses is how many errors the first guess of their size counts for.
	guesses = 10
)

func newAnchor(start, span int, g Grid, at []float64) anchor {
	levels := len(at)
	minutes := float64(start+span) * g.Step.Minutes()
	a := anchor{
		start: start, size: newEWMA(errorMemory), square: newEWMA(errorMemory), apart: newEWMA(errorMemory), loss: newEWMA(200),
		track: make([]float64, levels), offset: make([]float64, levels),
		floor: 1 / (float64(span) * g.Step.Seconds()),
		prior: 0.05 + 0.05*math.Sqrt(minutes),
	}
	a.factors[0] = 0.3
	for j, l := range at {
		a.track[j] = laplaceQuantile(l)
	}
	return a
}

// issue is a forecast that waits for what it foretold.
type issue struct {
	step      int64
	points    []float64 // by anchor and member
	point     []float64 // by anchor, as the next three
	spread    []float64
	scale     []float64
	psi       [][features]float64
	quantiles []float64 // by anchor and level
	offsets   []float64 // the members' by member, anchor and level
	features  [features]float64
}

func newIssue(anchors, members, levels int) issue {
	return issue{
		step: -1, points: make([]float64, anchors*members), point: make([]float64, anchors), spread: make([]float64, anchors),
		scale: make([]float64, anchors), psi: make([][features]float64, anchors), quantiles: make([]float64, anchors*levels), offsets: make([]float64, anchors*members*levels),
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
	copy(is.offsets, o.offsets)
}

// scale foretells the size of the error: the usual share of the forecast, more or less of
// it as the last minutes were restless, the level is low, or the members disagree.
func (a *anchor) scale(is *issue, k int, restless float64, c *Config) float64 {
	f := is.point[k]
	base := a.relative()*f + 0.8*math.Sqrt(f*a.floor)*min(1, 10/(1+a.size.weight)) + 0.5*a.floor
	if c.Uncalibrated {
		return base
	}
	psi := &is.psi[k]
	*psi = is.features
	psi[3], psi[4] = 0, restless
	if f > 0 && a.apart.value > 0 {
		psi[3] = clip(math.Log((is.spread[k]/f+1e-4)/(a.apart.value+1e-4)), 2)
	}
	var s float64
	for i, w := range a.factors {
		s += w * psi[i]
	}
	return base * math.Exp(clip(s, 1.6))
}

// relative is the usual size of errors as a share of the forecast, beginning from a guess.
func (a *anchor) relative() float64 {
	return (a.size.value*a.size.weight + guesses*a.prior) / (a.size.weight + guesses)
}

// learn takes what came and returns the loss of the ensemble's forecast, in units of its scale.
func (a *anchor) learn(is *issue, k int, y float64, levels []float64, c *Config) float64 {
	f, s := is.point[k], is.scale[k]
	q := is.quantiles[k*len(levels) : (k+1)*len(levels)]
	z := (y - f) / s
	var loss float64
	for j, l := range levels {
		loss += pinball(y-q[j], l)
	}
	a.loss.add(loss / float64(len(levels)) / s)
	rel := min(math.Abs(y-f)/(f+a.floor), 20)
	a.size.add(rel)
	a.square.add(rel * rel)
	if f > 0 {
		a.apart.add(is.spread[k] / f)
	}
	follow(z, levels, a.track)
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

// refresh settles what is told: tracked quantiles, or those of normal errors.
func (a *anchor) refresh(levels []float64, c *Config) {
	if c.Uncalibrated {
		share := math.Sqrt((a.square.value*a.square.weight + guesses*a.prior*a.prior) / (a.square.weight + guesses))
		for j, l := range levels {
			a.offset[j] = math.Sqrt2 * math.Erfinv(2*l-1) * share / a.relative()
		}
		return
	}
	copy(a.offset, a.track)
}

// follow moves quantiles of errors after one of them came: up by the level's share where
// it was above, down by the rest where it was not, so that in the long run the share above is right
// whatever the errors are. This is adaptive conformal inference (Gibbs & Candès 2021) in
// the form that moves the quantile itself (the quantile tracker of Angelopoulos, Candès & Tibshirani 2023).
func follow(z float64, levels, track []float64) {
	for j, l := range levels {
		if z > track[j] {
			track[j] += trackRate * l
		} else {
			track[j] -= trackRate * (1 - l)
		}
	}
}

// pinball is the loss of a quantile that what came was d above.
func pinball(d, level float64) float64 {
	if d >= 0 {
		return level * d
	}
	return (level - 1) * d
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
