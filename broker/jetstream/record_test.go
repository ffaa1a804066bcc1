package jetstream

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/freshet-io/freshet/event"
)

// wire is a message as the client sends and reads it.
func wire(t *testing.T, m *nats.Msg) *nats.Msg {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("NATS/1.0\r\n")
	for k, vs := range m.Header {
		for _, v := range vs {
			b.WriteString(k + ": " + v + "\r\n")
		}
	}
	b.WriteString("\r\n")
	h, err := nats.DecodeHeadersMsg(b.Bytes())
	if err != nil {
		t.Fatalf("%q: %v", b.String(), err)
	}
	return &nats.Msg{Subject: m.Subject, Header: h, Data: bytes.Clone(m.Data)}
}

func roundTrip(t *testing.T, r *event.Record, dedup bool) (got event.Record, m *nats.Msg) {
	t.Helper()
	m = wire(t, newEncoder().encode(r, dedup))
	(&arena{}).decode(m, "s", false, &got)
	if !bytes.Equal(got.ID, r.ID) || !bytes.Equal(got.Key, r.Key) || !bytes.Equal(got.Headers, r.Headers) || !bytes.Equal(got.Value, r.Value) {
		t.Fatalf("%+v became %+v by %v", r, got, m.Header)
	}
	return got, m
}

func TestEventsTravelAsTheNATSBindingSays(t *testing.T) {
	r := event.Record{
		ID: []byte("e 1"), Key: []byte("customer-7"), Value: []byte("{}"),
		Headers: event.Headers(nil).AppendString(event.HeaderSpecVersion, "1.0").AppendString(event.HeaderSource, "/x").
			AppendString(event.HeaderType, "payment").AppendString(event.HeaderContentType, "application/json").
			AppendString("ce_subject", `größe "1"`).AppendString("traceparent", "00-1"),
	}
	_, m := roundTrip(t, &r, true)
	want := nats.Header{
		"ce-specversion": {"1.0"}, "ce-source": {"/x"}, "ce-type": {"payment"}, "content-type": {"application/json"},
		"ce-subject": {"gr%C3%B6%C3%9Fe%20%221%22"}, "traceparent": {"00-1"}, "ce-id": {"e%201"}, "ce-partitionkey": {"customer-7"},
		"Nats-Msg-Id": {"e 1"},
	}
	if diff := cmp.Diff(want, m.Header); diff != "" {
		t.Errorf("headers (-want +got)\n%s", diff)
	}
}

func TestMessagesOfOthersBecomeRecords(t *testing.T) {
	for _, tc := range []struct {
		name string
		h    nats.Header
		want event.Record
	}{
		{"nothing but a body", nil, event.Record{Key: []byte("eu")}},
		{"the server's id", nats.Header{"Nats-Msg-Id": {"7"}, "Nats-Expected-Stream": {"S"}}, event.Record{ID: []byte("7"), Key: []byte("eu")}},
		{"any case", nats.Header{"Ce-Id": {"a%20b"}, "CE-Source": {"/s"}, "Content-Type": {"text/plain"}, "x": {"2", "1"}}, event.Record{
			ID: []byte("a b"), Key: []byte("eu"),
			Headers: event.Headers(nil).AppendString("ce_source", "/s").AppendString("content-type", "text/plain").AppendString("x", "2").AppendString("x", "1"),
		}},
		{"names of the Kafka binding", nats.Header{"ce_id": {"1"}, "ce_partitionkey": {"k"}}, event.Record{ID: []byte("1"), Key: []byte("k")}},
		{"what is packed and broken is passed over", nats.Header{headerPacked: {"!"}, "a": {"b"}}, event.Record{
			Key: []byte("eu"), Headers: event.Headers(nil).AppendString("a", "b"),
		}},
	} {
		var got event.Record
		(&arena{}).decode(&nats.Msg{Header: tc.h, Data: []byte("x")}, "orders.eu", true, &got)
		tc.want.Value = []byte("x")
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tc.name, diff)
		}
	}
}

func FuzzRecordsComeBackAsTheyWere(f *testing.F) {
	f.Add([]byte("id"), []byte("key"), "ce_type", []byte("a"), "x", []byte{0})
	f.Add([]byte{255}, []byte(" "), "Nats-Msg-Id", []byte("%41"), "ce-id", []byte("\r\n"))
	f.Add([]byte(nil), []byte(nil), "", []byte(nil), "Content-Type", []byte("ü "))
	f.Fuzz(func(t *testing.T, id, key []byte, name string, value []byte, other string, last []byte) {
		h := event.Headers(nil).Append(name, value).Append(other, last).Append(name, last)
		r := event.Record{ID: id, Key: key, Headers: h, Value: value}
		roundTrip(t, &r, true)
		roundTrip(t, &event.Record{ID: key, Headers: event.Headers(nil).Append(other, value)}, false)
	})
}

func FuzzForeignMessagesAreRead(f *testing.F) {
	f.Add("ce-id", "%zz", headerPacked, "AAAA", "$JS.ACK.S.c.1.2.3.4.5", []byte(`{"seq":1}`))
	f.Add("Status", "503", "ce_", "", "$JS.ACK.d.h.S.c.1.2.3.4.5.x", []byte(`{"error":{"code":1}}`))
	f.Fuzz(func(t *testing.T, a, b, c, d, reply string, body []byte) {
		var r event.Record
		(&arena{}).decode(&nats.Msg{Header: nats.Header{a: {b, d}, c: {d}}, Data: body}, reply, true, &r)
		if !r.Headers.Valid() {
			t.Errorf("headers % x", r.Headers)
		}
		if info, ok := parseReply(reply); ok && info.time < 0 {
			t.Errorf("time %d", info.time)
		}
		var k ack
		if err := k.parse(body); err == nil && k.seq == 0 && !bytes.Contains(body, []byte(`"seq":`)) {
			t.Errorf("an acknowledgement out of %q", body)
		}
	})
}

func TestReplySubjectsTellWhereAMessageIs(t *testing.T) {
	want := delivery{stream: 7, delivered: 2, time: 1700000000000000001, pending: 3}
	for _, s := range []string{
		"$JS.ACK.S.c.1.7.2.1700000000000000001.3",
		"$JS.ACK._.abc.S.c.1.7.2.1700000000000000001.3",
		"$JS.ACK.hub.abc.S.c.1.7.2.1700000000000000001.3.random",
	} {
		if got, ok := parseReply(s); !ok || got != want {
			t.Errorf("%s: %+v, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "$JS.ACK.", "$JS.ACK.S.c.1.7.2.x.3", "$JS.ACK.S.c.1.7.2.3", "_INBOX.a.1"} {
		if got, ok := parseReply(s); ok {
			t.Errorf("%s: %+v", s, got)
		}
	}
}
