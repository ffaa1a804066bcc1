package event

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
)

func headers(pairs ...string) Headers {
	var h Headers
	for i := 0; i < len(pairs); i += 2 {
		h = h.AppendString(pairs[i], pairs[i+1])
	}
	return h
}

// flat is a record as text, for comparison.
func flat(r Record) map[string]string {
	m := map[string]string{"ID": string(r.ID), "Key": string(r.Key), "Value": string(r.Value)}
	for k, v := range r.Headers.All() {
		m[k] = string(v)
	}
	return m
}

func TestStructuredEventBecomesBinaryRecord(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want map[string]string
	}{
		"all attributes": {
			` {"specversion":"1.0","id":"a-1","source":"/pos","type":"pay","time":"2018-04-01T00:00:31Z",
			   "subject":"s","partitionkey":"596","datacontenttype":"application/json","traceparent":"00-1","n":7,"b":true,"gone":null,
			   "data": {"amount": 57.16, "x":[1,"}",{}]} } `,
			map[string]string{"ID": "a-1", "Key": "596", "Value": `{"amount": 57.16, "x":[1,"}",{}]}`, "ce_specversion": "1.0", "ce_source": "/pos",
				"ce_type": "pay", "ce_time": "2018-04-01T00:00:31Z", "ce_subject": "s", "content-type": "application/json",
				"ce_traceparent": "00-1", "ce_n": "7", "ce_b": "true"},
		},
		"escapes and no data": {
			`{"id":"a\"\u00e9","source":"s","type":"t","specversion":"1.0"}`,
			map[string]string{"ID": `a"é`, "Key": "", "Value": "", "ce_specversion": "1.0", "ce_source": "s", "ce_type": "t"},
		},
		"base64": {
			`{"id":"1","source":"s","type":"t","specversion":"1.0","data_base64":"AAEC"}`,
			map[string]string{"ID": "1", "Key": "", "Value": "\x00\x01\x02", "ce_specversion": "1.0", "ce_source": "s", "ce_type": "t"},
		},
		"text": {
			`{"id":"1","source":"s","type":"t","specversion":"1.0","datacontenttype":"text/plain","data":"a\nb"}`,
			map[string]string{"ID": "1", "Key": "", "Value": "a\nb", "ce_specversion": "1.0", "ce_source": "s", "ce_type": "t", "content-type": "text/plain"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := FromStructured([]byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tc.want, flat(r)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestFaultyEnvelopeIsInvalid(t *testing.T) {
	const ok = `"specversion":"1.0","id":"1","source":"s","type":"t"`
	for in, want := range map[string]string{
		``:                                   "not valid JSON",
		`[]`:                                 "not a JSON object",
		`{"id":"1","source":"s","type":"t"}`: "specversion is missing",
		`{"specversion":"0.3","id":"1","source":"s","type":"t"}`: `specversion is "0.3"`,
		`{"specversion":"1.0","source":"s","type":"t"}`:          "id is missing",
		`{"specversion":"1.0","id":"","source":"s","type":"t"}`:  "id is missing or empty",
		`{"specversion":"1.0","id":"1","type":"t"}`:              "source is missing",
		`{"specversion":"1.0","id":"1","source":"s"}`:            "type is missing",
		`{"specversion":"1.0","id":1,"source":"s","type":"t"}`:   "attribute id is 1, expected a string",
		`{` + ok + `,"time":"yesterday"}`:                        "attribute time",
		`{` + ok + `,"Upper":"x"}`:                               "only a-z and 0-9",
		`{` + ok + `,"x":1.5}`:                                   "attribute x is 1.5",
		`{` + ok + `,"x":{}}`:                                    "attribute x is {}",
		`{` + ok + `,"x":"a\u0000b"}`:                            "control character U+0000",
		`{` + ok + `,"x":"\ud800"}`:                              "half a surrogate pair",
		`{` + ok + `,"id":"2"}`:                                  "attribute id is given twice",
		`{` + ok + `,"x":"2","x":"3"}`:                           "attribute x is given twice",
		`{` + ok + `,"data":1,"data_base64":""}`:                 "given twice",
		`{` + ok + `,"data_base64":"*"}`:                         "data_base64",
		`{` + ok + `,"data_base64":1}`:                           "data_base64 is not a string",
		`{` + ok + "}x":                                          "not valid JSON",
		"{" + ok + ",\"x\":\"\xff\"}":                            "not valid UTF-8",
	} {
		_, err := FromStructured([]byte(in))
		if !errkind.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s:\n got %v\nwant Invalid … %s", in, err, want)
		}
	}
}

func TestBatchIsSplitInOrder(t *testing.T) {
	recs, err := SplitBatch([]byte(` [ {"specversion":"1.0","id":"1","source":"s","type":"t","data":1} , {"specversion":"1.0","id":"2","source":"s","type":"t","data":[2]} ] `))
	if err != nil || len(recs) != 2 || string(recs[0].ID) != "1" || string(recs[1].Value) != "[2]" {
		t.Fatal(recs, err)
	}
	if recs, err := SplitBatch([]byte(`[]`)); err != nil || len(recs) != 0 {
		t.Fatal(recs, err)
	}
	for in, want := range map[string]string{
		`{}`:  "expected a JSON array",
		`[1]`: "event 0: ",
		`[{]`: "not valid JSON",
		`[{"specversion":"1.0","id":"1","source":"s","type":"t"},{}]`: "event 1: ",
	} {
		if _, err := SplitBatch([]byte(in)); !errkind.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func TestHTTPMessageIsReadInEveryMode(t *testing.T) {
	h := func(kv ...string) http.Header {
		x := http.Header{}
		for i := 0; i < len(kv); i += 2 {
			x.Add(kv[i], kv[i+1])
		}
		return x
	}
	for name, tc := range map[string]struct {
		header http.Header
		body   string
		want   map[string]string
		err    string
	}{
		"plain": {h("Content-Type", "application/json"), `{"a":1}`,
			map[string]string{"ID": "", "Key": "", "Value": `{"a":1}`, "content-type": "application/json"}, ""},
		"binary": {h("ce-id", "1", "ce-source", "s", "ce-type", "t", "ce-specversion", "1.0", "ce-partitionkey", "k%20%C3%A9", "Content-Type", "application/json", "Accept", "x"), `{}`,
			map[string]string{"ID": "1", "Key": "k é", "Value": "{}", "ce_specversion": "1.0", "ce_source": "s", "ce_type": "t", "content-type": "application/json"}, ""},
		"structured": {h("Content-Type", "Application/CloudEvents+JSON; charset=utf-8"), `{"specversion":"1.0","id":"1","source":"s","type":"t","data":1}`,
			map[string]string{"ID": "1", "Key": "", "Value": "1", "ce_specversion": "1.0", "ce_source": "s", "ce_type": "t"}, ""},
		"batched": {h("Content-Type", "application/cloudevents-batch+json"), `[{"specversion":"1.0","id":"1","source":"s","type":"t","data":1}]`,
			map[string]string{"ID": "1", "Key": "", "Value": "1", "ce_specversion": "1.0", "ce_source": "s", "ce_type": "t"}, ""},
		"other format":     {h("Content-Type", "application/cloudevents+avro"), ``, nil, "is not read here"},
		"repeated header":  {h("ce-id", "1", "ce-id", "2", "ce-specversion", "1.0"), ``, nil, "given 2 times"},
		"bad percent":      {h("ce-id", "%zz", "ce-specversion", "1.0"), ``, nil, "Ce-Id"},
		"missing type":     {h("ce-id", "1", "ce-source", "s", "ce-specversion", "1.0"), ``, nil, "type is missing"},
		"control in value": {h("ce-id", "%01", "ce-specversion", "1.0"), ``, nil, "control character"},
	} {
		t.Run(name, func(t *testing.T) {
			recs, err := FromHTTP(tc.header, []byte(tc.body))
			if tc.err != "" {
				if !errkind.Is(err, errkind.Invalid) || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("got %v, want Invalid … %s", err, tc.err)
				}
				return
			}
			if err != nil || len(recs) != 1 {
				t.Fatal(recs, err)
			}
			if d := cmp.Diff(tc.want, flat(recs[0])); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestRecordIsWrittenAsOneLineOfStructuredJSON(t *testing.T) {
	for name, tc := range map[string]struct {
		r    Record
		want string
	}{
		"binary": {
			Record{ID: []byte("1"), Key: []byte(`k"`), Value: []byte("{\n\"a\": 1}"), Headers: headers("ce_specversion", "1.0", "ce_source", "/p",
				"ce_type", "t", "ce_time", "2018-04-01T00:00:31Z", "ce_subject", "x\n", "content-type", "application/json", "other", "no", "ce_BAD", "no")},
			`{"specversion":"1.0","id":"1","source":"/p","type":"t","time":"2018-04-01T00:00:31Z","partitionkey":"k\"","subject":"x\u000a","datacontenttype":"application/json","data":{"a":1}}`,
		},
		"plain": {
			Record{Value: []byte(`{"a":1}`), Position: 7, Time: 1522540831000000001},
			`{"specversion":"1.0","id":"7","source":"/","type":"freshet.record","time":"2018-04-01T00:00:31.000000001Z","data":{"a":1}}`,
		},
		"not JSON":   {Record{ID: []byte("1"), Value: []byte(`{"a":`)}, `{"specversion":"1.0","id":"1","source":"/","type":"freshet.record","data_base64":"eyJhIjo="}`},
		"text":       {Record{ID: []byte("1"), Value: []byte(`é"`), Headers: headers("content-type", "text/plain")}, `{"specversion":"1.0","id":"1","source":"/","type":"freshet.record","datacontenttype":"text/plain","data":"é\""}`},
		"no data":    {Record{ID: []byte("1")}, `{"specversion":"1.0","id":"1","source":"/","type":"freshet.record"}`},
		"structured": {Record{Value: []byte("{\"id\":\n1}"), Headers: headers("content-type", "application/cloudevents+json")}, `{"id":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			got := string(AppendStructured(nil, &tc.r))
			if got != tc.want {
				t.Errorf("\n got %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestEnvelopeWithoutEscapesIsParsedWithoutAllocation(t *testing.T) {
	b := []byte(`{"specversion":"1.0","id":"a-1","source":"/pos","type":"pay","time":"2018-04-01T00:00:31Z","traceparent":"x","data":{"amount":57.16}}`)
	var e Envelope
	if n := testing.AllocsPerRun(100, func() {
		if err := e.Parse(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzStructured(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"a\u0041","source":"/pos","type":"pay","time":"2018-04-01T00:00:31Z","x":1,"data":{"amount":[57.16]}}`))
	f.Add([]byte(`[{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"AAEC"}]`))
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"s","type":"t","datacontenttype":"text/plain","data":"\n"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = SplitBatch(b)
		r, err := FromStructured(b)
		if err != nil {
			if !errkind.Is(err, errkind.Invalid) {
				t.Fatalf("kind of %v", err)
			}
			return
		}
		out := AppendStructured(nil, &r)
		if !json.Valid(out) || bytes.IndexByte(out, '\n') >= 0 {
			t.Fatalf("not one line of JSON: %q", out)
		}
		again, err := FromStructured(out)
		if err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if !isJSON(r.Value) { // insignificant space may go
			if d := cmp.Diff(flat(r), flat(again)); d != "" {
				t.Fatal(d)
			}
		}
	})
}
