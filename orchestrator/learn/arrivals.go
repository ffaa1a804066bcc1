package learn

import (
	"math"
	"math/rand/v2"
	"slices"
)

// arrivals are made up for one episode, in steps of a second. Nothing in them is taken from a
// measured trace.
type arrivals struct {
	calm   []float64 // the rate that a good forecaster could know of, around 1
	extra  []float64 // what bursts and scatter add, as a share of calm
	counts []float64 // of events, as drawn
}

// makeArrivals draws what kind of day it is, then the day. mean is of the counts.
func makeArrivals(rng *rand.Rand, seconds int, mean float64) *arrivals {
	a := &arrivals{calm: make([]float64, seconds), extra: make([]float64, seconds), counts: make([]float64, seconds)}
	a.waves(rng)
	if rng.Float64() < 0.6 {
		a.wander(rng)
	}
	if rng.Float64() < 0.3 {
		a.shifts(rng)
	}
	if rng.Float64() < 0.08 {
		a.onOff(rng)
	}
	if rng.Float64() < 0.6 {
		a.bursts(rng)
	}
	if rng.Float64() < 0.35 {
		a.scatter(rng)
	}
	sum := 0.0
	for i, c := range a.calm {
		sum += c * (1 + a.extra[i])
	}
	scale := mean * float64(seconds) / max(sum, 1e-9)
	// Counts scatter more than Poisson's: events come in groups, and the rate flickers from second to second.
	group := 1.0
	if rng.Float64() < 0.5 {
		group = math.Exp(rng.Float64() * math.Log(mean/4+1))
	}
	flicker := 0.0
	if rng.Float64() < 0.4 {
		flicker = 0.4 * rng.Float64()
	}
	for i := range a.counts {
		a.calm[i] *= scale
		r := a.calm[i] * (1 + a.extra[i])
		r *= max(0, 1+flicker*rng.NormFloat64())
		a.counts[i] = max(0, r+math.Sqrt(r*group)*rng.NormFloat64())
	}
	return a
}

// waves are the part of a day that an episode sees, and shorter regular ones.
func (a *arrivals) waves(rng *rand.Rand) {
	type wave struct{ size, period, phase float64 }
	ws := []wave{{0.7 * rng.Float64(), 86400, 2 * math.Pi * rng.Float64()}}
	if rng.Float64() < 0.6 {
		ws = append(ws, wave{0.5 * rng.Float64(), 86400 / (3 + 20*rng.Float64()), 2 * math.Pi * rng.Float64()})
	}
	if rng.Float64() < 0.25 {
		ws = append(ws, wave{0.6 * rng.Float64(), 600 + 3000*rng.Float64(), 2 * math.Pi * rng.Float64()})
	}
	for i := range a.calm {
		x := 0.0
		for _, w := range ws {
			x += w.size * math.Sin(2*math.Pi*float64(i)/w.period+w.phase)
		}
		a.calm[i] = math.Exp(x)
	}
}

// wander lets the level go about (an Ornstein-Uhlenbeck process in its logarithm).
func (a *arrivals) wander(rng *rand.Rand) {
	size, memory := 0.05+0.35*rng.Float64()*rng.Float64(), 60*math.Exp(3.5*rng.Float64())
	keep := math.Exp(-1 / memory)
	step := size * math.Sqrt(1-keep*keep)
	x := size * rng.NormFloat64()
	for i := range a.calm {
		x = keep*x + step*rng.NormFloat64()
		a.calm[i] *= math.Exp(x)
	}
}

// shifts change the level once or twice, for good.
func (a *arrivals) shifts(rng *rand.Rand) {
	for n := 1 + rng.IntN(2); n > 0; n-- {
		factor, ramp := math.Exp(0.6*rng.NormFloat64()), 5+300*rng.Float64()
		at := rng.IntN(len(a.calm))
		for i := at; i < len(a.calm); i++ {
			a.calm[i] *= math.Pow(factor, min(1, float64(i-at)/ramp))
		}
	}
}

// onOff leaves long silences.
func (a *arrivals) onOff(rng *rand.Rand) {
	low := 0.1 * rng.Float64()
	for i := 0; i < len(a.calm); {
		for n := 300 + rng.IntN(1500); n > 0 && i < len(a.calm); n-- {
			i++
		}
		for n := 300 + rng.IntN(2400); n > 0 && i < len(a.calm); n-- {
			a.calm[i] *= low
			i++
		}
	}
}

