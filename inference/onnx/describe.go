package onnx

import (
	"context"
	"errors"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/ops"
)

// describe fills the signatures. What the file says of its outputs is often loose or wrong, so
// the model is run on two batches of zeros of different sizes: their outputs must have as many rows as the
// batch, and where the trials fail although every size is known, so would any batch.
func (m *Model) describe(props map[string]string) error {
	fixed, open, elements := -1, false, 1
	for _, info := range m.prog.inputInfo {
		typ, _ := ops.TypeFromWire(info.Type)
		sig := inference.Signature{Name: info.Name, Type: typ, Shape: []int{}}
		if !info.HasShape || len(info.Dims) == 0 {
			return errkind.Errorf(errkind.Unsupported, "input %q has no dimension for the rows of a batch; export the model with a dynamic batch axis", info.Name)
		}
		for d, n := range info.Dims {
			if d == 0 {
				if n >= 0 {
					fixed = int(min(n, 1<<40))
				}
				continue
			}
			open = open || n < 0
			sig.Shape = append(sig.Shape, int(min(n, 1<<40)))
		}
		n, ok := ops.Size(m.prog.maxElements, sizes(sig.Shape, 1))
		if !ok {
			return invalid("input %q: rows of shape %v are larger than the limit of %d elements", info.Name, sig.Shape, m.prog.maxElements)
		}
		elements = max(elements, n)
		m.meta.Inputs = append(m.meta.Inputs, sig)
	}
	if len(m.meta.Inputs) == 0 {
		return errkind.New(errkind.Unsupported, "the model has no inputs")
	}
	for _, o := range m.prog.outputs {
		m.meta.Outputs = append(m.meta.Outputs, inference.Signature{Name: o.name, Type: o.typ, Shape: declaredRow(o)})
	}
	defer m.name(props)
	three, err3 := m.trial(3, elements)
	two, err2 := m.trial(2, elements)
	if err := errors.Join(err3, err2); err != nil {
		one, err1 := m.trial(1, elements)
		var value *ops.ErrValue
		switch {
		case errors.As(err, &value):
			return nil // zeros are not values that the model accepts, or it is too large to try
		case err1 == nil && fixed == 1:
			m.meta.MaxBatch = 1
			return m.shapes(one, 1, one, 1, false)
		case errors.Is(err, errInternal) || !open && fixed < 0:
			return invalid("a trial batch of zeros fails: %w", err2)
		case fixed > 1:
			return errkind.Errorf(errkind.Unsupported, "the model takes batches of exactly %d rows; export it with a dynamic batch axis", fixed)
		}
		return nil
	}
	return m.shapes(three, 3, two, 2, open)
}

// name sets the labels of outputs and the names of features, where their numbers fit.
func (m *Model) name(props map[string]string) {
	for k := range m.meta.Outputs {
		sig := &m.meta.Outputs[k]
		labels := m.prog.labels[sig.Name]
		if n := len(sig.Shape); n == 1 && (sig.Shape[0] == len(labels) || sig.Shape[0] < 0) && len(labels) > 0 {
			sig.Labels = labels
		}
	}
	if list := props["feature_names"]; list != "" && len(m.meta.Inputs) == 1 {
		names := strings.Split(list, ",")
		if row := m.meta.Inputs[0].Shape; len(row) == 1 && (row[0] == len(names) || row[0] < 0) {
			m.meta.FeatureNames = names
		}
	}
}

// declaredRow is an output's shape in the file without the rows.
func declaredRow(o output) []int {
	row := []int{}
	if o.info.HasShape && len(o.info.Dims) > 0 {
		for _, n := range o.info.Dims[1:] {
			row = append(row, int(min(n, 1<<40)))
		}
	}
	return row
}

// shapes takes the outputs' shapes from two trials with a and b rows.
func (m *Model) shapes(x []inference.Tensor, a int, y []inference.Tensor, b int, open bool) error {
	for k := range m.meta.Outputs {
		sig := &m.meta.Outputs[k]
		p, q := x[k].Shape, y[k].Shape
		if len(p) == 0 || len(p) != len(q) || p[0] != a || q[0] != b {
			return errkind.Errorf(errkind.Unsupported, "output %q has shape %v for %d rows and %v for %d: it must have one row for each", sig.Name, p, a, q, b)
		}
		declared := sig.Shape
		sig.Shape = []int{}
		for d := 1; d < len(p); d++ {
			n := p[d]
			// Where sizes of the input are open, so may be those of the output.
			if q[d] != n || open && (d > len(declared) || declared[d-1] < 0) {
				n = -1
			}
			sig.Shape = append(sig.Shape, n)
		}
	}
	return nil
}

// sizes is a shape of rows rows with open sizes taken as one.
func sizes(row []int, rows int) []int {
	shape := []int{rows}
	for _, n := range row {
		if n < 0 {
			n = 1
		}
		shape = append(shape, n)
	}
	return shape
}

// trial runs rows rows of zeros.
func (m *Model) trial(rows, elements int) ([]inference.Tensor, error) {
	if elements > m.prog.maxElements/rows {
		return nil, errors.New("the rows are too large for a trial")
	}
	in := make([]inference.Tensor, len(m.meta.Inputs))
	for k, sig := range m.meta.Inputs {
		t := inference.Tensor{Name: sig.Name, Type: sig.Type, Shape: sizes(sig.Shape, rows)}
		n, _ := ops.Size(m.prog.maxElements, t.Shape)
		switch sig.Type {
		case inference.Float32:
			t.F32 = make([]float32, n)
		case inference.Float64:
			t.F64 = make([]float64, n)
		case inference.Int64:
			t.I64 = make([]int64, n)
		case inference.Int32:
			t.I32 = make([]int32, n)
		case inference.Bool:
			t.Bool = make([]bool, n)
		case inference.String:
			t.Str = make([]string, n)
		}
		in[k] = t
	}
	out := make([]inference.Tensor, len(m.prog.outputs))
	i := newInstance(m.prog)
	i.frame.Limited, i.frame.Work = true, m.work
	return out, i.run(context.Background(), in, out)
}
