package lineage

import (
	"math/bits"
	"strconv"
	"strings"
	"unsafe"
)

// A vector of texts is a form byte, whose bit 7 says that a set of those that are
// not empty comes first and only these follow, and, by form:
//
//	textSame      the text
//	textNumbers   what all begin with, how many digits with leading zeros (0 without), integers
//	textDigits    one of them; then of each the values of its hexadecimal digits, where the first has one, two in a byte
//	textFew       the distinct texts and which of them each row has
//	textPlain     lengths as integers, then the bytes of all
//
// Numbers, UUIDs, hashes and trace contexts thus take about as many bytes as they have information.
const (
	textSame = iota
	textNumbers
	textDigits
	textFew
	textPlain
	textSome = 1 << 7
)

const maxFewTexts = 256

// digits are the values of the lower-case hexadecimal digits + 1.
var digits = func() (t [256]byte) {
	for i, c := range "0123456789abcdef" {
		t[c] = byte(i + 1)
	}
	return t
}()

func (e *Encoder) appendTexts(b []byte, vs []string) []byte {
	if len(vs) == 0 {
		return b
	}
	same, empty := true, 0
	first := vs[0]
	for _, v := range vs {
		if v == "" {
			empty++
		}
		same = same && v == first
	}
	if same {
		return appendText(append(b, textSame), first)
	}
	some := byte(0)
	if empty > 0 {
		some = textSome
		e.some = e.some[:0]
		e.set = sized(e.set, len(vs))
		for i, v := range vs {
			e.set[i] = v != ""
			if v != "" {
				e.some = append(e.some, v)
			}
		}
		vs = e.some
	}
	// The set stands behind the form, which is known when it is tried.
	form := len(b)
	b = append(b, 0)
	if some != 0 {
		b = appendSet(b, e.set)
	}
	e.ints = sized(e.ints, len(vs))
	if len(vs) == 1 {
		b[form] = textSame | some
		return appendText(b, vs[0])
	}
	if prefix, width, ok := numbered(vs, e.ints); ok {
		b[form] = textNumbers | some
		b = appendText(b, prefix)
		return appendInts(append(b, byte(width)), e.ints)
	}
	if out, ok := appendDigits(b, vs); ok {
		out[form] = textDigits | some
		return out
	}
	if e.fewTexts(vs) {
		b[form] = textFew | some
		b = append(b, byte(len(e.texts)-1))
		for _, v := range e.texts {
			b = appendText(b, v)
		}
		width := bits.Len(uint(len(e.texts) - 1))
		return appendBits(append(b, byte(width)), e.ints, width)
	}
	b[form] = textPlain | some
	size := 0
	for i, v := range vs {
		e.ints[i] = int64(len(v))
		size += len(v)
	}
	b = room(appendInts(b, e.ints), size)
	for _, v := range vs {
		b = append(b, v...)
	}
	return b
}

// numbered reads texts that are one prefix and a number each: without leading
// zeros, or, where there are some, all with as many digits.
func numbered(vs []string, into []int64) (prefix string, width int, ok bool) {
	first := vs[0]
	at := len(first)
	for at > 0 && first[at-1]-'0' < 10 {
		at--
	}
	if at == len(first) {
		return "", 0, false
	}
	prefix = first[:at]
	even, leading := true, false
	for i, v := range vs {
		if len(v) <= at || len(v) > at+18 || v[:at] != prefix {
			return "", 0, false
		}
		number := v[at:]
		n := int64(0)
		for j := 0; j < len(number); j++ {
			d := number[j] - '0'
			if d > 9 {
				return "", 0, false
			}
			n = n*10 + int64(d)
		}
		even = even && len(v) == len(first)
		leading = leading || len(number) > 1 && number[0] == '0'
		if leading && !even {
			return "", 0, false
		}
		into[i] = n
	}
	if leading {
		width = len(first) - at
	}
	return prefix, width, true
}

// appendDigits writes texts of one length that differ in hexadecimal digits only.
func appendDigits(b []byte, vs []string) ([]byte, bool) {
	first := vs[0]
	if len(first) < 8 || len(first) > 255 {
		return b, false
	}
	n := 0
	for i := 0; i < len(first); i++ {
		if digits[first[i]] != 0 {
			n++
		}
	}
	if 2*n < len(first) {
		return b, false
	}
	from := len(b)
	b = room(appendText(b, first), (n+1)/2*len(vs))
	if n == len(first) && n%2 == 0 { // hashes: nothing but digits
		for _, v := range vs {
			if len(v) != n {
				return b[:from], false
			}
			for i := 0; i+1 < len(v); i += 2 {
				hi, lo := digits[v[i]], digits[v[i+1]]
				if hi == 0 || lo == 0 {
					return b[:from], false
				}
				b = append(b, (hi-1)<<4|(lo-1))
			}
		}
		return b, true
	}
	for _, v := range vs {
		if len(v) != len(first) {
			return b[:from], false
		}
		var held byte
		odd := false
		for i := 0; i < len(v); i++ {
			if digits[first[i]] == 0 {
				if v[i] != first[i] {
					return b[:from], false
				}
				continue
			}
			d := digits[v[i]]
			if d == 0 {
				return b[:from], false
			}
			if odd {
				b = append(b, held<<4|(d-1))
			}
			held, odd = d-1, !odd
		}
		if odd {
			b = append(b, held<<4)
		}
	}
	return b, true
}

