package redis

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/freshet-io/freshet/event"
)

// The fields of our own entries, always all of them and in this order, so that
// Redis stores their names once for about a hundred entries.
const (
	fieldTime    = "t"
	fieldID      = "id"
	fieldKey     = "key"
	fieldHeaders = "h"
	fieldData    = "data"
)

// valueFields hold the payload in entries of others, the first that is there.
var valueFields = [...]string{fieldData, "value", "payload"}

// decoder turns entries of one topic into records.
type decoder struct {
	topic *topic
	last  int64 // time of the record before, in Unix nanoseconds: times do not fall
}

// decode makes the record of an entry with the id and its field–value pairs.
// Slices alias the pairs. An entry with an odd number of parts has no last value.
func (d *decoder) decode(rawID []byte, pairs [][]byte) (event.Record, error) {
	i, err := parseID(rawID)
	if err != nil {
		return event.Record{}, err
	}
	var r event.Record
	if r.Position, err = d.topic.positionOf(i); err != nil {
		return event.Record{}, err
	}
	if d.topic.native {
		r.Time = int64(i.ms) * 1e6
	}
	if !own(pairs, &r) {
		foreign(pairs, &r, d.topic.typed)
	}
	r.Time = max(r.Time, d.last)
	d.last = r.Time
	return r, nil
}

// own fills the record of an entry that Freshet wrote, and reports whether it is one.
func own(pairs [][]byte, r *event.Record) bool {
	if len(pairs) != 10 || string(pairs[0]) != fieldTime || string(pairs[2]) != fieldID || string(pairs[4]) != fieldKey ||
		string(pairs[6]) != fieldHeaders || string(pairs[8]) != fieldData {
		return false
	}
	us, ok := micros(pairs[1])
	if !ok || !event.Headers(pairs[7]).Valid() {
		return false
	}
	r.Time = us * 1000
	r.ID, r.Key, r.Headers, r.Value = pairs[3], pairs[5], pairs[7], pairs[9]
	return true
}

// micros reads a decimal number of up to 15 or 16 digits.
func micros(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 16 {
		return 0, false
	}
	n := int64(0)
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// foreign fills the record of any other entry. Where one of the valueFields is
// there it is the payload, ce_id or id the id, key or ce_partitionkey the key,
// and the rest are headers. Elsewhere the entry is a row: its pairs become a
// JSON object, but for ce_ attributes, which are headers.
func foreign(pairs [][]byte, r *event.Record, typed bool) {
	value := -1
	for _, name := range valueFields {
		for i := 0; i+1 < len(pairs) && value < 0; i += 2 {
			if string(pairs[i]) == name {
				value = i
			}
		}
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, v := string(pairs[i]), pairs[i+1]
		switch {
		case i == value:
			r.Value = v
		case name == event.HeaderID, name == fieldID && value >= 0 && r.ID == nil && !has(pairs, event.HeaderID):
			r.ID = v
		case name == event.HeaderPartitionKey, name == fieldKey && value >= 0 && !has(pairs, event.HeaderPartitionKey):
			r.Key = v
		case value >= 0, strings.HasPrefix(name, "ce_"), name == event.HeaderContentType:
			r.Headers = r.Headers.Append(name, v)
		}
	}
	if value < 0 {
		r.Value = object(pairs, typed)
	}
}

func has(pairs [][]byte, name string) bool {
	for i := 0; i+1 < len(pairs); i += 2 {
		if string(pairs[i]) == name {
			return true
		}
	}
	return false
}

// object writes a row as JSON. With typed, what reads as a JSON number, true,
// false or null is one; otherwise everything is a string. Of repeated names the
// last counts. Bytes that are no UTF-8 become U+FFFD.
func object(pairs [][]byte, typed bool) []byte {
	out := []byte{'{'}
	for i := 0; i+1 < len(pairs); i += 2 {
		name := string(pairs[i])
		if strings.HasPrefix(name, "ce_") || name == event.HeaderContentType || has(pairs[i+2:], name) {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = appendString(out, name)
		out = append(out, ':')
		if v := pairs[i+1]; typed && scalar(v) {
			out = append(out, v...)
		} else {
			out = appendString(out, string(v))
		}
	}
	return append(out, '}')
}

// scalar says that b is a JSON number, true, false or null.
func scalar(b []byte) bool {
	if len(b) == 0 || len(b) > 400 {
		return false
	}
	switch c := b[0]; {
	case c == '-', c >= '0' && c <= '9':
		if last := b[len(b)-1]; last < '0' || last > '9' || !json.Valid(b) {
			return false
		}
		_, err := strconv.ParseFloat(string(b), 64) // 1e999 is no number to anybody
		return err == nil
	}
	return string(b) == "true" || string(b) == "false" || string(b) == "null"
}

func appendString(out []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	b, err := json.Marshal(s)
	if err != nil {
		return append(out, `""`...) // not reached: a string can always be written
	}
	return append(out, b...)
}
