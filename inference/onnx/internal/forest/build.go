package forest

import (
	"fmt"
	"math"
	"slices"
)

// perfectDepth is the depth up to which a tree may be padded to a perfect one.
const perfectDepth = 8

// layout says how a tree is stored.
type layout uint8

const (
	perfect layout = iota // heap order, padded to Forest.depth levels
	linked                // neighbours, left index in the node
	plain                 // any mode, node by node
)

// A node of a perfect tree is pnodeKeys keys: its threshold and the offset in bytes of the keys that
// it compares, in the keys of a group of rows. The root lies at node 1, the children of i at 2i
// and 2i+1; node 0 is not used.
const pnodeKeys = 2

// The nodes of a linked tree lie in pairs of siblings of pairKeys keys: both thresholds, both
// offsets, both left children, both leaf numbers. A node is known by the index of its threshold, so
// that its right child is left+1. A leaf has left = itself and a threshold that nothing exceeds.
// The root has no sibling.
const (
	pairOff  = 2
	pairLeft = 4
	pairLeaf = 6
	pairKeys = 8
)

// never is the threshold that nothing exceeds.
const never = math.MaxUint64

// xnode is a node of a plain tree.
type xnode[T Float] struct {
	mode        Mode
	missingTrue bool
	value       T
	feat        uint32
	yes, no     uint32 // for a leaf: yes is the leaf's number
	members     []T
}

type tree struct {
	layout layout
	// node is the index of the first node, for a linked tree of its key; leaf the number of the first
	// leaf, for a perfect tree what to add to the index where a walk ends (it may wrap around).
	node, leaf uint32
	// target of all leaves where the forest is single.
	target uint32
}

// Forest is an ensemble ready to be evaluated; it is immutable.
type Forest[T Float] struct {
	trees    []tree
	targets  int
	agg      Aggregate
	features int // the largest feature used + 1
	depth    int // of perfect trees

	// Keys, of 4 or 8 bytes as T; those named NaN are for rows whose columns are doubled.
	perfect, perfectNaN []uint64
	linked, linkedNaN   []uint64
	columns             []uint32 // the features that these compare, at least one
	plain               []xnode[T]
	nan                 nanPolicy

	// single: every leaf has exactly one weight, all of a tree for one target, summed.
	single bool
	// scalar: single, and all trees have the same target.
	scalar bool
	value  []T // by leaf, where single
	// otherwise the weights of leaf i are weights[first[i]:first[i+1]].
	first   []uint32
	weights []Weight[T]
	hasLeaf []bool  // by target: some leaf has a weight for it
	leaf    []int32 // by leaf: its node in the Spec
}

// nanPolicy says what rows with NaN need.
type nanPolicy uint8

const (
	nanLeft  nanPolicy = iota // nothing
	nanRight                  // NaN becomes +Inf
	nanMixed                  // both columns
)

// Features is the smallest width of a row.
func (f *Forest[T]) Features() int { return f.features }

// Targets is the number of sums per row.
func (f *Forest[T]) Targets() int { return f.targets }

// Trees is the number of trees.
func (f *Forest[T]) Trees() int { return len(f.trees) }

// LeafNodes are the nodes of the Spec that the leaves' numbers stand for; a node may have several numbers.
func (f *Forest[T]) LeafNodes() []int32 { return f.leaf }

// Build checks s and lays it out. Chains of nodes that stand for sets become nodes of mode Member in s.
func Build[T Float](s *Spec[T]) (*Forest[T], error) {
	s.mergeChains()
	leaves, depths, err := s.check()
	if err != nil {
		return nil, err
	}
	if len(s.Nodes) > math.MaxInt32/8 || len(s.Weights) > math.MaxInt32/8 {
		return nil, fmt.Errorf("%d nodes and %d weights are too many", len(s.Nodes), len(s.Weights))
	}
	f := &Forest[T]{targets: s.Targets, agg: s.Aggregate, hasLeaf: make([]bool, s.Targets)}
	b := &builder[T]{f: f, s: s}
	for _, d := range depths {
		if d <= perfectDepth {
			f.depth = max(f.depth, d)
		}
	}
	b.single(leaves)
	lefts, rights := false, false
	kinds := make([]layout, len(s.Roots))
	for t, root := range s.Roots {
		kinds[t] = linked
		if depths[t] <= f.depth && 1<<f.depth <= 4*leaves[t]+4 {
			kinds[t] = perfect
		}
		b.order(root)
		for _, i := range b.queue {
			n := &s.Nodes[i]
			if n.Mode == Leaf {
				continue
			}
			f.features = max(f.features, n.Feature+1)
			_, _, right, ok := normal(n)
			if !ok {
				kinds[t] = plain
				continue
			}
			lefts, rights = lefts || !right, rights || right
		}
	}
	switch {
	case lefts && rights:
		f.nan = nanMixed
	case rights:
		f.nan = nanRight
	}
	b.columns(kinds)
	for t, root := range s.Roots {
		b.order(root)
		b.add(kinds[t])
	}
	if !f.single {
		f.first = append(f.first, uint32(len(f.weights)))
	}
	return f, nil
}

