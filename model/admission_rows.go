package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/inference"
)

// table are rows that a user gave, in columns.
type table struct {
	columns []column
	rows    int
}

// column holds a value a row: a json.Number, string, bool, nil, or a []any of
// them for more than one.
type column struct {
	name   string
	values []any
}

// parseTable reads an object of arrays, keeping the order of its names.
func parseTable(b []byte) (*table, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, errors.New("expected an object of columns")
	}
	t := &table{rows: -1}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		c := column{name: name.(string)}
		if err := d.Decode(&c.values); err != nil {
			return nil, fmt.Errorf("column %q: %w", c.name, err)
		}
		if err := t.add(c); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the object of columns")
	}
	if t.rows < 1 {
		return nil, errors.New("there are no rows")
	}
	return t, nil
}

func (t *table) add(c column) error {
	if slices.ContainsFunc(t.columns, func(o column) bool { return o.name == c.name }) {
		return fmt.Errorf("column %q is there twice", c.name)
	}
	if len(t.columns) > 0 && t.rows != len(c.values) {
		return fmt.Errorf("column %q has %d rows and %q has %d", t.columns[0].name, t.rows, c.name, len(c.values))
	}
	t.rows = len(c.values)
	t.columns = append(t.columns, c)
	return nil
}

func (t *table) names() string {
	var names []string
	for _, c := range t.columns {
		names = append(names, c.name)
	}
	return strings.Join(names, ", ")
}

func (t *table) column(name string) *column {
	for i := range t.columns {
		if t.columns[i].name == name {
			return &t.columns[i]
		}
	}
	return nil
}

// fit makes a model's inputs of the columns: each input is a column, or the
// columns are the values of the only input, by their names or, without names, in order.
func (t *table) fit(inputs []inference.Signature, features []string) ([]inference.Tensor, error) {
	var in []inference.Tensor
	for _, s := range inputs {
		c := t.column(s.Name)
		if c == nil {
			break
		}
		tensor, err := c.tensor(s)
		if err != nil {
			return nil, err
		}
		in = append(in, tensor)
	}
	if len(in) == len(inputs) && len(in) > 0 {
		return in, nil
	}
	if len(inputs) != 1 || len(inputs[0].Shape) > 1 {
		var names []string
		for _, s := range inputs {
			names = append(names, s.Name)
		}
		return nil, fmt.Errorf("the columns are %s, expected the inputs %s", t.names(), strings.Join(names, ", "))
	}
	s := inputs[0]
	chosen := make([]*column, 0, len(t.columns))
	for _, name := range features {
		c := t.column(name)
		if c == nil {
			return nil, fmt.Errorf("there is no column %q; there are %s", name, t.names())
		}
		chosen = append(chosen, c)
	}
	if len(features) == 0 {
		for i := range t.columns {
			chosen = append(chosen, &t.columns[i])
		}
		if len(s.Shape) == 1 && s.Shape[0] >= 0 && s.Shape[0] != len(chosen) {
			return nil, fmt.Errorf("%d columns (%s), and the input %s has %d values; name the features in their order to choose among the columns", len(chosen), t.names(), s.Name, s.Shape[0])
		}
	}
	all := column{name: s.Name, values: make([]any, t.rows)}
	for r := range t.rows {
		row := make([]any, len(chosen))
		for i, c := range chosen {
			row[i] = c.values[r]
		}
		all.values[r] = row
	}
	tensor, err := all.tensor(s)
	if err != nil {
		return nil, err
	}
	return []inference.Tensor{tensor}, nil
}

// tensor makes the rows of an input or output of the column.
func (c *column) tensor(s inference.Signature) (inference.Tensor, error) {
	t := inference.Tensor{Name: s.Name, Type: s.Type, Shape: append([]int{len(c.values)}, s.Shape...)}
	open := slices.Index(t.Shape, -1)
	for r, v := range c.values {
		before := count(&t)
		if err := appendValue(&t, v); err != nil {
			return t, fmt.Errorf("column %q, row %d: %w", c.name, r+1, err)
		}
		n := count(&t) - before
		if open >= 0 {
			known := 1
			for _, size := range s.Shape {
				known *= max(size, 1)
			}
			if n%known == 0 {
				t.Shape[open] = n / known
			}
			open = -1
		}
		if want := elements(t.Shape[1:]); n != want {
			return t, fmt.Errorf("column %q, row %d: %d values, expected %d for %s %s", c.name, r+1, n, want, s.Name, rowText(s))
		}
	}
	return t, nil
}

func appendValue(t *inference.Tensor, v any) error {
	if list, ok := v.([]any); ok {
		for _, x := range list {
			if err := appendValue(t, x); err != nil {
				return err
			}
		}
		return nil
	}
	switch t.Type {
	case inference.Float32, inference.Float64:
		x, err := floatOf(v)
		if err != nil {
			return err
		}
		if t.Type == inference.Float64 {
			t.F64 = append(t.F64, x)
		} else {
			t.F32 = append(t.F32, float32(x))
		}
	case inference.Int64, inference.Int32:
		x, err := intOf(v)
		if err != nil {
			return err
		}
		if t.Type == inference.Int64 {
			t.I64 = append(t.I64, x)
		} else if t.I32 = append(t.I32, int32(x)); int64(int32(x)) != x {
			return fmt.Errorf("%d is no int32", x)
		}
	case inference.Bool:
		switch x := v.(type) {
		case bool:
			t.Bool = append(t.Bool, x)
		default:
			b, err := strconv.ParseBool(fmt.Sprint(v))
			if err != nil {
				return fmt.Errorf("%v is not true or false", v)
			}
			t.Bool = append(t.Bool, b)
		}
	case inference.String:
		switch x := v.(type) {
		case string:
			t.Str = append(t.Str, x)
		case nil:
			t.Str = append(t.Str, "")
		default:
			t.Str = append(t.Str, fmt.Sprint(x))
		}
	default:
		return fmt.Errorf("values of type %s cannot be written", t.Type)
	}
	return nil
}

