package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// startNATS runs a NATS server with JetStream in this process; its file store
// is as it comes: synced every two minutes. tcp opens a port on loopback.
func startNATS(dir string, tcp bool) (*server.Server, error) {
	s, err := server.NewServer(&server.Options{JetStream: true, StoreDir: dir, DontListen: !tcp, Host: "127.0.0.1", Port: -1, NoSigs: true, NoLog: true})
	if err != nil {
		return nil, fmt.Errorf("make NATS server: %w", err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		s.Shutdown()
		return nil, errors.New("start NATS server: not ready after 10 s")
	}
	return s, nil
}

// natsBench is a server with a connection and a stream of payments.
type natsBench struct {
	server *server.Server // nil where it is not ours
	conn   *nats.Conn
	js     jetstream.JetStream
	prefix string // of the streams' names
}

func newNATSBench(ctx context.Context, dir string, tcp bool, opts ...jetstream.JetStreamOpt) (*natsBench, error) {
	s, err := startNATS(dir, tcp)
	if err != nil {
		return nil, err
	}
	b := &natsBench{server: s}
	options := []nats.Option{}
	if !tcp {
		options = append(options, nats.InProcessServer(s))
	}
	return b, b.join(ctx, s.ClientURL(), options, opts)
}

// joinNATS makes new streams on a server that runs already.
func joinNATS(ctx context.Context, url, prefix string, opts ...jetstream.JetStreamOpt) (*natsBench, error) {
	b := &natsBench{prefix: prefix}
	return b, b.join(ctx, url, nil, opts)
}

// join connects and makes the streams anew; on error everything is closed.
func (b *natsBench) join(ctx context.Context, url string, options []nats.Option, opts []jetstream.JetStreamOpt) (err error) {
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.conn, err = nats.Connect(url, options...); err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	if b.js, err = jetstream.New(b.conn, opts...); err != nil {
		return err
	}
	for _, name := range []string{sourceTopic, "scored", "alerts"} {
		name = b.prefix + name
		if err := b.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("delete stream %s: %w", name, err)
		}
		if _, err := b.js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: jetstream.FileStorage}); err != nil {
			return fmt.Errorf("create stream %s: %w", name, err)
		}
	}
	return nil
}

func (b *natsBench) close() {
	if b.conn != nil {
		b.conn.Close()
	}
	if b.server != nil {
		b.server.Shutdown()
		b.server.WaitForShutdown()
	}
}

// publish sends events without waiting for each, and waits for all answers.
func (b *natsBench) publish(ctx context.Context, events [][]byte) error {
	for _, e := range events {
		if _, err := b.js.PublishAsync(b.prefix+sourceTopic, e, jetstream.WithStallWait(30*time.Second)); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	select {
	case <-b.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// results is the number of results on both streams.
func (b *natsBench) results(ctx context.Context) (int, error) {
	n := 0
	for _, name := range []string{"scored", "alerts"} {
		s, err := b.js.Stream(ctx, b.prefix+name)
		if err != nil {
			return 0, err
		}
		n += int(s.CachedInfo().State.Msgs)
	}
	return n, nil
}
