package brokertest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet-io/freshet/broker"
)

const (
	crashRounds  = 8
	crashParts   = 4
	crashWriters = 4
	crashBatch   = 5
)

// RunCrash kills the broker again and again under concurrent publishers and
// consume-transform-publish loops, and counts afterwards: what was
// acknowledged is there, per key in order and without gaps; with
// Capabilities.Dedup, once; with Capabilities.Transactions, each input has
// exactly one output and the group stands where its outputs say. What a
// broker without them repeats is counted and logged.
func RunCrash(t *testing.T, h Harness) {
	runCrash(t, h)
}

func runCrash(t testing.TB, h Harness) {
	e := newEnv(t, h)
	if !e.caps.Durable {
		t.Skip("the driver's Capabilities do not promise durability")
	}
	if h.Crash == nil {
		t.Fatal("the driver is Durable, so the harness needs Crash")
	}
	c := &crashRun{env: e}
	cfg := broker.TopicConfig{Partitions: crashParts}
	if e.caps.Dedup {
		cfg.DedupWindow = time.Hour
	}
	c.in, c.out = e.topicWith(cfg), e.topic(crashParts)
	for w := range c.writers {
		c.writers[w].key = fmt.Sprintf("w%d", w)
	}
	for range crashRounds {
		c.round()
	}
	c.finish()
}

type crashRun struct {
	*env
	in, out string
	writers [crashWriters]crashWriter
}

// crashWriter publishes records 0, 1, 2, … under its key, and after a failure
// repeats the batch whose outcome it does not know.
type crashWriter struct {
	key   string
	acked int // records, of all rounds
}

// round works until some publishes were acknowledged, then kills the broker.
func (c *crashRun) round() {
	c.Helper()
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	var wg sync.WaitGroup
	var acks atomic.Int64
	enough, quota := make(chan struct{}), 1+rand.Int64N(80)
	d := c.d
	for w := range c.writers {
		w := &c.writers[w]
		wg.Go(func() {
			for {
				if _, err := d.Publish(ctx, c.in, numbered(w.key, w.acked, crashBatch)); err != nil {
					return
				}
				w.acked += crashBatch
				if acks.Add(1) == quota {
					close(enough)
				}
			}
		})
	}
	c.process(ctx, d, &wg)
	select {
	case <-enough:
	case <-time.After(c.h.Patience):
		c.Fatalf("fewer than %d publishes were acknowledged within %v", quota, c.h.Patience)
	}
	restarted := c.h.Crash(c.TB, d)
	cancel()
	c.within("calls in progress at a crash", wg.Wait)
	c.use(restarted)
}

// process moves records from in to out until ctx or the broker ends.
func (c *crashRun) process(ctx context.Context, d broker.Driver, wg *sync.WaitGroup) {
	consumer, err := d.Subscribe(ctx, broker.Subscription{Topic: c.in, Group: "g"})
	c.must("Subscribe", err)
	wg.Go(func() {
		for {
			claim, err := consumer.Claim(ctx)
			if err != nil {
				return
			}
			wg.Go(func() {
				for c.step(ctx, d, claim) == nil {
				}
			})
		}
	})
}

func (c *crashRun) step(ctx context.Context, d broker.Driver, claim broker.Claim) error {
	if c.caps.Transactions {
		_, err := transform(ctx, d.(broker.Transactor), claim, c.out, 20)
		return err
	}
	n := 20
	if c.caps.MaxBatch > 0 {
		n = min(n, c.caps.MaxBatch)
	}
	b, err := claim.Fetch(ctx, n)
	if err != nil {
		return err
	}
	defer b.Release()
	if _, err := d.Publish(ctx, c.out, b.Records); err != nil {
		return err
	}
	return claim.Commit(ctx, b.Next())
}

// finish repeats what each writer does not know the outcome of, lets the group
// catch up and counts.
func (c *crashRun) finish() {
	c.Helper()
	for w := range c.writers {
		w := &c.writers[w]
		_, err := c.d.Publish(c.ctx, c.in, numbered(w.key, w.acked, crashBatch))
		c.must("Publish after the last crash", err)
		w.acked += crashBatch
	}
	ctx, cancel := context.WithCancel(c.ctx)
	var wg sync.WaitGroup
	c.process(ctx, c.d, &wg)
	c.within("catching up after the last crash", func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for ; c.ctx.Err() == nil; <-tick.C {
			t, err := c.d.Describe(c.ctx, c.in, "g")
			if err != nil {
				c.Errorf("Describe: %v", err)
				return
			}
			left := int64(0)
			for _, s := range t.Partitions {
				left += s.End - max(s.Committed, 0)
			}
			if left == 0 {
				return
			}
		}
	})
	cancel()
	c.within("the loops at the end", wg.Wait)
	published := c.verify(c.in, c.caps.Dedup)
	c.verify(c.out, c.caps.Dedup && c.caps.Transactions)
	if in, out := c.count(c.in), c.count(c.out); c.caps.Transactions && in != out {
		c.Errorf("%d records went in and %d came out, with transactions", in, out)
	}
	c.Logf("%d crashes, %d records acknowledged, 0 lost", crashRounds, published)
}

// verify holds the topic to have every record acknowledged to each writer, the
// first ones of them in order, and only those where once is set.
func (c *crashRun) verify(topic string, once bool) (n int) {
	c.Helper()
	next := map[string]int{}
	duplicates := 0
	for p, recs := range c.all(topic) {
		for _, r := range recs {
			var i int
			if _, err := fmt.Sscan(r.Value, &i); err != nil || r.ID != r.Key+"/"+r.Value {
				c.Fatalf("partition %d position %d holds %+v, which nobody wrote", p, r.Position, r)
			}
			switch {
			case i == next[r.Key]:
				next[r.Key]++
			case i < next[r.Key]:
				duplicates++
			default:
				c.Fatalf("partition %d position %d: key %s continues with %d, want %d", p, r.Position, r.Key, i, next[r.Key])
			}
		}
	}
	for _, w := range c.writers {
		if next[w.key] != w.acked {
			c.Errorf("key %s: %d records, %d were acknowledged", w.key, next[w.key], w.acked)
		}
		n += w.acked
	}
	if duplicates > 0 {
		c.Logf("topic %s: %d duplicates", topic, duplicates)
		if once {
			c.Errorf("topic %s: %d duplicates, and the driver promises none", topic, duplicates)
		}
	}
	return n
}
