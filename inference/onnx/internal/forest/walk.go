package forest

import "unsafe"

// The walks below read nodes and features through unsafe pointers: Build has
// checked that children lie inside the tree and that every leaf ends its walk, and Sum
// that a row is wide enough for every feature used.

// right is 1 where the walk goes right: a comparison without a branch.
func right(greater bool) uintptr {
	if greater {
		return 1
	}
	return 0
}

// step compares the feature that a node names with its threshold.
func step[T Float](node, x unsafe.Pointer) uintptr {
	n := (*pnode[T])(node)
	return right(*(*T)(unsafe.Add(x, uintptr(n.feat)*unsafe.Sizeof(T(0)))) > n.thr)
}

// perfectRows walks four rows down one perfect tree; it returns where the walks end: 2^depth plus
// the leaf's place in the tree.
func perfectRows[T Float](nodes unsafe.Pointer, depth int, x0, x1, x2, x3 unsafe.Pointer) (_, _, _, _ uint32) {
	size := unsafe.Sizeof(pnode[T]{})
	a, b, c, d := uintptr(1), uintptr(1), uintptr(1), uintptr(1)
	for ; depth > 0; depth-- {
		a = 2*a + step[T](unsafe.Add(nodes, a*size), x0)
		b = 2*b + step[T](unsafe.Add(nodes, b*size), x1)
		c = 2*c + step[T](unsafe.Add(nodes, c*size), x2)
		d = 2*d + step[T](unsafe.Add(nodes, d*size), x3)
	}
	return uint32(a), uint32(b), uint32(c), uint32(d)
}

// perfectTrees walks one row down four perfect trees.
func perfectTrees[T Float](t0, t1, t2, t3 unsafe.Pointer, depth int, x unsafe.Pointer) (_, _, _, _ uint32) {
	size := unsafe.Sizeof(pnode[T]{})
	a, b, c, d := uintptr(1), uintptr(1), uintptr(1), uintptr(1)
	for ; depth > 0; depth-- {
		a = 2*a + step[T](unsafe.Add(t0, a*size), x)
		b = 2*b + step[T](unsafe.Add(t1, b*size), x)
		c = 2*c + step[T](unsafe.Add(t2, c*size), x)
		d = 2*d + step[T](unsafe.Add(t3, d*size), x)
	}
	return uint32(a), uint32(b), uint32(c), uint32(d)
}

// linkedWalks walks four (tree, row) pairs until all are at their leaves; it returns node indexes.
func linkedWalks[T Float](nodes unsafe.Pointer, a, b, c, d uint32, x0, x1, x2, x3 unsafe.Pointer) (uint32, uint32, uint32, uint32) {
	for {
		e := next[T](nodes, a, x0)
		f := next[T](nodes, b, x1)
		g := next[T](nodes, c, x2)
		h := next[T](nodes, d, x3)
		if (a^e)|(b^f)|(c^g)|(d^h) == 0 {
			return a, b, c, d
		}
		a, b, c, d = e, f, g, h
	}
}

// next is the child of node i that x belongs to, or i itself if it is a leaf.
func next[T Float](nodes unsafe.Pointer, i uint32, x unsafe.Pointer) uint32 {
	n := (*lnode[T])(unsafe.Add(nodes, uintptr(i)*unsafe.Sizeof(lnode[T]{})))
	return n.left + uint32(right(*(*T)(unsafe.Add(x, uintptr(n.feat)*unsafe.Sizeof(T(0)))) > n.thr))
}

// walk follows a plain tree from its root and returns the leaf's number.
func (f *Forest[T]) walk(node uint32, x []T) uint32 {
	for {
		n := &f.plain[node]
		if n.mode == Leaf {
			return n.yes
		}
		v := x[n.feat]
		var yes bool
		switch n.mode {
		case LEQ:
			yes = v <= n.value
		case LT:
			yes = v < n.value
		case GTE:
			yes = v >= n.value
		case GT:
			yes = v > n.value
		case EQ:
			yes = v == n.value
		case NEQ:
			yes = v != n.value
		case Member:
			for _, m := range n.members {
				if v == m {
					yes = true
					break
				}
			}
		}
		if yes || n.missingTrue && v != v {
			node = n.yes
		} else {
			node = n.no
		}
	}
}
