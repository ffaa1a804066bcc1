package rabbitmq

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"github.com/freshet-io/freshet/event"
)

// Annotations of our messages.
const (
	annotationKey     = "x-opt-partition-key" // the customary one
	annotationHeaders = "x-opt-freshet-headers"
	annotationAppend  = "x-opt-freshet-append" // tells an Append from all others
)

// Prefixes of CloudEvents attributes in application properties, by the AMQP
// protocol binding; the second is for who cannot have a colon.
const (
	attributePrefix    = "cloudEvents:"
	attributePrefixAlt = "cloudEvents_"
	headerPrefix       = "ce_"
	attributeID        = attributePrefix + "id"
	attributeKey       = attributePrefix + "partitionkey"
)

// appendMessage appends r as an AMQP 1.0 message. The id is the message's,
// headers are application properties, and what those would lose (repeats, names
// that are not text) travels packed in an annotation beside them.
func appendMessage(b []byte, r *event.Record) []byte { return appendMarked(b, r, "") }

// appendMarked is appendMessage with a mark, where that is not empty.
func appendMarked(b []byte, r *event.Record, mark string) []byte {
	plain := plainHeaders(r.Headers)
	if len(r.Key) > 0 || !plain || mark != "" {
		b = appendSection(b, sectionMessageAnnotations)
		var at, n int
		b, at = openCompound(b, 0xd1)
		if len(r.Key) > 0 {
			b = appendSized(b, 0xa3, annotationKey)
			b = appendBytes(b, r.Key)
			n += 2
		}
		if !plain {
			b = appendSized(b, 0xa3, annotationHeaders)
			b = appendSized(b, 0xa0, []byte(r.Headers))
			n += 2
		}
		if mark != "" {
			b = appendSized(b, 0xa3, annotationAppend)
			b = appendSized(b, 0xa1, mark)
			n += 2
		}
		closeCompound(b, at, n)
	}
	contentType, hasType := r.Headers.Get(event.HeaderContentType)
	if hasType && !ascii(contentType) {
		hasType = false
	}
	if len(r.ID) > 0 || hasType {
		b = appendSection(b, sectionProperties)
		var at int
		b, at = openCompound(b, 0xd0)
		n := 1
		if len(r.ID) > 0 {
			b = appendBytes(b, r.ID)
		} else {
			b = append(b, 0x40)
		}
		if hasType {
			b = append(b, 0x40, 0x40, 0x40, 0x40, 0x40) // user-id to correlation-id
			b = appendSized(b, 0xa3, contentType)
			n = 7
		}
		closeCompound(b, at, n)
	}
	if len(r.Headers) > 0 {
		b = appendProperties(b, r, plain)
	}
	b = appendSection(b, sectionData)
	return appendSized(b, 0xa0, r.Value)
}

func appendProperties(b []byte, r *event.Record, plain bool) []byte {
	b = appendSection(b, sectionApplicationProperties)
	var at, n int
	b, at = openCompound(b, 0xd1)
	isEvent := false
	for h := r.Headers; len(h) > 0; {
		k, v, rest, ok := h.Cut()
		if !ok {
			break
		}
		if plain || utf8.Valid(k) && !foreignName(k) && !repeated(r.Headers, k, h) {
			if string(k) == event.HeaderSpecVersion {
				isEvent = true
			}
			b = appendName(b, k)
			b = appendBytes(b, v)
			n += 2
		}
		h = rest
	}
	if isEvent && len(r.ID) > 0 && utf8.Valid(r.ID) {
		b = appendSized(b, 0xa1, attributeID)
		b = appendSized(b, 0xa1, r.ID)
		n += 2
	}
	closeCompound(b, at, n)
	return b
}

// appendName appends a header's name as that of an application property.
func appendName(b, k []byte) []byte {
	attribute, ok := bytes.CutPrefix(k, []byte(headerPrefix))
	if !ok || len(k) > 200 {
		return appendSized(b, 0xa1, k)
	}
	b = append(b, 0xa1, byte(len(attributePrefix)+len(attribute)))
	b = append(b, attributePrefix...)
	return append(b, attribute...)
}

// manyHeaders is from where on repeats are not looked for.
const manyHeaders = 32

