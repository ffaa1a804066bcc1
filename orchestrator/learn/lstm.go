package learn

import (
	"math"
	"math/rand/v2"
)

// lstm is a layer of long short-term memory (Hochreiter and Schmidhuber, Neural
// Computation 1997, with the forget gate of Gers, Schmidhuber and Cummins, 2000) under one
// linear layer, which reads the state after every step. It learns by
// back-propagation through time over at most span steps.
//
// Gates lie in the order input, forget, candidate, output. The parameters, in a row: the
// gates' weights [4·hidden][inputs+hidden], their biases, the weights of the outputs
// [outputs][hidden], their biases.
type lstm struct {
	inputs, hidden, outputs, span int
	params, grads                 []float64
	w, b, v, c                    []float64 // parts of params
	gw, gb, gv, gc                []float64 // parts of grads

	// What each step of an unrolled row leaves for the way back.
	steps  []lstmStep
	first  []float64 // the cell before the row
	dh, dc []float64
	dGates []float64
}

// lstmStep is what one step knows.
type lstmStep struct {
	x     []float64 // inputs and the hidden state before the step, side by side
	gates []float64
	cell  []float64
	tanh  []float64 // of cell
	out   []float64
	dOut  []float64 // set by whoever knows the loss; zeroed by forward
}

// newLSTM draws weights as newNetwork does. Forget gates begin open (bias 1: Jozefowicz,
// Zaremba and Sutskever, ICML 2015), outputs begin at nearly zero.
func newLSTM(rng *rand.Rand, inputs, hidden, outputs, span int) *lstm {
	n := &lstm{inputs: inputs, hidden: hidden, outputs: outputs, span: span}
	width := inputs + hidden
	total := 4*hidden*(width+1) + outputs*(hidden+1)
	n.params, n.grads = make([]float64, total), make([]float64, total)
	n.w, n.b, n.v, n.c = n.parts(n.params)
	n.gw, n.gb, n.gv, n.gc = n.parts(n.grads)
	n.first, n.dh, n.dc, n.dGates = make([]float64, hidden), make([]float64, hidden), make([]float64, hidden), make([]float64, 4*hidden)
	n.steps = make([]lstmStep, span)
	for i := range n.steps {
		n.steps[i] = lstmStep{x: make([]float64, width), gates: make([]float64, 4*hidden), cell: make([]float64, hidden),
			tanh: make([]float64, hidden), out: make([]float64, outputs), dOut: make([]float64, outputs)}
	}
	if rng == nil {
		return n
	}
	scale := math.Sqrt(2 / float64(width+hidden))
	for i := range n.w {
		n.w[i] = scale * rng.NormFloat64()
	}
	for i := range hidden {
		n.b[hidden+i] = 1
	}
	scale = 0.1 * math.Sqrt(2/float64(hidden+outputs))
	for i := range n.v {
		n.v[i] = scale * rng.NormFloat64()
	}
	return n
}

func (n *lstm) parts(row []float64) (w, b, v, c []float64) {
	take := func(k int) []float64 {
		part := row[:k:k]
		row = row[k:]
		return part
	}
	return take(4 * n.hidden * (n.inputs + n.hidden)), take(4 * n.hidden), take(n.outputs * n.hidden), take(n.outputs)
}

// step goes one step on: s gets everything, h and cell are the state before it. The state after
// it is s.cell and hiddenOf(s).
func (n *lstm) step(s *lstmStep, x, h, cell []float64) {
	copy(s.x, x)
	copy(s.x[n.inputs:], h)
	width := len(s.x)
	for g := range s.gates {
		sum := n.b[g] + dot(n.w[g*width:(g+1)*width], s.x)
		if g/n.hidden == 2 {
			s.gates[g] = math.Tanh(sum)
		} else {
			s.gates[g] = 1 / (1 + math.Exp(-sum))
		}
	}
	in, forget, candidate := s.gates[:n.hidden], s.gates[n.hidden:2*n.hidden], s.gates[2*n.hidden:3*n.hidden]
	for i := range s.cell {
		s.cell[i] = forget[i]*cell[i] + in[i]*candidate[i]
		s.tanh[i] = math.Tanh(s.cell[i])
	}
}

// state writes the hidden state after a step.
func (n *lstm) state(s *lstmStep, h []float64) {
	open := s.gates[3*n.hidden:]
	for i := range h {
		h[i] = open[i] * s.tanh[i]
	}
}

// read fills in a step's outputs.
func (n *lstm) read(s *lstmStep, h []float64) {
	for o := range s.out {
		s.out[o] = n.c[o] + dot(n.v[o*n.hidden:(o+1)*n.hidden], h)
	}
}

// forward goes through inputs (at most span of them) from a state; outputs are in steps[i].out.
func (n *lstm) forward(inputs [][]float64, hidden, before []float64) {
	h, cell := n.dh, n.dc // used as room for the state; backward clears them
	copy(h, hidden)
	copy(cell, before)
	copy(n.first, before)
	for i, x := range inputs {
		s := &n.steps[i]
		n.step(s, x, h, cell)
		copy(cell, s.cell)
		n.state(s, h)
		n.read(s, h)
		clear(s.dOut)
	}
}

// backward goes back through the first count steps of forward and adds to grads, by steps[i].dOut.
// The state before them is taken as given.
func (n *lstm) backward(count int) {
	clear(n.dh)
	clear(n.dc)
	width, hidden := n.inputs+n.hidden, n.hidden
	for t := count - 1; t >= 0; t-- {
		s := &n.steps[t]
		open := s.gates[3*hidden:]
		for o, d := range s.dOut {
			if d == 0 {
				continue
			}
			n.gc[o] += d
			row, grad := n.v[o*hidden:(o+1)*hidden], n.gv[o*hidden:(o+1)*hidden]
			for k := range row {
				grad[k] += d * open[k] * s.tanh[k]
				n.dh[k] += d * row[k]
			}
		}
		for i, dh := range n.dh {
			in, forget, candidate := s.gates[i], s.gates[hidden+i], s.gates[2*hidden+i]
			before := n.first[i]
			if t > 0 {
				before = n.steps[t-1].cell[i]
			}
			dc := n.dc[i] + dh*open[i]*(1-s.tanh[i]*s.tanh[i])
			n.dGates[i] = dc * candidate * in * (1 - in)
			n.dGates[hidden+i] = dc * before * forget * (1 - forget)
			n.dGates[2*hidden+i] = dc * in * (1 - candidate*candidate)
			n.dGates[3*hidden+i] = dh * s.tanh[i] * open[i] * (1 - open[i])
			n.dc[i] = dc * forget
		}
		clear(n.dh)
		for g, d := range n.dGates {
			n.gb[g] += d
			axpy(n.gw[g*width:(g+1)*width], d, s.x)
			axpy(n.dh, d, n.w[g*width+n.inputs:(g+1)*width])
		}
	}
}
