package event

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/jsonscan"
)

func isJSON(b []byte) bool { return utf8.Valid(b) && jsonscan.Valid(b) }

// appendLine appends valid JSON without line ends.
func appendLine(dst, b []byte) []byte {
	if bytes.IndexByte(b, '\n') < 0 && bytes.IndexByte(b, '\r') < 0 {
		return append(dst, b...)
	}
	buf := bytes.NewBuffer(dst)
	if err := json.Compact(buf, b); err != nil {
		return append(dst, "null"...) // not reached: b is valid
	}
	return buf.Bytes()
}

const hex = "0123456789abcdef"

// appendString appends s as a JSON string; invalid UTF-8 becomes U+FFFD.
func appendString(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	dst = append(dst, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		if c == '"' || c == '\\' {
			dst = append(dst, '\\', c)
		} else {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// The functions below read JSON that jsonscan.Valid has passed: they need no bounds
// beyond the ones that valid JSON gives.

// text returns the content of the JSON string quoted, aliasing it where it has no escape.
func text(quoted []byte) ([]byte, error) {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return inner, nil
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return nil, errkind.Errorf(errkind.Invalid, "read event: string %s: %w", shorten(string(quoted)), err)
	}
	// The standard library turns half a surrogate pair into U+FFFD, and two
	// different ids would become one.
	if strings.Count(s, "\uFFFD") > strings.Count(string(inner), "\uFFFD")+strings.Count(strings.ToLower(string(inner)), `\ufffd`) {
		return nil, errkind.Errorf(errkind.Invalid, "read event: string %s holds half a surrogate pair", shorten(string(quoted)))
	}
	return []byte(s), nil
}

// alias views b as a string while b does not change.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
