package bustest

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/event"
)

// plain is a copy of a record that compares with ==, without what a bus does not carry.
type plain struct{ ID, Key, Headers, Value string }

func plainOf(r event.Record) plain {
	return plain{string(r.ID), string(r.Key), string(r.Headers), string(r.Value)}
}

// String shows a record in messages about it.
func (p plain) String() string {
	var h strings.Builder
	for k, v := range event.Headers(p.Headers).All() {
		fmt.Fprintf(&h, " %s=%.40q", k, v)
	}
	return fmt.Sprintf("{id %q key %q headers [%s] value of %d bytes %.40q}", p.ID, p.Key, strings.TrimSpace(h.String()), len(p.Value), p.Value)
}

// result is a record as a pipeline writes it.
func result(key string, n int) event.Record {
	id := key + "/" + strconv.Itoa(n)
	return event.Record{
		ID: []byte(id), Key: []byte(key),
		Headers: event.Headers(nil).AppendString(event.HeaderSpecVersion, "1.0").
			AppendString(event.HeaderSource, "/suite").AppendString(event.HeaderType, "suite.result").
			AppendString(event.HeaderTime, "2018-04-01T00:00:31Z").AppendString(event.HeaderContentType, "application/json"),
		Value:    fmt.Appendf(nil, `{"n":%d,"key":%q,"score":0.25}`, n, key),
		Position: int64(n),
	}
}

func results(make1 func(string, int) event.Record, key string, from, n int) []event.Record {
	recs := make([]event.Record, n)
	for i := range recs {
		recs[i] = make1(key, from+i)
		recs[i].Position = int64(from + i)
	}
	return recs
}

// number is n of an ID that is KEY/n.
func number(id string) (key string, n int, ok bool) {
	i := strings.LastIndexByte(id, '/')
	if i < 0 {
		return "", 0, false
	}
	n, err := strconv.Atoi(id[i+1:])
	return id[:i], n, err == nil
}

// varied are records of every shape that a bus has to carry.
func varied(largest int, onlyJSON bool) []event.Record {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	ce := func() event.Headers {
		return event.Headers(nil).AppendString(event.HeaderSpecVersion, "1.0").
			AppendString(event.HeaderSource, "/suite?a=1&b=%20").AppendString(event.HeaderType, "suite.varied")
	}
	js := ce().AppendString(event.HeaderContentType, "application/json")
	recs := []event.Record{
		{ID: []byte("varied/0"), Key: []byte("k"), Headers: js, Value: []byte(`{"a":1}`)},
		{ID: []byte("varied/1"), Headers: js, Value: []byte(`{"no":"key"}`)},
		{ID: []byte("varied/2"), Key: []byte("key with blanks, ünïcode and \"quotes\""), Headers: js, Value: []byte(`{"text":"ünï\u0000"}`)},
		{ID: []byte("varied/3"), Key: []byte("k"), Headers: append(append(event.Headers(nil), js...),
			event.Headers(nil).AppendString("ce_traceparent", "00-1-2-01").AppendString("ce_subject", "a b/ü")...), Value: []byte(`{}`)},
		{ID: []byte("varied/4"), Key: []byte("k"), Headers: js,
			Value: append(append([]byte(`{"large":"`), bytes.Repeat([]byte("x"), largest-16)...), `"}`...)},
	}
	if onlyJSON {
		return recs
	}
	octets := ce().AppendString(event.HeaderContentType, "application/octet-stream")
	return append(recs,
		event.Record{ID: []byte("varied/5"), Key: []byte("k"), Headers: octets, Value: every},
		event.Record{ID: []byte("varied/6"), Key: []byte("k"), Headers: ce()},
		event.Record{ID: []byte("varied/7"), Key: []byte("k"), Headers: octets, Value: []byte{0}},
		event.Record{ID: []byte("varied/8"), Key: []byte("k"), Value: []byte("a plain value")},
		event.Record{ID: []byte("varied/9"), Key: []byte("k"), Headers: append(append(event.Headers(nil), octets...),
			event.Headers(nil).AppendString("other", "1").AppendString("other", "2").AppendString("another", "")...), Value: []byte("headers that repeat")},
	)
}
