// Package telemetry computes, outside of a pipeline, what the pipelines of the
// water-leak example compute before their model: a model is fitted to these rows.
package telemetry

import (
	"fmt"
	"math"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
)

// Table is rows of numbers by key and time; NaN is null.
type Table struct {
	Names   []string
	Keys    []string
	Times   []int64 // Unix nanoseconds
	Filled  []bool
	Columns [][]float64 // by name, then by row
}

// Row returns the values of the named columns in row i.
func (t *Table) Row(i int, columns []int) []float64 {
	row := make([]float64, len(columns))
	for j, c := range columns {
		row[j] = t.Columns[c][i]
	}
	return row
}

// Column returns the index of a column; −1 where there is none.
func (t *Table) Column(name string) int {
	for i, n := range t.Names {
		if n == name {
			return i
		}
	}
	return -1
}

// Indices returns the indices of several columns.
func (t *Table) Indices(names ...string) ([]int, error) {
	columns := make([]int, len(names))
	for i, n := range names {
		if columns[i] = t.Column(n); columns[i] < 0 {
			return nil, fmt.Errorf("table has no column %q, only %v", n, t.Names)
		}
	}
	return columns, nil
}

// Compute resamples readings, given in the order of processing with columns
// named as c's fields, and adds windows over the series. Columns are the fields,
// then the windows.
func Compute(keys []string, times []int64, fields []*event.Column, c feature.ResampleConfig, windows []feature.Window) (*Table, error) {
	r, err := feature.NewResampler(c)
	if err != nil {
		return nil, err
	}
	agg, err := feature.New(feature.Config{Windows: windows})
	if err != nil {
		return nil, err
	}
	series := &feature.Series{}
	r.Resample(&feature.Batch{N: len(keys), Keys: keys, Times: times, Fields: fields}, 0, math.MaxInt, series, nil)
	t := &Table{Keys: series.Keys, Times: series.Times, Filled: series.Filled}
	for _, col := range series.Columns {
		t.add(col)
	}
	in := &feature.Batch{N: series.Len(), Keys: series.Keys, Times: series.Times}
	for _, f := range agg.Fields() {
		i := t.Column(f.Name)
		if i < 0 {
			return nil, fmt.Errorf("a window aggregates %q, which is not a field of the series", f.Name)
		}
		in.Fields = append(in.Fields, series.Columns[i])
	}
	out := make([]*event.Column, len(windows))
	for i := range out {
		out[i] = &event.Column{}
	}
	agg.Update(in, out, nil)
	for i, col := range out {
		col.Name = windows[i].Name
		t.add(col)
	}
	return t, nil
}

func (t *Table) add(c *event.Column) {
	values := make([]float64, len(t.Keys))
	for i := range values {
		switch {
		case c.IsNull(i):
			values[i] = math.NaN()
		case c.Kind == event.Int:
			values[i] = float64(c.Ints[i])
		default:
			values[i] = c.Floats[i]
		}
	}
	t.Names = append(t.Names, c.Name)
	t.Columns = append(t.Columns, values)
}
