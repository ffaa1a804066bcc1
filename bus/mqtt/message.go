package mqtt

import (
	"strings"
	"unicode/utf8"

	"github.com/eclipse/paho.golang/packets"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

const (
	headerTopic  = "mqtt-topic" // of the message that a record came in
	headerPrefix = "header-"    // before the names of headers that could be attributes
	ceHeader     = "ce_"

	propertyID  = "freshet-id" // of a record that is no CloudEvent
	propertyKey = "partitionkey"
)

// recordOf makes a record of a publication. It aliases the payload.
func recordOf(p *packets.Publish, rule keyRule) event.Record {
	r := event.Record{Value: p.Payload}
	contentType, ce, structured := "", false, false
	var user []packets.User
	if p.Properties != nil {
		contentType, user = p.Properties.ContentType, p.Properties.User
	}
	for i := range user {
		ce = ce || user[i].Key == "specversion"
	}
	if event.ModeOfType(contentType) == event.Structured {
		// What cannot be read stays as it is, and fails at its contract.
		if s, err := event.FromStructured(p.Payload); err == nil {
			r, ce, structured = s, true, true
		}
	}
	for i := range user {
		name, value := user[i].Key, user[i].Value
		switch {
		case name == propertyKey:
			if r.Key == nil {
				r.Key = []byte(value)
			}
		case structured:
		case ce && name == "id", !ce && name == propertyID:
			r.ID = []byte(value)
		case ce && isAttribute(name):
			r.Headers = r.Headers.AppendString(ceHeader+name, value)
		default:
			r.Headers = r.Headers.AppendString(strings.TrimPrefix(name, headerPrefix), value)
		}
	}
	if contentType != "" && !structured {
		r.Headers = r.Headers.AppendString(event.HeaderContentType, contentType)
	}
	r.Headers = r.Headers.AppendString(headerTopic, p.Topic)
	switch {
	case rule == keyProperty && r.Key == nil, rule == keyTopic:
		r.Key = []byte(p.Topic)
	case rule > 0:
		r.Key = nil
		if levels := strings.Split(p.Topic, "/"); int(rule) <= len(levels) {
			r.Key = []byte(levels[rule-1])
		}
	}
	return r
}

// isAttribute reports whether CloudEvents allows the name for an attribute.
func isAttribute(name string) bool {
	for i := range len(name) {
		if c := name[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// publication makes a publication of a record. Its payload aliases the record's value.
// Errors are Invalid: the record will never be taken.
func (s *settings) publication(topic string, r *event.Record) (*packets.Publish, error) {
	p := &packets.Publish{QoS: 1, Payload: r.Value, Properties: &packets.Properties{}}
	var err error
	if p.Topic, err = s.topicOf(topic, r.Key); err != nil {
		return nil, err
	}
	mode := event.ModeOf(r.Headers)
	if s.structured && mode == event.Binary {
		p.Payload = event.AppendStructured(nil, r)
		p.Properties.ContentType = event.TypeStructured
		return p, nil
	}
	add := func(name string, value []byte) {
		if !isText(name) || !isText(value) {
			err = errkind.Errorf(errkind.Invalid, "%q: MQTT carries headers, IDs and keys that are text in UTF-8 without zeros, of 65535 bytes at most", name)
		}
		p.Properties.User = append(p.Properties.User, packets.User{Key: name, Value: string(value)})
	}
	if len(r.ID) > 0 && mode == event.Binary {
		add("id", r.ID)
	} else if len(r.ID) > 0 {
		add(propertyID, r.ID)
	}
	if r.Key != nil {
		add(propertyKey, r.Key)
	}
	for h := r.Headers; len(h) > 0; {
		name, value, rest, ok := h.Cut()
		if !ok {
			break
		}
		h = rest
		n, isCE := strings.CutPrefix(string(name), ceHeader)
		switch {
		case string(name) == event.HeaderContentType && p.Properties.ContentType == "":
			if p.Properties.ContentType = string(value); !isText(value) {
				return nil, errkind.New(errkind.Invalid, "the content type is not text in UTF-8")
			}
		case string(name) == headerTopic:
		case mode == event.Binary && isCE && isAttribute(n):
			if (n == "id" && len(r.ID) > 0) || (n == "partitionkey" && r.Key != nil) {
				continue
			}
			add(n, value)
		case isAttribute(string(name)) || strings.HasPrefix(string(name), headerPrefix) || string(name) == propertyID:
			add(headerPrefix+string(name), value)
		default:
			add(string(name), value)
		}
	}
	return p, err
}

const maxText = 65535

// isText reports whether MQTT takes a string.
func isText[T string | []byte](s T) bool {
	return len(s) <= maxText && utf8.ValidString(string(s)) && strings.IndexByte(string(s), 0) < 0
}

var keyEscaper = strings.NewReplacer("%", "%25", "/", "%2F", "+", "%2B", "#", "%23")

// topicOf fills the topic's template.
func (s *settings) topicOf(topic string, key []byte) (string, error) {
	t := s.topic
	if strings.Contains(t, "{") {
		t = strings.NewReplacer("{topic}", topic, "{key}", keyEscaper.Replace(string(key))).Replace(t)
	}
	if t == "" || !isText(t) || strings.ContainsAny(t, "+#") {
		return "", errkind.Errorf(errkind.Invalid, "the topic %.80q of the record is not one of MQTT", t)
	}
	return t, nil
}
