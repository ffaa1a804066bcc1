//go:build !purego

package forest

import "unsafe"

//go:noescape
func perfectRows32(nodes unsafe.Pointer, depth int, x unsafe.Pointer, stride uintptr, out *[lanes]uint32, groups int)

//go:noescape
func perfectRows64(nodes unsafe.Pointer, depth int, x unsafe.Pointer, stride uintptr, out *[lanes]uint32, groups int)

//go:noescape
func linkedRows32(nodes unsafe.Pointer, root int, x unsafe.Pointer, stride uintptr, out *[lanes]uint32, groups int)

//go:noescape
func linkedRows64(nodes unsafe.Pointer, root int, x unsafe.Pointer, stride uintptr, out *[lanes]uint32, groups int)

// perfectRows walks groups of rows, stride bytes apart, down one perfect tree; out, which is not
// empty, receives where each row ends: 2^depth plus the leaf's place in the tree. It is in
// assembly because the compiler keeps too few of eight walks in registers.
func perfectRows[K key](nodes unsafe.Pointer, depth int, x unsafe.Pointer, stride uintptr, out [][lanes]uint32) {
	if unsafe.Sizeof(K(0)) == 4 {
		perfectRows32(nodes, depth, x, stride, &out[0], len(out))
	} else {
		perfectRows64(nodes, depth, x, stride, &out[0], len(out))
	}
}

// linkedRows walks groups of rows, stride bytes apart, from the root of a linked tree to their
// leaves; out, which is not empty, receives the leaves' numbers.
func linkedRows[K key](nodes unsafe.Pointer, root uint32, x unsafe.Pointer, stride uintptr, out [][lanes]uint32) {
	if unsafe.Sizeof(K(0)) == 4 {
		linkedRows32(nodes, int(root), x, stride, &out[0], len(out))
	} else {
		linkedRows64(nodes, int(root), x, stride, &out[0], len(out))
	}
}
