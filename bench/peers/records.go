package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/pipeline"
)

// Comparison (p): what records of predictions and explanations cost.

// records runs the card-fraud example with more and more said about each prediction.
func (c *comparison) records(ctx context.Context) error {
	events := min(c.events, 400_000)
	payments, err := cardPayments(events)
	if err != nil {
		return err
	}
	const off, on, example, explained = "no records", "records", "records, alarms explained", "records, all explained"
	explain := func(change func(*pipeline.Explain) *pipeline.Explain) func(*pipeline.Spec) {
		return func(s *pipeline.Spec) {
			for _, step := range s.Steps {
				if in, ok := step.(*pipeline.Infer); ok {
					in.Explain = change(in.Explain)
				}
			}
		}
	}
	none := explain(func(*pipeline.Explain) *pipeline.Explain { return nil })
	all := explain(func(e *pipeline.Explain) *pipeline.Explain {
		every := *e
		every.When, every.Share = nil, 1
		return &every
	})
	g := &group{ID: "p", Title: "Records and explanations: examples/card-fraud on the journal"}
	sides := []side{
		c.cardFraud(off, fmt.Sprintf("the example on %d payments with `record: off` and without explanations: contract, order by time, twelve windows by two keys with a shuffle between, two expressions, 100 trees, routes, state, commits", events), payments,
			func(s *pipeline.Spec) { none(s); s.Record.Off = true }, 0),
		c.cardFraud(on, "one record a prediction, in the same commit", payments, none, 0),
		c.cardFraud(example, "the example as it is: explanations of scores of 0.7 and more", payments, func(*pipeline.Spec) {}, 1),
		c.cardFraud(explained, "`explain: {share: 1}`: every prediction has Shapley values against the example's background", payments, all, events),
	}
	// The first run in a process pays for memory that the others find ready.
	if _, err := inFreshDir(ctx, c.dir, sides[0].run); err != nil {
		return err
	}
	if err := c.inTurn(ctx, g, sides...); err != nil {
		return err
	}
	g.rates()
	g.ratio(on, off, 0)
	g.ratio(example, off, 0)
	g.ratio(explained, on, 0)
	c.cost(g)
	for _, x := range [][3]string{{"one record a prediction", on, off}, {"an explanation a prediction", explained, on}} {
		var v []float64
		more, less := g.side(x[1]).Samples, g.side(x[2]).Samples
		for i := range more {
			v = append(v, more[i].cpuPerMillion()-less[i].cpuPerMillion())
		}
		g.Rows = append(g.Rows, row{Name: "the price of " + x[0] + ": CPU s per million events", Unit: "s", Value: spreadOf(v)})
	}
	c.add(g)
	return nil
}

// cardFraud runs the example with a change; at least so many predictions have to be explained.
func (c *comparison) cardFraud(name, what string, payments []event.Record, change func(*pipeline.Spec), explained int) side {
	return side{Name: name, What: what, run: func(ctx context.Context, dir string) (out sample, err error) {
		const topic = "transactions" // the example's source
		b, err := journalWith(ctx, dir, topic, payments)
		if err != nil {
			return sample{}, err
		}
		defer func() { err = errors.Join(err, b.Close()) }()
		var spec *pipeline.Spec
		p, err := newPipelineAs(c.example(), b, func(s *pipeline.Spec) { spec = s; change(s) })
		if err != nil {
			return sample{}, err
		}
		m := startMeter()
		if err := p.Run(ctx, pipeline.RunOptions{UntilIdle: true}); err != nil {
			return sample{}, fmt.Errorf("run the pipeline: %w", err)
		}
		out = m.stop(len(payments))
		st := p.Stats()
		if int(st.Predictions) != len(payments) {
			return sample{}, fmt.Errorf("%d predictions of %d events; dead letters: %v", st.Predictions, len(payments), st.DeadLetters)
		}
		var n, failed uint64
		for _, s := range st.Steps {
			n, failed = n+s.Explained, failed+s.Unexplained
		}
		if int(n) < explained || failed > 0 || explained == 0 && n > 0 {
			return sample{}, fmt.Errorf("%d predictions explained, expected at least %d; %d failed", n, explained, failed)
		}
		if spec.Record.Off {
			return out, nil
		}
		if n, err := recorded(ctx, b, spec.Predictions()); err != nil || n != len(payments) {
			return sample{}, errors.Join(err, fmt.Errorf("%d predictions are on record of %d", n, len(payments)))
		}
		return out, nil
	}}
}

// recorded counts the predictions on a topic of records.
func recorded(ctx context.Context, b *broker.Broker, topic string) (int, error) {
	t, err := b.Describe(ctx, topic, "")
	if err != nil {
		return 0, err
	}
	n := 0
	for i, p := range t.Partitions {
		r, err := b.Read(ctx, topic, i, p.Start)
		if err != nil {
			return n, err
		}
		for at := p.Start; at < p.End && err == nil; {
			at, err = recordedIn(ctx, r, &n)
		}
		if err := errors.Join(err, r.Close()); err != nil {
			return n, err
		}
	}
	return n, nil
}

// recordedIn counts those of the next messages and returns the position behind them.
func recordedIn(ctx context.Context, r broker.Reader, n *int) (int64, error) {
	batch, err := r.Fetch(ctx, publishOne)
	if err != nil {
		return 0, err
	}
	defer batch.Release()
	for i := range batch.Records {
		h, err := lineage.Peek(batch.Records[i].Value)
		if err != nil {
			return 0, err
		}
		*n += h.Rows
	}
	return batch.Next(), nil
}
