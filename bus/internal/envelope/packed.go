package envelope

import (
	"bytes"
	"encoding/base64"
	"slices"
	"unicode/utf8"

	"github.com/freshet-io/freshet/event"
)

// Names of the pairs that a packed record holds besides the headers. Header
// names of users may begin with a colon too: the pairs come first.
const (
	packedID  = ":id"
	packedKey = ":key"
)

// pack is what a message cannot carry natively. id and key say whether those are in it.
func pack(r *event.Record, id, key bool) []byte {
	if name, _, _, ok := r.Headers.Cut(); ok && (string(name) == packedID || string(name) == packedKey) {
		id, key = true, true
	}
	h := make(event.Headers, 0, len(r.Headers)+len(r.ID)+len(r.Key)+16)
	if id {
		h = h.Append(packedID, r.ID)
	}
	if key {
		h = h.Append(packedKey, r.Key)
	}
	return append(h, r.Headers...)
}

// unpack lays a packed record over r; it reports false, and changes nothing,
// where b is malformed. r.Headers alias b.
func unpack(b []byte, r *event.Record) bool {
	h := event.Headers(b)
	if !h.Valid() {
		return false
	}
	for _, name := range []string{packedID, packedKey} {
		k, v, rest, ok := h.Cut()
		if !ok || string(k) != name {
			continue
		}
		h = rest
		if name == packedID {
			r.ID = v
		} else {
			r.Key = v
		}
	}
	if len(h) == 0 {
		h = nil
	}
	r.Headers = h
	return true
}

// PackedText is a packed record as text.
func PackedText(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// unpackText is unpack for what PackedText returned.
func unpackText(s string, r *event.Record) bool {
	b, err := base64.StdEncoding.DecodeString(s)
	return err == nil && unpack(b, r)
}

// Text reports whether b is UTF-8 without control characters other than tab,
// line feed and carriage return: what XML and every queue takes.
func Text(b []byte) bool {
	if !utf8.Valid(b) || bytes.ContainsFunc(b, func(c rune) bool {
		return c < 0x20 && c != '\t' && c != '\n' && c != '\r' || c == 0xFFFE || c == 0xFFFF
	}) {
		return false
	}
	return true
}

// leading are the headers that come first in a record that was read from a map,
// as in one that was read from JSON; the others follow by name.
var leading = []string{event.HeaderSpecVersion, event.HeaderSource, event.HeaderType, event.HeaderTime, event.HeaderContentType}

// before orders header names.
func before(a, b string) int {
	i, j := slices.Index(leading, a), slices.Index(leading, b)
	switch {
	case i < 0 && j < 0:
		return compare(a, b)
	case i < 0:
		return 1
	case j < 0:
		return -1
	}
	return i - j
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Nothing is the packed record without headers, for queues that take no message
// without content. It says that the record has no ID.
func Nothing() []byte { return event.Headers(nil).AppendString(packedID, "") }
