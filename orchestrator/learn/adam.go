package learn

import "math"

// adam is Adam (Kingma and Ba, ICLR 2015) on one row of parameters.
type adam struct {
	m, v []float64
	step int
}

const (
	adamBeta1   = 0.9
	adamBeta2   = 0.999
	adamEpsilon = 1e-8
)

func newAdam(n int) *adam { return &adam{m: make([]float64, n), v: make([]float64, n)} }

// apply moves the parameters against the gradient, which it first shortens to maxNorm and
// sets to zero afterwards. A gradient that is not finite is thrown away, so that one absurd
// sample cannot spoil the weights; apply returns false then.
func (a *adam) apply(params, grads []float64, rate, maxNorm float64) bool {
	sum := 0.0
	for _, g := range grads {
		sum += g * g
	}
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		clear(grads)
		return false
	}
	scale := 1.0
	if norm := math.Sqrt(sum); norm > maxNorm {
		scale = maxNorm / norm
	}
	a.step++
	// The corrections for the moments' beginning at zero go into the rate.
	t := float64(a.step)
	rate *= math.Sqrt(1-math.Pow(adamBeta2, t)) / (1 - math.Pow(adamBeta1, t))
	for i, g := range grads {
		g *= scale
		a.m[i] = adamBeta1*a.m[i] + (1-adamBeta1)*g
		a.v[i] = adamBeta2*a.v[i] + (1-adamBeta2)*g*g
		params[i] -= rate * a.m[i] / (math.Sqrt(a.v[i]) + adamEpsilon)
		grads[i] = 0
	}
	return true
}
