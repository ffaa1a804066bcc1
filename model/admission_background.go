package model

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
)

const (
	// maxBackground is how many rows of a sample are kept: those of a longer one at even distances.
	maxBackground = 1000
	// maxSample bounds the file that a sample is read from, in bytes, and in rows.
	maxSample     = 256 << 20
	maxSampleRows = 2_000_000
)

// readBackground reads the sample of rows in a file: CSV with a header, JSON lines
// (.jsonl, .ndjson, .json) or Parquet. A column is an input, or one value of the
// only input: v.FeatureNames names those in order; without it all columns are
// taken as they come. Of more than maxBackground rows those at even distances are taken.
func readBackground(path string, v *Version) ([]inference.Tensor, error) {
	var t *table
	var err error
	switch strings.ToLower(filepath.Ext(path)) {
	case ".csv":
		t, err = readText(path, readCSV)
	case ".jsonl", ".ndjson", ".json":
		t, err = readText(path, readJSONLines)
	case ".parquet":
		t, err = readParquet(path)
	default:
		return nil, errkind.Errorf(errkind.Unsupported, "background sample %s: expected *.csv, *.jsonl or *.parquet", path)
	}
	if err == nil && t.rows < 1 {
		err = errors.New("there are no rows")
	}
	var in []inference.Tensor
	if err == nil {
		in, err = t.thin(maxBackground).fit(v.Inputs, v.FeatureNames)
	}
	switch {
	case err == nil:
		return in, nil
	case errkind.Of(err) != errkind.Unknown:
		return nil, fmt.Errorf("background sample %s: %w", path, err)
	}
	return nil, errkind.Errorf(errkind.Invalid, "background sample %s: %w", path, err)
}

// thin keeps at most n rows, at even distances.
func (t *table) thin(n int) *table {
	if t.rows <= n {
		return t
	}
	thin := &table{rows: n}
	for _, c := range t.columns {
		values := make([]any, n)
		for i := range values {
			values[i] = c.values[i*t.rows/n]
		}
		thin.columns = append(thin.columns, column{c.name, values})
	}
	return thin
}

func readText(path string, read func(io.Reader) (*table, error)) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		kind := errkind.Permanent
		if os.IsNotExist(err) {
			kind = errkind.NotFound
		}
		return nil, errkind.With(kind, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > maxSample {
		return nil, errkind.Errorf(errkind.Exhausted, "more than %d bytes: give a sample", maxSample)
	}
	return read(f)
}

func readCSV(r io.Reader) (*table, error) {
	c := csv.NewReader(r)
	c.ReuseRecord = true
	head, err := c.Read()
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	t := &table{}
	for _, name := range head {
		if err := t.add(column{name: strings.TrimSpace(name)}); err != nil {
			return nil, err
		}
	}
	for {
		row, err := c.Read()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		if t.rows++; t.rows > maxSampleRows {
			return nil, fmt.Errorf("more than %d rows: give a sample", maxSampleRows)
		}
		for i, cell := range row {
			t.columns[i].values = append(t.columns[i].values, strings.Clone(cell))
		}
	}
}

func readJSONLines(r io.Reader) (*table, error) {
	d := json.NewDecoder(r)
	d.UseNumber()
	t := &table{}
	for {
		var row json.RawMessage
		err := d.Decode(&row)
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		var one *table
		if err == nil {
			one, err = parseObject(row)
		}
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", t.rows+1, err)
		}
		if t.rows == 0 {
			for _, c := range one.columns {
				t.columns = append(t.columns, column{name: c.name})
			}
		}
		if t.rows++; t.rows > maxSampleRows {
			return nil, fmt.Errorf("more than %d rows: give a sample", maxSampleRows)
		}
		for i := range t.columns {
			var value any // a field that is not there is no value
			if c := one.column(t.columns[i].name); c != nil {
				value = c.values[0]
			}
			t.columns[i].values = append(t.columns[i].values, value)
		}
	}
}

