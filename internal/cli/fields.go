package cli

import (
	"encoding/json"
	"unicode/utf8"

	"github.com/freshet-io/freshet/internal/jsonscan"
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
	i := jsonscan.Space(b, 0)
	if b[i] != '{' {
		return false
	}
	i = jsonscan.Space(b, i+1)
	for b[i] != '}' {
		start := i
		i = jsonscan.Value(b, i)
		name := b[start:i]
		i = jsonscan.Space(b, jsonscan.Space(b, i)+1) // the colon
		start = i
		i = jsonscan.Value(b, i)
		for n, want := range names {
			if nameIs(name, want) {
				values[n] = b[start:i]
			}
		}
		if i = jsonscan.Space(b, i); b[i] == ',' {
			i = jsonscan.Space(b, i+1)
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
