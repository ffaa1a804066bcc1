package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	_ "github.com/warpstreamlabs/bento/public/components/kafka"
	_ "github.com/warpstreamlabs/bento/public/components/nats"
	_ "github.com/warpstreamlabs/bento/public/components/pure"
	_ "github.com/warpstreamlabs/bento/public/components/pure/extended"
	"github.com/warpstreamlabs/bento/public/service"

	"github.com/freshet-io/freshet/inference"
)

// bentoBroker is where Bento reads and writes.
type bentoBroker interface {
	// results is the number of results published so far.
	results(ctx context.Context) (int, error)
	close()
}

// bentoSide is Bento on one broker, or with validation done its own way.
type bentoSide struct {
	s      *scenario
	model  inference.Driver
	events int
	limit  time.Duration
	// validate: Bento's json_schema processor validates; otherwise the Go plugin does.
	validate bool
	// open starts the broker, fills it, and returns the input's and output's configuration.
	open func(ctx context.Context, dir string) (b bentoBroker, input, output string, err error)
}

// run starts Bento and measures from the first result that is seen to the last,
// so that joining the broker does not count.
func (b *bentoSide) run(ctx context.Context, dir string) (out sample, err error) {
	broker, input, output, err := b.open(ctx, dir)
	if err != nil {
		return sample{}, err
	}
	defer broker.close()
	stream, err := b.build(input, output)
	if err != nil {
		return sample{}, err
	}
	runCtx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- stream.Run(runCtx) }()
	defer func() {
		cancel()
		if serr := <-ended; serr != nil && !errors.Is(serr, context.Canceled) {
			err = errors.Join(err, fmt.Errorf("run Bento: %w", serr))
		}
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var m meter
	first, begun := 0, time.Now()
	for {
		select {
		case <-ctx.Done():
			return sample{}, ctx.Err()
		case <-tick.C:
		}
		n, err := broker.results(ctx)
		switch {
		case err != nil:
			return sample{}, err
		case first == 0 && n > 0:
			m, first = startMeter(), n
		case first > 0 && (n >= b.events || time.Since(m.at) > b.limit):
			return m.stop(n - first), nil
		case first == 0 && time.Since(begun) > 30*time.Second:
			return sample{}, errors.New("Bento gave no result in 30 s")
		}
	}
}

func (b *bentoSide) build(input, output string) (*service.Stream, error) {
	env := service.NewEnvironment()
	proc := &bentoScore{s: b.s, model: b.model, structured: b.validate, windows: windows{}}
	err := env.RegisterBatchProcessor("bench_score", service.NewConfigSpec(),
		func(*service.ParsedConfig, *service.Resources) (service.BatchProcessor, error) { return proc, nil })
	if err != nil {
		return nil, err
	}
	sb := env.NewStreamBuilder()
	sb.SetThreads(2)
	steps := []func() error{
		func() error { return sb.SetLoggerYAML("level: OFF") },
		func() error { return sb.AddInputYAML(input) },
		func() error { return sb.AddOutputYAML(output) },
	}
	if b.validate {
		steps = append(steps, func() error {
			schema, err := scenarioFiles.ReadFile("scenario/contract.schema.json")
			if err != nil {
				return err
			}
			// Bento's library knows the drafts up to 7, which have all keywords used here.
			text := strings.Replace(string(schema), "https://json-schema.org/draft/2020-12/schema", "http://json-schema.org/draft-07/schema#", 1)
			return sb.AddProcessorYAML("json_schema: {schema: " + strconv.Quote(text) + "}")
		})
	}
	steps = append(steps, func() error { return sb.AddProcessorYAML("bench_score: {}") })
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("configure Bento: %w", err)
		}
	}
	return sb.Build()
}

// bentoScore looks up, keeps windows, scores a whole batch at once and encodes.
type bentoScore struct {
	s          *scenario
	model      inference.Driver
	structured bool
	scorers    sync.Pool
	mu         sync.Mutex // of windows: Bento's threads share the processor
	windows    windows
}

