package brokertest

import (
	"context"
	"fmt"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
)

// gapCases are about positions that only rise.
func gapCases() []suiteCase {
	return []suiteCase{
		{name: "Position comes to the end when nothing is left", needs: gaps, run: positionReachesEnd},
		{name: "Position never passes a record", needs: gaps, run: positionBetween},
		{name: "nothing waits exactly when no record waits", run: waitingExact},
	}
}

// store puts n numbered records into the topic's only partition, in two
// transactions where the driver has them: what ends a transaction may take a
// position too.
func (e *env) store(topic string, from, n int) {
	e.Helper()
	if !e.caps.Transactions {
		e.publish(topic, numbered("a", from, n))
		return
	}
	half := numbered("a", from, n)
	for _, recs := range [][]event.Record{half[:n/2], half[n/2:]} {
		if len(recs) > 0 {
			e.must("Commit", e.commit(e.ctx, &broker.Tx{Publish: []broker.Publication{{Topic: topic, Partition: 0, Records: recs}}}))
		}
	}
}

func positionReachesEnd(e *env) {
	topic := e.topic(1)
	e.store(topic, 0, 20)
	r := e.read(topic, 0, 0)
	defer r.Close()
	claim := e.claim(e.subscribe(topic, "g"))
	sent := 20
	for round := range 3 {
		for name, f := range map[string]fetcher{"Reader": r, "Claim": claim} {
			recs := e.fetchN(f, sent)
			end := e.partitionState(topic, "", 0).End
			if end < behind(recs) {
				e.Fatalf("%s round %d: the partition ends at %d, before record %d's position %d", name, round, end, len(recs)-1, behind(recs)-1)
			}
			for e.position(f) < end {
				if got := e.fetchUnlessAt(f, end); len(got) > 0 {
					e.Fatalf("%s round %d: got %+v, which nobody sent", name, round, got)
				}
			}
			at := e.position(f)
			ctx, cancel := context.WithCancel(e.ctx)
			cancel()
			e.within("Fetch with an ended context", func() {
				_, err := f.Fetch(ctx, 1)
				e.wantCanceled(name+".Fetch", err)
			})
			if got := e.position(f); got < at {
				e.Errorf("%s round %d: an empty wait moved Position from %d back to %d", name, round, at, got)
			}
		}
		e.must("Claim.Commit", claim.Commit(e.ctx, e.position(claim)))
		e.wantWaiting(topic, "g", "after committing Position at the end", 0)
		sent = round + 1
		e.store(topic, 100*(round+1), sent)
	}
	if got := e.fetch(r, 1); got[0].Value != "300" {
		e.Errorf("the reader goes on with %s at %d, want 300", got[0].Value, got[0].Position)
	}
}

func positionBetween(e *env) {
	const n = 60
	topic := e.topic(1)
	for from := 0; from < n; from += 10 {
		e.store(topic, from, 10)
	}
	first := e.read(topic, 0, 0)
	defer first.Close()
	recs := e.fetchN(first, n)
	r := e.read(topic, 0, 0)
	defer r.Close()
	claim := e.claim(e.subscribe(topic, "g"))
	for name, f := range map[string]fetcher{"Reader": r, "Claim": claim} {
		for done := 0; done < n; {
			got := e.fetch(f, 7)
			done += len(got)
			at := e.position(f)
			if i := indexOf(recs, at); i != done {
				e.Fatalf("%s: after %d records Position is %d, which is behind %d records", name, done, at, i)
			}
			if done == n {
				break
			}
			next := e.read(topic, 0, at)
			if got := e.fetch(next, 1); got[0] != recs[done] {
				e.Fatalf("%s: Read from Position %d gives %s at %d, want %s at %d", name, at, got[0].Value, got[0].Position, recs[done].Value, recs[done].Position)
			}
			e.must("Reader.Close", next.Close())
		}
	}
}

// wantWaiting holds Describe to say how many records wait: exactly where the
// driver is Gapless, elsewhere whether any.
func (e *env) wantWaiting(topic, group, when string, want int64) {
	e.Helper()
	look := func() string {
		s := e.partitionState(topic, group, 0)
		if s.Waiting == want || !e.caps.Gapless && s.Waiting > 0 && want > 0 {
			return ""
		}
		return fmt.Sprintf("%s: Waiting is %d, want %d (positions [%d, %d), committed %d)", when, s.Waiting, want, s.Start, s.End, s.Committed)
	}
	if !e.caps.Gapless {
		e.eventually(look)
	} else if complaint := look(); complaint != "" {
		e.Fatal(complaint)
	}
}

func waitingExact(e *env) {
	topic := e.topic(1)
	e.wantWaiting(topic, "g", "on an empty topic", 0)
	e.store(topic, 0, 10)
	e.wantWaiting(topic, "g", "before the first commit", 10)
	claim := e.claim(e.subscribe(topic, "g"))
	recs := e.fetchN(claim, 10)
	e.wantWaiting(topic, "g", "with everything fetched and nothing committed", 10)
	commit := func(what string, next, waiting int64) {
		e.Helper()
		e.must("Claim.Commit", claim.Commit(e.ctx, next))
		e.wantWaiting(topic, "g", what, waiting)
	}
	commit("with all but one processed", recs[9].Position, 1)
	commit("with everything processed", behind(recs), 0)
	commit("after going back", recs[4].Position, 6)
	commit("with everything processed again", behind(recs), 0)
	e.store(topic, 10, 1)
	e.wantWaiting(topic, "g", "after one more record", 1)
	commit("with that processed too", behind(e.fetchN(claim, 1)), 0)
}
