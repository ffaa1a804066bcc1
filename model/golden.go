package model

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

// golden are rows with known answers, read from a golden.json:
//
//	{
//	  "inputs":  {"amount": [12.5, "NaN"], "night": [0, 1]},
//	  "outputs": {"probabilities": [[0.98, 0.02], [0.5, 0.5]]},
//	  "tolerance": 1e-5
//	}
//
// Columns of inputs are the model's inputs or, where it has one, the values of
// that, by their names or in order. Outputs may be some of the model's. NaN,
// Infinity and -Infinity are written as strings; null is NaN.
type golden struct {
	rows       int
	in         []inference.Tensor
	outputs    []int // indices of the model's outputs
	want       []inference.Tensor
	tolerance  float64
	nanOutputs bool
}

// defaultTolerance is how far an answer may be from the golden one, as a share
// of the greater of 1 and the golden answer.
const defaultTolerance = 1e-5

func readGolden(path string, v *Version) (*golden, error) {
	b, err := readAll(path, maxDocument)
	if err != nil {
		return nil, fmt.Errorf("golden rows: %w", err)
	}
	g, err := parseGolden(b, v)
	if err != nil {
		return nil, errkind.Errorf(errkind.Invalid, "golden rows in %s: %w", path, err)
	}
	return g, nil
}

func parseGolden(b []byte, v *Version) (*golden, error) {
	var file struct {
		Inputs     json.RawMessage `json:"inputs"`
		Outputs    json.RawMessage `json:"outputs"`
		Tolerance  *float64        `json:"tolerance"`
		NaNOutputs bool            `json:"nan_outputs"`
	}
	if err := json.Unmarshal(b, &file); err != nil {
		return nil, err
	}
	g := &golden{tolerance: defaultTolerance, nanOutputs: file.NaNOutputs}
	if file.Tolerance != nil {
		g.tolerance = *file.Tolerance
	}
	if !(g.tolerance >= 0 && g.tolerance < 1) {
		return nil, fmt.Errorf("the tolerance is %v, expected 0 to 1", g.tolerance)
	}
	in, err := parseTable(file.Inputs)
	if err != nil {
		return nil, fmt.Errorf("inputs: %w", err)
	}
	if g.in, err = in.fit(v.Inputs, v.FeatureNames); err != nil {
		return nil, fmt.Errorf("inputs: %w", err)
	}
	g.rows = in.rows
	out, err := parseTable(file.Outputs)
	if err != nil {
		return nil, fmt.Errorf("outputs: %w", err)
	}
	if out.rows != g.rows {
		return nil, fmt.Errorf("%d rows of inputs and %d of outputs", g.rows, out.rows)
	}
	for _, c := range out.columns {
		k := slices.IndexFunc(v.Outputs, func(s inference.Signature) bool { return s.Name == c.name })
		if k < 0 {
			return nil, fmt.Errorf("the model has no output %q: %s", c.name, SignatureText(v.Inputs, v.Outputs))
		}
		t, err := c.tensor(v.Outputs[k])
		if err != nil {
			return nil, fmt.Errorf("outputs: %w", err)
		}
		g.outputs, g.want = append(g.outputs, k), append(g.want, t)
	}
	return g, nil
}

// special reports whether NaN and infinities are among the inputs, so that the
// answers to them are known.
func (g *golden) special() bool {
	nan, inf := false, false
	for i := range g.in {
		each(&g.in[i], func(x float64) {
			nan = nan || math.IsNaN(x)
			inf = inf || math.IsInf(x, 0)
		})
	}
	return nan && inf
}

// each calls f for every floating-point element.
func each(t *inference.Tensor, f func(x float64)) {
	for _, x := range t.F32 {
		f(float64(x))
	}
	for _, x := range t.F64 {
		f(x)
	}
}

// prober asks a model for answers.
type prober struct {
	driver inference.Driver
	meta   inference.Metadata
	// exact: the same rows have the same answers to the last bit.
	exact bool
}

