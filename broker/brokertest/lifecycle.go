package brokertest

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func limitCases() []suiteCase {
	return []suiteCase{
		{name: "a full batch is taken", needs: maxBatch, run: fullBatch},
		{name: "a record at the size limit is taken", needs: maxRecord, run: recordAtLimit},
		{name: "a record above the size limit is Invalid", needs: maxRecord, run: recordAboveLimit},
		{name: "a slow consumer gets everything", run: slowConsumer},
	}
}

func fullBatch(e *env) {
	topic := e.topic(1)
	n := min(e.caps.MaxBatch, 100_000)
	e.publish(topic, make([]event.Record, n))
	if got := e.count(topic); got != n {
		e.Errorf("%d records stored, %d were published", got, n)
	}
}

// largestTested bounds the memory that the size cases need.
const largestTested = 64 << 20

func recordAtLimit(e *env) {
	if e.caps.MaxRecordBytes > largestTested {
		e.Fatalf("MaxRecordBytes is %d; declare at most %d, larger payloads belong into an object store", e.caps.MaxRecordBytes, largestTested)
	}
	topic := e.topic(1)
	rec := event.Record{ID: []byte("id"), Key: []byte("key"), Headers: event.Headers(nil).AppendString("h", "v")}
	rec.Value = bytes.Repeat([]byte("x"), e.caps.MaxRecordBytes-rec.Size())
	e.publish(topic, []event.Record{rec})
	r := e.read(topic, 0, 0)
	defer r.Close()
	if got := e.fetch(r, 1); len(got[0].Value) != len(rec.Value) {
		e.Errorf("the value came back with %d bytes, it had %d", len(got[0].Value), len(rec.Value))
	}
}

func recordAboveLimit(e *env) {
	topic := e.topic(1)
	e.publish(topic, numbered("a", 0, 1))
	_, err := e.d.Publish(e.ctx, topic, []event.Record{{Value: make([]byte, e.caps.MaxRecordBytes+1)}})
	e.wantKind("Publish", err, errkind.Invalid)
	e.publish(topic, numbered("a", 1, 1))
	if got := e.all(topic)[0]; len(got) != 2 {
		e.Errorf("%d records stored, want the 2 good ones", len(got))
	}
}

// slowConsumer lets a fast reader and the publisher run far ahead of a slow one.
func slowConsumer(e *env) {
	const n, batch = 4000, 200
	topic := e.topic(1)
	pad := bytes.Repeat([]byte("."), 1000)
	slow, fast := e.read(topic, 0, 0), e.read(topic, 0, 0)
	defer slow.Close()
	defer fast.Close()
	want := func(r record, i int) {
		e.Helper()
		if p := fmt.Sprintf("%06d", i); len(r.Value) != len(pad)+6 || r.Value[:6] != p {
			e.Fatalf("position %d holds %.10q, want %s", r.Position, r.Value, p)
		}
	}
	var held []record
	for from := 0; from < n; from += batch {
		recs := make([]event.Record, batch)
		for i := range recs {
			recs[i].Value = append(fmt.Appendf(nil, "%06d", from+i), pad...)
		}
		e.publish(topic, recs)
		for i, r := range e.fetchN(fast, batch) {
			want(r, from+i)
		}
		held = append(held, e.fetch(slow, 1)...) // one for each 200
	}
	held = append(held, e.fetchN(slow, n-len(held))...)
	for i, r := range held {
		want(r, i)
	}
}

func lifecycleCases() []suiteCase {
	return []suiteCase{
		{name: "a missing topic is NotFound", run: missingTopic},
		{name: "a missing partition is an error", run: missingPartition},
		{name: "creating a topic again is checked", needs: admin, run: createAgain},
		{name: "a deleted topic is gone", needs: admin, run: deleteTopic},
		{name: "topics are listed sorted", needs: admin, run: listTopics},
		{name: "calls with an ended context do nothing", run: endedContext},
		{name: "Fetch ends with its context", run: cancelFetch},
		{name: "fetches that are given up lose nothing", run: giveUpFetches},
		{name: "Claim ends with its context", run: cancelClaim},
		{name: "publishing under cancellation stays consistent", run: cancelPublish},
		{name: "Fetch waits for the next record", run: fetchWaits},
		{name: "Close may be called twice", run: doubleClose},
		{name: "Close ends calls in progress", run: closeEndsCalls},
		{name: "calls after Close are Closed", run: callsAfterClose},
	}
}

