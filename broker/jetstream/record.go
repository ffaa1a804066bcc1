package jetstream

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"net/url"
	"slices"
	"strings"
	"unsafe"

	"github.com/nats-io/nats.go"

	"github.com/freshet-io/freshet/event"
)

// Headers of a message that have a meaning here.
const (
	headerID     = "ce-id"
	headerKey    = "ce-partitionkey"
	headerMsgID  = "Nats-Msg-Id"
	headerPacked = "Freshet-Packed"
	// nativePrefix is that of CloudEvents attributes in the NATS binding.
	nativePrefix = "ce-"
	prefix       = "ce_"
)

// encoder lays records into messages. Everything that it hands out is valid
// until its next call: the client writes a message before it returns.
type encoder struct {
	msg    nats.Msg
	values []string // of the headers, one slice of one string each
	packed []byte
}

func newEncoder() *encoder {
	return &encoder{msg: nats.Msg{Header: nats.Header{}}, values: make([]string, 0, 64)}
}

// encode makes the message of a record. With dedup the server drops it where it
// knows its ID.
func (e *encoder) encode(r *event.Record, dedup bool) *nats.Msg {
	clear(e.msg.Header)
	e.values = e.values[:0]
	e.msg.Data = r.Value
	plain := len(r.ID) == 0 || plainValue(r.ID)
	if plain && len(r.ID) > 0 {
		e.set(headerID, e.percent(r.ID))
	}
	if len(r.Key) > 0 {
		if plainValue(r.Key) {
			e.set(headerKey, e.percent(r.Key))
		} else {
			plain = false
		}
	}
	if !e.attributes(r.Headers) || !plain {
		e.packed = pack(e.packed[:0], r)
		e.set(headerPacked, base64.StdEncoding.EncodeToString(e.packed))
	}
	if dedup && len(r.ID) > 0 {
		if plainValue(r.ID) {
			e.set(headerMsgID, view(r.ID))
		} else {
			e.set(headerMsgID, "base64:"+base64.StdEncoding.EncodeToString(r.ID))
		}
	}
	return &e.msg
}

// attributes lays headers into the message, and says whether they come back from
// there alone: in an order of which the message, a map, knows nothing.
func (e *encoder) attributes(h event.Headers) bool {
	whole := true
	var last []byte
	for len(h) > 0 {
		k, v, rest, ok := h.Cut()
		if !ok {
			return false
		}
		h = rest
		if order(last, k) > 0 {
			whole = false
		}
		last = k
		if !plainKey(k) || !plainValue(v) {
			whole = false
			continue
		}
		name := view(k)
		value := view(v)
		if strings.HasPrefix(name, prefix) {
			name = native(name)
			value = e.percent(v)
		}
		if have := e.msg.Header[name]; have != nil {
			e.msg.Header[name] = append(slices.Clip(have), value)
			continue
		}
		e.set(name, value)
	}
	return whole
}

func (e *encoder) set(name, value string) {
	if len(e.values) == cap(e.values) { // slices of the old ones stay as they are
		e.values = make([]string, 0, 2*cap(e.values))
	}
	e.values = append(e.values, value)
	n := len(e.values)
	e.msg.Header[name] = e.values[n-1 : n : n]
}

// percent encodes a value as the CloudEvents bindings for text headers say.
func (e *encoder) percent(v []byte) string {
	const hex = "0123456789ABCDEF"
	i := 0
	for i < len(v) && !escaped(v[i]) {
		i++
	}
	if i == len(v) {
		return view(v)
	}
	out := make([]byte, 0, len(v)+16)
	for _, c := range v {
		if escaped(c) {
			out = append(out, '%', hex[c>>4], hex[c&15])
		} else {
			out = append(out, c)
		}
	}
	return string(out)
}

func escaped(c byte) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '%' }

