package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/test/servers"
)

// Headers of the records of comparison (k).
const (
	benchType   = "io.freshet.payment"
	benchSource = "/bench/payments"
)

// brokerBench is a broker of comparison (k).
type brokerBench struct {
	name string
	// slow: the pipeline has a fifth of the payments.
	slow bool
	// script starts its server, with args.
	script string
	args   []string
	url    func(*servers.Server) string
	// client names the broker's own client, and what its loop does; open makes it. Without
	// one the adapter has nothing to be compared with.
	client, loop string
	open         func(ctx context.Context, s *servers.Server, a *adapterClient) (logClient, error)
}

func brokerBenches() []brokerBench {
	plain := func(scheme string) func(*servers.Server) string {
		return func(s *servers.Server) string { return scheme + "://" + s.Address }
	}
	return []brokerBench{
		{
			name: "Kafka", script: "kafka", url: plain("kafka"), client: "franz-go",
			loop: "Produce without waiting; PollRecords; a GroupTransactSession, one transaction a batch",
			open: func(_ context.Context, s *servers.Server, _ *adapterClient) (logClient, error) {
				return openKafkaClient(s.Address)
			},
		},
		{
			name: "NATS JetStream", script: "nats", url: plain("nats"), client: "nats.go",
			loop: "PublishMsgAsync with 8,000 outstanding; an ordered consumer with 8,000 prefetched; both, and the position in a key-value bucket",
			open: func(ctx context.Context, s *servers.Server, _ *adapterClient) (logClient, error) {
				return openNATSClient(ctx, s.Address)
			},
		},
		{
			name: "Redis", script: "redis", args: []string{"aof"}, client: "go-redis",
			url:  func(s *servers.Server) string { return "redis://:" + servers.Password + "@" + s.Address },
			loop: "XADD in pipelines, XREAD, both in one MULTI with the position in a hash",
			open: func(_ context.Context, s *servers.Server, _ *adapterClient) (logClient, error) {
				return openRedisClient(s.Address, servers.Password), nil
			},
		},
		{
			name: "Pulsar", script: "pulsar", client: "pulsar-client-go",
			url:  func(s *servers.Server) string { return "pulsar://" + s.Address + "?admin=http://" + s.Word("admin") },
			loop: "SendAsync with 8,000 outstanding in batches of 1,000; a Reader; an exclusive consumer with a cumulative acknowledgement a batch, answered",
			open: func(_ context.Context, s *servers.Server, a *adapterClient) (logClient, error) {
				return openPulsarClient(s.Address, a)
			},
		},
		{
			name: "RabbitMQ streams", script: "rabbitmq", client: "rabbitmq-stream-go-client",
			url: func(s *servers.Server) string {
				return "rabbitmq-stream://freshet:" + servers.Password + "@" + s.Address
			},
			loop: "BatchSend with 8,000 unconfirmed; a consumer's handler; both, and the offset stored on the server",
			open: func(_ context.Context, s *servers.Server, _ *adapterClient) (logClient, error) {
				return openRabbitClient(s.Address)
			},
		},
		{
			name: "PostgreSQL", script: "postgres", slow: true,
			url: func(s *servers.Server) string {
				return "postgres://freshet:" + servers.Password + "@" + s.Address + "/freshet"
			},
		},
	}
}

