package envelope

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/freshet-io/freshet/event"
)

var layout = Layout{Count: 7, NameBytes: 256, ValueBytes: 1024, Name: func(n string) bool { return !strings.ContainsAny(n, " :") }}

var cloudEvent = event.Headers{}.AppendString("ce_specversion", "1.0").AppendString("ce_source", "/s").AppendString("ce_type", "t").
	AppendString("ce_time", "2024-01-01T00:00:00.100Z").AppendString("content-type", "application/json").AppendString("ce_subject", "x")

var records = map[string]struct {
	record event.Record
	packed bool // in attributes
}{
	"an event":                 {event.Record{ID: []byte("a"), Key: []byte("k"), Headers: cloudEvent, Value: []byte(`{"a":"<1>"}`)}, false},
	"a plain value":            {event.Record{Value: []byte("plain")}, false},
	"an id alone":              {event.Record{ID: []byte("a"), Value: []byte{0, 255}}, false},
	"an empty value":           {event.Record{ID: []byte("a"), Headers: cloudEvent}, false},
	"bytes that are no text":   {event.Record{ID: []byte{255}, Key: []byte{0, 1}, Headers: event.Headers{}.Append("h", []byte{254}), Value: []byte("x")}, true},
	"headers in another order": {event.Record{ID: []byte("a"), Headers: event.Headers{}.AppendString("b", "1").AppendString("a", "2")}, true},
	"a header twice":           {event.Record{ID: []byte("a"), Headers: event.Headers{}.AppendString("b", "1").AppendString("b", "2")}, true},
	"an empty header":          {event.Record{Headers: event.Headers{}.AppendString("b", "")}, true},
	"more headers than fit": {event.Record{Headers: event.Headers{}.AppendString("a", "1").AppendString("b", "").AppendString("c", "").AppendString("d", "").
		AppendString("e", "").AppendString("f", "").AppendString("g", "").AppendString("h", "")}, true},
	"a name that is not allowed":  {event.Record{Headers: event.Headers{}.AppendString("a b", "x")}, true},
	"a header with the id's name": {event.Record{ID: []byte("a"), Headers: event.Headers{}.AppendString("ce_id", "b")}, true},
	"an attribute's own name":     {event.Record{Headers: event.Headers{}.AppendString("ce-type", "b")}, true},
	"a header called as a pair":   {event.Record{ID: []byte("a"), Headers: event.Headers{}.AppendString(":key", "b")}, true},
	"a long value":                {event.Record{ID: []byte(strings.Repeat("i", 2000)), Headers: event.Headers{}.AppendString("a", strings.Repeat("x", 2000))}, true},
}

func TestAttributesCarryARecordExactly(t *testing.T) {
	for name, tc := range records {
		attributes, packed := layout.Encode(&tc.record, false)
		if (packed != nil) != tc.packed {
			t.Errorf("%s: packed is %q", name, packed)
		}
		seen := map[string]bool{}
		for _, a := range attributes {
			if seen[a.Name] || a.Value == "" {
				t.Errorf("%s: attribute %q comes twice or is empty", name, a.Name)
			}
			seen[a.Name] = true
		}
		got := event.Record{Value: tc.record.Value}
		Decode(attributes, packed, &got)
		if diff := cmp.Diff(tc.record, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
	}
}

func TestStructuredCarriesARecordExactly(t *testing.T) {
	for name, tc := range records {
		b := AppendStructured([]byte("before"), &tc.record)[len("before"):]
		if !json.Valid(b) {
			t.Errorf("%s: not JSON: %s", name, b)
		}
		got, ok := FromStructured(b)
		if diff := cmp.Diff(tc.record, got, cmpopts.EquateEmpty()); !ok || diff != "" {
			t.Errorf("%s: %v (-want +got)\n%s\n%s", name, ok, diff, b)
		}
	}
}

func TestForeignAttributesBecomeAnEvent(t *testing.T) {
	r := event.Record{Value: []byte("{}")}
	Decode([]Attribute{{"Content-Type", "application/json"}, {"ce-type", "t"}, {"traceparent", "00-1"}, {"ce-id", "7"}, {"ce-specversion", "1.0"}, {"ce-source", "/s"}, {"ce-partitionkey", "k"}}, nil, &r)
	want := event.Record{ID: []byte("7"), Key: []byte("k"), Value: []byte("{}"), Headers: event.Headers{}.AppendString("ce_specversion", "1.0").
		AppendString("ce_source", "/s").AppendString("ce_type", "t").AppendString("content-type", "application/json").AppendString("traceparent", "00-1")}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	r = event.Record{Value: []byte(`{"specversion":"1.0","id":"8","source":"/s","type":"t","partitionkey":"p"}`)}
	Decode([]Attribute{{"content-type", "application/cloudevents+json"}}, nil, &r)
	if string(r.ID) != "8" || string(r.Key) != "p" {
		t.Errorf("a structured message has the id %q and the key %q", r.ID, r.Key)
	}
}

func TestRecordsWithoutIDAreTwoEvents(t *testing.T) {
	r := event.Record{Value: []byte("x")}
	a, b := AppendStructured(nil, &r), AppendStructured(nil, &r)
	if bytes.Equal(a, b) {
		t.Errorf("both are %s", a)
	}
}

func FuzzDecode(f *testing.F) {
	for _, tc := range records {
		attributes, packed := layout.Encode(&tc.record, false)
		text := ""
		for _, a := range attributes {
			text += a.Name + "\n" + a.Value + "\n"
		}
		f.Add(text, packed, AppendStructured(nil, &tc.record))
	}
	f.Fuzz(func(t *testing.T, text string, packed, structured []byte) {
		var attributes []Attribute
		lines := strings.Split(text, "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			attributes = append(attributes, Attribute{lines[i], lines[i+1]})
		}
		r := event.Record{Value: structured}
		Decode(attributes, packed, &r)
		if !r.Headers.Valid() {
			t.Fatalf("headers %q", r.Headers)
		}
		r, ok := FromStructured(structured)
		if !ok {
			return
		}
		again, ok := FromStructured(AppendStructured(nil, &r))
		if diff := cmp.Diff(r, again, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(event.Record{}, "Value")); !ok || diff != "" {
			t.Fatalf("%v (-want +got)\n%s", ok, diff)
		}
	})
}
