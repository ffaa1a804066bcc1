package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/errkind"
)

// source is a contract's file, read strictly, with the place of everything in it.
type source struct {
	name   string
	data   []byte
	root   any                 // as encoding/json gives it, with json.Number
	places map[string]int      // JSON pointer → byte offset of the member's key or the element
	order  map[string][]string // JSON pointer of an object → its keys in the order of the text
}

func readSource(name string, data []byte) (*source, error) {
	src := &source{name: name, data: data, places: map[string]int{}, order: map[string][]string{}}
	b := &builder{source: src}
	b.scanner.b = data
	i := b.space(0)
	src.places[""] = i
	v, i := b.value(i, "", 0)
	if i >= 0 {
		if i = b.space(i); i < len(data) {
			i = b.syntax(i, "the end of the file")
		}
	}
	if i < 0 {
		at := max(b.fault.at, 0)
		return nil, src.errorAt(at, "%s", b.fault.what)
	}
	src.root = v
	return src, nil
}

// errorAt is a Config error at a byte of the file.
func (s *source) errorAt(at int, format string, args ...any) error {
	line := 1 + bytes.Count(s.data[:at], []byte{'\n'})
	column := at - bytes.LastIndexByte(s.data[:at], '\n')
	return errkind.Errorf(errkind.Config, "%s:%d:%d: %w", s.name, line, column, fmt.Errorf(format, args...))
}

// errorf is a Config error at the member or element that pointer names.
func (s *source) errorf(pointer, format string, args ...any) error {
	at, ok := s.places[pointer]
	for !ok && pointer != "" {
		pointer = pointer[:strings.LastIndexByte(pointer, '/')]
		at, ok = s.places[pointer]
	}
	if pointer != "" {
		format = strings.ReplaceAll(pointer[1:], "%", "%%") + ": " + format
	}
	return s.errorAt(at, format, args...)
}

// at is a pointer's child.
func at(pointer, key string) string {
	if strings.ContainsAny(key, "~/") {
		key = strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
	}
	return pointer + "/" + key
}

func atIndex(pointer string, i int) string { return pointer + "/" + strconv.Itoa(i) }

// lookup returns the value that a JSON pointer names.
func (s *source) lookup(pointer string) (any, bool) {
	v := s.root
	if pointer == "" {
		return v, true
	}
	if pointer[0] != '/' {
		return nil, false
	}
	for seg := range strings.SplitSeq(pointer[1:], "/") {
		seg = strings.NewReplacer("~1", "/", "~0", "~").Replace(seg)
		switch x := v.(type) {
		case map[string]any:
			var ok bool
			if v, ok = x[seg]; !ok {
				return nil, false
			}
		case []any:
			i, err := strconv.Atoi(seg)
			if err != nil || i < 0 || i >= len(x) {
				return nil, false
			}
			v = x[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// builder makes values of a source's text.
type builder struct {
	scanner
	source *source
}

func (b *builder) value(i int, pointer string, depth int) (any, int) {
	if i < len(b.b) && (b.b[i] == '{' || b.b[i] == '[') && depth >= maxDepth {
		return nil, b.tooDeep(i)
	}
	switch {
	case i >= len(b.b):
		return nil, b.syntax(i, "a value")
	case b.b[i] == '{':
		return b.object(i, pointer, depth)
	case b.b[i] == '[':
		return b.array(i, pointer, depth)
	case b.b[i] == '"':
		end, _, _ := b.quoted(i + 1)
		if end < 0 {
			return nil, -1
		}
		return strings.Clone(b.unescape(i+1, end)), end + 1
	}
	end := b.skip(i, depth)
	if end < 0 {
		return nil, -1
	}
	switch text := string(b.b[i:end]); text {
	case "true":
		return true, end
	case "false":
		return false, end
	case "null":
		return nil, end
	default:
		return json.Number(text), end
	}
}

func (b *builder) object(i int, pointer string, depth int) (any, int) {
	m := map[string]any{}
	if i = b.space(i + 1); i < len(b.b) && b.b[i] == '}' {
		return m, i + 1
	}
	for {
		start := i
		name, next := b.key(i)
		if next < 0 {
			return nil, -1
		}
		name = strings.Clone(name)
		if _, ok := m[name]; ok {
			return nil, b.twice(start, name)
		}
		child := at(pointer, name)
		b.source.places[child] = start
		b.source.order[pointer] = append(b.source.order[pointer], name)
		var v any
		if v, i = b.value(next, child, depth+1); i < 0 {
			return nil, -1
		}
		m[name] = v
		var done bool
		if i, done = b.comma(i, '}'); done {
			return m, i
		}
	}
}

func (b *builder) array(i int, pointer string, depth int) (any, int) {
	list := []any{}
	if i = b.space(i + 1); i < len(b.b) && b.b[i] == ']' {
		return list, i + 1
	}
	for {
		child := atIndex(pointer, len(list))
		b.source.places[child] = i
		var v any
		if v, i = b.value(i, child, depth+1); i < 0 {
			return nil, -1
		}
		list = append(list, v)
		var done bool
		if i, done = b.comma(i, ']'); done {
			return list, i
		}
	}
}
