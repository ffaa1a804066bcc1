package pubsub

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"

	"github.com/freshet-io/freshet/bus/internal/envelope"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// The service's limits: 100 attributes, names of 256 bytes, values and ordering
// keys of 1,024.
const (
	maxValue  = 1024
	maxPieces = 32 // of a packed record
)

var layout = envelope.Layout{
	Count: 60, NameBytes: 256, ValueBytes: maxValue,
	Name: func(name string) bool { return !strings.HasPrefix(name, "goog") && envelope.Text([]byte(name)) },
}

// messageOf lays a record into a message.
func messageOf(r *event.Record, ordering bool) (*pubsubpb.PubsubMessage, error) {
	m := &pubsubpb.PubsubMessage{Data: r.Value}
	native := false
	if ordering && len(r.Key) > 0 {
		if native = len(r.Key) <= maxValue && envelope.Text(r.Key); native {
			m.OrderingKey = string(r.Key)
		} else { // any text does for the order; the key itself travels packed
			sum := sha256.Sum256(r.Key)
			m.OrderingKey = hex.EncodeToString(sum[:])
		}
	}
	attributes, packed := layout.Encode(r, native)
	if len(r.Value) == 0 && len(attributes) == 0 && len(packed) == 0 {
		packed = envelope.Nothing() // the service takes no empty message
	}
	m.Attributes = make(map[string]string, len(attributes)+1)
	for _, a := range attributes {
		m.Attributes[a.Name] = a.Value
	}
	if packed == nil {
		return m, nil
	}
	text := envelope.PackedText(packed)
	if len(text) > maxPieces*maxValue {
		return nil, errkind.Errorf(errkind.Invalid, "the headers have %d bytes, a message carries %d that are no CloudEvents attributes", len(packed), base64.StdEncoding.DecodedLen(maxPieces*maxValue))
	}
	for i := 0; len(text) > 0; i++ {
		n := min(len(text), maxValue)
		m.Attributes[piece(i)], text = text[:n], text[n:]
	}
	return m, nil
}

// piece names the attributes of a packed record.
func piece(i int) string {
	if i == 0 {
		return envelope.AttributePacked
	}
	return envelope.AttributePacked + "-" + strconv.Itoa(i)
}

// recordOf reads a message, anybody's.
func recordOf(m *pubsubpb.PubsubMessage) event.Record {
	r := event.Record{ID: []byte(m.MessageId), Value: m.Data}
	if m.OrderingKey != "" {
		r.Key = []byte(m.OrderingKey)
	}
	text := ""
	attributes := make([]envelope.Attribute, 0, len(m.Attributes))
	for name, value := range m.Attributes {
		if !strings.HasPrefix(name, envelope.AttributePacked) {
			attributes = append(attributes, envelope.Attribute{Name: name, Value: value})
		}
	}
	for i := range maxPieces {
		v, ok := m.Attributes[piece(i)]
		if !ok {
			break
		}
		text += v
	}
	var packed []byte
	if text != "" {
		packed, _ = base64.StdEncoding.DecodeString(text)
	}
	envelope.Decode(attributes, packed, &r)
	return r
}
