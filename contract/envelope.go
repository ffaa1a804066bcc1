package contract

import (
	"strings"
)

// Envelope reads the event id, key and time out of a plain JSON payload, for
// producers that fill a record from it. It checks only that the payload is strict
// JSON: what cannot be read is empty, and ok says that the payload is an object.
// t is in Unix nanoseconds, 0 where it cannot be read. The slices alias payload
// where the field holds no escape. It may be called concurrently.
func (c *Contract) Envelope(payload []byte) (id, key []byte, t int64, ok bool) {
	s := scanner{b: payload}
	start := s.space(0)
	if start >= len(payload) || payload[start] != '{' {
		return nil, nil, 0, false
	}
	if end := s.skip(start, 0); end < 0 || s.space(end) < len(payload) {
		return nil, nil, 0, false
	}
	id, key = s.scalar(start, c.ID), s.scalar(start, c.Key)
	if c.Time.Field != "" {
		t = s.timeAt(start, c.Time.Field)
	}
	return id, key, t, true
}

// locate finds the value at a dotted path below the object at i, which skip has passed.
func (s *scanner) locate(i int, path string) (start int, ok bool) {
	for seg := range strings.SplitSeq(path, ".") {
		if s.b[i] != '{' {
			return 0, false
		}
		if i = s.space(i + 1); s.b[i] == '}' {
			return 0, false
		}
		for {
			name, next := s.key(i)
			if i = next; name == seg {
				break
			}
			var done bool
			if i, done = s.comma(s.skip(i, 0), '}'); done {
				return 0, false
			}
		}
	}
	return i, true
}

// scalar is the text of the scalar at a path.
func (s *scanner) scalar(i int, path string) []byte {
	if path == "" {
		return nil
	}
	i, ok := s.locate(i, path)
	if !ok {
		return nil
	}
	switch s.b[i] {
	case '{', '[', 'n':
		return nil
	case '"':
		end, _, escaped := s.quoted(i + 1)
		if escaped {
			return []byte(s.unescape(i+1, end))
		}
		return s.b[i+1 : end : end]
	}
	end := s.skip(i, 0)
	return s.b[i:end:end]
}

func (s *scanner) timeAt(i int, path string) int64 {
	i, ok := s.locate(i, path)
	if !ok {
		return 0
	}
	switch c := s.b[i]; {
	case c == '"':
		end, _, _ := s.quoted(i + 1)
		if t, ok := parseTime(view(s.b[i+1:end]), true); ok {
			ns, _ := t.unixNano()
			return ns
		}
	case c == '-' || c-'0' <= 9:
		s.number(i)
		ns, _ := s.num.epochTime(s.b)
		return ns
	}
	return 0
}
