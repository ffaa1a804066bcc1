package kafka_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/kafka"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

// workerVariable makes the test binary a worker on the server with this URL.
const workerVariable = "FRESHET_TEST_KAFKA_WORKER"

func TestMain(m *testing.M) {
	if url := os.Getenv(workerVariable); url != "" {
		work(url)
		return
	}
	os.Exit(m.Run())
}

const onceIn, onceOut, onceParts = "once-in", "once-out", 4

// work moves records from one topic to the other until it is killed.
func work(url string) {
	ctx := context.Background()
	b := workerBroker(ctx, url)
	for {
		c, err := b.Subscribe(ctx, broker.Subscription{Topic: onceIn, Group: "once"})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			continue
		}
		fmt.Println("works")
		for {
			claim, err := c.Claim(ctx)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				break
			}
			go func() {
				for {
					if err := step(ctx, b, claim); err != nil {
						fmt.Fprintln(os.Stderr, err)
						_ = claim.Release()
						return
					}
				}
			}()
		}
	}
}

func workerBroker(ctx context.Context, url string) *broker.Broker {
	for {
		d, err := kafka.Open(ctx, url, kafka.Options{})
		if err == nil {
			return broker.New(d, broker.Options{})
		}
		if !errkind.Of(err).Retryable() {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func step(ctx context.Context, b *broker.Broker, claim broker.Claim) error {
	batch, err := claim.Fetch(ctx, 20)
	if err != nil {
		return err
	}
	defer batch.Release()
	return b.Commit(ctx, &broker.Tx{
		Publish:   []broker.Publication{{Topic: onceOut, Partition: broker.AnyPartition, Records: batch.Records}},
		Positions: []broker.ClaimPosition{{Claim: claim, Next: batch.Next()}},
	})
}

// worker is a process that works, with who waits for its end.
type worker struct{ cmd *exec.Cmd }

func startWorker(t *testing.T, url string) *worker {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), workerVariable+"="+url)
	if testing.Verbose() {
		cmd.Stderr = os.Stderr
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w := &worker{cmd}
	t.Cleanup(w.kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "works\n" {
		t.Fatalf("the worker said %q, %v", line, err)
	}
	return w
}

func (w *worker) kill() {
	_ = w.cmd.Process.Kill()
	_ = w.cmd.Wait()
}

// outside counts results as a program without Freshet sees them.
type outside struct {
	mu      sync.Mutex
	seen    map[string]int
	next    map[string]int
	changed chan struct{}
	faults  []string
}

func (o *outside) consume(ctx context.Context, cl *kgo.Client) {
	for ctx.Err() == nil {
		fetches := cl.PollFetches(ctx)
		o.mu.Lock()
		fetches.EachRecord(func(r *kgo.Record) {
			id, n := "", 0
			for _, h := range r.Headers {
				if h.Key == "ce_id" {
					id = string(h.Value)
				}
			}
			if o.seen[id]++; o.seen[id] > 1 {
				o.faults = append(o.faults, id+" came again")
			}
			if _, err := fmt.Sscan(string(r.Value), &n); err != nil || n != o.next[string(r.Key)] {
				o.faults = append(o.faults, fmt.Sprintf("%s came, its key had come to %d", id, o.next[string(r.Key)]))
			}
			o.next[string(r.Key)] = n + 1
		})
		close(o.changed)
		o.changed = make(chan struct{})
		o.mu.Unlock()
	}
}

// await waits until n results have come.
func (o *outside) await(t *testing.T, n int) {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		o.mu.Lock()
		seen, changed := len(o.seen), o.changed
		o.mu.Unlock()
		if seen >= n {
			return
		}
		select {
		case <-changed:
		case <-limit.C:
			t.Fatalf("%d results came within a minute, want %d", seen, n)
		}
	}
}

// A consumer without Freshet sees each result once and in order, while workers
// are killed ten times and the server twice.
func TestEachResultIsSeenOnceFromOutside(t *testing.T) {
	servers.Heavy(t)
	const kills, keys, perRound = 10, 8, 20
	s := servers.Run(t, "kafka")
	url := urlOf(s)
	d := open(t, url)
	b := broker.New(d, broker.Options{Retry: broker.Retry{Attempts: 60, Min: 20 * time.Millisecond, Max: time.Second}})
	defer b.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, name := range []string{onceIn, onceOut} {
		if err := b.CreateTopic(ctx, broker.TopicConfig{Name: name, Partitions: onceParts}); err != nil {
			t.Fatal(err)
		}
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Address), kgo.ConsumeTopics(onceOut), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	o := &outside{seen: map[string]int{}, next: map[string]int{}, changed: make(chan struct{})}
	var wg sync.WaitGroup
	wg.Go(func() { o.consume(ctx, cl) })
	defer func() { cancel(); wg.Wait(); cl.Close() }()

	sent, distinct := 0, 0
	send := func() {
		t.Helper()
		for k := range keys {
			recs := make([]event.Record, perRound)
			for i := range recs {
				n := fmt.Sprint(sent + i)
				recs[i] = event.Record{ID: fmt.Appendf(nil, "k%d/%s", k, n), Key: fmt.Appendf(nil, "k%d", k), Value: []byte(n)}
			}
			// In a transaction, so that a repeated call stores nothing twice.
			if err := b.Commit(ctx, &broker.Tx{Publish: []broker.Publication{{Topic: onceIn, Partition: broker.AnyPartition, Records: recs}}}); err != nil {
				t.Fatal(err)
			}
		}
		sent += perRound
		distinct += keys * perRound
	}
	workers := []*worker{startWorker(t, url), startWorker(t, url)}
	for round := range kills {
		send()
		o.await(t, distinct-keys*perRound/2) // in the middle of the work
		w := &workers[round%2]
		(*w).kill()
		if round%5 == 3 {
			if err := s.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := s.Restart(); err != nil {
				t.Fatal(err)
			}
		}
		*w = startWorker(t, url)
	}
	send()
	o.await(t, distinct)
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.faults) > 0 {
		t.Errorf("%d faults, the first: %v", len(o.faults), o.faults[:min(5, len(o.faults))])
	}
	t.Logf("%d results, each seen once, across %d kills of a worker and 2 of the server", len(o.seen), kills)
}
