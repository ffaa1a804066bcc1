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
	// yards are the ways to measure errors, each with its own tracked quantiles.
	yards [yards]yard
	// minutes are the timed yard's quantiles and regrets, by slot of the hour.
	minutes []yard
	usual   []float64 // by level: the mean loss of what was told
	floor   float64   // events a second: one event in the mean's time
	loss    ewma
	prior   float64
}

// yard is a way to measure errors: in units of a scale of its own.
type yard struct {
	track  []float64 // the tracked quantiles of the errors
	regret []float64 // by level, as an entrant's
}

func newYard(at []float64) yard {
	y := yard{track: make([]float64, len(at)), regret: make([]float64, len(at))}
	for j, l := range at {
		y.track[j] = laplaceQuantile(l)
	}
	return y
}

// The yards: the scale that is learned, the usual share of the forecast, and the usual share of
// the level of the last hours. The first is the sharpest, the others know better what comes out of the blue.
const (
	learned = iota
	plain
	steady
	// timed is the usual share of the forecast again, with quantiles for each minute of the hour.
	timed
	yards
)

const (
	features = 5
	// yardMemory and yardRate are for the yards what lossMemory and learningRate are for members.
	yardMemory = 1500
	yardRate   = 0.05
	// What the same are for a minute of the hour, which sees few errors. minutePrior is what speaks against it until
	// it has shown its worth.
	minuteMemory = 600
	minuteRate   = 0.1
	minuteTrack  = 0.05
	minutePrior  = 2
	// errorMemory is how many scored errors the usual size of errors is of.
	errorMemory = 2000
	// trackRate is how far one error moves a quantile of errors, in units of the scale, and as a share of it
	// where it is larger.
	trackRate = 0.008
	// leastShare of the level of the last hours is what errors are a share of where the forecast is
	// lower: what has gone down to nothing may come back.
	leastShare = 0.1
	// guesses is how many errors the first guess of their size counts for.
	guesses = 10
)

