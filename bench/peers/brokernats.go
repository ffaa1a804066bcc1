package main

import (
	"context"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/freshet-io/freshet/event"
)

// natsClient is nats.go as a program without Freshet would use it.
type natsClient struct {
	conn *nats.Conn
	js   jetstream.JetStream
	kv   jetstream.KeyValue
}

func openNATSClient(ctx context.Context, address string) (*natsClient, error) {
	conn, err := nats.Connect("nats://" + address)
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(logCallers*logBatch))
	if err != nil {
		conn.Close()
		return nil, err
	}
	kv, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "native-positions"})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &natsClient{conn, js, kv}, nil
}

func (n *natsClient) create(ctx context.Context, topic string) error {
	_, err := n.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: topic, Subjects: []string{topic}, Storage: jetstream.FileStorage, MaxBytes: -1, AllowDirect: true,
	})
	return err
}

func (n *natsClient) publish(ctx context.Context, topic string, recs []event.Record, s *stopwatch) error {
	done := 0
	s.start()
	for ; s.more(done); done += logBatch {
		for i := range logBatch {
			r := &recs[i]
			_, err := n.js.PublishMsgAsync(&nats.Msg{Subject: topic, Data: r.Value, Header: nats.Header{
				"ce-id": {string(r.ID)}, "ce-partitionkey": {string(r.Key)}, "ce-source": {benchSource}, "ce-type": {benchType},
			}})
			if err != nil {
				return err
			}
		}
	}
	err := n.complete(ctx)
	s.stop(done)
	return err
}

func (n *natsClient) complete(ctx context.Context) error {
	select {
	case <-n.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (n *natsClient) messages(ctx context.Context, topic string) (jetstream.MessagesContext, error) {
	c, err := n.js.OrderedConsumer(ctx, topic, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, err
	}
	return c.Messages(jetstream.PullMaxMessages(logCallers * logBatch))
}

func (n *natsClient) consume(ctx context.Context, topic string, left int) (bytes int, err error) {
	it, err := n.messages(ctx, topic)
	if err != nil {
		return 0, err
	}
	defer it.Stop()
	for ; left > 0; left-- {
		m, err := it.Next()
		if err != nil {
			return 0, err
		}
		if _, err := m.Metadata(); err != nil { // its position and time
			return 0, err
		}
		bytes += len(m.Data())
	}
	return bytes, nil
}

func (n *natsClient) move(ctx context.Context, from, to string, s *stopwatch) error {
	it, err := n.messages(ctx, from)
	if err != nil {
		return err
	}
	defer it.Stop()
	if _, err := it.Next(); err != nil {
		return err
	}
	s.start()
	done := 0
	for s.more(done) {
		for range logBatch {
			m, err := it.Next()
			if err != nil {
				return err
			}
			if _, err := m.Metadata(); err != nil {
				return err
			}
			if _, err := n.js.PublishMsgAsync(&nats.Msg{Subject: to, Data: m.Data(), Header: m.Headers()}); err != nil {
				return err
			}
			done++
		}
		if err := n.complete(ctx); err != nil {
			return err
		}
		if _, err := n.kv.PutString(ctx, from+"."+to, strconv.Itoa(done)); err != nil {
			return err
		}
	}
	s.stop(done)
	return nil
}

func (n *natsClient) close() error {
	n.conn.Close()
	return nil
}
