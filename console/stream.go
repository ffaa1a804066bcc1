package console

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
)

// streamWriter writes records as lines of JSON.
type streamWriter struct {
	rc      *http.ResponseController
	w       *bufio.Writer
	events  bool
	left    int64 // records until the limit; below 0 without one
	line    []byte
	timeout time.Duration
}

// newStreamWriter takes the deadlines off the connection: a stream may take as
// long as it likes, a single write may not. Here and below, writers without
// deadlines return errors that change nothing.
func newStreamWriter(w http.ResponseWriter, q query, timeout time.Duration) *streamWriter {
	o := &streamWriter{rc: http.NewResponseController(w), w: bufio.NewWriterSize(w, 64<<10), events: q.events, left: q.limit, timeout: timeout}
	_ = o.rc.SetReadDeadline(time.Time{})
	return o
}

// flush sends what was written. A client that takes nothing for the timeout has gone.
func (o *streamWriter) flush() error {
	o.extend()
	if o.w.Flush() != nil || o.rc.Flush() != nil {
		return errGone
	}
	_ = o.rc.SetWriteDeadline(time.Time{}) // waiting for records is no fault
	return nil
}

func (o *streamWriter) extend() { _ = o.rc.SetWriteDeadline(time.Now().Add(o.timeout)) }

// batch writes b's records and releases it. At the limit it flushes and
// returns errGone: nothing more is wanted.
func (o *streamWriter) batch(b *broker.Batch) error {
	defer b.Release()
	o.extend()
	for i := range b.Records {
		if o.events {
			o.line = appendEvent(o.line[:0], b.Partition, &b.Records[i])
		} else {
			o.line = appendValue(o.line[:0], b.Records[i].Value)
		}
		o.line = append(o.line, '\n')
		if _, err := o.w.Write(o.line); err != nil {
			return errGone
		}
		if o.left > 0 {
			if o.left--; o.left == 0 {
				_ = o.flush()
				return errGone
			}
		}
	}
	return nil
}

// appendValue appends a payload as one line of JSON: as it is where it is JSON,
// otherwise as {"data_base64": …}.
func appendValue(dst, value []byte) []byte {
	switch {
	case !json.Valid(value) || !utf8.Valid(value):
		dst = append(dst, `{"data_base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, value)
		return append(dst, `"}`...)
	case bytes.IndexByte(value, '\n') < 0 && bytes.IndexByte(value, '\r') < 0:
		return append(dst, value...)
	}
	buf := bytes.NewBuffer(dst)
	_ = json.Compact(buf, value) // value is valid
	return buf.Bytes()
}

// Extension attributes that say where an event lies.
const (
	attrPartition = "partition"
	attrPosition  = "position"
)

// appendEvent appends a record as a structured CloudEvent with its partition
// and position. The position is a string, as CloudEvents integers have 32 bits.
func appendEvent(dst []byte, partition int, r *event.Record) []byte {
	rec := *r
	if event.ModeOf(rec.Headers) == event.Structured {
		if whole, err := event.FromStructured(rec.Value); err == nil {
			whole.Position, whole.Time = r.Position, r.Time
			rec = whole
		}
	}
	rec.Headers = withoutPlace(rec.Headers)
	dst = event.AppendStructured(dst, &rec)
	dst = append(dst[:len(dst)-1], `,"`+attrPartition+`":`...)
	dst = strconv.AppendInt(dst, int64(partition), 10)
	dst = append(dst, `,"`+attrPosition+`":"`...)
	dst = strconv.AppendInt(dst, r.Position, 10)
	return append(dst, `"}`...)
}

// withoutPlace drops the place that an event had in another topic, when it was
// read from there and posted here.
func withoutPlace(h event.Headers) event.Headers {
	_, a := h.Get("ce_" + attrPartition)
	_, b := h.Get("ce_" + attrPosition)
	if !a && !b {
		return h
	}
	var out event.Headers
	for k, v := range h.All() {
		if k != "ce_"+attrPartition && k != "ce_"+attrPosition {
			out = out.Append(k, v)
		}
	}
	return out
}
