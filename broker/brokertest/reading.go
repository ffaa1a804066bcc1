package brokertest

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet-io/freshet/broker"
)

// fetcher is what readers and claims share.
type fetcher interface {
	Fetch(ctx context.Context, max int) (*broker.Batch, error)
}

// fetch returns copies of at least one and at most n records, and holds the
// batch to its contract.
func (e *env) fetch(f fetcher, n int) []record {
	e.Helper()
	var b *broker.Batch
	var err error
	ctx, cancel := e.soon()
	defer cancel()
	e.within("Fetch", func() { b, err = f.Fetch(ctx, n) })
	e.must("Fetch", err)
	defer b.Release()
	out := e.check(b, n)
	if p := e.position(f); !e.caps.Gapless && p < b.Next() {
		e.Fatalf("partition %d: after a batch up to %d Position says %d", b.Partition, b.Next(), p)
	}
	return out
}

// check holds a batch to its contract and returns copies of its records.
func (e *env) check(b *broker.Batch, n int) []record {
	e.Helper()
	if len(b.Records) == 0 || len(b.Records) > n {
		e.Fatalf("Fetch of up to %d records returned %d", n, len(b.Records))
	}
	out := make([]record, len(b.Records))
	for i := range b.Records {
		out[i] = copyOf(b.Partition, &b.Records[i])
		if i == 0 {
			continue
		}
		before := out[i-1]
		if out[i].Position <= before.Position || e.caps.Gapless && out[i].Position != before.Position+1 {
			e.Fatalf("partition %d: position %d follows %d in a batch", b.Partition, out[i].Position, before.Position)
		}
		// Equal times are fine, so are times that differ by less than the clock tells apart.
		if out[i].Time <= before.Time-int64(e.h.TimeGranularity) {
			e.Fatalf("partition %d position %d: stored at %d, before its predecessor's %d", b.Partition, out[i].Position, out[i].Time, before.Time)
		}
	}
	behind := out[len(out)-1].Position + 1
	if b.Next() < behind || e.caps.Gapless && b.Next() != behind {
		e.Fatalf("partition %d: a batch whose last record is at %d goes on at %d (After is %d)", b.Partition, behind-1, b.Next(), b.After)
	}
	if b.End < behind {
		e.Fatalf("partition %d: a batch up to %d says that the partition ends at %d", b.Partition, behind, b.End)
	}
	return out
}

// fetchN returns copies of exactly n records, in several fetches.
func (e *env) fetchN(f fetcher, n int) []record {
	e.Helper()
	var out []record
	for len(out) < n {
		got := e.fetch(f, n-len(out))
		if len(out) > 0 && got[0].Position <= out[len(out)-1].Position {
			e.Fatalf("a batch begins at %d, and the one before ended with %d", got[0].Position, out[len(out)-1].Position)
		}
		out = append(out, got...)
	}
	return out
}

// position is where f goes on, on drivers whose positions have gaps.
func (e *env) position(f fetcher) int64 {
	e.Helper()
	if e.caps.Gapless {
		return 0
	}
	p, ok := f.(broker.Positioner)
	if !ok {
		e.Fatalf("the driver is not Gapless, so %T must be a broker.Positioner", f)
	}
	return p.Position()
}

// pollEvery is the pause between two looks at what must become so.
const pollEvery = 2 * time.Millisecond

// eventually repeats look until it returns "", which must be within the
// harness's patience.
func (e *env) eventually(look func() (complaint string)) {
	e.Helper()
	ctx, cancel := e.soon()
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		complaint := look()
		if complaint == "" {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			e.Fatalf("not within %v: %s", e.h.Patience, complaint)
		}
	}
}

// readTo returns copies of the records that f still has before end, which must
// be an end that the partition has reached. Where positions have gaps the
// Positioner says when there is no more.
func (e *env) readTo(f fetcher, next, end int64) []record {
	e.Helper()
	var out []record
	if e.caps.Gapless {
		if end > next {
			out = e.fetchN(f, int(end-next))
		}
		return out
	}
	for e.position(f) < end {
		out = append(out, e.fetchUnlessAt(f, end)...)
	}
	return out
}

