package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/freshet-io/freshet/errkind"
)

var errQuote = errors.New("a quote stands where none may be")

// splitCSV cuts one physical line of RFC 4180 CSV into fields, appended to
// fields. Unquoted fields alias line; quoted ones with doubled quotes are copied.
func splitCSV(fields [][]byte, line []byte) ([][]byte, error) {
	for {
		if len(line) == 0 || line[0] != '"' {
			end := bytes.IndexByte(line, ',')
			field := line
			if end >= 0 {
				field = line[:end]
			}
			if bytes.IndexByte(field, '"') >= 0 {
				return fields, errQuote
			}
			fields = append(fields, field)
			if end < 0 {
				return fields, nil
			}
			line = line[end+1:]
			continue
		}
		line = line[1:]
		var field []byte
		copied := false
		for {
			end := bytes.IndexByte(line, '"')
			if end < 0 {
				return fields, errors.New("a quoted field does not end on its line")
			}
			doubled := end+1 < len(line) && line[end+1] == '"'
			switch {
			case doubled:
				field, copied = append(field, line[:end+1]...), true
			case copied:
				field = append(field, line[:end]...)
			default:
				field = line[:end]
			}
			if !doubled {
				line = line[end+1:]
				break
			}
			line = line[end+2:]
		}
		fields = append(fields, field)
		switch {
		case len(line) == 0:
			return fields, nil
		case line[0] != ',':
			return fields, errQuote
		}
		line = line[1:]
	}
}

// csvColumn is one column of a CSV file: its name as JSON, quoted, with the colon, and its type.
type csvColumn struct {
	name  string
	label []byte
	typ   fieldType
}

// csvHeader reads the header line of a CSV file.
func csvHeader(line []byte, types map[string]fieldType) ([]csvColumn, error) {
	fields, err := splitCSV(nil, line)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "the header line is not CSV: %w", err)
	}
	seen := map[string]bool{}
	columns := make([]csvColumn, len(fields))
	for i, f := range fields {
		name := string(f)
		switch {
		case !utf8.ValidString(name):
			return nil, usagef("column %d of the header line is not UTF-8", i+1)
		case name == "":
			return nil, usagef("column %d of the header line has no name", i+1)
		case seen[name]:
			return nil, usagef("the header line names column %q twice", name)
		}
		seen[name] = true
		label := appendString(nil, f)
		columns[i] = csvColumn{name: name, label: append(label, ':'), typ: types[name]}
	}
	return columns, nil
}

// appendCSV appends the fields of a CSV line as one JSON object. A value that
// does not fit its column's type stays a string, for the contract to refuse; a
// column of another type than string without a value is left out.
func appendCSV(b []byte, columns []csvColumn, fields [][]byte) ([]byte, error) {
	if len(fields) != len(columns) {
		return b, fmt.Errorf("%d fields, the header has %d", len(fields), len(columns))
	}
	b = append(b, '{')
	first := true
	for i, f := range fields {
		c := &columns[i]
		if len(f) == 0 && c.typ.nonString() {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, c.label...)
		b = c.typ.appendValue(b, f)
	}
	return append(b, '}'), nil
}

// fieldType is the set of JSON types that a field may have; none means unknown.
type fieldType uint8

const (
	typeInteger fieldType = 1 << iota
	typeNumber
	typeBoolean
	typeString
)

// nonString reports whether the type is known and leaves no room for an empty string.
func (t fieldType) nonString() bool { return t != 0 && t&typeString == 0 }

func (t fieldType) appendValue(b, v []byte) []byte {
	switch {
	case t == 0 && isNumber(v), t&typeNumber != 0 && isNumber(v), t&typeInteger != 0 && isInteger(v):
		return append(b, v...)
	case t&typeBoolean != 0 && bytes.EqualFold(v, []byte("true")):
		return append(b, "true"...)
	case t&typeBoolean != 0 && bytes.EqualFold(v, []byte("false")):
		return append(b, "false"...)
	}
	return appendString(b, v)
}

func isInteger(v []byte) bool {
	if len(v) > 0 && v[0] == '-' {
		v = v[1:]
	}
	if len(v) == 0 || v[0] == '0' && len(v) > 1 {
		return false
	}
	for _, c := range v {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// isNumber reports whether v is a number by JSON's grammar.
func isNumber(v []byte) bool {
	if len(v) == 0 || v[0] != '-' && (v[0] < '0' || v[0] > '9') {
		return false
	}
	end := v[len(v)-1]
	return isInteger(v) || end >= '0' && end <= '9' && json.Valid(v)
}

// appendString appends v, which is valid UTF-8, as a JSON string.
func appendString(b, v []byte) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, c := range v {
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, '\\', 'n')
		case c == '\r':
			b = append(b, '\\', 'r')
		case c == '\t':
			b = append(b, '\\', 't')
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
