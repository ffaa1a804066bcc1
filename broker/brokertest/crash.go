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
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

const (
	crashRounds  = 8 // unless the harness says otherwise
	crashParts   = 4
	crashWriters = 4
	crashBatch   = 5
)

// RunCrash kills the broker again and again under concurrent publishers and
// consume-transform-publish loops, and counts afterwards: what was
// acknowledged is there, per key in order and without gaps; with
// Capabilities.Dedup, once; with Capabilities.Transactions, each input has
// exactly one output and the group stands where its outputs say; with
// Capabilities.Append, the state that each partition's owner appends goes from
// position to position, each input counted once. What a broker repeats without
// them is counted and logged.
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
	if h.Crashes == 0 {
		h.Crashes = crashRounds
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(h.Crashes+6)*e.h.Patience)
	defer cancel()
	e.ctx = ctx
	c := &crashRun{env: e}
	cfg := broker.TopicConfig{Partitions: crashParts}
	if e.caps.Dedup {
		cfg.DedupWindow = time.Hour
	}
	c.in, c.out, c.state = e.topicWith(cfg), e.topic(crashParts), e.topic(crashParts)
	for w := range c.writers {
		c.writers[w].key = fmt.Sprintf("w%d", w)
	}
	for range h.Crashes {
		c.round()
	}
	c.finish(h.Crashes)
}

type crashRun struct {
	*env
	in, out string
	state   string // what Append keeps of each partition: the position behind what is done
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
	consumer := c.process(ctx, d, &wg)
	select {
	case <-enough:
	case <-time.After(c.h.Patience):
		c.Fatalf("fewer than %d publishes were acknowledged within %v", quota, c.h.Patience)
	}
	restarted := c.h.Crash(c.TB, d)
	cancel()
	c.within("calls in progress at a crash", wg.Wait)
	c.leave(consumer, restarted == d)
	c.use(restarted)
}

// leave closes a consumer. Where its driver has outlived the broker nothing may
// be left of the member, or it would keep its partitions.
func (c *crashRun) leave(consumer broker.Consumer, survives bool) {
	c.Helper()
	c.within("Consumer.Close", func() {
		if err := consumer.Close(); err != nil && survives {
			c.Logf("Consumer.Close after a crash: %v", err)
		}
	})
}

// patiently repeats what may pass, as broker.Broker does, within the harness's patience.
func (c *crashRun) patiently(what string, f func() error) {
	c.Helper()
	c.eventually(func() string {
		err := f()
		if errkind.Is(err, errkind.Transient) || errkind.Is(err, errkind.Throttled) {
			return fmt.Sprintf("%s: %v", what, err)
		}
		c.must(what, err)
		return ""
	})
}

// process moves records from in to out until ctx or the broker ends.
func (c *crashRun) process(ctx context.Context, d broker.Driver, wg *sync.WaitGroup) (consumer broker.Consumer) {
	c.Helper()
	c.patiently("Subscribe", func() (err error) {
		consumer, err = d.Subscribe(ctx, broker.Subscription{Topic: c.in, Group: "g"})
		return err
	})
	wg.Go(func() {
		for ctx.Err() == nil {
			claim, err := consumer.Claim(ctx)
			if c.passes(ctx, err) {
				continue
			}
			if err != nil {
				return
			}
			wg.Go(func() {
				for ctx.Err() == nil {
					err := c.work(ctx, d, claim)
					if !c.passes(ctx, err) {
						if c.caps.Append && errkind.Is(err, errkind.Conflict) {
							// Another owner, or an append of our own whose answer was lost:
							// who claims the partition next looks at what is stored.
							_ = claim.Release()
						}
						return
					}
				}
			})
		}
	})
	return consumer
}

// passes says whether a call that ended with err is worth repeating, after a pause.
func (c *crashRun) passes(ctx context.Context, err error) bool {
	if !errkind.Is(err, errkind.Transient) && !errkind.Is(err, errkind.Throttled) {
		return false
	}
	select {
	case <-ctx.Done():
	case <-time.After(10 * pollEvery):
	}
	return true
}

