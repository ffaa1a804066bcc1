package bustest

import (
	"context"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/event"
)

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
