package brokertest

import (
	"context"
	"fmt"
	"sync"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func transactionCases() []suiteCase {
	return []suiteCase{
		{name: "a transaction stores records and moves positions together", needs: transactions, run: txTogether},
		{name: "a transaction becomes visible at once in all topics", needs: transactions, run: txVisibility},
		{name: "a failed transaction leaves nothing", needs: transactions, run: txFailure},
		{name: "a transaction under a revoked claim is a Conflict and leaves nothing", needs: transactions, run: txFenced},
		{name: "concurrent transactions process each record once", needs: transactions, run: txConcurrent},
	}
}

func (e *env) commit(ctx context.Context, tx *broker.Tx) error {
	return e.d.(broker.Transactor).Commit(ctx, tx)
}

func txTogether(e *env) {
	in, out, side := e.topic(1), e.topic(3), e.topic(3)
	e.publish(in, numbered("a", 0, 10))
	claim := e.claim(e.subscribe(in, "g"))
	got := e.fetchN(claim, 10)
	e.must("Commit", e.commit(e.ctx, &broker.Tx{
		Publish: []broker.Publication{
			{Topic: out, Partition: broker.AnyPartition, Records: numbered("r", 0, 7)},
			{Topic: side, Partition: 2, Records: numbered("s", 0, 4)},
			{Topic: out, Partition: 1},
			{Topic: side, Partition: 2, Records: []event.Record{{Value: []byte("4")}}},
		},
		Positions: []broker.ClaimPosition{{Claim: claim, Next: got[9].Position}},
	}))
	e.wantCount(out, "after a transaction", 7)
	e.wantCount(side, "after a transaction", 5)
	for p, recs := range e.all(out) {
		want := 0
		if p == broker.PartitionFor([]byte("r"), 3) {
			want = 7
		}
		if len(recs) != want {
			e.Errorf("partition %d selected by key holds %d records, want %d", p, len(recs), want)
		}
	}
	for p, recs := range e.all(side) {
		if want := map[int]int{2: 5}[p]; len(recs) != want {
			e.Errorf("partition %d with a fixed partition 2 holds %d records, want %d", p, len(recs), want)
		}
		for i, r := range recs {
			if r.Value != fmt.Sprint(i) {
				e.Errorf("partition %d position %d holds %s", p, r.Position, r.Value)
			}
		}
	}
	e.wantCommitted(in, "g", 0, got, got[9].Position)
	e.must("Commit of positions alone", e.commit(e.ctx, &broker.Tx{Positions: []broker.ClaimPosition{{Claim: claim, Next: behind(got)}}}))
	e.wantCommitted(in, "g", 0, got, behind(got))
	e.must("Commit of records alone", e.commit(e.ctx, &broker.Tx{Publish: []broker.Publication{{Topic: out, Partition: 0, Records: numbered("t", 0, 1)}}}))
	e.wantCount(out, "after a transaction without positions", 8)
	e.must("empty Commit", e.commit(e.ctx, &broker.Tx{}))
}

// txVisibility looks at two topics while transactions add to both.
func txVisibility(e *env) {
	const n = 50
	topics := [2]string{e.topic(1), e.topic(1)}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for i := range n {
			tx := &broker.Tx{}
			for _, topic := range topics {
				tx.Publish = append(tx.Publish, broker.Publication{Topic: topic, Partition: 0, Records: numbered("a", i, 1)})
			}
			if err := e.commit(e.ctx, tx); err != nil {
				e.Errorf("Commit: %v", err)
				return
			}
		}
	})
	defer wg.Wait()
	// What a look at one topic saw must have come with its other half: is there
	// at once where the driver is Gapless, soon elsewhere.
	for looks := 0; ; looks++ {
		first := looks % 2
		seen := e.count(topics[first])
		other := func() string {
			if other := e.count(topics[1-first]); other < seen {
				return fmt.Sprintf("topic %d shows %d transactions, topic %d afterwards only %d", first, seen, 1-first, other)
			}
			return ""
		}
		if !e.caps.Gapless {
			e.eventually(other)
		} else if complaint := other(); complaint != "" {
			e.Error(complaint)
			return
		}
		select {
		case <-done:
			for _, topic := range topics {
				e.wantCount(topic, "after the last transaction", n)
			}
			return
		default:
		}
	}
}

