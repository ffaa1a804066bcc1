package attribution

import (
	"github.com/freshet-io/freshet/inference/onnx/internal/forest"
)

// node is a node of an Ensemble.
type node struct {
	value   float64
	feature int32
	// yes and no are nodes; a leaf's weights are weights[yes:yes+no].
	yes, no     int32
	members     int32 // index in Ensemble.members, for mode Member
	mode        forest.Mode
	missingTrue bool
}

type weight struct {
	target int32
	value  float64
}

// Ensemble is the trees of a forest in the form that explanations need; it is immutable.
type Ensemble struct {
	nodes    []node
	roots    []int32
	weights  []weight
	members  [][]float64
	features int
	size     Size
}

// New keeps what is needed of a Spec that forest.Build has taken.
func New[T forest.Float](s *forest.Spec[T]) *Ensemble {
	e := &Ensemble{nodes: make([]node, len(s.Nodes)), weights: make([]weight, len(s.Weights))}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		to := node{value: float64(n.Value), mode: n.Mode, missingTrue: n.MissingTrue, members: -1}
		if n.Mode == forest.Leaf {
			to.yes, to.no = int32(n.First), int32(n.Count)
			e.size.Leaves++
		} else {
			to.feature, to.yes, to.no = int32(n.Feature), int32(n.True), int32(n.False)
			e.features = max(e.features, n.Feature+1)
		}
		if n.Mode == forest.Member {
			list := make([]float64, len(n.Members))
			for k, v := range n.Members {
				list[k] = float64(v)
			}
			to.members = int32(len(e.members))
			e.members = append(e.members, list)
		}
		e.nodes[i] = to
	}
	for i, w := range s.Weights {
		e.weights[i] = weight{int32(w.Target), float64(w.Value)}
	}
	var level, below []int32
	for _, r := range s.Roots {
		e.roots = append(e.roots, int32(r))
		level = append(level[:0], int32(r))
		nodes := 0
		for depth := 0; len(level) > 0; depth++ {
			e.size.Depth = max(e.size.Depth, depth)
			nodes += len(level)
			below = below[:0]
			for _, i := range level {
				if n := &e.nodes[i]; n.mode != forest.Leaf {
					below = append(below, n.yes, n.no)
				}
			}
			level, below = below, level
		}
		e.size.Largest = max(e.size.Largest, nodes)
	}
	e.size.Trees, e.size.Nodes = len(e.roots), len(e.nodes)
	return e
}

// Features is the smallest width of a row.
func (e *Ensemble) Features() int { return e.features }

// Size is how large an Ensemble is.
type Size struct {
	Trees, Nodes, Leaves int
	Depth                int // of the deepest tree
	Largest              int // nodes of the largest tree
}

// Size counts trees and nodes.
func (e *Ensemble) Size() Size { return e.size }

// Always reports whether every row meets a leaf with a weight for target.
func (e *Ensemble) Always(target int) bool {
	var stack []int32
	for _, r := range e.roots {
		all := true
		stack = append(stack[:0], r)
		for len(stack) > 0 && all {
			n := &e.nodes[stack[len(stack)-1]]
			stack = stack[:len(stack)-1]
			if n.mode != forest.Leaf {
				stack = append(stack, n.yes, n.no)
				continue
			}
			all = false
			for _, w := range e.weights[n.yes : n.yes+n.no] {
				all = all || int(w.target) == target
			}
		}
		if all {
			return true
		}
	}
	return false
}

// concerns reports whether any leaf of the tree at root has a weight for target.
func (e *Ensemble) concerns(root int32, target int) bool {
	stack := []int32{root}
	for len(stack) > 0 {
		n := &e.nodes[stack[len(stack)-1]]
		stack = stack[:len(stack)-1]
		if n.mode != forest.Leaf {
			stack = append(stack, n.yes, n.no)
		} else if _, any := e.leafValue(n, target); any {
			return true
		}
	}
	return false
}

// leafValue is the sum of a leaf's weights for target, and whether it has any.
func (e *Ensemble) leafValue(n *node, target int) (v float64, any bool) {
	for _, w := range e.weights[n.yes : n.yes+n.no] {
		if int(w.target) == target {
			v += w.value
			any = true
		}
	}
	return v, any
}

// goes reports whether x goes to the node's true child.
func (e *Ensemble) goes(n *node, x float64) bool {
	if n.missingTrue && x != x {
		return true
	}
	switch n.mode {
	case forest.LEQ:
		return x <= n.value
	case forest.LT:
		return x < n.value
	case forest.GTE:
		return x >= n.value
	case forest.GT:
		return x > n.value
	case forest.EQ:
		return x == n.value
	case forest.NEQ:
		return x != n.value
	case forest.Member:
		for _, m := range e.members[n.members] {
			if x == m {
				return true
			}
		}
	}
	return false
}

// Covers is how many rows of a sample passed each node of an Ensemble.
type Covers []uint32

// Cover sends rows of width values, at least Features, through the trees.
func (e *Ensemble) Cover(x []float64, rows, width int) Covers {
	c := make(Covers, len(e.nodes))
	for _, root := range e.roots {
		for r := range rows {
			row := x[r*width : (r+1)*width]
			i := root
			for {
				c[i]++
				n := &e.nodes[i]
				if n.mode == forest.Leaf {
					break
				}
				if e.goes(n, row[n.feature]) {
					i = n.yes
				} else {
					i = n.no
				}
			}
		}
	}
	return c
}

// share is what part of the node's cover the true child has. Nodes that no row of the sample
// reached are divided in halves.
func (c Covers) share(i int32, n *node) float64 {
	if c[i] == 0 {
		return 0.5
	}
	return float64(c[n.yes]) / float64(c[i])
}
