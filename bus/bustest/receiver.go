package bustest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bus"
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
