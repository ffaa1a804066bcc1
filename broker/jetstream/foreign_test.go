package jetstream

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// fetch reads n records of a topic's partition 0.
func fetch(t *testing.T, d broker.Driver, topic string, from int64, n int) (out []event.Record) {
	t.Helper()
	r, err := d.Read(t.Context(), topic, 0, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	for len(out) < n {
		b, err := r.Fetch(t.Context(), n-len(out))
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b.Records...)
	}
	return out
}

func TestAStreamOfSomebodyElseIsATopic(t *testing.T) {
	s := startInProcess(t, nil)
	d := open(t, s.url("")).(*Driver)
	defer d.Close()
	stream, err := d.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.*"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "b"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.js.PublishMsg(t.Context(), &nats.Msg{Subject: "orders.eu", Header: nats.Header{"Nats-Msg-Id": {"1"}}, Data: []byte("first")}); err != nil {
		t.Fatal(err)
	}
	p, err := d.Publish(t.Context(), "ORDERS", []event.Record{
		{ID: []byte("2"), Key: []byte("us"), Value: []byte("second")}, {ID: []byte("1"), Value: []byte("again")}, {Key: []byte("a b"), Value: []byte("third")},
	})
	if err != nil || p != (broker.Published{Stored: 2, Duplicates: 1}) {
		t.Fatalf("Publish: %+v, %v", p, err)
	}
	got := fetch(t, d, "ORDERS", 0, 3)
	for i, want := range []event.Record{
		{ID: []byte("1"), Key: []byte("eu"), Value: []byte("first")},
		{ID: []byte("2"), Key: []byte("us"), Value: []byte("second"), Position: 1},
		{Key: []byte("a b"), Value: []byte("third"), Position: 2},
	} {
		got[i].Time = 0
		if diff := cmp.Diff(want, got[i]); diff != "" {
			t.Errorf("record %d (-want +got)\n%s", i, diff)
		}
	}
	if m, err := stream.GetMsg(t.Context(), 2); err != nil || m.Subject != "orders.us" {
		t.Errorf("published on %v, %v", m, err)
	}
	names, err := d.Topics(t.Context())
	if err != nil || !slices.Equal(names, []string{"ORDERS"}) {
		t.Errorf("topics: %v, %v", names, err)
	}
	if err := d.CreateTopic(t.Context(), broker.TopicConfig{Name: "ORDERS", Partitions: 2}); !errkind.Is(err, errkind.Conflict) {
		t.Errorf("CreateTopic over a stream: %v", err)
	}
	if _, err := d.Describe(t.Context(), "KV_b", ""); !errkind.Is(err, errkind.NotFound) {
		t.Errorf("a bucket is a topic: %v", err)
	}
	if _, err := d.Append(t.Context(), "ORDERS", 0, 3, make([]event.Record, 2)); !errkind.Is(err, errkind.Unsupported) {
		t.Errorf("Append of two to a stream without atomic batches: %v", err)
	}
	if end, err := d.Append(t.Context(), "ORDERS", 0, 3, make([]event.Record, 1)); err != nil || end != 4 {
		t.Errorf("Append of one: %d, %v", end, err)
	}
}

func TestAStreamWhoseSubjectsNobodyCanFillIsReadOnly(t *testing.T) {
	s := startInProcess(t, nil)
	d := open(t, s.url("")).(*Driver)
	defer d.Close()
	if _, err := d.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"a.*.b.*"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Publish(t.Context(), "S", make([]event.Record, 1)); !errkind.Is(err, errkind.Unsupported) {
		t.Errorf("Publish: %v", err)
	}
	if _, err := d.js.Publish(t.Context(), "a.1.b.2", nil); err != nil {
		t.Fatal(err)
	}
	if got := fetch(t, d, "S", 0, 1); string(got[0].Key) != "2" {
		t.Errorf("key %s", got[0].Key)
	}
}

func TestMessagesDeletedInBetweenAreSteppedOver(t *testing.T) {
	s := startInProcess(t, nil)
	d := open(t, s.url("")).(*Driver)
	defer d.Close()
	stream, err := d.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Publish(t.Context(), "S", make([]event.Record, 5)); err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{2, 3, 5} {
		if err := stream.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	got := fetch(t, d, "S", 0, 2)
	if got[0].Position != 0 || got[1].Position != 3 {
		t.Errorf("positions %d and %d", got[0].Position, got[1].Position)
	}
	c, err := d.Subscribe(t.Context(), broker.Subscription{Topic: "S", Group: "g"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	claim, err := c.Claim(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for next, want := range map[int64]bool{1: true, 4: false} {
		if err := claim.Commit(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		topic, err := d.Describe(t.Context(), "S", "g")
		if err != nil || topic.Partitions[0].Waiting > 0 != want || topic.Partitions[0].OldestTime > 0 != want {
			t.Errorf("from %d: %+v, %v", next, topic.Partitions[0], err)
		}
	}
}

// TestAFetchOutlivesItsServer has a Fetch wait while the server restarts.
func TestAFetchOutlivesItsServer(t *testing.T) {
	s := startInProcess(t, nil)
	d := open(t, s.url(""))
	defer d.Close()
	b := broker.New(d, broker.Options{})
	if err := d.(broker.Admin).CreateTopic(t.Context(), broker.TopicConfig{Name: "t", Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	r, err := d.Read(t.Context(), "t", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got := make(chan string, 2)
	go func() {
		for n := 0; n < 2 && t.Context().Err() == nil; {
			batch, err := r.Fetch(t.Context(), 1)
			if errkind.Is(err, errkind.Transient) {
				continue
			}
			if err != nil {
				got <- err.Error()
				return
			}
			n++
			got <- string(batch.Records[0].Value)
			batch.Release()
		}
	}()
	for _, v := range []string{"1", "2"} {
		ended := time.Now().Add(30 * time.Second)
		for {
			_, err := b.Publish(t.Context(), "t", []event.Record{{Value: []byte(v)}})
			if err == nil {
				break
			}
			if time.Now().After(ended) {
				t.Fatal(err)
			}
		}
		if have := <-got; have != v {
			t.Fatalf("got %s, want %s", have, v)
		}
		if v == "1" {
			s.stop()
			s.start(t)
		}
	}
}
