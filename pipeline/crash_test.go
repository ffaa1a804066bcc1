package pipeline_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/broker/journal/crashfs"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/pipeline"
)

const crashEvents = 120

// crashWorld is a journal on a disk that can stop, with events waiting.
type crashWorld struct {
	t    *testing.T
	disk *crashfs.Disk
}

func (w *crashWorld) open() *broker.Broker {
	w.t.Helper()
	j, err := journal.Open("/journal", journal.Options{FS: w.disk, SegmentBytes: 8 << 10, Interval: time.Hour})
	if err != nil {
		w.t.Fatal(err)
	}
	return broker.New(j, broker.Options{})
}

func (w *crashWorld) seed() {
	w.t.Helper()
	b := w.open()
	ctx := w.t.Context()
	if err := b.CreateTopic(ctx, broker.TopicConfig{Name: "payments", Partitions: 2}); err != nil {
		w.t.Fatal(err)
	}
	var recs []event.Record
	for i := range crashEvents {
		v := payment(i, fmt.Sprintf("c%d", i%5), float64(i%70)*10+0.1, time.Duration(i)*37*time.Minute, "")
		if i%17 == 3 {
			v = v[:len(v)-2]
		}
		recs = append(recs, event.Record{ID: fmt.Appendf(nil, "p%d", i), Key: fmt.Appendf(nil, "c%d", i%5), Value: []byte(v)})
	}
	if _, err := b.Publish(ctx, "payments", recs); err != nil {
		w.t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		w.t.Fatal(err)
	}
}

// run processes what is there, or ends with the disk's error.
func (w *crashWorld) run(b *broker.Broker) error {
	w.t.Helper()
	spec, faults := pipeline.Load(payments, nil)
	if faults != nil {
		w.t.Fatal(pipeline.Error(faults))
	}
	plan, faults := pipeline.MakePlan(spec, openONNX)
	if faults != nil {
		w.t.Fatal(pipeline.Error(faults))
	}
	p, err := pipeline.New(plan, pipeline.Deps{Broker: b})
	if err != nil {
		w.t.Fatal(err)
	}
	p.Shrink(4, 256)
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	return p.Run(ctx, pipeline.RunOptions{UntilIdle: true})
}

// outcome is every result and dead letter by id, as written.
func (w *crashWorld) outcome(b *broker.Broker) map[string]string {
	w.t.Helper()
	s := &setup{t: w.t, b: b}
	out := map[string]string{}
	for _, topic := range []string{"scored", "alerts", "payments-dead-letters"} {
		for _, v := range s.read(topic) {
			delete(v, "time") // of a dead letter: its arrival, another each time
			id := v["id"].(string)
			if _, twice := out[id]; twice {
				w.t.Errorf("%s holds %s twice", topic, id)
			}
			text, err := json.Marshal(v)
			if err != nil {
				w.t.Fatal(err)
			}
			out[id] = topic + " " + string(text)
		}
	}
	return out
}

// TestACrashAtAnyWriteChangesNoResult stops the disk at every operation that a
// run makes, lets it forget what was not synced, and finishes the run on what is
// left: results, features and dead letters are those of a run that nothing
// disturbed, each once.
func TestACrashAtAnyWriteChangesNoResult(t *testing.T) {
	calm := &crashWorld{t: t, disk: crashfs.New(1)}
	calm.seed()
	b := calm.open()
	if err := calm.run(b); err != nil {
		t.Fatal(err)
	}
	want := calm.outcome(b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if len(want) != crashEvents {
		t.Fatalf("%d outcomes of %d events", len(want), crashEvents)
	}
	step := 1
	if testing.Short() {
		step = 7
	}
	points := 0
	for at := 1; ; at += step {
		w := &crashWorld{t: t, disk: crashfs.New(uint64(at))}
		w.seed()
		w.disk.StopAt(w.disk.Ops() + at)
		stopped := w.crash(at)
		if !stopped {
			break
		}
		points++
		b := w.open()
		if err := w.run(b); err != nil {
			t.Fatalf("crash point %d: the run after it says %v", at, err)
		}
		if d := cmp.Diff(want, w.outcome(b)); d != "" {
			t.Fatalf("crash point %d (-want +got)\n%s", at, d)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if points < 20/step {
		t.Errorf("only %d crash points", points)
	}
	fmt.Printf("pipeline crash points: %d\n", points)
}

// crash runs into the stop and puts the disk in its place that the machine
// finds afterwards; false means that the run ended before the stop.
func (w *crashWorld) crash(at int) bool {
	w.t.Helper()
	j, err := journal.Open("/journal", journal.Options{FS: w.disk, SegmentBytes: 8 << 10, Interval: time.Hour})
	if err == nil {
		b := broker.New(j, broker.Options{})
		err = w.run(b)
		cerr := b.Close() // fails where the disk has stopped
		if err == nil && cerr == nil && !w.disk.Stopped() {
			return false
		}
	}
	if !w.disk.Stopped() {
		w.t.Fatalf("crash point %d: the run failed before the disk did: %v", at, err)
	}
	w.disk = w.disk.Crash(crashfs.Survivors(at % 3))
	return true
}
