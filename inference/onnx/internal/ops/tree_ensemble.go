package ops

import (
	"fmt"
	"math"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/attribution"
	"github.com/freshet-io/freshet/inference/onnx/internal/forest"
	"github.com/freshet-io/freshet/inference/onnx/internal/wire"
)

// compileTreeEnsemble reads the operator of ai.onnx.ml version 5, which keeps
// inner nodes and leaves apart.
func compileTreeEnsemble(n *Node) (Kernel, error) {
	if err := n.types(0, floatTypes...); err != nil {
		return nil, err
	}
	e := &ensemble{}
	var err error
	if n.in(0).Type == inference.Float64 {
		e.f64, e.shape, err = readEnsemble[float64](n, e)
	} else {
		e.f32, e.shape, err = readEnsemble[float32](n, e)
	}
	if err != nil {
		return nil, err
	}
	n.result(0, n.in(0).Type)
	n.Trees = e.shape
	n.Source = func() *Source { return e.source(e.regressionScores(), 0) }
	if e.f64 != nil {
		return e.regress64, nil
	}
	return e.regress, nil
}

// regress64 is regress with float64 scores.
func (e *ensemble) regress64(f *Frame, in, out []*Tensor) error {
	rows, _, sums, seen, err := e.sum(f, in[0])
	if err != nil {
		return err
	}
	y, err := Alloc[float64](f, out[0], rows, e.targets())
	if err != nil {
		return err
	}
	for i, s := range sums {
		if seen != nil && !seen[i] {
			s = 0
		}
		if e.agg == forest.Average {
			s /= float64(e.trees())
		}
		y[i] = s
	}
	if e.post == transformNone {
		return nil
	}
	k := e.targets()
	z := f.scratch(1, k)
	for r := range rows {
		row := y[r*k : (r+1)*k]
		convertTo(z, row)
		if k > 1 || e.post == transformProbit {
			e.post.apply(z)
		}
		convertTo(row, z)
	}
	return nil
}

// tensorFloats reads a tensor attribute of float32 or float64.
func (n *Node) tensorFloats(name string) ([]float64, error) {
	t, err := n.tensorAttr(name)
	if t == nil || err != nil {
		return nil, err
	}
	switch t.Type {
	case inference.Float32:
		return convertTo(make([]float64, len(t.F32)), t.F32), nil
	case inference.Float64:
		return t.F64, nil
	}
	return nil, fmt.Errorf("%s is %v, expected float32 or float64", name, t.Type)
}

// modesAttr reads nodes_modes, a tensor of uint8.
func (n *Node) modesAttr() ([]forest.Mode, error) {
	a, err := n.attr("nodes_modes", wire.AttrTensor)
	if a == nil || err != nil {
		return nil, err
	}
	if a.T.Type != wire.TypeUint8 {
		return nil, fmt.Errorf("nodes_modes is %s, expected uint8", wire.TypeName(a.T.Type))
	}
	var out []forest.Mode
	for _, b := range a.T.Raw {
		out = append(out, forest.Mode(b))
	}
	for _, v := range a.T.Int32s {
		out = append(out, forest.Mode(max(min(v, 255), 0)))
	}
	for i, m := range out {
		if m > forest.Member {
			return nil, fmt.Errorf("nodes_modes holds %d at %d, expected 0 to %d", m, i, forest.Member)
		}
	}
	return out, nil
}

