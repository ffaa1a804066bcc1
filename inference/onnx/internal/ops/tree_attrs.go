package ops

import (
	"fmt"
	"math"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/attribution"
	"github.com/freshet-io/freshet/inference/onnx/internal/forest"
)

// treeAttrs are the attributes of TreeEnsembleClassifier and TreeEnsembleRegressor:
// parallel arrays of nodes and of leaf weights.
type treeAttrs struct {
	treeIDs, nodeIDs, features, yes, no, missing []int64
	modes                                        []string
	values                                       []float64
	leafTree, leafNode, leafTarget               []int64
	weights                                      []float64
	base                                         []float64
	post                                         transform
}

// readTrees reads the attributes; leaf is the prefix of the weights' attributes.
func readTrees(n *Node, leaf string) (*treeAttrs, error) {
	a := &treeAttrs{}
	for _, x := range []struct {
		name string
		to   *[]int64
	}{
		{"nodes_treeids", &a.treeIDs}, {"nodes_nodeids", &a.nodeIDs}, {"nodes_featureids", &a.features},
		{"nodes_truenodeids", &a.yes}, {"nodes_falsenodeids", &a.no}, {"nodes_missing_value_tracks_true", &a.missing},
		{leaf + "_treeids", &a.leafTree}, {leaf + "_nodeids", &a.leafNode}, {leaf + "_ids", &a.leafTarget},
	} {
		v, err := n.intsAttr(x.name)
		if err != nil {
			return nil, err
		}
		*x.to = v
	}
	var err error
	if a.modes, err = n.stringsAttr("nodes_modes"); err != nil {
		return nil, err
	}
	if a.values, err = n.doublesAttr("nodes_values"); err != nil {
		return nil, err
	}
	if a.weights, err = n.doublesAttr(leaf + "_weights"); err != nil {
		return nil, err
	}
	if a.base, err = n.doublesAttr("base_values"); err != nil {
		return nil, err
	}
	if a.post, err = n.transformAttr(); err != nil {
		return nil, err
	}
	n.ignore("nodes_hitrates", "nodes_hitrates_as_tensor")
	nodes := len(a.treeIDs)
	for _, x := range []struct {
		name string
		len  int
	}{
		{"nodes_nodeids", len(a.nodeIDs)}, {"nodes_featureids", len(a.features)}, {"nodes_truenodeids", len(a.yes)},
		{"nodes_falsenodeids", len(a.no)}, {"nodes_modes", len(a.modes)}, {"nodes_values", len(a.values)},
	} {
		if x.len != nodes {
			return nil, fmt.Errorf("%s has %d elements, nodes_treeids has %d", x.name, x.len, nodes)
		}
	}
	if len(a.missing) != 0 && len(a.missing) != nodes {
		return nil, fmt.Errorf("nodes_missing_value_tracks_true has %d elements, nodes_treeids has %d", len(a.missing), nodes)
	}
	if k := len(a.leafTarget); len(a.leafTree) != k || len(a.leafNode) != k || len(a.weights) != k {
		return nil, fmt.Errorf("%[1]s_ids, %[1]s_treeids, %[1]s_nodeids and %[1]s_weights differ in length: %d, %d, %d, %d",
			leaf, k, len(a.leafTree), len(a.leafNode), len(a.weights))
	}
	if nodes == 0 {
		return nil, fmt.Errorf("no nodes")
	}
	return a, nil
}

// doublesAttr reads floats from attribute name or from its tensor form name_as_tensor.
func (n *Node) doublesAttr(name string) ([]float64, error) {
	f, err := n.floatsAttr(name)
	if err != nil {
		return nil, err
	}
	t, err := n.tensorAttr(name + "_as_tensor")
	if err != nil {
		return nil, err
	}
	switch {
	case t == nil:
		return convertTo(make([]float64, len(f)), f), nil
	case len(f) > 0:
		return nil, fmt.Errorf("both %[1]s and %[1]s_as_tensor are given", name)
	case t.Type == inference.Float32:
		return convertTo(make([]float64, len(t.F32)), t.F32), nil
	case t.Type == inference.Float64:
		return t.F64, nil
	}
	return nil, fmt.Errorf("%s_as_tensor is %v, expected float32 or float64", name, t.Type)
}

var modeNames = map[string]forest.Mode{
	"BRANCH_LEQ": forest.LEQ, "BRANCH_LT": forest.LT, "BRANCH_GTE": forest.GTE, "BRANCH_GT": forest.GT,
	"BRANCH_EQ": forest.EQ, "BRANCH_NEQ": forest.NEQ, "LEAF": forest.Leaf,
}

