package attribution

import (
	"math"

	"github.com/freshet-io/freshet/inference/onnx/internal/forest"
)

const (
	maxWork  = 1 << 20 // nodes × points of a tree, 128 bytes of scratch each
	maxDepth = 512     // an earlier split on a feature is looked for node by node
)

// ShapleyFits says whether the trees are of a size that Plan takes.
func (e *Ensemble) ShapleyFits() bool {
	unlike := min(e.size.Depth, e.features)
	return e.size.Depth <= maxDepth && e.size.Largest*(unlike+1)/2 <= maxWork
}

// Plan explains one target of an ensemble under given covers; it is immutable.
type Plan struct {
	base    float64
	columns []int32 // features that the trees use
	trees   []tree
	rules   []rule // quadrature, by the number of points
	nodes   int    // of the largest tree
	slots   int    // nodes and leaves beside nodes × points of the largest tree
	table   []float64
	members [][]uint64
	vectors bool // walk in assembly
}

// rule is a quadrature: the weights, and t and 1−t at each point.
type rule struct{ weight, t, u []float64 }

// tree is the inner nodes of a tree, those near the root first.
type tree struct {
	points int
	slots  int // inner nodes, then leaves whose sibling is none
	split  []split
	fixed  []fixed
	// members says that a split is on a set of values.
	members bool
}

// fixed is the value of a leaf that has a slot.
type fixed struct {
	slot  int32
	value float64
}

// kind is how a split is evaluated.
type kind uint8

const (
	pair       kind = iota // first on its feature, both children are leaves
	inner                  // first on its feature
	laterPair              // continues an earlier split on its feature, both children are leaves
	laterInner             // continues an earlier split on its feature
)

// split is an inner node. The one child is taken where the feature's key lies between lo and lo+span;
// its missing mask is all ones where a missing value goes there too.
type split struct {
	lo, span, missing uint64
	column            int32
	members           int32 // index in Plan.members, or −1
	one, other        int32 // slots, where not both are leaves
	prev              int32 // earlier split on the same feature
	table             int32 // of a later one
	kind              kind
	prevOne           bool    // the path goes on with the earlier split's one child
	z                 float64 // cover of the one child, for a first split
	// step is H(one) − H(other) and low H(other), where both are leaves.
	step, low float64
}

// NewPlan prepares the explanation of target, with every leaf's value times scale. The ensemble is one that
// ShapleyFits.
func NewPlan(e *Ensemble, c Covers, target int, scale float64) *Plan {
	p := &Plan{vectors: vectors()}
	b := planner{e: e, c: c, p: p, target: target, scale: scale, column: map[int32]int32{}}
	for _, root := range e.roots {
		b.add(root)
	}
	return p
}

// Base is the worth of no feature.
func (p *Plan) Base() float64 { return p.base }

type planner struct {
	e      *Ensemble
	c      Covers
	p      *Plan
	target int
	scale  float64
	column map[int32]int32 // of a feature

	queue []place // inner nodes of the tree at hand
}

// place is a node on its way into a tree.
type place struct {
	node   int32
	parent int32 // split, −1 for the root
	one    bool  // the node is its parent's one child
	reach  float64
	unlike int // different features above
}

// add appends the tree at root, unless it has nothing for the target.
func (b *planner) add(root int32) {
	e, p := b.e, b.p
	if !e.concerns(root, b.target) {
		return
	}
	if n := &e.nodes[root]; n.mode == forest.Leaf {
		v, _ := e.leafValue(n, b.target)
		p.base += v * b.scale
		return
	}
	t := tree{}
	b.queue = append(b.queue[:0], place{node: root, parent: -1, reach: 1})
	deepest := 0
	var above []merged
	for k := 0; k < len(b.queue); k++ {
		at := b.queue[k]
		n := &e.nodes[at.node]
		share := b.c.share(at.node, n)
		s, swap := b.condition(n)
		one, other := n.yes, n.no
		if swap {
			one, other = other, one
			share = 1 - share
		}
		// The earlier split on the feature, if there is one.
		s.prev = -1
		for i, side := at.parent, at.one; i >= 0; i, side = b.queue[i].parent, b.queue[i].one {
			if t.split[i].column == s.column {
				s.prev, s.prevOne = i, side
				break
			}
		}
		z, unlike := 1.0, at.unlike
		if s.prev < 0 {
			unlike++
		} else {
			m := &above[s.prev]
			z = m.other
			if s.prevOne {
				z = m.one
			}
		}
		deepest = max(deepest, unlike)
		m := merged{before: z, one: z * share, other: z * (1 - share), share: share}
		above = append(above, m)
		s.z = m.one
		s.one, s.other = -1, -1
		for _, child := range [2]struct {
			node int32
			one  bool
			part float64
		}{{one, true, share}, {other, false, 1 - share}} {
			reach := at.reach * child.part
			if e.nodes[child.node].mode != forest.Leaf {
				slot := int32(len(b.queue))
				if child.one {
					s.one = slot
				} else {
					s.other = slot
				}
				b.queue = append(b.queue, place{child.node, int32(k), child.one, reach, unlike})
				continue
			}
			v, _ := e.leafValue(&e.nodes[child.node], b.target)
			v *= b.scale
			p.base += reach * v
			if child.one {
				s.step = v
			} else {
				s.step -= v
				s.low = v
			}
		}
		t.split = append(t.split, s)
		t.members = t.members || s.members >= 0
	}
	t.slots = len(t.split)
	for k := range t.split {
		s := &t.split[k]
		switch {
		case s.one < 0 && s.other < 0:
			s.kind = pair
		case s.one < 0:
			s.kind, s.one = inner, int32(t.slots)
			t.fixed = append(t.fixed, fixed{s.one, s.step})
			t.slots++
		case s.other < 0:
			s.kind, s.other = inner, int32(t.slots)
			t.fixed = append(t.fixed, fixed{s.other, s.low})
			t.slots++
		default:
			s.kind = inner
		}
		if s.prev >= 0 {
			s.kind += laterPair
		}
	}
	t.points = (deepest + 1) / 2
	b.rule(t.points)
	for k := range t.split {
		if s := &t.split[k]; s.prev >= 0 {
			s.table = int32(len(p.table))
			b.later(t.points, &above[k])
		}
	}
	p.nodes = max(p.nodes, len(t.split))
	p.slots = max(p.slots, t.slots*t.points)
	p.trees = append(p.trees, t)
}

