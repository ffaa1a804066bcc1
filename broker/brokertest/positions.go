package brokertest

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

func positionCases() []suiteCase {
	return []suiteCase{
		{"Read begins at any position", nil, readFrom},
		{"a claim moves to any position", nil, claimSeek},
		{"Seek finds positions by time", admin, seekTime},
		{"trimmed records are gone and the others stay", admin, trim},
		{"positions move only by Commit", nil, commitMoves},
		{"lag falls steadily to zero", nil, lagFalls},
	}
}

func readFrom(e *env) {
	const n = 500
	topic := e.topic(1)
	for i := range 5 {
		e.publish(topic, numbered("a", 100*i, 100))
	}
	for _, from := range []int64{0, 1, 99, 100, 101, 250, n - 1} {
		r := e.read(topic, 0, from)
		for i, rec := range e.fetchN(r, min(150, n-int(from))) {
			if want := from + int64(i); rec.Position != want || rec.Value != fmt.Sprint(want) {
				e.Fatalf("Read from %d: record %d is %s at %d", from, i, rec.Value, rec.Position)
			}
		}
		e.must("Reader.Close", r.Close())
	}
}

func claimSeek(e *env) {
	topic := e.topic(1)
	e.publish(topic, numbered("a", 0, 100))
	claim := e.claim(e.subscribe(topic, "g"))
	if claim.Start() != 0 {
		e.Errorf("a new group starts at %d", claim.Start())
	}
	e.fetchN(claim, 10)
	for _, to := range []int64{50, 3, 99, 0} {
		e.must("SeekTo", claim.SeekTo(to))
		if got := e.fetch(claim, 5); got[0].Position != to || got[0].Value != fmt.Sprint(to) {
			e.Errorf("after SeekTo(%d): got %s at %d", to, got[0].Value, got[0].Position)
		}
	}
	if got := e.describe(topic, "g").Partitions[0].Committed; got != -1 {
		e.Errorf("SeekTo moved the group's position to %d", got)
	}
}

func seekTime(e *env) {
	topic := e.topic(1)
	r := e.read(topic, 0, 0)
	defer r.Close()
	var recs []record
	tick := time.NewTicker(3 * time.Millisecond)
	defer tick.Stop()
	for i := range 5 {
		e.publish(topic, numbered("a", 10*i, 10))
		recs = append(recs, e.fetchN(r, 10)...)
		<-tick.C // so that their times differ
	}
	seek := func(t time.Time) int64 {
		e.Helper()
		p, err := e.admin().Seek(e.ctx, topic, 0, t)
		e.must("Seek", err)
		return p
	}
	first := func(t int64) int64 {
		for _, r := range recs {
			if r.Time >= t {
				return r.Position
			}
		}
		return int64(len(recs))
	}
	for _, r := range recs {
		for _, t := range []int64{r.Time - 1, r.Time, r.Time + 1} {
			if got, want := seek(time.Unix(0, t)), first(t); got != want {
				e.Fatalf("Seek to %d: got position %d, want %d", t, got, want)
			}
		}
	}
	if got := seek(time.Unix(0, 0)); got != 0 {
		e.Errorf("Seek to long ago: got %d", got)
	}
	if got := seek(time.Now().Add(24 * time.Hour)); got != int64(len(recs)) {
		e.Errorf("Seek to tomorrow: got %d, want the end %d", got, len(recs))
	}
}

func trim(e *env) {
	topic := e.topic(2)
	recs := numbered("a", 0, 100)
	p := broker.PartitionFor([]byte("a"), 2)
	e.publish(topic, recs)
	behind := e.claims(e.subscribe(topic, "g"), 2)[p]
	for _, before := range []int64{40, 40, 10, 0} { // it never fails for what is gone
		e.must("Trim", e.admin().Trim(e.ctx, topic, p, before))
	}
	s := e.describe(topic, "g").Partitions[p]
	if s.Start != 40 || s.End != 100 {
		e.Fatalf("after Trim to 40 the partition holds [%d, %d), want [40, 100)", s.Start, s.End)
	}
	r := e.read(topic, p, 0)
	defer r.Close()
	for i, rec := range e.fetchN(r, 60) {
		if want := int64(40 + i); rec.Position != want || rec.Value != fmt.Sprint(want) {
			e.Fatalf("record %d is %s at %d, want %d", i, rec.Value, rec.Position, want)
		}
	}
	if got := e.fetch(behind, 1); got[0].Position != 40 {
		e.Errorf("a claim behind the trim continues at %d, want 40", got[0].Position)
	}
	e.must("Trim of everything", e.admin().Trim(e.ctx, topic, p, 100))
	e.publish(topic, numbered("a", 100, 1))
	if got := e.all(topic)[p]; len(got) != 1 || got[0].Position != 100 {
		e.Errorf("after trimming everything and one more record: %+v", got)
	}
}

