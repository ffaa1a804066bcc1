package contract

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strconv"
	"unicode/utf8"
	"unsafe"
)

// Limits on payloads beyond what JSON says.
const (
	maxDepth       = 64  // objects and arrays inside one another
	maxNumberBytes = 256 // text of one number
	maxExponent    = 400 // written exponent of a number, either way
)

// scanner reads strict JSON (RFC 8259) from b. Its methods take the offset at
// which something begins and return the one after it, or −1 with fault set.
type scanner struct {
	b     []byte
	arena []byte // unescaped strings
	keys  []string
	big   map[keyRef]struct{} // keys of objects with many undeclared keys
	objID int32
	num   number
	fault fault
}

type keyRef struct {
	obj  int32
	name string
}

// view is b as a string without a copy.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// reset prepares for another payload. The arena is kept: rows may alias it.
func (s *scanner) reset(b []byte) {
	s.b = b
	s.keys = s.keys[:0]
	s.objID = 0
	if len(s.big) > 0 {
		clear(s.big)
	}
}

//go:noinline
func (s *scanner) fail(reason string, at int, what string) int {
	s.fault = fault{reason: reason, at: at, what: what, path: s.fault.path[:0]}
	return -1
}

// within notes, while a fault travels out, that it lies under seg.
//
//go:noinline
func (s *scanner) within(seg string) int {
	s.fault.path = append(s.fault.path, seg)
	return -1
}

// syntax reports that the text at i is not what JSON allows there.
//
//go:noinline
func (s *scanner) syntax(i int, expected string) int {
	if i >= len(s.b) {
		return s.fail(ReasonInvalidJSON, len(s.b), "the payload ends here, expected "+expected)
	}
	r, n := utf8.DecodeRune(s.b[i:])
	if r == utf8.RuneError && n == 1 {
		return s.fail(ReasonInvalidJSON, i, fmt.Sprintf("byte 0x%02x, expected %s", s.b[i], expected))
	}
	return s.fail(ReasonInvalidJSON, i, fmt.Sprintf("%q, expected %s", r, expected))
}

// space skips white space.
func (s *scanner) space(i int) int {
	for i < len(s.b) && s.b[i] <= ' ' {
		if c := s.b[i]; c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			break
		}
		i++
	}
	return i
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// quoted scans a string whose opening quote lies before i. end is the offset of
// the closing quote; extra is how many of the bytes are continuation bytes of
// UTF-8; escaped says that a backslash occurs. Eight bytes at a time are tested
// for a quote, a backslash, a control character or a byte beyond ASCII; the
// lowest flag of each subtraction is exact.
func (s *scanner) quoted(i int) (end, extra int, escaped bool) {
	b := s.b
	for {
		for i+8 <= len(b) {
			w := binary.LittleEndian.Uint64(b[i:])
			q, e := w^(ones*'"'), w^(ones*'\\')
			m := ((q-ones)&^q | (e-ones)&^e | (w-ones*0x20)&^w | w) & highs
			if m != 0 {
				i += bits.TrailingZeros64(m) >> 3
				break
			}
			i += 8
		}
		if i >= len(b) {
			return s.fail(ReasonInvalidJSON, len(b), "the payload ends inside a string"), 0, false
		}
		switch c := b[i]; {
		case c == '"':
			return i, extra, escaped
		case c == '\\':
			escaped = true
			if i = s.escape(i); i < 0 {
				return -1, 0, false
			}
		case c < 0x20:
			return s.fail(ReasonInvalidJSON, i, fmt.Sprintf("control character 0x%02x inside a string, expected an escape", c)), 0, false
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 {
				return s.fail(ReasonInvalidUTF8, i, fmt.Sprintf("byte 0x%02x is not UTF-8", c)), 0, false
			}
			extra += n - 1
			i += n
		}
	}
}

// escape checks the escape whose backslash is at i.
func (s *scanner) escape(i int) int {
	if i+1 >= len(s.b) {
		return s.fail(ReasonInvalidJSON, len(s.b), "the payload ends inside a string")
	}
	switch s.b[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
		u, ok := s.hex4(i + 2)
		switch {
		case !ok:
			return s.fail(ReasonInvalidJSON, i, `\u without four hexadecimal digits`)
		case u >= 0xdc00 && u < 0xe000:
			return s.fail(ReasonInvalidJSON, i, `half a surrogate pair`)
		case u < 0xd800 || u >= 0xe000:
			return i + 6
		}
		if i+7 < len(s.b) && s.b[i+6] == '\\' && s.b[i+7] == 'u' {
			if u, ok := s.hex4(i + 8); ok && u >= 0xdc00 && u < 0xe000 {
				return i + 12
			}
		}
		return s.fail(ReasonInvalidJSON, i, `half a surrogate pair`)
	}
	return s.syntax(i+1, `an escape (one of "\/bfnrtu)`)
}

func (s *scanner) hex4(i int) (rune, bool) {
	if i+4 > len(s.b) {
		return 0, false
	}
	var u rune
	for _, c := range s.b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		u = u<<4 | rune(c)
	}
	return u, true
}

