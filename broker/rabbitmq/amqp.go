package rabbitmq

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// Sections of an AMQP 1.0 message, by the number of their descriptor.
const (
	sectionHeader                = 0x70
	sectionDeliveryAnnotations   = 0x71
	sectionMessageAnnotations    = 0x72
	sectionProperties            = 0x73
	sectionApplicationProperties = 0x74
	sectionData                  = 0x75
	sectionSequence              = 0x76
	sectionValue                 = 0x77
	sectionFooter                = 0x78
)

// value is one encoded AMQP value: its constructor and its bytes.
type value struct {
	code byte
	body []byte
}

// cutValue takes the value off b that begins there. Described ones are refused.
func cutValue(b []byte) (v value, rest []byte, ok bool) {
	if len(b) == 0 {
		return v, nil, false
	}
	v.code = b[0]
	b = b[1:]
	n, prefix := 0, 0
	switch v.code >> 4 {
	case 4:
	case 5:
		n = 1
	case 6:
		n = 2
	case 7:
		n = 4
	case 8:
		n = 8
	case 9:
		n = 16
	case 0xa, 0xc, 0xe:
		prefix = 1
		if len(b) < 1 {
			return v, nil, false
		}
		n = int(b[0])
	case 0xb, 0xd, 0xf:
		prefix = 4
		if len(b) < 4 {
			return v, nil, false
		}
		n = int(binary.BigEndian.Uint32(b))
	default:
		return v, nil, false
	}
	if n > len(b)-prefix {
		return v, nil, false
	}
	v.body = b[prefix : prefix+n : prefix+n]
	return v, b[prefix+n:], true
}

// items opens a list or map: how many values lie in body.
func (v value) items() (n int, body []byte, ok bool) {
	switch v.code {
	case 0x45: // empty list
		return 0, nil, true
	case 0xc0, 0xc1:
		if len(v.body) < 1 {
			return 0, nil, false
		}
		return int(v.body[0]), v.body[1:], true
	case 0xd0, 0xd1:
		if len(v.body) < 4 {
			return 0, nil, false
		}
		return int(binary.BigEndian.Uint32(v.body)), v.body[4:], true
	}
	return 0, nil, false
}

// bytes are those of a string, symbol or binary; ok is false for all other types.
func (v value) bytes() (b []byte, ok bool) {
	switch v.code {
	case 0xa0, 0xa1, 0xa3, 0xb0, 0xb1, 0xb3:
		return v.body, true
	}
	return nil, false
}

// appendText appends v as people write it; ok is false for null, arrays, lists and maps.
func (v value) appendText(b []byte) (_ []byte, ok bool) {
	if s, ok := v.bytes(); ok {
		return append(b, s...), true
	}
	switch v.code {
	case 0x41:
		return append(b, "true"...), true
	case 0x42:
		return append(b, "false"...), true
	case 0x56:
		return strconv.AppendBool(b, v.body[0] != 0), true
	case 0x43, 0x44:
		return append(b, '0'), true
	case 0x50, 0x52, 0x53:
		return strconv.AppendUint(b, uint64(v.body[0]), 10), true
	case 0x51, 0x54, 0x55:
		return strconv.AppendInt(b, int64(int8(v.body[0])), 10), true
	case 0x60:
		return strconv.AppendUint(b, uint64(binary.BigEndian.Uint16(v.body)), 10), true
	case 0x61:
		return strconv.AppendInt(b, int64(int16(binary.BigEndian.Uint16(v.body))), 10), true
	case 0x70:
		return strconv.AppendUint(b, uint64(binary.BigEndian.Uint32(v.body)), 10), true
	case 0x71:
		return strconv.AppendInt(b, int64(int32(binary.BigEndian.Uint32(v.body))), 10), true
	case 0x80:
		return strconv.AppendUint(b, binary.BigEndian.Uint64(v.body), 10), true
	case 0x81:
		return strconv.AppendInt(b, int64(binary.BigEndian.Uint64(v.body)), 10), true
	case 0x72:
		return strconv.AppendFloat(b, float64(math.Float32frombits(binary.BigEndian.Uint32(v.body))), 'g', -1, 32), true
	case 0x82:
		return strconv.AppendFloat(b, math.Float64frombits(binary.BigEndian.Uint64(v.body)), 'g', -1, 64), true
	case 0x73:
		return utf8.AppendRune(b, rune(binary.BigEndian.Uint32(v.body))), true
	case 0x83:
		return time.UnixMilli(int64(binary.BigEndian.Uint64(v.body))).UTC().AppendFormat(b, time.RFC3339Nano), true
	case 0x98:
		return fmt.Appendf(b, "%x-%x-%x-%x-%x", v.body[:4], v.body[4:6], v.body[6:8], v.body[8:10], v.body[10:]), true
	}
	return b, false
}

// appendSized appends a constructor with one length byte, or its long form with four.
func appendSized[T string | []byte](b []byte, code byte, s T) []byte {
	if len(s) <= 255 {
		b = append(b, code, byte(len(s)))
	} else {
		b = append(b, code+0x10)
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	}
	return append(b, s...)
}

// appendBytes appends a string where s is one, else a binary.
func appendBytes(b, s []byte) []byte {
	if utf8.Valid(s) {
		return appendSized(b, 0xa1, s)
	}
	return appendSized(b, 0xa0, s)
}

func appendSection(b []byte, section byte) []byte { return append(b, 0, 0x53, section) }

// openCompound begins a list or map; closeCompound fills in its size and count.
func openCompound(b []byte, code byte) ([]byte, int) {
	return append(b, code, 0, 0, 0, 0, 0, 0, 0, 0), len(b) + 1
}

func closeCompound(b []byte, at, count int) {
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	binary.BigEndian.PutUint32(b[at+4:], uint32(count))
}
