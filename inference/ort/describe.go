package ort

import (
	"context"
	"errors"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/tensors"
	"github.com/freshet-io/freshet/inference/ort/internal/graph"
)

// maxTrial is the largest number of elements of a trial.
const maxTrial = 32 << 20

// describe fills the signatures. Files are often wrong about their outputs, so the model is
// run on batches of three and of two rows of zeros: each output must have as many rows.
// Where zeros are no values for the model, what the file says stands.
func (d *Driver) describe(ctx context.Context, g *graph.Model) error {
	fixed, open := -1, false
	for _, in := range g.Inputs {
		if len(in.Dims) == 0 {
			return errkind.Errorf(errkind.Unsupported, "input %q has no dimension for the rows of a batch; export the model with a dynamic batch axis", in.Name)
		}
		if in.Dims[0] >= 0 {
			fixed = int(in.Dims[0])
		}
		sig := inference.Signature{Name: in.Name, Type: in.Type, Shape: []int{}}
		for _, n := range in.Dims[1:] {
			open = open || n < 0
			sig.Shape = append(sig.Shape, int(n))
		}
		d.meta.Inputs = append(d.meta.Inputs, sig)
	}
	for _, out := range g.Outputs {
		sig := inference.Signature{Name: out.Name, Type: out.Type, Shape: []int{}}
		if len(out.Dims) > 0 {
			for _, n := range out.Dims[1:] {
				sig.Shape = append(sig.Shape, int(n))
			}
		}
		d.meta.Outputs = append(d.meta.Outputs, sig)
	}
	defer d.name(g)
	three, err := d.trial(ctx, 3)
	var two []inference.Tensor
	if err == nil {
		two, err = d.trial(ctx, 2)
	}
	if err == nil {
		return d.shapes(three, 3, two, 2, open)
	}
	// Only a refusal of the rows says something about the model.
	if kind := errkind.Of(err); kind != errkind.Invalid && !errors.Is(err, errTooLarge) {
		return err
	}
	one, oneErr := d.trial(ctx, 1)
	switch {
	case oneErr == nil && fixed == 1:
		d.meta.MaxBatch = 1
		return d.shapes(one, 1, one, 1, false)
	case fixed > 1:
		return errkind.Errorf(errkind.Unsupported, "the model takes batches of exactly %d rows; export it with a dynamic batch axis", fixed)
	case !open && fixed < 0 && !errors.Is(err, errTooLarge):
		return errkind.Errorf(errkind.Invalid, "a trial batch of zeros fails: %w", err)
	}
	for _, sig := range d.meta.Outputs {
		if sig.Type == 0 {
			return errkind.Errorf(errkind.Unsupported, "the file does not say the type of output %q, and a trial batch of zeros fails: %w", sig.Name, err)
		}
	}
	return nil
}

var errTooLarge = errkind.New(errkind.Exhausted, "the rows are too large for a trial")

// trial runs rows rows of zeros.
func (d *Driver) trial(ctx context.Context, rows int) ([]inference.Tensor, error) {
	in := make([]inference.Tensor, len(d.meta.Inputs))
	for i := range in {
		sig := d.meta.Inputs[i]
		shape := make([]int, len(sig.Shape))
		size := rows
		for k, n := range sig.Shape {
			if shape[k] = n; n < 0 {
				shape[k] = 1
			}
			if shape[k] > 0 && size > maxTrial/shape[k] {
				return nil, errTooLarge
			}
			size *= shape[k]
		}
		sig.Shape = shape
		tensors.Make(&in[i], &sig, rows)
	}
	out := make([]inference.Tensor, len(d.meta.Outputs))
	l, err := d.take(ctx)
	if err != nil {
		return nil, err
	}
	return out, d.call(ctx, l, in, out, -1)
}

// shapes takes the outputs' types and shapes from trials with a and b rows.
func (d *Driver) shapes(x []inference.Tensor, a int, y []inference.Tensor, b int, open bool) error {
	for k := range d.meta.Outputs {
		sig := &d.meta.Outputs[k]
		p, q := x[k].Shape, y[k].Shape
		if len(p) == 0 || len(p) != len(q) || p[0] != a || q[0] != b {
			return errkind.Errorf(errkind.Unsupported, "output %q has shape %v for %d rows and %v for %d: it must have one row for each", sig.Name, p, a, q, b)
		}
		declared := sig.Shape
		sig.Type, sig.Shape = x[k].Type, []int{}
		for i := 1; i < len(p); i++ {
			n := p[i]
			// Where sizes of the input are open, so may be those of the output.
			if q[i] != n || open && (i > len(declared) || declared[i-1] < 0) {
				n = -1
			}
			sig.Shape = append(sig.Shape, n)
		}
	}
	d.strict = true
	return nil
}

// name sets the labels of outputs and the names of features, where their numbers fit.
func (d *Driver) name(g *graph.Model) {
	for k := range d.meta.Outputs {
		sig := &d.meta.Outputs[k]
		labels := g.Labels[sig.Name]
		if len(sig.Shape) == 1 && len(labels) > 0 && (sig.Shape[0] == len(labels) || sig.Shape[0] < 0) {
			sig.Labels = labels
		}
	}
	if list := g.Props["feature_names"]; list != "" && len(d.meta.Inputs) == 1 {
		names := strings.Split(list, ",")
		if row := d.meta.Inputs[0].Shape; len(row) == 1 && (row[0] == len(names) || row[0] < 0) {
			d.meta.FeatureNames = names
		}
	}
}
