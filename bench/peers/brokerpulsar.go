package main

import (
	"context"
	"errors"
	"sync"

	"github.com/apache/pulsar-client-go/pulsar"
	"github.com/apache/pulsar-client-go/pulsar/log"

	"github.com/freshet-io/freshet/event"
)

// pulsarClient is Pulsar's client as a program without Freshet would use it.
type pulsarClient struct {
	c pulsar.Client
	// adapter makes the topics: they are to have the same policies.
	adapter *adapterClient
}

func openPulsarClient(address string, adapter *adapterClient) (*pulsarClient, error) {
	c, err := pulsar.NewClient(pulsar.ClientOptions{URL: "pulsar://" + address, Logger: log.DefaultNopLogger(), MemoryLimitBytes: -1})
	if err != nil {
		return nil, err
	}
	return &pulsarClient{c, adapter}, nil
}

func (p *pulsarClient) create(ctx context.Context, topic string) error {
	return p.adapter.create(ctx, topic)
}

func pulsarTopic(topic string) string {
	return "persistent://public/default/" + topic + "-partition-0"
}

func (p *pulsarClient) producer(topic string) (pulsar.Producer, error) {
	return p.c.CreateProducer(pulsar.ProducerOptions{
		Topic: pulsarTopic(topic), MaxPendingMessages: logCallers * logBatch, BatchingMaxMessages: logBatch, BatchingMaxSize: 4 << 20,
	})
}

// sending counts messages that are not acknowledged yet.
type sending struct {
	sync.WaitGroup
	mu  sync.Mutex
	err error
}

func (s *sending) send(ctx context.Context, p pulsar.Producer, m *pulsar.ProducerMessage) {
	s.Add(1)
	p.SendAsync(ctx, m, func(_ pulsar.MessageID, _ *pulsar.ProducerMessage, err error) {
		if err != nil {
			s.mu.Lock()
			s.err = err
			s.mu.Unlock()
		}
		s.Done()
	})
}

func (s *sending) wait(ctx context.Context, p pulsar.Producer) error {
	err := p.FlushWithCtx(ctx)
	s.Wait()
	return errors.Join(err, s.err)
}

func (p *pulsarClient) publish(ctx context.Context, topic string, recs []event.Record, watch *stopwatch) error {
	out, err := p.producer(topic)
	if err != nil {
		return err
	}
	defer out.Close()
	var s sending
	n := 0
	watch.start()
	for ; watch.more(n); n += logBatch {
		for i := range logBatch {
			r := &recs[i]
			s.send(ctx, out, &pulsar.ProducerMessage{
				Payload: r.Value, Key: string(r.Key),
				Properties: map[string]string{"ce_id": string(r.ID), "ce_source": benchSource, "ce_type": benchType},
			})
		}
	}
	err = s.wait(ctx, out)
	watch.stop(n)
	return err
}

func (p *pulsarClient) consume(ctx context.Context, topic string, n int) (bytes int, err error) {
	r, err := p.c.CreateReader(pulsar.ReaderOptions{Topic: pulsarTopic(topic), StartMessageID: pulsar.EarliestMessageID(), ReceiverQueueSize: 2 * logBatch})
	if err != nil {
		return 0, err
	}
	defer r.Close()
	for ; n > 0; n-- {
		m, err := r.Next(ctx)
		if err != nil {
			return 0, err
		}
		bytes += len(m.Payload())
	}
	return bytes, nil
}

// move acknowledges each batch as a whole and waits until the server has said so.
func (p *pulsarClient) move(ctx context.Context, from, to string, watch *stopwatch) error {
	in, err := p.c.Subscribe(pulsar.ConsumerOptions{
		Topic: pulsarTopic(from), SubscriptionName: to, Type: pulsar.Exclusive, SubscriptionInitialPosition: pulsar.SubscriptionPositionEarliest,
		ReceiverQueueSize: 2 * logBatch, AckWithResponse: true,
	})
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := p.producer(to)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := in.Receive(ctx); err != nil {
		return err
	}
	watch.start()
	n := 0
	for watch.more(n) {
		var s sending
		var last pulsar.Message
		for range logBatch {
			if last, err = in.Receive(ctx); err != nil {
				return err
			}
			s.send(ctx, out, &pulsar.ProducerMessage{Payload: last.Payload(), Key: last.Key(), Properties: last.Properties()})
			n++
		}
		if err := s.wait(ctx, out); err != nil {
			return err
		}
		if err := in.AckCumulative(last); err != nil {
			return err
		}
	}
	watch.stop(n)
	return nil
}

func (p *pulsarClient) close() error {
	p.c.Close()
	return nil
}
