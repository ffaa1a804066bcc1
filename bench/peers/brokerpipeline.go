package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet-io/freshet/bench/workload"
	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference/onnx"
	"github.com/freshet-io/freshet/pipeline"
)

// cardPayments are payments for the pipeline of examples/card-fraud.
func cardPayments(n int) ([]event.Record, error) {
	gen, err := workload.NewCardFraud(workload.CardFraud{Seed: 1, Customers: customers, Terminals: terminals})
	if err != nil {
		return nil, err
	}
	recs := make([]event.Record, 0, n)
	var p workload.Payment
	for range n {
		if !gen.Next(&p) {
			return nil, fmt.Errorf("the generator ended after %d payments", len(recs))
		}
		recs = append(recs, event.Record{
			ID: strconv.AppendInt(nil, p.ID, 10), Key: strconv.AppendInt(nil, int64(p.Customer), 10), Value: p.AppendJSON(nil),
		})
	}
	return recs, nil
}

// example is the pipeline file of examples/card-fraud.
func (c *comparison) example() string {
	return filepath.Join(c.root, "examples", "card-fraud", "pipeline.yaml")
}

const cardFraudResults = "scored-transactions"

// source makes a topic that holds recs, in order.
func (k *onBroker) source(ctx context.Context, topic string, recs []event.Record) error {
	if err := k.b.CreateTopic(ctx, broker.TopicConfig{Name: topic, Partitions: partitions}); err != nil {
		return err
	}
	for batch := range slices.Chunk(recs, 4000) {
		if _, err := k.b.Publish(ctx, topic, batch); err != nil {
			return fmt.Errorf("fill topic %s: %w", topic, err)
		}
	}
	return nil
}

// pipeline compares the full card-fraud pipeline with passing its events through.
func (k *onBroker) pipeline(ctx context.Context, g *group) error {
	source := k.fresh("payments")
	if err := k.source(ctx, source, k.payments); err != nil {
		return err
	}
	full := side{
		Name: "pipeline",
		What: fmt.Sprintf("examples/card-fraud on %d payments, one process: contract, order by time, twelve windows by two keys with a shuffle between, two expressions, 100 trees, routes, state, commits; from joining to the last result committed", len(k.payments)),
		run: func(ctx context.Context, _ string) (sample, error) {
			return k.runPipeline(ctx, k.example(), k.fresh("card-fraud"), source, len(k.payments))
		},
	}
	pass := side{
		Name: "pass-through",
		What: fmt.Sprintf("the same payments from topic to topic, %d a commit with their position, fetching ahead while committing; from joining to the last commit", passBatch),
		run: func(ctx context.Context, _ string) (sample, error) {
			return k.passThrough(ctx, source)
		},
	}
	part := &group{}
	if err := k.inTurn(ctx, part, full, pass); err != nil {
		return err
	}
	part.rates()
	part.ratio(full.Name, pass.Name, 0.6)
	part.Rows = append(part.Rows, row{Name: "pipeline: first result after", Unit: "s", Value: part.Sides[0].spread(func(s sample) float64 { return s.First.Seconds() })})
	g.Sides, g.Rows = append(g.Sides, part.Sides...), append(g.Rows, part.Rows...)
	return nil
}

