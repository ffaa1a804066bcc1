package contract

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func mustParse(t testing.TB, schema string) *Contract {
	t.Helper()
	c, err := Parse("test.json", []byte(schema))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustDecoder(t testing.TB, c *Contract, o Options) *Decoder {
	t.Helper()
	d, err := c.NewDecoder(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// decodeOne decodes one payload and returns its fault as "reason: message", or "".
func decodeOne(d *Decoder, payload string, rows *Rows) string {
	d.Decode([]event.Record{{Value: []byte(payload)}}, rows)
	if len(rows.Faults) == 0 {
		return ""
	}
	f := rows.Faults[0]
	if !errkind.Is(f.Err, errkind.Invalid) {
		return "wrong kind " + errkind.Of(f.Err).String()
	}
	return f.Reason + ": " + f.Err.Error()
}

// table shows the rows' columns as text, for comparison.
func table(rows *Rows) []string {
	var out []string
	for i := range rows.N {
		var sb strings.Builder
		fmt.Fprintf(&sb, "%d id=%s key=%s t=%d", rows.Index[i], rows.ID[i], rows.Key[i], rows.Time[i])
		for j := range rows.Columns {
			c := &rows.Columns[j]
			fmt.Fprintf(&sb, " %s=", c.Name)
			switch {
			case c.IsNull(i):
				sb.WriteString("null")
			case c.Kind == event.Float:
				fmt.Fprint(&sb, c.Floats[i])
			case c.Kind == event.Bool:
				fmt.Fprint(&sb, c.Bools[i])
			case c.Kind == event.String:
				fmt.Fprintf(&sb, "%q", c.Strings[i])
			default:
				fmt.Fprint(&sb, c.Ints[i])
			}
		}
		out = append(out, sb.String())
	}
	return out
}

const orderSchema = `{
  "x-freshet": {"id": "id", "key": "customer.name", "time": {"field": "at"}},
  "type": "object",
  "required": ["id", "at"],
  "properties": {
    "id": {"type": ["integer", "string"]},
    "at": {"type": ["string", "number"]},
    "amount": {"type": ["number", "null"]},
    "count": {"type": "integer"},
    "paid": {"type": "boolean"},
    "shipped": {"type": "string", "format": "date-time"},
    "customer": {"type": "object", "properties": {"name": {"type": "string"}, "address": {"type": "object", "properties": {"city": {"type": "string"}}}}},
    "tags": {"type": "array", "items": {"type": "string"}}
  }
}`

func TestRowsHoldTheFieldsAskedForInRecordOrder(t *testing.T) {
	c := mustParse(t, orderSchema)
	d := mustDecoder(t, c, Options{Fields: []string{"amount", "count", "paid", "customer.address.city", "shipped", "at"}})
	var rows Rows
	payloads := []string{
		`{"id":1,"at":"2018-04-01T00:00:31","amount":57.16,"count":3,"paid":true,"shipped":"2018-04-01T02:00:31.5+02:00","customer":{"name":"ann","address":{"city":"Bern"}},"tags":["a"]}`,
		`{"id":`,
		` { "tags" : [ ] , "customer" : { "address" : { } , "name" : "b\u00f6b\n" } , "at" : 1522540831.25 , "id" : "x-2" , "amount" : null , "extra" : {"a":[1]} } `,
		`{"id":"y","at":1522540831250,"count":7.0,"amount":1e2,"paid":false,"customer":{"name":"c","address":{"city":"Zürich"}}}`,
		`{"id":"z","at":"yesterday","amount":99,"customer":{"name":"c"}}`,
		`{"id":"last","at":"2018-04-01 00:00:31","customer":{"name":"c"}}`,
	}
	var recs []event.Record
	for _, p := range payloads {
		recs = append(recs, event.Record{Value: []byte(p)})
	}
	for range 2 { // a decoder and its rows are used again
		d.Decode(recs, &rows)
		want := []string{
			`0 id=1 key=ann t=1522540831000000000 amount=57.16 count=3 paid=true customer.address.city="Bern" shipped=1522540831500000000 at=1522540831000000000`,
			`2 id=x-2 key=` + "böb\n" + ` t=1522540831250000000 amount=null count=null paid=null customer.address.city=null shipped=null at=1522540831250000000`,
			`3 id=y key=c t=1522540831250000000 amount=100 count=7 paid=false customer.address.city="Zürich" shipped=null at=1522540831250000000`,
			`5 id=last key=c t=1522540831000000000 amount=null count=null paid=null customer.address.city=null shipped=null at=1522540831000000000`,
		}
		if diff := cmp.Diff(want, table(&rows)); diff != "" {
			t.Fatal(diff)
		}
		var faults []string
		for _, f := range rows.Faults {
			faults = append(faults, fmt.Sprintf("%d %s %v", f.Record, f.Reason, f.Err))
		}
		if diff := cmp.Diff([]string{
			`1 invalid_json decode event: id: the payload ends here, expected a value (byte 6)`,
			`4 invalid_time decode event: at: "yesterday", expected a time as in 2006-01-02T15:04:05Z (byte 15)`,
		}, faults); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestValueOfAFailedPayloadDoesNotStayInANullRow(t *testing.T) {
	d := mustDecoder(t, mustParse(t, orderSchema), Options{Fields: []string{"amount", "count", "paid", "customer.name", "shipped"}})
	var rows Rows
	d.Decode([]event.Record{
		{Value: []byte(`{"id":1,"at":1522540831,"amount":5,"count":5,"paid":true,"customer":{"name":"x"},"shipped":"2018-04-01T00:00:31Z",]`)},
		{Value: []byte(`{"id":1,"at":1522540831}`), Key: []byte("k")},
	}, &rows)
	if rows.N != 1 || len(rows.Faults) != 1 {
		t.Fatal(rows)
	}
	for i := range rows.Columns {
		c := &rows.Columns[i]
		zero := event.Column{Name: c.Name, Kind: c.Kind}
		zero.Reset(1)
		if !c.IsNull(0) || c.Len() != 1 || len(c.Null) != 1 || !cmp.Equal(c.Floats, zero.Floats) || !cmp.Equal(c.Ints, zero.Ints) ||
			!cmp.Equal(c.Bools, zero.Bools) || !cmp.Equal(c.Strings, zero.Strings) {
			t.Errorf("%s is not a null zero: %+v", c.Name, *c)
		}
	}
}

func headersOf(pairs ...string) event.Headers {
	var h event.Headers
	for i := 0; i < len(pairs); i += 2 {
		h = h.AppendString(pairs[i], pairs[i+1])
	}
	return h
}

func TestIDKeyAndTimeComeFromPayloadThenRecordThenEnvelope(t *testing.T) {
	const (
		open  = `{"x-freshet":{"id":"i","key":"k","time":{"field":"t"}}}`
		bare  = `{}`
		named = `{"i":"pi","k":7,"t":1522540831}`
	)
	around := headersOf("ce_specversion", "1.0", "ce_id", "hi", "ce_partitionkey", "hk", "ce_time", "2018-04-01T00:00:32Z")
	structured := headersOf("content-type", "application/cloudevents+json")
	const envelope = `{"specversion":"1.0","id":"ei","source":"s","type":"t","time":"2018-04-01T00:00:33Z","partitionkey":"ek",`
	arrival := int64(1522540834e9)
	for name, tc := range map[string]struct {
		schema string
		o      Options
		r      event.Record
		want   string
	}{
		"payload":                        {open, Options{}, event.Record{ID: []byte("ri"), Key: []byte("rk"), Headers: around, Value: []byte(named)}, "0 id=pi key=7 t=1522540831000000000"},
		"record, and the header's time":  {open, Options{}, event.Record{ID: []byte("ri"), Key: []byte("rk"), Headers: around, Value: []byte(`{}`)}, "0 id=ri key=rk t=1522540832000000000"},
		"headers":                        {bare, Options{}, event.Record{Headers: around, Value: []byte(`{}`)}, "0 id=hi key=hk t=1522540832000000000"},
		"nothing":                        {bare, Options{}, event.Record{Value: []byte(named)}, "0 id= key= t=1522540834000000000"},
		"named by options":               {bare, Options{ID: "i", Key: "k", Time: TimeRule{Field: "t"}}, event.Record{Value: []byte(named)}, "0 id=pi key=7 t=1522540831000000000"},
		"structured, from the envelope":  {bare, Options{}, event.Record{Headers: structured, Value: []byte(envelope + `"data":{}}`)}, "0 id=ei key=ek t=1522540833000000000"},
		"structured, from the data":      {open, Options{}, event.Record{Headers: structured, Value: []byte(envelope + `"data": ` + named + `}`)}, "0 id=pi key=7 t=1522540831000000000"},
		"structured, the record's first": {bare, Options{}, event.Record{ID: []byte("ri"), Headers: structured, Value: []byte(envelope + `"data":{}}`)}, "0 id=ri key=ek t=1522540833000000000"},
		"base64": {open, Options{}, event.Record{Headers: structured,
			Value: []byte(envelope + `"data_base64":"` + base64.StdEncoding.EncodeToString([]byte(named)) + `"}`)}, "0 id=pi key=7 t=1522540831000000000"},
	} {
		t.Run(name, func(t *testing.T) {
			d := mustDecoder(t, mustParse(t, tc.schema), tc.o)
			tc.r.Time = arrival
			var rows Rows
			d.Decode([]event.Record{tc.r}, &rows)
			if len(rows.Faults) > 0 {
				t.Fatal(rows.Faults[0].Err)
			}
			if diff := cmp.Diff([]string{tc.want}, table(&rows)); diff != "" {
				t.Error(diff)
			}
			if rows.Arrival[0] != arrival {
				t.Errorf("arrival %d", rows.Arrival[0])
			}
		})
	}
}

func TestEveryReasonHasItsFault(t *testing.T) {
	const schema = `{"x-freshet":{"key":"k","time":{"field":"t","ahead":"1h","earliest":"2010-01-01T00:00:00Z"}},
		"properties":{"k":{"type":["string","null"]},"t":{"type":["string","number","null"]},"n":{"type":"integer"}}}`
	structured := headersOf("content-type", "application/cloudevents+json")
	arrival := time.Date(2018, 4, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	covered := map[string]bool{}
	for _, tc := range []struct {
		r    event.Record
		want string
	}{
		{event.Record{}, `empty: decode event: the payload is empty, expected a JSON object`},
		{event.Record{Value: []byte(" \n")}, `empty: decode event: the payload is empty, expected a JSON object`},
		{event.Record{Headers: structured, Value: []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t"}`)}, `empty: decode event: the payload is empty, expected a JSON object`},
		{event.Record{Value: make([]byte, 101)}, `too_large: decode event: 101 bytes, expected at most 100`},
		{event.Record{Value: []byte("{\"k\":\"a\xff\"}")}, `invalid_utf8: decode event: k: byte 0xff is not UTF-8 (byte 7)`},
		{event.Record{Value: []byte(`{"k":"a"`)}, `invalid_json: decode event: the payload ends here, expected ',' or '}' (byte 8)`},
		{event.Record{Value: []byte(`{"k":1}`)}, `schema: decode event: k: the number 1, expected null or string (byte 5)`},
		{event.Record{Value: []byte(`[]`)}, `schema: decode event: an array, expected object (byte 0)`},
		{event.Record{Value: []byte(`{"t":1522540800,"k":null}`)}, `missing_key: decode event: the key field k is absent, null or empty, and the record has no key`},
		{event.Record{Value: []byte(`{"k":"a","t":null}`)}, `missing_time: decode event: the time field t is absent or null, and the envelope has no time`},
		{event.Record{Value: []byte(`{"k":"a","t":"2018-04-31T00:00:00Z"}`)}, `invalid_time: decode event: t: "2018-04-31T00:00:00Z", expected a time as in 2006-01-02T15:04:05Z (byte 13)`},
		{event.Record{Value: []byte(`{"k":"a","t":"2009-12-31T23:59:59Z"}`)}, `time_out_of_range: decode event: the event time 2009-12-31T23:59:59Z is before the earliest allowed, 2010-01-01T00:00:00Z`},
		{event.Record{Value: []byte(`{"k":"a","t":"2018-04-01T01:00:00.1Z"}`)}, `time_out_of_range: decode event: the event time 2018-04-01T01:00:00.1Z is more than 1h0m0s after its arrival at 2018-04-01T00:00:00Z`},
		{event.Record{Value: []byte(`{"k":"a","t":"2300-01-01T00:00:00Z"}`)}, `time_out_of_range: decode event: t: "2300-01-01T00:00:00Z" is outside the years 1678 to 2262 (byte 13)`},
		{event.Record{Value: []byte(`{"k":"a"}`), Headers: headersOf("ce_time", "soon")}, `envelope: decode event: the envelope's time is "soon", expected RFC 3339 as in 2006-01-02T15:04:05Z`},
		{event.Record{Value: []byte(`{}`), Headers: structured}, `envelope: decode event: read event: attribute specversion is missing, expected "1.0"`},
		{event.Record{Value: []byte(`[]`), Headers: headersOf("content-type", event.TypeBatch)}, `envelope: decode event: content type application/cloudevents-batch+json, expected application/cloudevents+json or plain JSON`},
		{event.Record{Value: []byte(`{}`), Headers: event.Headers{9}}, `envelope: decode event: the record's headers are malformed`},
	} {
		d := mustDecoder(t, mustParse(t, schema), Options{MaxBytes: 100})
		tc.r.Time = arrival
		var rows Rows
		d.Decode([]event.Record{tc.r}, &rows)
		if len(rows.Faults) != 1 || rows.N != 0 {
			t.Errorf("%s: no fault, want %s", tc.r.Value, tc.want)
			continue
		}
		f := rows.Faults[0]
		if got := f.Reason + ": " + f.Err.Error(); got != tc.want {
			t.Errorf("\n got %s\nwant %s", got, tc.want)
		}
		covered[f.Reason] = true
	}
	for _, r := range Reasons() {
		if !covered[r] {
			t.Errorf("no case gives the reason %s", r)
		}
	}
}

func TestEventAtTheEdgeOfTheTimeRuleIsTaken(t *testing.T) {
	c := mustParse(t, `{"x-freshet":{"time":{"field":"t","ahead":"1h","earliest":"2010-01-01T00:00:00Z"}}}`)
	d := mustDecoder(t, c, Options{})
	arrival := time.Date(2018, 4, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	var rows Rows
	d.Decode([]event.Record{
		{Time: arrival, Value: []byte(`{"t":"2010-01-01T00:00:00Z"}`)},
		{Time: arrival, Value: []byte(`{"t":"2018-04-01T01:00:00Z"}`)},
		{Time: 0, Value: []byte(`{"t":"2100-04-01T01:00:00Z"}`)}, // a record without an arrival has no "ahead"
	}, &rows)
	if rows.N != 3 {
		t.Fatal(rows.Faults)
	}
}

func TestOptionsOverrideTheContract(t *testing.T) {
	c := mustParse(t, orderSchema)
	d := mustDecoder(t, c, Options{ID: "customer.name", Key: "paid", Time: TimeRule{Field: "shipped", Earliest: time.Date(1990, 1, 1, 0, 0, 0, 0, time.UTC)}, Fields: []string{"shipped"}})
	var rows Rows
	d.Decode([]event.Record{{Value: []byte(`{"id":1,"at":1,"paid":true,"customer":{"name":"n"},"shipped":"1995-01-01T00:00:00Z"}`)}}, &rows)
	if rows.N != 1 {
		t.Fatal(rows.Faults)
	}
	if rows.ID[0] != "n" || rows.Key[0] != "true" || rows.Time[0] != time.Date(1995, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano() || rows.Columns[0].Ints[0] != rows.Time[0] {
		t.Fatal(table(&rows))
	}
}

func TestDecoderRefusesFieldsThatAreNotThere(t *testing.T) {
	c := mustParse(t, orderSchema)
	for _, tc := range []struct {
		o    Options
		want string
	}{
		{Options{Fields: []string{"amout"}}, `the schema has no field amout (did you mean "amount"?)`},
		{Options{Fields: []string{"customer.nam"}}, `the schema has no field customer.nam (did you mean "customer.name"?)`},
		{Options{Fields: []string{"customer"}}, `field customer is object, expected one scalar type`},
		{Options{Fields: []string{"id"}}, `field id is integer or string, expected one scalar type`},
		{Options{Fields: []string{"tags.0"}}, `the schema has no field tags.0`},
		{Options{Fields: []string{"amount", "amount"}}, `field amount is asked for twice`},
		{Options{Key: "tags"}, `field tags is array, expected a scalar`},
		{Options{Time: TimeRule{Field: "paid"}}, `field paid is boolean, and a time is a string or a number`},
		{Options{ID: "a..b"}, `the schema has no field a..b`},
		{Options{ID: ""}, ``},
	} {
		_, err := c.NewDecoder(tc.o)
		if tc.want == "" {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if !errkind.Is(err, errkind.Config) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v:\n got %v\nwant %s", tc.o, err, tc.want)
		}
	}
}

func TestAnySchemaTakesAnyObject(t *testing.T) {
	for _, schema := range []string{`{}`, `true`, ` {"$schema":"https://json-schema.org/draft/2020-12/schema"} `} {
		d := mustDecoder(t, mustParse(t, schema), Options{Key: "a.b"})
		var rows Rows
		if got := decodeOne(d, `{"x":[1,{"y":null}],"a":{"b":"k"}}`, &rows); got != "" || rows.Key[0] != "k" {
			t.Errorf("%s: %s", schema, got)
		}
		if got := decodeOne(d, `[1]`, &rows); !strings.HasPrefix(got, "schema: ") {
			t.Errorf("%s takes an array: %s", schema, got)
		}
	}
}

func TestFieldsListsEveryScalar(t *testing.T) {
	c := mustParse(t, orderSchema)
	want := []Field{
		{"amount", event.Float, false}, {"at", event.Time, true}, {"count", event.Int, false}, {"customer.address.city", event.String, false},
		{"customer.name", event.String, false}, {"paid", event.Bool, false}, {"shipped", event.Time, false},
	}
	if diff := cmp.Diff(want, c.Fields()); diff != "" {
		t.Error(diff)
	}
}

func TestDecodingAllocatesNothing(t *testing.T) {
	c := mustParse(t, cardSchema)
	d := mustDecoder(t, c, Options{Fields: cardFields})
	recs := cards(100)
	for i := range recs { // escapes, unknown order and headers are no exception
		switch i % 4 {
		case 1:
			recs[i].Value = []byte(`{"terminal_id":1,"currency":"E\u0055R","tx_amount":12345678.123456789012345,"customer_id":2,"tx_datetime":"2018-04-01T00:00:31","transaction_id":3}`)
		case 2:
			recs[i].Headers = headersOf("ce_specversion", "1.0", "ce_type", "t", "content-type", "application/json")
		}
	}
	var rows Rows
	if n := testing.AllocsPerRun(50, func() {
		d.Decode(recs, &rows)
		if rows.N != len(recs) {
			t.Fatal(rows.Faults[0].Err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for %d events", n, len(recs))
	}
	structured := event.Record{Headers: headersOf("content-type", event.TypeStructured),
		Value: []byte(`{"specversion":"1.0","id":"ei","source":"s","type":"t","data":` + string(recs[0].Value) + `}`)}
	if n := testing.AllocsPerRun(100, func() {
		d.Decode([]event.Record{structured}, &rows)
	}); n != 0 || rows.N != 1 {
		t.Errorf("%v allocations for a structured event, %v", n, rows.Faults)
	}
}

func TestRowsOfTwoFramesDoNotShareMemory(t *testing.T) {
	d := mustDecoder(t, mustParse(t, `{"properties":{"a":{"type":"string"}}}`), Options{Fields: []string{"a"}})
	var one, two Rows
	decodeOne(d, `{"a":"x\n1"}`, &one)
	decodeOne(d, `{"a":"y\n2"}`, &two)
	if one.Columns[0].Strings[0] != "x\n1" || two.Columns[0].Strings[0] != "y\n2" {
		t.Fatal(one.Columns[0].Strings, two.Columns[0].Strings)
	}
}

func TestEnvelopeReadsIDKeyAndTimeOfAPlainPayload(t *testing.T) {
	c := mustParse(t, orderSchema)
	for _, tc := range []struct{ in, want string }{
		{`{"id":17,"at":"2018-04-01T00:00:31","customer":{"x":[{}],"name":"ann"}}`, "17 ann 1522540831000000000 true"},
		{` {"at":1522540831,"a":{"b":[1,2]},"id":"a\u0062","customer":{"name":"\n"}} `, "ab \n 1522540831000000000 true"},
		{`{"id":null,"customer":{}}`, "  0 true"},
		{`{"customer":5,"at":"never","id":{}}`, "  0 true"},
		{`{}`, "  0 true"},
		{`[]`, "  0 false"},
		{`{"id":1`, "  0 false"},
		{``, "  0 false"},
	} {
		id, key, at, ok := c.Envelope([]byte(tc.in))
		if got := fmt.Sprintf("%s %s %d %v", id, key, at, ok); got != tc.want {
			t.Errorf("%s:\n got %q\nwant %q", tc.in, got, tc.want)
		}
	}
}

func kindOf(err error) string { return errkind.Of(err).String() }
