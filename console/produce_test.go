package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// fixture is a server on a memory broker.
type fixture struct {
	t *testing.T
	m *memory
	s *Server
}

func newFixture(t *testing.T, o Options) *fixture {
	m := newMemory(map[string]int{"transactions": 1, "scored-transactions": 4})
	o.Broker = broker.New(m, broker.Options{Retry: broker.Retry{Attempts: 1}})
	return &fixture{t, m, New(o)}
}

// do sends a request; headers are "Name: value".
func (f *fixture) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://localhost"+target, strings.NewReader(body))
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	f.s.Handler().ServeHTTP(w, r)
	return w
}

// stored gives the records of a one-partition topic as text.
func (f *fixture) stored(topic string) []string {
	var out []string
	for _, r := range f.m.topics[topic].parts[0].recs {
		s := fmt.Sprintf("%s|%s|%s", r.ID, r.Key, r.Value)
		for k, v := range r.Headers.All() {
			s += fmt.Sprintf("|%s=%s", k, v)
		}
		out = append(out, s)
	}
	return out
}

const (
	asJSON       = "Content-Type: application/json"
	asNDJSON     = "Content-Type: application/x-ndjson"
	asStructured = "Content-Type: application/cloudevents+json; charset=utf-8"
	asBatch      = "Content-Type: application/cloudevents-batch+json"
)