// build makes the ensemble, in float64 where the input is float64 as ONNX Runtime does.
func (a *treeAttrs) build(n *Node, targets int, agg forest.Aggregate) (*ensemble, error) {
	if err := n.types(0, numberTypes...); err != nil {
		return nil, err
	}
	if len(a.base) > 0 && len(a.base) != targets && len(a.base) != 1 {
		return nil, fmt.Errorf("base_values has %d elements for %d targets", len(a.base), targets)
	}
	e := &ensemble{base: a.base, post: a.post, agg: agg, needSeen: targets > 1 || agg == forest.Min || agg == forest.Max}
	var err error
	if n.in(0).Type == inference.Float64 {
		e.f64, e.shape, err = buildForest[float64](a, targets, agg)
	} else {
		e.f32, e.shape, err = buildForest[float32](a, targets, agg)
	}
	return e, err
}

func buildForest[T forest.Float](a *treeAttrs, targets int, agg forest.Aggregate) (*forest.Forest[T], *attribution.Ensemble, error) {
	type id struct{ tree, node int64 }
	s := &forest.Spec[T]{Nodes: make([]forest.Node[T], len(a.treeIDs)), Targets: targets, Aggregate: agg}
	index := make(map[id]int, len(a.treeIDs))
	rooted := map[int64]bool{}
	for i, tree := range a.treeIDs {
		at := id{tree, a.nodeIDs[i]}
		if _, twice := index[at]; twice {
			return nil, nil, fmt.Errorf("node %d of tree %d is there twice", at.node, tree)
		}
		index[at] = i
		if !rooted[tree] {
			rooted[tree] = true
			s.Roots = append(s.Roots, i)
		}
	}
	for i, tree := range a.treeIDs {
		mode, ok := modeNames[a.modes[i]]
		if !ok {
			return nil, nil, fmt.Errorf("nodes_modes holds %q", a.modes[i])
		}
		node := forest.Node[T]{Mode: mode, Value: T(a.values[i]), MissingTrue: len(a.missing) > 0 && a.missing[i] == 1}
		if mode != forest.Leaf {
			var yes, no bool
			node.True, yes = index[id{tree, a.yes[i]}]
			node.False, no = index[id{tree, a.no[i]}]
			if !yes || !no {
				return nil, nil, fmt.Errorf("node %d of tree %d has children %d and %d, not both of which exist", a.nodeIDs[i], tree, a.yes[i], a.no[i])
			}
			node.Feature = int(max(min(a.features[i], math.MaxInt32), -1))
		}
		s.Nodes[i] = node
	}
	if err := leafWeights(a, s, func(tree, node int64) (int, bool) {
		i, ok := index[id{tree, node}]
		return i, ok
	}); err != nil {
		return nil, nil, err
	}
	return planted(s)
}

// planted builds a forest, and what explanations need of it.
func planted[T forest.Float](s *forest.Spec[T]) (*forest.Forest[T], *attribution.Ensemble, error) {
	f, err := forest.Build(s)
	if err != nil {
		return nil, nil, err
	}
	return f, attribution.New(s), nil
}

// leafWeights gives each leaf its weights, side by side.
func leafWeights[T forest.Float](a *treeAttrs, s *forest.Spec[T], find func(tree, node int64) (int, bool)) error {
	leaf := make([]int, len(a.leafTarget))
	for i := range leaf {
		k, ok := find(a.leafTree[i], a.leafNode[i])
		if !ok {
			return fmt.Errorf("weight %d is for node %d of tree %d, which does not exist", i, a.leafNode[i], a.leafTree[i])
		}
		if t := a.leafTarget[i]; t < 0 || t >= int64(s.Targets) {
			return fmt.Errorf("weight %d is for target or class %d of %d", i, t, s.Targets)
		}
		leaf[i] = k
		n := &s.Nodes[k]
		if n.Mode != forest.Leaf || s.Targets == 1 && n.Count == 1 {
			leaf[i] = -1 // old converters write weights for inner nodes; a lone target takes the first
			continue
		}
		n.Count++
	}
	first := 0
	for i := range s.Nodes {
		s.Nodes[i].First = first
		first += s.Nodes[i].Count
	}
	s.Weights = make([]forest.Weight[T], first)
	next := make(map[int]int)
	for i, k := range leaf {
		if k >= 0 {
			s.Weights[s.Nodes[k].First+next[k]] = forest.Weight[T]{Target: int(a.leafTarget[i]), Value: T(a.weights[i])}
			next[k]++
		}
	}
	return nil
}