// runPipeline runs a pipeline file under a new name until it has made want results.
func (k *onBroker) runPipeline(ctx context.Context, file, name, source string, want int) (sample, error) {
	p, err := newPipelineAs(file, k.b, func(s *pipeline.Spec) { s.Name, s.Source.Topic = name, source })
	if err != nil {
		return sample{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ran := make(chan error, 1)
	m := startMeter()
	go func() { ran <- p.Run(ctx, pipeline.RunOptions{}) }()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(2 * time.Minute)
	first := time.Duration(0)
	for {
		select {
		case err := <-ran:
			return sample{}, errors.Join(errors.New("the pipeline ended early"), err)
		case <-limit:
			cancel()
			return sample{}, errors.Join(fmt.Errorf("%d of %d results in 2 minutes; dead letters: %v", p.Stats().Predictions, want, p.Stats().DeadLetters), <-ran)
		case <-tick.C:
		}
		n := int(p.Stats().Predictions)
		if n > 0 && first == 0 {
			first = time.Since(m.at)
		}
		if n >= want {
			break
		}
	}
	out := m.stop(want)
	out.First = first
	cancel()
	return out, <-ran
}

const passBatch = 1024

// passThrough moves all payments to a new topic as they are.
func (k *onBroker) passThrough(ctx context.Context, source string) (out sample, err error) {
	to := k.fresh("passed")
	if err := k.b.CreateTopic(ctx, broker.TopicConfig{Name: to, Partitions: partitions}); err != nil {
		return sample{}, err
	}
	var want [partitions]int
	for i := range k.payments {
		want[broker.PartitionFor(k.payments[i].Key, partitions)]++
	}
	most := passBatch
	if limit := k.b.Capabilities().MaxBatch; limit > 0 {
		most = min(most, limit)
	}
	m := startMeter()
	consumer, err := k.b.Subscribe(ctx, broker.Subscription{Topic: source, Group: to})
	if err != nil {
		return sample{}, err
	}
	defer func() { err = errors.Join(err, consumer.Close()) }()
	tasks, tasksCtx := errgroup.WithContext(ctx)
	for range partitions {
		claim, err := consumer.Claim(ctx)
		if err != nil {
			return sample{}, errors.Join(err, tasks.Wait())
		}
		tasks.Go(func() error { return passPartition(tasksCtx, k.b, claim, to, want[claim.Partition()], most) })
	}
	err = tasks.Wait()
	return m.stop(len(k.payments)), err
}

// passPartition moves one partition: one goroutine fetches, one commits.
func passPartition(ctx context.Context, b *broker.Broker, claim broker.Claim, to string, left, most int) error {
	g, ctx := errgroup.WithContext(ctx)
	batches := make(chan *broker.Batch, 2)
	g.Go(func() error {
		defer close(batches)
		for left > 0 {
			batch, err := claim.Fetch(ctx, most)
			if err != nil {
				return err
			}
			left -= len(batch.Records)
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
			err := moveBatch(ctx, b, claim, to, batch)
			batch.Release()
			if err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

const brokerRate = 2000 // events a second of the latencies

// latency takes the open-loop latencies of the card-fraud pipeline and of that of (e).
func (k *onBroker) latency(ctx context.Context, g *group) error {
	const length = 5 * brokerRate
	for _, of := range []struct {
		name, file string
		recs       []event.Record
		results    []string
	}{
		{"card-fraud", k.example(), k.payments[:min(len(k.payments), length)], []string{cardFraudResults}},
		{"pipeline of (e)", filepath.Join(k.s.dir, "pipeline.yaml"), k.s.records(0, min(len(k.s.events), length)), []string{"scored", "alerts"}},
	} {
		if err := k.latencyOf(ctx, g, of.name, of.file, of.recs, of.results); err != nil {
			return fmt.Errorf("%s: %w", of.name, err)
		}
	}
	return nil
}

func (k *onBroker) latencyOf(ctx context.Context, g *group, what, file string, recs []event.Record, results []string) error {
	var p50, p99 []float64
	for run := range max(1, k.runs-1) {
		l := &liveLoop{b: k.b, source: k.fresh("live"), recs: recs, results: results, rate: brokerRate, warm: 2 * brokerRate, probe: min(len(recs), 200)}
		if err := k.source(ctx, l.source, nil); err != nil {
			return err
		}
		name := k.fresh("live-pipeline")
		p, err := newPipelineAs(file, k.b, func(s *pipeline.Spec) { s.Name, s.Source.Topic = name, l.source })
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(ctx, time.Minute)
		h, err := l.run(limited, p)
		cancel()
		if err != nil {
			return err
		}
		p50, p99 = append(p50, millis(h, 50)), append(p99, millis(h, 99))
		fmt.Fprintf(os.Stderr, "run %d: %s at %d events/s p50 %s ms, p99 %s ms\n", run+1, what, brokerRate, number(millis(h, 50)), number(millis(h, 99)))
	}
	at := what + " at " + number(brokerRate) + " events/s, open loop: "
	g.Rows = append(g.Rows, row{Name: at + "p50", Unit: "ms", Value: spreadOf(p50)}, row{Name: at + "p99", Unit: "ms", Value: spreadOf(p99)})
	return nil
}

// bento compares the pipeline of comparison (c) with Bento, both on the NATS server.
func (k *onBroker) bento(ctx context.Context, g *group) error {
	if k.bench.script != "nats" {
		return nil
	}
	model, err := onnx.Load(k.s.model, onnx.Options{})
	if err != nil {
		return err
	}
	defer model.Close()
	n := min(k.brokerEvents, len(k.s.events))
	if err := k.source(ctx, sourceTopic, k.s.records(0, n)); err != nil {
		return err
	}
	ours := side{
		Name: "Freshet's pipeline of (c)",
		What: fmt.Sprintf("contract, six windows, lookup, two expressions, 100-tree model, route, results as JSON, on %d payments of %.0f bytes; state and positions on the server", n, k.s.bytes()),
		run: func(ctx context.Context, _ string) (sample, error) {
			return k.runPipeline(ctx, filepath.Join(k.s.dir, "pipeline.yaml"), k.fresh("bench"), sourceTopic, n)
		},
	}
	theirs := bentoOnNATS(k.s, model, min(n, 60_000), k.limit, "nats://"+k.server.Address)
	part := &group{}
	if err := k.inTurn(ctx, part, ours, theirs); err != nil {
		return err
	}
	part.rates()
	part.ratio(ours.Name, theirs.Name, 6)
	g.Sides, g.Rows = append(g.Sides, part.Sides...), append(g.Rows, part.Rows...)
	return nil
}
