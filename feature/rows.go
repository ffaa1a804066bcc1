package feature

// rows is a growing array of rows of size words each. Growth adds chunks, so that
// a million rows are never held twice; only the first chunk is copied, while it
// is small. What a row is read as has no pointers.
type rows struct {
	size   int
	n      int
	chunks [][]uint64
}

const (
	chunkShift = 12
	chunkRows  = 1 << chunkShift
)

// add appends a row of zeros.
func (x *rows) add() {
	c := x.n >> chunkShift
	switch at := x.n & (chunkRows - 1); {
	case c == len(x.chunks) && c > 0:
		x.chunks = append(x.chunks, make([]uint64, chunkRows*x.size))
	case c == len(x.chunks):
		x.chunks = append(x.chunks, make([]uint64, 16*x.size))
	case at*x.size == len(x.chunks[c]):
		grown := make([]uint64, 2*len(x.chunks[c]))
		copy(grown, x.chunks[c])
		x.chunks[c] = grown
	}
	x.n++
}

// row returns row i. A row may move when one is added.
func (x *rows) row(i uint32) []uint64 {
	at := int(i&(chunkRows-1)) * x.size
	return x.chunks[i>>chunkShift][at : at+x.size]
}