// parseObject reads one row, keeping the order of its names.
func parseObject(b []byte) (*table, error) {
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if first, err := d.Token(); err != nil || first != json.Delim('{') {
		return nil, errors.New("expected an object")
	}
	t := &table{rows: -1}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		var value any
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		if _, nested := value.(map[string]any); nested {
			continue // an object is no value of a row
		}
		if err := t.add(column{name.(string), []any{value}}); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// backgroundJSON is background.json: for each input its values in columns.
type backgroundJSON struct {
	Rows   int                   `json:"rows"`
	Inputs []backgroundInputJSON `json:"inputs"`
}

type backgroundInputJSON struct {
	Name    string  `json:"name"`
	Type    string  `json:"type"`
	Shape   []int   `json:"shape"`
	Columns [][]any `json:"columns"`
}

func encodeBackground(in []inference.Tensor) ([]byte, error) {
	file := backgroundJSON{Rows: in[0].Rows()}
	for i := range in {
		t := &in[i]
		width := elements(t.Shape[1:])
		columns := make([][]any, width)
		for c := range columns {
			columns[c] = make([]any, file.Rows)
			for r := range columns[c] {
				columns[c][r] = elementJSON(t, r*width+c)
			}
		}
		file.Inputs = append(file.Inputs, backgroundInputJSON{t.Name, t.Type.String(), append([]int{}, t.Shape[1:]...), columns})
	}
	return json.Marshal(file)
}

// elementJSON is an element as JSON holds it: NaN and infinities are strings.
func elementJSON(t *inference.Tensor, i int) any {
	number := func(x float64, bits int) any {
		switch {
		case math.IsNaN(x):
			return "NaN"
		case math.IsInf(x, 1):
			return "Infinity"
		case math.IsInf(x, -1):
			return "-Infinity"
		}
		return json.Number(strconv.FormatFloat(x, 'g', -1, bits))
	}
	switch t.Type {
	case inference.Float32:
		return number(float64(t.F32[i]), 32)
	case inference.Float64:
		return number(t.F64[i], 64)
	case inference.Int64:
		return t.I64[i]
	case inference.Int32:
		return t.I32[i]
	case inference.Bool:
		return t.Bool[i]
	}
	return t.Str[i]
}

// LoadBackground reads the sample of rows in a version's folder, as Source.Fetch
// returns it: one tensor for each input of the model, in order. Without a sample
// the error is NotFound, of a damaged one Corrupt.
func LoadBackground(dir string) ([]inference.Tensor, error) {
	path := filepath.Join(dir, BackgroundFile)
	b, err := readAll(path, maxSample)
	if err != nil {
		return nil, fmt.Errorf("load background sample: %w", err)
	}
	in, err := decodeBackground(b)
	if err != nil {
		return nil, errkind.Errorf(errkind.Corrupt, "load background sample %s: %w", path, err)
	}
	return in, nil
}

func decodeBackground(b []byte) ([]inference.Tensor, error) {
	var file backgroundJSON
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	if err := d.Decode(&file); err != nil {
		return nil, err
	}
	if file.Rows < 1 || len(file.Inputs) == 0 {
		return nil, errors.New("there are no rows")
	}
	var in []inference.Tensor
	for _, i := range file.Inputs {
		s := inference.Signature{Name: i.Name, Type: TypeOf(i.Type), Shape: i.Shape}
		if s.Type == 0 || slices.ContainsFunc(i.Shape, func(n int) bool { return n < 1 }) || len(i.Columns) != elements(i.Shape) {
			return nil, fmt.Errorf("input %s: %d columns of type %q for the shape %v", i.Name, len(i.Columns), i.Type, i.Shape)
		}
		rows := column{name: i.Name, values: make([]any, file.Rows)}
		for r := range rows.values {
			row := make([]any, len(i.Columns))
			for c, values := range i.Columns {
				if len(values) != file.Rows {
					return nil, fmt.Errorf("input %s: column %d has %d values, expected %d", i.Name, c+1, len(values), file.Rows)
				}
				row[c] = values[r]
			}
			rows.values[r] = row
		}
		t, err := rows.tensor(s)
		if err != nil {
			return nil, err
		}
		in = append(in, t)
	}
	return in, nil
}