// unescape returns the content of the string between start and end, which
// quoted has checked. It lies in the arena.
func (s *scanner) unescape(start, end int) string {
	from := len(s.arena)
	b := s.b
	for i := start; i < end; {
		c := b[i]
		if c != '\\' {
			s.arena = append(s.arena, c)
			i++
			continue
		}
		c = b[i+1]
		i += 2
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			u, _ := s.hex4(i)
			i += 4
			if u >= 0xd800 && u < 0xdc00 {
				low, _ := s.hex4(i + 2)
				u = 0x10000 + (u-0xd800)<<10 + (low - 0xdc00)
				i += 6
			}
			s.arena = utf8.AppendRune(s.arena, u)
			continue
		}
		s.arena = append(s.arena, c)
	}
	return view(s.arena[from:])
}

// key reads an object key whose opening quote is at i, and the colon and the
// white space after it.
func (s *scanner) key(i int) (name string, next int) {
	if i >= len(s.b) || s.b[i] != '"' {
		return "", s.syntax(i, "a key in quotes")
	}
	end, _, escaped := s.quoted(i + 1)
	if end < 0 {
		return "", -1
	}
	name = view(s.b[i+1 : end])
	if escaped {
		name = s.unescape(i+1, end)
	}
	return name, s.colon(end + 1)
}

// colon reads the colon after a key and white space around it.
func (s *scanner) colon(i int) int {
	if i >= len(s.b) || s.b[i] != ':' {
		if i = s.space(i); i >= len(s.b) || s.b[i] != ':' {
			return s.syntax(i, "':'")
		}
	}
	i++
	if i < len(s.b) && s.b[i] <= ' ' {
		return s.space(i)
	}
	return i
}

// comma reads what follows a member or an element: a comma and the white space
// after it, or the closing byte. done says which.
func (s *scanner) comma(i int, closing byte) (next int, done bool) {
	if i < len(s.b) && s.b[i] <= ' ' {
		i = s.space(i)
	}
	if i < len(s.b) {
		switch s.b[i] {
		case ',':
			i++
			if i < len(s.b) && s.b[i] <= ' ' {
				i = s.space(i)
			}
			return i, false
		case closing:
			return i + 1, true
		}
	}
	return s.syntax(i, "',' or '"+string(closing)+"'"), true
}

// undeclared notes a key that has no slot of its own in the current object, whose
// keys begin at base, and reports whether it is there already.
func (s *scanner) undeclared(name string, base int, obj int32) (again bool) {
	const few = 16
	n := len(s.keys) - base
	if n < few {
		for _, k := range s.keys[base:] {
			if k == name {
				return true
			}
		}
		s.keys = append(s.keys, name)
		return false
	}
	if s.big == nil {
		s.big = map[keyRef]struct{}{}
	}
	if n == few {
		for _, k := range s.keys[base:] {
			s.big[keyRef{obj, k}] = struct{}{}
		}
		s.keys = append(s.keys, name) // from now on the map alone
	}
	ref := keyRef{obj, name}
	if _, ok := s.big[ref]; ok {
		return true
	}
	s.big[ref] = struct{}{}
	return false
}

func (s *scanner) twice(i int, name string) int {
	return s.fail(ReasonInvalidJSON, i, "key "+strconv.Quote(shorten(name))+" occurs twice")
}

// word reads true, false or null.
func (s *scanner) word(i int, w string) int {
	if len(s.b)-i >= len(w) && string(s.b[i:i+len(w)]) == w {
		return i + len(w)
	}
	return s.syntax(i, "a value")
}

// skip reads any value; depth counts the objects and arrays around it.
func (s *scanner) skip(i, depth int) int {
	if i >= len(s.b) {
		return s.syntax(i, "a value")
	}
	switch c := s.b[i]; c {
	case '"':
		end, _, _ := s.quoted(i + 1)
		if end < 0 {
			return -1
		}
		return end + 1
	case '{':
		return s.skipObject(i, depth)
	case '[':
		return s.skipArray(i, depth)
	case 't':
		return s.word(i, "true")
	case 'f':
		return s.word(i, "false")
	case 'n':
		return s.word(i, "null")
	default:
		return s.number(i)
	}
}

func (s *scanner) tooDeep(i int) int {
	return s.fail(ReasonInvalidJSON, i, fmt.Sprintf("more than %d objects and arrays inside one another", maxDepth))
}

func (s *scanner) skipObject(i, depth int) int {
	if depth >= maxDepth {
		return s.tooDeep(i)
	}
	if i = s.space(i + 1); i < len(s.b) && s.b[i] == '}' {
		return i + 1
	}
	s.objID++
	base, obj, mark := len(s.keys), s.objID, len(s.arena)
	for {
		at := i
		name, next := s.key(i)
		if next < 0 {
			return -1
		}
		if s.undeclared(name, base, obj) {
			return s.twice(at, name)
		}
		if i = s.skip(next, depth+1); i < 0 {
			return s.within("." + shorten(name))
		}
		var done bool
		if i, done = s.comma(i, '}'); done {
			s.keys = s.keys[:base]
			if len(s.big) == 0 { // the map may hold names from the arena
				s.arena = s.arena[:mark]
			}
			return i
		}
	}
}

func (s *scanner) skipArray(i, depth int) int {
	if depth >= maxDepth {
		return s.tooDeep(i)
	}
	if i = s.space(i + 1); i < len(s.b) && s.b[i] == ']' {
		return i + 1
	}
	for n := 0; ; n++ {
		if i = s.skip(i, depth+1); i < 0 {
			return s.within("[" + strconv.Itoa(n) + "]")
		}
		var done bool
		if i, done = s.comma(i, ']'); done {
			return i
		}
	}
}
