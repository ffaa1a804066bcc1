package rabbitmq

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/event"
)

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	var many event.Headers
	for range 40 {
		many = many.AppendString("h", "v")
	}
	h := func(pairs ...string) (h event.Headers) {
		for i := 0; i < len(pairs); i += 2 {
			h = h.AppendString(pairs[i], pairs[i+1])
		}
		return h
	}
	for name, r := range map[string]event.Record{
		"empty":     {},
		"all":       {ID: []byte("id"), Key: []byte("k"), Value: []byte("v"), Headers: h("ce_specversion", "1.0", "content-type", "application/json", "x", "y")},
		"repeats":   {Headers: h("a", "1", "b", "2", "a", "3")},
		"many":      {Headers: many},
		"binary":    {ID: []byte{0xff}, Key: []byte{0xfe, 0}, Value: []byte{0}, Headers: h("\xff", "\xfe", "ok", "\xfd")},
		"prefixed":  {Headers: h("cloudEvents:type", "a", "ce_id", "b", "ce_partitionkey", "c")},
		"long":      {ID: bytes.Repeat([]byte("i"), 300), Key: bytes.Repeat([]byte("k"), 300), Value: bytes.Repeat([]byte("v"), 300), Headers: h(string(bytes.Repeat([]byte("n"), 300)), "v")},
		"long type": {Headers: h("ce_"+string(bytes.Repeat([]byte("n"), 190)), "v")},
	} {
		var got event.Record
		var d decoder
		d.decode(appendMessage(nil, &r), &got)
		if len(r.Value) == 0 {
			r.Value = []byte{}
		}
		if diff := cmp.Diff(r, got); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func TestForeignMessagesBecomeRecords(t *testing.T) {
	m := appendSection(nil, sectionMessageAnnotations)
	m, at := openCompound(m, 0xd1)
	m = appendSized(m, 0xa3, "x-exchange")
	m = appendSized(m, 0xa1, "orders")
	m = appendSized(m, 0xa3, "x-routing-key")
	m = appendSized(m, 0xa1, "eu.42")
	closeCompound(m, at, 4)
	m = appendSection(m, sectionProperties)
	m, at = openCompound(m, 0xd0)
	m = append(m, 0x53, 7) // message-id, a small ulong
	closeCompound(m, at, 1)
	m = appendSection(m, sectionApplicationProperties)
	m, at = openCompound(m, 0xd1)
	m = appendSized(m, 0xa1, "cloudEvents_type")
	m = appendSized(m, 0xa1, "order")
	m = appendSized(m, 0xa1, "retries")
	m = append(m, 0x71, 0xff, 0xff, 0xff, 0xfe) // int
	closeCompound(m, at, 4)
	m = appendSection(m, sectionValue)
	m = appendSized(m, 0xa1, "hello")
	var got event.Record
	var d decoder
	d.decode(m, &got)
	want := event.Record{
		ID: []byte("7"), Key: []byte("eu.42"), Value: []byte("hello"),
		Headers: event.Headers(nil).AppendString("ce_type", "order").AppendString("retries", "-2"),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	d.decode([]byte("no AMQP"), &got)
	if string(got.Value) != "no AMQP" || got.ID != nil {
		t.Errorf("what is no AMQP message: got %+v", got)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(appendMessage(nil, &event.Record{ID: []byte("i"), Key: []byte("k"), Value: []byte("v"), Headers: event.Headers(nil).AppendString("ce_type", "t").AppendString("ce_type", "t")}))
	f.Add([]byte{0, 0x53, 0x74, 0xd1, 0, 0, 0, 4, 0, 0, 0, 9})
	f.Fuzz(func(t *testing.T, m []byte) {
		var r event.Record
		var d decoder
		d.decode(m, &r)
		if !r.Headers.Valid() {
			t.Fatalf("headers %q", r.Headers)
		}
	})
}

func FuzzChunk(f *testing.F) {
	b := make([]byte, chunkHeader, 100)
	b[0], b[3], b[7], b[39] = 0x50, 1, 1, 5
	f.Add(append(b, 0, 0, 0, 1, 'x'))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := parseChunk(b)
		if err != nil {
			return
		}
		for range 1 << 16 {
			if _, _, ok, err := k.cut(); !ok || err != nil {
				return
			}
		}
	})
}
