package pipeline_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/broker/journal"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/pipeline"
)

// moving makes pipelines of the chain that write checkpoints to a folder.
type moving struct {
	*setup
	folder string
}

func newMoving(t *testing.T) *moving {
	m := &moving{setup: newSetup(t, chain), folder: filepath.Join(t.TempDir(), "checkpoints")}
	createVisits(t, m.b)
	return m
}

func (m *moving) pipeline() *pipeline.Pipeline {
	m.t.Helper()
	spec, faults := pipeline.Load(m.file, nil)
	if faults != nil {
		m.t.Fatal(pipeline.Error(faults))
	}
	spec.State.Checkpoints, spec.State.Every = "file://"+m.folder, 5*time.Millisecond
	plan, faults := pipeline.MakePlan(spec, pipeline.Files(m.open))
	if faults != nil {
		m.t.Fatal(pipeline.Error(faults))
	}
	p, err := pipeline.New(plan, builtin.PipelineDeps(m.b, slog.New(slog.NewTextHandler(m.t.Output(), nil)), m.t.TempDir()))
	if err != nil {
		m.t.Fatal(err)
	}
	p.Shrink(16, 2<<10)
	return p
}

func (m *moving) run(ctx context.Context, o pipeline.RunOptions) error {
	return m.pipeline().Run(ctx, o)
}

// TestStateComesBackFromTheCheckpoint runs in pieces, each of which finds the
// beginning of its state only in the store of checkpoints.
func TestStateComesBackFromTheCheckpoint(t *testing.T) {
	vs := visits(1500, 4)
	m := newMoving(t)
	for from := 0; from < len(vs); from += 300 {
		publish(t, m.b, "visits", records(vs[from:from+300])...)
		if err := m.run(t.Context(), pipeline.RunOptions{UntilIdle: true}); err != nil {
			t.Fatal(err)
		}
		m.reopen(journal.Options{MaxRecordBytes: 64 << 10})
	}
	if diff := cmp.Diff(features(vs), m.computed("visited")); diff != "" {
		t.Errorf("(-want +got)\n%s", shortened(diff))
	}
	topic, err := m.b.Describe(t.Context(), "chain-by-merchant-state", "")
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range topic.Partitions {
		if p.End > 0 && p.Start < p.End {
			t.Errorf("partition %d of the state topic holds %d to %d beside the checkpoint", i, p.Start, p.End)
		}
	}
	// Without the checkpoint the state is gone, and the pipeline says so instead of beginning anew.
	if err := os.RemoveAll(m.folder); err != nil {
		t.Fatal(err)
	}
	publish(t, m.b, "visits", records(visits(1600, 4)[1500:])...)
	if err := m.run(t.Context(), pipeline.RunOptions{UntilIdle: true}); err == nil {
		t.Error("a pipeline whose checkpoint is lost went on with empty windows")
	} else {
		t.Log(err)
	}
}

// TestTasksMoveBetweenTwoProcesses lets a second member of the group join in the
// middle and the first one leave, so that every task moves at least once.
func TestTasksMoveBetweenTwoProcesses(t *testing.T) {
	vs := visits(3000, 5)
	m := newMoving(t)
	publish(t, m.b, "visits", records(vs[:1000])...)
	firstCtx, stopFirst := context.WithCancel(t.Context())
	first, second := make(chan error, 1), make(chan error, 1)
	p1, p2 := m.pipeline(), m.pipeline()
	go func() { first <- p1.Run(firstCtx, pipeline.RunOptions{}) }()
	await(t, func() bool { return p1.Stats().Predictions > 100 })
	secondCtx, stopSecond := context.WithTimeout(t.Context(), 30*time.Second)
	defer stopSecond()
	go func() { second <- p2.Run(secondCtx, pipeline.RunOptions{}) }()
	publish(t, m.b, "visits", records(vs[1000:2000])...)
	await(t, func() bool { return p2.Stats().Predictions > 100 })
	stopFirst()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	publish(t, m.b, "visits", records(vs[2000:])...)
	await(t, func() bool { return len(m.computed("visited")) == len(vs) })
	stopSecond()
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(features(vs), m.computed("visited")); diff != "" {
		t.Errorf("(-want +got)\n%s", shortened(diff))
	}
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	for range 3000 {
		if done() {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatal("it did not come to that")
}
