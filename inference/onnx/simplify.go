package onnx

import (
	"fmt"

	"github.com/freshet-io/freshet/inference/onnx/internal/ops"
	"github.com/freshet-io/freshet/inference/onnx/internal/wire"
)

// fold evaluates a node whose inputs are constant. A node that fails or grows too large is left to
// the run, which reports it.
func (pl *planner) fold(kernel ops.Kernel, in, out []*value) bool {
	if out[0] != nil && out[0].Const != nil {
		return true
	}
	if pl.folded > 4*foldElements {
		return false
	}
	tensors := make([]*ops.Tensor, max(len(in), 8))
	for k, v := range in {
		if v != nil {
			tensors[k] = v.Const
		}
	}
	results := make([]*ops.Tensor, max(len(out), 8))
	for k, v := range out {
		if v != nil {
			results[k] = &ops.Tensor{}
		}
	}
	pl.frame.Reset()
	if err := spend(&pl.frame, tensors); err != nil {
		return false
	}
	if err := kernel(&pl.frame, tensors, results); err != nil {
		return false
	}
	for _, t := range results {
		if t != nil {
			pl.folded += ops.Len(t)
		}
	}
	if pl.folded > 4*foldElements {
		return false
	}
	for k, v := range out {
		if v != nil {
			v.Const, v.Type = results[k], results[k].Type
		}
	}
	return true
}

// extend adds a bias or Relu to the dense layer that produces the input, if nobody else reads that.
func (pl *planner) extend(n *wire.Node, in, out []*value) bool {
	if n.Domain != "" || n.Op != "Add" && n.Op != "Relu" {
		return false
	}
	for k, name := range n.Inputs {
		v := pl.values[name]
		if v == nil || v.dense == nil || v.uses != 1 {
			continue
		}
		if n.Op == "Relu" {
			v.dense.SetRelu()
		} else if c := in[1-k]; c.Const == nil || !v.dense.SetBias(c.Const) {
			continue
		}
		s := &pl.p.steps[v.denseStep]
		s.out[0] = pl.slot(out[0])
		out[0].dense, out[0].denseStep = v.dense, v.denseStep
		return true
	}
	return false
}

// label notes the class labels of a classifier's scores and passes them on.
func (pl *planner) label(n *wire.Node, in, out []*value) {
	switch n.Op {
	case "TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier":
		if len(out) < 2 || out[1] == nil {
			return
		}
		for _, a := range n.Attrs {
			switch a.Name {
			case "classlabels_strings", "classlabels_int64s", "classlabels_ints":
				if l := labelsOf(&a); len(l) > 0 {
					out[1].labels = l
				}
			}
		}
	case "Cast", "Normalizer", "Identity", "Mul", "Softmax":
		if in[0] != nil && out[0] != nil {
			out[0].labels = in[0].labels
		}
	}
}

func labelsOf(a *wire.Attr) []string {
	if len(a.Strings) > 0 {
		return a.Strings
	}
	var out []string
	for _, c := range a.Ints {
		out = append(out, fmt.Sprint(c))
	}
	return out
}

// zipMap makes the output stand for the input, whose columns then have labels.
func (pl *planner) zipMap(n *wire.Node, in, out []*value, i int) error {
	if len(in) != 1 || in[0] == nil || len(out) != 1 || out[0] == nil {
		return invalid("%s has %d inputs and %d outputs", pl.nodeName(i), len(in), len(out))
	}
	out[0].alias = in[0]
	for _, a := range n.Attrs {
		if l := labelsOf(&a); len(l) > 0 {
			out[0].labels = l
		}
	}
	out[0].mapped = true
	return nil
}
