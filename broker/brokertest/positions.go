package brokertest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

func positionCases() []suiteCase {
	return []suiteCase{
		{name: "Read begins at any position", run: readFrom},
		{name: "a claim moves to any position", run: claimSeek},
		{name: "Seek finds positions by time", needs: admin, run: seekTime},
		{name: "trimmed records are gone and the others stay", needs: admin, run: trim},
		{name: "positions move only by Commit", run: commitMoves},
		{name: "lag falls steadily to zero", run: lagFalls},
	}
}

func readFrom(e *env) {
	const n = 500
	topic := e.topic(1)
	for i := range 5 {
		e.publish(topic, numbered("a", 100*i, 100))
	}
	recs := e.all(topic)[0]
	if len(recs) != n {
		e.Fatalf("%d records are there, %d were published", len(recs), n)
	}
	from := func(position int64, i int) {
		e.Helper()
		r := e.read(topic, 0, position)
		for j, rec := range e.fetchN(r, min(150, n-i)) {
			if rec != recs[i+j] || rec.Value != fmt.Sprint(i+j) {
				e.Fatalf("Read from %d: record %d is %s at %d, want %d at %d", position, j, rec.Value, rec.Position, i+j, recs[i+j].Position)
			}
		}
		e.must("Reader.Close", r.Close())
	}
	from(0, 0)
	for _, i := range []int{0, 1, 99, 100, 101, 250, n - 1} {
		from(recs[i].Position, i)
		if i > 0 { // what Batch.Next says of the record before
			from(recs[i-1].Position+1, i)
		}
	}
}

func claimSeek(e *env) {
	topic := e.topic(1)
	e.publish(topic, numbered("a", 0, 100))
	recs := e.all(topic)[0]
	claim := e.claim(e.subscribe(topic, "g"))
	if !e.same(recs, claim.Start(), 0) {
		e.Errorf("a new group starts at %d", claim.Start())
	}
	e.fetchN(claim, 10)
	for _, to := range []int{50, 3, 99, 0} {
		e.must("SeekTo", claim.SeekTo(recs[to].Position))
		if got := e.fetch(claim, 5); got[0] != recs[to] {
			e.Errorf("after SeekTo(%d): got %s at %d", recs[to].Position, got[0].Value, got[0].Position)
		}
	}
	if got := e.partitionState(topic, "g", 0).Committed; got != -1 {
		e.Errorf("SeekTo moved the group's position to %d", got)
	}
}

func seekTime(e *env) {
	topic := e.topic(1)
	r := e.read(topic, 0, 0)
	defer r.Close()
	var recs []record
	apart := time.NewTicker(max(3*time.Millisecond, 3*e.h.TimeGranularity))
	defer apart.Stop()
	for i := range 5 {
		e.publish(topic, numbered("a", 10*i, 10))
		recs = append(recs, e.fetchN(r, 10)...)
		<-apart.C // so that their times differ
	}
	if first, last := recs[0].Time, recs[len(recs)-1].Time; last-first < int64(4*e.h.TimeGranularity) {
		e.Fatalf("the last of five batches is stored at %d, the first at %d", last, first)
	}
	seek := func(t int64, want int) {
		e.Helper()
		got, err := e.admin().Seek(e.ctx, topic, 0, time.Unix(0, t))
		e.must("Seek", err)
		position := behind(recs)
		if want < len(recs) {
			position = recs[want].Position
		}
		if !e.same(recs, got, position) {
			e.Fatalf("Seek to %d: got position %d, want %d", t, got, position)
		}
	}
	first := func(t int64) int {
		i := slices.IndexFunc(recs, func(r record) bool { return r.Time >= t })
		if i < 0 {
			return len(recs)
		}
		return i
	}
	step := int64(e.h.TimeGranularity)
	for i, r := range recs {
		if !e.caps.Gapless && i%10 != 0 && i%10 != 9 {
			continue // the edges of batches say enough where each call goes over a network
		}
		for _, t := range []int64{r.Time - step, r.Time, r.Time + step} {
			seek(t, first(t))
		}
	}
	seek(0, 0)
	seek(time.Now().Add(24*time.Hour).UnixNano(), len(recs))
}

