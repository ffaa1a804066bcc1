package inference

import "math"

// rowSize is the number of elements of one row.
func (t *Tensor) rowSize() int {
	n := 1
	for _, d := range t.Shape[1:] {
		n *= d
	}
	return n
}

// truncate empties the tensor and keeps its storage.
func (t *Tensor) truncate() {
	t.F32, t.F64, t.I64, t.I32 = t.F32[:0], t.F64[:0], t.I64[:0], t.I32[:0]
	t.Bool, t.Str = t.Bool[:0], t.Str[:0]
}

// length is the number of elements that are there.
func (t *Tensor) length() int {
	switch t.Type {
	case Float32:
		return len(t.F32)
	case Float64:
		return len(t.F64)
	case Int64:
		return len(t.I64)
	case Int32:
		return len(t.I32)
	case Bool:
		return len(t.Bool)
	case String:
		return len(t.Str)
	}
	return 0
}

// elements is the number of elements that the shape asks for; −1 where it says nothing sensible.
func (t *Tensor) elements() int {
	if len(t.Shape) == 0 {
		return -1
	}
	n := 1
	for _, d := range t.Shape {
		if d < 0 || d > 0 && n > math.MaxInt32/d {
			return -1
		}
		n *= d
	}
	return n
}

// appendRows adds n rows of u, beginning at row from; t has u's type and rows of u's shape.
func (t *Tensor) appendRows(u *Tensor, from, n int) {
	size := u.rowSize()
	lo, hi := from*size, (from+n)*size
	switch u.Type {
	case Float32:
		t.F32 = append(t.F32, u.F32[lo:hi]...)
	case Float64:
		t.F64 = append(t.F64, u.F64[lo:hi]...)
	case Int64:
		t.I64 = append(t.I64, u.I64[lo:hi]...)
	case Int32:
		t.I32 = append(t.I32, u.I32[lo:hi]...)
	case Bool:
		t.Bool = append(t.Bool, u.Bool[lo:hi]...)
	case String:
		t.Str = append(t.Str, u.Str[lo:hi]...)
	}
	t.Shape[0] += n
}

// set makes t a copy of n rows of u, beginning at row from.
func (t *Tensor) set(u *Tensor, from, n int) {
	t.Name, t.Type = u.Name, u.Type
	t.truncate()
	t.Shape = append(append(t.Shape[:0], 0), u.Shape[1:]...)
	t.appendRows(u, from, n)
}

// prepare makes t so many zero rows of u's type and shape.
func (t *Tensor) prepare(u *Tensor, rows int) {
	t.Name = u.Name
	t.shape(u.Type, u.Shape[1:], rows)
}

// shape makes t zero rows of a type and the shape of one row.
func (t *Tensor) shape(dt DataType, row []int, rows int) {
	t.Type = dt
	t.Shape = append(append(t.Shape[:0], rows), row...)
	t.truncate()
	n := rows * t.rowSize()
	switch dt {
	case Float32:
		t.F32 = zeros(t.F32, n)
	case Float64:
		t.F64 = zeros(t.F64, n)
	case Int64:
		t.I64 = zeros(t.I64, n)
	case Int32:
		t.I32 = zeros(t.I32, n)
	case Bool:
		t.Bool = zeros(t.Bool, n)
	case String:
		t.Str = zeros(t.Str, n)
	}
}

func zeros[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	s = s[:n]
	clear(s)
	return s
}

// place copies u's rows into t, beginning at row at; false where they have another shape.
func (t *Tensor) place(u *Tensor, at int) bool {
	if t.Type != u.Type || !sameRow(t.Shape, u.Shape) {
		return false
	}
	for k := range u.Rows() {
		t.copyRow(at+k, u, k)
	}
	return true
}

// copyRow copies row from of u to row to; both have the same type and shape of a row.
func (t *Tensor) copyRow(to int, u *Tensor, from int) {
	size := u.rowSize()
	a, lo, hi := to*size, from*size, (from+1)*size
	switch u.Type {
	case Float32:
		copy(t.F32[a:], u.F32[lo:hi])
	case Float64:
		copy(t.F64[a:], u.F64[lo:hi])
	case Int64:
		copy(t.I64[a:], u.I64[lo:hi])
	case Int32:
		copy(t.I32[a:], u.I32[lo:hi])
	case Bool:
		copy(t.Bool[a:], u.Bool[lo:hi])
	case String:
		copy(t.Str[a:], u.Str[lo:hi])
	}
}

// cut leaves t its first n rows.
func (t *Tensor) cut(n int) {
	size := n * t.rowSize()
	switch t.Type {
	case Float32:
		t.F32 = t.F32[:size]
	case Float64:
		t.F64 = t.F64[:size]
	case Int64:
		t.I64 = t.I64[:size]
	case Int32:
		t.I32 = t.I32[:size]
	case Bool:
		t.Bool = t.Bool[:size]
	case String:
		t.Str = t.Str[:size]
	}
	t.Shape[0] = n
}
