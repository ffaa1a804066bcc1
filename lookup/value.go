package lookup

import (
	"math"

	"github.com/freshet-io/freshet/event"
)

// bitsOf is row i of a column that is not of strings, as 64 bits.
func bitsOf(c *event.Column, i int) uint64 {
	switch c.Kind {
	case event.Float:
		return math.Float64bits(c.Floats[i])
	case event.Bool:
		if c.Bools[i] {
			return 1
		}
		return 0
	default:
		return uint64(c.Ints[i])
	}
}

// setBits is the inverse of bitsOf.
func setBits(c *event.Column, i int, b uint64) {
	switch c.Kind {
	case event.Float:
		c.Floats[i] = math.Float64frombits(b)
	case event.Bool:
		c.Bools[i] = b != 0
	default:
		c.Ints[i] = int64(b)
	}
}

// copyRow copies row i of from into row k of out.
func copyRow(out []*event.Column, k int, from *Rows, i int) {
	for j, c := range out {
		src := &from.Columns[j]
		switch {
		case src.IsNull(i):
			c.SetNull(k)
		case c.Kind == event.String:
			c.Strings[k] = src.Strings[i]
		default:
			setBits(c, k, bitsOf(src, i))
		}
	}
}