// golden compares the model's answers with those that are known. It returns the
// greatest deviation in units of the tolerance.
func (p *prober) golden(ctx context.Context, g *golden) (worst float64, err error) {
	got, err := p.infer(ctx, g.in)
	if err != nil {
		return 0, fmt.Errorf("golden rows: %w", err)
	}
	wrong, first := map[int]bool{}, ""
	for i, k := range g.outputs {
		err := compare(&g.want[i], &got[k], g.rows, func(row int, want, have any, far float64) {
			far /= max(g.tolerance, 1e-300)
			if far <= 1 {
				worst = max(worst, far)
				return
			}
			if wrong[row] = true; first == "" {
				t := p.meta.Outputs[k]
				first = fmt.Sprintf("row %d: output %s is %s, expected %s", row+1, t.Name, elementText(have, t.Type), elementText(want, t.Type))
			}
		})
		if err != nil {
			return 0, errkind.Errorf(errkind.Invalid, "golden rows: output %s: %w", p.meta.Outputs[k].Name, err)
		}
	}
	if len(wrong) > 0 {
		return 0, errkind.Errorf(errkind.Invalid, "%d of %d golden rows come out wrong (tolerance %g): %s", len(wrong), g.rows, g.tolerance, first)
	}
	return worst, nil
}

// answers wants an answer to each row.
func (p *prober) answers(ctx context.Context, in []inference.Tensor) error {
	_, err := p.infer(ctx, in)
	return err
}

// special asks for answers to rows with NaN and infinities: a row of golden, of
// the background or of zeros, with each of its values, and then all of them,
// replaced. The model has to answer, twice the same, and with numbers unless
// declared says that it need not.
func (p *prober) special(ctx context.Context, g *golden, background []inference.Tensor, declared bool) (rows int, err error) {
	in := specialRows(p.meta.Inputs, g, background)
	if in == nil {
		return 0, nil // no floating-point input
	}
	rows = in[0].Rows()
	first, err := p.infer(ctx, in)
	if err != nil {
		return 0, fmt.Errorf("rows with NaN and infinities: %w", err)
	}
	second, err := p.infer(ctx, in)
	if err != nil {
		return 0, fmt.Errorf("rows with NaN and infinities: %w", err)
	}
	limit := 0.0
	if !p.exact {
		limit = defaultTolerance
	}
	for k := range first {
		name := p.meta.Outputs[k].Name
		var fault error
		err := compare(&first[k], &second[k], rows, func(row int, a, b any, far float64) {
			if far > limit && fault == nil {
				fault = errkind.Errorf(errkind.Invalid, "asked twice for a row with %s the model says %v, then %v in output %s", describeRow(in, row), a, b, name)
			}
			x, ok := a.(float64)
			if ok && (math.IsNaN(x) || math.IsInf(x, 0)) && !declared && fault == nil {
				fault = errkind.Errorf(errkind.Invalid, "output %s is %v for a row with %s: where that is meant to be so, give golden rows with NaN and infinities, or declare it "+
					`("nan_outputs": true among them, or --nan-outputs)`, name, x, describeRow(in, row))
			}
		})
		if err != nil {
			return 0, errkind.Errorf(errkind.Invalid, "rows with NaN and infinities: output %s: %w", name, err)
		}
		if fault != nil {
			return 0, fault
		}
	}
	return rows, nil
}

// elementText writes a float32 that went by way of a float64 as it was.
func elementText(v any, t inference.DataType) string {
	if x, ok := v.(float64); ok && t == inference.Float32 {
		v = float32(x)
	}
	return fmt.Sprint(v)
}

func describeRow(in []inference.Tensor, row int) string {
	var found []string
	for i := range in {
		t := in[i]
		width := max(len(t.F32), len(t.F64)) / t.Rows()
		for c := range width {
			x := 0.0
			if t.Type == inference.Float32 {
				x = float64(t.F32[row*width+c])
			} else {
				x = t.F64[row*width+c]
			}
			if math.IsNaN(x) || math.IsInf(x, 0) {
				found = append(found, fmt.Sprintf("%s[%d] %v", t.Name, c, x))
			}
		}
	}
	if len(found) > 3 {
		found = append(found[:3], "…")
	}
	return strings.Join(found, ", ")
}

