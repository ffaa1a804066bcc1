package forest

import "unsafe"

// block is how many rows are walked through a tree before the next tree.
const block = 64

// Scratch is the memory of one evaluation at a time; the zero value is ready.
type Scratch[T Float] struct {
	keys   []uint64
	leaves [block / lanes][lanes]uint32 // where the rows of a block end in the tree at hand
}

// Sum evaluates rows rows of width features each: sums[r*Targets+t] becomes the
// aggregate of the trees' contributions to target t for row r (not yet divided
// for Average), and seen, where it is not nil, whether there was any. x must hold
// rows×width elements, width be at least Features, sums and seen hold
// rows×Targets. It allocates only while s grows.
func (f *Forest[T]) Sum(x []T, rows, width int, sums []T, seen []bool, s *Scratch[T]) {
	if rows == 0 {
		return
	}
	_ = x[:rows*width]
	sums = sums[:rows*f.targets]
	clear(sums)
	if f.single {
		for i := range seen {
			seen[i] = f.hasLeaf[i%f.targets]
		}
	} else {
		clear(seen)
	}
	if width < f.features {
		return // the caller has been told by Features
	}
	for r := 0; r < rows; r += block {
		n := min(block, rows-r)
		p := pass[T]{
			f: f, scratch: s, raw: x[r*width : (r+n)*width], rows: n, width: width,
			sums: sums[r*f.targets : (r+n)*f.targets],
		}
		if seen != nil {
			p.seen = seen[r*f.targets : (r+n)*f.targets]
		}
		if keySize[T]() == 4 {
			run[T, uint32](&p)
		} else {
			run[T, uint64](&p)
		}
	}
}

// Visitor receives leaves.
type Visitor interface {
	// Visit is told the leaf in which row first+i ends in the tree at hand: leaves[i/8][i%8], for n rows.
	Visit(first, n int, leaves [][lanes]uint32)
}

// Leaves walks rows rows of width features each down every tree and tells v the numbers of the leaves
// where they end, for a block of rows tree by tree, then for the next block. It allocates only while s grows.
func (f *Forest[T]) Leaves(x []T, rows, width int, s *Scratch[T], v Visitor) {
	if rows == 0 || width < f.features {
		return
	}
	_ = x[:rows*width]
	for r := 0; r < rows; r += block {
		n := min(block, rows-r)
		p := pass[T]{f: f, scratch: s, raw: x[r*width : (r+n)*width], rows: n, width: width, visitor: v, first: r}
		if keySize[T]() == 4 {
			visit[T, uint32](&p)
		} else {
			visit[T, uint64](&p)
		}
	}
}

// visit walks the block's rows, the last group too.
func visit[T Float, K key](p *pass[T]) {
	prepare[T, K](p)
	for i := range p.f.trees {
		rows[T, K](p, &p.f.trees[i], p.rows)
	}
}

// pass evaluates one block.
type pass[T Float] struct {
	f           *Forest[T]
	visitor     Visitor // of leaves, in place of sums
	first       int     // row of the block
	scratch     *Scratch[T]
	raw         []T // rows as given
	rows, width int
	// x are the keys of the first group, stride bytes before those of the next, with the nodes that
	// read them.
	x               unsafe.Pointer
	stride          uintptr
	perfect, linked unsafe.Pointer
	sums            []T
	seen            []bool
}

// prepare makes the keys and chooses the nodes, by whether the block holds a NaN.
func prepare[T Float, K key](p *pass[T]) {
	f := p.f
	p.perfect = unsafe.Pointer(unsafe.SliceData(f.perfect))
	p.linked = unsafe.Pointer(unsafe.SliceData(f.linked))
	x := unsafe.Slice((*K)(unsafe.Pointer(unsafe.SliceData(p.raw))), len(p.raw))
	missing := K(nanLow)
	if f.nan == nanRight {
		missing = ^K(0)
	}
	if fill(room[T, K](p, len(f.columns)), x, p.rows, p.width, f.columns, missing) && f.nan == nanMixed {
		fillBoth(room[T, K](p, 2*len(f.columns)), x, p.rows, p.width, f.columns)
		p.perfect = unsafe.Pointer(unsafe.SliceData(f.perfectNaN))
		p.linked = unsafe.Pointer(unsafe.SliceData(f.linkedNaN))
	}
}

// room makes room for the keys of the block. There is at least one column, for nodes that
// compare nothing.
func room[T Float, K key](p *pass[T], columns int) []K {
	size := lanes * max(columns, 1) * keySize[T]()
	groups := (p.rows + lanes - 1) / lanes
	s := p.scratch
	if need := groups * size / 8; cap(s.keys) < need {
		s.keys = make([]uint64, need)
	}
	p.x, p.stride = unsafe.Pointer(unsafe.SliceData(s.keys)), uintptr(size)
	return as[K](s.keys[:cap(s.keys)])
}

