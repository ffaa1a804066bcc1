package cli

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/freshet-io/freshet/event"
)

// errLimit ends reading when --limit is reached.
var errLimit = errors.New("limit reached")

// printer writes records in one of the outputs of consume.
type printer struct {
	w         *bufio.Writer
	output    string
	width     int // of the terminal; 0 where there is none
	left      int64
	unlimited bool
	buf       []byte
	compact   bytes.Buffer
	headed    bool
}

// print writes one record. It returns errLimit after the last one that is wanted.
func (p *printer) print(partition int, r *event.Record) error {
	p.buf = p.buf[:0]
	switch p.output {
	case "json":
		p.appendJSON(r.Value)
	case "event":
		p.appendEvent(partition, r)
	default:
		p.appendRow(partition, r)
	}
	p.buf = append(p.buf, '\n')
	if _, err := p.w.Write(p.buf); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	if !p.unlimited {
		if p.left--; p.left <= 0 {
			return errLimit
		}
	}
	return nil
}

// appendJSON appends a payload as one line of JSON, as GET /topics/{topic} does.
func (p *printer) appendJSON(v []byte) {
	switch {
	case !utf8.Valid(v), !json.Valid(v):
		p.buf = append(p.buf, `{"data_base64":"`...)
		p.buf = base64.StdEncoding.AppendEncode(p.buf, v)
		p.buf = append(p.buf, `"}`...)
	case bytes.ContainsAny(v, "\r\n"):
		p.compact.Reset()
		if json.Compact(&p.compact, v) == nil {
			p.buf = append(p.buf, p.compact.Bytes()...)
		}
	default:
		p.buf = append(p.buf, v...)
	}
}

// appendEvent appends the whole event with its partition and position, as GET
// /topics/{topic}?format=event does. The position is a string, as CloudEvents
// integers have 32 bits.
func (p *printer) appendEvent(partition int, r *event.Record) {
	rec := *r
	if event.ModeOf(rec.Headers) == event.Structured {
		if whole, err := event.FromStructured(rec.Value); err == nil {
			whole.Position, whole.Time = r.Position, r.Time
			rec = whole
		}
	}
	rec.Headers = withoutPlace(rec.Headers)
	p.buf = event.AppendStructured(p.buf, &rec)
	p.buf = append(p.buf[:len(p.buf)-1], `,"partition":`...)
	p.buf = strconv.AppendInt(p.buf, int64(partition), 10)
	p.buf = append(p.buf, `,"position":"`...)
	p.buf = strconv.AppendInt(p.buf, r.Position, 10)
	p.buf = append(p.buf, `"}`...)
}

// withoutPlace drops the partition and position that an event had elsewhere.
func withoutPlace(h event.Headers) event.Headers {
	var out event.Headers
	for k, v := range h.All() {
		if k != "ce_partition" && k != "ce_position" {
			out = out.Append(k, v)
		}
	}
	return out
}

func (p *printer) appendRow(partition int, r *event.Record) {
	if !p.headed {
		p.headed = true
		p.buf = fmt.Appendf(p.buf, "%-4s %10s  %-23s  %-14s %s\n", "PART", "POSITION", "STORED", "KEY", "PAYLOAD")
	}
	row := fmt.Sprintf("%4d %10d  %-23s  %-14s %s", partition, r.Position,
		time.Unix(0, r.Time).UTC().Format("2006-01-02T15:04:05.000"), cut(visible(r.Key), 14), visible(r.Value))
	if p.width > 0 {
		row = cut(row, p.width)
	}
	p.buf = append(p.buf, row...)
}

// visible makes bytes safe for a terminal: what is not printable becomes a dot.
func visible(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '·'
		}
		return r
	}, string(b))
}
