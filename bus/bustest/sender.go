package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// senderCase is one behaviour of the contract.
type senderCase struct {
	name string
	// needs says whether the case applies; nil means always.
	needs func(h *SenderHarness, to *Target) bool
	run   func(e *sending)
}

// RunSender holds the senders of h to the contract of bus.Sender. Each case
// makes its own target.
func RunSender(t *testing.T, h SenderHarness) {
	for _, c := range senderCases() {
		t.Run(caseName(c.name), func(t *testing.T) { c.runOn(t, h) })
	}
}

func senderCases() []senderCase {
	refuses := func(h *SenderHarness, _ *Target) bool { return h.Refused != nil }
	restarts := func(_ *SenderHarness, to *Target) bool { return to.Restart != nil }
	stalls := func(_ *SenderHarness, to *Target) bool { return to.Stall != nil }
	return []senderCase{
		{"everything is stored when Send returns", nil, everythingStored},
		{"partitions are sent side by side", nil, sideBySide},
		{"a batch is the caller's again after Send", nil, callersBatch},
		{"records are stored as they were sent", nil, recordsStoredWhole},
		{"a batch sent again loses and swaps nothing", nil, sentAgain},
		{"batches that overlap are stored whole", nil, sentOverlapping},
		{"a large batch is taken", nil, largeBatch},
		{"an empty batch is nothing", nil, emptyBatch},
		{"a record that is refused leaves the others", refuses, refusedAmongOthers},
		{"a batch of refused records says so", refuses, refusedAll},
		{"a sender opened anew continues", nil, senderReopened},
		{"Send with an ended context is cancelled", nil, sendCanceled},
		{"calls after Close are Closed", nil, senderClosed},
		{"Send ends with its context while the server hangs", stalls, sendEndsWithContext},
		{"Close ends Send while the server hangs", stalls, closeEndsSend},
		{"a restart of the server loses nothing", restarts, senderRestart},
	}
}

func (c *senderCase) runOn(t testing.TB, h SenderHarness) {
	e := newSending(t, h)
	if c.needs != nil && !c.needs(&e.h, &e.to) {
		t.Skip("the harness says that the receiving side does not offer this")
	}
	c.run(e)
}

// sending is what one case works with.
type sending struct {
	bench
	h  SenderHarness
	to Target
}

func newSending(t testing.TB, h SenderHarness) *sending {
	h.defaults()
	e := &sending{bench: newBench(t, h.Patience), h: h, to: h.Target(t)}
	if e.to.Topic == "" {
		e.to.Topic = "results"
	}
	return e
}

func (e *sending) open() bus.Sender {
	e.Helper()
	s := e.to.Open(e.TB)
	e.Cleanup(func() {
		if err := s.Close(); err != nil {
			e.Errorf("Close at the end: %v", err)
		}
	})
	return s
}

func (e *sending) batch(partition int, recs []event.Record) bus.Batch {
	return bus.Batch{Topic: e.to.Topic, Partition: partition, Records: recs}
}

// send sends a batch until it is taken.
func (e *sending) send(s bus.Sender, partition int, recs []event.Record) {
	e.Helper()
	e.again("Send", func(ctx context.Context) (err error) {
		e.within("Send", func() { err = s.Send(ctx, e.batch(partition, recs)) })
		return err
	})
}

// sendOnce sends a batch, which has to be taken.
func (e *sending) sendOnce(s bus.Sender, partition int, recs []event.Record) {
	e.Helper()
	e.mustWithin("Send", func() error { return s.Send(e.ctx, e.batch(partition, recs)) })
}

// keyOf is the key of all records of a partition.
func keyOf(partition int) string { return fmt.Sprintf("p%d", partition) }

// wantStored holds the target to have the first sent[p] records of each
// partition p, and returns how many of them it has more than once.
func (e *sending) wantStored(sent []int) (repeats int) {
	e.Helper()
	total := 0
	for _, n := range sent {
		total += n
	}
	seen := make([]map[int]bool, len(sent))
	for p := range seen {
		seen[p] = map[int]bool{}
	}
	next := make([]int, len(sent))
	for _, r := range e.to.Read(e.TB, total) {
		key, n, ok := number(string(r.ID))
		p := 0
		for p < len(sent) && keyOf(p) != key {
			p++
		}
		if !ok || p == len(sent) || n < 0 || n >= sent[p] {
			e.Fatalf("a record with the ID %q is stored, which nobody sent", r.ID)
		}
		if seen[p][n] {
			repeats++
		}
		seen[p][n] = true
		switch {
		case n == next[p]:
			next[p]++
		case n > next[p] && e.h.Ordered:
			e.Fatalf("partition %d: record %d is stored where %d is next", p, n, next[p])
		}
	}
	for p := range sent {
		if len(seen[p]) != sent[p] {
			e.Errorf("partition %d: %d records are stored, %d were taken", p, len(seen[p]), sent[p])
		}
	}
	if repeats > 0 && e.h.Keyed {
		e.Errorf("%d records are stored more than once, and the store keeps each ID once", repeats)
	}
	return repeats
}

