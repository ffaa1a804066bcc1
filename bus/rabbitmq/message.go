package rabbitmq

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/freshet-io/freshet/event"
)

// Headers of our messages.
const (
	headerKey    = "x-opt-partition-key"
	headerID     = "x-opt-freshet-id"      // of ids that are no short text
	headerPacked = "x-opt-freshet-headers" // all of them, in their order
)

const (
	attributePrefix    = "cloudEvents:"
	attributePrefixAlt = "cloudEvents_"
	headerPrefix       = "ce_"
)

// maxShort is what AMQP gives to names and to the message-id, in bytes.
const maxShort = 255

// publishing is a record as a message. The message does not alias the record
// beyond its value, which the client writes before it returns.
func publishing(r *event.Record) amqp.Publishing {
	p := amqp.Publishing{DeliveryMode: amqp.Persistent, Body: r.Value}
	h := amqp.Table{}
	if len(r.ID) > 0 {
		if len(r.ID) <= maxShort && utf8.Valid(r.ID) {
			p.MessageId = string(r.ID)
		} else {
			h[headerID] = r.ID
		}
	}
	if len(r.Key) > 0 {
		h[headerKey] = text(r.Key)
	}
	n := 0
	isEvent := false
	for k, v := range r.Headers.All() {
		n++
		if k == event.HeaderContentType && utf8.Valid(v) && len(v) <= maxShort {
			p.ContentType = string(v)
			continue
		}
		isEvent = isEvent || k == event.HeaderSpecVersion
		name := k
		if a, ok := strings.CutPrefix(k, headerPrefix); ok {
			name = attributePrefix + a
		}
		if len(name) > maxShort || !utf8.ValidString(name) {
			continue // packed alone
		}
		if _, ok := h[name]; !ok {
			h[name] = text(v)
		}
	}
	if n > 0 && (n > 1 || len(h) == 0 && p.ContentType == "" || !plain(r.Headers)) {
		h[headerPacked] = []byte(r.Headers)
	}
	if isEvent && p.MessageId != "" {
		h[attributePrefix+"id"] = p.MessageId
	}
	if len(h) > 0 {
		p.Headers = h
	}
	return p
}

// plain says that the only header comes back by itself as it was.
func plain(h event.Headers) bool {
	k, _, _, ok := h.Cut()
	name := string(k)
	return ok && len(name) < 200 && utf8.ValidString(name) && name != event.HeaderID && name != event.HeaderPartitionKey &&
		!strings.HasPrefix(name, attributePrefix) && !strings.HasPrefix(name, attributePrefixAlt) && !strings.HasPrefix(name, "x-")
}

func text(b []byte) any {
	if utf8.Valid(b) {
		return string(b)
	}
	return b
}

// record is a message, of anybody, as a record.
func record(d *amqp.Delivery, queue string) event.Record {
	r := event.Record{Value: d.Body}
	if d.MessageId != "" {
		r.ID = []byte(d.MessageId)
	}
	attribute := func(name string) []byte {
		for _, p := range []string{attributePrefix, attributePrefixAlt} {
			if v, ok := value(d.Headers[p+name]); ok && len(v) > 0 {
				return v
			}
		}
		return nil
	}
	if id := attribute("id"); id != nil {
		r.ID = id
	}
	if id, ok := d.Headers[headerID].([]byte); ok {
		r.ID = id
	}
	if k, ok := value(d.Headers[headerKey]); ok {
		r.Key = k
	} else if k := attribute("partitionkey"); k != nil {
		r.Key = k
	} else if d.RoutingKey != "" && d.RoutingKey != queue && d.Exchange != "" {
		r.Key = []byte(d.RoutingKey)
	}
	if packed, ok := d.Headers[headerPacked].([]byte); ok && event.Headers(packed).Valid() {
		r.Headers = packed
		return r
	}
	r.Headers = headers(d)
	return r
}

func headers(d *amqp.Delivery) event.Headers {
	var h event.Headers
	names := make([]string, 0, len(d.Headers))
	for name := range d.Headers {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		v, ok := value(d.Headers[name])
		if !ok || name == headerKey || name == headerID || name == headerPacked || strings.HasPrefix(name, "x-delivery-") {
			continue
		}
		a, ok := strings.CutPrefix(name, attributePrefix)
		if !ok {
			a, ok = strings.CutPrefix(name, attributePrefixAlt)
		}
		switch {
		case ok && (a == "id" || a == "partitionkey"):
			continue
		case ok:
			name = headerPrefix + a
		}
		h = h.Append(name, v)
	}
	if d.ContentType != "" {
		h = h.AppendString(event.HeaderContentType, d.ContentType)
	}
	return h
}

// value is a header's value as people write it; ok is false for tables and lists.
func value(v any) (b []byte, ok bool) {
	switch v := v.(type) {
	case string:
		return []byte(v), true
	case []byte:
		return v, true
	case time.Time:
		return v.UTC().AppendFormat(nil, time.RFC3339Nano), true
	case bool, int8, uint8, int16, int32, int64, int, uint16, uint32, float32, float64:
		return fmt.Append(nil, v), true
	}
	return nil, false
}
