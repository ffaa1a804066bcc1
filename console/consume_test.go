package console

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// put stores values under keys, through the broker.
func (f *fixture) put(topic string, recs ...event.Record) {
	f.t.Helper()
	if _, err := f.s.o.Broker.Publish(f.t.Context(), topic, recs); err != nil {
		f.t.Fatal(err)
	}
}

func values(vs ...string) []event.Record {
	var recs []event.Record
	for _, v := range vs {
		recs = append(recs, event.Record{Value: []byte(v)})
	}
	return recs
}

func TestGetStreamsPayloadsAsLines(t *testing.T) {
	f := newFixture(t, Options{})
	f.put("transactions", values(`{"n":0}`, "{\n \"n\": 1\n}", "not JSON", "\xff", "", "3")...)
	all := []string{`{"n":0}`, `{"n":1}`, `{"data_base64":"bm90IEpTT04="}`, `{"data_base64":"/w=="}`, `{"data_base64":""}`, "3"}
	for query, want := range map[string][]string{
		"": all, "?from=earliest": all, "?from=latest": nil, "?from=4": all[4:], "?from=99": nil,
		"?limit=2": all[:2], "?from=1&limit=2&partition=0": all[1:3],
		"?from=2001-01-01T00:00:00Z": all, "?from=2101-01-01T00:00:00%2B02:00": nil,
	} {
		w := f.do("GET", "/topics/transactions"+query, "")
		got := strings.FieldsFunc(w.Body.String(), func(r rune) bool { return r == '\n' })
		if w.Code != 200 || w.Header().Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%q: %d %s", query, w.Code, w.Header())
		}
		if diff := cmp.Diff(want, got, cmp.Transformer("", func(s []string) string { return strings.Join(s, "\n") })); diff != "" {
			t.Errorf("%q: %s", query, diff)
		}
	}
}

func TestGetGivesEventsThatCanBePostedAgain(t *testing.T) {
	f := newFixture(t, Options{})
	f.do("POST", "/topics/transactions", structured("e1"), asStructured)
	f.put("transactions", event.Record{Value: []byte(structured("e2")), Headers: event.Headers(nil).AppendString("content-type", event.TypeStructured)})
	f.put("transactions", values(`{"n":3}`)...)
	get := func(from int) []string {
		w := f.do("GET", fmt.Sprintf("/topics/transactions?format=event&from=%d", from), "")
		return strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	}
	first := get(0)
	type place struct {
		ID, Position string
		Partition    int
		Data         struct{ N int }
	}
	for i, line := range first {
		var p place
		if err := json.Unmarshal([]byte(line), &p); err != nil || p.Position != fmt.Sprint(i) || p.Data.N == 0 {
			t.Errorf("%s: %+v %v", line, p, err)
		}
		if w := f.do("POST", "/topics/transactions", strings.Replace(line, `"id":"`, `"id":"again-`, 1), asStructured); w.Code != 200 {
			t.Errorf("posted again: %d %s", w.Code, w.Body)
		}
	}
	for i, line := range get(3) {
		var p place
		if err := json.Unmarshal([]byte(line), &p); err != nil || p.Position != fmt.Sprint(3+i) || strings.Count(line, `"position"`) != 1 {
			t.Errorf("%s: %+v %v", line, p, err)
		}
	}
}

func TestGetMergesPartitionsKeepingTheOrderOfEach(t *testing.T) {
	f := newFixture(t, Options{})
	const keys, each = 20, 200
	for i := range each {
		var recs []event.Record
		for k := range keys {
			recs = append(recs, event.Record{Key: fmt.Appendf(nil, "k%d", k), Value: fmt.Appendf(nil, `{"k":%d,"i":%d}`, k, i)})
		}
		f.put("scored-transactions", recs...)
	}
	next := [keys]int{}
	w := f.do("GET", "/topics/scored-transactions", "")
	for sc := bufio.NewScanner(w.Body); sc.Scan(); {
		var v struct{ K, I int }
		if err := json.Unmarshal(sc.Bytes(), &v); err != nil || v.I != next[v.K] {
			t.Fatalf("%s, want %d of its key: %v", sc.Text(), next[v.K], err)
		}
		next[v.K]++
	}
	for k, n := range next {
		if n != each {
			t.Errorf("key %d: %d of %d", k, n, each)
		}
	}
}