// merged is what all splits on a feature down to a node let through: before it, to either child.
type merged struct{ before, one, other, share float64 }

// rule computes the quadrature with n points.
func (b *planner) rule(n int) {
	p := b.p
	for len(p.rules) <= n {
		p.rules = append(p.rules, rule{})
	}
	if r := &p.rules[n]; r.t == nil {
		r.t, r.weight = gauss(n)
		for _, t := range r.t {
			r.u = append(r.u, 1-t)
		}
	}
}

// laterSize is how many numbers a later split needs for each point.
const laterSize = 5

// later appends the constants of a split that continues another. Of the feature, the earlier
// split let f = z·(1−t) + o·t through; this one's one child lets through f', so that a = f'/f, and
// b is the change of (o−z)/f, times a. Both depend on whether the row met the earlier
// condition (p) and meets this one (o): a = r + p·(a0−r) + p·o·(a1−a0), b = p·b0 + p·o·(b1−b0).
func (b *planner) later(points int, m *merged) {
	r := &b.p.rules[points]
	for k, t := range r.t {
		u := r.u[k]
		f := m.before*u + t
		f0, f1 := m.one*u, m.one*u+t
		a0, a1 := f0/f, f1/f
		b0 := (-m.one*f - (1-m.before)*f0) / (f * f)
		b1 := ((1-m.one)*f - (1-m.before)*f1) / (f * f)
		b.p.table = append(b.p.table, m.share, a0-m.share, a1-a0, b0, b1-b0)
	}
}

// condition turns a comparison into a range of keys; swap says that the one child is the false one.
func (b *planner) condition(n *node) (s split, swap bool) {
	s.members = -1
	k, ok := b.column[n.feature]
	if !ok {
		k = int32(len(b.p.columns))
		b.column[n.feature] = k
		b.p.columns = append(b.p.columns, n.feature)
	}
	s.column = k
	if n.missingTrue {
		s.missing = math.MaxUint64
	}
	const least = 1
	most := keyOf(math.Inf(1))
	v := keyOf(n.value)
	between := func(lo, hi uint64) {
		s.lo, s.span = lo, hi-lo
		if lo > hi || n.value != n.value {
			s.lo, s.span = math.MaxUint64, 0 // never
		}
	}
	switch n.mode {
	case forest.LEQ:
		between(least, v)
	case forest.LT:
		between(least, v-1)
	case forest.GTE:
		between(v, most)
	case forest.GT:
		between(v+1, most)
	case forest.EQ:
		between(v, v)
	case forest.NEQ:
		// The false child's value is the one; a missing value differs from it.
		between(v, v)
		s.missing = 0
		return s, true
	case forest.Member:
		s.lo, s.span = math.MaxUint64, 0
		var keys []uint64
		for _, m := range b.e.members[n.members] {
			if m == m {
				keys = append(keys, keyOf(m))
			}
		}
		s.members = int32(len(b.p.members))
		b.p.members = append(b.p.members, keys)
	}
	return s, false
}

// missingKey is the key of NaN, below all others.
const missingKey = 0

// keyOf is a number's bits, turned so that unsigned keys compare as the numbers do; both zeros have one.
func keyOf(v float64) uint64 {
	if v != v {
		return missingKey
	}
	if v == 0 {
		v = 0
	}
	b := math.Float64bits(v)
	return b ^ (-(b >> 63) | 1<<63)
}
