package main

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet-io/freshet/inference/onnx"
)

// Under the race detector this finds a race of Bento's own: its v1.8.2 batcher
// in kafka_franz is read outside of its lock.
func TestPeersDoTheWork(t *testing.T) {
	s, err := newScenario(t.TempDir(), "../..", 20_000)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%.0f bytes an event: %s", s.bytes(), s.events[7])
	model, err := onnx.Load(s.model, onnx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	var syncs atomic.Int64
	sides := []side{
		bareFile(s.events, func() int64 { return 20 }),
		jetStreamLog(s.events),
		handLoop(s, model, 5000, time.Second, false),
		handLoop(s, model, 5000, time.Second, true),
		journalLog(s, 20_000, &syncs),
		passThrough(s, 20_000),
		pipelineSide(s, 20_000, ""),
		bento(s, model, 20_000, time.Second, true, "kafka"),
		bento(s, model, 20_000, time.Second, false, "kafka"),
		bento(s, model, 20_000, time.Second, false, "nats"),
	}
	for _, side := range sides {
		t.Run(side.Name, func(t *testing.T) {
			got, err := inFreshDir(context.Background(), t.TempDir(), side.run)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.0f events/s of %d, %.1f CPU s per million, %.0f allocations an event", got.rate(), got.Events, got.cpuPerMillion(), got.allocsPerEvent())
		})
	}
}

func TestEvaluatorsAgree(t *testing.T) {
	s, err := newScenario(t.TempDir(), "../..", 60_000)
	if err != nil {
		t.Fatal(err)
	}
	models, err := evaluatedModels(s, "../..", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	g, err := compareEvaluators(models, 1, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	g.text(t.Output())
}
