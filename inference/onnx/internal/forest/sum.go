package forest

import (
	"math"
	"unsafe"
)

// block is how many rows are walked through a tree before the next tree.
const block = 64

// Scratch is the memory of one evaluation at a time; the zero value is ready.
type Scratch[T Float] struct {
	rows []T
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
	if width == 0 {
		x, width = s.zero(rows), 1
	}
	for r := 0; r < rows; r += block {
		n := min(block, rows-r)
		p := pass[T]{
			f: f, raw: x[r*width : (r+n)*width], rows: n, width: width,
			sums: sums[r*f.targets : (r+n)*f.targets],
		}
		if seen != nil {
			p.seen = seen[r*f.targets : (r+n)*f.targets]
		}
		p.prepare(s)
		p.run()
	}
}

// zero is a column of zeros for trees of one leaf over no features.
func (s *Scratch[T]) zero(rows int) []T {
	if cap(s.rows) < rows {
		s.rows = make([]T, rows)
	}
	z := s.rows[:rows]
	clear(z)
	return z
}

// pass evaluates one block.
type pass[T Float] struct {
	f           *Forest[T]
	raw         []T // rows as given, for plain trees
	rows, width int
	// x and stride are the rows for the other trees, with the nodes that read them.
	x       unsafe.Pointer
	stride  uintptr // bytes
	perfect []pnode[T]
	linked  []lnode[T]
	sums    []T
	seen    []bool
}

// prepare chooses the rows and nodes, by whether the block holds a NaN.
func (p *pass[T]) prepare(s *Scratch[T]) {
	f := p.f
	size := unsafe.Sizeof(p.raw[0])
	p.x, p.stride = unsafe.Pointer(unsafe.SliceData(p.raw)), uintptr(p.width)*size
	p.perfect, p.linked = f.perfect, f.linked
	if f.nan == nanLeft || !hasNaN(p.raw) {
		return
	}
	inf := T(math.Inf(1))
	need := len(p.raw)
	if f.nan == nanMixed {
		need *= 2
	}
	if cap(s.rows) < need {
		s.rows = make([]T, need)
	}
	out := s.rows[:need]
	if f.nan == nanRight {
		for i, v := range p.raw {
			if v != v {
				v = inf
			}
			out[i] = v
		}
	} else {
		for i, v := range p.raw {
			w := v
			if v != v {
				w = inf
			}
			out[2*i] = v
			out[2*i+1] = w
		}
		p.stride *= 2
		p.perfect, p.linked = f.perfectNaN, f.linkedNaN
	}
	p.x = unsafe.Pointer(unsafe.SliceData(out))
}

func hasNaN[T Float](x []T) bool {
	for _, v := range x {
		if v != v {
			return true
		}
	}
	return false
}

func (p *pass[T]) run() {
	whole := p.rows &^ 3
	if whole > 0 {
		for i := range p.f.trees {
			p.tree(&p.f.trees[i], whole)
		}
	}
	for r := whole; r < p.rows; r++ {
		p.row(r)
	}
}

// root is the address of a perfect tree's nodes.
func (p *pass[T]) root(t *tree) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(unsafe.SliceData(p.perfect)), uintptr(t.node)*unsafe.Sizeof(pnode[T]{}))
}

// at is the address of row r.
func (p *pass[T]) at(r int) unsafe.Pointer { return unsafe.Add(p.x, uintptr(r)*p.stride) }

// tree walks the first n rows of the block, a multiple of four, through t.
func (p *pass[T]) tree(t *tree, n int) {
	f := p.f
	switch t.layout {
	case perfect:
		nodes := p.root(t)
		for r := 0; r < n; r += 4 {
			x := p.at(r)
			a, b, c, d := perfectRows[T](nodes, f.depth, x, unsafe.Add(x, p.stride), unsafe.Add(x, 2*p.stride), unsafe.Add(x, 3*p.stride))
			p.add4(t, r, t.leaf+a, t.leaf+b, t.leaf+c, t.leaf+d)
		}
	case linked:
		nodes := unsafe.Pointer(unsafe.SliceData(p.linked))
		for r := 0; r < n; r += 4 {
			x := p.at(r)
			a, b, c, d := linkedWalks[T](nodes, t.node, t.node, t.node, t.node, x, unsafe.Add(x, p.stride), unsafe.Add(x, 2*p.stride), unsafe.Add(x, 3*p.stride))
			l := f.linkedLeaf
			p.add4(t, r, l[a], l[b], l[c], l[d])
		}
	default:
		for r := range n {
			p.add(t, r, f.walk(t.node, p.raw[r*p.width:]))
		}
	}
}

// row walks row r through all trees, four at a time where neighbours have the same layout.
func (p *pass[T]) row(r int) {
	f := p.f
	trees := f.trees
	x := p.at(r)
	for len(trees) > 0 {
		if len(trees) >= 4 {
			t := trees[:4:4]
			if k := t[0].layout; k != plain && k == t[1].layout && k == t[2].layout && k == t[3].layout {
				var a, b, c, d uint32
				if k == perfect {
					a, b, c, d = perfectTrees[T](p.root(&t[0]), p.root(&t[1]), p.root(&t[2]), p.root(&t[3]), f.depth, x)
					a, b, c, d = a+t[0].leaf, b+t[1].leaf, c+t[2].leaf, d+t[3].leaf
				} else {
					a, b, c, d = linkedWalks[T](unsafe.Pointer(unsafe.SliceData(p.linked)), t[0].node, t[1].node, t[2].node, t[3].node, x, x, x, x)
					l := f.linkedLeaf
					a, b, c, d = l[a], l[b], l[c], l[d]
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
			a, _, _, _ := perfectTrees[T](n, n, n, n, f.depth, x)
			p.add(t, r, t.leaf+a)
		case linked:
			a, _, _, _ := linkedWalks[T](unsafe.Pointer(unsafe.SliceData(p.linked)), t.node, t.node, t.node, t.node, x, x, x, x)
			p.add(t, r, f.linkedLeaf[a])
		default:
			p.add(t, r, f.walk(t.node, p.raw[r*p.width:]))
		}
		trees = trees[1:]
	}
}

func (p *pass[T]) add4(t *tree, r int, a, b, c, d uint32) {
	f := p.f
	if f.single {
		v, k := f.value, f.targets
		s := p.sums[r*k+int(t.target):]
		s[0] += v[a]
		s[k] += v[b]
		s[2*k] += v[c]
		s[3*k] += v[d]
		return
	}
	p.add(t, r, a)
	p.add(t, r+1, b)
	p.add(t, r+2, c)
	p.add(t, r+3, d)
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