// maxSpecialValues is how many values of a row are replaced one by one.
const maxSpecialValues = 256

func specialRows(inputs []inference.Signature, g *golden, background []inference.Tensor) []inference.Tensor {
	var from []inference.Tensor
	switch {
	case g != nil:
		from = g.in
	case background != nil:
		from = background
	}
	type place struct{ input, at int }
	var places []place
	base := make([]inference.Tensor, len(inputs))
	for i, s := range inputs {
		if base[i] = firstRow(s, from, i); base[i].Type != inference.Float32 && base[i].Type != inference.Float64 {
			continue
		}
		for at := range elements(base[i].Shape[1:]) {
			places = append(places, place{i, at})
		}
	}
	if len(places) == 0 {
		return nil
	}
	values := []float64{math.NaN(), math.Inf(1), math.Inf(-1)}
	single := min(len(places), maxSpecialValues)
	rows := len(values) * (single + 1)
	in := make([]inference.Tensor, len(inputs))
	for i := range base {
		in[i] = repeatRow(&base[i], rows)
	}
	set := func(row int, p place, x float64) {
		t := &in[p.input]
		if width := elements(t.Shape[1:]); t.Type == inference.Float32 {
			t.F32[row*width+p.at] = float32(x)
		} else {
			t.F64[row*width+p.at] = x
		}
	}
	row := 0
	for _, x := range values {
		for _, p := range places[:single] {
			set(row, p, x)
			row++
		}
		for _, p := range places {
			set(row, p, x)
		}
		row++
	}
	return in
}

// infer asks for all rows, as many at a time as the driver takes, and checks the
// answers' types and rows.
func (p *prober) infer(ctx context.Context, in []inference.Tensor) ([]inference.Tensor, error) {
	rows := in[0].Rows()
	size := rows
	if p.meta.MaxBatch > 0 {
		size = min(size, p.meta.MaxBatch)
	}
	all := make([]inference.Tensor, len(p.meta.Outputs))
	for at := 0; at < rows; at += size {
		n := min(size, rows-at)
		part := make([]inference.Tensor, len(in))
		for i := range in {
			part[i] = slice(&in[i], at, n)
		}
		out := make([]inference.Tensor, len(p.meta.Outputs))
		if err := p.driver.Infer(ctx, part, out); err != nil {
			return nil, err
		}
		for k := range out {
			o, s := &out[k], p.meta.Outputs[k]
			if o.Rows() != n || o.Type != s.Type || count(o) != elements(o.Shape) || !sameShape(o.Shape[1:], s.Shape) {
				return nil, errkind.Errorf(errkind.Invalid, "output %s has the shape %v of %s for %d rows, expected %s for each row", s.Name, o.Shape, o.Type, n, rowText(s))
			}
			join(&all[k], o)
		}
	}
	return all, nil
}

// readAll reads a file of at most limit bytes.
func readAll(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case os.IsNotExist(err):
		return nil, errkind.With(errkind.NotFound, err)
	case err != nil:
		return nil, errkind.With(errkind.Permanent, err)
	case info.IsDir() || info.Size() > limit:
		return nil, errkind.Errorf(errkind.Exhausted, "%s is a folder or has more than %d bytes", path, limit)
	}
	b, err := os.ReadFile(path)
	return b, errkind.With(errkind.Permanent, err)
}

// CheckGolden holds a model to the golden rows in its version's folder, as
// admission does: for versions from registries that admit without it. A version
// without golden rows passes.
func CheckGolden(ctx context.Context, d inference.Driver, v *Version, dir string) (err error) {
	if v.Golden == "" {
		return nil
	}
	defer func() {
		if p := recover(); p != nil {
			err = errkind.Errorf(errkind.Invalid, "the model makes its runtime panic: %v", p)
		}
	}()
	rows, err := readGolden(filepath.Join(dir, v.Golden), v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, admissionTime)
	defer cancel()
	_, err = (&prober{driver: d, meta: d.Metadata()}).golden(ctx, rows)
	return err
}
