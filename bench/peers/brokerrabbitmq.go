package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/amqp"
	rabbit "github.com/rabbitmq/rabbitmq-stream-go-client/pkg/message"
	"github.com/rabbitmq/rabbitmq-stream-go-client/pkg/stream"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/test/servers"
)

// rabbitClient is RabbitMQ's stream client as a program without Freshet would use it.
type rabbitClient struct{ env *stream.Environment }

func openRabbitClient(address string) (*rabbitClient, error) {
	env, err := stream.NewEnvironment(stream.NewEnvironmentOptions().
		SetUri("rabbitmq-stream://freshet:" + servers.Password + "@" + address + "/%2f").
		// Tuned: the sockets' buffers of 8 KiB that it has by default keep it ten to a hundred times slower.
		SetReadBuffer(1 << 20).SetWriteBuffer(1 << 20))
	if err != nil {
		return nil, err
	}
	return &rabbitClient{env}, nil
}

func (r *rabbitClient) create(_ context.Context, topic string) error {
	return r.env.DeclareStream(topic, stream.NewStreamOptions())
}

// rabbitOut sends batches and waits for their confirmations.
type rabbitOut struct {
	p         *stream.Producer
	confirmed chan error // one a message, nil where it is stored
	left      int
}

func (r *rabbitClient) out(topic string) (*rabbitOut, error) {
	p, err := r.env.NewProducer(topic, stream.NewProducerOptions())
	if err != nil {
		return nil, err
	}
	o := &rabbitOut{p: p, confirmed: make(chan error, (logCallers+1)*logBatch)}
	confirmations := p.NotifyPublishConfirmation()
	go func() { // until the producer is closed
		for batch := range confirmations {
			for _, c := range batch {
				var err error
				if !c.IsConfirmed() {
					err = fmt.Errorf("not confirmed: %w", c.GetError())
				}
				o.confirmed <- err
			}
		}
	}()
	return o, nil
}

// send sends a batch when fewer than most messages are on their way.
func (o *rabbitOut) send(ctx context.Context, batch []rabbit.StreamMessage, most int) error {
	if err := o.wait(ctx, most-len(batch)); err != nil {
		return err
	}
	o.left += len(batch)
	return o.p.BatchSend(batch)
}

// wait waits until at most so many are on their way.
func (o *rabbitOut) wait(ctx context.Context, most int) error {
	for ; o.left > most; o.left-- {
		select {
		case err := <-o.confirmed:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (r *rabbitClient) publish(ctx context.Context, topic string, recs []event.Record, s *stopwatch) (err error) {
	o, err := r.out(topic)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.p.Close()) }()
	n := 0
	s.start()
	for ; s.more(n); n += logBatch {
		batch := make([]rabbit.StreamMessage, logBatch)
		for i := range batch {
			m := amqp.NewMessage(recs[i].Value)
			m.Properties = &amqp.MessageProperties{MessageID: string(recs[i].ID)}
			m.Annotations = amqp.Annotations{"x-opt-partition-key": string(recs[i].Key)}
			m.ApplicationProperties = map[string]any{"cloudEvents:type": benchType, "cloudEvents:source": benchSource}
			batch[i] = m
		}
		if err := o.send(ctx, batch, logCallers*logBatch); err != nil {
			return err
		}
	}
	err = o.wait(ctx, 0)
	s.stop(n)
	return err
}

// read calls handle for each message until it returns an error; errAllRead is none.
func (r *rabbitClient) read(ctx context.Context, topic string, handle func(*stream.Consumer, *amqp.Message) error) error {
	ended := make(chan error, 1)
	var over bool
	c, err := r.env.NewConsumer(topic, func(c stream.ConsumerContext, m *amqp.Message) {
		if over {
			return
		}
		if err := handle(c.Consumer, m); err != nil {
			over = true
			ended <- err
		}
	}, stream.NewConsumerOptions().SetConsumerName("native").SetManualCommit().SetOffset(stream.OffsetSpecification{}.First()))
	if err != nil {
		return err
	}
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if errors.Is(err, errAllRead) {
		err = nil
	}
	return errors.Join(err, c.Close())
}

func (r *rabbitClient) consume(ctx context.Context, topic string, n int) (bytes int, err error) {
	err = r.read(ctx, topic, func(_ *stream.Consumer, m *amqp.Message) error {
		bytes += len(m.GetData())
		if n--; n == 0 {
			return errAllRead
		}
		return nil
	})
	return bytes, err
}

func (r *rabbitClient) move(ctx context.Context, from, to string, s *stopwatch) (err error) {
	o, err := r.out(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.p.Close()) }()
	var batch []rabbit.StreamMessage
	n, begun := 0, false
	return r.read(ctx, from, func(c *stream.Consumer, in *amqp.Message) error {
		if !begun {
			begun = true
			s.start()
		}
		m := amqp.NewMessage(in.GetData())
		m.Properties, m.Annotations, m.ApplicationProperties = in.Properties, in.Annotations, in.ApplicationProperties
		if batch = append(batch, m); len(batch) < logBatch {
			return nil
		}
		if err := errors.Join(o.send(ctx, batch, logBatch), o.wait(ctx, 0), c.StoreOffset()); err != nil {
			return err
		}
		n += len(batch)
		batch = nil
		if !s.more(n) {
			s.stop(n)
			return errAllRead
		}
		return nil
	})
}

func (r *rabbitClient) close() error { return r.env.Close() }
