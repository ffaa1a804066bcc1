package attribution

import "github.com/freshet-io/freshet/inference/onnx/internal/forest"

// Lanes is the size of the groups in which a Walk gets its leaves.
const Lanes = lanes

// Paths holds, for each leaf of a forest, its value and what the path to it gives the features.
// It is immutable.
type Paths struct {
	base  float64
	value []float64 // by leaf's number
	// Those of a leaf are gain[first[leaf]:end[leaf]].
	first, end []uint32
	gain       []gain
}

type gain struct {
	feature int32
	by      float64
}

const maxGains = 1 << 26 // of a table, 16 bytes each

// PathsFit says whether the table of Paths is of a size that it takes.
func (e *Ensemble) PathsFit() bool {
	return e.size.Leaves*min(e.size.Depth, e.features) <= maxGains
}

// NewPaths prepares the leaves of the forest of e, whose numbers stand for the nodes in leaves, for target,
// with every leaf's value times scale. Without gains it knows the raw values alone; with gains the ensemble is
// one that PathsFit.
func NewPaths(e *Ensemble, c Covers, leaves []int32, target int, scale float64, gains bool) *Paths {
	p := &Paths{value: make([]float64, len(leaves)), first: make([]uint32, len(leaves)), end: make([]uint32, len(leaves))}
	worth := e.worth(c, target, scale)
	spans := make([][2]uint32, len(e.nodes))
	type step struct {
		node  int32
		gains []gain
	}
	var stack []step
	for _, root := range e.roots {
		p.base += worth[root]
		if !gains || !e.concerns(root, target) {
			continue
		}
		stack = append(stack[:0], step{node: root})
		for len(stack) > 0 {
			at := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			n := &e.nodes[at.node]
			if n.mode == forest.Leaf {
				from := uint32(len(p.gain))
				for _, g := range at.gains {
					if g.by != 0 {
						p.gain = append(p.gain, g)
					}
				}
				spans[at.node] = [2]uint32{from, uint32(len(p.gain))}
				continue
			}
			for _, child := range [2]int32{n.yes, n.no} {
				gains := make([]gain, len(at.gains), len(at.gains)+1)
				copy(gains, at.gains)
				by := worth[child] - worth[at.node]
				k := 0
				for k < len(gains) && gains[k].feature != n.feature {
					k++
				}
				if k == len(gains) {
					gains = append(gains, gain{feature: n.feature})
				}
				gains[k].by += by
				stack = append(stack, step{child, gains})
			}
		}
	}
	for i, at := range leaves {
		p.value[i] = worth[at]
		p.first[i], p.end[i] = spans[at][0], spans[at][1]
	}
	return p
}

// Base is the worth of no feature.
func (p *Paths) Base() float64 { return p.base }

// worth is what each node is worth by the covers below it.
func (e *Ensemble) worth(c Covers, target int, scale float64) []float64 {
	w := make([]float64, len(e.nodes))
	var order []int32
	for _, root := range e.roots {
		order = append(order[:0], root)
		for k := 0; k < len(order); k++ {
			if n := &e.nodes[order[k]]; n.mode != forest.Leaf {
				order = append(order, n.yes, n.no)
			}
		}
		for k := len(order) - 1; k >= 0; k-- {
			n := &e.nodes[order[k]]
			if n.mode == forest.Leaf {
				v, _ := e.leafValue(n, target)
				w[order[k]] = v * scale
				continue
			}
			share := c.share(order[k], n)
			w[order[k]] = share*w[n.yes] + (1-share)*w[n.no]
		}
	}
	return w
}

// Walk adds attributions or raw values as a forest visits leaves. Its fields are set before
// each Forest.Leaves; it keeps none.
type Walk struct {
	Paths *Paths
	// Raw receives the values of leaves, where it is not nil.
	Raw []float64
	// Out has Stride values a row; feature i's gains go to place To[i], nowhere where that is negative.
	// Nil for none.
	Out    []float64
	Stride int
	To     []int32
}

var _ forest.Visitor = (*Walk)(nil)

// Visit adds the leaves of one tree.
func (w *Walk) Visit(first, n int, leaves [][Lanes]uint32) {
	p := w.Paths
	if w.Raw != nil {
		raw := w.Raw[first : first+n]
		for i := range raw {
			raw[i] += p.value[leaves[i/lanes][i%lanes]]
		}
	}
	if w.Out == nil {
		return
	}
	for i := range n {
		leaf := leaves[i/lanes][i%lanes]
		out := w.Out[(first+i)*w.Stride:][:w.Stride]
		for _, g := range p.gain[p.first[leaf]:p.end[leaf]] {
			if k := w.To[g.feature]; uint(k) < uint(len(out)) {
				out[k] += g.by
			}
		}
	}
}