func txFailure(e *env) {
	in, out := e.topic(1), e.topic(2)
	e.publish(in, numbered("a", 0, 10))
	claim := e.claim(e.subscribe(in, "g"))
	recs := e.fetchN(claim, 10)
	e.must("Claim.Commit", claim.Commit(e.ctx, recs[3].Position))
	good := broker.Publication{Topic: out, Partition: broker.AnyPartition, Records: numbered("r", 0, 5)}
	fail := func(what string, bad broker.Publication, kinds ...errkind.Kind) {
		e.Helper()
		err := e.commit(e.ctx, &broker.Tx{
			Publish:   []broker.Publication{good, bad},
			Positions: []broker.ClaimPosition{{Claim: claim, Next: behind(recs)}},
		})
		e.wantKind(what, err, kinds...)
		if n := e.count(out); n != 0 {
			e.Errorf("%s: %d records were stored", what, n)
		}
		if got := e.partitionState(in, "g", 0).Committed; !e.same(recs, got, recs[3].Position) {
			e.Errorf("%s: the position moved to %d", what, got)
		}
	}
	fail("Commit to a missing topic", broker.Publication{Topic: e.name("missing"), Partition: broker.AnyPartition, Records: numbered("r", 0, 1)}, errkind.NotFound)
	fail("Commit to a missing partition", broker.Publication{Topic: out, Partition: 2, Records: numbered("r", 0, 1)}, errkind.NotFound, errkind.Invalid)
	if e.caps.MaxRecordBytes > 0 {
		large := []event.Record{{Value: make([]byte, e.caps.MaxRecordBytes+1)}}
		fail("Commit of an oversize record", broker.Publication{Topic: out, Partition: 0, Records: large}, errkind.Invalid)
	}
	e.must("the good part alone", e.commit(e.ctx, &broker.Tx{Publish: []broker.Publication{good}}))
	e.wantCount(out, "the good part alone", 5)
}

func txFenced(e *env) {
	in, out := e.topic(2), e.topic(1)
	revoked, mine := e.steal(in, "g")
	e.must("Commit by the holder", mine.Commit(e.ctx, mine.Start()))
	err := e.commit(e.ctx, &broker.Tx{
		Publish:   []broker.Publication{{Topic: out, Partition: 0, Records: numbered("r", 0, 5)}},
		Positions: []broker.ClaimPosition{{Claim: revoked, Next: revoked.Start()}},
	})
	e.wantKind("Commit under a revoked claim", err, errkind.Conflict)
	if n := e.count(out); n != 0 {
		e.Errorf("%d records were stored under a revoked claim", n)
	}
	e.must("Commit under the new claim", e.commit(e.ctx, &broker.Tx{
		Publish:   []broker.Publication{{Topic: out, Partition: 0, Records: numbered("r", 0, 5)}},
		Positions: []broker.ClaimPosition{{Claim: mine, Next: mine.Start()}},
	}))
	e.wantCount(out, "the transaction of the holder alone", 5)
}

// transform moves up to n records from the claim's topic to out in one
// transaction, and returns the position after them.
func transform(ctx context.Context, t broker.Transactor, claim broker.Claim, out string, n int) (next int64, err error) {
	b, err := claim.Fetch(ctx, n)
	if err != nil {
		return 0, err
	}
	defer b.Release()
	next = b.Next()
	return next, t.Commit(ctx, &broker.Tx{
		Publish:   []broker.Publication{{Topic: out, Partition: broker.AnyPartition, Records: b.Records}},
		Positions: []broker.ClaimPosition{{Claim: claim, Next: next}},
	})
}

func txConcurrent(e *env) {
	const parts, keys, each = 4, 20, 50
	in, out := e.topic(parts), e.topic(parts)
	for k := range keys {
		e.publish(in, numbered(fmt.Sprintf("k%d", k), 0, each))
	}
	ends := make([]int64, parts)
	for p, recs := range e.all(in) {
		ends[p] = behind(recs)
	}
	var wg sync.WaitGroup
	for p, claim := range e.claims(e.subscribe(in, "g"), parts) {
		wg.Go(func() {
			for next := claim.Start(); next < ends[p]; {
				var err error
				if next, err = transform(e.ctx, e.d.(broker.Transactor), claim, out, 20); err != nil {
					e.Errorf("partition %d: %v", p, err)
					return
				}
			}
		})
	}
	e.within("concurrent transactions", wg.Wait)
	e.wantCount(out, "after all transactions", keys*each)
	e.wantComplete(out, keys, each)
	for p, recs := range e.all(in) {
		e.wantCommitted(in, "g", p, recs, ends[p])
	}
}

// wantComplete holds the topic to have records 0 … each−1 of every key, in
// order, each of them once.
func (e *env) wantComplete(topic string, keys, each int) {
	e.Helper()
	next := map[string]int{}
	for p, recs := range e.all(topic) {
		for _, r := range recs {
			if r.Value != fmt.Sprint(next[r.Key]) {
				e.Fatalf("partition %d position %d: key %s continues with %s, want %d", p, r.Position, r.Key, r.Value, next[r.Key])
			}
			next[r.Key]++
		}
	}
	for k, n := range next {
		if n != each {
			e.Errorf("key %s: %d records, want %d", k, n, each)
		}
	}
	if len(next) != keys {
		e.Errorf("%d keys, want %d", len(next), keys)
	}
}
