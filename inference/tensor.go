package inference

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

// append adds u's elements; shapes are the caller's business.
func (t *Tensor) append(u *Tensor) {
	t.F32 = append(t.F32, u.F32...)
	t.F64 = append(t.F64, u.F64...)
	t.I64 = append(t.I64, u.I64...)
	t.I32 = append(t.I32, u.I32...)
	t.Bool = append(t.Bool, u.Bool...)
	t.Str = append(t.Str, u.Str...)
}

// set makes t a copy of n rows of u, beginning at row from.
func (t *Tensor) set(u *Tensor, from, n int) {
	size := u.rowSize()
	lo, hi := from*size, (from+n)*size
	t.Name, t.Type = u.Name, u.Type
	t.truncate()
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
	t.Shape = append(append(t.Shape[:0], n), u.Shape[1:]...)
}

// place copies u's rows into t at row at; t is made rows long first.
func (t *Tensor) place(u *Tensor, at, rows int) {
	size := u.rowSize()
	if t.Shape == nil {
		t.Name, t.Type = u.Name, u.Type
		t.Shape = append([]int{rows}, u.Shape[1:]...)
		switch u.Type {
		case Float32:
			t.F32 = make([]float32, rows*size)
		case Float64:
			t.F64 = make([]float64, rows*size)
		case Int64:
			t.I64 = make([]int64, rows*size)
		case Int32:
			t.I32 = make([]int32, rows*size)
		case Bool:
			t.Bool = make([]bool, rows*size)
		case String:
			t.Str = make([]string, rows*size)
		}
	}
	at *= size
	switch u.Type {
	case Float32:
		copy(t.F32[at:], u.F32)
	case Float64:
		copy(t.F64[at:], u.F64)
	case Int64:
		copy(t.I64[at:], u.I64)
	case Int32:
		copy(t.I32[at:], u.I32)
	case Bool:
		copy(t.Bool[at:], u.Bool)
	case String:
		copy(t.Str[at:], u.Str)
	}
}