func TestGetRefusesWithAProblem(t *testing.T) {
	for target, want := range map[string]struct {
		status int
		detail string
	}{
		"/topics/transaction":                  {404, "transactions"},
		"/topics/transactions?from=yesterday":  {400, "expected earliest, latest, a position or a time"},
		"/topics/transactions?from=-1":         {400, "expected earliest"},
		"/topics/scored-transactions?from=7":   {400, "of which of the 4 partitions"},
		"/topics/transactions?partition=1":     {400, "has 1, counted from 0"},
		"/topics/transactions?partition=-1":    {400, "a partition's number"},
		"/topics/transactions?limit=0":         {400, "at least 1"},
		"/topics/transactions?follow=maybe":    {400, "true or false"},
		"/topics/transactions?format=xml":      {400, "value or event"},
		"/topics/transactions?form=event":      {400, "is not known"},
		"/topics/transactions?limit=1&limit=2": {400, "2 times"},
		"/topics/transaction/info":             {404, "transactions"},
		"/nothing":                             {404, "/topics/{topic}"},
	} {
		f := newFixture(t, Options{})
		w := f.do("GET", target, "")
		var p problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != want.status || !strings.Contains(p.Detail, want.detail) {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	f := newFixture(t, Options{})
	if w := f.do("DELETE", "/topics/transactions", ""); w.Code != 405 || w.Header().Get("Allow") != "GET, POST" {
		t.Errorf("DELETE: %d %s", w.Code, w.Header())
	}
}

// open starts the fixture's server on a real connection.
func (f *fixture) open() *httptest.Server {
	srv := httptest.NewUnstartedServer(f.s.Handler())
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = f.s.timeout, f.s.timeout
	srv.Start()
	f.t.Cleanup(srv.Close)
	return srv
}

func (f *fixture) get(ctx context.Context, url string) *http.Response {
	f.t.Helper()
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// awaitReadersClosed waits until readers were opened on the broker, and none is open.
func (f *fixture) awaitReadersClosed() {
	f.t.Helper()
	late := time.After(10 * time.Second)
	for {
		f.m.mu.Lock()
		open, opened, changed := f.m.readers, f.m.opened, f.m.changed
		f.m.mu.Unlock()
		if opened > 0 && open == 0 {
			return
		}
		select {
		case <-changed:
		case <-late:
			f.t.Fatalf("%d readers are open of %d", open, opened)
		}
	}
}

func TestFollowDeliversAtOnceAndStopsWithItsClient(t *testing.T) {
	f := newFixture(t, Options{})
	srv := f.open()
	ctx, cancel := context.WithCancel(t.Context())
	resp := f.get(ctx, srv.URL+"/topics/scored-transactions?follow=true&from=latest")
	lines := bufio.NewScanner(resp.Body)
	for i := range 20 {
		want := fmt.Sprintf(`{"n":%d}`, i)
		f.put("scored-transactions", event.Record{Key: []byte(want), Value: []byte(want)})
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q, %v, want %s", lines.Text(), lines.Err(), want)
		}
	}
	cancel()
	f.awaitReadersClosed()
}

func TestFollowOutlivesTheServersTimeouts(t *testing.T) {
	f := newFixture(t, Options{})
	f.s.timeout = 50 * time.Millisecond
	srv := f.open()
	resp := f.get(t.Context(), srv.URL+"/topics/transactions?follow=true")
	lines := bufio.NewScanner(resp.Body)
	for i := range 3 {
		<-time.After(2 * f.s.timeout) // nothing to see: the deadlines pass
		want := fmt.Sprint(i)
		f.put("transactions", values(want)...)
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("got %q, %v, want %s", lines.Text(), lines.Err(), want)
		}
	}
}

// A client that does not read must hold back the server, not fill its memory,
// and be dropped after the timeout.
func TestAClientThatTakesNothingIsDropped(t *testing.T) {
	f := newFixture(t, Options{})
	f.s.timeout = 100 * time.Millisecond
	big := strings.Repeat("x", 900)
	for range 200 {
		f.put("transactions", values(strings.Split(strings.Repeat(`"`+big+`" `, 100), " ")[:100]...)...)
	}
	srv := f.open()
	resp := f.get(t.Context(), srv.URL+"/topics/transactions") // 18 MB, more than sockets hold
	f.awaitReadersClosed()
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("the stream looks complete after %d bytes", n)
	}
}

