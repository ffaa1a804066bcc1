package contract

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"time"

	"github.com/freshet-io/freshet/event"
)

// Decoder reads payloads of one contract. It belongs to one goroutine.
type Decoder struct {
	scanner
	root            *plan
	columns         []event.Column // those of the Rows being filled
	maxBytes        int
	idPath, keyPath string
	rule            TimeRule
	earliest        int64

	// The row being filled.
	n       int
	stamp   uint32
	stamps  []uint32 // per column: the stamp of the last payload with a value
	gotID   string
	gotKey  string
	gotTime int64
	hasTime bool

	// What the record says around its payload.
	envelope event.Envelope
	around   struct{ id, key, time string }
}

// Rows is a batch of decoded events: only the good ones, in record order, one
// element of each slice a row. Its zero value is ready; use it again and again
// with one decoder.
type Rows struct {
	// N is the number of rows.
	N int
	// Index is, per row, the index of its record.
	Index []int32
	// ID and Key are the events' ids and keys; empty where they have none.
	ID, Key []string
	// Time is the event time and Arrival the record's time, in Unix nanoseconds.
	Time, Arrival []int64
	// Columns are the fields asked for, in that order. Absent values and nulls are null.
	Columns []event.Column
	// Faults are the records that are not events of the contract, in record order.
	Faults []Fault

	arena []byte
}

// reset makes room for n rows of d's columns.
func (r *Rows) reset(d *Decoder, n int) {
	r.N = 0
	r.Index, r.ID, r.Key = room(r.Index, n), room(r.ID, n), room(r.Key, n)
	r.Time, r.Arrival = room(r.Time, n), room(r.Arrival, n)
	same := len(r.Columns) == len(d.columns)
	for i := 0; same && i < len(r.Columns); i++ {
		same = r.Columns[i].Name == d.columns[i].Name && r.Columns[i].Kind == d.columns[i].Kind
	}
	if !same {
		r.Columns = make([]event.Column, len(d.columns))
		for i := range d.columns {
			r.Columns[i] = event.Column{Name: d.columns[i].Name, Kind: d.columns[i].Kind}
		}
	}
	for i := range r.Columns {
		r.Columns[i].Reset(n)
	}
	clear(r.Faults)
	r.Faults = r.Faults[:0]
	r.arena = r.arena[:0]
}

// cut makes every slice as long as there are rows.
func (r *Rows) cut() {
	n := r.N
	r.Index, r.ID, r.Key, r.Time, r.Arrival = r.Index[:n], r.ID[:n], r.Key[:n], r.Time[:n], r.Arrival[:n]
	for i := range r.Columns {
		c := &r.Columns[i]
		switch c.Kind {
		case event.Float:
			c.Floats = c.Floats[:n]
		case event.Bool:
			c.Bools = c.Bools[:n]
		case event.String:
			c.Strings = c.Strings[:n]
		default:
			c.Ints = c.Ints[:n]
		}
		if c.Null != nil {
			c.Null = c.Null[:n]
		}
	}
}

