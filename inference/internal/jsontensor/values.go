package jsontensor

import (
	"fmt"

	"github.com/freshet-io/freshet/inference"
)

// element reads one value to the end of t's storage.
func (r *Reader) element(t *inference.Tensor) error {
	switch t.Type {
	case inference.Float32:
		v, err := r.float(32)
		t.F32 = append(t.F32, float32(v))
		return err
	case inference.Float64:
		v, err := r.float(64)
		t.F64 = append(t.F64, v)
		return err
	case inference.Int64:
		v, err := r.Whole()
		t.I64 = append(t.I64, v)
		return err
	case inference.Int32:
		v, err := r.Whole()
		if err == nil && int64(int32(v)) != v {
			err = fmt.Errorf("%d does not fit into 32 bits", v)
		}
		t.I32 = append(t.I32, int32(v))
		return err
	case inference.Bool:
		v, err := r.Bool()
		t.Bool = append(t.Bool, v)
		return err
	}
	v, err := r.Text()
	t.Str = append(t.Str, v)
	return err
}

func empty(t *inference.Tensor) {
	t.F32, t.F64, t.I64, t.I32, t.Bool, t.Str = t.F32[:0], t.F64[:0], t.I64[:0], t.I32[:0], t.Bool[:0], t.Str[:0]
}

// Flat reads a list of count values of t's type into t's storage.
func (r *Reader) Flat(t *inference.Tensor, count int) error {
	empty(t)
	n := 0
	err := r.List(func(i int) error {
		if n++; n > count {
			return fmt.Errorf("more than %d values", count)
		}
		if err := r.element(t); err != nil {
			return fmt.Errorf("value %d: %w", i, err)
		}
		return nil
	})
	if err == nil && n != count {
		return fmt.Errorf("%d values, expected %d", n, count)
	}
	return err
}

// Nested reads lists of lists of t's type, as deep as shape is long, into t's
// storage. A size of −1 in shape is set by the first list at that depth; all others
// there have to be as long.
func (r *Reader) Nested(t *inference.Tensor, shape []int) error {
	empty(t)
	return r.nested(t, shape)
}

func (r *Reader) nested(t *inference.Tensor, shape []int) error {
	if len(shape) == 0 {
		return r.element(t)
	}
	n := 0
	err := r.List(func(i int) error {
		if n++; shape[0] >= 0 && n > shape[0] {
			return fmt.Errorf("more than %d values", shape[0])
		}
		if err := r.nested(t, shape[1:]); err != nil {
			return fmt.Errorf("%d: %w", i, err)
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case shape[0] < 0:
		shape[0] = n
	case n != shape[0]:
		return fmt.Errorf("%d values, expected %d", n, shape[0])
	}
	return nil
}