func (e *sending) wantStoredOnce(sent []int) {
	e.Helper()
	if n := e.wantStored(sent); n > 0 {
		e.Errorf("%d records are stored more than once", n)
	}
}

func everythingStored(e *sending) {
	s := e.open()
	n := 0
	for _, size := range []int{1, 9, 40, 1, 149} {
		e.sendOnce(s, 0, results(e.h.Record, keyOf(0), n, size))
		n += size
		e.wantStoredOnce([]int{n})
	}
}

func sideBySide(e *sending) {
	s := e.open()
	sent := make([]int, e.h.Partitions)
	var wg sync.WaitGroup
	for p := range sent {
		wg.Go(func() {
			for range 10 {
				if err := s.Send(e.ctx, e.batch(p, results(e.h.Record, keyOf(p), sent[p], 20))); err != nil {
					e.Errorf("Send: %v", err)
					return
				}
				sent[p] += 20
			}
		})
	}
	e.within("sending side by side", wg.Wait)
	e.wantStoredOnce(sent)
}

func callersBatch(e *sending) {
	s := e.open()
	recs := results(e.h.Record, keyOf(0), 0, 50)
	var want []plain
	for _, r := range recs {
		want = append(want, e.expected(r))
	}
	e.sendOnce(s, 0, recs)
	for i := range recs {
		for _, b := range [][]byte{recs[i].ID, recs[i].Key, recs[i].Headers, recs[i].Value} {
			for j := range b {
				b[j] = 'X'
			}
		}
		recs[i] = event.Record{}
	}
	e.sendOnce(s, 0, results(e.h.Record, keyOf(0), 50, 1))
	got := map[plain]bool{}
	for _, r := range e.to.Read(e.TB, 51) {
		got[plainOf(r)] = true
	}
	for _, w := range want {
		if !got[w] {
			e.Fatalf("%v is not stored as it was sent", w)
		}
	}
}

func (e *sending) expected(r event.Record) plain {
	if e.h.Expect != nil {
		r = e.h.Expect(r)
	}
	return plainOf(r)
}

func recordsStoredWhole(e *sending) {
	s := e.open()
	recs := varied(16<<10, e.h.JSON)
	for i := range recs {
		recs[i].Position = int64(i)
	}
	e.sendOnce(s, 0, recs)
	got := map[string]event.Record{}
	for _, r := range e.to.Read(e.TB, len(recs)) {
		got[string(r.ID)] = r
	}
	for _, want := range recs {
		g, ok := got[string(want.ID)]
		switch {
		case !ok:
			e.Errorf("no record with the ID %s is stored", want.ID)
		case plainOf(g) != e.expected(want):
			e.Errorf("a record changed on its way:\n got %v\nwant %v", plainOf(g), e.expected(want))
		}
	}
}

func sentAgain(e *sending) {
	s := e.open()
	for range 3 {
		e.sendOnce(s, 0, results(e.h.Record, keyOf(0), 0, 30))
	}
	e.sendOnce(s, 0, results(e.h.Record, keyOf(0), 30, 30))
	e.wantStored([]int{60})
}

func sentOverlapping(e *sending) {
	s := e.open()
	for _, from := range []int{0, 5, 10, 12} {
		e.sendOnce(s, 0, results(e.h.Record, keyOf(0), from, 10))
	}
	e.wantStored([]int{22})
}

func largeBatch(e *sending) {
	s := e.open()
	e.sendOnce(s, 0, results(e.h.Record, keyOf(0), 0, e.h.Records))
	e.wantStoredOnce([]int{e.h.Records})
}

func emptyBatch(e *sending) {
	s := e.open()
	e.sendOnce(s, 0, nil)
	e.sendOnce(s, 0, results(e.h.Record, keyOf(0), 0, 1))
	e.wantStoredOnce([]int{1})
}

// wantRefused holds err to name just the records at the indices.
func (e *sending) wantRefused(err error, indices ...int) {
	e.Helper()
	var refused *bus.RefusedError
	if !errors.As(err, &refused) {
		e.Fatalf("Send: got %v, want a RefusedError for the records %v", err, indices)
	}
	e.wantKind("Send", err, errkind.Invalid)
	var got []int
	for _, r := range refused.Records {
		got = append(got, r.Index)
		if r.Err == nil {
			e.Errorf("record %d is refused without a reason", r.Index)
		}
	}
	if !slices.Equal(got, indices) {
		e.Errorf("the records %v are refused, want %v", got, indices)
	}
}

