package event

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/jsonscan"
)

// Envelope is a structured-mode event taken apart. Its slices alias the JSON
// text it was read from, except where a string held an escape. Absent
// attributes are empty.
type Envelope struct {
	SpecVersion, ID, Source, Type, Time, PartitionKey, ContentType []byte
	// Data is the text of the data member, as JSON; of data_base64 the Base64
	// text without its quotes. Empty when the event has no data.
	Data []byte
	// Base64 says that Data is Base64.
	Base64 bool
	// Extensions are the other attributes, in order.
	Extensions []Attribute
}

// Attribute is a context attribute of an event.
type Attribute struct{ Name, Value []byte }

// Parse takes the structured-mode event b apart and checks it: strict JSON in
// UTF-8, no attribute twice, the required ones there, and the types that
// CloudEvents allows. It reuses e and allocates nothing where no string
// has an escape. Every error is Invalid.
func (e *Envelope) Parse(b []byte) error {
	*e = Envelope{Extensions: e.Extensions[:0]}
	if !utf8.Valid(b) {
		return errkind.New(errkind.Invalid, "read event: the envelope is not valid UTF-8")
	}
	if !jsonscan.Valid(b) {
		var v json.RawMessage
		return errkind.Errorf(errkind.Invalid, "read event: the envelope is not valid JSON: %w", json.Unmarshal(b, &v))
	}
	i := jsonscan.Space(b, 0)
	if b[i] != '{' {
		return errkind.New(errkind.Invalid, "read event: the envelope is not a JSON object")
	}
	i = jsonscan.Space(b, i+1)
	for b[i] != '}' {
		start := i
		i = jsonscan.Value(b, i)
		name, err := text(b[start:i])
		if err != nil {
			return err
		}
		i = jsonscan.Space(b, jsonscan.Space(b, i)+1) // the colon
		start = i
		i = jsonscan.Value(b, i)
		if err := e.member(name, b[start:i]); err != nil {
			return err
		}
		if i = jsonscan.Space(b, i); b[i] == ',' {
			i = jsonscan.Space(b, i+1)
		}
	}
	return checkRequired(alias(e.SpecVersion), alias(e.ID), alias(e.Source), alias(e.Type), alias(e.Time))
}

// member takes one member of the envelope; value is its JSON text.
func (e *Envelope) member(name, value []byte) error {
	switch string(name) {
	case "data":
		if e.Data != nil {
			return twice(name)
		}
		e.Data = value
		return nil
	case "data_base64":
		if e.Data != nil {
			return twice(name)
		}
		if value[0] != '"' {
			return errkind.New(errkind.Invalid, "read event: data_base64 is not a string")
		}
		data, err := text(value)
		if data == nil {
			data = value[:0]
		}
		e.Data, e.Base64 = data, true
		return err
	}
	if string(value) == "null" {
		return nil // the same as absent
	}
	var v []byte
	switch value[0] {
	case '"':
		var err error
		if v, err = text(value); err != nil {
			return err
		}
	case 't', 'f':
		v = value
	default:
		if _, err := strconv.ParseInt(alias(value), 10, 32); err != nil {
			return errkind.Errorf(errkind.Invalid, "read event: attribute %s is %s, expected a string, a boolean or an integer of 32 bits",
				shorten(string(name)), shorten(string(value)))
		}
		v = value
	}
	if err := checkAttribute(alias(name), alias(v)); err != nil {
		return err
	}
	dst := e.attribute(alias(name))
	if dst == nil {
		for i := range e.Extensions {
			if string(e.Extensions[i].Name) == string(name) {
				return twice(name)
			}
		}
		e.Extensions = append(e.Extensions, Attribute{name, v})
		return nil
	}
	if value[0] != '"' {
		return errkind.Errorf(errkind.Invalid, "read event: attribute %s is %s, expected a string", name, value)
	}
	if len(*dst) > 0 {
		return twice(name)
	}
	*dst = v
	return nil
}

func (e *Envelope) attribute(name string) *[]byte {
	switch name {
	case "specversion":
		return &e.SpecVersion
	case "id":
		return &e.ID
	case "source":
		return &e.Source
	case "type":
		return &e.Type
	case "time":
		return &e.Time
	case "partitionkey":
		return &e.PartitionKey
	case "datacontenttype":
		return &e.ContentType
	}
	return nil
}

// Payload returns the event's data as bytes: the JSON text of data, or, where
// the content type is not JSON, the content of the string that data is; the
// decoded bytes of data_base64. It aliases the envelope where it can.
func (e *Envelope) Payload() ([]byte, error) {
	switch {
	case e.Base64:
		out := make([]byte, base64.StdEncoding.DecodedLen(len(e.Data)))
		n, err := base64.StdEncoding.Decode(out, e.Data)
		if err != nil {
			return nil, errkind.Errorf(errkind.Invalid, "read event: data_base64: %w", err)
		}
		return out[:n], nil
	case len(e.Data) > 0 && e.Data[0] == '"' && len(e.ContentType) > 0 && !isJSONType(alias(e.ContentType)):
		return text(e.Data)
	}
	return e.Data, nil
}

// FromStructured reads one structured-mode event into a binary-mode record: ID
// and Key from id and partitionkey, the other attributes in Headers, the data
// as Value. The record may alias b. Every error is Invalid.
func FromStructured(b []byte) (Record, error) {
	var e Envelope
	if err := e.Parse(b); err != nil {
		return Record{}, err
	}
	return e.record()
}