// fetchUnlessAt fetches once, unless Position comes to end without a record.
func (e *env) fetchUnlessAt(f fetcher, end int64) []record {
	e.Helper()
	const most = 1000
	ctx, cancel := e.soon()
	defer cancel()
	var b *broker.Batch
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		b, err = f.Fetch(ctx, most)
	}()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-done:
		case <-tick.C:
			if e.position(f) < end {
				continue
			}
			cancel()
			e.within("Fetch whose context ended", func() { <-done })
		}
		break
	}
	if err != nil {
		if canceled(err) && e.position(f) >= end {
			return nil
		}
		e.Fatalf("Fetch at %d, before the end %d: %v", e.position(f), end, err)
	}
	defer b.Release()
	return e.check(b, most)
}

// all returns what each partition of the topic keeps.
func (e *env) all(topic string) [][]record {
	e.Helper()
	t := e.describe(topic, "")
	out := make([][]record, len(t.Partitions))
	for p, s := range t.Partitions {
		if s.End == s.Start {
			continue
		}
		r := e.read(topic, p, s.Start)
		out[p] = e.readTo(r, s.Start, s.End)
		for i, rec := range out[p] {
			if rec.Partition != p || rec.Position < s.Start || e.caps.Gapless && rec.Position != s.Start+int64(i) {
				e.Fatalf("partition %d from %d: record %d is at partition %d position %d", p, s.Start, i, rec.Partition, rec.Position)
			}
			if i > 0 && rec.Position <= out[p][i-1].Position {
				e.Fatalf("partition %d: position %d follows %d", p, rec.Position, out[p][i-1].Position)
			}
		}
		e.must("Reader.Close", r.Close())
	}
	return out
}

// count is how many records the topic keeps.
func (e *env) count(topic string) (n int) {
	e.Helper()
	if e.caps.Gapless {
		for _, p := range e.describe(topic, "").Partitions {
			n += int(p.End - p.Start)
		}
		return n
	}
	for _, recs := range e.all(topic) {
		n += len(recs)
	}
	return n
}

// wantCount holds the topic to keep n records: at once where the driver is
// Gapless, within the harness's patience elsewhere, because servers that commit
// on several machines show later what is durable already.
func (e *env) wantCount(topic, what string, n int) {
	e.Helper()
	if e.caps.Gapless {
		if got := e.count(topic); got != n {
			e.Errorf("%s: %d records are stored, want %d", what, got, n)
		}
		return
	}
	e.eventually(func() string {
		if got := e.count(topic); got != n {
			return fmt.Sprintf("%s: %d records are stored, want %d", what, got, n)
		}
		return ""
	})
}

// same says whether a position that the driver reported means want: is equal
// where the driver is Gapless; elsewhere no record of recs, which is what the
// partition keeps, lies between the two.
func (e *env) same(recs []record, got, want int64) bool {
	if e.caps.Gapless || got < 0 || want < 0 {
		return got == want
	}
	return indexOf(recs, got) == indexOf(recs, want)
}

// indexOf is the index of the first record whose position is at least position.
func indexOf(recs []record, position int64) int {
	for i := range recs {
		if recs[i].Position >= position {
			return i
		}
	}
	return len(recs)
}

// behind is the position behind the last record, as Batch.Next tells it; 0
// where there is none.
func behind(recs []record) int64 {
	if len(recs) == 0 {
		return 0
	}
	return recs[len(recs)-1].Position + 1
}

// partitionState is Describe for one partition.
func (e *env) partitionState(topic, group string, p int) broker.PartitionState {
	e.Helper()
	return e.describe(topic, group).Partitions[p]
}

// wantCommitted holds the group's position in the partition to be next.
func (e *env) wantCommitted(topic, group string, p int, recs []record, next int64) {
	e.Helper()
	look := func() string {
		if got := e.partitionState(topic, group, p).Committed; !e.same(recs, got, next) {
			return fmt.Sprintf("the group's position is %d, want %d", got, next)
		}
		return ""
	}
	if e.caps.Gapless {
		if complaint := look(); complaint != "" {
			e.Fatal(complaint)
		}
		return
	}
	e.eventually(look)
}
