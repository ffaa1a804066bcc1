package pulsar

import (
	"strings"
	"testing"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// message is what decode asks of a message.
type message struct {
	pulsar.Message
	key        string
	payload    []byte
	properties map[string]string
}

func (m message) Key() string                   { return m.key }
func (m message) Payload() []byte               { return m.payload }
func (m message) Properties() map[string]string { return m.properties }
func (m message) PublishTime() time.Time        { return time.Time{} }

func through(r event.Record) event.Record {
	sent := encode(&r, r.Value)
	var d decoder
	var out event.Record
	d.decode(message{key: sent.Key, payload: sent.Payload, properties: sent.Properties}, id{1, 2, 3}, &out)
	return out
}

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	h := func(pairs ...string) (h event.Headers) {
		for i := 0; i < len(pairs); i += 2 {
			h = h.AppendString(pairs[i], pairs[i+1])
		}
		return h
	}
	many := event.Headers(nil)
	for i := range 100 {
		many = many.AppendString(strings.Repeat("h", 100-i), "v")
	}
	for name, r := range map[string]event.Record{
		"empty":             {},
		"sorted headers":    {ID: []byte("1"), Key: []byte("k"), Headers: h("a", "1", "b", "2"), Value: []byte("v")},
		"unsorted headers":  {Headers: h("b", "1", "a", "2", "c", "")},
		"repeated headers":  {Headers: h("a", "1", "b", "2", "a", "3")},
		"binary header":     {Headers: h("a", "\xff\x00")},
		"binary key":        {Key: []byte("\xff\x00")},
		"binary id":         {ID: []byte("\xff"), Headers: h("b", "1", "a", "2")},
		"reserved names":    {ID: []byte("1"), Headers: h("ce_id", "x", "freshet_order", "10", "freshet_headers", "!")},
		"very many headers": {Headers: many},
	} {
		got := through(r)
		for _, f := range []struct {
			field     string
			got, want []byte
		}{{"ID", got.ID, r.ID}, {"Key", got.Key, r.Key}, {"Headers", got.Headers, r.Headers}, {"Value", got.Value, r.Value}} {
			if string(f.got) != string(f.want) {
				t.Errorf("%s: %s is %q, was %q", name, f.field, f.got, f.want)
			}
		}
	}
}

func TestForeignMessagesBecomeRecords(t *testing.T) {
	var d decoder
	var r event.Record
	d.decode(message{key: "k", payload: []byte("v"), properties: map[string]string{"b": "2", "a": "1"}}, id{7, 8, 9}, &r)
	want := event.Record{ID: []byte("7:8:9"), Key: []byte("k"), Value: []byte("v"), Headers: event.Headers(nil).AppendString("a", "1").AppendString("b", "2")}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("k", "a", "1", propertyOrder, "0")
	f.Add("!", propertyKey, "base64", propertyHeaders, "AQ==")
	f.Fuzz(func(t *testing.T, key, n1, v1, n2, v2 string) {
		var d decoder
		var r event.Record
		d.decode(message{key: key, properties: map[string]string{n1: v1, n2: v2}}, id{}, &r)
		if !r.Headers.Valid() {
			t.Errorf("headers %q", r.Headers)
		}
	})
}

func TestPositionsRiseAsMessageIDsDo(t *testing.T) {
	ids := []id{{}, {0, 0, 1}, {0, 1, 0}, {0, maxEntry, maxBatch}, {1, 0, 0}, {maxLedger, maxEntry, maxBatch}}
	last := int64(-1)
	for _, i := range ids {
		p, err := i.position()
		if err != nil || p <= last || idAt(p) != i {
			t.Errorf("%v: position %d (%v) behind %d, back %v", i, p, err, last, idAt(p))
		}
		last = p
	}
	for _, i := range []id{{-1, 0, 0}, {0, -1, 0}, {maxLedger + 1, 0, 0}, {0, maxEntry + 1, 0}, {0, 0, maxBatch + 1}} {
		if _, err := i.position(); !errkind.Is(err, errkind.Unsupported) {
			t.Errorf("%v: %v", i, err)
		}
	}
}

func TestOnlyTheNextMessageFollows(t *testing.T) {
	for _, c := range []struct {
		last id
		size int64
		at   id
		want bool
	}{
		{id{1, 1, 0}, 2, id{1, 1, 1}, true},
		{id{1, 1, 1}, 2, id{1, 2, 0}, true},
		{id{1, 1, 0}, 2, id{1, 2, 0}, false},
		{id{1, 1, 1}, 2, id{1, 3, 0}, false},
		{id{1, 1, 1}, 2, id{2, 0, 0}, false},
	} {
		if got := c.at.follows(c.last, c.size); got != c.want {
			t.Errorf("%v behind %v of %d: %v", c.at, c.last, c.size, got)
		}
	}
}