func room[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// Decode reads recs, in order, into rows, whose old content is lost. Each
// record becomes a row or a fault. Strings in rows alias the records and rows:
// they are valid as long as the records are and until rows is used again.
func (d *Decoder) Decode(recs []event.Record, rows *Rows) {
	rows.reset(d, len(recs))
	d.columns, d.arena, d.n = rows.Columns, rows.arena, 0
	for i := range recs {
		if d.record(&recs[i]) && d.keep(&recs[i], rows, int32(i)) {
			continue
		}
		rows.Faults = append(rows.Faults, Fault{Record: int32(i), Reason: d.fault.reason, Err: d.fault.error()})
	}
	rows.N, rows.arena = d.n, d.arena
	d.reset(nil)
	d.gotID, d.gotKey = "", ""
	rows.cut()
}

// record reads one record's envelope and payload.
func (d *Decoder) record(r *event.Record) bool {
	d.stamp++
	if d.stamp == 0 { // all 2^32 used up: forget them
		clear(d.stamps)
		d.stamp = 1
	}
	d.gotID, d.gotKey, d.hasTime = "", "", false
	d.around.id, d.around.key, d.around.time = "", "", ""
	if len(r.Value) > d.maxBytes {
		return d.fail(ReasonTooLarge, -1, fmt.Sprintf("%d bytes, expected at most %d", len(r.Value), d.maxBytes)) >= 0
	}
	payload := r.Value
	if len(r.Headers) > 0 {
		var ok bool
		if payload, ok = d.open(r); !ok {
			return false
		}
	}
	d.reset(payload)
	i := d.space(0)
	if i == len(d.b) {
		return d.fail(ReasonEmpty, -1, "the payload is empty, expected a JSON object") >= 0
	}
	if i = d.value(d.root, i, 0); i < 0 {
		return false
	}
	if i = d.space(i); i < len(d.b) {
		return d.syntax(i, "the end of the payload") >= 0
	}
	return true
}

// open finds the payload of a record with headers.
func (d *Decoder) open(r *event.Record) (payload []byte, ok bool) {
	mode := event.Plain
	for h := r.Headers; len(h) > 0; {
		name, value, rest, ok := h.Cut()
		if !ok {
			d.fail(ReasonEnvelope, -1, "the record's headers are malformed")
			return nil, false
		}
		h = rest
		switch string(name) {
		case event.HeaderContentType:
			mode = event.ModeOfType(value)
		case event.HeaderID:
			d.around.id = view(value)
		case event.HeaderPartitionKey:
			d.around.key = view(value)
		case event.HeaderTime:
			d.around.time = view(value)
		}
	}
	switch mode {
	case event.Structured:
	case event.Batched, event.Foreign:
		ct, _ := r.Headers.Get(event.HeaderContentType)
		d.fail(ReasonEnvelope, -1, fmt.Sprintf("content type %s, expected %s or plain JSON", shorten(ct), event.TypeStructured))
		return nil, false
	default:
		return r.Value, true
	}
	e := &d.envelope
	if err := e.Parse(r.Value); err != nil {
		d.fail(ReasonEnvelope, -1, err.Error())
		return nil, false
	}
	d.around.id, d.around.key, d.around.time = view(e.ID), view(e.PartitionKey), view(e.Time)
	if !e.Base64 {
		return e.Data, true
	}
	from := len(d.arena)
	out, err := base64.StdEncoding.AppendDecode(d.arena, e.Data)
	if err != nil {
		d.fail(ReasonEnvelope, -1, "data_base64: "+err.Error())
		return nil, false
	}
	d.arena = out
	return out[from:], true
}

// keep settles the id, key and time of the event just read and makes it a row.
func (d *Decoder) keep(r *event.Record, rows *Rows, index int32) bool {
	n := d.n
	id, key := d.gotID, d.gotKey
	if id == "" {
		if id = view(r.ID); id == "" {
			id = d.around.id
		}
	}
	if key == "" {
		if key = view(r.Key); key == "" {
			key = d.around.key
		}
		if key == "" && d.keyPath != "" {
			return d.fail(ReasonMissingKey, -1, "the key field "+d.keyPath+" is absent, null or empty, and the record has no key") >= 0
		}
	}
	t, given := d.gotTime, d.hasTime
	if !given && d.around.time != "" {
		x, ok := parseTime(d.around.time, false)
		if t, given = x.unixNano(); !ok || !given {
			return d.fail(ReasonEnvelope, -1, "the envelope's time is "+strconv.Quote(shorten(d.around.time))+", expected RFC 3339 as in 2006-01-02T15:04:05Z") >= 0
		}
	}
	switch {
	case !given && d.rule.Field != "":
		return d.fail(ReasonMissingTime, -1, "the time field "+d.rule.Field+" is absent or null, and the envelope has no time") >= 0
	case !given:
		t = r.Time
	case t < d.earliest:
		return d.outside(t, "is before the earliest allowed, "+d.rule.Earliest.UTC().Format(time.RFC3339))
	case r.Time != 0 && t > r.Time && uint64(t)-uint64(r.Time) > uint64(d.rule.Ahead):
		return d.outside(t, fmt.Sprintf("is more than %v after its arrival at %s", d.rule.Ahead, time.Unix(0, r.Time).UTC().Format(time.RFC3339Nano)))
	}
	for i := range d.columns {
		if d.stamps[i] != d.stamp {
			d.null(&d.columns[i])
		}
	}
	rows.Index[n], rows.ID[n], rows.Key[n], rows.Time[n], rows.Arrival[n] = index, id, key, t, r.Time
	d.n++
	return true
}

//go:noinline
func (d *Decoder) outside(t int64, why string) bool {
	return d.fail(ReasonTimeOutOfRange, -1, "the event time "+time.Unix(0, t).UTC().Format(time.RFC3339Nano)+" "+why) >= 0
}

// null makes the current row of c null. A payload that failed may have left a value there.
func (d *Decoder) null(c *event.Column) {
	switch c.Kind {
	case event.Float:
		c.Floats[d.n] = 0
	case event.Bool:
		c.Bools[d.n] = false
	case event.String:
		c.Strings[d.n] = ""
	default:
		c.Ints[d.n] = 0
	}
	c.SetNull(d.n)
}
