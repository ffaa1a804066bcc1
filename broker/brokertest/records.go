package brokertest

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
)

// record is a copy of an event.Record that compares with ==.
type record struct {
	ID, Key, Headers, Value string
	Partition               int
	Position, Time          int64
}

func copyOf(partition int, r *event.Record) record {
	return record{string(r.ID), string(r.Key), string(r.Headers), string(r.Value), partition, r.Position, r.Time}
}

// sent is r as it was published, without what the broker sets.
func (r record) sent() record {
	r.Partition, r.Position, r.Time = 0, 0, 0
	return r
}

// numbered returns n records with the key, whose values are from, from+1, …
func numbered(key string, from, n int) []event.Record {
	recs := make([]event.Record, n)
	for i := range recs {
		v := fmt.Sprintf("%d", from+i)
		recs[i] = event.Record{ID: []byte(key + "/" + v), Key: []byte(key), Value: []byte(v)}
	}
	return recs
}

// publish stores recs, in batches that the driver takes.
func (e *env) publish(topic string, recs []event.Record) {
	e.Helper()
	p, err := e.tryPublish(topic, recs)
	e.must("Publish", err)
	if want := (broker.Published{Stored: len(recs)}); p != want {
		e.Fatalf("Publish of %d records: got %+v, want %+v", len(recs), p, want)
	}
}

func (e *env) tryPublish(topic string, recs []event.Record) (total broker.Published, err error) {
	for len(recs) > 0 {
		n := len(recs)
		if e.caps.MaxBatch > 0 {
			n = min(n, e.caps.MaxBatch)
		}
		p, err := e.d.Publish(e.ctx, topic, recs[:n:n])
		if err != nil {
			return total, err
		}
		total.Stored += p.Stored
		total.Duplicates += p.Duplicates
		recs = recs[n:]
	}
	return total, nil
}

func (e *env) describe(topic, group string) broker.Topic {
	e.Helper()
	t, err := e.d.Describe(e.ctx, topic, group)
	e.must("Describe", err)
	return t
}

func (e *env) read(topic string, partition int, from int64) broker.Reader {
	e.Helper()
	r, err := e.d.Read(e.ctx, topic, partition, from)
	e.must("Read", err)
	return r
}

// clockSkew is how far the broker's clock may be from ours.
const clockSkew = time.Minute

func recordCases() []suiteCase {
	return []suiteCase{
		{name: "a record comes back as it was published", run: roundTrip},
		{name: "metadata is kept in order with repeats", run: metadata},
		{name: "binary and empty bodies come back unchanged", run: bodies},
		{name: "records of one publisher keep their order", run: orderInPartition},
		{name: "order per key holds under concurrent publishers", run: orderPerKey},
		{name: "a key selects the partition that PartitionFor names", run: keyPartition},
		{name: "published bytes may be overwritten after the call", run: publisherOwnsBytes},
		{name: "a batch stays valid until it is released", run: batchValidity},
		{name: "repeated ids are dropped and counted", needs: dedup, run: deduplication},
		{name: "records without an id are never dropped", needs: dedup, run: noIDNoDedup},
	}
}

func roundTrip(e *env) {
	topic := e.topic(1)
	sent := event.Record{
		ID: []byte("e-1"), Key: []byte("customer-7"), Value: []byte(`{"amount":12.5}`),
		Headers: event.Headers(nil).AppendString("ce_type", "payment").AppendString("ce_source", "/tests"),
	}
	before := time.Now().Add(-clockSkew)
	e.publish(topic, []event.Record{sent, {Value: []byte("second")}})
	after := time.Now().Add(clockSkew)

	r := e.read(topic, 0, 0)
	defer r.Close()
	got := e.fetchN(r, 2)
	for i, g := range got {
		if e.caps.Gapless && g.Position != int64(i) {
			e.Errorf("record %d has position %d", i, g.Position)
		}
		if g.Time < before.UnixNano() || g.Time > after.UnixNano() {
			e.Errorf("record %d was stored at %v, published between %v and %v", i, time.Unix(0, g.Time), before, after)
		}
	}
	if want := copyOf(0, &sent); got[0].sent() != want.sent() {
		e.Errorf("got %+v, want %+v", got[0].sent(), want.sent())
	}
	if want := (record{Value: "second"}); got[1].sent() != want {
		e.Errorf("got %+v, want %+v", got[1].sent(), want)
	}
}

