package jsontensor

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/freshet-io/freshet/inference/internal/web"
)

// maxDepth is how deep lists and mappings may lie in each other.
const maxDepth = 64

// Reader is a cursor over a JSON text. Its methods move behind what they read; after
// an error the position has no meaning.
type Reader struct {
	text  []byte
	at    int
	depth int
	// Literal takes NaN, Infinity and -Infinity as numbers.
	Literal bool
	// Null takes null for NaN.
	Null bool
}

// New begins to read a text.
func New(text []byte, literal, null bool) *Reader {
	return &Reader{text: text, Literal: literal, Null: null}
}

// Peek is the first byte of the next value, 0 at the end of the text.
func (r *Reader) Peek() byte {
	for r.at < len(r.text) {
		switch c := r.text[r.at]; c {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return c
		}
	}
	return 0
}

// Mark is the position before the next value, for Back.
func (r *Reader) Mark() int { return r.at }

// Back goes to a position that Mark gave.
func (r *Reader) Back(mark int) { r.at, r.depth = mark, 0 }

// Rest is how many bytes are left.
func (r *Reader) Rest() int { return len(r.text) - r.at }

// End fails where anything but white space is left.
func (r *Reader) End() error {
	if r.Peek() != 0 || r.at < len(r.text) {
		return r.expected("the end")
	}
	return nil
}

func (r *Reader) expected(what string) error {
	if r.Peek() == 0 {
		return fmt.Errorf("expected %s, not the end of the text", what)
	}
	return fmt.Errorf("expected %s, not %s", what, web.Shown(r.text[r.at:min(len(r.text), r.at+24)]))
}

func (r *Reader) open(c byte, what string) error {
	if r.Peek() != c {
		return r.expected(what)
	}
	if r.depth++; r.depth > maxDepth {
		return errors.New("lists and mappings lie too deep in each other")
	}
	r.at++
	return nil
}

// more moves to the next element, or behind the closing byte; first says that none was read yet.
func (r *Reader) more(first bool, closing byte) (bool, error) {
	switch c := r.Peek(); {
	case c == closing:
		r.at++
		r.depth--
		return false, nil
	case first:
		return true, nil
	case c == ',':
		r.at++
		return true, nil
	}
	return false, r.expected("a comma or " + string(closing))
}

// List calls element before each element, which it has to read.
func (r *Reader) List(element func(i int) error) error {
	if err := r.open('[', "a list"); err != nil {
		return err
	}
	for i := 0; ; i++ {
		more, err := r.more(i == 0, ']')
		if err != nil || !more {
			return err
		}
		if err := element(i); err != nil {
			return err
		}
	}
}

// Mapping calls value before the value of each key, which it has to read.
func (r *Reader) Mapping(value func(key string) error) error {
	if err := r.open('{', "a mapping"); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := r.more(first, '}')
		if err != nil || !more {
			return err
		}
		key, err := r.Text()
		if err != nil {
			return err
		}
		if r.Peek() != ':' {
			return r.expected("a colon")
		}
		r.at++
		if err := value(key); err != nil {
			return err
		}
	}
}

// quoted returns the next text with its quotes.
func (r *Reader) quoted() ([]byte, error) {
	if r.Peek() != '"' {
		return nil, r.expected("a text")
	}
	from := r.at
	for i := from + 1; i < len(r.text); i++ {
		switch c := r.text[i]; {
		case c == '\\':
			i++
		case c == '"':
			r.at = i + 1
			return r.text[from:r.at], nil
		}
	}
	return nil, errors.New("a text without an end")
}

// Text reads a text.
func (r *Reader) Text() (string, error) {
	q, err := r.quoted()
	if err != nil {
		return "", err
	}
	plain := true
	for _, c := range q[1 : len(q)-1] {
		if c == '\\' || c < ' ' || c > '~' {
			plain = false
			break
		}
	}
	if plain {
		return string(q[1 : len(q)-1]), nil
	}
	var s string
	if err := json.Unmarshal(q, &s); err != nil {
		return "", fmt.Errorf("a text that is no JSON: %s", web.Shown(q))
	}
	return s, nil
}

// token reads up to what ends a number or word.
func (r *Reader) token() []byte {
	r.Peek()
	from := r.at
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ',', ']', '}', ':', ' ', '\t', '\r', '\n', '"', '[', '{':
			return r.text[from:r.at]
		}
		r.at++
	}
	return r.text[from:]
}

// Skip moves behind a value of any kind.
func (r *Reader) Skip() error {
	switch r.Peek() {
	case 0:
		return r.expected("a value")
	case '"':
		_, err := r.Text()
		return err
	case '[':
		return r.List(func(int) error { return r.Skip() })
	case '{':
		return r.Mapping(func(string) error { return r.Skip() })
	}
	switch t := r.token(); string(t) {
	case "true", "false", "null":
		return nil
	case "NaN", "Infinity", "-Infinity":
		if r.Literal {
			return nil
		}
		return fmt.Errorf("%s is no JSON", t)
	default:
		if !isNumber(t) {
			return fmt.Errorf("expected a value, not %s", web.Shown(t))
		}
	}
	return nil
}

// Whole reads a whole number.
func (r *Reader) Whole() (int64, error) {
	t := r.token()
	n, ok := whole(t)
	if !ok {
		return 0, fmt.Errorf("expected a whole number, not %s", r.shown(t))
	}
	return n, nil
}

// Bool reads true or false.
func (r *Reader) Bool() (bool, error) {
	switch t := r.token(); string(t) {
	case "true":
		return true, nil
	case "false":
		return false, nil
	default:
		return false, fmt.Errorf("expected true or false, not %s", r.shown(t))
	}
}

// shown is a token as errors show it, or the beginning of what is there instead of one.
func (r *Reader) shown(t []byte) string {
	if len(t) == 0 {
		t = r.text[r.at:min(len(r.text), r.at+24)]
	}
	return web.Shown(t)
}

// NextIsNested says whether the next value is a list whose first element is a list.
func (r *Reader) NextIsNested() bool {
	mark := r.at
	defer func() { r.at = mark }()
	if r.Peek() != '[' {
		return false
	}
	r.at++
	return r.Peek() == '['
}