func structured(id string) string {
	return fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"/s","type":"t","partitionkey":"k","data":{"n":1}}`, id)
}

func TestPostStoresEventsInEveryMode(t *testing.T) {
	contract := func(topic string) func([]byte) (id, key []byte) {
		if topic != "transactions" {
			return nil
		}
		return func(b []byte) (id, key []byte) {
			var v struct{ ID, Customer string }
			json.Unmarshal(b, &v)
			return []byte(v.ID), []byte(v.Customer)
		}
	}
	binary := []string{"ce-specversion: 1.0", "ce-id: e1", "ce-source: /s", "ce-type: t", "ce-partitionkey: k"}
	for name, c := range map[string]struct {
		contract func(string) func([]byte) (id, key []byte)
		query    string
		body     string
		headers  []string
		want     []string
	}{
		"plain":          {body: `{"n":1}`, headers: []string{asJSON}, want: []string{`||{"n":1}`}},
		"plain by query": {query: "?id=a&key=b.c", body: `{"a":7,"b":{"c":"x"}}`, headers: []string{asJSON}, want: []string{`7|x|{"a":7,"b":{"c":"x"}}`}},
		"plain by contract": {contract: contract, body: `{"id":"i","customer":"c"}`, headers: []string{asJSON},
			want: []string{`i|c|{"id":"i","customer":"c"}`}},
		"binary takes the key of the contract": {contract: contract, body: `{"id":"i","customer":"c"}`,
			headers: []string{asJSON, "ce-specversion: 1.0", "ce-id: e1", "ce-source: /s", "ce-type: t"},
			want:    []string{`e1|c|{"id":"i","customer":"c"}|ce_specversion=1.0|ce_source=/s|ce_type=t|content-type=application/json`}},
		"query beats contract": {contract: contract, query: "?key=id", body: `{"id":"i","customer":"c"}`, headers: []string{asJSON},
			want: []string{`i|i|{"id":"i","customer":"c"}`}},
		"structured": {body: structured("e1"), headers: []string{asStructured},
			want: []string{`e1|k|{"n":1}|ce_specversion=1.0|ce_source=/s|ce_type=t`}},
		"batched": {body: "[" + structured("e1") + "," + structured("e2") + "]", headers: []string{asBatch},
			want: []string{`e1|k|{"n":1}|ce_specversion=1.0|ce_source=/s|ce_type=t`, `e2|k|{"n":1}|ce_specversion=1.0|ce_source=/s|ce_type=t`}},
		"empty batch": {body: "[]", headers: []string{asBatch}},
		"binary": {body: `{"n":1}`, headers: append(binary, asJSON),
			want: []string{`e1|k|{"n":1}|ce_specversion=1.0|ce_source=/s|ce_type=t|content-type=application/json`}},
		"binary of another type": {body: "\x00\xff", headers: append(binary, "Content-Type: image/png"),
			want: []string{"e1|k|\x00\xff|ce_specversion=1.0|ce_source=/s|ce_type=t|content-type=image/png"}},
		"lines": {query: "?id=n", body: "{\"n\":1}\n\n {\"n\":2} \r\n{\"n\":1}\n{\"n\":3}", headers: []string{asNDJSON},
			want: []string{`1||{"n":1}`, `2||{"n":2}`, `3||{"n":3}`}},
		"no lines": {headers: []string{asNDJSON}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Options{Envelope: c.contract})
			w := f.do("POST", "/topics/transactions"+c.query, c.body, c.headers...)
			if w.Code != http.StatusOK {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if diff := cmp.Diff(c.want, f.stored("transactions")); diff != "" {
				t.Error(diff)
			}
			var p published
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Stored != len(c.want) {
				t.Errorf("answered %s, stored %d", w.Body, len(c.want))
			}
		})
	}
}

func TestPostCountsDuplicates(t *testing.T) {
	f := newFixture(t, Options{})
	f.do("POST", "/topics/transactions", structured("e1"), asStructured)
	w := f.do("POST", "/topics/transactions", "["+structured("e1")+","+structured("e2")+"]", asBatch)
	if got, want := w.Body.String(), "{\"stored\":1,\"duplicates\":1}\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestPostRefusesWithAProblemAndStoresNothing(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for name, c := range map[string]struct {
		target, body string
		headers      []string
		status       int
		want         string // in the answer
	}{
		"broken JSON":         {"/topics/transactions", `{"n":`, []string{asJSON}, 400, "not valid JSON"},
		"empty body":          {"/topics/transactions", " \n", []string{asJSON}, 400, "the body is empty"},
		"invalid UTF-8":       {"/topics/transactions", "\"\xff\"", []string{asJSON}, 400, "not valid UTF-8"},
		"array":               {"/topics/transactions", `[{"n":1}]`, []string{asJSON}, 400, "application/x-ndjson, one a line"},
		"missing attribute":   {"/topics/transactions", `{"specversion":"1.0","id":"1","type":"t"}`, []string{asStructured}, 400, "source is missing"},
		"bad event of batch":  {"/topics/transactions", "[" + structured("e1") + `,{"id":"2"}]`, []string{asBatch}, 400, "event 1"},
		"binary without type": {"/topics/transactions", "{}", []string{asJSON, "ce-specversion: 1.0", "ce-id: 1", "ce-source: /s"}, 400, "type is missing"},
		"binary, broken JSON": {"/topics/transactions", "{", []string{asJSON, "ce-specversion: 1.0", "ce-id: 1", "ce-source: /s", "ce-type: t"}, 400, "not valid JSON"},
		"Avro batch":          {"/topics/transactions", "[]", []string{"Content-Type: application/cloudevents+avro", "ce-specversion: 1.0"}, 400, "is not read here"},
		"missing field":       {"/topics/transactions?id=m", `{"n":1}`, []string{asJSON}, 400, `no field \"m\"`},
		"bad query":           {"/topics/transactions?key=", `{"n":1}`, []string{asJSON}, 400, "query parameter key"},
		"no content type":     {"/topics/transactions", `{"n":1}`, nil, 415, "application/x-ndjson"},
		"form":                {"/topics/transactions", "a=b", []string{"Content-Type: application/x-www-form-urlencoded"}, 415, "is not taken"},
		"text":                {"/topics/transactions", "{}", []string{"Content-Type: text/plain"}, 415, "is not taken"},
		"unknown topic":       {"/topics/transaction", "{}", []string{asJSON}, 404, `"near":["transactions"`},
		"unknown, no events":  {"/topics/nothing", "", []string{asNDJSON}, 404, "no such topic"},
		"record too large":    {"/topics/transactions", `"` + long + `"`, []string{asJSON}, 413, "at most 1000"},
		"line too large":      {"/topics/transactions", `"` + long + `"`, []string{asNDJSON}, 413, `"line":1`},
		"body too large":      {"/topics/transactions", `"` + strings.Repeat(long, 3) + `"`, []string{asJSON}, 413, "limit of 5000 bytes"},
		"one of batch too large": {"/topics/transactions", "[" + structured("e1") + "," + structured("e"+long) + "]", []string{asBatch}, 413,
			`"record":1`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, Options{MaxBody: 5000})
			w := f.do("POST", c.target, c.body, c.headers...)
			if w.Code != c.status || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Fatalf("%d %s %s, want %d", w.Code, w.Header(), w.Body, c.status)
			}
			var p problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != c.status || p.Title == "" || p.Detail == "" {
				t.Errorf("not a whole problem: %s", w.Body)
			}
			if !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("%s does not say %s", w.Body, c.want)
			}
			if got := f.stored("transactions"); len(got) != 0 {
				t.Errorf("stored %v", got)
			}
		})
	}
}

