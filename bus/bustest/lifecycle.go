package bustest

import (
	"context"
	"slices"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
)

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
