package brokertest

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

const (
	// leastPatience and mostPatience bound how long a fetch goes on before it is given up.
	leastPatience = 200 * time.Microsecond
	mostPatience  = 5 * time.Millisecond
	// sendEvery is how often records come meanwhile, and sendFor and leastSent for
	// how long and how many at least.
	sendEvery = 300 * time.Microsecond
	sendFor   = 1500 * time.Millisecond
	leastSent = 100
)

// giveUpFetches reads with fetches that end after moments, beside records that
// keep coming: none is lost with a fetch, and what a fetch began the next goes on
// with.
func giveUpFetches(e *env) {
	const parts = 2
	topic := e.topic(parts)
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	var all []*hasty
	for p, claim := range e.claims(e.subscribe(topic, "g"), parts) {
		r := e.read(topic, p, 0)
		e.Cleanup(func() { _ = r.Close() })
		all = append(all, &hasty{what: "a claim", f: claim, partition: p}, &hasty{what: "a reader", f: r, partition: p})
	}
	var sent atomic.Int64           // records, negative while more are to come
	var empty, ended sync.WaitGroup // before the first record, and with the last
	sent.Store(-1)
	empty.Add(len(all))
	for _, h := range all {
		ended.Go(func() { h.complaint = h.fetch(ctx, e, &sent, empty.Done) })
	}
	defer ended.Wait()
	defer cancel()
	e.within("fetches that are given up where nothing is", empty.Wait)

	keys := make([]string, parts)
	for p := range keys {
		keys[p] = string(keyedFor(p, parts, 1)[0].Key)
	}
	n := 0
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	for began := time.Now(); time.Since(began) < sendFor || n < leastSent; <-tick.C {
		for p, key := range keys {
			e.publishOnce(topic, p, n, numbered(key, n, 1))
		}
		n++
	}
	sent.Store(int64(n))
	late := time.AfterFunc(e.h.Patience, cancel)
	defer late.Stop()
	ended.Wait()
	for _, h := range all {
		if h.complaint != "" {
			e.Errorf("%s of partition %d: %s", h.what, h.partition, h.complaint)
		}
		e.Logf("%s of partition %d had %d of %d records, and gave %d fetches up", h.what, h.partition, h.next, n, h.given)
	}
}

// publishOnce repeats a publish that failed for the moment and stored nothing behind
// the n records before: with connections shared, a fetch that was given up may be at fault.
func (e *env) publishOnce(topic string, partition, n int, recs []event.Record) {
	e.Helper()
	for range 5 {
		_, err := e.tryPublish(topic, recs)
		if !errkind.Of(err).Retryable() {
			e.must("Publish", err)
			return
		}
		if len(e.all(topic)[partition]) > n {
			return // it was stored, and only the answer was lost
		}
	}
	e.Fatalf("Publish to partition %d of %s fails again and again", partition, topic)
}

// hasty is somebody who gives fetches up.
type hasty struct {
	what      string
	f         fetcher
	partition int
	next      int // record
	given     int // fetches given up
	complaint string
}

// fetch wants all records that are sent, until ctx ends. It calls empty after its
// first fetches.
func (h *hasty) fetch(ctx context.Context, e *env, sent *atomic.Int64, empty func()) (complaint string) {
	once := sync.OnceFunc(empty)
	defer once()
	for int64(h.next) != sent.Load() {
		if h.given == 3 {
			once()
		}
		b, err := h.try(ctx)
		if ctx.Err() != nil {
			b.Release()
			return fmt.Sprintf("%d of %d records came within %v, %d fetches were given up", h.next, sent.Load(), e.h.Patience, h.given)
		}
		if err != nil {
			// A connection that another gave up on may fail once; a Fetch is repeated then.
			if !canceled(err) && !errkind.Of(err).Retryable() {
				return fmt.Sprintf("Fetch: %v", err)
			}
			h.given++
			continue
		}
		for i := range b.Records {
			if r := copyOf(b.Partition, &b.Records[i]); r.Value != fmt.Sprint(h.next+i) {
				complaint = fmt.Sprintf("record %s comes where %d is due, after %d fetches that were given up", r.Value, h.next+i, h.given)
				break
			}
		}
		h.next += len(b.Records)
		b.Release()
		if complaint != "" {
			return complaint
		}
	}
	return ""
}

func (h *hasty) try(ctx context.Context) (*broker.Batch, error) {
	// As many are below a millisecond as above.
	patience := float64(leastPatience) * math.Pow(float64(mostPatience/leastPatience), rand.Float64())
	ctx, cancel := context.WithTimeout(ctx, time.Duration(patience))
	defer cancel()
	return h.f.Fetch(ctx, 1+rand.IntN(50))
}
