package parquet

import (
	"encoding/json"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/jsonscan"
)

// members calls f with the name and the text of each member of the JSON object
// b, which is valid JSON. It reports whether b is an object.
func members(b []byte, f func(name, value []byte)) bool {
	i := jsonscan.Space(b, 0)
	if i >= len(b) || b[i] != '{' {
		return false
	}
	i = jsonscan.Space(b, i+1)
	for b[i] != '}' {
		start := i
		i = jsonscan.Value(b, i)
		name := unquote(b[start:i])
		i = jsonscan.Space(b, jsonscan.Space(b, i)+1) // the colon
		start = i
		i = jsonscan.Value(b, i)
		f(name, b[start:i])
		if i = jsonscan.Space(b, i); b[i] == ',' {
			i = jsonscan.Space(b, i+1)
		}
	}
	return true
}

// unquote is the content of a JSON string. It aliases b where that has no escape.
func unquote(b []byte) []byte {
	inner := b[1 : len(b)-1]
	for _, c := range inner {
		if c == '\\' {
			var s string
			if json.Unmarshal(b, &s) != nil {
				return inner
			}
			return []byte(s)
		}
	}
	return inner
}

// text is a scalar as text: a string's content, anything else as it is written. Null is nil.
func text(v []byte) []byte {
	switch v[0] {
	case '"':
		return unquote(v)
	case 'n':
		return nil
	}
	return v
}

// kindOf is what a value looks like; ok is false for null, which looks like nothing.
func kindOf(v []byte) (k event.Kind, ok bool) {
	switch v[0] {
	case 'n':
		return 0, false
	case 't', 'f':
		return event.Bool, true
	case '"', '{', '[':
		return event.String, true
	}
	if _, err := strconv.ParseInt(string(v), 10, 64); err != nil {
		return event.Float, true
	}
	return event.Int, true
}

// instant reads an RFC 3339 time as Unix nanoseconds.
func instant(v []byte) (ns int64, ok bool) {
	if len(v) < 2 || v[0] != '"' {
		return 0, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(v[1:len(v)-1]))
	if err != nil {
		return 0, false
	}
	ns = t.UnixNano()
	return ns, time.Unix(0, ns).Equal(t) // else it is beyond 64 bits
}

// validJSON also refuses what is not UTF-8.
func validJSON(b []byte) bool { return utf8.Valid(b) && json.Valid(b) }
