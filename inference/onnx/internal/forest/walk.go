package forest

import "unsafe"

// The walks below read nodes and features through unsafe pointers: Build has
// checked that children lie inside the tree and that every leaf ends its walk, and Sum
// that a row is wide enough for every feature used.

// right is 1 where the walk goes right: a comparison without a branch.
func right(greater bool) uint32 {
	if greater {
		return 1
	}
	return 0
}

func load[T Float](x unsafe.Pointer, feat uint32) T {
	return *(*T)(unsafe.Add(x, uintptr(feat)*unsafe.Sizeof(T(0))))
}

// perfectRows walks four rows down one perfect tree; it returns leaf numbers within the tree.
func perfectRows[T Float](nodes unsafe.Pointer, depth int, x0, x1, x2, x3 unsafe.Pointer) (a, b, c, d uint32) {
	for range depth {
		n0 := (*pnode[T])(unsafe.Add(nodes, uintptr(a)*unsafe.Sizeof(pnode[T]{})))
		n1 := (*pnode[T])(unsafe.Add(nodes, uintptr(b)*unsafe.Sizeof(pnode[T]{})))
		n2 := (*pnode[T])(unsafe.Add(nodes, uintptr(c)*unsafe.Sizeof(pnode[T]{})))
		n3 := (*pnode[T])(unsafe.Add(nodes, uintptr(d)*unsafe.Sizeof(pnode[T]{})))
		a = 2*a + 1 + right(load[T](x0, n0.feat) > n0.thr)
		b = 2*b + 1 + right(load[T](x1, n1.feat) > n1.thr)
		c = 2*c + 1 + right(load[T](x2, n2.feat) > n2.thr)
		d = 2*d + 1 + right(load[T](x3, n3.feat) > n3.thr)
	}
	inner := uint32(1)<<depth - 1
	return a - inner, b - inner, c - inner, d - inner
}

// perfectTrees walks one row down four perfect trees.
func perfectTrees[T Float](t0, t1, t2, t3 unsafe.Pointer, depth int, x unsafe.Pointer) (a, b, c, d uint32) {
	for range depth {
		n0 := (*pnode[T])(unsafe.Add(t0, uintptr(a)*unsafe.Sizeof(pnode[T]{})))
		n1 := (*pnode[T])(unsafe.Add(t1, uintptr(b)*unsafe.Sizeof(pnode[T]{})))
		n2 := (*pnode[T])(unsafe.Add(t2, uintptr(c)*unsafe.Sizeof(pnode[T]{})))
		n3 := (*pnode[T])(unsafe.Add(t3, uintptr(d)*unsafe.Sizeof(pnode[T]{})))
		a = 2*a + 1 + right(load[T](x, n0.feat) > n0.thr)
		b = 2*b + 1 + right(load[T](x, n1.feat) > n1.thr)
		c = 2*c + 1 + right(load[T](x, n2.feat) > n2.thr)
		d = 2*d + 1 + right(load[T](x, n3.feat) > n3.thr)
	}
	inner := uint32(1)<<depth - 1
	return a - inner, b - inner, c - inner, d - inner
}

// linkedWalks walks four (tree, row) pairs until all are at their leaves; it returns node indexes.
func linkedWalks[T Float](nodes unsafe.Pointer, a, b, c, d uint32, x0, x1, x2, x3 unsafe.Pointer) (uint32, uint32, uint32, uint32) {
	for {
		n0 := (*lnode[T])(unsafe.Add(nodes, uintptr(a)*unsafe.Sizeof(lnode[T]{})))
		n1 := (*lnode[T])(unsafe.Add(nodes, uintptr(b)*unsafe.Sizeof(lnode[T]{})))
		n2 := (*lnode[T])(unsafe.Add(nodes, uintptr(c)*unsafe.Sizeof(lnode[T]{})))
		n3 := (*lnode[T])(unsafe.Add(nodes, uintptr(d)*unsafe.Sizeof(lnode[T]{})))
		e := n0.left + right(load[T](x0, n0.feat) > n0.thr)
		f := n1.left + right(load[T](x1, n1.feat) > n1.thr)
		g := n2.left + right(load[T](x2, n2.feat) > n2.thr)
		h := n3.left + right(load[T](x3, n3.feat) > n3.thr)
		if (a^e)|(b^f)|(c^g)|(d^h) == 0 {
			return a, b, c, d
		}
		a, b, c, d = e, f, g, h
	}
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
