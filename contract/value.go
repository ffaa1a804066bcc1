package contract

import (
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/freshet-io/freshet/event"
)

// value reads and checks the value at i; depth counts what is around it.
func (d *Decoder) value(p *plan, i, depth int) int {
	if i >= len(d.b) {
		return d.syntax(i, "a value")
	}
	start := i
	switch c := d.b[i]; c {
	case '"':
		i = d.text(p, i)
	case '{':
		i = d.object(p, i, depth)
	case '[':
		i = d.array(p, i, depth)
	case 't', 'f', 'n':
		i = d.literal(p, i, c)
	default:
		i = d.numeral(p, i)
	}
	if p.complete != nil && i >= 0 {
		return d.validate(p.node, start, i)
	}
	return i
}

func (d *Decoder) object(p *plan, i, depth int) int {
	start := i
	switch {
	case p.types&tObject == 0:
		return d.wrongType(p, i, "an object")
	case depth >= maxDepth:
		return d.tooDeep(i)
	}
	p.enter()
	var seen uint64
	count, last := 0, len(p.props)
	base, obj := len(d.keys), int32(0)
	i++
	if i < len(d.b) && d.b[i] <= ' ' {
		i = d.space(i)
	}
	done := false
	if i < len(d.b) && d.b[i] == '}' {
		i, done = i+1, true
	}
	for ; !done; count++ {
		at := i
		var sub *plan
		k, end := p.expect(d.b, i, last)
		if k >= 0 {
			i = d.colon(end)
			sub, last = p.props[k].plan, k
			if p.mark(k, &seen) {
				return d.twice(at, p.props[k].name)
			}
		} else {
			var name string
			name, i = d.key(i)
			if i < 0 {
				return -1
			}
			var ok bool
			if k, ok = p.index[name]; ok {
				p.next[last] = int32(k)
				sub, last = p.props[k].plan, k
				if p.mark(k, &seen) {
					return d.twice(at, name)
				}
			} else {
				k = -1
				if obj == 0 {
					d.objID++
					obj = d.objID
				}
				if d.undeclared(name, base, obj) {
					return d.twice(at, name)
				}
				if sub = p.additional; sub != nil && sub.never() {
					return d.fail(ReasonSchema, at, "property "+strconv.Quote(shorten(name))+" is not allowed")
				}
				if i = d.member(sub, i, depth+1); i < 0 {
					return d.within("." + shorten(name))
				}
			}
		}
		if k >= 0 {
			if i = d.member(sub, i, depth+1); i < 0 {
				return d.within("." + shorten(p.props[k].name))
			}
		}
		i, done = d.comma(i, '}')
	}
	if i < 0 {
		return -1
	}
	d.keys = d.keys[:base]
	if name, ok := p.missing(seen); ok {
		return d.fail(ReasonSchema, start, "property "+strconv.Quote(name)+" is missing")
	}
	switch {
	case count < p.minProps:
		return d.fail(ReasonSchema, start, fmt.Sprintf("%d properties, expected at least %d", count, p.minProps))
	case p.maxProps >= 0 && count > p.maxProps:
		return d.fail(ReasonSchema, start, fmt.Sprintf("%d properties, expected at most %d", count, p.maxProps))
	}
	return i
}

// member reads a value for which there may be no plan.
func (d *Decoder) member(p *plan, i, depth int) int {
	if i < 0 {
		return -1
	}
	if p == nil {
		return d.skip(i, depth)
	}
	return d.value(p, i, depth)
}

func (d *Decoder) array(p *plan, i, depth int) int {
	start := i
	switch {
	case p.types&tArray == 0:
		return d.wrongType(p, i, "an array")
	case depth >= maxDepth:
		return d.tooDeep(i)
	}
	i = d.space(i + 1)
	done := false
	if i < len(d.b) && d.b[i] == ']' {
		i, done = i+1, true
	}
	n := 0
	for ; !done; n++ {
		sub := p.items
		if n < len(p.prefix) {
			sub = p.prefix[n]
		}
		if i = d.member(sub, i, depth+1); i < 0 {
			return d.within("[" + strconv.Itoa(n) + "]")
		}
		i, done = d.comma(i, ']')
	}
	switch {
	case i < 0:
		return -1
	case n < p.minItems:
		return d.fail(ReasonSchema, start, fmt.Sprintf("%d items, expected at least %d", n, p.minItems))
	case p.maxItems >= 0 && n > p.maxItems:
		return d.fail(ReasonSchema, start, fmt.Sprintf("%d items, expected at most %d", n, p.maxItems))
	}
	return i
}

