package main

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet-io/freshet/inference"
	"github.com/nats-io/nats.go/jetstream"
)

// handLoop is the service that people write first: one event at a time, each
// published and acknowledged before the next. overHTTP asks a model server, as
// most do; otherwise the loop calls the product's own evaluator, which is the
// best that a loop can have.
func handLoop(s *scenario, model inference.Driver, events int, limit time.Duration, overHTTP bool) side {
	name, scores := "hand-written loop", "score one with the same model evaluated in the process by Freshet's own evaluator"
	if overHTTP {
		name, scores = "hand-written loop, model over HTTP", "score one by a JSON call to an HTTP server on loopback, in this process, that has the same model"
	}
	return side{
		Name: name,
		What: "Go on NATS JetStream over loopback TCP, file store: take one, encoding/json and checks by hand, look up in a map, windows in memory (lost at a crash), " + scores + ", encoding/json, publish and wait, ack",
		run: func(ctx context.Context, dir string) (sample, error) {
			b, err := newNATSBench(ctx, dir, true)
			if err != nil {
				return sample{}, err
			}
			defer b.close()
			if err := b.publish(ctx, s.events[:events]); err != nil {
				return sample{}, err
			}
			c, err := b.js.CreateOrUpdateConsumer(ctx, sourceTopic, jetstream.ConsumerConfig{Durable: "loop", AckPolicy: jetstream.AckExplicitPolicy})
			if err != nil {
				return sample{}, err
			}
			it, err := c.Messages()
			if err != nil {
				return sample{}, err
			}
			defer it.Stop()
			l := &loop{s: s, js: b.js, windows: windows{}, score: newScorer(model).score}
			if overHTTP {
				srv := newModelServer(model)
				defer srv.Close()
				l.score = (&modelClient{url: srv.URL, client: srv.Client()}).score
			}
			m := startMeter()
			n := 0
			for ; n < events && time.Since(m.at) < limit; n++ {
				msg, err := it.Next()
				if err != nil {
					return sample{}, fmt.Errorf("take an event: %w", err)
				}
				if err := l.handle(ctx, msg); err != nil {
					return sample{}, err
				}
			}
			out := m.stop(n)
			got, err := b.results(ctx)
			if err != nil {
				return sample{}, err
			}
			if got != n {
				return sample{}, fmt.Errorf("%d results of %d events", got, n)
			}
			return out, nil
		},
	}
}

type loop struct {
	s       *scenario
	js      jetstream.JetStream
	windows windows
	score   func(ctx context.Context, rows [][inputs]float32, scores []float64) ([]float64, error)
	rows    [1][inputs]float32
	scores  []float64
}

func (l *loop) handle(ctx context.Context, msg jetstream.Msg) error {
	p, err := decodePayment(msg.Data())
	if err != nil {
		return err // the workload has no bad events
	}
	x, risk := l.s.features(l.windows, p)
	l.rows[0] = x
	if l.scores, err = l.score(ctx, l.rows[:], l.scores); err != nil {
		return err
	}
	topic, data, err := answer(p, x, risk, l.scores[0])
	if err != nil {
		return err
	}
	if _, err := l.js.Publish(ctx, topic, data); err != nil {
		return fmt.Errorf("publish result: %w", err)
	}
	return msg.Ack()
}
