package ops

import (
	"fmt"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/kernel"
)

// Dense is a layer x·B + bias with constant B and bias, and max(0, ·) after it where Relu is
// set. The planner may give it a bias and Relu before the first run.
type Dense struct {
	packed *kernel.Packed
	bias   []float32
	relu   bool
	any    bool // x need not have two dimensions
}

// newDense packs a constant matrix, k×n or, when transposed, n×k.
func newDense(b *Tensor, transposed bool) *Dense {
	k, n := b.Shape[0], b.Shape[1]
	if transposed {
		k, n = n, k
	}
	return &Dense{packed: kernel.Pack(b.F32, k, n, transposed)}
}

// SetBias makes t the bias if it is one: a constant of one element per column.
func (d *Dense) SetBias(t *Tensor) bool {
	if d.bias != nil || d.relu || t.Type != inference.Float32 || len(t.F32) != d.packed.N() || d.packed.N() == 0 {
		return false
	}
	for i, n := range t.Shape { // [n] or [1, …, n], no longer than the layer's result
		if i < len(t.Shape)-1 && n != 1 || i > 1 {
			return false
		}
	}
	if len(t.Shape) == 0 {
		return false
	}
	d.bias = t.F32
	return true
}

// SetRelu appends max(0, ·).
func (d *Dense) SetRelu() { d.relu = true }

func (d *Dense) run(f *Frame, in, out []*Tensor) error {
	x := in[0]
	rank := len(x.Shape)
	if rank < 1 || rank != 2 && !d.any || x.Shape[rank-1] != d.packed.K() {
		return fmt.Errorf("an input of shape %v for a matrix of %d×%d", append([]int(nil), x.Shape...), d.packed.K(), d.packed.N())
	}
	var shape [MaxRank]int
	copy(shape[:], x.Shape)
	shape[rank-1] = d.packed.N()
	rows := product(x.Shape[:rank-1])
	if err := workable(f, rows, d.packed.N(), d.packed.K()); err != nil {
		return err
	}
	y, err := Alloc[float32](f, out[0], shape[:rank]...)
	if err != nil || len(y) == 0 {
		return err
	}
	if d.packed.K() == 0 {
		return fmt.Errorf("a product over no elements")
	}
	d.packed.Mul(y, x.F32, rows, d.bias, d.relu)
	return nil
}

// constMatrix reports whether input i is a constant float32 matrix.
func (n *Node) constMatrix(i int) bool {
	v := n.in(i)
	return v != nil && v.Const != nil && v.Type == inference.Float32 && len(v.Const.Shape) == 2
}