// floatOf reads a number, also where it is written as text, as NaN and infinities are.
func floatOf(v any) (float64, error) {
	switch x := v.(type) {
	case nil:
		return math.NaN(), nil
	case bool:
		if x {
			return 1, nil
		}
		return 0, nil
	case float64:
		return x, nil
	case int64:
		return float64(x), nil
	}
	text := strings.TrimSpace(fmt.Sprint(v))
	if text == "" {
		return math.NaN(), nil // an empty cell of a CSV file
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil && !math.IsInf(x, 0) {
		return 0, fmt.Errorf("%q is no number", text)
	}
	return x, nil
}

func intOf(v any) (int64, error) {
	switch x := v.(type) {
	case bool:
		if x {
			return 1, nil
		}
		return 0, nil
	case int64:
		return x, nil
	}
	text := strings.TrimSpace(fmt.Sprint(v))
	x, err := strconv.ParseInt(text, 10, 64)
	if err == nil {
		return x, nil
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int64(f), nil // 3.0 and 1e6 are whole too
	}
	return 0, fmt.Errorf("%q is no whole number", text)
}

// elements is the product of the sizes.
func elements(shape []int) int {
	n := 1
	for _, s := range shape {
		n *= s
	}
	return n
}

// count is how many elements a tensor holds.
func count(t *inference.Tensor) int {
	return len(t.F32) + len(t.F64) + len(t.I64) + len(t.I32) + len(t.Bool) + len(t.Str)
}

// slice is n rows of t from row at on, sharing its elements.
func slice(t *inference.Tensor, at, n int) inference.Tensor {
	width := elements(t.Shape[1:])
	from, to := at*width, (at+n)*width
	part := inference.Tensor{Name: t.Name, Type: t.Type, Shape: append([]int{n}, t.Shape[1:]...)}
	switch t.Type {
	case inference.Float32:
		part.F32 = t.F32[from:to]
	case inference.Float64:
		part.F64 = t.F64[from:to]
	case inference.Int64:
		part.I64 = t.I64[from:to]
	case inference.Int32:
		part.I32 = t.I32[from:to]
	case inference.Bool:
		part.Bool = t.Bool[from:to]
	case inference.String:
		part.Str = t.Str[from:to]
	}
	return part
}

// join appends the rows of o to t.
func join(t, o *inference.Tensor) {
	if t.Shape == nil {
		t.Name, t.Type, t.Shape = o.Name, o.Type, slices.Clone(o.Shape)
	} else {
		t.Shape[0] += o.Shape[0]
	}
	t.F32, t.F64 = append(t.F32, o.F32...), append(t.F64, o.F64...)
	t.I64, t.I32 = append(t.I64, o.I64...), append(t.I32, o.I32...)
	t.Bool, t.Str = append(t.Bool, o.Bool...), append(t.Str, o.Str...)
}

// firstRow is the first row of the tensor for input i, or one of zeros.
func firstRow(s inference.Signature, from []inference.Tensor, i int) inference.Tensor {
	if from != nil {
		row := slice(&from[i], 0, 1)
		join(&inference.Tensor{}, &row)
		return row
	}
	zero := inference.Tensor{Name: s.Name, Type: s.Type, Shape: []int{1}}
	for _, n := range s.Shape {
		zero.Shape = append(zero.Shape, max(n, 1))
	}
	n := elements(zero.Shape)
	switch s.Type {
	case inference.Float32:
		zero.F32 = make([]float32, n)
	case inference.Float64:
		zero.F64 = make([]float64, n)
	case inference.Int64:
		zero.I64 = make([]int64, n)
	case inference.Int32:
		zero.I32 = make([]int32, n)
	case inference.Bool:
		zero.Bool = make([]bool, n)
	case inference.String:
		zero.Str = make([]string, n)
	}
	return zero
}

func repeatRow(t *inference.Tensor, rows int) inference.Tensor {
	var all inference.Tensor
	for range rows {
		join(&all, t)
	}
	return all
}

// compare calls f for each element: far is 0 for equal ones (NaN equals NaN),
// infinite where one is no number and the other is not the same, and else their
// difference as a share of the greater of 1 and want.
func compare(want, got *inference.Tensor, rows int, f func(row int, want, got any, far float64)) error {
	if want.Type != got.Type || count(want) != count(got) || rows == 0 {
		return fmt.Errorf("%d values of %s, expected %d of %s", count(got), got.Type, count(want), want.Type)
	}
	width := count(want) / rows
	number := func(i int, a, b float64) {
		far := math.Abs(a-b) / max(1, math.Abs(a))
		switch {
		case a == b || math.IsNaN(a) && math.IsNaN(b):
			far = 0
		case math.IsNaN(far) || math.IsInf(a, 0):
			far = math.Inf(1)
		}
		f(i/width, a, b, far)
	}
	exact := func(i int, a, b any) {
		far := 0.0
		if a != b {
			far = math.Inf(1)
		}
		f(i/width, a, b, far)
	}
	for i := range want.F32 {
		number(i, float64(want.F32[i]), float64(got.F32[i]))
	}
	for i := range want.F64 {
		number(i, want.F64[i], got.F64[i])
	}
	for i := range want.I64 {
		exact(i, want.I64[i], got.I64[i])
	}
	for i := range want.I32 {
		exact(i, want.I32[i], got.I32[i])
	}
	for i := range want.Bool {
		exact(i, want.Bool[i], got.Bool[i])
	}
	for i := range want.Str {
		exact(i, want.Str[i], got.Str[i])
	}
	return nil
}
