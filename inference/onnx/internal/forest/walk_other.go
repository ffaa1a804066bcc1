//go:build !amd64 || purego

package forest

import "unsafe"

// perfectRows walks groups of rows, stride bytes apart, down one perfect tree; out receives where
// each row ends: 2^depth plus the leaf's place in the tree.
func perfectRows[K key](nodes unsafe.Pointer, depth int, x unsafe.Pointer, stride uintptr, out [][lanes]uint32) {
	for k := range out {
		o := &out[k]
		a, b, c, d := uint64(1), uint64(1), uint64(1), uint64(1)
		for level := depth; level > 0; level-- {
			a = down[K](nodes, a, x, 0)
			b = down[K](nodes, b, x, 1)
			c = down[K](nodes, c, x, 2)
			d = down[K](nodes, d, x, 3)
		}
		o[0], o[1], o[2], o[3] = uint32(a), uint32(b), uint32(c), uint32(d)
		a, b, c, d = uint64(1), uint64(1), uint64(1), uint64(1)
		for level := depth; level > 0; level-- {
			a = down[K](nodes, a, x, 4)
			b = down[K](nodes, b, x, 5)
			c = down[K](nodes, c, x, 6)
			d = down[K](nodes, d, x, 7)
		}
		o[4], o[5], o[6], o[7] = uint32(a), uint32(b), uint32(c), uint32(d)
		x = unsafe.Add(x, stride)
	}
}

// linkedRows walks groups of rows, stride bytes apart, from the root of a linked tree to their
// leaves; out receives the leaves' numbers.
func linkedRows[K key](nodes unsafe.Pointer, root uint32, x unsafe.Pointer, stride uintptr, out [][lanes]uint32) {
	for k := range out {
		a := uint64(root)
		b, c, d, e, f, g, h := a, a, a, a, a, a, a
		for moved := uint64(1); moved != 0; {
			a = next[K](nodes, a, x, 0)
			b = next[K](nodes, b, x, 1)
			c = next[K](nodes, c, x, 2)
			d = next[K](nodes, d, x, 3)
			e = next[K](nodes, e, x, 4)
			f = next[K](nodes, f, x, 5)
			g = next[K](nodes, g, x, 6)
			h = next[K](nodes, h, x, 7)
			i := next[K](nodes, a, x, 0)
			moved, a = a^i, i
			i = next[K](nodes, b, x, 1)
			moved, b = moved|(b^i), i
			i = next[K](nodes, c, x, 2)
			moved, c = moved|(c^i), i
			i = next[K](nodes, d, x, 3)
			moved, d = moved|(d^i), i
			i = next[K](nodes, e, x, 4)
			moved, e = moved|(e^i), i
			i = next[K](nodes, f, x, 5)
			moved, f = moved|(f^i), i
			i = next[K](nodes, g, x, 6)
			moved, g = moved|(g^i), i
			i = next[K](nodes, h, x, 7)
			moved, h = moved|(h^i), i
		}
		o := &out[k]
		o[0], o[1], o[2], o[3] = leafAt[K](nodes, a), leafAt[K](nodes, b), leafAt[K](nodes, c), leafAt[K](nodes, d)
		o[4], o[5], o[6], o[7] = leafAt[K](nodes, e), leafAt[K](nodes, f), leafAt[K](nodes, g), leafAt[K](nodes, h)
		x = unsafe.Add(x, stride)
	}
}