func (d *Decoder) literal(p *plan, i int, c byte) int {
	t, w := tBool, "true"
	switch c {
	case 'f':
		w = "false"
	case 'n':
		t, w = tNull, "null"
	}
	end := d.word(i, w)
	if end < 0 {
		return -1
	}
	if p.types&t == 0 {
		return d.wrongType(p, i, w)
	}
	if len(p.enums) > 0 {
		if e := p.oneOfEnums(func(e *enumeration) bool { return c == 'n' && e.null || c == 't' && e.yes || c == 'f' && e.no }); e != nil {
			return d.notListed(i, w, e)
		}
	}
	if s := p.sink; s != nil && t == tBool {
		switch {
		case s.time:
			return d.fail(ReasonInvalidTime, i, w+", expected a time as a string or a number")
		case s.column >= 0:
			d.row(s).Bools[d.n] = c == 't'
		}
		d.role(s, w)
	}
	return end
}

// row gives the column of a sink and notes that the current row has its value.
func (d *Decoder) row(s *sink) *event.Column {
	d.stamps[s.column] = d.stamp
	return &d.columns[s.column]
}

// role keeps a scalar that is the event's id or key.
func (d *Decoder) role(s *sink, text string) {
	if s.id {
		d.gotID = text
	}
	if s.key {
		d.gotKey = text
	}
}

func (d *Decoder) text(p *plan, i int) int {
	if p.types&tString == 0 {
		return d.wrongType(p, i, "a string")
	}
	end, extra, escaped := d.quoted(i + 1)
	if end < 0 {
		return -1
	}
	s := p.sink
	if s == nil && !p.textual {
		return end + 1
	}
	mark := len(d.arena)
	var v string
	if escaped {
		v = d.unescape(i+1, end)
	} else {
		v = view(d.b[i+1 : end])
	}
	if p.textual {
		length := len(v) - extra
		if escaped {
			length = utf8.RuneCountInString(v)
		}
		if d.checkText(p.node, v, length, i) < 0 {
			return -1
		}
	}
	if s == nil {
		d.arena = d.arena[:mark]
		return end + 1
	}
	d.role(s, v)
	if s.time || (s.column >= 0 && s.kind == event.Time) {
		if d.moment(s, v, i) < 0 {
			return -1
		}
	}
	if s.column >= 0 && s.kind == event.String {
		d.row(s).Strings[d.n] = v
	}
	return end + 1
}

// moment reads a string as a time.
func (d *Decoder) moment(s *sink, v string, i int) int {
	loose := s.time || s.loose
	t, ok := parseTime(v, loose)
	if !ok {
		return d.fail(ReasonInvalidTime, i, strconv.Quote(shorten(v))+", expected a time as in 2006-01-02T15:04:05Z")
	}
	ns, ok := t.unixNano()
	if !ok {
		return d.fail(ReasonTimeOutOfRange, i, strconv.Quote(shorten(v))+" is outside the years 1678 to 2262")
	}
	d.instant(s, ns)
	return i
}

func (d *Decoder) instant(s *sink, ns int64) {
	if s.time {
		d.gotTime, d.hasTime = ns, true
	}
	if s.column >= 0 && s.kind == event.Time {
		d.row(s).Ints[d.n] = ns
	}
}