// run walks whole groups, and the last one too where that is no slower than row by row.
func run[T Float, K key](p *pass[T]) {
	prepare[T, K](p)
	grouped := p.rows
	if rest := p.rows % lanes; rest < lanes/2 {
		grouped -= rest
	}
	if grouped > 0 {
		for i := range p.f.trees {
			rows[T, K](p, &p.f.trees[i], grouped)
		}
	}
	for r := grouped; r < p.rows; r++ {
		row[T, K](p, r)
	}
}

// root is the address of a perfect tree's nodes.
func (p *pass[T]) root(t *tree) unsafe.Pointer {
	return unsafe.Add(p.perfect, uintptr(t.node)*uintptr(pnodeKeys*keySize[T]()))
}

// rows walks the first n rows of the block through t.
func rows[T Float, K key](p *pass[T], t *tree, n int) {
	f := p.f
	out := p.scratch.leaves[:(n+lanes-1)/lanes]
	if t.layout == plain {
		for r := range n {
			leaf := f.walk(t.node, p.raw[r*p.width:])
			if p.visitor == nil {
				p.add(t, r, leaf)
			}
			out[r/lanes][r%lanes] = leaf
		}
		if p.visitor != nil {
			p.visitor.Visit(p.first, n, out)
		}
		return
	}
	first := uint32(0)
	if t.layout == perfect {
		perfectRows[K](p.root(t), f.depth, p.x, p.stride, out)
		first = t.leaf
	} else {
		linkedRows[K](p.linked, t.node, p.x, p.stride, out)
	}
	if p.visitor != nil {
		for g := range out {
			for l := range out[g] {
				out[g][l] += first
			}
		}
		p.visitor.Visit(p.first, n, out)
		return
	}
	if !f.single {
		for r := range n {
			p.add(t, r, first+out[r/lanes][r%lanes])
		}
		return
	}
	v, k := f.value, f.targets
	at := int(t.target)
	for r := range n {
		p.sums[at] += v[first+out[r/lanes][r%lanes]]
		at += k
	}
}

// row walks row r through all trees, four at a time where neighbours have the same layout.
func row[T Float, K key](p *pass[T], r int) {
	f := p.f
	trees := f.trees
	x := unsafe.Add(p.x, uintptr(r/lanes)*p.stride+uintptr(r%lanes*keySize[T]()))
	for len(trees) > 0 {
		if len(trees) >= 4 {
			t := trees[:4:4]
			if k := t[0].layout; k != plain && k == t[1].layout && k == t[2].layout && k == t[3].layout {
				var a, b, c, d uint32
				if k == perfect {
					a, b, c, d = perfectTrees[K](p.root(&t[0]), p.root(&t[1]), p.root(&t[2]), p.root(&t[3]), f.depth, x)
					a, b, c, d = a+t[0].leaf, b+t[1].leaf, c+t[2].leaf, d+t[3].leaf
				} else {
					a, b, c, d = linkedTrees[K](p.linked, t[0].node, t[1].node, t[2].node, t[3].node, x)
				}
				if f.scalar {
					v := f.value
					s := &p.sums[r*f.targets+int(t[0].target)]
					*s = *s + v[a] + v[b] + v[c] + v[d]
				} else {
					p.add(&t[0], r, a)
					p.add(&t[1], r, b)
					p.add(&t[2], r, c)
					p.add(&t[3], r, d)
				}
				trees = trees[4:]
				continue
			}
		}
		t := &trees[0]
		switch t.layout {
		case perfect:
			n := p.root(t)
			a, _, _, _ := perfectTrees[K](n, n, n, n, f.depth, x)
			p.add(t, r, t.leaf+a)
		case linked:
			a, _, _, _ := linkedTrees[K](p.linked, t.node, t.node, t.node, t.node, x)
			p.add(t, r, a)
		default:
			p.add(t, r, f.walk(t.node, p.raw[r*p.width:]))
		}
		trees = trees[1:]
	}
}

// add combines the weights of a leaf into row r's sums.
func (p *pass[T]) add(t *tree, r int, leaf uint32) {
	f := p.f
	if f.single {
		p.sums[r*f.targets+int(t.target)] += f.value[leaf]
		return
	}
	base := r * f.targets
	sums := p.sums[base : base+f.targets]
	for _, w := range f.weights[f.first[leaf]:f.first[leaf+1]] {
		had := true
		if p.seen != nil {
			had = p.seen[base+w.Target]
			p.seen[base+w.Target] = true
		}
		s := &sums[w.Target]
		switch {
		case f.agg == Sum || f.agg == Average:
			*s += w.Value
		case !had || f.agg == Min && w.Value < *s || f.agg == Max && w.Value > *s:
			*s = w.Value
		}
	}
}