// work takes step after step on a claim, until an error.
func (c *crashRun) work(ctx context.Context, d broker.Driver, claim broker.Claim) error {
	if !c.caps.Append || c.caps.Transactions {
		for {
			if err := c.step(ctx, d, claim); err != nil {
				return err
			}
		}
	}
	s, err := c.loadState(ctx, d, claim.Partition())
	if err != nil {
		return err
	}
	if s.next > 0 { // what is appended counts, the group's position only follows it
		if err := claim.SeekTo(s.next); err != nil {
			return err
		}
		if err := claim.Commit(ctx, s.next); err != nil {
			return err
		}
	}
	for {
		if err := c.appendStep(ctx, d, claim, s); err != nil {
			return err
		}
	}
}

func (c *crashRun) step(ctx context.Context, d broker.Driver, claim broker.Claim) error {
	b, err := claim.Fetch(ctx, c.stepSize())
	if err != nil {
		return err
	}
	defer b.Release()
	if c.caps.Transactions {
		return c.repeat(ctx, func() error {
			return d.(broker.Transactor).Commit(ctx, &broker.Tx{
				Publish:   []broker.Publication{{Topic: c.out, Partition: broker.AnyPartition, Records: b.Records}},
				Positions: []broker.ClaimPosition{{Claim: claim, Next: b.Next()}},
			})
		})
	}
	if err := c.publishOut(ctx, d, b.Records); err != nil {
		return err
	}
	return c.repeat(ctx, func() error { return claim.Commit(ctx, b.Next()) })
}

// repeat calls f again where that may help: what was fetched cannot be fetched again.
func (c *crashRun) repeat(ctx context.Context, f func() error) error {
	for {
		if err := f(); ctx.Err() != nil || !c.passes(ctx, err) {
			return err
		}
	}
}

func (c *crashRun) stepSize() int {
	if c.caps.MaxBatch > 0 {
		return min(20, c.caps.MaxBatch)
	}
	return 20
}

func (c *crashRun) publishOut(ctx context.Context, d broker.Driver, recs []event.Record) error {
	return c.repeat(ctx, func() error {
		_, err := d.Publish(ctx, c.out, recs)
		return err
	})
}

// finish repeats what each writer does not know the outcome of, lets the group
// catch up and counts.
func (c *crashRun) finish(crashes int) {
	c.Helper()
	for w := range c.writers {
		w := &c.writers[w]
		c.patiently("Publish after the last crash", func() error {
			_, err := c.d.Publish(c.ctx, c.in, numbered(w.key, w.acked, crashBatch))
			return err
		})
		w.acked += crashBatch
	}
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	var wg sync.WaitGroup
	consumer := c.process(ctx, c.d, &wg)
	c.eventually(func() string {
		t, err := c.d.Describe(c.ctx, c.in, "g")
		if err != nil {
			return fmt.Sprintf("Describe: %v", err)
		}
		left := int64(0)
		for _, s := range t.Partitions {
			left += s.Waiting
		}
		if left > 0 {
			return fmt.Sprintf("%d records wait after the last crash", left)
		}
		return ""
	})
	cancel()
	c.within("the loops at the end", wg.Wait)
	c.leave(consumer, true)
	published := c.verify(c.in, c.caps.Dedup)
	c.verify(c.out, c.caps.Dedup && c.caps.Transactions)
	in, out := c.count(c.in), c.count(c.out)
	switch {
	case c.caps.Transactions && in != out:
		c.Errorf("%d records went in and %d came out, with transactions", in, out)
	case c.caps.Append && !c.caps.Transactions:
		c.verifyStates()
	}
	c.Logf("%s: %d crashes, %d records acknowledged, 0 lost, %d repeated on the way in, %d on the way out",
		c.h.against(), crashes, published, in-published, out-in)
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
