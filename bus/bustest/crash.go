package bustest

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
)

const (
	crashRounds = 4
	crashBatch  = 10
)

// RunReceiverCrash kills the server again and again while messages are published,
// received and acknowledged, and holds that every published message is received.
func RunReceiverCrash(t *testing.T, h ReceiverHarness) { runReceiverCrash(t, h) }

func runReceiverCrash(t testing.TB, h ReceiverHarness) {
	e := newReceiving(t, h)
	if e.q.Kill == nil {
		t.Fatal("the harness needs Queue.Kill")
	}
	r := e.open(0, 200)
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	published := make(chan int)
	progress := make(chan int, 1<<16)
	go func() { // publishes until it is told to stop, each batch until it is taken
		n := 0
		for ctx.Err() == nil {
			if e.q.Publish(ctx, results(result, "a", n, crashBatch)) == nil {
				n += crashBatch
				select {
				case progress <- n:
				default:
				}
				continue
			}
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
		published <- n
	}()
	seen := map[string]bool{}
	received := make(chan error, 1)
	var repeats int
	receiving, stop := context.WithCancel(e.ctx)
	defer stop()
	want := make(chan int, 1)
	go func() {
		target := -1
		for {
			select {
			case target = <-want:
			default:
			}
			if target >= 0 && complete(seen, target) {
				received <- nil
				return
			}
			short, done := context.WithTimeout(receiving, 100*time.Millisecond)
			m, err := r.Receive(short, 32)
			done()
			switch {
			case receiving.Err() != nil:
				received <- receiving.Err()
				return
			case err != nil && (canceled(err) || repeatable(err)):
				continue
			case err != nil:
				received <- err
				return
			}
			for i := range m {
				id := string(m[i].Record.ID)
				if seen[id] {
					repeats++
				}
				seen[id] = true
			}
			if err := r.Ack(receiving, m); err != nil && !repeatable(err) && !canceled(err) && !errkind.Is(err, errkind.Conflict) {
				received <- err
				return
			}
		}
	}()
	for range crashRounds {
		quota := 1 + rand.IntN(40)
		e.within("publishing between crashes", func() {
			for range quota {
				<-progress
			}
		})
		e.q.Kill(e.TB)
		for len(progress) > 0 {
			<-progress
		}
	}
	cancel()
	var n int
	e.within("the publisher at its end", func() { n = <-published })
	want <- n
	timer := time.NewTimer(4 * e.patience)
	defer timer.Stop()
	select {
	case err := <-received:
		e.must("Receive or Ack", err)
	case <-timer.C:
		stop()
		e.Logf("the receiver was told to end: %v", <-received)
		missing := 0
		for i := range n {
			if !seen[idOf("a", i)] {
				missing++
			}
		}
		e.Fatalf("%d of %d published messages were not received after %d crashes", missing, n, crashRounds)
	}
	e.Logf("%d crashes, %d messages published, 0 lost, %d came again", crashRounds, n, repeats)
}

func complete(seen map[string]bool, n int) bool {
	if len(seen) < n {
		return false
	}
	for i := range n {
		if !seen[idOf("a", i)] {
			return false
		}
	}
	return true
}

func idOf(key string, n int) string { return string(result(key, n).ID) }

// RunSenderCrash kills the server again and again while records are sent, and
// holds that every record that Send took is there, in order where the harness
// says so and once where it says that.
func RunSenderCrash(t *testing.T, h SenderHarness) { runSenderCrash(t, h) }

func runSenderCrash(t testing.TB, h SenderHarness) {
	e := newSending(t, h)
	if e.to.Kill == nil {
		t.Fatal("the harness needs Target.Kill")
	}
	s := e.open()
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	type end struct{ partition, sent int }
	ended := make(chan end)
	progress := make(chan struct{}, 1<<16)
	for p := range e.h.Partitions {
		go func() {
			n := 0
			for ctx.Err() == nil {
				b := bus.Batch{Topic: e.to.Topic, Partition: p, Records: results(e.h.Record, keyOf(p), n, crashBatch)}
				err := s.Send(ctx, b)
				if err == nil {
					n += crashBatch
					select {
					case progress <- struct{}{}:
					default:
					}
					continue
				}
				if !repeatable(err) && !canceled(err) {
					e.Errorf("Send: %v (kind %v)", err, errkind.Of(err))
					break
				}
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
			ended <- end{p, n}
		}()
	}
	for range crashRounds {
		quota := 1 + rand.IntN(40)
		e.within("sending between crashes", func() {
			for range quota {
				<-progress
			}
		})
		e.to.Kill(e.TB)
		for len(progress) > 0 {
			<-progress
		}
	}
	cancel()
	sent := make([]int, e.h.Partitions)
	e.within("the senders at their end", func() {
		for range sent {
			x := <-ended
			sent[x.partition] = x.sent
		}
	})
	total := 0
	for p := range sent { // what may have been under way is sent again, to its end
		e.send(s, p, results(e.h.Record, keyOf(p), sent[p], crashBatch))
		sent[p] += crashBatch
		total += sent[p]
	}
	repeats := e.wantStored(sent)
	e.Logf("%d crashes, %d records sent, 0 lost, %d stored again", crashRounds, total, repeats)
}
