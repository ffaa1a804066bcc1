package forecast

import "math"

const (
	// lossMemory is how many scored forecasts a member's loss is remembered for.
	lossMemory = 600
	// learningRate turns a loss, as a share of the ensemble's, into the logarithm of a weight.
	learningRate = 0.1
	// pooling is how much the neighbours of an anchor count.
	pooling = 2. / 3
	// surpriseRate is how fast the surprise follows.
	surpriseRate = 0.4
	// mostRegret keeps every member within reach: e^-10 of the best one's weight.
	mostRegret = 10
	// pause is for how many steps a member that diverged is shut out.
	pause = 60
)

// entrant is a member with what the ensemble knows of it.
type entrant struct {
	Member
	weight []float64 // by anchor; 0 where it slept
	// regret is the member's loss beyond the ensemble's, summed and forgotten, times the learning rate.
	regret []float64
	// offsets are quantiles of its errors in units of the scale, by anchor and level.
	offsets []float64
	// surprised is the mean error of what it said of the last steps, in units of the scale.
	surprised float64
	against   float64 // scratch: what speaks against it at an anchor
	buffer    []float64
	until     int64 // the step until which it is shut out
	diverged  bool
}

func (m *entrant) arrange(anchors, levels int, at []float64) {
	m.weight = make([]float64, anchors)
	m.regret = make([]float64, anchors)
	m.offsets = make([]float64, anchors*levels)
	m.buffer = make([]float64, anchors)
	for i := range m.offsets {
		m.offsets[i] = laplaceQuantile(at[i%levels])
	}
}

func laplaceQuantile(l float64) float64 {
	if l < 0.5 {
		return math.Log(2 * l)
	}
	return -math.Log(2 * (1 - l))
}

// predict puts the member's points into dst, every n-th place. What is not finite, or far beyond
// all that was seen, shuts the member out for a while.
func (m *entrant) predict(step int64, leads []int, limit float64, dst []float64, n int) {
	m.Predict(leads, m.buffer)
	wild := false
	for _, v := range m.buffer {
		if math.IsInf(v, 0) || math.Abs(v) > 10*limit {
			wild = true
		}
	}
	if wild {
		m.until = step + pause
	}
	m.diverged = step < m.until
	for a, v := range m.buffer {
		if m.diverged {
			v = nan
		}
		dst[a*n] = min(max(v, 0), limit) // NaN stays NaN
	}
}

// score takes what came where the member had said point, and told the quantiles of its errors. loss is the
// ensemble's, scale the size of its errors.
func (m *entrant) score(a int, point, y, scale, loss float64, levels, told []float64) {
	const keep = 1 - 1./lossMemory
	if point != point {
		m.regret[a] *= keep // who slept is held to have done as well as the ensemble
		return
	}
	z := (y - point) / scale
	z = min(max(z, -50), 50)
	var sum float64
	for j, l := range levels {
		sum += pinball(z-told[j], l)
	}
	follow(z, trackRate, levels, m.offsets[a*len(levels):(a+1)*len(levels)])
	sum /= float64(len(levels))
	m.regret[a] = keep*m.regret[a] + learningRate*min(sum/loss-1, 50)
}

// pooled is the regret at an anchor together with its neighbours', which know much the same.
func (m *entrant) pooled(a int) float64 {
	lo, hi := max(0, a-1), min(len(m.regret)-1, a+1)
	return (1-pooling)*m.regret[a] + pooling*(m.regret[lo]+m.regret[hi])/2
}