func commitMoves(e *env) {
	topic := e.topic(1)
	e.publish(topic, numbered("a", 0, 50))
	claim := e.claim(e.subscribe(topic, "g"))
	want := func(next int64) {
		e.Helper()
		if got := e.describe(topic, "g").Partitions[0].Committed; got != next {
			e.Fatalf("the group's position is %d, want %d", got, next)
		}
	}
	want(-1)
	e.fetchN(claim, 30)
	want(-1)
	for _, next := range []int64{10, 10, 30, 5, 50, 0} { // again and back are allowed
		e.must("Claim.Commit", claim.Commit(e.ctx, next))
		want(next)
	}
	if got := e.describe(e.topic(1), "g").Partitions[0].Committed; got != -1 {
		e.Errorf("the group's position in another topic is %d, want -1", got)
	}
	if got := e.describe(topic, "other").Partitions[0].Committed; got != -1 {
		e.Errorf("another group's position is %d, want -1", got)
	}
	if got := e.describe(topic, "").Partitions[0].Committed; got != -1 {
		e.Errorf("without a group the position is %d, want -1", got)
	}
}

func lagFalls(e *env) {
	const n = 400
	topic := e.topic(2)
	b := broker.New(e.d, broker.Options{}) // never closed: the driver is the environment's
	for i := range 4 {
		e.publish(topic, numbered(fmt.Sprintf("k%d", i), 0, n/4))
	}
	times := map[[2]int64]int64{}
	for p, recs := range e.all(topic) {
		for _, r := range recs {
			times[[2]int64{int64(p), r.Position}] = r.Time
		}
	}
	lag := func(want int64) broker.Lag {
		e.Helper()
		l, parts, err := b.Lag(e.ctx, topic, "g")
		e.must("Lag", err)
		if l.Records != want || len(parts) != 2 {
			e.Fatalf("lag is %+v in %d partitions, want %d records in 2", l, len(parts), want)
		}
		if (l.OldestAge < 0) || l.OldestAge > clockSkew {
			e.Errorf("the oldest of %d waiting records is %v old", l.Records, l.OldestAge)
		}
		for p, s := range e.describe(topic, "g").Partitions {
			next := max(s.Committed, s.Start)
			if s.End == next {
				if s.OldestTime != 0 {
					e.Errorf("partition %d: nothing waits, and its oldest time is %d", p, s.OldestTime)
				}
			} else if want := times[[2]int64{int64(p), next}]; s.OldestTime != want {
				e.Errorf("partition %d: the oldest waiting record was stored at %d, Describe says %d", p, want, s.OldestTime)
			}
		}
		return l
	}
	lag(n)
	left := int64(n)
	c := e.subscribe(topic, "g")
	for range 2 {
		claim := e.claim(c)
		for next := claim.Start(); next < e.describe(topic, "g").Partitions[claim.Partition()].End; {
			got := e.fetch(claim, 17)
			next = got[len(got)-1].Position + 1
			e.must("Claim.Commit", claim.Commit(e.ctx, next))
			left -= int64(len(got))
			lag(left)
		}
	}
	if l := lag(0); l.OldestAge != 0 {
		e.Errorf("nothing waits, and the oldest is %v old", l.OldestAge)
	}
}

// subscribe joins a group that starts at the first record, until the end of the case.
func (e *env) subscribe(topic, group string) broker.Consumer {
	e.Helper()
	return e.join(broker.Subscription{Topic: topic, Group: group, Start: broker.Earliest})
}

func (e *env) join(s broker.Subscription) broker.Consumer {
	e.Helper()
	c, err := e.d.Subscribe(e.ctx, s)
	e.must("Subscribe", err)
	e.Cleanup(func() {
		if err := c.Close(); err != nil && !errkind.Is(err, errkind.Closed) {
			e.Errorf("Consumer.Close: %v", err)
		}
	})
	return c
}

func (e *env) claim(c broker.Consumer) broker.Claim {
	e.Helper()
	ctx, cancel := e.soon()
	defer cancel()
	return e.claimUnder(ctx, c)
}

func (e *env) claimUnder(ctx context.Context, c broker.Consumer) broker.Claim {
	e.Helper()
	var claim broker.Claim
	var err error
	e.within("Claim", func() { claim, err = c.Claim(ctx) })
	e.must("Claim", err)
	return claim
}

// claims takes all n partitions for c, sorted by partition.
func (e *env) claims(c broker.Consumer, n int) []broker.Claim {
	e.Helper()
	out := make([]broker.Claim, n)
	for range n {
		claim := e.claim(c)
		if out[claim.Partition()] != nil {
			e.Fatalf("partition %d was handed out twice", claim.Partition())
		}
		out[claim.Partition()] = claim
	}
	return out
}