func missingTopic(e *env) {
	topic := e.name("missing")
	_, err := e.d.Publish(e.ctx, topic, numbered("a", 0, 1))
	e.wantKind("Publish", err, errkind.NotFound)
	_, err = e.d.Subscribe(e.ctx, broker.Subscription{Topic: topic, Group: "g"})
	e.wantKind("Subscribe", err, errkind.NotFound)
	_, err = e.d.Read(e.ctx, topic, 0, 0)
	e.wantKind("Read", err, errkind.NotFound)
	_, err = e.d.Describe(e.ctx, topic, "g")
	e.wantKind("Describe", err, errkind.NotFound)
	if !e.caps.Admin {
		return
	}
	e.wantKind("DeleteTopic", e.admin().DeleteTopic(e.ctx, topic), errkind.NotFound)
	e.wantKind("Trim", e.admin().Trim(e.ctx, topic, 0, 1), errkind.NotFound)
	_, err = e.admin().Seek(e.ctx, topic, 0, time.Now())
	e.wantKind("Seek", err, errkind.NotFound)
}

func missingPartition(e *env) {
	topic := e.topic(2)
	for _, p := range []int{-1, 2, 1 << 30} {
		_, err := e.d.Read(e.ctx, topic, p, 0)
		e.wantKind(fmt.Sprintf("Read of partition %d of 2", p), err, errkind.NotFound, errkind.Invalid)
		if e.caps.Admin {
			_, err = e.admin().Seek(e.ctx, topic, p, time.Now())
			e.wantKind(fmt.Sprintf("Seek in partition %d of 2", p), err, errkind.NotFound, errkind.Invalid)
		}
	}
}

func createAgain(e *env) {
	topic := e.topic(3)
	e.publish(topic, numbered("a", 0, 5))
	e.must("CreateTopic alike", e.admin().CreateTopic(e.ctx, broker.TopicConfig{Name: topic, Partitions: 3}))
	e.wantKind("CreateTopic with other partitions", e.admin().CreateTopic(e.ctx, broker.TopicConfig{Name: topic, Partitions: 4}), errkind.Conflict)
	if got := e.describe(topic, ""); len(got.Partitions) != 3 || got.Config.Name != topic || got.Config.Partitions != 3 {
		e.Errorf("Describe: got %+v", got)
	}
	if n := e.count(topic); n != 5 {
		e.Errorf("%d records are left of 5", n)
	}
}

func deleteTopic(e *env) {
	topic := e.topic(2)
	e.publish(topic, numbered("a", 0, 5))
	c := e.subscribe(topic, "g")
	for _, claim := range e.claims(c, 2) {
		e.must("Claim.Commit", claim.Commit(e.ctx, claim.Start()))
	}
	e.must("Consumer.Close", c.Close())
	e.must("DeleteTopic", e.admin().DeleteTopic(e.ctx, topic))
	_, err := e.d.Describe(e.ctx, topic, "")
	e.wantKind("Describe", err, errkind.NotFound)
	e.must("CreateTopic", e.admin().CreateTopic(e.ctx, broker.TopicConfig{Name: topic, Partitions: 1}))
	if n := e.count(topic); n != 0 {
		e.Errorf("a topic made anew holds %d records", n)
	}
	if got := e.describe(topic, "g").Partitions[0].Committed; got != -1 {
		e.Errorf("in a topic made anew the group's position is %d, want -1", got)
	}
	e.publish(topic, numbered("a", 0, 5)) // dropped nowhere, seen by everybody
	if got := e.fetchN(e.claim(e.subscribe(topic, "g")), 5); got[0].Value != "0" || e.caps.Gapless && got[0].Position != 0 {
		e.Errorf("a topic made anew starts at %d", got[0].Position)
	}
}

