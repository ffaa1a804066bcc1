package event

import (
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/freshet-io/freshet/errkind"
)

// Names of the headers that carry CloudEvents attributes on a topic: those of
// the Kafka protocol binding. An attribute without a name here is "ce_" + its name.
const (
	HeaderSpecVersion  = "ce_specversion"
	HeaderID           = "ce_id"
	HeaderSource       = "ce_source"
	HeaderType         = "ce_type"
	HeaderTime         = "ce_time"
	HeaderSubject      = "ce_subject"
	HeaderDataSchema   = "ce_dataschema"
	HeaderPartitionKey = "ce_partitionkey"
	HeaderContentType  = "content-type"
)

// Media types of CloudEvents in JSON.
const (
	TypeStructured = "application/cloudevents+json"
	TypeBatch      = "application/cloudevents-batch+json"
)

const (
	headerPrefix = "ce_"
	specVersion  = "1.0"
)

// Mode is how an event is laid into a message.
type Mode uint8

const (
	// Plain is a payload without CloudEvents attributes.
	Plain Mode = iota
	// Binary has the attributes in headers and the data as the body.
	Binary
	// Structured has one whole event as JSON in the body.
	Structured
	// Batched has a JSON array of whole events in the body.
	Batched
	// Foreign is a CloudEvents format other than JSON.
	Foreign
)

// ModeOf tells the mode of a record from its headers.
func ModeOf(h Headers) Mode {
	if len(h) == 0 {
		return Plain
	}
	ct, _ := h.Get(HeaderContentType)
	if m := ModeOfType(ct); m != Plain {
		return m
	}
	if _, ok := h.Get(HeaderSpecVersion); ok {
		return Binary
	}
	return Plain
}

// ModeOfType tells the modes that a content type alone decides; Plain for all others.
func ModeOfType[T string | []byte](contentType T) Mode {
	const prefix = "application/cloudevents"
	if len(contentType) < len(prefix) || !strings.EqualFold(string(contentType[:len(prefix)]), prefix) {
		return Plain
	}
	mt := strings.ToLower(mediaType(string(contentType)))
	switch mt {
	case TypeStructured:
		return Structured
	case TypeBatch:
		return Batched
	}
	return Foreign
}

// mediaType cuts the parameters off a content type.
func mediaType(contentType string) string {
	mt, _, _ := strings.Cut(contentType, ";")
	return strings.TrimSpace(mt)
}

// isJSONType reports whether a content type says JSON: */json or *+json. An
// absent one does too, as the JSON event format demands.
func isJSONType(contentType string) bool {
	mt := strings.ToLower(mediaType(contentType))
	return mt == "" || strings.HasSuffix(mt, "/json") || strings.HasSuffix(mt, "+json")
}

// FromHTTP reads the events of one HTTP message, in whichever mode its headers
// say. header is an http.Header; its keys are compared without case. A plain
// body gives one record with the body as its value and no ID and key. Records
// alias body. Every error is Invalid.
func FromHTTP(header map[string][]string, body []byte) ([]Record, error) {
	contentType := ""
	ce := false
	for k, v := range header {
		switch {
		case strings.EqualFold(k, HeaderContentType) && len(v) > 0:
			contentType = v[0]
		case strings.EqualFold(k, "ce-specversion"):
			ce = true
		}
	}
	var r Record
	var err error
	switch m := ModeOfType(contentType); {
	case m == Batched:
		return SplitBatch(body)
	case m == Structured:
		r, err = FromStructured(body)
	case m == Foreign:
		return nil, errkind.Errorf(errkind.Invalid, "read event: content type %s is not read here; use %s, %s or binary mode",
			shorten(contentType), TypeStructured, TypeBatch)
	case ce:
		r, err = FromBinaryHTTP(header, body)
	default:
		r.Value = body
		if contentType != "" {
			r.Headers = r.Headers.AppendString(HeaderContentType, contentType)
		}
	}
	if err != nil {
		return nil, err
	}
	return []Record{r}, nil
}

// FromBinaryHTTP reads a binary-mode event: attributes in ce-* headers, percent
// decoded as the HTTP binding says, and body as the data. The record is in
// binary mode: ID and Key from ce-id and ce-partitionkey, the rest in Headers.
// Value is body itself.
func FromBinaryHTTP(header map[string][]string, body []byte) (Record, error) {
	r := Record{Value: body}
	var a attributes
	for k, vs := range header {
		isCE := len(k) > 3 && strings.EqualFold(k[:3], "ce-")
		if !isCE && !strings.EqualFold(k, HeaderContentType) {
			continue
		}
		if len(vs) != 1 {
			return Record{}, errkind.Errorf(errkind.Invalid, "read event: header %s is given %d times, expected once", k, len(vs))
		}
		if !isCE {
			a.contentType = vs[0]
			continue
		}
		v, err := percentDecode(vs[0])
		if err != nil {
			return Record{}, errkind.Errorf(errkind.Invalid, "read event: header %s: %w", k, err)
		}
		if err := a.set(strings.ToLower(k[3:]), v); err != nil {
			return Record{}, err
		}
	}
	if err := a.fill(&r); err != nil {
		return Record{}, err
	}
	return r, nil
}