func metadata(e *env) {
	topic := e.topic(1)
	var h event.Headers
	h = h.AppendString("ce_type", "a").AppendString("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	h = h.AppendString("ce_type", "again").Append("binary", []byte{0, 255, 128}).AppendString("empty", "").AppendString("übung", "größe")
	e.publish(topic, []event.Record{{Headers: h, Value: []byte("x")}})
	r := e.read(topic, 0, 0)
	defer r.Close()
	if got := e.fetch(r, 1); got[0].Headers != string(h) {
		e.Errorf("headers: got %q, want %q", got[0].Headers, h)
	}
}

func bodies(e *env) {
	topic := e.topic(1)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	want := [][]byte{every, {}, {0}, []byte("\n"), []byte("\xff\xfe invalid utf-8 \x80"), bytes.Repeat([]byte("long"), 20_000)}
	var recs []event.Record
	for i, v := range want {
		if e.caps.MaxRecordBytes > 0 && len(v) > e.caps.MaxRecordBytes/2 {
			want[i] = v[:e.caps.MaxRecordBytes/2]
		}
		recs = append(recs, event.Record{Key: want[i][:min(8, len(want[i]))], Value: want[i]})
	}
	e.publish(topic, recs)
	r := e.read(topic, 0, 0)
	defer r.Close()
	for i, got := range e.fetchN(r, len(want)) {
		if got.Value != string(want[i]) {
			e.Errorf("body %d: got %d bytes %.40q, want %d bytes %.40q", i, len(got.Value), got.Value, len(want[i]), want[i])
		}
		if got.Key != string(recs[i].Key) {
			e.Errorf("key %d: got %q, want %q", i, got.Key, recs[i].Key)
		}
	}
}

func orderInPartition(e *env) {
	topic := e.topic(1)
	recs := numbered("a", 0, 1000)
	for i := range recs {
		recs[i].Key = fmt.Appendf(nil, "k%d", i%7)
	}
	for from, n := 0, 1; from < len(recs); from, n = from+n, n+3 {
		n = min(n, len(recs)-from)
		e.publish(topic, recs[from:from+n])
	}
	for i, r := range e.all(topic)[0] {
		if r.Value != fmt.Sprint(i) {
			e.Fatalf("position %d holds record %s", i, r.Value)
		}
	}
}

func orderPerKey(e *env) {
	const publishers, keys, each = 4, 10, 50
	topic := e.topic(4)
	var wg sync.WaitGroup
	for p := range publishers {
		wg.Go(func() {
			for from := 0; from < each; from += 5 {
				var recs []event.Record
				for k := range keys {
					recs = append(recs, numbered(fmt.Sprintf("p%d-k%d", p, k), from, 5)...)
				}
				if _, err := e.tryPublish(topic, recs); err != nil {
					e.Errorf("Publish: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	next := map[string]int{}
	for p, recs := range e.all(topic) {
		for _, r := range recs {
			if want := fmt.Sprint(next[r.Key]); r.Value != want {
				e.Fatalf("partition %d position %d: key %s continues with %s, want %s", p, r.Position, r.Key, r.Value, want)
			}
			next[r.Key]++
		}
	}
	if len(next) != publishers*keys {
		e.Fatalf("%d keys came back, %d were published", len(next), publishers*keys)
	}
	for k, n := range next {
		if n != each {
			e.Fatalf("key %s: %d records came back, %d were published", k, n, each)
		}
	}
}

func keyPartition(e *env) {
	const n, keys = 5, 100
	topic := e.topic(n)
	var recs []event.Record
	for k := range keys {
		recs = append(recs, event.Record{Key: fmt.Appendf(nil, "key-%d", k)})
	}
	e.publish(topic, append(recs, event.Record{Value: []byte("without a key")}))
	seen := 0
	for p, recs := range e.all(topic) {
		for _, r := range recs {
			seen++
			if want := broker.PartitionFor([]byte(r.Key), n); r.Key != "" && p != want {
				e.Errorf("key %s lies in partition %d, PartitionFor says %d", r.Key, p, want)
			}
		}
	}
	if seen != keys+1 {
		e.Errorf("%d records came back, %d were published", seen, keys+1)
	}
}

func publisherOwnsBytes(e *env) {
	topic := e.topic(1)
	buf := []byte("id-0key-0value-0")
	recs := make([]event.Record, 1)
	for i := range 10 {
		for _, at := range []int{3, 8, 15} {
			buf[at] = byte('0' + i)
		}
		recs[0] = event.Record{ID: buf[:4], Key: buf[4:9], Value: buf[9:], Headers: event.Headers(nil).Append("h", buf[9:])}
		e.publish(topic, recs)
		clear(recs)
	}
	for i, r := range e.all(topic)[0] {
		v := fmt.Sprintf("value-%d", i)
		want := record{ID: fmt.Sprintf("id-%d", i), Key: fmt.Sprintf("key-%d", i), Value: v, Headers: string(event.Headers(nil).AppendString("h", v))}
		if r.sent() != want {
			e.Errorf("got %+v, want %+v", r.sent(), want)
		}
	}
}

func batchValidity(e *env) {
	topic := e.topic(1)
	e.publish(topic, numbered("a", 0, 300))
	r := e.read(topic, 0, 0)
	defer r.Close()
	var held []*broker.Batch
	for n := 0; n < 300; {
		b, err := r.Fetch(e.ctx, 20)
		e.must("Fetch", err)
		held = append(held, b)
		n += len(b.Records)
		e.publish(topic, numbered("b", 10*n, 10))
	}
	i := 0
	for _, b := range held {
		for _, got := range e.check(b, 20) {
			if want := fmt.Sprint(i); i < 300 && (got.Value != want || got.ID != "a/"+want || got.Key != "a") {
				e.Fatalf("record %d of batches still held changed to %+v", i, got)
			}
			i++
		}
		b.Release()
	}
}

func deduplication(e *env) {
	c := broker.TopicConfig{Partitions: 2, DedupWindow: time.Hour}
	topic, other := e.topicWith(c), e.topicWith(c)
	recs := numbered("a", 0, 10)
	e.publish(topic, recs)
	again := append(numbered("a", 5, 10), numbered("a", 14, 1)...) // 5 known, 5 new, 1 repeated in the call
	p, err := e.tryPublish(topic, again)
	e.must("Publish", err)
	if want := (broker.Published{Stored: 5, Duplicates: 6}); p != want {
		e.Errorf("got %+v, want %+v", p, want)
	}
	if n := e.count(topic); n != 15 {
		e.Errorf("the topic holds %d records, want 15", n)
	}
	e.publish(other, recs) // another topic, another window
	off := e.topic(1)
	e.publish(off, recs)
	e.publish(off, recs) // no window, nothing dropped
}

func noIDNoDedup(e *env) {
	topic := e.topicWith(broker.TopicConfig{Partitions: 1, DedupWindow: time.Hour})
	recs := []event.Record{{Value: []byte("same")}, {Value: []byte("same")}}
	e.publish(topic, recs)
	e.publish(topic, recs)
}

// keyedFor returns n records whose key selects partition p of parts.
func keyedFor(p, parts, n int) []event.Record {
	for k := 0; ; k++ {
		key := fmt.Sprintf("key-%d", k)
		if broker.PartitionFor([]byte(key), parts) == p {
			return numbered(key, 0, n)
		}
	}
}