func (b *bentoScore) Close(context.Context) error { return nil }

func (b *bentoScore) ProcessBatch(ctx context.Context, batch service.MessageBatch) ([]service.MessageBatch, error) {
	payments := make([]*payment, len(batch))
	for i, m := range batch {
		p, err := b.decode(m)
		if err != nil {
			return nil, err
		}
		payments[i] = p
	}
	rows, risks := make([][inputs]float32, len(batch)), make([]float64, len(batch))
	b.mu.Lock()
	for i, p := range payments {
		rows[i], risks[i] = b.s.features(b.windows, p)
	}
	b.mu.Unlock()
	sc, ok := b.scorers.Get().(*scorer)
	if !ok {
		sc = newScorer(b.model)
	}
	defer b.scorers.Put(sc)
	scores, err := sc.score(ctx, rows, nil)
	if err != nil {
		return nil, err
	}
	for i, m := range batch {
		topic, data, err := answer(payments[i], rows[i], risks[i], scores[i])
		if err != nil {
			return nil, err
		}
		m.SetBytes(data)
		m.MetaSetMut("topic", topic)
	}
	return []service.MessageBatch{batch}, nil
}

func (b *bentoScore) decode(m *service.Message) (*payment, error) {
	if err := m.GetError(); err != nil {
		return nil, err // the workload has no bad events
	}
	if !b.structured {
		data, err := m.AsBytes()
		if err != nil {
			return nil, err
		}
		return decodePayment(data)
	}
	v, err := m.AsStructured() // parsed by the validation already
	if err != nil {
		return nil, err
	}
	o, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	id, customer, terminal, amount := asFloat(o["transaction_id"]), asFloat(o["customer_id"]), asFloat(o["terminal_id"]), asFloat(o["tx_amount"])
	i, c, t := int64(id), int64(customer), int64(terminal)
	at, _ := o["tx_datetime"].(string)
	p := &payment{ID: &i, Customer: &c, Terminal: &t, Amount: &amount, Time: &at}
	p.at, err = time.Parse("2006-01-02T15:04:05", at)
	return p, err
}

func asFloat(v any) float64 {
	switch v := v.(type) {
	case float64:
		return v
	case int64:
		return float64(v)
	case json.Number:
		f, _ := v.Float64()
		return f
	}
	return 0
}

// bentoOnNATS is Bento as bento configures it on NATS, on a server that runs already.
func bentoOnNATS(s *scenario, model inference.Driver, events int, limit time.Duration, url string) side {
	b := &bentoSide{s: s, model: model, events: events, limit: limit, validate: true}
	b.open = func(ctx context.Context, _ string) (bentoBroker, string, string, error) {
		return b.openServer(ctx, url)
	}
	return side{Name: "Bento", What: "Bento as in (c) on NATS, here on the same server as Freshet; windows in memory", run: b.run}
}

// bento is Bento with its batches and threads tuned, on kafka or nats.
func bento(s *scenario, model inference.Driver, events int, limit time.Duration, validate bool, on string) side {
	b := &bentoSide{s: s, model: model, events: events, limit: limit, validate: validate}
	name, what := "Bento", "Bento as a library, batches of 512, 2 threads"
	if on == "kafka" {
		b.open = b.openKafka
		what += ", kafka_franz input and output on kfake (a Kafka broker in the process that keeps its data in memory)"
	} else {
		b.open = b.openNATS
		name += " on NATS"
		what += ", nats_jetstream input and output on JetStream over loopback TCP, 1,024 publishes in flight"
	}
	if validate {
		what += "; its json_schema processor validates"
	} else {
		name += ", all work in a Go plugin"
		what += "; the checks are by hand in Go"
	}
	what += "; a Go plugin looks up, keeps windows in memory (lost at a crash), scores whole batches with the same model in the process, and encodes"
	return side{Name: name, What: what, run: b.run}
}