func listTopics(e *env) {
	mine := map[string]bool{e.topic(1): true, e.topic(1): true, e.topic(1): true}
	names, err := e.admin().Topics(e.ctx)
	e.must("Topics", err)
	for i, name := range names {
		if i > 0 && names[i-1] >= name {
			e.Errorf("%q comes after %q", name, names[i-1])
		}
		delete(mine, name)
	}
	if len(mine) > 0 {
		e.Errorf("not listed: %v", mine)
	}
}

func endedContext(e *env) {
	topic := e.topic(1)
	c := e.subscribe(topic, "g")
	claim := e.claim(c)
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	e.within("calls with an ended context", func() {
		_, err := e.d.Publish(ctx, topic, numbered("a", 0, 1))
		e.wantCanceled("Publish", err)
		_, err = c.Claim(ctx)
		e.wantCanceled("Claim", err)
		_, err = claim.Fetch(ctx, 1)
		e.wantCanceled("Claim.Fetch", err)
		if e.caps.Transactions {
			err := e.commit(ctx, &broker.Tx{Publish: []broker.Publication{{Topic: topic, Partition: broker.AnyPartition, Records: numbered("a", 0, 1)}}})
			e.wantCanceled("Commit", err)
		}
	})
	if n := e.count(topic); n != 0 {
		e.Errorf("%d records were stored", n)
	}
}

func cancelFetch(e *env) {
	topic := e.topic(1)
	r := e.read(topic, 0, 0)
	defer r.Close()
	claim := e.claim(e.subscribe(topic, "g"))
	for name, f := range map[string]fetcher{"Reader.Fetch": r, "Claim.Fetch": claim} {
		ctx, cancel := context.WithTimeout(e.ctx, 20*time.Millisecond)
		e.within(name+" whose context ends", func() {
			_, err := f.Fetch(ctx, 1)
			e.wantCanceled(name, err)
		})
		cancel()
	}
	e.publish(topic, numbered("a", 0, 1))
	for _, f := range []fetcher{r, claim} { // both go on where they were
		if got := e.fetch(f, 1); got[0].Value != "0" {
			e.Errorf("after a cancelled Fetch: got %+v", got[0])
		}
	}
}

func cancelClaim(e *env) {
	topic := e.topic(1)
	c := e.subscribe(topic, "g")
	e.claim(c)
	ctx, cancel := context.WithTimeout(e.ctx, 20*time.Millisecond)
	defer cancel()
	e.within("Claim whose context ends", func() {
		_, err := c.Claim(ctx)
		e.wantCanceled("Claim", err)
	})
}

func cancelPublish(e *env) {
	topic := e.topic(1)
	began := time.Now()
	e.publish(topic, numbered("first", 0, 1))
	step := max(20*time.Microsecond, time.Since(began)/25) // so that some end before the answer and some after
	acked, tried := 1, 1
	for i := range 50 {
		ctx, cancel := context.WithTimeout(e.ctx, time.Duration(i)*step)
		e.within("Publish whose context ends", func() {
			tried++
			if _, err := e.d.Publish(ctx, topic, numbered("a", i, 1)); err == nil {
				acked++
			} else {
				e.wantCanceled("Publish", err)
			}
		})
		cancel()
	}
	e.publish(topic, numbered("b", 0, 1))
	if n := e.count(topic) - 1; n < acked || n > tried {
		e.Errorf("%d records stored, %d acknowledged of %d", n, acked, tried)
	}
}

func fetchWaits(e *env) {
	topic := e.topic(1)
	e.publish(topic, numbered("a", 0, 3))
	r := e.read(topic, 0, behind(e.all(topic)[0]))
	defer r.Close()
	claim := e.claim(e.subscribe(topic, "g"))
	e.fetchN(claim, 3)
	got := make([][]record, 2)
	var wg sync.WaitGroup
	for i, f := range []fetcher{r, claim} {
		wg.Go(func() {
			b, err := f.Fetch(e.ctx, 10)
			if err != nil {
				e.Errorf("Fetch: %v", err)
				return
			}
			got[i] = append(got[i], copyOf(b.Partition, &b.Records[0]))
			b.Release()
		})
	}
	e.publish(topic, numbered("a", 3, 1))
	e.within("Fetch after a publish", wg.Wait)
	for _, recs := range got {
		if len(recs) != 1 || recs[0].Value != "3" || e.caps.Gapless && recs[0].Position != 3 {
			e.Errorf("got %+v, want record 3", recs)
		}
	}
}