func (e *Envelope) record() (Record, error) {
	value, err := e.Payload()
	if err != nil {
		return Record{}, err
	}
	n := 96 + len(e.Source) + len(e.Type) + len(e.Time) + len(e.ContentType)
	for _, x := range e.Extensions {
		n += len(x.Name) + len(x.Value) + 8
	}
	h := make(Headers, 0, n)
	h = h.AppendString(HeaderSpecVersion, specVersion).Append(HeaderSource, e.Source).Append(HeaderType, e.Type)
	if len(e.Time) > 0 {
		h = h.Append(HeaderTime, e.Time)
	}
	if len(e.ContentType) > 0 {
		h = h.Append(HeaderContentType, e.ContentType)
	}
	for _, x := range e.Extensions {
		h = h.Append(headerPrefix+string(x.Name), x.Value)
	}
	r := Record{ID: e.ID, Headers: h, Value: value}
	if len(e.PartitionKey) > 0 {
		r.Key = e.PartitionKey
	}
	return r, nil
}

// SplitBatch reads a JSON array of structured-mode events, in order. One bad
// event fails the whole batch; the error says which. Records may alias b.
func SplitBatch(b []byte) ([]Record, error) {
	if !jsonscan.Valid(b) {
		var v json.RawMessage
		return nil, errkind.Errorf(errkind.Invalid, "read batch: not valid JSON: %w", json.Unmarshal(b, &v))
	}
	i := jsonscan.Space(b, 0)
	if b[i] != '[' {
		return nil, errkind.New(errkind.Invalid, "read batch: expected a JSON array of events")
	}
	var recs []Record
	var e Envelope
	i = jsonscan.Space(b, i+1)
	for b[i] != ']' {
		start := i
		i = jsonscan.Value(b, i)
		err := e.Parse(b[start:i])
		var r Record
		if err == nil {
			r, err = e.record()
		}
		if err != nil {
			return nil, errkind.Errorf(errkind.Invalid, "read batch: event %d: %w", len(recs), err)
		}
		recs = append(recs, r)
		if i = jsonscan.Space(b, i); b[i] == ',' {
			i = jsonscan.Space(b, i+1)
		}
	}
	return recs, nil
}

// AppendStructured appends r as one structured-mode event, on one line without
// a line end. A JSON value becomes data, text of a text/* type a string,
// anything else data_base64. What a plain record lacks is filled in: the
// position for the id, "/" for the source, "freshet.record" for the type
// and the time of storing. A value that is a structured event is written as it is.
func AppendStructured(dst []byte, r *Record) []byte {
	contentType := ""
	if v, ok := r.Headers.Get(HeaderContentType); ok {
		contentType = alias(v)
	}
	if ModeOfType(contentType) == Structured && isJSON(r.Value) {
		return appendLine(dst, r.Value)
	}
	dst = append(dst, `{"specversion":"1.0","id":`...)
	id, _ := r.Headers.Get(HeaderID)
	switch {
	case len(r.ID) > 0:
		dst = appendString(dst, alias(r.ID))
	case len(id) > 0:
		dst = appendString(dst, alias(id))
	default:
		dst = append(dst, '"')
		dst = strconv.AppendInt(dst, r.Position, 10)
		dst = append(dst, '"')
	}
	dst = appendAttribute(dst, r.Headers, "source", HeaderSource, "/")
	dst = appendAttribute(dst, r.Headers, "type", HeaderType, "freshet.record")
	if v, ok := r.Headers.Get(HeaderTime); ok {
		dst = append(dst, `,"time":`...)
		dst = appendString(dst, alias(v))
	} else if r.Time != 0 {
		dst = append(dst, `,"time":"`...)
		dst = time.Unix(0, r.Time).UTC().AppendFormat(dst, time.RFC3339Nano)
		dst = append(dst, '"')
	}
	if len(r.Key) > 0 {
		dst = append(dst, `,"partitionkey":`...)
		dst = appendString(dst, alias(r.Key))
	} else {
		dst = appendAttribute(dst, r.Headers, "partitionkey", HeaderPartitionKey, "")
	}
	for h := r.Headers; len(h) > 0; {
		name, value, rest, ok := h.Cut()
		if !ok {
			break
		}
		h = rest
		switch n := alias(name); n {
		case HeaderSpecVersion, HeaderID, HeaderSource, HeaderType, HeaderTime, HeaderPartitionKey:
		default:
			n, ok := strings.CutPrefix(n, headerPrefix)
			if !ok || checkAttribute(n, "") != nil {
				continue
			}
			dst = append(dst, ',', '"')
			dst = append(dst, n...)
			dst = append(dst, '"', ':')
			dst = appendString(dst, alias(value))
		}
	}
	if contentType != "" {
		dst = append(dst, `,"datacontenttype":`...)
		dst = appendString(dst, contentType)
	}
	dst = appendData(dst, contentType, r.Value)
	return append(dst, '}')
}

func appendAttribute(dst []byte, h Headers, name, header, missing string) []byte {
	v, _ := h.Get(header)
	value := alias(v)
	if value == "" {
		value = missing
	}
	if value == "" {
		return dst
	}
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	dst = append(dst, '"', ':')
	return appendString(dst, value)
}

func appendData(dst []byte, contentType string, value []byte) []byte {
	switch {
	case len(value) == 0:
		return dst
	case isJSONType(contentType) && isJSON(value):
		return appendLine(append(dst, `,"data":`...), value)
	case strings.HasPrefix(contentType, "text/") && utf8.Valid(value):
		return appendString(append(dst, `,"data":`...), alias(value))
	}
	dst = append(dst, `,"data_base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, value)
	return append(dst, '"')
}

func twice(name []byte) error {
	if strings.HasPrefix(string(name), "data") && string(name) != "datacontenttype" {
		return errkind.New(errkind.Invalid, "read event: data or data_base64 is given twice")
	}
	return errkind.Errorf(errkind.Invalid, "read event: attribute %s is given twice", shorten(string(name)))
}
