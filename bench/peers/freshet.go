package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/pipeline"
)

// pipelineSide runs the full pipeline on the journal until everything is done.
// profile names a file for a CPU profile; empty takes none.
func pipelineSide(s *scenario, events int, profile string) side {
	recs := s.records(0, events)
	return side{
		Name: "Freshet",
		What: "the full pipeline on the journal: contract, six windows, lookup, two expressions, 100-tree model, route, results as JSON; results, position and window state in one atomic commit, synced",
		run: func(ctx context.Context, dir string) (out sample, err error) {
			b, err := filledJournal(ctx, dir, recs)
			if err != nil {
				return sample{}, err
			}
			defer func() { err = errors.Join(err, b.Close()) }()
			p, err := newPipeline(filepath.Join(s.dir, "pipeline.yaml"), b)
			if err != nil {
				return sample{}, err
			}
			stop, err := profileTo(profile)
			if err != nil {
				return sample{}, err
			}
			defer func() { err = errors.Join(err, stop()) }()
			m := startMeter()
			if err := p.Run(ctx, pipeline.RunOptions{UntilIdle: true}); err != nil {
				return sample{}, fmt.Errorf("run the pipeline: %w", err)
			}
			out = m.stop(events)
			if st := p.Stats(); int(st.Predictions) != events {
				return sample{}, fmt.Errorf("%d predictions of %d events; dead letters: %v", st.Predictions, events, st.DeadLetters)
			}
			return out, nil
		},
	}
}

// profileTo begins a CPU profile and returns what ends it.
func profileTo(path string) (stop func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// newPipeline plans a pipeline file.
func newPipeline(file string, b *broker.Broker) (*pipeline.Pipeline, error) {
	return newPipelineAs(file, b, func(*pipeline.Spec) {})
}

// newPipelineAs plans a pipeline file with a change, such as another name.
func newPipelineAs(file string, b *broker.Broker, change func(*pipeline.Spec)) (*pipeline.Pipeline, error) {
	spec, faults := pipeline.Load(file, nil)
	if len(faults) > 0 {
		return nil, fmt.Errorf("load the pipeline: %v", faults)
	}
	change(spec)
	models := &builtin.Models{Env: os.LookupEnv}
	plan, faults := pipeline.MakePlan(spec, models.Open)
	if len(faults) > 0 {
		return nil, fmt.Errorf("plan the pipeline: %v", faults)
	}
	return pipeline.New(plan, pipeline.Deps{Broker: b, OpenObjects: builtin.OpenObjects})
}

// filledJournal is a journal whose source topic holds recs.
func filledJournal(ctx context.Context, dir string, recs []event.Record) (*broker.Broker, error) {
	return journalWith(ctx, dir, sourceTopic, recs)
}

// journalWith is a journal with one topic, which holds recs.
func journalWith(ctx context.Context, dir, topic string, recs []event.Record) (*broker.Broker, error) {
	b, err := openJournal(ctx, dir, topic, nil)
	if err != nil {
		return nil, err
	}
	for batch := range slices.Chunk(recs, 8192) {
		if _, err := b.Publish(ctx, topic, batch); err != nil {
			return nil, errors.Join(fmt.Errorf("fill the journal: %w", err), b.Close())
		}
	}
	return b, nil
}

// passThrough republishes events as they are, with positions in the same commit.
func passThrough(s *scenario, events int) side {
	recs := s.records(0, events)
	const batch, inFlight = 1024, 2
	return side{
		Name: "pass-through",
		What: fmt.Sprintf("the same events from topic to topic on the journal, %d a commit with their position, fetching ahead while committing; no work on them", batch),
		run: func(ctx context.Context, dir string) (out sample, err error) {
			b, err := filledJournal(ctx, dir, recs)
			if err != nil {
				return sample{}, err
			}
			defer func() { err = errors.Join(err, b.Close()) }()
			if err := b.CreateTopic(ctx, broker.TopicConfig{Name: "scored", Partitions: partitions}); err != nil {
				return sample{}, err
			}
			m := startMeter()
			err = eachClaim(ctx, b, "pass", func(ctx context.Context, c broker.Claim) error { return pass(ctx, b, c, batch, inFlight) })
			if err != nil {
				return sample{}, err
			}
			out = m.stop(events)
			t, err := b.Describe(ctx, "scored", "")
			if err != nil {
				return sample{}, err
			}
			got := 0
			for _, p := range t.Partitions {
				got += int(p.End)
			}
			if got != events {
				return sample{}, fmt.Errorf("%d events arrived of %d", got, events)
			}
			return out, nil
		},
	}
}

// pass moves one partition: one goroutine fetches, this one commits.
func pass(ctx context.Context, b *broker.Broker, c broker.Claim, most, inFlight int) error {
	end, err := endOf(ctx, b, c.Partition())
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	batches := make(chan *broker.Batch, inFlight)
	g.Go(func() error {
		defer close(batches)
		for at := c.Start(); at < end; {
			batch, err := c.Fetch(ctx, most)
			if err != nil {
				return err
			}
			at = batch.Next()
			select {
			case batches <- batch:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	g.Go(func() error {
		for batch := range batches {
			err := b.Commit(ctx, &broker.Tx{
				Publish:   []broker.Publication{{Topic: "scored", Partition: c.Partition(), Records: batch.Records}},
				Positions: []broker.ClaimPosition{{Claim: c, Next: batch.Next()}},
			})
			batch.Release()
			if err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}