// brokers runs comparison (k) on every broker that can be started here.
func (c *comparison) brokers(ctx context.Context) error {
	payments, err := cardPayments(c.brokerEvents)
	if err != nil {
		return err
	}
	for _, b := range brokerBenches() {
		if c.brokerNames != "" && !strings.Contains(","+c.brokerNames+",", ","+b.script+",") {
			continue
		}
		began := time.Now()
		err := c.onServer(ctx, b, payments)
		var absent *servers.AbsentError
		switch {
		case errors.As(err, &absent):
			c.report.Missing = append(c.report.Missing, fmt.Sprintf("%s: %s", b.name, absent.Why))
		case err != nil:
			return fmt.Errorf("%s: %w", b.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s took %s\n", b.name, time.Since(began).Round(time.Second))
	}
	return nil
}

// onServer starts the broker's server and runs the broker's part there.
func (c *comparison) onServer(ctx context.Context, bench brokerBench, payments []event.Record) (err error) {
	server, err := servers.Launch(bench.script, bench.args...)
	if absent := (*servers.AbsentError)(nil); err != nil && !errors.As(err, &absent) {
		server, err = servers.Launch(bench.script, bench.args...) // somebody may have taken its port
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	d, err := builtin.OpenBroker(ctx, bench.url(server), builtin.BrokerOptions{})
	if err != nil {
		return err
	}
	b := broker.New(d, broker.Options{Patience: time.Minute})
	defer func() { err = errors.Join(err, b.Close()) }()
	g := &group{ID: "k", Title: strings.TrimSpace(bench.name+" "+server.Word("version")) + ": adapter, pipeline and latency on its own server"}
	if bench.slow {
		payments = payments[:len(payments)/5]
	}
	k := &onBroker{comparison: *c, bench: bench, server: server, b: b, payments: payments}
	for _, part := range []struct {
		name string
		run  func(context.Context, *group) error
	}{{"clients", k.clients}, {"pipeline", k.pipeline}, {"Bento", k.bento}, {"latency", k.latency}} {
		if c.brokerParts != "" && !strings.Contains(c.brokerParts, part.name) {
			continue
		}
		if err := part.run(ctx, g); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	c.add(g)
	return nil
}

// onBroker is comparison (k) on one broker.
type onBroker struct {
	comparison
	bench    brokerBench
	server   *servers.Server
	b        *broker.Broker
	payments []event.Record
	topics   int // made so far
}

// fresh is a name that no topic has had.
func (k *onBroker) fresh(what string) string {
	k.topics++
	return fmt.Sprintf("%s-%d", what, k.topics)
}

// Rounds of the adapter and the broker's own client, and how long each takes.
const (
	clientRounds = 5
	clientLength = 600 * time.Millisecond
	clientWarmUp = 200 * time.Millisecond
)

// clients compares the adapter with the broker's own client.
func (k *onBroker) clients(ctx context.Context, g *group) error {
	if k.bench.open == nil {
		return nil
	}
	adapter := &adapterClient{b: k.b}
	native, err := k.bench.open(ctx, k.server, adapter)
	if err != nil {
		return fmt.Errorf("open %s: %w", k.bench.client, err)
	}
	rounds := k.comparison
	rounds.runs = clientRounds
	what := [...]sideResult{
		{side: side{Name: "Freshet", What: fmt.Sprintf("the adapter: Publish of %d records, %d calls at a time; Fetch; a claim's Fetch of %d, published with the position in one transaction, or before it where there are none; topics of one partition, %d rounds of %v", logBatch, logCallers, logBatch, clientRounds, clientLength)}},
		{side: side{Name: k.bench.client, What: k.bench.loop}},
	}
	g.Sides = append(g.Sides, what[:]...)
	for _, work := range []struct {
		name string
		make clientWork
	}{
		{"publish", k.publishing(ctx)},
		{"consume", k.consuming(ctx)},
		{"consume to publish", k.moving(ctx)},
	} {
		part := &group{}
		var sides []side
		for i, cl := range []logClient{adapter, native} {
			run, err := work.make(cl)
			if err != nil {
				return err
			}
			name := [...]string{"Freshet", k.bench.client}[i]
			if err := run(ctx, &stopwatch{length: clientWarmUp, most: k.filled()}); err != nil {
				return fmt.Errorf("%s by %s: %w", work.name, name, err)
			}
			sides = append(sides, side{Name: work.name + ", " + name, run: func(ctx context.Context, _ string) (sample, error) {
				s := &stopwatch{length: clientLength, most: k.filled()}
				err := run(ctx, s)
				return s.taken, err
			}})
		}
		if err := rounds.inTurn(ctx, part, sides...); err != nil {
			return err
		}
		part.rates()
		part.ratioAs(work.name+": Freshet ÷ "+k.bench.client, sides[0].Name, sides[1].Name, 0.9)
		g.Sides, g.Rows = append(g.Sides, part.Sides...), append(g.Rows, part.Rows...)
	}
	return native.close()
}

// filled is how many records there are to read.
func (k *onBroker) filled() int { return max(20, k.brokerEvents/logBatch) * logBatch }

// clientWork prepares a kind of work for a client and returns one round of it.
type clientWork func(logClient) (round func(context.Context, *stopwatch) error, err error)

func (k *onBroker) records() []event.Record {
	recs := make([]event.Record, logBatch)
	headers := event.Headers(nil).AppendString("ce_type", benchType).AppendString("ce_source", benchSource)
	for i := range recs {
		recs[i] = k.payments[i%len(k.payments)]
		recs[i].Headers = headers
	}
	return recs
}

// publishing stores on a new topic in each round.
func (k *onBroker) publishing(ctx context.Context) clientWork {
	recs := k.records()
	return func(cl logClient) (func(context.Context, *stopwatch) error, error) {
		return func(_ context.Context, s *stopwatch) error {
			topic := k.fresh("publish")
			if err := cl.create(ctx, topic); err != nil {
				return err
			}
			s.most = 1 << 30
			return cl.publish(ctx, topic, recs, s)
		}, nil
	}
}

// fill makes a topic that holds filled records.
func (k *onBroker) fill(ctx context.Context, cl logClient) (string, error) {
	topic := k.fresh("filled")
	if err := cl.create(ctx, topic); err != nil {
		return "", err
	}
	s := &stopwatch{length: time.Hour, most: k.filled()}
	err := cl.publish(ctx, topic, k.records(), s)
	if n := s.taken.Events; err == nil && n != k.filled() {
		err = fmt.Errorf("%d records on a topic that should have %d", n, k.filled())
	}
	return topic, err
}

// consuming reads a topic from the beginning, again and again.
func (k *onBroker) consuming(ctx context.Context) clientWork {
	recs := k.records()
	want := 0
	for i := range recs {
		want += len(recs[i].Value)
	}
	return func(cl logClient) (func(context.Context, *stopwatch) error, error) {
		topic, err := k.fill(ctx, cl)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, s *stopwatch) error {
			s.most = 1 << 30
			s.start()
			n := 0
			for s.more(n) {
				bytes, err := cl.consume(ctx, topic, k.filled())
				if err != nil {
					return err
				}
				if bytes != want*k.filled()/logBatch {
					return fmt.Errorf("read %d bytes, wrote %d", bytes, want*k.filled()/logBatch)
				}
				n += k.filled()
			}
			s.stop(n)
			return nil
		}, nil
	}
}

// moving reads a topic from the beginning and publishes to a new one in each round.
func (k *onBroker) moving(ctx context.Context) clientWork {
	return func(cl logClient) (func(context.Context, *stopwatch) error, error) {
		from, err := k.fill(ctx, cl)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, s *stopwatch) error {
			to := k.fresh("moved")
			if err := cl.create(ctx, to); err != nil {
				return err
			}
			s.most -= 2 * logBatch // connecting takes some
			return cl.move(ctx, from, to, s)
		}, nil
	}
}