// plainHeaders says that application properties carry h without loss.
func plainHeaders(h event.Headers) bool {
	n := 0
	for rest := h; len(rest) > 0; n++ {
		k, _, next, ok := rest.Cut()
		if !ok || n == manyHeaders || !utf8.Valid(k) || foreignName(k) || repeated(h, k, rest) {
			return false
		}
		rest = next
	}
	return true
}

// foreignName tells names that would come back as others.
func foreignName(k []byte) bool {
	return bytes.HasPrefix(k, []byte(attributePrefix)) || bytes.HasPrefix(k, []byte(attributePrefixAlt)) ||
		string(k) == event.HeaderID || string(k) == event.HeaderPartitionKey || len(k) > 200
}

// repeated says that a pair before rest in h has the name k.
func repeated(h event.Headers, k []byte, rest event.Headers) bool {
	for len(h) > len(rest) {
		other, _, next, ok := h.Cut()
		if !ok {
			return false
		}
		if bytes.Equal(other, k) {
			return true
		}
		h = next
	}
	return false
}

func ascii(b []byte) bool {
	for _, c := range b {
		if c < 0x20 || c >= 0x7f {
			return false
		}
	}
	return true
}

// decoder reads messages. Headers are built in arena, which it never writes
// twice: what it handed out stays valid.
type decoder struct {
	arena []byte
}

// decode fills r with a message that anybody may have written. r aliases m and
// the arena. What is no AMQP 1.0 message is taken as a payload.
func (d *decoder) decode(m []byte, r *event.Record) {
	r.ID, r.Key, r.Headers, r.Value = nil, nil, nil, nil
	if !d.sections(m, r) {
		r.ID, r.Key, r.Headers, r.Value = nil, nil, nil, m
	}
}

// foreign is what a message says outside of application properties.
type foreign struct {
	id, contentType, groupID, routingKey value
	exchange                             []byte
	packed                               []byte
	hasPacked                            bool
}