func refusedAmongOthers(e *sending) {
	s := e.open()
	good := results(e.h.Record, keyOf(0), 0, 30)
	var recs []event.Record
	var bad []int
	for i, r := range good {
		if i == 0 || i == 10 || i == 11 {
			bad = append(bad, len(recs))
			recs = append(recs, e.h.Refused())
		}
		recs = append(recs, r)
	}
	bad = append(bad, len(recs))
	recs = append(recs, e.h.Refused())
	for i := range recs {
		recs[i].Position = int64(i)
	}
	var err error
	e.within("Send", func() { err = s.Send(e.ctx, e.batch(0, recs)) })
	e.wantRefused(err, bad...)
	e.wantStoredOnce([]int{len(good)})
	next := results(e.h.Record, keyOf(0), 30, 5)
	for i := range next {
		next[i].Position = int64(len(recs) + i)
	}
	e.sendOnce(s, 0, next)
	e.wantStoredOnce([]int{35})
}

func refusedAll(e *sending) {
	s := e.open()
	var err error
	bad := []event.Record{e.h.Refused(), e.h.Refused()}
	bad[1].Position = 1
	e.within("Send", func() { err = s.Send(e.ctx, e.batch(0, bad)) })
	e.wantRefused(err, 0, 1)
	next := results(e.h.Record, keyOf(0), 0, 1)
	next[0].Position = 2
	e.sendOnce(s, 0, next)
	e.wantStoredOnce([]int{1})
}

func senderReopened(e *sending) {
	for i := range 3 {
		s := e.open()
		e.sendOnce(s, 0, results(e.h.Record, keyOf(0), 10*i, 10))
		e.mustWithin("Close", s.Close)
	}
	e.wantStoredOnce([]int{30})
}

func sendCanceled(e *sending) {
	s := e.open()
	ctx, cancel := context.WithCancel(e.ctx)
	cancel()
	recs := results(e.h.Record, keyOf(0), 0, 10)
	e.within("Send with an ended context", func() {
		if err := s.Send(ctx, e.batch(0, recs)); !canceled(err) {
			e.Errorf("Send with an ended context: got %v, want the context's error or kind %v", err, errkind.Canceled)
		}
	})
	e.send(s, 0, recs)
	e.wantStored([]int{10})
}

func senderClosed(e *sending) {
	s := e.open()
	e.sendOnce(s, 0, results(e.h.Record, keyOf(0), 0, 10))
	for range 2 {
		e.mustWithin("Close", s.Close)
	}
	e.within("Send after Close", func() {
		e.wantKind("Send after Close", s.Send(e.ctx, e.batch(0, results(e.h.Record, keyOf(0), 10, 10))), errkind.Closed)
	})
	e.wantStoredOnce([]int{10})
}

// hang starts a Send that the server does not answer.
func (e *sending) hang(ctx context.Context, s bus.Sender) chan error {
	done := make(chan error, 1)
	go func() {
		for n := 0; ; n += 10 { // the first ones may fit into the network
			if err := s.Send(ctx, e.batch(0, results(e.h.Record, keyOf(0), n, 10))); err != nil {
				done <- err
				return
			}
		}
	}()
	return done
}

func sendEndsWithContext(e *sending) {
	s := e.open()
	resume := e.to.Stall(e.TB)
	defer resume()
	ctx, cancel := context.WithTimeout(e.ctx, 200*time.Millisecond)
	defer cancel()
	done := e.hang(ctx, s)
	e.within("Send to a server that hangs", func() {
		if err := <-done; !canceled(err) && !repeatable(err) {
			e.Errorf("Send to a server that hangs: %v (kind %v)", err, errkind.Of(err))
		}
	})
}

func closeEndsSend(e *sending) {
	s := e.open()
	resume := e.to.Stall(e.TB)
	defer resume()
	done := e.hang(e.ctx, s)
	select {
	case err := <-done:
		e.Fatalf("Send to a server that hangs: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	e.mustWithin("Close", s.Close)
	e.within("Send at a Close", func() { e.wantKind("Send at a Close", <-done, errkind.Closed) })
}

func senderRestart(e *sending) {
	s := e.open()
	n := 0
	for range 3 {
		e.send(s, 0, results(e.h.Record, keyOf(0), n, 20))
		n += 20
		e.to.Restart(e.TB)
	}
	e.send(s, 0, results(e.h.Record, keyOf(0), n, 20))
	e.wantStored([]int{n + 20})
}
