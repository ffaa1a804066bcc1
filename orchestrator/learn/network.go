package learn

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// dense is one layer, out = w·in + b. Its slices lie in the network's rows of
// parameters and gradients; w is [out][in], row by row.
type dense struct {
	in, out        int
	w, b           []float64
	gradW, gradB   []float64
	input, dInput  []float64 // of the last forward and backward
	output, dAfter []float64 // after tanh where the layer is hidden; the gradient before tanh
}

// network is a row of dense layers with tanh between them and nothing behind the last.
// forward keeps what backward needs, so a network serves one goroutine and one sample at a time.
type network struct {
	sizes         []int
	layers        []dense
	params, grads []float64
}

// newNetwork has the given numbers of values, from the input to the output. Weights are drawn as by Glorot and
// Bengio (AISTATS 2010); those of the last layer are multiplied by last, so that a
// policy begins undecided and a value near zero.
func newNetwork(rng *rand.Rand, last float64, sizes ...int) *network {
	n := &network{sizes: sizes}
	total := 0
	for i := 1; i < len(sizes); i++ {
		total += (sizes[i-1] + 1) * sizes[i]
	}
	n.params, n.grads = make([]float64, total), make([]float64, total)
	n.layers = make([]dense, len(sizes)-1)
	p, g := n.params, n.grads
	take := func(row *[]float64, k int) []float64 {
		part := (*row)[:k:k]
		*row = (*row)[k:]
		return part
	}
	var below []float64
	for i := range n.layers {
		in, out := sizes[i], sizes[i+1]
		l := &n.layers[i]
		*l = dense{in: in, out: out, w: take(&p, in*out), b: take(&p, out), gradW: take(&g, in*out), gradB: take(&g, out),
			input: below, dInput: make([]float64, in), output: make([]float64, out), dAfter: make([]float64, out)}
		below = l.output
		if i == 0 {
			l.input = make([]float64, in)
		}
		if rng == nil {
			continue
		}
		scale := math.Sqrt(2 / float64(in+out))
		if i == len(n.layers)-1 {
			scale *= last
		}
		for k := range l.w {
			l.w[k] = scale * rng.NormFloat64()
		}
	}
	return n
}

// forward returns the outputs for x, which are the network's own until the next call.
func (n *network) forward(x []float64) []float64 {
	copy(n.layers[0].input, x)
	for i := range n.layers {
		l := &n.layers[i]
		hidden := i < len(n.layers)-1
		for o := range l.output {
			sum := l.b[o] + dot(l.w[o*l.in:(o+1)*l.in], l.input)
			if hidden {
				sum = math.Tanh(sum)
			}
			l.output[o] = sum
		}
	}
	return n.layers[len(n.layers)-1].output
}

// dot is the sum of the products, in an order that lets a processor work on four at a time.
func dot(a, b []float64) float64 {
	var s0, s1, s2, s3 float64
	a = a[:len(b)]
	i := 0
	for ; i+4 <= len(b); i += 4 {
		x, y := a[i:i+4:i+4], b[i:i+4:i+4]
		s0 += x[0] * y[0]
		s1 += x[1] * y[1]
		s2 += x[2] * y[2]
		s3 += x[3] * y[3]
	}
	for ; i < len(b); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s1 + (s2 + s3)
}

// axpy adds f times x to y.
func axpy(y []float64, f float64, x []float64) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] += f * v
	}
}

// backward adds to grads what the last forward's loss changes by, given how it changes by the outputs.
func (n *network) backward(dOut []float64) {
	for i := len(n.layers) - 1; i >= 0; i-- {
		l := &n.layers[i]
		if i == len(n.layers)-1 {
			copy(l.dAfter, dOut)
		} else {
			for o, d := range n.layers[i+1].dInput {
				l.dAfter[o] = d * (1 - l.output[o]*l.output[o])
			}
		}
		clear(l.dInput)
		for o, d := range l.dAfter {
			if d == 0 {
				continue
			}
			l.gradB[o] += d
			axpy(l.gradW[o*l.in:(o+1)*l.in], d, l.input)
			if i > 0 {
				axpy(l.dInput, d, l.w[o*l.in:(o+1)*l.in])
			}
		}
	}
}

// Infer makes a network a Net: it computes as the exported file does, but in double precision.
func (n *network) Infer(obs, out []float32) error {
	if len(obs) != n.sizes[0] || len(out) != n.sizes[len(n.sizes)-1] {
		return fmt.Errorf("infer: %d values in and %d out, the network has %d and %d", len(obs), len(out), n.sizes[0], n.sizes[len(n.sizes)-1])
	}
	x := n.layers[0].input
	for i, v := range obs {
		x[i] = float64(v)
	}
	for i, v := range n.forward(x) {
		out[i] = float32(v)
	}
	return nil
}

// softmax turns logits into probabilities, in place of out.
func softmax(logits, out []float64) {
	top := logits[0]
	for _, l := range logits {
		top = max(top, l)
	}
	sum := 0.0
	for i, l := range logits {
		out[i] = math.Exp(l - top)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
}
