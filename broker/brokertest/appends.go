package brokertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func appendCases() []suiteCase {
	return []suiteCase{
		{name: "an append goes to the end", needs: appends, run: appendToEnd},
		{name: "an append behind what somebody stored is a Conflict and stores nothing", needs: appends, run: appendConflict},
		{name: "an append that fails leaves nothing", needs: appends, run: appendFailure},
		{name: "an append whose outcome is unknown may be repeated", needs: appends, run: appendRepeat},
		{name: "of concurrent appends at one end one is stored", needs: appends, run: appendRace},
		{name: "appends go on behind a trim", needs: func(c broker.Capabilities) bool { return c.Append && c.Admin }, run: appendTrimmed},
	}
}

func (e *env) append(ctx context.Context, topic string, partition int, at int64, recs []event.Record) (int64, error) {
	return e.d.(broker.Appender).Append(ctx, topic, partition, at, recs)
}

func (e *env) end(topic string, partition int) int64 {
	e.Helper()
	return e.partitionState(topic, "", partition).End
}

func appendToEnd(e *env) {
	const p = 1
	topic := e.topic(2)
	mine := event.Record{
		ID: []byte("e-1"), Key: keyedFor(0, 2, 1)[0].Key, Value: []byte{0, 255, 'x'}, // whose key selects the other partition
		Headers: event.Headers(nil).AppendString("a", "1").AppendString("b", "").AppendString("a", "2"),
	}
	if _, err := e.append(e.ctx, topic, p, e.end(topic, p), []event.Record{mine}); err != nil {
		e.Fatalf("Append to an empty partition: %v", err)
	}
	e.publish(topic, keyedFor(p, 2, 3))
	at, err := e.append(e.ctx, topic, p, e.end(topic, p), numbered("a", 0, 5))
	e.must("Append behind a publish", err)
	for i := range 4 { // each at the end that the one before returned
		if at, err = e.append(e.ctx, topic, p, at, numbered("a", 5+2*i, 2)); err != nil {
			e.Fatalf("Append at the end of the append before: %v", err)
		}
	}
	if at, err = e.append(e.ctx, topic, p, at, []event.Record{{ID: mine.ID, Value: []byte("last")}}); err != nil {
		e.Fatalf("Append of an ID that is there: %v", err)
	}
	all := e.all(topic)
	if len(all[0]) != 0 || len(all[p]) != 1+3+13+1 {
		e.Fatalf("the partitions hold %d and %d records, want 0 and 18", len(all[0]), len(all[p]))
	}
	recs := all[p]
	if want := copyOf(p, &mine); recs[0].sent() != want.sent() {
		e.Errorf("got %+v, want %+v", recs[0].sent(), want.sent())
	}
	for i, r := range recs[4:17] {
		if r.Value != fmt.Sprint(i) {
			e.Errorf("record %d of the appends is %s", i, r.Value)
		}
	}
	if end := e.end(topic, p); at < behind(recs) || !e.same(recs, end, at) {
		e.Errorf("the last record is at %d, the last Append returned the end %d, Describe says %d", behind(recs)-1, at, end)
	}
}

func appendConflict(e *env) {
	topic := e.topic(1)
	e.publish(topic, numbered("a", 0, 3))
	stale := e.end(topic, 0)
	e.publish(topic, numbered("a", 3, 1)) // by a publisher
	_, err := e.append(e.ctx, topic, 0, stale, numbered("b", 0, 3))
	e.wantKind("Append behind a publish", err, errkind.Conflict)
	stale = e.end(topic, 0)
	end, err := e.append(e.ctx, topic, 0, stale, numbered("a", 4, 1)) // by another owner
	e.must("Append", err)
	for range 2 {
		_, err = e.append(e.ctx, topic, 0, stale, numbered("b", 0, 1))
		e.wantKind("Append behind another's", err, errkind.Conflict)
	}
	_, err = e.append(e.ctx, topic, 0, end, numbered("a", 5, 2))
	e.must("Append by who holds the end", err)
	for i, r := range e.all(topic)[0] {
		if r.Key != "a" || r.Value != fmt.Sprint(i) {
			e.Errorf("record %d is %s/%s", i, r.Key, r.Value)
		}
	}
	e.wantCount(topic, "after appends and conflicts", 7)
}

func appendFailure(e *env) {
	topic := e.topic(1)
	at := e.end(topic, 0)
	ended, cancel := context.WithCancel(e.ctx)
	cancel()
	e.within("Append with an ended context", func() {
		_, err := e.append(ended, topic, 0, at, numbered("b", 0, 1))
		e.wantCanceled("Append", err)
	})
	missing := e.name("missing")
	_, err := e.append(e.ctx, missing, 0, 0, numbered("b", 0, 1))
	e.wantKind("Append to a missing topic", err, errkind.NotFound)
	_, err = e.append(e.ctx, topic, 1, 0, numbered("b", 0, 1))
	e.wantKind("Append to a missing partition", err, errkind.NotFound, errkind.Invalid)
	if e.caps.MaxRecordBytes > 0 {
		recs := append(numbered("b", 0, 2), event.Record{Value: make([]byte, e.caps.MaxRecordBytes+1)})
		_, err = e.append(e.ctx, topic, 0, at, recs)
		e.wantKind("Append of an oversize record", err, errkind.Invalid)
	}
	n := 50
	if e.caps.MaxBatch > 0 {
		n = min(n, e.caps.MaxBatch)
	}
	if _, err = e.append(e.ctx, topic, 0, at, numbered("a", 0, n)); err != nil {
		e.Fatalf("Append after failures, at the same end: %v", err)
	}
	for i, r := range e.all(topic)[0] {
		if r.Key != "a" || r.Value != fmt.Sprint(i) {
			e.Fatalf("record %d is %s/%s", i, r.Key, r.Value)
		}
	}
	e.wantCount(topic, "after one good append", n)
}

