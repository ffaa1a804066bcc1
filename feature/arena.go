package feature

// arena hands out blocks of 2, 4, 8, … items from large chunks. A block is named
// by a number, not a pointer, so that the state of a million keys costs the
// garbage collector nothing.
type arena[T any] struct {
	stride int // elements of one item
	chunks [][]T
	used   int        // elements handed out of the last chunk
	free   [][]uint64 // freed blocks by class
	total  int        // elements in all chunks
	live   int        // elements of blocks that are not freed
}

const (
	firstChunk = 1 << 8
	lastChunk  = 1 << 16
)

// capacity is the number of items in a block of the class.
func capacity(class uint8) uint32 { return 2 << class }

func (a *arena[T]) alloc(class uint8) uint64 {
	a.live += int(capacity(class)) * a.stride
	if int(class) < len(a.free) {
		if f := a.free[class]; len(f) > 0 {
			a.free[class] = f[:len(f)-1]
			return f[len(f)-1]
		}
	}
	size := int(capacity(class)) * a.stride
	n := len(a.chunks)
	if n == 0 || a.used+size > len(a.chunks[n-1]) {
		// Grow by doubling, so that few keys take little.
		want := max(size, min(lastChunk, max(firstChunk, a.total)))
		a.chunks = append(a.chunks, make([]T, want))
		a.total += want
		a.used = 0
		n++
	}
	ref := uint64(n-1)<<32 | uint64(a.used)
	a.used += size
	return ref
}

func (a *arena[T]) release(ref uint64, class uint8) {
	a.live -= int(capacity(class)) * a.stride
	for int(class) >= len(a.free) {
		a.free = append(a.free, nil)
	}
	a.free[class] = append(a.free[class], ref)
}

func (a *arena[T]) block(ref uint64, class uint8) []T {
	off := int(uint32(ref))
	return a.chunks[ref>>32][off : off+int(capacity(class))*a.stride]
}

// extend appends n zero elements.
func extend[T any](s []T, n int) []T {
	var zero T
	for range n {
		s = append(s, zero)
	}
	return s
}