func trim(e *env) {
	topic := e.topic(2)
	p := broker.PartitionFor([]byte("a"), 2)
	e.publish(topic, numbered("a", 0, 100))
	recs := e.all(topic)[p]
	behindTrim := e.claims(e.subscribe(topic, "g"), 2)[p]
	for _, i := range []int{40, 40, 10, 0} { // it never fails for what is gone
		e.must("Trim", e.admin().Trim(e.ctx, topic, p, recs[i].Position))
	}
	// kept holds got to continue recs, from record 40 on or, where the broker
	// frees records when it likes to, from an earlier one.
	kept := func(what string, got []record) {
		e.Helper()
		i := indexOf(recs, got[0].Position)
		if i > 40 || i < 40 && !e.h.LazyTrim {
			e.Fatalf("%s behind a trim begins with record %d, want 40", what, i)
		}
		for j, rec := range got {
			if rec != recs[i+j] {
				e.Fatalf("%s: record %d is %s at %d, want %s at %d", what, j, rec.Value, rec.Position, recs[i+j].Value, recs[i+j].Position)
			}
		}
	}
	s := e.partitionState(topic, "g", p)
	if i := indexOf(recs, s.Start); i > 40 || i < 40 && !e.h.LazyTrim || indexOf(recs, s.End) != len(recs) {
		e.Fatalf("after Trim to %d the partition holds [%d, %d)", recs[40].Position, s.Start, s.End)
	}
	r := e.read(topic, p, 0)
	defer r.Close()
	kept("a reader", e.fetchN(r, 60))
	kept("a claim", e.fetch(behindTrim, 1))
	e.must("Trim of everything", e.admin().Trim(e.ctx, topic, p, behind(recs)))
	e.publish(topic, numbered("a", 100, 1))
	got := e.all(topic)[p]
	if len(got) > 0 && e.h.LazyTrim {
		got = got[len(got)-1:]
	}
	if len(got) != 1 || got[0].Value != "100" || got[0].Position < behind(recs) {
		e.Errorf("after trimming everything and one more record: %+v", got)
	}
}

func commitMoves(e *env) {
	topic := e.topic(1)
	e.publish(topic, numbered("a", 0, 50))
	claim := e.claim(e.subscribe(topic, "g"))
	none := func(topic, group string) {
		e.Helper()
		if got := e.partitionState(topic, group, 0).Committed; got != -1 {
			e.Fatalf("the position of group %q is %d, want -1", group, got)
		}
	}
	none(topic, "g")
	recs := e.fetchN(claim, 50)
	none(topic, "g")
	for _, next := range []int64{recs[10].Position, recs[10].Position, recs[30].Position, recs[4].Position + 1, behind(recs), recs[0].Position} { // again and back are allowed
		e.must("Claim.Commit", claim.Commit(e.ctx, next))
		e.wantCommitted(topic, "g", 0, recs, next)
	}
	none(e.topic(1), "g")
	none(topic, "other")
	none(topic, "")
}

func lagFalls(e *env) {
	const n = 400
	topic := e.topic(2)
	b := broker.New(e.d, broker.Options{}) // never closed: the driver is the environment's
	for i := range 4 {
		e.publish(topic, numbered(fmt.Sprintf("k%d", i), 0, n/4))
	}
	all := e.all(topic)
	lag := func(want int64) broker.Lag {
		e.Helper()
		l, parts, err := b.Lag(e.ctx, topic, "g")
		e.must("Lag", err)
		if (l.Records != want && e.caps.Gapless) || (l.Records == 0) != (want == 0) || l.Records < 0 || len(parts) != 2 {
			e.Fatalf("lag is %+v in %d partitions, want %d records in 2", l, len(parts), want)
		}
		if (l.OldestAge < 0) || l.OldestAge > clockSkew {
			e.Errorf("the oldest of %d waiting records is %v old", l.Records, l.OldestAge)
		}
		for p, s := range e.describe(topic, "g").Partitions {
			i := indexOf(all[p], max(s.Committed, s.Start))
			if (i == len(all[p])) != (s.Waiting == 0) {
				e.Errorf("partition %d: %d of %d records are processed, and %d wait", p, i, len(all[p]), s.Waiting)
			}
			if i == len(all[p]) {
				if s.OldestTime != 0 {
					e.Errorf("partition %d: nothing waits, and its oldest time is %d", p, s.OldestTime)
				}
			} else if off := s.OldestTime - all[p][i].Time; off <= -int64(e.h.TimeGranularity) || off >= int64(e.h.TimeGranularity) {
				e.Errorf("partition %d: the oldest waiting record was stored at %d, Describe says %d", p, all[p][i].Time, s.OldestTime)
			}
		}
		return l
	}
	lag(n)
	left := int64(n)
	c := e.subscribe(topic, "g")
	for range 2 {
		claim := e.claim(c)
		for i := 0; i < len(all[claim.Partition()]); {
			got := e.fetch(claim, 17)
			i += len(got)
			e.must("Claim.Commit", claim.Commit(e.ctx, behind(got)))
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