// bursts come without a warning, rise within seconds or minutes, and go.
func (a *arrivals) bursts(rng *rand.Rand) {
	gap := 300 * math.Exp(2.5*rng.Float64()) // seconds between two
	usual := 0.3 + 2*rng.Float64()*rng.Float64()
	rise, fall := 2+60*rng.Float64(), 20*math.Exp(3*rng.Float64())
	for at := rng.ExpFloat64() * gap; at < float64(len(a.extra)); at += rng.ExpFloat64() * gap {
		height := usual * rng.ExpFloat64()
		if rng.Float64() < 0.05 {
			height *= 4
		}
		height = min(height, 9)
		for i := int(at); i < len(a.extra) && float64(i) < at+6*fall; i++ {
			x := float64(i) - at
			a.extra[i] += height * (1 - math.Exp(-x/rise)) * math.Exp(-x/fall)
		}
	}
}

// scatter is the noise of a small stream that is drawn large: each minute or so has its own rate, and
// nobody knows the next one.
func (a *arrivals) scatter(rng *rand.Rand) {
	size, every := 0.05+0.35*rng.Float64(), 30+rng.IntN(120)
	from, to := size*rng.NormFloat64(), size*rng.NormFloat64()
	for i := range a.extra {
		at := i % every
		if at == 0 {
			from, to = to, size*rng.NormFloat64()
		}
		x := from + (to-from)*float64(at)/float64(every)
		a.extra[i] = (1+a.extra[i])*math.Exp(x) - 1
	}
}

// A teacher forecasts as Controllers ask: in steps of 30 s, for 10 minutes.
const (
	foreStep  = 30
	foreLeads = 20
)

// teacher forecasts an episode as an honest forecaster might: it knows the calm rate but for an
// error that grows with the lead, takes bursts for what goes on and dies down, and
// has learnt its quantiles from how wrong it is over the whole episode, so that it is calibrated.
type teacher struct {
	middle [][]float64 // by step and lead
	ratio  [][]float64 // by lead and level
	rates  [][]float64 // room
}

func newTeacher(rng *rand.Rand, a *arrivals, levels []float64) *teacher {
	steps := len(a.calm) / foreStep
	calm, all := make([]float64, steps), make([]float64, steps)
	for k := range steps {
		for i := k * foreStep; i < (k+1)*foreStep; i++ {
			calm[k] += a.calm[i] / foreStep
			all[k] += a.calm[i] * (1 + a.extra[i]) / foreStep
		}
	}
	size, dies := 0.02+0.25*rng.Float64()*rng.Float64(), 1+15*rng.Float64()
	t := &teacher{}
	wrong := 0.0
	for k := range steps {
		wrong = 0.9*wrong + math.Sqrt(1-0.81)*rng.NormFloat64()
		now := a.extra[min(len(a.extra)-1, k*foreStep)]
		row := make([]float64, foreLeads)
		for l := range row {
			grown := size * math.Sqrt(float64(l+1)/foreLeads)
			row[l] = calm[min(k+l, steps-1)] * (1 + now*math.Exp(-float64(l)/dies)) * math.Exp(grown*wrong)
		}
		t.middle = append(t.middle, row)
	}
	seen := make([]float64, 0, steps)
	for l := range foreLeads {
		seen = seen[:0]
		for k := 0; k+l < steps; k++ {
			seen = append(seen, all[k+l]/max(t.middle[k][l], 1e-9))
		}
		slices.Sort(seen)
		row := make([]float64, len(levels))
		for j, level := range levels {
			row[j] = seen[int(level*float64(len(seen)-1))]
		}
		t.ratio = append(t.ratio, row)
		t.rates = append(t.rates, make([]float64, len(levels)))
	}
	return t
}

// at returns the rates expected from a second on.
func (t *teacher) at(second float64) [][]float64 {
	k := min(max(0, int(second/foreStep)), len(t.middle)-1)
	for l, row := range t.rates {
		for j := range row {
			row[j] = t.middle[k][l] * t.ratio[l][j]
		}
	}
	return t.rates
}