// appendRepeat ends the contexts of appends at any moment and repeats them.
func appendRepeat(e *env) {
	const rounds, each = 25, 3
	topic := e.topic(1)
	began := time.Now()
	at, err := e.append(e.ctx, topic, 0, e.end(topic, 0), numbered("a", 0, each))
	e.must("Append", err)
	takes := max(time.Since(began), 20*time.Microsecond)
	conflicts := 0
	for i := 1; i < rounds; i++ {
		recs := numbered("a", each*i, each)
		ctx, cancel := context.WithTimeout(e.ctx, time.Duration(rand.Int64N(int64(2*takes))))
		var end int64
		e.within("Append whose context ends", func() { end, err = e.append(ctx, topic, 0, at, recs) })
		cancel()
		if err != nil && !errkind.Is(err, errkind.Conflict) {
			e.wantCanceled("Append", err)
			end, err = e.append(e.ctx, topic, 0, at, recs)
		}
		if errkind.Is(err, errkind.Conflict) { // so the first one was applied
			conflicts++
			e.wantCount(topic, "after a repeated append", each*(i+1))
			end, err = e.end(topic, 0), nil
		}
		e.must("Append repeated", err)
		at = end
	}
	e.wantCount(topic, "after appends with repeats", rounds*each)
	for i, r := range e.all(topic)[0] {
		if r.Value != fmt.Sprint(i) {
			e.Fatalf("record %d is %s", i, r.Value)
		}
	}
	e.Logf("%d of %d appends had been applied when their context ended", conflicts, rounds-1)
}

func appendRace(e *env) {
	const owners, rounds, each = 4, 12, 3
	topic := e.topic(1)
	for i := range rounds {
		at := e.end(topic, 0)
		ends, errs := make([]int64, owners), make([]error, owners)
		var wg sync.WaitGroup
		for o := range owners {
			wg.Go(func() {
				ends[o], errs[o] = e.append(e.ctx, topic, 0, at, numbered(fmt.Sprintf("o%d", o), each*i, each))
			})
		}
		e.within("concurrent appends", wg.Wait)
		winner := -1
		for o, err := range errs {
			switch {
			case err == nil && winner < 0:
				winner = o
			case err == nil:
				e.Fatalf("round %d: owners %d and %d both appended at the end %d", i, winner, o, at)
			default:
				e.wantKind("Append at an end that another one took", err, errkind.Conflict)
			}
		}
		if winner < 0 {
			e.Fatalf("round %d: of %d appends at the end %d none was stored: %v", i, owners, at, errs[0])
		}
		e.wantCount(topic, "after one append was stored", each*(i+1))
		recs := e.all(topic)[0]
		for j, r := range recs[each*i:] {
			if r.Key != fmt.Sprintf("o%d", winner) || r.Value != fmt.Sprint(each*i+j) {
				e.Fatalf("round %d: owner %d was told that it appended, and %s/%s is stored", i, winner, r.Key, r.Value)
			}
		}
		if !e.same(recs, ends[winner], behind(recs)) {
			e.Errorf("round %d: the append returned the end %d, behind the last record is %d", i, ends[winner], behind(recs))
		}
	}
}

func appendTrimmed(e *env) {
	topic := e.topic(1)
	at, err := e.append(e.ctx, topic, 0, e.end(topic, 0), numbered("a", 0, 10))
	e.must("Append", err)
	recs := e.all(topic)[0]
	e.must("Trim", e.admin().Trim(e.ctx, topic, 0, recs[5].Position))
	at, err = e.append(e.ctx, topic, 0, at, numbered("a", 10, 1))
	e.must("Append behind a trim", err)
	e.must("Trim of everything", e.admin().Trim(e.ctx, topic, 0, at))
	_, err = e.append(e.ctx, topic, 0, recs[5].Position, numbered("b", 0, 1))
	e.wantKind("Append at an end long gone", err, errkind.Conflict)
	_, err = e.append(e.ctx, topic, 0, e.end(topic, 0), numbered("a", 11, 1))
	e.must("Append behind a trim of everything", err)
	got := e.all(topic)[0]
	if len(got) == 0 || got[len(got)-1].Value != "11" || len(got) > 1 && !e.h.LazyTrim {
		e.Errorf("after a trim of everything and one append: %+v", got)
	}
}

func restartAppends(e *env) {
	topic := e.topic(1)
	at := e.end(topic, 0)
	for i := range 4 {
		stale := at
		if _, err := e.append(e.ctx, topic, 0, at, numbered("a", 5*i, 5)); err != nil {
			e.Fatalf("Append: %v", err)
		}
		e.restart()
		_, err := e.append(e.ctx, topic, 0, stale, numbered("b", 0, 1))
		e.wantKind("Append after a restart at an end of before", err, errkind.Conflict)
		at = e.end(topic, 0)
	}
	e.wantCount(topic, "after restarts", 20)
	for i, r := range e.all(topic)[0] {
		if r.Value != fmt.Sprint(i) {
			e.Fatalf("record %d is %s/%s", i, r.Key, r.Value)
		}
	}
}