// normal turns a comparison into x > thr, which leads to the false child unless swap.
// right says that NaN must go where x > thr goes.
func normal[T Float](n *Node[T]) (thr T, swap, right, ok bool) {
	v := n.Value
	inf := T(math.Inf(1))
	switch n.Mode {
	case LEQ, GT:
		thr = v
	case LT, GTE:
		if v == -inf { // x < -Inf never holds, and no threshold says so for x = -Inf
			return 0, false, false, false
		}
		thr = below(v)
	default:
		return 0, false, false, false
	}
	swap = n.Mode == GT || n.Mode == GTE
	// The true child lies left unless swapped; NaN goes there only if told so.
	right = n.MissingTrue == swap
	if thr != thr || right && thr == inf {
		return 0, false, false, false
	}
	return thr, swap, right, true
}

// below is the largest value smaller than v.
func below[T Float](v T) T {
	switch p := any(v).(type) {
	case float32:
		return T(math.Nextafter32(p, float32(math.Inf(-1))))
	case float64:
		return T(math.Nextafter(p, math.Inf(-1)))
	}
	return v
}

type builder[T Float] struct {
	f     *Forest[T]
	s     *Spec[T]
	queue []int // nodes of the tree at hand, breadth first, left children first
	// column is the place of a feature in Forest.columns.
	column map[int]int
}

// order fills the queue with the nodes of the tree at root.
func (b *builder[T]) order(root int) {
	b.queue = append(b.queue[:0], root)
	for k := 0; k < len(b.queue); k++ {
		n := &b.s.Nodes[b.queue[k]]
		if n.Mode != Leaf {
			l, r := n.children()
			b.queue = append(b.queue, l, r)
		}
	}
}

// children are the nodes that the comparison x > thr leads to: l where it is false.
func (n *Node[T]) children() (l, r int) {
	if n.Mode == GT || n.Mode == GTE {
		return n.False, n.True
	}
	return n.True, n.False
}

// columns collects the features of the trees that are not plain.
func (b *builder[T]) columns(kinds []layout) {
	f, s := b.f, b.s
	b.column = map[int]int{}
	for t, root := range s.Roots {
		if kinds[t] == plain {
			continue
		}
		b.order(root)
		for _, i := range b.queue {
			if n := &s.Nodes[i]; n.Mode != Leaf {
				b.column[n.Feature] = 0
			}
		}
	}
	for c := range b.column {
		f.columns = append(f.columns, uint32(c))
	}
	slices.Sort(f.columns)
	for k, c := range f.columns {
		b.column[int(c)] = k
	}
}

// compare is what a node's comparison with x > thr needs: the threshold's key and the offsets of
// the keys in rows with single and with doubled columns.
func (b *builder[T]) compare(n *Node[T]) (thr, off, both uint64) {
	v, _, right, _ := normal(n)
	c := b.column[n.Feature]
	d := 2 * c
	if right {
		d++
	}
	group := lanes * keySize[T]()
	return threshold(v), uint64(c * group), uint64(d * group)
}

// single finds out whether leaves can be plain values.
func (b *builder[T]) single(leaves []int) {
	f, s := b.f, b.s
	f.single = s.Aggregate == Sum || s.Aggregate == Average
	f.scalar = true
	target := -1
	for _, root := range s.Roots {
		b.order(root)
		own := -1
		for _, i := range b.queue {
			n := &s.Nodes[i]
			if n.Mode != Leaf {
				continue
			}
			for _, w := range s.Weights[n.First : n.First+n.Count] {
				f.hasLeaf[w.Target] = true
			}
			if n.Count != 1 {
				f.single = false
				continue
			}
			t := s.Weights[n.First].Target
			if own >= 0 && own != t {
				f.single = false
			}
			own = t
			if target >= 0 && target != t {
				f.scalar = false
			}
			target = t
		}
	}
	f.scalar = f.scalar && f.single
}