// fewTexts gives each text its place among the distinct ones; false where these are too many.
func (e *Encoder) fewTexts(vs []string) bool {
	most := min(maxFewTexts, len(vs)/2)
	if e.distinct == nil {
		e.distinct = map[string]int64{}
	}
	clear(e.distinct)
	e.texts = e.texts[:0]
	for i, v := range vs {
		at, ok := e.distinct[v]
		if !ok {
			if len(e.texts) >= most {
				return false
			}
			at = int64(len(e.texts))
			e.distinct[v] = at
			e.texts = append(e.texts, v)
		}
		e.ints[i] = at
	}
	return true
}

// strings reads n texts. They alias the message where they can.
func (c *cursor) strings(n int) []string {
	if n == 0 || !c.spend(n) {
		return nil
	}
	form := c.byte()
	if form&textSome == 0 {
		return c.present(form, n)
	}
	set := c.set(n)
	there := 0
	for _, s := range set {
		if s {
			there++
		}
	}
	texts := c.present(form&^textSome, there)
	if c.bad {
		return nil
	}
	out := make([]string, n)
	for i, s := range set {
		if s {
			out[i] = texts[0]
			texts = texts[1:]
		}
	}
	return out
}

func (c *cursor) present(form byte, n int) []string {
	if n == 0 {
		c.fail() // nobody writes that
		return nil
	}
	switch form {
	case textSame:
		v := alias(c.bytes())
		if c.bad {
			return nil
		}
		vs := make([]string, n)
		for i := range vs {
			vs[i] = v
		}
		return vs
	case textNumbers:
		return c.numbered(n)
	case textDigits:
		return c.digits(n)
	case textFew:
		texts := make([]string, int(c.byte())+1)
		for i := range texts {
			texts[i] = alias(c.bytes())
		}
		at := c.bits(n)
		vs := make([]string, len(at))
		for i, a := range at {
			if a < 0 || a >= int64(len(texts)) {
				c.fail()
				return nil
			}
			vs[i] = texts[a]
		}
		return vs
	case textPlain:
		sizes := c.ints(n)
		vs := make([]string, len(sizes))
		for i, size := range sizes {
			if size < 0 || size > int64(len(c.b)) {
				c.fail()
				return nil
			}
			vs[i] = alias(c.take(int(size)))
		}
		return vs
	}
	c.fail()
	return nil
}

func (c *cursor) numbered(n int) []string {
	prefix := alias(c.bytes())
	width := int(c.byte())
	numbers := c.ints(n)
	// Each text may be as long as the prefix: what they take together is bounded like all else.
	if c.bad || width > 18 || !c.spend(n*(len(prefix)/16)) {
		c.fail()
		return nil
	}
	var all strings.Builder
	ends := make([]int, n)
	var buf [20]byte
	for i, v := range numbers {
		if v < 0 {
			c.fail()
			return nil
		}
		all.WriteString(prefix)
		d := strconv.AppendInt(buf[:0], v, 10)
		for range width - len(d) {
			all.WriteByte('0')
		}
		all.Write(d)
		ends[i] = all.Len()
	}
	return split(all.String(), ends)
}

func (c *cursor) digits(n int) []string {
	first := c.bytes()
	count := 0
	for _, x := range first {
		if digits[x] != 0 {
			count++
		}
	}
	size := (count + 1) / 2
	if len(first) > 255 || 2*count < len(first) {
		c.fail()
	}
	in := c.take(size * n)
	if c.bad || size == 0 {
		c.fail()
		return nil
	}
	all := make([]byte, 0, n*len(first))
	ends := make([]int, n)
	for i := range ends {
		at := 0
		for _, x := range first {
			if digits[x] != 0 {
				v := in[i*size+at/2]
				if at%2 == 0 {
					v >>= 4
				}
				x = "0123456789abcdef"[v&15]
				at++
			}
			all = append(all, x)
		}
		ends[i] = len(all)
	}
	return split(alias(all), ends)
}

func split(all string, ends []int) []string {
	vs := make([]string, len(ends))
	from := 0
	for i, end := range ends {
		vs[i] = all[from:end]
		from = end
	}
	return vs
}

// alias is b as a text; b is not changed any more.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// appendBytes writes byte strings as texts; none at all are empty ones.
func (e *Encoder) appendBytes(b []byte, vs [][]byte, from, to int) []byte {
	if len(vs) == 0 {
		if to > from {
			b = append(b, textSame, 0)
		}
		return b
	}
	e.aliases = e.aliases[:0]
	for _, v := range vs[from:to] {
		e.aliases = append(e.aliases, alias(v))
	}
	b = e.appendTexts(b, e.aliases)
	clear(e.aliases)
	return b
}