func (d *Decoder) checkText(n *node, v string, length, i int) int {
	if n.minLength >= 0 && length < n.minLength {
		return d.fail(ReasonSchema, i, fmt.Sprintf("%q has %d characters, expected at least %d", shorten(v), length, n.minLength))
	}
	if n.maxLength >= 0 && length > n.maxLength {
		return d.fail(ReasonSchema, i, fmt.Sprintf("%q has %d characters, expected at most %d", shorten(v), length, n.maxLength))
	}
	for _, e := range n.enums {
		if !e.hasString(v) {
			return d.notListed(i, strconv.Quote(shorten(v)), e)
		}
	}
	if n.pattern != nil && !n.pattern.match(v) {
		return d.fail(ReasonSchema, i, fmt.Sprintf("%q does not match the pattern %s", shorten(v), n.pattern.text))
	}
	if n.isFormat != nil && !n.isFormat(v) {
		return d.fail(ReasonSchema, i, fmt.Sprintf("%q is not of the format %s", shorten(v), n.format))
	}
	return i
}

func (d *Decoder) numeral(p *plan, i int) int {
	end := d.number(i)
	if end < 0 {
		return -1
	}
	n := &d.num
	switch {
	case p.types&tNumber != 0:
	case p.types&tInteger == 0:
		return d.wrongType(p, i, "the number "+shorten(n.text(d.b)))
	case !n.whole:
		if _, integer, _ := n.int(d.b); !integer {
			return d.wrongType(p, i, "the number "+shorten(n.text(d.b)))
		}
	}
	var f float64
	if p.numeric {
		f = n.float(d.b)
		if d.checkNumber(p.node, f, i) < 0 {
			return -1
		}
	}
	s := p.sink
	if s == nil {
		return end
	}
	if s.id || s.key {
		d.role(s, n.text(d.b))
	}
	if s.time || (s.column >= 0 && s.kind == event.Time) {
		ns, ok := n.epochTime(d.b)
		if !ok {
			return d.fail(ReasonTimeOutOfRange, i, shorten(n.text(d.b))+" is outside the years 1678 to 2262")
		}
		d.instant(s, ns)
	}
	if s.column < 0 {
		return end
	}
	switch s.kind {
	case event.Float:
		if !p.numeric {
			f = n.float(d.b)
		}
		d.row(s).Floats[d.n] = f
	case event.Int:
		v, _, fits := n.int(d.b)
		if !fits {
			return d.fail(ReasonSchema, i, shorten(n.text(d.b))+" is not an integer of 64 bits")
		}
		d.row(s).Ints[d.n] = v
	}
	return end
}

func (d *Decoder) checkNumber(n *node, f float64, i int) int {
	x, b := &d.num, d.b
	switch {
	case n.minimum != nil && n.minimum.compare(x, b, f) < 0:
		return d.badNumber(i, "expected at least", n.minimum)
	case n.maximum != nil && n.maximum.compare(x, b, f) > 0:
		return d.badNumber(i, "expected at most", n.maximum)
	case n.above != nil && n.above.compare(x, b, f) <= 0:
		return d.badNumber(i, "expected more than", n.above)
	case n.below != nil && n.below.compare(x, b, f) >= 0:
		return d.badNumber(i, "expected less than", n.below)
	case n.multipleOf != nil && !n.multipleOf.divides(x, b):
		return d.badNumber(i, "expected a multiple of", n.multipleOf)
	}
next:
	for _, e := range n.enums {
		for _, l := range e.numbers {
			if l.compare(x, b, f) == 0 {
				continue next
			}
		}
		return d.notListed(i, shorten(x.text(b)), e)
	}
	return i
}

func (d *Decoder) badNumber(i int, expected string, l *limit) int {
	return d.fail(ReasonSchema, i, fmt.Sprintf("%s, %s %s", shorten(d.num.text(d.b)), expected, l.text))
}

func (d *Decoder) notListed(i int, found string, e *enumeration) int {
	return d.fail(ReasonSchema, i, fmt.Sprintf("%s, expected %s", found, e.expected()))
}

func (d *Decoder) wrongType(p *plan, i int, found string) int {
	if p.never() {
		return d.fail(ReasonSchema, i, found+", and no value is allowed here")
	}
	return d.fail(ReasonSchema, i, found+", expected "+p.types.String())
}