func (d *decoder) sections(m []byte, r *event.Record) bool {
	var f foreign
	var properties value
	body := false
	for len(m) > 0 {
		section, v, rest, ok := cutSection(m)
		if !ok {
			return false
		}
		m = rest
		switch section {
		case sectionMessageAnnotations:
			ok = f.annotations(v, r)
		case sectionProperties:
			ok = f.properties(v)
		case sectionApplicationProperties:
			properties = v
		case sectionData:
			var data []byte
			if data, ok = v.bytes(); ok && body {
				r.Value = append(r.Value[:len(r.Value):len(r.Value)], data...)
			} else if ok {
				r.Value = data
			}
			body = true
		case sectionValue:
			if data, isBytes := v.bytes(); isBytes {
				r.Value = data
			} else {
				r.Value, _ = v.appendText(nil)
			}
			body = true
		case sectionHeader, sectionDeliveryAnnotations, sectionSequence, sectionFooter:
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	if !body {
		return false
	}
	return d.fill(r, &f, properties)
}

func cutSection(m []byte) (section byte, v value, rest []byte, ok bool) {
	if m[0] != 0 {
		return 0, v, nil, false
	}
	descriptor, rest, ok := cutValue(m[1:])
	switch {
	case !ok:
		return 0, v, nil, false
	case descriptor.code == 0x53:
		section = descriptor.body[0]
	case descriptor.code == 0x80 && bytes.Equal(descriptor.body[:7], make([]byte, 7)):
		section = descriptor.body[7]
	default:
		return 0, v, nil, false
	}
	v, rest, ok = cutValue(rest)
	return section, v, rest, ok
}

func (f *foreign) annotations(v value, r *event.Record) bool {
	n, body, ok := v.items()
	for ; ok && n >= 2; n -= 2 {
		var k, a value
		if k, body, ok = cutValue(body); !ok {
			break
		}
		if a, body, ok = cutValue(body); !ok {
			break
		}
		name, _ := k.bytes()
		switch string(name) {
		case annotationKey:
			r.Key = textOf(a)
		case annotationHeaders:
			f.packed, f.hasPacked = a.bytes()
		case "x-exchange":
			f.exchange, _ = a.bytes()
		case "x-routing-key":
			f.routingKey = a
		}
	}
	return ok
}

func (f *foreign) properties(v value) bool {
	n, body, ok := v.items()
	for i := 0; ok && i < n; i++ {
		var a value
		if a, body, ok = cutValue(body); !ok {
			break
		}
		switch i {
		case 0:
			f.id = a
		case 6:
			f.contentType = a
		case 10:
			f.groupID = a
		}
	}
	return ok
}

// textOf is a value as bytes, without a copy where it is a string; nil for null.
func textOf(v value) []byte {
	if b, ok := v.bytes(); ok {
		return b
	}
	if v.code == 0 {
		return nil
	}
	b, _ := v.appendText(nil)
	return b
}

func (d *decoder) fill(r *event.Record, f *foreign, properties value) bool {
	r.ID = textOf(f.id)
	start := len(d.arena)
	hasType := false
	n, body, ok := properties.items()
	if properties.code == 0 {
		n, ok = 0, true
	}
	for ; ok && n >= 2; n -= 2 {
		var k, v value
		if k, body, ok = cutValue(body); !ok {
			return false
		}
		if v, body, ok = cutValue(body); !ok {
			return false
		}
		name, isName := k.bytes()
		if !isName {
			continue
		}
		switch string(name) {
		case attributeID, attributePrefixAlt + "id":
			r.ID = textOf(v)
			continue
		case attributeKey, attributePrefixAlt + "partitionkey":
			if len(r.Key) == 0 {
				r.Key = textOf(v)
			}
			continue
		case event.HeaderContentType:
			hasType = true
		}
		if !f.hasPacked {
			d.header(name, v)
		}
	}
	if !ok {
		return false
	}
	if f.hasPacked && event.Headers(f.packed).Valid() {
		r.Headers = f.packed
	} else {
		if !hasType && f.contentType.code != 0 {
			if ct := textOf(f.contentType); len(ct) > 0 {
				d.grow(len(ct) + 32)
				d.arena = event.Headers(d.arena).Append(event.HeaderContentType, ct)
			}
		}
		if len(d.arena) > start {
			r.Headers = event.Headers(d.arena[start:len(d.arena):len(d.arena)])
		}
	}
	if len(r.Key) == 0 {
		if r.Key = textOf(f.groupID); len(r.Key) == 0 && len(f.exchange) > 0 {
			r.Key = textOf(f.routingKey)
		}
	}
	return true
}

// header appends one application property to the arena.
func (d *decoder) header(name []byte, v value) {
	text, ok := v.bytes()
	if !ok {
		var room [64]byte
		if text, ok = v.appendText(room[:0]); !ok {
			return
		}
	}
	var prefix string
	if a, ok := cutAttribute(name); ok {
		prefix, name = headerPrefix, a
	}
	d.grow(len(prefix) + len(name) + len(text) + 20)
	h := event.Headers(d.arena)
	if prefix != "" {
		h = appendJoined(h, prefix, name, text)
	} else {
		h = appendJoined(h, "", name, text)
	}
	d.arena = h
}

func cutAttribute(name []byte) ([]byte, bool) {
	if a, ok := bytes.CutPrefix(name, []byte(attributePrefix)); ok {
		return a, true
	}
	return bytes.CutPrefix(name, []byte(attributePrefixAlt))
}

// appendJoined is Headers.Append for a name in two parts.
func appendJoined(h event.Headers, prefix string, name, v []byte) event.Headers {
	var room [256]byte
	if len(prefix)+len(name) > len(room) {
		return h.Append(prefix+strings.Clone(string(name)), v)
	}
	k := append(append(room[:0], prefix...), name...)
	return appendPair(h, k, v)
}

// grow makes room for n bytes. Where the arena is full a new one is begun: what
// lies in the old one stays with who holds it.
func (d *decoder) grow(n int) {
	if cap(d.arena)-len(d.arena) >= n {
		return
	}
	next := make([]byte, len(d.arena), max(2*cap(d.arena), len(d.arena)+n, 4096))
	copy(next, d.arena)
	d.arena = next
}

// appendPair is Headers.Append for a name in bytes.
func appendPair(h event.Headers, k, v []byte) event.Headers {
	h = appendUvarint(h, len(k))
	h = append(h, k...)
	h = appendUvarint(h, len(v))
	return append(h, v...)
}

func appendUvarint(h event.Headers, n int) event.Headers {
	for ; n >= 0x80; n >>= 7 {
		h = append(h, byte(n)|0x80)
	}
	return append(h, byte(n))
}