// view is b as a string, for as long as b does not change.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// plainValue says whether a header's value comes back as it was.
func plainValue(v []byte) bool {
	if len(v) == 0 {
		return true
	}
	for _, c := range v {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	return v[0] != ' ' && v[len(v)-1] != ' '
}

// plainKey says whether a header's name comes back as it was, and means nothing
// to the server or to this adapter.
func plainKey(k []byte) bool {
	if len(k) == 0 {
		return false
	}
	for _, c := range k {
		if c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	name := view(k)
	switch {
	case hasPrefixFold(name, "nats-"), hasPrefixFold(name, "freshet-"), hasPrefixFold(name, nativePrefix),
		name == event.HeaderID, name == event.HeaderPartitionKey, name == "Status", name == "Description":
		return false
	case hasPrefixFold(name, prefix):
		return strings.ToLower(name) == name
	}
	return name == event.HeaderContentType || !strings.EqualFold(name, event.HeaderContentType)
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// natives are the names of common attributes, so that they need not be made.
var natives = map[string]string{
	event.HeaderSpecVersion: "ce-specversion", event.HeaderSource: "ce-source", event.HeaderType: "ce-type",
	event.HeaderTime: "ce-time", event.HeaderSubject: "ce-subject", event.HeaderDataSchema: "ce-dataschema",
	"ce_traceparent": "ce-traceparent", "ce_tracestate": "ce-tracestate",
}

func native(name string) string {
	if n, ok := natives[name]; ok {
		return n
	}
	return nativePrefix + name[len(prefix):]
}

// order is that in which headers come back: as package event lays them out,
// and the others by name.
func order(a, b []byte) int {
	if ra, rb := rank(a), rank(b); ra != rb {
		return ra - rb
	}
	return bytes.Compare(a, b)
}

func rank(k []byte) int {
	switch string(k) {
	case "":
		return -1
	case event.HeaderSpecVersion:
		return 0
	case event.HeaderSource:
		return 1
	case event.HeaderType:
		return 2
	case event.HeaderTime:
		return 3
	case event.HeaderContentType:
		return 4
	}
	return 5
}

// pack appends a record's id, key and headers.
func pack(b []byte, r *event.Record) []byte {
	b = binary.AppendUvarint(b, uint64(len(r.ID)))
	b = append(b, r.ID...)
	b = binary.AppendUvarint(b, uint64(len(r.Key)))
	b = append(b, r.Key...)
	return append(b, r.Headers...)
}

func unpack(b []byte, r *event.Record) bool {
	id, b, ok := cut(b)
	if !ok {
		return false
	}
	key, b, ok := cut(b)
	if !ok || !event.Headers(b).Valid() {
		return false
	}
	r.ID, r.Key, r.Headers = id, key, b
	return true
}

func cut(b []byte) (v, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	end := w + int(n)
	return b[w:end:end], b[end:], true
}

// arena is memory for the ids, keys and headers of a batch.
type arena struct {
	chunk []byte
	names []header
}

type header struct{ name, value string }

// take returns n bytes that nobody else has.
func (a *arena) take(n int) []byte {
	if cap(a.chunk)-len(a.chunk) < n {
		a.chunk = make([]byte, 0, max(n, 64<<10))
	}
	at := len(a.chunk)
	a.chunk = a.chunk[:at+n]
	return a.chunk[at : at+n : at+n]
}

func (a *arena) bytes(s string) []byte {
	b := a.take(len(s))
	copy(b, s)
	return b
}

// decode reads a message. keyed says that the last token of its subject is the
// key of messages that name none themselves.
func (a *arena) decode(m *nats.Msg, subject string, keyed bool, r *event.Record) {
	r.Value = m.Data
	if len(m.Header) > 0 {
		if p := m.Header[headerPacked]; len(p) == 1 {
			b := a.take(base64.StdEncoding.DecodedLen(len(p[0])))
			n, err := base64.StdEncoding.Decode(b, unsafe.Slice(unsafe.StringData(p[0]), len(p[0])))
			if err == nil && unpack(b[:n:n], r) {
				return
			}
		}
		a.headers(m.Header, r)
	}
	if keyed && r.Key == nil {
		r.Key = a.bytes(subject[strings.LastIndexByte(subject, '.')+1:])
	}
}

func (a *arena) headers(h nats.Header, r *event.Record) {
	a.names = a.names[:0]
	size := 0
	msgID := ""
	for name, values := range h {
		switch {
		case name == headerPacked, hasPrefixFold(name, "nats-"):
			if strings.EqualFold(name, headerMsgID) && len(values) > 0 {
				msgID = values[0]
			}
			continue
		case hasPrefixFold(name, nativePrefix), hasPrefixFold(name, prefix):
			name = attribute(name)
		case strings.EqualFold(name, event.HeaderContentType):
			name = event.HeaderContentType
		}
		for _, v := range values {
			if strings.HasPrefix(name, prefix) {
				v = unpercent(v)
			}
			switch name {
			case event.HeaderID:
				r.ID = a.bytes(v)
				continue
			case event.HeaderPartitionKey:
				r.Key = a.bytes(v)
				continue
			}
			a.names = append(a.names, header{name, v})
			size += len(name) + len(v) + 2*binary.MaxVarintLen32
		}
	}
	if r.ID == nil && msgID != "" {
		r.ID = a.bytes(msgID)
	}
	if len(a.names) == 0 {
		return
	}
	// An insertion sort keeps repeats as they came, and there are few.
	for i := 1; i < len(a.names); i++ {
		for j := i; j > 0 && order(peek(a.names[j-1].name), peek(a.names[j].name)) > 0; j-- {
			a.names[j-1], a.names[j] = a.names[j], a.names[j-1]
		}
	}
	out := event.Headers(a.take(size)[:0])
	for _, n := range a.names {
		out = out.AppendString(n.name, n.value)
	}
	r.Headers = out
}

func peek(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// attribute is the name under which topics carry a CloudEvents attribute.
func attribute(name string) string {
	switch name {
	case headerID:
		return event.HeaderID
	case headerKey:
		return event.HeaderPartitionKey
	case "ce-specversion":
		return event.HeaderSpecVersion
	case "ce-source":
		return event.HeaderSource
	case "ce-type":
		return event.HeaderType
	case "ce-time":
		return event.HeaderTime
	case "ce-subject":
		return event.HeaderSubject
	}
	return prefix + strings.ToLower(name[len(prefix):])
}

func unpercent(v string) string {
	if strings.IndexByte(v, '%') < 0 {
		return v
	}
	if s, err := url.PathUnescape(v); err == nil {
		return s
	}
	return v
}
