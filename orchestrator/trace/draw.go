package trace

import (
	"math"
	"math/rand/v2"
	"time"
)

// coarse is the step from which ticks of 5 s are fine enough: what happens
// within such a step is made up by the drawing anyway.
const coarse = 10 * time.Minute

// Tick is the tick at which the trace is best drawn: a second, or five
// where its steps are ten minutes and longer.
func (t *Trace) Tick() time.Duration {
	if t.Step >= coarse {
		return 5 * time.Second
	}
	return time.Second
}

// Draw returns counts in ticks; tick 0 means Tick. The same seed draws the same.
//
// Where steps are longer than a tick, the rate goes linearly from the middle of a step to the
// middle of the next, such that each step keeps its number of events, and the counts are Poisson around
// it: the trace should be scaled before. The tick is then shortened to divide the step. Where steps are a
// tick or shorter, the trace's own counts are taken as they are, since they have their own noise:
// seeds then make no difference. Holes stay holes.
func (t *Trace) Draw(seed uint64, tick time.Duration) *Trace {
	if tick <= 0 {
		tick = t.Tick()
	}
	d := *t
	if t.Step <= tick {
		d.Step, d.Counts = tick, t.gather(tick)
		return &d
	}
	per := int((t.Step + tick - 1) / tick)
	d.Step = t.Step / time.Duration(per)
	d.Counts = make([]float64, len(t.Counts)*per)
	p := poisson{rng: rand.New(rand.NewPCG(seed, 0x7261_7465))}
	for i, c := range t.Counts {
		t.drawStep(d.Counts[i*per:(i+1)*per], i, c, &p)
	}
	return &d
}

// drawStep fills out with step i of c events.
func (t *Trace) drawStep(out []float64, i int, c float64, p *poisson) {
	if math.IsNaN(c) {
		for j := range out {
			out[j] = math.NaN()
		}
		return
	}
	before, after := t.near(i-1, c), t.near(i+1, c)
	n := float64(len(out))
	// The line's value at x in 0 to 1 within the step, and its mean, in counts of steps.
	line := func(x float64) float64 {
		if x < 0.5 {
			return c + (before-c)*(0.5-x)
		}
		return c + (after-c)*(x-0.5)
	}
	sum := 0.0
	for j := range out {
		v := line((float64(j) + 0.5) / n)
		out[j] = v
		sum += v
	}
	keep := 0.0
	if sum > 0 {
		keep = c / sum
	}
	for j, v := range out {
		out[j] = p.draw(v * keep)
	}
}

// near is the count of step i, and c where there is none.
func (t *Trace) near(i int, c float64) float64 {
	if i < 0 || i >= len(t.Counts) || math.IsNaN(t.Counts[i]) {
		return c
	}
	return t.Counts[i]
}

// gather sums steps into ticks that are as long or longer. A step over the border of two
// ticks is dealt by time. A tick is a hole where more than half of it is unknown; what is known of others stands for the rest.
func (t *Trace) gather(tick time.Duration) []float64 {
	if t.Step == tick || t.Step <= 0 {
		return append([]float64(nil), t.Counts...)
	}
	ratio := float64(t.Step) / float64(tick)
	out := make([]float64, int((t.Duration()+tick-1)/tick))
	known := make([]float64, len(out))
	for i, c := range t.Counts {
		if math.IsNaN(c) {
			continue
		}
		from, to := float64(i)*ratio, float64(i+1)*ratio
		k := int(from)
		first := min(to, float64(k+1)) - from
		out[k] += c * first / ratio
		known[k] += first
		if rest := to - float64(k+1); rest > 1e-9 && k+1 < len(out) {
			out[k+1] += c * rest / ratio
			known[k+1] += rest
		}
	}
	for k, share := range known {
		whole := 1.0
		if k == len(out)-1 {
			whole = float64(len(t.Counts))*ratio - float64(k)
		}
		switch {
		case share < whole/2:
			out[k] = math.NaN()
		case share < whole-1e-9:
			out[k] *= whole / share
		}
	}
	return out
}

// poisson draws counts.
type poisson struct{ rng *rand.Rand }

// few is the mean under which counts are drawn by inversion. Above it the normal
// quantile with the skewness term of Cornish and Fisher (Moments and Cumulants in
// the Specification of Distributions, 1938) errs by less than a tenth of an event.
const few = 30

func (p *poisson) draw(mean float64) float64 {
	switch {
	case !(mean > 0):
		return 0
	case mean > few:
		z := p.rng.NormFloat64()
		return max(0, math.Round(mean+z*math.Sqrt(mean)+(z*z-1)/6))
	}
	u := p.rng.Float64()
	term := math.Exp(-mean)
	for k, sum := 0, term; ; k++ {
		if u < sum || k >= 10*few {
			return float64(k)
		}
		term *= mean / float64(k+1)
		sum += term
	}
}
