package bustest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// receiverCase is one behaviour of the contract.
type receiverCase struct {
	name string
	// needs says whether the case applies; nil means always.
	needs func(h *ReceiverHarness, q *Queue) bool
	run   func(e *receiving)
}

// RunReceiver holds the receivers of h to the contract of bus.Receiver. Each
// case makes its own queue.
func RunReceiver(t *testing.T, h ReceiverHarness) {
	for _, c := range receiverCases() {
		t.Run(caseName(c.name), func(t *testing.T) { c.runOn(t, h) })
	}
}

func receiverCases() []receiverCase {
	return slices.Concat(deliveryCases(), lifecycleCases())
}

func (c *receiverCase) runOn(t testing.TB, h ReceiverHarness) {
	e := newReceiving(t, h)
	if c.needs != nil && !c.needs(&e.h, &e.q) {
		t.Skip("the harness says that the bus does not offer this")
	}
	c.run(e)
}

// receiving is what one case works with.
type receiving struct {
	bench
	h ReceiverHarness
	q Queue
}

func newReceiving(t testing.TB, h ReceiverHarness) *receiving {
	h.defaults()
	return &receiving{bench: newBench(t, h.Patience), h: h, q: h.Queue(t)}
}

// open opens a receiver, which the case closes or its end.
func (e *receiving) open(member, unacknowledged int) bus.Receiver {
	e.Helper()
	r := e.q.Open(e.TB, member, bus.Limits{Unacknowledged: unacknowledged})
	e.Cleanup(func() {
		if err := r.Close(); err != nil {
			e.Errorf("Close at the end: %v", err)
		}
	})
	return r
}

func (e *receiving) close(r bus.Receiver) {
	e.Helper()
	e.mustWithin("Close", r.Close)
}

// publish puts records into the queue, in batches.
func (e *receiving) publish(recs []event.Record) {
	e.Helper()
	for b := range slices.Chunk(recs, 100) {
		e.again("Publish", func(ctx context.Context) error { return e.q.Publish(ctx, b) })
	}
}

// receive returns at least one and at most n messages.
func (e *receiving) receive(r bus.Receiver, n int) (got []bus.Message) {
	e.Helper()
	e.again("Receive", func(ctx context.Context) (err error) {
		e.within("Receive", func() { got, err = r.Receive(ctx, n) })
		return err
	})
	if len(got) == 0 || len(got) > n {
		e.Fatalf("Receive of up to %d messages returned %d", n, len(got))
	}
	return got
}

// take receives n messages and acknowledges none.
func (e *receiving) take(r bus.Receiver, n int) []bus.Message {
	e.Helper()
	var all []bus.Message
	for len(all) < n {
		all = append(all, e.receive(r, n-len(all))...)
	}
	return all
}

func (e *receiving) ack(r bus.Receiver, m []bus.Message) {
	e.Helper()
	e.mustWithin("Ack", func() error { return r.Ack(e.ctx, m) })
}

func (e *receiving) nack(r bus.Receiver, m []bus.Message) {
	e.Helper()
	e.mustWithin("Nack", func() error { return r.Nack(e.ctx, m) })
}

