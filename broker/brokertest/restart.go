package brokertest

import (
	"fmt"
	"time"

	"github.com/freshet-io/freshet/broker"
)

func restartCases() []suiteCase {
	return []suiteCase{
		{name: "records and topics survive a restart", needs: durable, run: restartRecords},
		{name: "a group continues after a restart where it committed", needs: durable, run: restartGroup},
		{name: "ids are remembered across a restart", needs: func(c broker.Capabilities) bool { return c.Durable && c.Dedup }, run: restartDedup},
		{name: "transactions survive a restart whole", needs: func(c broker.Capabilities) bool { return c.Durable && c.Transactions }, run: restartTx},
		{name: "appends and ends survive a restart", needs: func(c broker.Capabilities) bool { return c.Durable && c.Append }, run: restartAppends},
	}
}

func restartRecords(e *env) {
	c := broker.TopicConfig{Partitions: 3, Retention: 24 * time.Hour, RetainBytes: 1 << 30}
	topic := e.topicWith(c)
	for round := range 3 {
		for k := range 10 {
			e.publish(topic, numbered(fmt.Sprintf("k%d", k), 30*round, 30))
		}
		before, state := e.all(topic), e.describe(topic, "")
		e.restart()
		after := e.all(topic)
		for p := range before {
			if len(before[p]) != len(after[p]) {
				e.Fatalf("partition %d had %d records, after the restart %d", p, len(before[p]), len(after[p]))
			}
			for i := range before[p] {
				if before[p][i] != after[p][i] {
					e.Fatalf("partition %d: %+v became %+v in the restart", p, before[p][i], after[p][i])
				}
			}
		}
		if got := e.describe(topic, ""); got.Config != state.Config {
			e.Errorf("the topic's configuration %+v became %+v", state.Config, got.Config)
		}
	}
	e.wantComplete(topic, 10, 90)
}

func restartGroup(e *env) {
	topic := e.topic(1)
	e.publish(topic, numbered("a", 0, 100))
	seen := map[string]int{}
	total := 0
	for _, step := range []struct{ fetch, commit int }{{30, 20}, {30, 50}, {50, 100}} {
		claim := e.claim(e.subscribe(topic, "g"))
		got := e.fetchN(claim, step.fetch)
		for _, r := range got {
			seen[r.Value]++
			total++
		}
		first := 0
		if _, err := fmt.Sscan(got[0].Value, &first); err != nil {
			e.Fatalf("record %+v: %v", got[0], err)
		}
		next := behind(got)
		if n := step.commit - first; n < len(got) {
			next = got[n].Position
		}
		e.must("Claim.Commit", claim.Commit(e.ctx, next))
		e.restart()
	}
	// 10 were fetched and not committed before the first restart.
	if len(seen) != 100 || total-len(seen) != 10 {
		e.Errorf("%d distinct records and %d duplicates, want 100 and 10", len(seen), total-len(seen))
	}
	recs := e.all(topic)[0]
	e.wantCommitted(topic, "g", 0, recs, behind(recs))
}

func restartDedup(e *env) {
	topic := e.topicWith(broker.TopicConfig{Partitions: 2, DedupWindow: time.Hour})
	e.publish(topic, numbered("a", 0, 50))
	e.restart()
	p, err := e.tryPublish(topic, numbered("a", 40, 20))
	e.must("Publish", err)
	if want := (broker.Published{Stored: 10, Duplicates: 10}); p != want {
		e.Errorf("got %+v, want %+v", p, want)
	}
}

func restartTx(e *env) {
	const parts, keys, each = 2, 10, 20
	in, out := e.topic(parts), e.topic(parts)
	for k := range keys {
		e.publish(in, numbered(fmt.Sprintf("k%d", k), 0, each))
	}
	rounds := 0
	for more := true; more; e.restart() { // one transaction a partition, then a restart
		if rounds++; rounds > 2+keys*each/40 {
			e.Fatalf("after %d restarts there is still something to do: positions do not stay", rounds-1)
		}
		more = false
		claims := e.claims(e.subscribe(in, "g"), parts)
		for p, recs := range e.all(in) {
			if indexOf(recs, claims[p].Start()) == len(recs) {
				continue
			}
			more = true
			_, err := transform(e.ctx, e.d.(broker.Transactor), claims[p], out, 40)
			e.must("consume, transform, publish", err)
		}
	}
	e.wantCount(out, "after all transactions", keys*each)
	e.wantComplete(out, keys, each)
}