func newAnchor(start, span int, g Grid, at []float64, slots int64) anchor {
	levels := len(at)
	minutes := float64(start+span) * g.Step.Minutes()
	a := anchor{
		start: start, size: newEWMA(errorMemory), square: newEWMA(errorMemory), apart: newEWMA(errorMemory), loss: newEWMA(200),
		usual: make([]float64, levels),
		floor: 1 / (float64(span) * g.Step.Seconds()),
		prior: 0.05 + 0.05*math.Sqrt(minutes),
	}
	a.factors[0] = 0.3
	for k := range a.yards {
		a.yards[k] = newYard(at)
	}
	a.minutes = make([]yard, slots)
	for k := range a.minutes {
		a.minutes[k] = newYard(at)
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
	yards     [][yards]float64 // by anchor: the scales
	slots     []int64          // by anchor: the slot of the hour of what is foretold
	told      []float64        // by anchor, yard and level: quantiles
	psi       [][features]float64
	quantiles []float64 // by anchor and level
	offsets   []float64 // the members' by member, anchor and level
	features  [features]float64
}

func newIssue(anchors, members, levels int) issue {
	return issue{
		step: -1, points: make([]float64, anchors*members), point: make([]float64, anchors), spread: make([]float64, anchors),
		scale: make([]float64, anchors), psi: make([][features]float64, anchors), yards: make([][yards]float64, anchors), slots: make([]int64, anchors), told: make([]float64, anchors*yards*levels),
		quantiles: make([]float64, anchors*levels), offsets: make([]float64, anchors*members*levels),
	}
}

func (is *issue) copyFrom(o *issue) {
	is.step, is.features = o.step, o.features
	copy(is.points, o.points)
	copy(is.point, o.point)
	copy(is.spread, o.spread)
	copy(is.scale, o.scale)
	copy(is.psi, o.psi)
	copy(is.yards, o.yards)
	copy(is.slots, o.slots)
	copy(is.told, o.told)
	copy(is.quantiles, o.quantiles)
	copy(is.offsets, o.offsets)
}

// scale foretells the size of the error: the usual share of the forecast, more or less of
// it as the last minutes were restless, the level is low, or the members disagree.
func (a *anchor) scale(is *issue, k int, restless, usual float64, c *Config) float64 {
	f := is.point[k]
	base := a.relative()*max(f, leastShare*usual) + 0.8*math.Sqrt(f*a.floor)*min(1, 10/(1+a.size.weight)) + 0.5*a.floor
	is.yards[k] = [yards]float64{base, base, a.relative()*usual + 0.5*a.floor, base}
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
	is.yards[k][learned] = base * math.Exp(clip(s, 1.6))
	return is.yards[k][learned]
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
		p := pinball(y-q[j], l)
		loss += p
		a.usual[j] += (p - a.usual[j]) / min(a.loss.weight+1, 200)
	}
	a.compare(is, k, y, levels)
	a.loss.add(loss / float64(len(levels)) / s)
	rel := min(math.Abs(y-f)/(f+a.floor), 20)
	a.size.add(rel)
	a.square.add(rel * rel)
	if f > 0 {
		a.apart.add(is.spread[k] / f)
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

// compare learns which yard serves which level best, and moves the yards' quantiles.
func (a *anchor) compare(is *issue, k int, y float64, levels []float64) {
	const keep = 1 - 1./yardMemory
	n := len(levels)
	for i := range a.yards {
		told := is.told[(k*yards+i)*n : (k*yards+i+1)*n]
		z := (y - is.point[k]) / is.yards[k][i]
		if i == timed {
			a.compareMinute(is, k, y, z, levels, told)
			break
		}
		yd := &a.yards[i]
		for j, l := range levels {
			if u := a.usual[j]; u > 0 {
				yd.regret[j] = keep*yd.regret[j] + yardRate*min(pinball(y-told[j], l)/u-1, 50)
			}
		}
		follow(z, trackRate, levels, yd.track)
	}
}

// compareMinute learns what a minute of the hour is like. Its regret is to what was told, as only that
// is of the same minutes.
func (a *anchor) compareMinute(is *issue, k int, y, z float64, levels, told []float64) {
	const keep = 1 - 1./minuteMemory
	yd := &a.minutes[is.slots[k]]
	q := is.quantiles[k*len(levels):]
	for j, l := range levels {
		if u := a.usual[j]; u > 0 {
			d := (pinball(y-told[j], l) - pinball(y-q[j], l)) / u
			yd.regret[j] = keep*yd.regret[j] + minuteRate*clip(d, 50)
		}
	}
	follow(z, minuteTrack, levels, yd.track)
}

// follow moves quantiles of errors after one of them came: up by the level's share where
// it was above, down by the rest where it was not, so that in the long run the share above is right
// whatever the errors are. This is adaptive conformal inference (Gibbs & Candès 2021) in
// the form that moves the quantile itself (the quantile tracker of Angelopoulos, Candès & Tibshirani 2023).
func follow(z, rate float64, levels, track []float64) {
	for j, l := range levels {
		pace := rate * max(1, math.Abs(track[j]))
		if z > track[j] {
			track[j] += pace * l
		} else {
			track[j] -= pace * (1 - l)
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

// tell fills in the quantiles of the forecast at anchor k.
func (a *anchor) tell(is *issue, k int, levels []float64, c *Config) {
	n := len(levels)
	f := is.point[k]
	q := is.quantiles[k*n : (k+1)*n]
	told := is.told[k*yards*n : (k+1)*yards*n]
	low := 0.0
	if c.Uncalibrated {
		square := (a.square.value*a.square.weight + guesses*a.prior*a.prior) / (a.square.weight + guesses)
		for j, l := range levels {
			low = max(low, f*(1+math.Sqrt2*math.Erfinv(2*l-1)*math.Sqrt(square)))
			q[j] = low
		}
		return
	}
	for j := range levels {
		best := min(a.yards[learned].regret[j], a.yards[plain].regret[j], a.yards[steady].regret[j], a.minutes[is.slots[k]].regret[j]+minutePrior)
		var sum, total float64
		for i := range a.yards {
			yd := &a.yards[i]
			if i == timed {
				yd = &a.minutes[is.slots[k]]
			}
			x := max(0, f+is.yards[k][i]*yd.track[j])
			told[i*n+j] = x
			w, r := 1.0, yd.regret[j]-best
			if i == timed {
				r += minutePrior
			}
			if r > 0 {
				w = math.Exp(-r)
			}
			sum += w * x
			total += w
		}
		low = max(low, sum/total)
		q[j] = low
	}
}

func clip(x, limit float64) float64 { return min(max(x, -limit), limit) }