func TestAStreamThatFailsDoesNotLookComplete(t *testing.T) {
	f := newFixture(t, Options{})
	f.put("transactions", values("1", "2")...)
	f.s.o.Broker = broker.New(failingReads{f.m}, broker.Options{})
	srv := f.open()
	resp := f.get(t.Context(), srv.URL+"/topics/transactions")
	b, err := io.ReadAll(resp.Body)
	if err == nil {
		t.Errorf("a broken stream ended like a whole one: %q", b)
	}
}

type failingReads struct{ *memory }

func (f failingReads) Read(context.Context, string, int, int64) (broker.Reader, error) {
	return failingReader{}, nil
}

type failingReader struct{}

func (failingReader) Close() error { return nil }
func (failingReader) Fetch(context.Context, int) (*broker.Batch, error) {
	return nil, errkind.New(errkind.Corrupt, "bad checksum")
}

func TestGetEndsWhenTheRestIsTrimmedAway(t *testing.T) {
	f := newFixture(t, Options{})
	f.put("transactions", values("0", "1", "2")...)
	sp := span{0, 0, 3}
	for _, trim := range []int64{2, 3} {
		if err := f.m.Trim(t.Context(), "transactions", 0, trim); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		if err := f.s.stream(t.Context(), "transactions", []span{sp}, newStreamWriter(w, query{limit: -1}, f.s.timeout)); err != nil {
			t.Fatal(err)
		}
		if got, want := w.Body.String(), map[int64]string{2: "2\n", 3: ""}[trim]; got != want {
			t.Errorf("after a trim to %d: %q, want %q", trim, got, want)
		}
	}
	f.put("transactions", values("3")...) // beyond the span's end
	w := httptest.NewRecorder()
	if err := f.s.stream(t.Context(), "transactions", []span{sp}, newStreamWriter(w, query{limit: -1}, f.s.timeout)); err != nil || w.Body.Len() != 0 {
		t.Errorf("%q, %v", w.Body, err)
	}
}

func TestTopicsAndTheirState(t *testing.T) {
	f := newFixture(t, Options{})
	f.put("transactions", values("0", "1", "2")...)
	f.m.topics["transactions"].parts[0].committed = 1
	if got, want := f.do("GET", "/topics", "").Body.String(),
		`{"topics":[{"name":"scored-transactions","partitions":4,"records":0,"bytes":0},{"name":"transactions","partitions":1,"records":3,"bytes":3}]}`+"\n"; got != want {
		t.Errorf("got %s", got)
	}
	var s topicState
	if err := json.Unmarshal(f.do("GET", "/topics/transactions/info?group=g", "").Body.Bytes(), &s); err != nil {
		t.Fatal(err)
	}
	if s.Lag == nil || s.Lag.Records != 2 || s.Lag.OldestAgeSeconds <= 0 || s.Lag.OldestAgeSeconds > 60 || len(s.State) != 1 ||
		*s.State[0].Committed != 1 || s.RetentionSeconds != 3600 {
		t.Errorf("got %+v", s)
	}
	if got := f.do("GET", "/topics/transactions/info", "").Body.String(); strings.Contains(got, "lag") || strings.Contains(got, "committed") {
		t.Errorf("without a group: %s", got)
	}
}
