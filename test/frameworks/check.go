package frameworks

import (
	"context"
	"fmt"
	"math"

	"github.com/freshet-io/freshet/inference"
)

// Tolerance is how far an answer may be from the framework's own, of the greater of 1 and its size.
const Tolerance = 1e-5

// Check gives all rows of the case to d, batch at a time, and compares the outputs.
// An output may leave out a dimension of size 1.
func (c *Case) Check(ctx context.Context, d inference.Driver, batch int) error {
	meta := d.Metadata()
	if len(meta.Inputs) != 1 {
		return fmt.Errorf("%s: %d inputs, expected 1", c.Name, len(meta.Inputs))
	}
	in := []inference.Tensor{{Name: meta.Inputs[0].Name, Type: inference.Float32}}
	out := make([]inference.Tensor, len(meta.Outputs))
	for first := 0; first < Rows; first += batch {
		n := min(batch, Rows-first)
		in[0].Shape = []int{n, Features}
		in[0].F32 = c.Input.F32[first*Features : (first+n)*Features]
		if err := d.Infer(ctx, in, out); err != nil {
			return fmt.Errorf("%s: rows from %d: %w", c.Name, first, err)
		}
		found := 0
		for k, sig := range meta.Outputs {
			want, ok := c.Outputs[sig.Name]
			if !ok {
				continue
			}
			found++
			columns := want.Shape[1]
			if err := compare(&out[k], want.F32[first*columns:(first+n)*columns], first, columns); err != nil {
				return fmt.Errorf("%s: output %s: %w", c.Name, sig.Name, err)
			}
		}
		if found != len(c.Outputs) {
			return fmt.Errorf("%s: %d of %d outputs are there", c.Name, found, len(c.Outputs))
		}
	}
	return nil
}

func compare(got *inference.Tensor, want []float32, first, columns int) error {
	at := func(i int) float64 { return float64(got.F32[i]) }
	size := len(got.F32)
	if got.Type == inference.Float64 {
		at, size = func(i int) float64 { return got.F64[i] }, len(got.F64)
	}
	if size != len(want) {
		return fmt.Errorf("%d elements of %v, expected %d", size, got.Type, len(want))
	}
	for i, w := range want {
		if g := at(i); !(math.Abs(g-float64(w)) <= Tolerance*max(1, math.Abs(float64(w)))) {
			return fmt.Errorf("row %d, column %d: %v, the framework predicts %v", first+i/columns, i%columns, g, w)
		}
	}
	return nil
}
