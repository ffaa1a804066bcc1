package feature

import (
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// Table is a static lookup table held in memory. It does not change once it is
// loaded and may be used by many goroutines.
type Table struct {
	rows    map[string]int32
	columns []event.Column
}

// LoadTable reads a table from a file: CSV with a header line (.csv), a JSON
// array of objects or one object a line (.json, .ndjson, .jsonl), each also with
// .gz behind. key names the column to look up by, fields the columns to keep;
// without fields all but the key are kept, in the order of the file's header or,
// for JSON, of their names.
//
// A kept column is of numbers, of booleans (true, false) or, failing both, of
// strings; digits behind a leading zero, as in a postal code, are no number. An
// empty CSV cell and a JSON null or missing member are null. Errors are of kind
// Config, or NotFound where the file is missing, and name file and line.
func LoadTable(path, key string, fields []string) (*Table, error) {
	src, err := readTable(path)
	if err != nil {
		return nil, err
	}
	keyAt, err := src.column(key)
	if err != nil {
		return nil, err
	}
	if len(fields) == 0 {
		for i, name := range src.names {
			if i != keyAt {
				fields = append(fields, name)
			}
		}
	}
	t := &Table{rows: make(map[string]int32, len(src.rows))}
	lines := make([]int, 0, len(src.rows))
	for _, row := range src.rows {
		k := row.cells[keyAt]
		if k.form == nullCell {
			return nil, errkind.Errorf(errkind.Config, "%s:%d: no value for the key %q", path, row.line, key)
		}
		if first, ok := t.rows[k.text]; ok {
			return nil, errkind.Errorf(errkind.Config, "%s:%d: key %q was given on line %d already: keep one of them", path, row.line, k.text, lines[first])
		}
		t.rows[k.text] = int32(len(lines))
		lines = append(lines, row.line)
	}
	for _, name := range fields {
		at, err := src.column(name)
		if err != nil {
			return nil, err
		}
		t.columns = append(t.columns, src.build(name, at))
	}
	return t, nil
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Has reports whether the table has a row with the key.
func (t *Table) Has(key string) bool {
	_, ok := t.rows[key]
	return ok
}

// Fields returns name and kind of the columns that Lookup fills, in order.
func (t *Table) Fields() []Field {
	out := make([]Field, len(t.columns))
	for i := range t.columns {
		out[i] = Field{t.columns[i].Name, t.columns[i].Kind}
	}
	return out
}

// Lookup fills out, one column for each field, with the rows of the first n
// keys; a key that is not in the table gives nulls.
func (t *Table) Lookup(keys []string, n int, out []*event.Column) {
	for i, c := range out {
		c.Kind = t.columns[i].Kind
		c.Reset(n)
	}
	for i, key := range keys[:n] {
		row, ok := t.rows[key]
		for j, c := range out {
			from := &t.columns[j]
			switch {
			case !ok || from.IsNull(int(row)):
				c.SetNull(i)
			case c.Kind == event.Float:
				c.Floats[i] = from.Floats[row]
			case c.Kind == event.Bool:
				c.Bools[i] = from.Bools[row]
			default:
				c.Strings[i] = from.Strings[row]
			}
		}
	}
}

// column finds a named column of the file.
func (s *tableSource) column(name string) (int, error) {
	if i := slices.Index(s.names, name); i >= 0 {
		return i, nil
	}
	return 0, errkind.Errorf(errkind.Config, "%s: no column %q: it has %s", s.path, name, strings.Join(s.names, ", "))
}

// build makes a typed column of the cells.
func (s *tableSource) build(name string, at int) event.Column {
	numbers, bools := true, true
	for _, row := range s.rows {
		switch row.cells[at].form {
		case numberCell:
			bools = false
		case boolCell:
			numbers = false
		case textCell:
			numbers, bools = false, false
		}
	}
	c := event.Column{Name: name, Kind: event.String}
	switch {
	case numbers:
		c.Kind = event.Float
	case bools:
		c.Kind = event.Bool
	}
	c.Reset(len(s.rows))
	for i, row := range s.rows {
		switch v := row.cells[at]; {
		case v.form == nullCell:
			c.SetNull(i)
		case c.Kind == event.Float:
			c.Floats[i] = v.number
		case c.Kind == event.Bool:
			c.Bools[i] = v.text == "true"
		default:
			c.Strings[i] = v.text
		}
	}
	return c
}

// LoadTimes reads from a table's file the time of each row's values, by key: an
// RFC 3339 time, a date, or a number of seconds since the Unix epoch, in the
// named column. Rows without one are left out. Errors are those of LoadTable.
func LoadTimes(path, key, column string) (map[string]int64, error) {
	src, err := readTable(path)
	if err != nil {
		return nil, err
	}
	keyAt, err := src.column(key)
	if err != nil {
		return nil, err
	}
	at, err := src.column(column)
	if err != nil {
		return nil, err
	}
	times := make(map[string]int64, len(src.rows))
	for _, row := range src.rows {
		switch c := row.cells[at]; c.form {
		case nullCell:
		case numberCell:
			times[row.cells[keyAt].text] = int64(c.number * 1e9)
		default:
			t, err := parseRowTime(c.text)
			if err != nil {
				return nil, errkind.Errorf(errkind.Config, "%s:%d: %q is not a time: write RFC 3339, for example 2026-01-05T12:00:00Z", path, row.line, c.text)
			}
			times[row.cells[keyAt].text] = t.UnixNano()
		}
	}
	return times, nil
}

func parseRowTime(s string) (t time.Time, err error) {
	for _, layout := range [...]string{time.RFC3339Nano, "2006-01-02T15:04:05", time.DateTime, time.DateOnly} {
		if t, err = time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return t, err
}
