package pipeline_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/broker/journal/crashfs"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/pipeline"
)

// crashCase is a pipeline with events that wait for it.
type crashCase struct {
	name   string
	file   string
	topic  broker.TopicConfig
	events []event.Record
	// outputs are the topics on which every event has to leave one record.
	outputs []string
	// checkpoints is whether the state also goes to a folder that the crash spares.
	checkpoints bool
	frames      int
	cycle       int64
}

func crashPayments() *crashCase {
	c := &crashCase{name: "one key", file: payments, topic: broker.TopicConfig{Name: "payments", Partitions: 2},
		outputs: []string{"scored", "alerts", "payments-dead-letters"}, frames: 4, cycle: 256}
	for i := range 120 {
		v := payment(i, fmt.Sprintf("c%d", i%5), float64(i%70)*10+0.1, time.Duration(i)*37*time.Minute, "")
		if i%17 == 3 {
			v = v[:len(v)-2]
		}
		c.events = append(c.events, event.Record{ID: fmt.Appendf(nil, "p%d", i), Key: fmt.Appendf(nil, "c%d", i%5), Value: []byte(v)})
	}
	return c
}

func crashChain(checkpoints bool) *crashCase {
	c := &crashCase{name: "three stages", file: chain, topic: broker.TopicConfig{Name: "visits", Partitions: 2},
		outputs: []string{"visited", "chain-dead-letters"}, checkpoints: checkpoints, frames: 8, cycle: 256}
	if checkpoints {
		c.name += " with checkpoints"
	}
	c.events = records(visits(100, 6))
	for i := range c.events {
		if i%17 == 3 {
			c.events[i].Value = c.events[i].Value[:len(c.events[i].Value)-2]
		}
	}
	return c
}

// crashWorld is a journal on a disk that can stop, with a case's events.
type crashWorld struct {
	*crashCase
	disk   *crashfs.Disk
	folder string // of checkpoints
}

func (c *crashCase) world(t *testing.T, seed uint64) (*crashWorld, error) {
	w := &crashWorld{crashCase: c, disk: crashfs.New(seed), folder: filepath.Join(t.TempDir(), "checkpoints")}
	b, err := w.open()
	if err != nil {
		return nil, err
	}
	if err := b.CreateTopic(t.Context(), c.topic); err != nil {
		return nil, err
	}
	if _, err := b.Publish(t.Context(), c.topic.Name, c.events); err != nil {
		return nil, err
	}
	return w, b.Close()
}

func (w *crashWorld) open() (*broker.Broker, error) {
	j, err := journal.Open("/journal", journal.Options{FS: w.disk, SegmentBytes: 8 << 10, Interval: time.Hour})
	if err != nil {
		return nil, err
	}
	return broker.New(j, broker.Options{}), nil
}

// run processes what is there, or ends with the disk's error.
func (w *crashWorld) run(ctx context.Context, b *broker.Broker) error {
	spec, faults := pipeline.Load(w.file, nil)
	if faults != nil {
		return pipeline.Error(faults)
	}
	if w.checkpoints {
		spec.State.Checkpoints, spec.State.Every = "file://"+w.folder, 2*time.Millisecond
	}
	plan, faults := pipeline.MakePlan(spec, pipeline.Files(openONNX))
	if faults != nil {
		return pipeline.Error(faults)
	}
	p, err := pipeline.New(plan, builtin.PipelineDeps(b, slog.New(slog.DiscardHandler), w.folder+"-local"))
	if err != nil {
		return err
	}
	p.Shrink(w.frames, w.cycle)
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	if err := p.Run(ctx, pipeline.RunOptions{UntilIdle: true}); err != nil {
		return err
	}
	return ctx.Err() // a run that was cut short is not idle
}

// outcome is every result and dead letter by id, as written.
func (w *crashWorld) outcome(ctx context.Context, b *broker.Broker) (map[string]string, error) {
	out := map[string]string{}
	for _, topic := range w.outputs {
		values, err := readTopic(ctx, b, topic)
		if err != nil {
			return nil, err
		}
		for _, v := range values {
			var m map[string]any
			if err := json.Unmarshal(v, &m); err != nil {
				return nil, fmt.Errorf("%s: %w", v, err)
			}
			if strings.HasSuffix(topic, "-dead-letters") {
				delete(m, "time") // its arrival, another each time
			}
			text, err := json.Marshal(m)
			if err != nil {
				return nil, err
			}
			id := m["id"].(string)
			if _, twice := out[id]; twice {
				return nil, fmt.Errorf("%s holds %s twice", topic, id)
			}
			out[id] = topic + " " + string(text)
		}
	}
	return out, nil
}