// nothing holds the receiver to have no message for us.
func (e *receiving) nothing(r bus.Receiver, why string) {
	e.Helper()
	ctx, cancel := context.WithTimeout(e.ctx, e.h.Quiet)
	defer cancel()
	var got []bus.Message
	var err error
	e.within("Receive with a context that ends", func() {
		for {
			if got, err = r.Receive(ctx, 10); err == nil || ctx.Err() != nil || !repeatable(err) {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	if err == nil {
		first := plain{}
		if len(got) > 0 {
			first = plainOf(got[0].Record)
		}
		e.Fatalf("%s: got %d messages, the first %v", why, len(got), first)
	}
	if ctx.Err() == nil {
		e.Fatalf("%s: Receive ended early: %v", why, err)
	}
}

// idsOf are the IDs of messages, which have to differ.
func (e *receiving) idsOf(m []bus.Message) map[string]bool {
	e.Helper()
	ids := map[string]bool{}
	for i := range m {
		id := string(m[i].Record.ID)
		if ids[id] {
			e.Fatalf("message %q is handed out twice", id)
		}
		ids[id] = true
	}
	return ids
}

// wantNumbered holds messages to be those from from to from+n−1 of a key, each once.
func (e *receiving) wantNumbered(m []bus.Message, key string, from, n int) {
	e.Helper()
	if ids := e.idsOf(m); len(ids) != n {
		e.Errorf("%d messages, want %d", len(ids), n)
	}
	next := from
	for i := range m {
		k, x, ok := number(string(m[i].Record.ID))
		if !ok || k != key || x < from || x >= from+n {
			e.Fatalf("message %q, want %s/%d to %s/%d", m[i].Record.ID, key, from, key, from+n-1)
		}
		if e.h.Ordered && x != next {
			e.Fatalf("message %d comes where %d is next", x, next)
		}
		next = x + 1
	}
}

func (e *receiving) expected(r event.Record) plain {
	if e.h.Expect != nil {
		r = e.h.Expect(r)
	}
	return plainOf(r)
}

func deliveryCases() []receiverCase {
	return []receiverCase{
		{"everything arrives", nil, everythingArrives},
		{"nothing acknowledged comes again", nil, acknowledgedStaysAway},
		{"what is not acknowledged comes again after Close", nil, unacknowledgedReturns},
		{"only what is acknowledged stays away", nil, onlyAcknowledged},
		{"what is given back comes again", nil, givenBackReturns},
		{"giving back again and again loses nothing", nil, givenBackOften},
		{"order holds whatever the size of a batch", func(h *ReceiverHarness, _ *Queue) bool { return h.Ordered }, orderHolds},
		{"records arrive as they were sent", nil, recordsArriveWhole},
		{"records stay valid for good", nil, recordsStayValid},
		{"a redelivery is the same record", nil, redeliveryIsTheSame},
		{"not more than the limit is out", nil, limitHolds},
		{"receivers share a queue", func(h *ReceiverHarness, _ *Queue) bool { return !h.Alone }, receiversShare},
		{"acknowledging overlaps receiving", nil, ackOverlaps},
	}
}

func everythingArrives(e *receiving) {
	n := e.h.Messages
	r := e.open(0, 0)
	e.publish(results(result, "a", 0, n/2))
	got := e.take(r, n/2)
	e.ack(r, got)
	e.publish(results(result, "a", n/2, n-n/2))
	for len(got) < n {
		m := e.receive(r, 64)
		e.ack(r, m)
		got = append(got, m...)
	}
	e.wantNumbered(got, "a", 0, n)
	e.nothing(r, "after everything")
}

func acknowledgedStaysAway(e *receiving) {
	r := e.open(0, 0)
	e.publish(results(result, "a", 0, 60))
	m := e.take(r, 60)
	e.ack(r, m[:40])
	e.ack(r, nil)
	e.ack(r, m[40:])
	e.nothing(r, "after all was acknowledged")
	e.close(r)
	r = e.open(0, 0)
	e.nothing(r, "after all was acknowledged and the receiver opened anew")
	e.publish(results(result, "b", 0, 10))
	e.wantNumbered(e.take(r, 10), "b", 0, 10)
}

func unacknowledgedReturns(e *receiving) {
	r := e.open(0, 0)
	e.publish(results(result, "a", 0, 60))
	m := e.take(r, 40) // and some that the receiver may hold in advance
	e.ack(r, m[:20])
	e.close(r)
	r = e.open(0, 0)
	again := e.take(r, 40)
	for id := range e.idsOf(again) {
		if e.idsOf(m[:20])[id] {
			e.Errorf("message %s was acknowledged and comes again", id)
		}
	}
	e.ack(r, again)
	e.nothing(r, "after all was acknowledged")
}

func onlyAcknowledged(e *receiving) {
	r := e.open(0, 0)
	e.publish(results(result, "a", 0, 30))
	m := e.take(r, 30)
	var kept, done []bus.Message
	for i := range m {
		if i%3 == 1 {
			done = append(done, m[i])
		} else {
			kept = append(kept, m[i])
		}
	}
	e.ack(r, done)
	e.close(r)
	r = e.open(0, 0)
	n := len(kept)
	if e.h.AcksInOrder {
		n = len(m) // the first was not acknowledged
	}
	again := e.take(r, n)
	ids := e.idsOf(again)
	for i := range kept {
		if !ids[string(kept[i].Record.ID)] {
			e.Errorf("message %s was not acknowledged and is gone", kept[i].Record.ID)
		}
	}
	e.ack(r, again)
	e.nothing(r, "after all was acknowledged")
}

func givenBackReturns(e *receiving) {
	r := e.open(0, 0)
	e.publish(results(result, "a", 0, 30))
	m := e.take(r, 30)
	want := e.idsOf(m[10:15])
	e.nack(r, m[10:15])
	e.nack(r, nil)
	again := e.take(r, 5)
	for id := range e.idsOf(again) {
		if !want[id] {
			e.Errorf("message %s comes again, which was not given back", id)
		}
	}
	if e.h.TellsRedelivery {
		for i := range again {
			if !again[i].Redelivered {
				e.Errorf("message %s comes again and is not marked as redelivered", again[i].Record.ID)
			}
		}
	}
	e.ack(r, m[:10])
	e.ack(r, again)
	e.ack(r, m[15:])
	e.nothing(r, "after all was acknowledged")
	e.close(r)
	e.nothing(e.open(0, 0), "after all was acknowledged and the receiver opened anew")
}

func givenBackOften(e *receiving) {
	r := e.open(0, 0)
	e.publish(results(result, "a", 0, 5))
	for range 3 {
		e.nack(r, e.take(r, 5))
	}
	e.close(r)
	r = e.open(0, 0)
	m := e.take(r, 5)
	if ids := e.idsOf(m); len(ids) != 5 {
		e.Errorf("%d messages are left of 5", len(ids))
	}
	e.ack(r, m)
	e.nothing(r, "after all was acknowledged")
}

func orderHolds(e *receiving) {
	r := e.open(0, 0)
	n := e.h.Messages
	e.publish(results(result, "a", 0, n))
	var got []bus.Message
	for i := 0; len(got) < n; i++ {
		m := e.receive(r, min(1+i%17, n-len(got)))
		got = append(got, m...)
		e.ack(r, m)
	}
	e.wantNumbered(got, "a", 0, n)
}

func recordsArriveWhole(e *receiving) {
	r := e.open(0, 0)
	recs := varied(e.h.MaxBytes, false)
	e.publish(recs)
	got := map[string]event.Record{}
	m := e.take(r, len(recs))
	for i := range m {
		if m[i].Record.Position != 0 || m[i].Record.Time != 0 {
			e.Errorf("message %s has position %d and time %d, which a receiver does not set", m[i].Record.ID, m[i].Record.Position, m[i].Record.Time)
		}
		got[string(m[i].Record.ID)] = m[i].Record
	}
	for _, want := range recs {
		g, ok := got[string(want.ID)]
		switch {
		case !ok:
			e.Errorf("no message has the ID %s", want.ID)
		case plainOf(g) != e.expected(want):
			e.Errorf("a record changed on its way:\n got %v\nwant %v", plainOf(g), e.expected(want))
		}
	}
	e.ack(r, m)
}

func recordsStayValid(e *receiving) {
	r := e.open(0, 0)
	n := e.h.Messages
	e.publish(results(result, "a", 0, n))
	var held []event.Record
	var then []plain
	for len(held) < n {
		m := e.receive(r, 50)
		for i := range m {
			held = append(held, m[i].Record)
			then = append(then, plainOf(m[i].Record))
		}
		e.ack(r, m)
	}
	for i := range held {
		if now := plainOf(held[i]); now != then[i] {
			e.Fatalf("message %d was overwritten: it was %v and is %v", i, then[i], now)
		}
	}
}

func redeliveryIsTheSame(e *receiving) {
	r := e.open(0, 0)
	recs := varied(1024, false)
	e.publish(recs)
	first := map[string]plain{}
	m := e.take(r, len(recs))
	for i := range m {
		first[string(m[i].Record.ID)] = plainOf(m[i].Record)
	}
	check := func(how string, m []bus.Message) {
		e.Helper()
		for i := range m {
			if got, want := plainOf(m[i].Record), first[string(m[i].Record.ID)]; got != want {
				e.Errorf("a message came again %s and differs:\n got %v\nwant %v", how, got, want)
			}
		}
	}
	e.nack(r, m)
	check("after Nack", e.take(r, len(recs)))
	e.close(r)
	r = e.open(0, 0)
	m = e.take(r, len(recs))
	check("after Close", m)
	e.ack(r, m)
}

func limitHolds(e *receiving) {
	const limit, n = 8, 30
	r := e.open(0, limit)
	e.publish(results(result, "a", 0, n))
	fill := func(out []bus.Message) []bus.Message {
		e.Helper()
		for len(out) < limit {
			out = append(out, e.receive(r, n)...)
			if len(out) > limit {
				e.Fatalf("%d messages are out, the limit is %d", len(out), limit)
			}
		}
		e.nothing(r, "with as many out as the limit allows")
		return out
	}
	out := fill(nil)
	e.ack(r, out[:3])
	done := 3
	out = fill(out[3:])
	e.nack(r, out)
	out = fill(nil)
	for {
		e.ack(r, out)
		if done += len(out); done == n {
			break
		}
		out = e.receive(r, n)
		if len(out) > limit {
			e.Fatalf("%d messages are out, the limit is %d", len(out), limit)
		}
	}
	e.nothing(r, "after all was acknowledged")
}

func receiversShare(e *receiving) {
	rs := []bus.Receiver{e.open(0, 50), e.open(1, 50)}
	n := e.h.Messages
	e.publish(results(result, "a", 0, n))
	type got struct {
		m   []bus.Message
		err error
	}
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	all := make(chan got)
	for _, r := range rs {
		go func() {
			for {
				m, err := r.Receive(ctx, 20)
				if err == nil {
					err = r.Ack(ctx, m)
				}
				if ctx.Err() != nil {
					all <- got{nil, nil}
					return
				}
				if err == nil || !repeatable(err) {
					all <- got{m, err}
				}
				if err != nil && !repeatable(err) {
					return
				}
			}
		}()
	}
	var m []bus.Message
	e.within("receiving by two", func() {
		for len(m) < n {
			g := <-all
			if g.err != nil {
				e.Errorf("Receive or Ack: %v", g.err)
				return
			}
			m = append(m, g.m...)
		}
	})
	cancel()
	for left := len(rs); left > 0 && !e.Failed(); {
		if g := <-all; g.m == nil {
			left--
		}
	}
	if ids := e.idsOf(m); len(ids) != n {
		e.Errorf("%d messages arrived, want %d", len(ids), n)
	}
}

func ackOverlaps(e *receiving) {
	r := e.open(0, 100)
	n := e.h.Messages
	e.publish(results(result, "a", 0, n))
	work := make(chan []bus.Message, 4)
	failed := make(chan error, 4)
	for range 4 {
		go func() {
			var err error
			for m := range work {
				if x := r.Ack(e.ctx, m); x != nil {
					err = x
				}
			}
			failed <- err
		}()
	}
	var got []bus.Message
	for len(got) < n {
		m := e.receive(r, 10)
		got = append(got, m...)
		work <- m
	}
	close(work)
	for range 4 {
		e.must("Ack", <-failed)
	}
	e.wantNumbered(got, "a", 0, n)
	e.nothing(r, "after all was acknowledged")
	e.close(r)
	e.nothing(e.open(0, 0), "after all was acknowledged and the receiver opened anew")
}

func lifecycleCases() []receiverCase {
	restarts := func(_ *ReceiverHarness, q *Queue) bool { return q.Restart != nil }
	return []receiverCase{
		{"Receive waits for a message", nil, receiveWaits},
		{"Receive ends with its context", nil, receiveEnds},
		{"cancelling loses nothing", nil, cancelLosesNothing},
		{"Close ends Receive", nil, closeEndsReceive},
		{"calls after Close are Closed", nil, receiverClosed},
		{"a restart of the server loses nothing", restarts, restartLosesNothing},
		{"what was acknowledged before a restart stays away", restarts, restartKeepsAcks},
	}
}

func receiveWaits(e *receiving) {
	r := e.open(0, 0)
	got := make(chan []bus.Message, 1)
	go func() {
		for {
			m, err := r.Receive(e.ctx, 10)
			if err == nil || !repeatable(err) {
				got <- m
				return
			}
		}
	}()
	select {
	case m := <-got:
		e.Fatalf("Receive on an empty queue returned %d messages", len(m))
	case <-time.After(e.h.Quiet):
	}
	e.publish(results(result, "a", 0, 1))
	e.within("the waiting Receive", func() {
		m := <-got
		if len(m) != 1 {
			e.Errorf("the waiting Receive returned %d messages, want 1", len(m))
			return
		}
		if err := r.Ack(e.ctx, m); err != nil {
			e.Errorf("Ack: %v", err)
		}
	})
}

func receiveEnds(e *receiving) {
	r := e.open(0, 0)
	for _, wait := range []time.Duration{0, 20 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(e.ctx, wait)
		var err error
		e.within("Receive with a context that ends", func() { _, err = r.Receive(ctx, 10) })
		cancel()
		if !canceled(err) {
			e.Errorf("Receive with an ended context: got %v, want the context's error or kind %v", err, errkind.Canceled)
		}
	}
	e.publish(results(result, "a", 0, 3))
	e.wantNumbered(e.take(r, 3), "a", 0, 3)
}

func cancelLosesNothing(e *receiving) {
	r := e.open(0, 0)
	n := e.h.Messages
	published := make(chan error, 1)
	go func() {
		for b := range slices.Chunk(results(result, "a", 0, n), 10) {
			if err := e.q.Publish(e.ctx, b); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	var got []bus.Message
	e.within("receiving under cancellation", func() {
		for i := 0; len(got) < n; i++ {
			ctx, cancel := context.WithTimeout(e.ctx, time.Duration(i%8)*500*time.Microsecond)
			m, err := r.Receive(ctx, 7)
			cancel()
			if err != nil && !canceled(err) && !repeatable(err) {
				e.Errorf("Receive: %v", err)
				return
			}
			if err != nil {
				continue
			}
			if err := r.Ack(e.ctx, m); err != nil {
				e.Errorf("Ack: %v", err)
				return
			}
			got = append(got, m...)
		}
	})
	e.must("Publish", <-published)
	e.wantNumbered(got, "a", 0, n)
	e.nothing(r, "after all was acknowledged")
}

func closeEndsReceive(e *receiving) {
	r := e.open(0, 0)
	done := make(chan error, 1)
	go func() {
		for {
			_, err := r.Receive(e.ctx, 10)
			if err == nil || !repeatable(err) {
				done <- err
				return
			}
		}
	}()
	select {
	case err := <-done:
		e.Fatalf("Receive on an empty queue returned %v", err)
	case <-time.After(e.h.Quiet):
	}
	e.close(r)
	e.within("Receive at a Close", func() { e.wantKind("Receive at a Close", <-done, errkind.Closed) })
}

func receiverClosed(e *receiving) {
	r := e.open(0, 0)
	e.publish(results(result, "a", 0, 3))
	m := e.take(r, 3)
	e.close(r)
	e.close(r)
	e.within("calls after Close", func() {
		_, err := r.Receive(e.ctx, 1)
		e.wantKind("Receive after Close", err, errkind.Closed)
		e.wantKind("Ack after Close", r.Ack(e.ctx, m), errkind.Closed)
		e.wantKind("Nack after Close", r.Nack(e.ctx, m), errkind.Closed)
	})
	r = e.open(0, 0)
	again := e.take(r, 3)
	e.wantNumbered(again, "a", 0, 3)
	e.ack(r, again)
}

// tryAck acknowledges where connections come and go. What was taken back comes again.
func (e *receiving) tryAck(r bus.Receiver, m []bus.Message) (acknowledged bool) {
	e.Helper()
	e.again("Ack", func(ctx context.Context) error {
		err := r.Ack(ctx, m)
		acknowledged = err == nil
		if errkind.Is(err, errkind.Conflict) {
			return nil
		}
		return err
	})
	return acknowledged
}

// drain receives and acknowledges until each of n messages has been acknowledged
// or taken back and seen again, and returns how many came twice.
func (e *receiving) drain(r bus.Receiver, seen map[string]bool, n int) (repeats int) {
	e.Helper()
	for len(seen) < n {
		m := e.receive(r, 64)
		for i := range m {
			id := string(m[i].Record.ID)
			if seen[id] {
				repeats++
			}
			seen[id] = true
		}
		e.tryAck(r, m)
	}
	return repeats
}

func restartLosesNothing(e *receiving) {
	r := e.open(0, 0)
	seen := map[string]bool{}
	e.publish(results(result, "a", 0, 100))
	out := e.take(r, 30) // out while the server goes
	e.q.Restart(e.TB)
	e.tryAck(r, out[:10])
	e.publish(results(result, "a", 100, 100))
	for i := range out[:10] {
		seen[string(out[i].Record.ID)] = true
	}
	repeats := e.drain(r, seen, 200)
	e.Logf("200 messages, %d came again", repeats)
}

func restartKeepsAcks(e *receiving) {
	r := e.open(0, 0)
	e.publish(results(result, "a", 0, 100))
	m := e.take(r, 100)
	e.ack(r, m)
	e.close(r)
	e.q.Restart(e.TB)
	r = e.open(0, 0)
	e.nothing(r, "after all was acknowledged and the server restarted")
	e.publish(results(result, "b", 0, 5))
	e.wantNumbered(e.take(r, 5), "b", 0, 5)
}
