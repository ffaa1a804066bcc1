package learn

import (
	"math"
	"math/rand/v2"
	"testing"
)

// checkGradient compares grads with the differences of loss when each parameter moves a little.
func checkGradient(t *testing.T, params, grads []float64, loss func() float64) {
	t.Helper()
	const h = 1e-6
	for i := range params {
		was := params[i]
		params[i] = was + h
		up := loss()
		params[i] = was - h
		down := loss()
		params[i] = was
		want := (up - down) / (2 * h)
		if math.Abs(want-grads[i]) > 1e-7+1e-5*math.Abs(want) {
			t.Fatalf("parameter %d of %d: gradient %g, differences say %g", i, len(params), grads[i], want)
		}
	}
}

func draw(rng *rand.Rand, n int) []float64 {
	x := make([]float64, n)
	for i := range x {
		x[i] = rng.NormFloat64()
	}
	return x
}

func TestNetworkGradientIsTheSlopeOfTheLoss(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	n := newNetwork(rng, 1, 5, 7, 6, 3)
	x, y := draw(rng, 5), draw(rng, 3)
	loss := func() float64 {
		sum := 0.0
		for i, o := range n.forward(x) {
			sum += 0.5 * (o - y[i]) * (o - y[i])
		}
		return sum
	}
	d := make([]float64, 3)
	for i, o := range n.forward(x) {
		d[i] = o - y[i]
	}
	n.backward(d)
	checkGradient(t, n.params, n.grads, loss)
}

func TestLSTMGradientThroughTimeIsTheSlopeOfTheLoss(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	const steps, inputs, outputs = 9, 3, 4
	n := newLSTM(rng, inputs, 5, outputs, steps)
	h, cell := draw(rng, 5), draw(rng, 5)
	var xs, ys [][]float64
	for range steps {
		xs, ys = append(xs, draw(rng, inputs)), append(ys, draw(rng, outputs))
	}
	loss := func() float64 {
		n.forward(xs, h, cell)
		sum := 0.0
		for i := range n.steps {
			for o, v := range n.steps[i].out {
				sum += 0.5 * (v - ys[i][o]) * (v - ys[i][o])
			}
		}
		return sum
	}
	loss()
	for i := range n.steps {
		for o, v := range n.steps[i].out {
			n.steps[i].dOut[o] = v - ys[i][o]
		}
	}
	n.backward(steps)
	checkGradient(t, n.params, n.grads, loss)
}