// readTopic returns the values of all records of a topic.
func readTopic(ctx context.Context, b *broker.Broker, topic string) (values [][]byte, err error) {
	info, err := b.Describe(ctx, topic, "")
	if err != nil {
		return nil, err
	}
	for i, p := range info.Partitions {
		r, err := b.Read(ctx, topic, i, p.Start)
		if err != nil {
			return nil, err
		}
		for next := p.Start; next < p.End; {
			batch, err := r.Fetch(ctx, 1000)
			if err != nil {
				return nil, err
			}
			for j := range batch.Records {
				values = append(values, slices.Clone(batch.Records[j].Value))
			}
			next = batch.Next()
			batch.Release()
		}
		if err := r.Close(); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// calm is the outcome of a run that nothing disturbs, and the number of its disk operations.
func (c *crashCase) calm(t *testing.T) (want map[string]string, ops int) {
	t.Helper()
	w, err := c.world(t, 1)
	if err != nil {
		t.Fatal(err)
	}
	before := w.disk.Ops()
	b, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.run(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if want, err = w.outcome(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if len(want) != len(c.events) {
		t.Fatalf("%d outcomes of %d events", len(want), len(c.events))
	}
	return want, w.disk.Ops() - before
}

// crash runs until the disk stops at its at-th operation, lets the machine come
// up again, and finishes the run on what is left. stopped is false where the run
// ended before the disk did.
func (c *crashCase) crash(t *testing.T, at int, want map[string]string) (stopped bool, err error) {
	w, err := c.world(t, uint64(at))
	if err != nil {
		return false, err
	}
	w.disk.StopAt(w.disk.Ops() + at)
	b, err := w.open()
	if err == nil {
		err = w.run(t.Context(), b)
		if cerr := b.Close(); err == nil { // fails where the disk has stopped
			err = cerr
		}
	}
	if !w.disk.Stopped() {
		if err != nil {
			return false, fmt.Errorf("the run failed before the disk did: %w", err)
		}
		return false, nil
	}
	w.disk = w.disk.Crash(crashfs.Survivors(at % 3))
	if b, err = w.open(); err != nil {
		return true, err
	}
	if err := w.run(t.Context(), b); err != nil {
		return true, fmt.Errorf("the run after it says: %w", err)
	}
	got, err := w.outcome(t.Context(), b)
	if err != nil {
		return true, err
	}
	if d := cmp.Diff(want, got); d != "" {
		return true, errkind.Errorf(errkind.Corrupt, "(-want +got)\n%s", shortened(d))
	}
	return true, b.Close()
}

// crashWorkers is how many crash points are tried side by side: a run spends
// most of its time waiting for silence.
const crashWorkers = 8

// TestACrashAtAnyWriteChangesNoResult stops the disk at operations that a run
// makes, lets it forget what was not synced, and finishes the run on what is
// left: results, features and dead letters are those of a run that nothing
// disturbed, each once. Every operation that the calm run made is a crash point,
// but for the run with checkpoints, of which a fixed seed draws some.
func TestACrashAtAnyWriteChangesNoResult(t *testing.T) {
	for _, c := range []*crashCase{crashPayments(), crashChain(false), crashChain(true)} {
		t.Run(c.name, func(t *testing.T) {
			want, ops := c.calm(t)
			points := make([]int, ops)
			for i := range points {
				points[i] = i + 1
			}
			most := 400
			if c.checkpoints { // a real folder, with real syncs
				most = 64
			}
			if testing.Short() {
				most = 16
			}
			if len(points) > most {
				r := rand.New(rand.NewPCG(8, uint64(len(c.name))))
				r.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
				points = points[:most]
			}
			next := make(chan int)
			var workers sync.WaitGroup
			var mu sync.Mutex
			tried := 0
			for range crashWorkers {
				workers.Go(func() {
					for at := range next {
						stopped, err := c.crash(t, at, want)
						if err != nil {
							t.Errorf("crash point %d: %v", at, err)
						}
						mu.Lock()
						if stopped {
							tried++
						}
						mu.Unlock()
					}
				})
			}
			for _, at := range points {
				if t.Failed() {
					break
				}
				next <- at
			}
			close(next)
			workers.Wait()
			if tried < len(points)/2 {
				t.Errorf("only %d of %d crash points were reached", tried, len(points))
			}
			fmt.Printf("pipeline crash points, %s: %d of about %d disk operations\n", c.name, tried, ops)
		})
	}
}
