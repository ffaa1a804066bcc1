package forest

import (
	"math/bits"
	"unsafe"
)

// The walks below read nodes and keys through unsafe pointers: Build has checked that children lie
// inside the tree, that every leaf ends its walk and that every offset lies inside a group's keys.
// The comparison of two keys leaves a carry, which the addition that makes the next index takes up.

// exceeds is 1 where v > thr.
func exceeds[K key](v, thr K) uint64 {
	_, c := bits.Sub64(uint64(thr), uint64(v), 0)
	return c
}

// down is the child of node i of a perfect tree that the keys in a lane at x belong to.
func down[K key](nodes unsafe.Pointer, i uint64, x unsafe.Pointer, lane uintptr) uint64 {
	size := unsafe.Sizeof(K(0))
	n := unsafe.Add(nodes, uintptr(i)*pnodeKeys*size)
	off := *(*K)(unsafe.Add(n, size))
	c := exceeds(*(*K)(unsafe.Add(x, uintptr(off)+lane*size)), *(*K)(n))
	i, _ = bits.Add64(i, i, c)
	return i
}

// perfectTrees walks the row in lane 0 at x down four perfect trees.
func perfectTrees[K key](t0, t1, t2, t3 unsafe.Pointer, depth int, x unsafe.Pointer) (_, _, _, _ uint32) {
	a, b, c, d := uint64(1), uint64(1), uint64(1), uint64(1)
	for ; depth > 0; depth-- {
		a = down[K](t0, a, x, 0)
		b = down[K](t1, b, x, 0)
		c = down[K](t2, c, x, 0)
		d = down[K](t3, d, x, 0)
	}
	return uint32(a), uint32(b), uint32(c), uint32(d)
}

// next is the child of node i of a linked tree that the keys in a lane at x belong to, or i itself
// if it is a leaf.
func next[K key](nodes unsafe.Pointer, i uint64, x unsafe.Pointer, lane uintptr) uint64 {
	size := unsafe.Sizeof(K(0))
	n := unsafe.Add(nodes, uintptr(i)*size)
	off := *(*K)(unsafe.Add(n, pairOff*size))
	c := exceeds(*(*K)(unsafe.Add(x, uintptr(off)+lane*size)), *(*K)(n))
	i, _ = bits.Add64(uint64(*(*K)(unsafe.Add(n, pairLeft*size))), 0, c)
	return i
}

// leafAt is the number of the leaf i of a linked tree.
func leafAt[K key](nodes unsafe.Pointer, i uint64) uint32 {
	return uint32(*(*K)(unsafe.Add(nodes, (uintptr(i)+pairLeaf)*unsafe.Sizeof(K(0)))))
}

// linkedTrees walks the row in lane 0 at x down four linked trees; it returns the leaves' numbers.
func linkedTrees[K key](nodes unsafe.Pointer, t0, t1, t2, t3 uint32, x unsafe.Pointer) (_, _, _, _ uint32) {
	a, b, c, d := uint64(t0), uint64(t1), uint64(t2), uint64(t3)
	for moved := uint64(1); moved != 0; {
		e, f, g, h := next[K](nodes, a, x, 0), next[K](nodes, b, x, 0), next[K](nodes, c, x, 0), next[K](nodes, d, x, 0)
		a, b, c, d = next[K](nodes, e, x, 0), next[K](nodes, f, x, 0), next[K](nodes, g, x, 0), next[K](nodes, h, x, 0)
		moved = (a ^ e) | (b ^ f) | (c ^ g) | (d ^ h)
	}
	return leafAt[K](nodes, a), leafAt[K](nodes, b), leafAt[K](nodes, c), leafAt[K](nodes, d)
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
