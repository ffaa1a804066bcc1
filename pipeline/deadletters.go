package pipeline

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"github.com/freshet-io/freshet/event"
)

// letters writes the events that could not be processed, one JSON object each,
// for the pipeline's dead-letter topic. It belongs to one task.
type letters struct {
	topic     string // where the events come from
	maxRecord int
	load      func(origin) (*event.Record, error) // an event at its place
	id        *resultID
	static    event.Headers
	clock     clock
	place     []byte
}

func newLetters(s *Spec, topic string, maxRecord int, load func(origin) (*event.Record, error)) *letters {
	var h event.Headers
	h = h.AppendString("ce_specversion", "1.0").
		AppendString("ce_type", "io.freshet.dead-letter").
		AppendString("ce_source", "/freshet/"+s.Name).
		AppendString("content-type", "application/json")
	return &letters{
		topic: topic, maxRecord: maxRecord, load: load,
		id: newResultID(s.Name, s.DeadLetters(), topic), static: h,
	}
}

const (
	// shortText is how much of a message, an id or a key a letter holds.
	shortText = 1024
	// letterRoom is what a letter's record takes beside its value and behind its payload.
	letterRoom = 256
)

// write appends to f.dead one record for each of the frame's letters that is
// about a label, or an event; in the order of their topic.
func (l *letters) write(f *frame, labels bool) error {
	for i := range f.letters {
		x := &f.letters[i]
		if x.label != labels {
			continue
		}
		if x.rec == nil {
			var err error
			if x.rec, err = l.load(x.from); err != nil {
				return err
			}
		}
		from := len(f.arena)
		f.arena = append(f.arena, `{"id":"`...)
		id := len(f.arena)
		l.place = appendPlace(l.place[:0], x.partition, x.rec.Position)
		f.arena = l.id.append(f.arena, l.place)
		f.arena = l.body(f.arena, from, x)
		f.dead = append(f.dead, event.Record{
			ID:      f.arena[id : id+idLength : id+idLength],
			Headers: l.static,
			Value:   f.arena[from:len(f.arena):len(f.arena)],
		})
	}
	return nil
}

// body writes a letter from behind its id; it began at b[from].
func (l *letters) body(b []byte, from int, x *letter) []byte {
	rec := x.rec
	b = append(b, `","reason":`...)
	b = appendString(b, x.reason)
	b = append(b, `,"step":`...)
	b = appendString(b, x.step)
	b = append(b, `,"attempts":`...)
	b = strconv.AppendInt(b, int64(x.attempts), 10)
	b = append(b, `,"error":`...)
	b = appendString(b, shorten(x.err.Error(), shortText))
	b = append(b, `,"time":"`...)
	b = l.clock.append(b, rec.Time)
	b = append(b, `","origin":{"topic":`...)
	b = appendString(b, l.topic)
	b = append(b, `,"partition":`...)
	b = strconv.AppendInt(b, int64(x.partition), 10)
	b = append(b, `,"position":`...)
	b = strconv.AppendInt(b, rec.Position, 10)
	if len(rec.ID) > 0 {
		b = append(b, `,"id":`...)
		b = appendString(b, shorten(string(rec.ID), shortText))
	}
	if len(rec.Key) > 0 {
		b = append(b, `,"key":`...)
		b = appendString(b, shorten(string(rec.Key), shortText))
	}
	b = append(b, '}')
	return append(l.payload(b, len(b)-from, rec.Value), '}')
}

// payload writes the event's payload: as text where it is UTF-8, else in
// base64. Where the letter would be too large for the broker the payload is cut
// and marked; the whole of it stays at the origin.
func (l *letters) payload(b []byte, written int, value []byte) []byte {
	text := utf8.Valid(value)
	room := len(value)
	if l.maxRecord > 0 {
		room = max(0, l.maxRecord-written-letterRoom)
	}
	size := base64.StdEncoding.EncodedLen(len(value))
	if text {
		size = len(value)
		for _, c := range value { // what escaping adds, at most
			if !plain[c] && c < utf8.RuneSelf {
				size += 5
			}
		}
	}
	if size > room {
		b = append(b, `,"payload_bytes":`...)
		b = strconv.AppendInt(b, int64(len(value)), 10)
		b = append(b, `,"payload_cut":true`...)
		value, text = value[:min(len(value), room/4*3)], false
	}
	if text {
		return appendString(append(b, `,"payload":`...), value)
	}
	b = append(b, `,"payload_encoding":"base64","payload":"`...)
	b = base64.StdEncoding.AppendEncode(b, value)
	return append(b, '"')
}

// shorten cuts a message at a rune's border.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}