func percentDecode(s string) (string, error) {
	if strings.IndexByte(s, '%') < 0 {
		return s, nil
	}
	return url.PathUnescape(s)
}

// attributes are the context attributes of one event on their way into a record.
type attributes struct {
	specVersion, id, source, typ, time, partitionKey, contentType string
	rest                                                          []attribute
}

type attribute struct{ name, value string }

// set takes one attribute by its CloudEvents name.
func (a *attributes) set(name, value string) error {
	if err := checkAttribute(name, value); err != nil {
		return err
	}
	switch name {
	case "specversion":
		a.specVersion = value
	case "id":
		a.id = value
	case "source":
		a.source = value
	case "type":
		a.typ = value
	case "time":
		a.time = value
	case "partitionkey":
		a.partitionKey = value
	case "datacontenttype":
		a.contentType = value
	default:
		a.rest = append(a.rest, attribute{name, value})
	}
	return nil
}

// fill checks the attributes together and lays them into r in binary mode.
func (a *attributes) fill(r *Record) error {
	if err := checkRequired(a.specVersion, a.id, a.source, a.typ, a.time); err != nil {
		return err
	}
	r.ID = []byte(a.id)
	if a.partitionKey != "" {
		r.Key = []byte(a.partitionKey)
	}
	n := 96 + len(a.source) + len(a.typ) + len(a.time) + len(a.contentType)
	for _, x := range a.rest {
		n += len(x.name) + len(x.value) + 8
	}
	h := make(Headers, 0, n)
	h = h.AppendString(HeaderSpecVersion, specVersion).
		AppendString(HeaderSource, a.source).
		AppendString(HeaderType, a.typ)
	if a.time != "" {
		h = h.AppendString(HeaderTime, a.time)
	}
	if a.contentType != "" {
		h = h.AppendString(HeaderContentType, a.contentType)
	}
	for _, x := range a.rest {
		h = h.AppendString(headerPrefix+x.name, x.value)
	}
	r.Headers = h
	return nil
}

// checkRequired checks what every CloudEvents 1.0 event must have.
func checkRequired(version, id, source, typ, at string) error {
	switch {
	case version == "":
		return errkind.New(errkind.Invalid, `read event: attribute specversion is missing, expected "1.0"`)
	case version != specVersion:
		return errkind.Errorf(errkind.Invalid, `read event: specversion is %q, expected "1.0"`, shorten(version))
	case id == "":
		return errkind.New(errkind.Invalid, "read event: attribute id is missing or empty")
	case source == "":
		return errkind.New(errkind.Invalid, "read event: attribute source is missing or empty")
	case typ == "":
		return errkind.New(errkind.Invalid, "read event: attribute type is missing or empty")
	}
	if at != "" {
		if _, err := time.Parse(time.RFC3339Nano, at); err != nil {
			return errkind.Errorf(errkind.Invalid, "read event: attribute time is %q, expected RFC 3339 as in 2006-01-02T15:04:05Z", shorten(at))
		}
	}
	return nil
}

// checkAttribute checks one attribute's name and value against the CloudEvents
// type system: names of a–z and 0–9, values of valid UTF-8 without control characters.
func checkAttribute(name, value string) error {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return errkind.Errorf(errkind.Invalid, "read event: attribute name %q: expected only a-z and 0-9", shorten(name))
		}
	}
	if name == "" || name == "data" {
		return errkind.Errorf(errkind.Invalid, "read event: attribute name %q is not allowed", name)
	}
	if !utf8.ValidString(value) {
		return errkind.Errorf(errkind.Invalid, "read event: attribute %s is not valid UTF-8", shorten(name))
	}
	for _, c := range value {
		if c < 0x20 || (c >= 0x7f && c <= 0x9f) {
			return errkind.Errorf(errkind.Invalid, "read event: attribute %s holds the control character U+%04X", shorten(name), c)
		}
	}
	return nil
}

// shorten cuts what a message quotes.
func shorten(s string) string {
	const limit = 64
	if len(s) <= limit {
		return s
	}
	n := limit
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