func TestBrokerFaultsHaveTheirStatus(t *testing.T) {
	for kind, want := range map[errkind.Kind]struct {
		status int
		retry  string
	}{
		errkind.Transient: {503, "1"}, errkind.Throttled: {503, "5"}, errkind.Exhausted: {507, ""}, errkind.Closed: {503, "1"},
		errkind.Permanent: {500, ""}, errkind.Corrupt: {500, ""}, errkind.Unsupported: {501, ""}, errkind.Conflict: {409, ""},
	} {
		f := newFixture(t, Options{})
		f.m.refuse = errkind.New(kind, "no")
		w := f.do("POST", "/topics/transactions", `{"n":1}`, asJSON)
		if w.Code != want.status || w.Header().Get("Retry-After") != want.retry {
			t.Errorf("%v: %d, Retry-After %q", kind, w.Code, w.Header().Get("Retry-After"))
		}
	}
}

func TestLinesBeforeAFaultAreStoredAndCounted(t *testing.T) {
	var body bytes.Buffer
	for i := range 2500 {
		fmt.Fprintf(&body, "{\"n\":%d}\n", i)
	}
	body.WriteString("{\"n\":\n{\"n\":1}\n")
	f := newFixture(t, Options{})
	w := f.do("POST", "/topics/transactions?id=n", body.String(), asNDJSON)
	var p problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 400 || p.Line != 2501 || p.Published == nil || p.Published.Stored != 2500 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := len(f.stored("transactions")); got != 2500 {
		t.Errorf("%d stored", got)
	}
}

func TestALineTooLargeForTheBrokerIsNamed(t *testing.T) {
	f := newFixture(t, Options{})
	// The line has 990 bytes and fits; with its id the record does not.
	body := "{\"n\":1}\n{\"id\":\"" + strings.Repeat("x", 980) + "\"}\n"
	w := f.do("POST", "/topics/transactions?id=id", strings.ReplaceAll(body, `"n":1`, `"id":"1"`), asNDJSON)
	if w.Code != 413 || !strings.Contains(w.Body.String(), `"line":2,"published":{"stored":1,`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestABodyCutOffIsRefused(t *testing.T) {
	for _, ct := range []string{asJSON, asNDJSON} {
		f := newFixture(t, Options{})
		r := httptest.NewRequest("POST", "http://localhost/topics/transactions", io.MultiReader(strings.NewReader(`{"n":1}`), brokenReader{}))
		r.Header.Set("Content-Type", strings.TrimPrefix(ct, "Content-Type: "))
		w := httptest.NewRecorder()
		f.s.Handler().ServeHTTP(w, r)
		if w.Code != 400 || len(f.stored("transactions")) != 0 {
			t.Errorf("%s: %d %s, stored %v", ct, w.Code, w.Body, f.stored("transactions"))
		}
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Whatever is posted, the answer is a status and JSON, and what is acknowledged is stored.
func FuzzPost(f *testing.F) {
	for _, ct := range []string{"application/json", "application/x-ndjson", "application/cloudevents+json", "application/cloudevents-batch+json", "text/plain"} {
		for _, body := range []string{"", "{}", `{"id":"a"}`, "[" + structured("e") + "]", structured("e"), "{\"id\":1}\n\n{\"id\":{}}\n", "\xff", `{"id":"\ud800"}`} {
			f.Add(ct, "id=id&key=a.b", "1.0", body)
			f.Add(ct, "", "", body)
		}
	}
	f.Fuzz(func(t *testing.T, ct, query, version, body string) {
		fx := newFixture(t, Options{})
		r := httptest.NewRequest("POST", "http://localhost/topics/transactions", strings.NewReader(body))
		r.URL.RawQuery = query
		r.Header.Set("Content-Type", ct)
		if version != "" {
			r.Header["Ce-Specversion"] = []string{version}
			r.Header["Ce-Id"], r.Header["Ce-Source"], r.Header["Ce-Type"] = []string{query}, []string{"/"}, []string{"t"}
		}
		w := httptest.NewRecorder()
		fx.s.Handler().ServeHTTP(w, r)
		if !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%d %q", w.Code, w.Body)
		}
		recs := fx.m.topics["transactions"].parts[0].recs
		for i := range recs {
			if !recs[i].Headers.Valid() || !json.Valid(event.AppendStructured(nil, &recs[i])) {
				t.Fatalf("stored what does not come out again: %+v", recs[i])
			}
		}
		if w.Code == http.StatusOK {
			var p published
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Stored != len(recs) {
				t.Fatalf("answered %s with %d records stored", w.Body, len(recs))
			}
		}
	})
}
