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
		{"a transaction stores records and moves positions together", transactions, txTogether},
		{"a transaction becomes visible at once in all topics", transactions, txVisibility},
		{"a failed transaction leaves nothing", transactions, txFailure},
		{"a transaction under a revoked claim is a Conflict and leaves nothing", transactions, txFenced},
		{"concurrent transactions process each record once", transactions, txConcurrent},
	}
}

func (e *env) commit(ctx context.Context, tx *broker.Tx) error {
	return e.d.(broker.Transactor).Commit(ctx, tx)
}

func txTogether(e *env) {
	in, out, side := e.topic(1), e.topic(3), e.topic(3)
	e.publish(in, numbered("a", 0, 10))
	claim := e.claim(e.subscribe(in, "g"))
	e.fetchN(claim, 10)
	e.must("Commit", e.commit(e.ctx, &broker.Tx{
		Publish: []broker.Publication{
			{Topic: out, Partition: broker.AnyPartition, Records: numbered("r", 0, 7)},
			{Topic: side, Partition: 2, Records: numbered("s", 0, 4)},
			{Topic: out, Partition: 1},
			{Topic: side, Partition: 2, Records: []event.Record{{Value: []byte("4")}}},
		},
		Positions: []broker.ClaimPosition{{Claim: claim, Next: 9}},
	}))
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
				e.Errorf("partition %d position %d holds %s", p, i, r.Value)
			}
		}
	}
	if got := e.describe(in, "g").Partitions[0].Committed; got != 9 {
		e.Errorf("the group's position is %d, want 9", got)
	}
	e.must("Commit of positions alone", e.commit(e.ctx, &broker.Tx{Positions: []broker.ClaimPosition{{Claim: claim, Next: 10}}}))
	if got := e.describe(in, "g").Partitions[0].Committed; got != 10 {
		e.Errorf("the group's position is %d, want 10", got)
	}
	e.must("Commit of records alone", e.commit(e.ctx, &broker.Tx{Publish: []broker.Publication{{Topic: out, Partition: 0, Records: numbered("t", 0, 1)}}}))
	e.must("empty Commit", e.commit(e.ctx, &broker.Tx{}))
}

// txVisibility looks at two topics while transactions add to both.
func txVisibility(e *env) {
	const n = 100
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
	end := func(i int) int64 { return e.describe(topics[i], "").Partitions[0].End }
	for looks := 0; ; looks++ {
		// What the first look saw must have come with its other half.
		first := looks % 2
		if seen, other := end(first), end(1-first); other < seen {
			e.Errorf("topic %d shows %d transactions, topic %d afterwards only %d", first, seen, 1-first, other)
			return
		}
		select {
		case <-done:
			if a, b := end(0), end(1); a != n || b != n {
				e.Errorf("the topics hold %d and %d records, want %d", a, b, n)
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
	e.must("Claim.Commit", claim.Commit(e.ctx, 3))
	good := broker.Publication{Topic: out, Partition: broker.AnyPartition, Records: numbered("r", 0, 5)}
	fail := func(what string, bad broker.Publication, kinds ...errkind.Kind) {
		e.Helper()
		err := e.commit(e.ctx, &broker.Tx{
			Publish:   []broker.Publication{good, bad},
			Positions: []broker.ClaimPosition{{Claim: claim, Next: 10}},
		})
		e.wantKind(what, err, kinds...)
		if n := e.count(out); n != 0 {
			e.Errorf("%s: %d records were stored", what, n)
		}
		if got := e.describe(in, "g").Partitions[0].Committed; got != 3 {
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
	if n := e.count(out); n != 5 {
		e.Errorf("%d records stored, want 5", n)
	}
}

func txFenced(e *env) {
	in, out := e.topic(2), e.topic(1)
	revoked, mine := e.steal(in, "g")
	e.must("Commit by the holder", mine.Commit(e.ctx, 0))
	err := e.commit(e.ctx, &broker.Tx{
		Publish:   []broker.Publication{{Topic: out, Partition: 0, Records: numbered("r", 0, 5)}},
		Positions: []broker.ClaimPosition{{Claim: revoked, Next: 0}},
	})
	e.wantKind("Commit under a revoked claim", err, errkind.Conflict)
	if n := e.count(out); n != 0 {
		e.Errorf("%d records were stored under a revoked claim", n)
	}
	e.must("Commit under the new claim", e.commit(e.ctx, &broker.Tx{
		Publish:   []broker.Publication{{Topic: out, Partition: 0, Records: numbered("r", 0, 5)}},
		Positions: []broker.ClaimPosition{{Claim: mine, Next: 0}},
	}))
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
	ends := e.describe(in, "").Partitions
	var wg sync.WaitGroup
	for p, claim := range e.claims(e.subscribe(in, "g"), parts) {
		wg.Go(func() {
			for next := claim.Start(); next < ends[p].End; {
				var err error
				if next, err = transform(e.ctx, e.d.(broker.Transactor), claim, out, 7); err != nil {
					e.Errorf("partition %d: %v", p, err)
					return
				}
			}
		})
	}
	e.within("concurrent transactions", wg.Wait)
	e.wantComplete(out, keys, each)
	for p, s := range e.describe(in, "g").Partitions {
		if s.Committed != s.End {
			e.Errorf("partition %d: the group's position is %d of %d", p, s.Committed, s.End)
		}
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