func doubleClose(e *env) {
	topic := e.topic(1)
	c := e.subscribe(topic, "g")
	e.claim(c)
	left := make(chan error, 1)
	go func() {
		_, err := c.Claim(e.ctx) // waits: there is one partition
		left <- err
	}()
	for range 2 {
		e.must("Consumer.Close", c.Close())
	}
	e.within("Claim during Consumer.Close", func() { e.wantKind("Claim during Consumer.Close", <-left, errkind.Closed) })
	_, err := c.Claim(e.ctx)
	e.wantKind("Claim after Consumer.Close", err, errkind.Closed)
	for range 2 {
		e.within("Close", func() {
			if err := e.d.Close(); err != nil {
				e.Errorf("Close: %v", err)
			}
		})
	}
}

func closeEndsCalls(e *env) {
	topic := e.topic(1)
	r := e.read(topic, 0, 0)
	c := e.subscribe(topic, "g")
	claim := e.claim(c)
	var wg sync.WaitGroup
	started := make(chan struct{}, 3)
	for name, call := range map[string]func() error{
		"Reader.Fetch": func() error { _, err := r.Fetch(e.ctx, 1); return err },
		"Claim.Fetch":  func() error { _, err := claim.Fetch(e.ctx, 1); return err },
		"Claim":        func() error { _, err := c.Claim(e.ctx); return err },
	} {
		wg.Go(func() {
			started <- struct{}{}
			if err := call(); !errkind.Is(err, errkind.Closed) {
				e.Errorf("%s during Close: got %v, want kind closed", name, err)
			}
		})
	}
	for range cap(started) {
		<-started
	}
	e.within("Close", func() {
		if err := e.d.Close(); err != nil {
			e.Errorf("Close: %v", err)
		}
	})
	e.within("calls in progress at Close", wg.Wait)
}

func callsAfterClose(e *env) {
	topic := e.topic(1)
	e.publish(topic, numbered("a", 0, 5))
	r := e.read(topic, 0, 0)
	c := e.subscribe(topic, "g")
	claim := e.claim(c)
	e.must("Close", e.d.Close())
	check := func(what string, err error) {
		e.Helper()
		e.wantKind(what+" after Close", err, errkind.Closed)
	}
	e.within("calls after Close", func() {
		_, err := e.d.Publish(e.ctx, topic, numbered("a", 5, 1))
		check("Publish", err)
		_, err = e.d.Subscribe(e.ctx, broker.Subscription{Topic: topic, Group: "g"})
		check("Subscribe", err)
		_, err = e.d.Read(e.ctx, topic, 0, 0)
		check("Read", err)
		_, err = e.d.Describe(e.ctx, topic, "g")
		check("Describe", err)
		_, err = r.Fetch(e.ctx, 1)
		check("Reader.Fetch", err)
		_, err = claim.Fetch(e.ctx, 1)
		check("Claim.Fetch", err)
		check("Claim.Commit", claim.Commit(e.ctx, 1))
		_, err = c.Claim(e.ctx)
		check("Claim", err)
		if e.caps.Transactions {
			check("Commit", e.commit(e.ctx, &broker.Tx{Publish: []broker.Publication{{Topic: topic, Records: numbered("a", 5, 1)}}}))
		}
		if e.caps.Append {
			_, err = e.append(e.ctx, topic, 0, 5, numbered("a", 5, 1))
			check("Append", err)
		}
		if e.caps.Admin {
			check("CreateTopic", e.admin().CreateTopic(e.ctx, broker.TopicConfig{Name: topic, Partitions: 1}))
			check("DeleteTopic", e.admin().DeleteTopic(e.ctx, topic))
			_, err = e.admin().Topics(e.ctx)
			check("Topics", err)
		}
		for what, err := range map[string]error{"Consumer.Close": c.Close(), "Reader.Close": r.Close()} {
			if err != nil && !errkind.Is(err, errkind.Closed) {
				e.Errorf("%s after Close: got %v, want none or kind closed", what, err)
			}
		}
	})
}
