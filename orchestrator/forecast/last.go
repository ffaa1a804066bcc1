package forecast

import (
	"math"
	"time"
)

// last forecasts that everything stays as it was in the last step.
type last struct{ value float64 }

func (l *last) Name() string { return "last" }

func (l *last) Update(_ int64, x float64) {
	if x == x {
		l.value = x
	}
}

func (l *last) Predict(leads []int, dst []float64) {
	for k := range leads {
		dst[k] = l.value
	}
}

// ewma is a mean that forgets exponentially. Its first values count equally, as if it had a
// window that grows to its memory.
type ewma struct {
	value, weight, keep float64
}

// newEWMA returns a mean whose memory is steps: a value's weight falls to 1/e in that time.
func newEWMA(steps float64) ewma {
	return ewma{keep: math.Exp(-1 / max(steps, 1e-3))}
}

func (m *ewma) add(x float64) {
	m.weight = m.keep*m.weight + 1
	m.value += (x - m.value) / m.weight
}

// mean forecasts a short memory's mean (simple exponential smoothing).
type mean struct {
	name string
	ewma
}

func newMean(name string, g Grid, memory time.Duration) *mean {
	return &mean{name: name, ewma: newEWMA(float64(memory) / float64(g.Step))}
}

func (m *mean) Name() string { return m.name }

func (m *mean) Update(_ int64, x float64) {
	if x == x {
		m.add(x)
	}
}

func (m *mean) Predict(leads []int, dst []float64) {
	v := m.value
	if m.weight == 0 {
		v = nan
	}
	for k := range leads {
		dst[k] = v
	}
}
