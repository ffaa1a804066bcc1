package sqs

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"github.com/freshet-io/freshet/bus/internal/envelope"
	"github.com/freshet-io/freshet/event"
)

const (
	// attributeEncoding says how the body is written where it is not the value.
	attributeEncoding = "freshet-encoding"
	base64Encoding    = "base64"
	// emptyEncoding is for an empty value: SQS takes no empty body.
	emptyEncoding = "empty"
	// keyless begins the groups of records without a key, whose order is that of
	// their partition.
	keyless = "freshet-partition-"
	maxID   = 128 // characters of group and deduplication ids
	dataRaw = "Binary"
	dataStr = "String"
)

// layout leaves room for the id, the key, the encoding and what is packed.
var layout = envelope.Layout{Count: 6, NameBytes: 256, ValueBytes: 64 << 10, Name: attributeName}

// attributeName is the service's rule for names.
func attributeName(n string) bool {
	lower := strings.ToLower(n)
	return strings.Trim(n, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") == "" &&
		!strings.HasPrefix(lower, "aws.") && !strings.HasPrefix(lower, "amazon.") &&
		n[0] != '.' && n[len(n)-1] != '.' && !strings.Contains(n, "..") && n != attributeEncoding
}

// entryOf lays a record into a message and says how many bytes SQS counts.
func (q *queue) entryOf(r *event.Record, partition int) (types.SendMessageBatchRequestEntry, int) {
	var e types.SendMessageBatchRequestEntry
	native := false
	if q.fifo {
		switch {
		case len(r.Key) == 0:
			e.MessageGroupId = aws.String(keyless + strconv.Itoa(partition))
		case identifier(r.Key) && !strings.HasPrefix(string(r.Key), keyless):
			e.MessageGroupId, native = aws.String(string(r.Key)), true
		default:
			e.MessageGroupId = aws.String(digest(r.Key))
		}
		switch {
		case len(r.ID) == 0:
			e.MessageDeduplicationId = aws.String(rand.Text())
		case identifier(r.ID):
			e.MessageDeduplicationId = aws.String(string(r.ID))
		default:
			e.MessageDeduplicationId = aws.String(digest(r.ID))
		}
	}
	attributes, packed := layout.Encode(r, native)
	body, encoding := string(r.Value), ""
	switch {
	case body == "":
		body, encoding = " ", emptyEncoding
	case !envelope.Text(r.Value):
		body, encoding = base64.StdEncoding.EncodeToString(r.Value), base64Encoding
	}
	if encoding != "" {
		attributes = append(attributes, envelope.Attribute{Name: attributeEncoding, Value: encoding})
	}
	n := len(body)
	e.MessageBody = &body
	e.MessageAttributes = make(map[string]types.MessageAttributeValue, len(attributes)+1)
	for i := range attributes {
		a := &attributes[i]
		e.MessageAttributes[a.Name] = types.MessageAttributeValue{DataType: aws.String(dataStr), StringValue: &a.Value}
		n += len(a.Name) + len(dataStr) + len(a.Value)
	}
	if len(packed) > 0 {
		e.MessageAttributes[envelope.AttributePacked] = types.MessageAttributeValue{DataType: aws.String(dataRaw), BinaryValue: packed}
		n += len(envelope.AttributePacked) + len(dataRaw) + len(packed)
	}
	return e, n
}

// identifier reports whether b may be a group or deduplication id: up to 128
// visible characters of ASCII.
func identifier(b []byte) bool {
	if len(b) == 0 || len(b) > maxID {
		return false
	}
	for _, c := range b {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// recordOf reads a message, anybody's.
func recordOf(m *types.Message) event.Record {
	body := aws.ToString(m.Body)
	r := event.Record{ID: []byte(aws.ToString(m.MessageId)), Value: []byte(body)}
	if id := m.Attributes[string(types.MessageSystemAttributeNameMessageDeduplicationId)]; id != "" && id != digest(r.Value) {
		r.ID = []byte(id) // somebody gave it; the service's own is the body's digest
	}
	if group := m.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)]; group != "" && !strings.HasPrefix(group, keyless) {
		r.Key = []byte(group)
	}
	attributes := make([]envelope.Attribute, 0, len(m.MessageAttributes))
	var packed []byte
	for name, v := range m.MessageAttributes {
		value := aws.ToString(v.StringValue)
		if v.StringValue == nil {
			value = string(v.BinaryValue)
		}
		switch name {
		case envelope.AttributePacked:
			packed = v.BinaryValue
		case attributeEncoding:
			switch value {
			case emptyEncoding:
				r.Value = nil
			case base64Encoding:
				if b, err := base64.StdEncoding.DecodeString(body); err == nil {
					r.Value = b
				}
			}
		default:
			attributes = append(attributes, envelope.Attribute{Name: name, Value: value})
		}
	}
	envelope.Decode(attributes, packed, &r)
	return r
}