func readEnsemble[T forest.Float](n *Node, e *ensemble) (*forest.Forest[T], *attribution.Ensemble, error) {
	ints := map[string][]int64{}
	for _, name := range []string{"tree_roots", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids",
		"nodes_trueleafs", "nodes_falseleafs", "nodes_missing_value_tracks_true", "leaf_targetids"} {
		v, err := n.intsAttr(name)
		if err != nil {
			return nil, nil, err
		}
		ints[name] = v
	}
	modes, err := n.modesAttr()
	if err != nil {
		return nil, nil, err
	}
	splits, err := n.tensorFloats("nodes_splits")
	if err != nil {
		return nil, nil, err
	}
	weights, err := n.tensorFloats("leaf_weights")
	if err != nil {
		return nil, nil, err
	}
	members, err := n.tensorFloats("membership_values")
	if err != nil {
		return nil, nil, err
	}
	n.ignore("nodes_hitrates")
	nodes := len(modes)
	for name, v := range ints {
		switch name {
		case "tree_roots":
		case "leaf_targetids":
			if len(v) != len(weights) {
				return nil, nil, fmt.Errorf("leaf_targetids has %d elements, leaf_weights has %d", len(v), len(weights))
			}
		case "nodes_missing_value_tracks_true":
			if len(v) != 0 && len(v) != nodes {
				return nil, nil, fmt.Errorf("%s has %d elements, nodes_modes has %d", name, len(v), nodes)
			}
		default:
			if len(v) != nodes {
				return nil, nil, fmt.Errorf("%s has %d elements, nodes_modes has %d", name, len(v), nodes)
			}
		}
	}
	if len(splits) != nodes {
		return nil, nil, fmt.Errorf("nodes_splits has %d elements, nodes_modes has %d", len(splits), nodes)
	}
	targets, err := n.intAttr("n_targets", 1)
	if err != nil {
		return nil, nil, err
	}
	agg, err := n.intAttr("aggregate_function", 1)
	if err != nil {
		return nil, nil, err
	}
	post, err := n.intAttr("post_transform", 0)
	if err != nil {
		return nil, nil, err
	}
	if agg < 0 || agg > 3 || post < 0 || post > 4 {
		return nil, nil, fmt.Errorf("aggregate_function %d and post_transform %d, expected 0 to 3 and 0 to 4", agg, post)
	}
	e.agg = [...]forest.Aggregate{forest.Average, forest.Sum, forest.Min, forest.Max}[agg]
	e.post = [...]transform{transformNone, transformSoftmax, transformLogistic, transformSoftmaxZero, transformProbit}[post]
	e.needSeen = targets > 1 || e.agg == forest.Min || e.agg == forest.Max

	s := &forest.Spec[T]{Targets: int(max(min(targets, math.MaxInt32), 0)), Aggregate: e.agg}
	for i, w := range weights {
		s.Weights = append(s.Weights, forest.Weight[T]{Target: int(max(min(ints["leaf_targetids"][i], math.MaxInt32), -1)), Value: T(w)})
	}
	s.Nodes = make([]forest.Node[T], nodes, 2*nodes+1)
	// child turns a reference into a node; every reference to a leaf gets a node of its own.
	child := func(at int64, leaf bool) (int, error) {
		if !leaf {
			if at < 0 || at >= int64(nodes) {
				return 0, fmt.Errorf("a child is node %d of %d", at, nodes)
			}
			return int(at), nil
		}
		if at < 0 || at >= int64(len(weights)) {
			return 0, fmt.Errorf("a child is leaf %d of %d", at, len(weights))
		}
		s.Nodes = append(s.Nodes, forest.Node[T]{Mode: forest.Leaf, First: int(at), Count: 1})
		return len(s.Nodes) - 1, nil
	}
	for i, m := range modes {
		yes, err := child(ints["nodes_truenodeids"][i], ints["nodes_trueleafs"][i] != 0)
		if err != nil {
			return nil, nil, err
		}
		no, err := child(ints["nodes_falsenodeids"][i], ints["nodes_falseleafs"][i] != 0)
		if err != nil {
			return nil, nil, err
		}
		missing := ints["nodes_missing_value_tracks_true"]
		s.Nodes[i] = forest.Node[T]{Mode: m, Feature: int(max(min(ints["nodes_featureids"][i], math.MaxInt32), -1)),
			Value: T(splits[i]), True: yes, False: no, MissingTrue: len(missing) > 0 && missing[i] != 0}
		if m == forest.Member {
			k := 0
			for k < len(members) && members[k] == members[k] {
				k++
			}
			s.Nodes[i].Members = convertTo(make([]T, k), members[:k])
			members = members[min(k+1, len(members)):]
		}
	}
	for _, r := range ints["tree_roots"] {
		if r < 0 || r >= int64(nodes) {
			return nil, nil, fmt.Errorf("tree_roots holds node %d of %d", r, nodes)
		}
		s.Roots = append(s.Roots, int(r))
	}
	if len(s.Roots) == 0 {
		return nil, nil, fmt.Errorf("no trees")
	}
	return planted(s)
}
