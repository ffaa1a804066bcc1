package feature

import (
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/errkind"
)

// maxTableBytes bounds what a table's file may unpack to.
const maxTableBytes = 1 << 30

// tableSource is a table's file, read and split into cells.
type tableSource struct {
	path  string
	names []string
	rows  []tableRow
}

type tableRow struct {
	line  int
	cells []tableCell
}

type cellForm uint8

const (
	nullCell cellForm = iota
	numberCell
	boolCell
	textCell
)

type tableCell struct {
	form   cellForm
	text   string
	number float64
}

func readTable(path string) (*tableSource, error) {
	data, err := readPacked(path)
	if err != nil {
		kind := errkind.Config
		if errors.Is(err, fs.ErrNotExist) {
			kind = errkind.NotFound
		}
		return nil, errkind.Errorf(kind, "read lookup table: %w", err)
	}
	s := &tableSource{path: path}
	switch ext := filepath.Ext(strings.TrimSuffix(path, ".gz")); ext {
	case ".csv":
		err = s.parseCSV(data)
	case ".json", ".ndjson", ".jsonl":
		err = s.parseJSON(data)
	default:
		err = errkind.Errorf(errkind.Config, "%s: cannot tell the format from %q: use .csv, .json, .ndjson or .jsonl, or one of them with .gz", path, ext)
	}
	if err != nil {
		return nil, err
	}
	if len(s.rows) > math.MaxInt32 {
		return nil, errkind.Errorf(errkind.Config, "%s: more than %d rows", path, math.MaxInt32)
	}
	return s, nil
}

func readPacked(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // opened for reading only
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	data, err := io.ReadAll(io.LimitReader(r, maxTableBytes+1))
	if err == nil && len(data) > maxTableBytes {
		err = fmt.Errorf("larger than %d bytes", maxTableBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), nil
}

func (s *tableSource) parseCSV(data []byte) error {
	r := csv.NewReader(bytes.NewReader(data))
	r.ReuseRecord = true
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return errkind.Errorf(errkind.Config, "%s: %w", s.path, err)
		}
		line, _ := r.FieldPos(0)
		if s.names == nil {
			s.names = slices.Clone(record)
			for i, name := range s.names {
				if slices.Contains(s.names[:i], name) {
					return errkind.Errorf(errkind.Config, "%s:%d: column %q stands twice in the header", s.path, line, name)
				}
			}
			continue
		}
		row := tableRow{line, make([]tableCell, len(record))}
		for i, text := range record {
			row.cells[i] = textToCell(text)
		}
		s.rows = append(s.rows, row)
	}
	if s.names == nil {
		return errkind.Errorf(errkind.Config, "%s: empty: want a header line with column names", s.path)
	}
	return nil
}

// textToCell reads a CSV cell. The text is kept as it is, for columns that turn out to be of strings.
func textToCell(text string) tableCell {
	c := tableCell{form: textCell, text: text}
	digits := strings.TrimLeft(text, "+-")
	switch {
	case text == "":
		c.form = nullCell
	case text == "true" || text == "false":
		c.form = boolCell
	case len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9':
	case strings.Trim(digits, "0123456789.eE+-") == "":
		if v, err := strconv.ParseFloat(text, 64); err == nil {
			c.form, c.number = numberCell, v
		}
	}
	return c
}

func (s *tableSource) parseJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	fault := func(line int, format string, args ...any) error {
		return errkind.Errorf(errkind.Config, "%s:%d: %w", s.path, line, fmt.Errorf(format, args...))
	}
	array := bytes.HasPrefix(bytes.TrimSpace(data), []byte("["))
	if array {
		if _, err := dec.Token(); err != nil {
			return fault(1, "%w", err)
		}
	}
	type object struct {
		line    int
		members map[string]any
	}
	var (
		objects []object
		names   = map[string]bool{}
		line    = 1
		counted = 0
	)
	for {
		// The next value begins behind white space and a comma.
		at := int(dec.InputOffset())
		for at < len(data) && strings.IndexByte(" \t\r\n,", data[at]) >= 0 {
			at++
		}
		line += bytes.Count(data[counted:at], []byte("\n"))
		counted = at
		if array && !dec.More() {
			break
		}
		var members map[string]any
		err := dec.Decode(&members)
		if errors.Is(err, io.EOF) && !array {
			break
		}
		if err != nil {
			return fault(line, "want an object: %w", err)
		}
		objects = append(objects, object{line, members})
		for name := range members {
			names[name] = true
		}
	}
	if array {
		if _, err := dec.Token(); err != nil {
			return fault(line, "want the end of the array: %w", err)
		}
	}
	for name := range names {
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	for _, o := range objects {
		row := tableRow{o.line, make([]tableCell, len(s.names))}
		for i, name := range s.names {
			var ok bool
			if row.cells[i], ok = valueToCell(o.members[name]); !ok {
				return fault(o.line, "member %q is an object or array: want a number, string or boolean", name)
			}
		}
		s.rows = append(s.rows, row)
	}
	return nil
}

func valueToCell(v any) (c tableCell, ok bool) {
	switch v := v.(type) {
	case nil:
		return tableCell{}, true
	case bool:
		return tableCell{form: boolCell, text: strconv.FormatBool(v)}, true
	case string:
		return tableCell{form: textCell, text: v}, true
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return tableCell{form: textCell, text: v.String()}, true
		}
		return tableCell{form: numberCell, text: v.String(), number: f}, true
	}
	return tableCell{}, false
}
