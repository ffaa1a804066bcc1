package forest

import "fmt"

// Mode is a node's comparison of the feature x with its value v.
type Mode uint8

// The modes of ONNX's tree operators, in the order of their TreeEnsemble numbers.
const (
	LEQ    Mode = iota // x <= v
	LT                 // x < v
	GTE                // x >= v
	GT                 // x > v
	EQ                 // x == v
	NEQ                // x != v
	Member             // x is one of Members
	Leaf
)

// Float is the type of thresholds, weights and sums.
type Float interface{ float32 | float64 }

// Node is a node of a Spec.
type Node[T Float] struct {
	Mode    Mode
	Feature int
	Value   T
	// True and False index Spec.Nodes; unused in a leaf.
	True, False int
	// MissingTrue sends NaN to True; otherwise NaN compares as IEEE 754 says.
	MissingTrue bool
	// Members of mode Member.
	Members []T
	// Weights[First:First+Count] are a leaf's contributions.
	First, Count int
}

// Weight is a leaf's contribution to one target.
type Weight[T Float] struct {
	Target int
	Value  T
}

// Aggregate says how the contributions of the trees combine.
type Aggregate uint8

// The aggregate functions.
const (
	Sum Aggregate = iota
	Average
	Min
	Max
)

// Spec describes an ensemble.
type Spec[T Float] struct {
	Nodes   []Node[T]
	Roots   []int
	Weights []Weight[T]
	// Targets is the number of targets or classes.
	Targets   int
	Aggregate Aggregate
}

// MaxDim bounds features and targets.
const MaxDim = 1 << 24

// mergeChains makes one node of mode Member of a chain of nodes of mode EQ on one feature that lead
// to the same true child: so LightGBM's exporter writes a set of categories. Nothing else may share nodes.
func (s *Spec[T]) mergeChains() {
	next := func(i int) (int, bool) {
		n := &s.Nodes[i]
		if n.Mode != EQ || n.False < 0 || n.False >= len(s.Nodes) {
			return 0, false
		}
		f := &s.Nodes[n.False]
		return n.False, f.Mode == EQ && f.Feature == n.Feature && f.True == n.True
	}
	// Each node joins one chain at most: what is shared otherwise, or a cycle, is left for check to find.
	const (
		inside = 1 + iota
		joined
	)
	var state []uint8
	for i := range s.Nodes {
		if k, ok := next(i); ok {
			if state == nil {
				state = make([]uint8, len(s.Nodes))
			}
			state[k] = inside
		}
	}
	for i := range state {
		if state[i] != 0 {
			continue
		}
		n := &s.Nodes[i]
		members := []T{n.Value}
		last := i
		for k, ok := next(last); ok && state[k] == inside; k, ok = next(last) {
			state[k] = joined
			f := &s.Nodes[k]
			members = append(members, f.Value)
			n.MissingTrue = n.MissingTrue || f.MissingTrue
			last = k
		}
		if last != i {
			n.Mode, n.Members, n.False = Member, members, s.Nodes[last].False
		}
	}
}

// check walks every tree breadth first and returns the number of leaves and the
// depth of each.
func (s *Spec[T]) check() (leaves, depths []int, err error) {
	if s.Targets < 1 || s.Targets > MaxDim {
		return nil, nil, fmt.Errorf("%d targets, expected 1 to %d", s.Targets, MaxDim)
	}
	for i, w := range s.Weights {
		if w.Target < 0 || w.Target >= s.Targets {
			return nil, nil, fmt.Errorf("weight %d is for target %d of %d", i, w.Target, s.Targets)
		}
	}
	seen := make([]bool, len(s.Nodes))
	leaves, depths = make([]int, len(s.Roots)), make([]int, len(s.Roots))
	var level, below []int
	visit := func(tree, i int, to []int) ([]int, error) {
		switch {
		case i < 0 || i >= len(s.Nodes):
			return nil, fmt.Errorf("tree %d refers to node %d of %d", tree, i, len(s.Nodes))
		case seen[i]:
			return nil, fmt.Errorf("tree %d: node %d is reached twice: the trees hold a cycle or share nodes", tree, i)
		}
		seen[i] = true
		return append(to, i), nil
	}
	for t, root := range s.Roots {
		if level, err = visit(t, root, level[:0]); err != nil {
			return nil, nil, err
		}
		for depth := 0; len(level) > 0; depth++ {
			depths[t] = depth
			below = below[:0]
			for _, i := range level {
				n := &s.Nodes[i]
				if n.Mode == Leaf {
					leaves[t]++
					if n.First < 0 || n.Count < 0 || n.First > len(s.Weights)-n.Count {
						return nil, nil, fmt.Errorf("node %d: weights out of range", i)
					}
					continue
				}
				if n.Mode > Leaf {
					return nil, nil, fmt.Errorf("node %d: unknown mode %d", i, n.Mode)
				}
				if n.Feature < 0 || n.Feature >= MaxDim {
					return nil, nil, fmt.Errorf("node %d: feature %d, expected 0 to %d", i, n.Feature, MaxDim-1)
				}
				if below, err = visit(t, n.True, below); err != nil {
					return nil, nil, err
				}
				if below, err = visit(t, n.False, below); err != nil {
					return nil, nil, err
				}
			}
			level, below = below, level
		}
	}
	return leaves, depths, nil
}
