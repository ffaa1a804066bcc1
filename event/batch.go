package event

// Kind is the type of a column's values.
type Kind uint8

const (
	// Float is a float64 column.
	Float Kind = iota
	// Int is an int64 column.
	Int
	// Bool is a bool column.
	Bool
	// String is a string column.
	String
	// Time is a column of instants, in Unix nanoseconds.
	Time
)

var kindNames = [...]string{"number", "integer", "boolean", "string", "time"}

// String returns the kind's name as users read it in messages.
func (k Kind) String() string { return kindNames[k] }

// Column is one named, typed vector of a batch. Exactly one of the slices is
// in use, by Kind: Floats for Float, Ints for Int and Time, Bools for Bool,
// Strings for String; its length is the batch's row count.
type Column struct {
	Name    string
	Kind    Kind
	Floats  []float64
	Ints    []int64
	Bools   []bool
	Strings []string
	// Null marks rows without a value. It is nil when every row has one;
	// otherwise it has one element a row, and the vector holds a zero there.
	Null []bool
	null []bool // storage kept across Reset
}

// Reset makes the column n rows long, all zero and none null, reusing storage.
func (c *Column) Reset(n int) {
	c.Null = nil
	switch c.Kind {
	case Float:
		c.Floats = grow(c.Floats, n)
	case Int, Time:
		c.Ints = grow(c.Ints, n)
	case Bool:
		c.Bools = grow(c.Bools, n)
	case String:
		c.Strings = grow(c.Strings, n)
	}
}

// Copy makes the column's rows those of from, which has the same kind.
func (c *Column) Copy(from *Column) {
	switch c.Kind {
	case Float:
		c.Floats = append(c.Floats[:0], from.Floats...)
	case Int, Time:
		c.Ints = append(c.Ints[:0], from.Ints...)
	case Bool:
		c.Bools = append(c.Bools[:0], from.Bools...)
	case String:
		c.Strings = append(c.Strings[:0], from.Strings...)
	}
	c.Null = nil
	if from.Null != nil {
		c.null = append(c.null[:0], from.Null...)
		c.Null = c.null
	}
}

// Take makes the column's rows the given rows of from, which has the same kind.
func (c *Column) Take(from *Column, rows []int32) {
	c.Reset(len(rows))
	for i, r := range rows {
		switch c.Kind {
		case Float:
			c.Floats[i] = from.Floats[r]
		case Int, Time:
			c.Ints[i] = from.Ints[r]
		case Bool:
			c.Bools[i] = from.Bools[r]
		case String:
			c.Strings[i] = from.Strings[r]
		}
		if from.IsNull(int(r)) {
			c.SetNull(i)
		}
	}
}

// Len returns the number of rows.
func (c *Column) Len() int {
	switch c.Kind {
	case Float:
		return len(c.Floats)
	case Bool:
		return len(c.Bools)
	case String:
		return len(c.Strings)
	default:
		return len(c.Ints)
	}
}

// SetNull marks row i as having no value.
func (c *Column) SetNull(i int) {
	if c.Null == nil {
		c.null = grow(c.null, c.Len())
		c.Null = c.null
	}
	c.Null[i] = true
}

// IsNull reports whether row i has no value.
func (c *Column) IsNull(i int) bool { return c.Null != nil && c.Null[i] }

func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}
