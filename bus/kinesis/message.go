package kinesis

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/freshet-io/freshet/bus/internal/envelope"
	"github.com/freshet-io/freshet/event"
)

const (
	// keyless begins the partition keys of records without a key, whose order is
	// that of their partition.
	keyless = "freshet-partition-"
	maxKey  = 256 // characters of a partition key
)

// aggregated begins the records of the Kinesis Producer Library, whose format is
// published with it: this, a message in Protocol Buffers, and its MD5.
var aggregated = []byte{0xF3, 0x89, 0x9A, 0xC2}

// entryOf lays a record into an entry.
func entryOf(r *event.Record, partition int) types.PutRecordsRequestEntry {
	var e types.PutRecordsRequestEntry
	native := false
	switch {
	case len(r.Key) == 0:
		e.PartitionKey = aws.String(keyless + strconv.Itoa(partition))
	case len(r.Key) <= maxKey && envelope.Text(r.Key) && !strings.HasPrefix(string(r.Key), keyless):
		e.PartitionKey, native = aws.String(string(r.Key)), true
	default: // any text does for the order; the key itself travels in the event
		sum := sha256.Sum256(r.Key)
		e.PartitionKey = aws.String(hex.EncodeToString(sum[:]))
	}
	_, looks := envelope.FromStructured(r.Value)
	if len(r.ID) == 0 && len(r.Headers) == 0 && len(r.Value) > 0 && (native || len(r.Key) == 0) && !looks && !bytes.HasPrefix(r.Value, aggregated) {
		e.Data = bytes.Clone(r.Value)
	} else {
		e.Data = envelope.AppendStructured(nil, r)
	}
	return e
}

// recordsOf reads the records in one of the service's, anybody's. The service
// gives its data away.
func recordsOf(shard string, r *types.Record) []event.Record {
	id := shard + ":" + aws.ToString(r.SequenceNumber)
	if bytes.HasPrefix(r.Data, aggregated) {
		if recs, ok := deaggregate(id, r.Data); ok {
			return recs
		}
	}
	return []event.Record{recordOf(id, aws.ToString(r.PartitionKey), r.Data)}
}

func recordOf(id, key string, data []byte) event.Record {
	r, ok := envelope.FromStructured(data)
	if !ok {
		r = event.Record{ID: []byte(id), Value: data}
	}
	if len(r.Key) == 0 && !strings.HasPrefix(key, keyless) {
		r.Key = []byte(key)
	}
	return r
}

// deaggregate takes a record of the Kinesis Producer Library apart: field 1 are
// the partition keys, field 3 the records, each with the index of its key as
// field 1 and its data as field 3.
func deaggregate(id string, data []byte) (recs []event.Record, ok bool) {
	if len(data) < len(aggregated)+md5.Size {
		return nil, false
	}
	message, sum := data[len(aggregated):len(data)-md5.Size], data[len(data)-md5.Size:]
	if md5.Sum(message) != [md5.Size]byte(sum) {
		return nil, false
	}
	var keys []string
	var bodies [][]byte
	ok = fields(message, func(n protowire.Number, v []byte, _ uint64) {
		switch n {
		case 1:
			keys = append(keys, string(v))
		case 3:
			bodies = append(bodies, v)
		}
	})
	if !ok || len(bodies) == 0 {
		return nil, false
	}
	for i, body := range bodies {
		var at uint64
		var payload []byte
		if !fields(body, func(n protowire.Number, v []byte, x uint64) {
			switch n {
			case 1:
				at = x
			case 3:
				payload = v
			}
		}) || at >= uint64(len(keys)) || !utf8.ValidString(keys[at]) {
			return nil, false
		}
		recs = append(recs, recordOf(id+":"+strconv.Itoa(i), keys[at], payload))
	}
	return recs, true
}

// fields calls f for each field of a message; v is of those with a length, x of numbers.
func fields(b []byte, f func(n protowire.Number, v []byte, x uint64)) bool {
	for len(b) > 0 {
		n, typ, size := protowire.ConsumeTag(b)
		if size < 0 {
			return false
		}
		b = b[size:]
		var v []byte
		var x uint64
		switch typ {
		case protowire.BytesType:
			v, size = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			x, size = protowire.ConsumeVarint(b)
		default:
			size = protowire.ConsumeFieldValue(n, typ, b)
		}
		if size < 0 {
			return false
		}
		f(n, v, x)
		b = b[size:]
	}
	return true
}