// add appends the tree in the queue.
func (b *builder[T]) add(kind layout) {
	f, s := b.f, b.s
	t := tree{layout: kind, leaf: b.leafCount()}
	if f.single {
		for _, i := range b.queue {
			if n := &s.Nodes[i]; n.Mode == Leaf {
				t.target = uint32(s.Weights[n.First].Target)
				break
			}
		}
	}
	switch kind {
	case perfect:
		t.node = uint32(len(f.perfect) * 8 / (pnodeKeys * keySize[T]()))
		b.addPerfect()
		t.leaf -= 1 << f.depth // walks end at 2^depth plus the leaf's place
	case linked:
		t.node = uint32(len(f.linked) * 8 / keySize[T]())
		b.addLinked()
	case plain:
		t.node = uint32(len(f.plain))
		b.addPlain(t.node)
	}
	f.trees = append(f.trees, t)
}

func (b *builder[T]) leafCount() uint32 {
	if b.f.single {
		return uint32(len(b.f.value))
	}
	return uint32(len(b.f.first))
}

// addLeaf stores the leaf that is node i and returns its number.
func (b *builder[T]) addLeaf(i int) uint32 {
	f, n := b.f, &b.s.Nodes[i]
	id := b.leafCount()
	f.leaf = append(f.leaf, int32(i))
	w := b.s.Weights[n.First : n.First+n.Count]
	if f.single {
		f.value = append(f.value, w[0].Value)
		return id
	}
	f.first = append(f.first, uint32(len(f.weights)))
	f.weights = append(f.weights, w...)
	return id
}

// extend appends n zero keys of T to m and returns them too.
func extend[T Float](m []uint64, n int) (all, added []uint64) {
	at := len(m)
	m = append(m, make([]uint64, n*keySize[T]()/8)...)
	return m, m[at:]
}

// addPerfect stores the tree in heap order; below a leaf that is not deep enough
// all comparisons are false and all leaves the same.
func (b *builder[T]) addPerfect() {
	f, s := b.f, b.s
	inner := 1 << f.depth
	heap := make([]int, 2*inner)
	heap[1] = b.queue[0]
	var to, nan []uint64
	f.perfect, to = extend[T](f.perfect, inner*pnodeKeys)
	if f.nan == nanMixed {
		f.perfectNaN, nan = extend[T](f.perfectNaN, inner*pnodeKeys)
	}
	for i := 1; i < inner; i++ {
		n := &s.Nodes[heap[i]]
		thr, off, both := uint64(never), uint64(0), uint64(0)
		l, r := heap[i], heap[i]
		if n.Mode != Leaf {
			thr, off, both = b.compare(n)
			l, r = n.children()
		}
		heap[2*i], heap[2*i+1] = l, r
		put[T](to, i*pnodeKeys, thr)
		put[T](to, i*pnodeKeys+1, off)
		if f.nan == nanMixed {
			put[T](nan, i*pnodeKeys, thr)
			put[T](nan, i*pnodeKeys+1, both)
		}
	}
	for _, i := range heap[inner:] {
		b.addLeaf(i)
	}
}

// addLinked stores the tree in the order of the queue, which puts the two
// children of a node side by side.
func (b *builder[T]) addLinked() {
	f, s := b.f, b.s
	base := len(f.linked) * 8 / keySize[T]()
	keys := (len(b.queue) + 1) / 2 * pairKeys
	var to, nan []uint64
	f.linked, to = extend[T](f.linked, keys)
	if f.nan == nanMixed {
		f.linkedNaN, nan = extend[T](f.linkedNaN, keys)
	}
	children := pairKeys
	for k, i := range b.queue {
		// Behind the root, alone in its pair, come the pairs.
		at := (k+1)/2*pairKeys + (k+1)%2
		if k == 0 {
			at = 0
		}
		n := &s.Nodes[i]
		thr, off, both := uint64(never), uint64(0), uint64(0)
		left, leaf := base+at, uint32(0)
		if n.Mode == Leaf {
			leaf = b.addLeaf(i)
		} else {
			thr, off, both = b.compare(n)
			left = base + children
			children += pairKeys
		}
		store := func(m []uint64, off uint64) {
			put[T](m, at, thr)
			put[T](m, at+pairOff, off)
			put[T](m, at+pairLeft, uint64(left))
			put[T](m, at+pairLeaf, uint64(leaf))
		}
		store(to, off)
		if f.nan == nanMixed {
			store(nan, both)
		}
	}
}

func (b *builder[T]) addPlain(base uint32) {
	next := base + 1
	for _, i := range b.queue {
		n := &b.s.Nodes[i]
		x := xnode[T]{mode: n.Mode, missingTrue: n.MissingTrue, value: n.Value, feat: uint32(n.Feature), members: n.Members}
		if n.Mode == Leaf {
			x.yes = b.addLeaf(i)
		} else {
			x.yes, x.no = next, next+1
			if l, _ := n.children(); l == n.False {
				x.yes, x.no = x.no, x.yes
			}
			next += 2
		}
		b.f.plain = append(b.f.plain, x)
	}
}
