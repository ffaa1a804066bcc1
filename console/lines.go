package console

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// lineReader cuts an NDJSON body into batches of records.
type lineReader struct {
	r      *bufio.Reader
	limit  int // of one record, in bytes
	number int // of the line read last, counted from 1
	buf    []byte
}

func newLineReader(r io.Reader, limit int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10), limit: limit}
}

// batch appends the next records to recs, up to a batch's bounds. They are
// valid until the next call. An error, io.EOF at the end, comes with those
// records that were read before it; line number is the place of any other one.
// Empty lines are skipped.
func (l *lineReader) batch(recs []event.Record, named envelope) ([]event.Record, error) {
	l.buf = l.buf[:0] // records point into it, or into what it was before it grew
	for len(recs) < linesPerBatch && len(l.buf) < bytesPerBatch {
		line, err := l.next()
		if line = bytes.TrimSpace(line); err == nil && len(line) > 0 {
			if err = checkJSON(line, true); err == nil {
				rec := event.Record{Value: line}
				switch err = named.fill(&rec); {
				case err != nil:
				case rec.Size() > l.limit:
					err = &lineTooLongError{l.limit}
				default:
					recs = append(recs, rec)
				}
			}
		}
		if err != nil {
			return recs, err
		}
		// What has arrived is stored before more is waited for.
		if len(recs) > 0 && l.r.Buffered() == 0 {
			break
		}
	}
	return recs, nil
}

// next returns the next line, at the end of buf.
func (l *lineReader) next() ([]byte, error) {
	l.number++
	start := len(l.buf)
	for {
		part, err := l.r.ReadSlice('\n')
		l.buf = append(l.buf, part...)
		switch {
		case len(l.buf)-start > l.limit+2: // the line end is not part of it
			return nil, &lineTooLongError{l.limit}
		case err == nil:
			return l.buf[start:len(l.buf):len(l.buf)], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			if len(l.buf) > start { // the last line needs no end
				return l.buf[start:len(l.buf):len(l.buf)], nil
			}
			return nil, io.EOF
		default:
			return nil, readFault(err)
		}
	}
}

// envelope finds id and key of plain payloads.
type envelope struct {
	contract func(payload []byte) (id, key []byte) // nil where the topic has none
	id, key  []string                              // paths from the query; nil where not given
}

func (s *Server) envelope(topic string, q url.Values) (envelope, error) {
	var e envelope
	if s.o.Envelope != nil {
		e.contract = s.o.Envelope(topic)
	}
	for name, path := range map[string]*[]string{"id": &e.id, "key": &e.key} {
		switch v, ok := q[name]; {
		case ok && len(v) == 1 && v[0] != "":
			*path = strings.Split(v[0], ".")
		case ok:
			return e, errkind.Errorf(errkind.Invalid, "query parameter %s: expected once, with the name of a field, as in ?%s=customer_id", name, name)
		}
	}
	return e, nil
}

// fill sets what r lacks of id and key. A field that the query names must be there.
func (e *envelope) fill(r *event.Record) error {
	if e.contract != nil && (len(r.ID) == 0 || len(r.Key) == 0) {
		id, key := e.contract(r.Value)
		if len(r.ID) == 0 && e.id == nil {
			r.ID = id
		}
		if len(r.Key) == 0 && e.key == nil && len(key) > 0 {
			r.Key = key
		}
	}
	var err error
	if e.id != nil && len(r.ID) == 0 {
		if r.ID, err = field(r.Value, e.id); err != nil {
			return err
		}
	}
	if e.key != nil && len(r.Key) == 0 {
		r.Key, err = field(r.Value, e.key)
	}
	return err
}

// field returns the scalar at path in a JSON object: a string's content,
// otherwise the JSON text.
func field(value []byte, path []string) ([]byte, error) {
	missing := func() error {
		return errkind.Errorf(errkind.Invalid, "read event: no field %q with a string, number or boolean in it, as the query asks for", strings.Join(path, "."))
	}
	at := json.RawMessage(value)
	for _, name := range path {
		var members map[string]json.RawMessage
		if json.Unmarshal(at, &members) != nil || members[name] == nil {
			return nil, missing()
		}
		at = members[name]
	}
	switch at[0] {
	case '"':
		var s string
		if err := json.Unmarshal(at, &s); err != nil || s == "" {
			return nil, missing()
		}
		return []byte(s), nil
	case '{', '[', 'n':
		return nil, missing()
	}
	return at, nil
}

// lineTooLongError is a line of an NDJSON body that no record can hold.
type lineTooLongError struct{ limit int }

func (e *lineTooLongError) Error() string {
	return "read event: the record on this line is above the limit of " + strconv.Itoa(e.limit) + " bytes, id and key included"
}
