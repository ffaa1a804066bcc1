package cli

import (
	"encoding/json"
	"unicode/utf8"
)

// objectFields finds members of the JSON object b by their names and puts the
// text of each value into values, at the name's place; absent ones become nil.
// Of a name that stands there twice the last counts. It reports whether b is a
// JSON object in UTF-8.
func objectFields(b []byte, names []string, values [][]byte) bool {
	clear(values)
	if !utf8.Valid(b) || !json.Valid(b) {
		return false
	}
	// From here on b is valid JSON, which spares the bounds checks.
	i := skipSpace(b, 0)
	if b[i] != '{' {
		return false
	}
	i = skipSpace(b, i+1)
	for b[i] != '}' {
		start := i
		i = skipValue(b, i)
		name := b[start:i]
		i = skipSpace(b, skipSpace(b, i)+1) // the colon
		start = i
		i = skipValue(b, i)
		for n, want := range names {
			if nameIs(name, want) {
				values[n] = b[start:i]
			}
		}
		if i = skipSpace(b, i); b[i] == ',' {
			i = skipSpace(b, i+1)
		}
	}
	return true
}

// nameIs compares the JSON string quoted with a name.
func nameIs(quoted []byte, name string) bool {
	if inner := quoted[1 : len(quoted)-1]; string(inner) == name {
		return true
	}
	for _, c := range quoted {
		if c == '\\' {
			var s string
			return json.Unmarshal(quoted, &s) == nil && s == name
		}
	}
	return false
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

func skipValue(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch c := b[i]; c {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			i++
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ' ', '\t', '\r', '\n', ',', ':':
			i++
		default:
			for i < len(b) && b[i] != ',' && b[i] != ']' && b[i] != '}' && b[i] > ' ' {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return i
}

// scalarText is the text by which a value serves as id or key: the content of
// a string, the digits of a number. It is nil for anything else and for the empty string.
func scalarText(value []byte) []byte {
	if len(value) == 0 {
		return nil
	}
	switch value[0] {
	case '"':
		inner := value[1 : len(value)-1]
		for _, c := range inner {
			if c == '\\' {
				var s string
				if json.Unmarshal(value, &s) != nil || s == "" {
					return nil
				}
				return []byte(s)
			}
		}
		if len(inner) == 0 {
			return nil
		}
		return inner
	case '{', '[', 'n', 't', 'f':
		return nil
	}
	return value
}
