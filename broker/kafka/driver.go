package kafka

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// Driver is a broker.Driver on Kafka.
type Driver struct {
	s    settings
	log  *slog.Logger
	caps broker.Capabilities
	tx2  bool // the cluster ends transactions by KIP-890's second part

	client   *kgo.Client // of everything that is no record
	admin    *kadm.Client
	producer *kgo.Client // of Publish

	packing   kgo.Compressor // nil where nothing is compressed
	unpacking kgo.Decompressor

	topics  topicCache
	facts   factCache
	looks   lookCache
	claims  claimTable
	batches sync.Pool // of *batch
	spread  atomic.Uint32

	outgoing sync.Pool // of *outgoing

	own struct { // producers of transactions without positions
		sync.Mutex
		name string
		made int
		idle []*producer
	}

	ctx  context.Context // ends with Close
	stop context.CancelFunc

	mu     sync.Mutex
	closed bool
	parts  map[io.Closer]struct{} // consumers and readers
	behind sync.WaitGroup         // of spawn
	waited bool                   // for behind
	done   chan struct{}          // closed when Close has finished
}

var (
	_ broker.Driver     = (*Driver)(nil)
	_ broker.Transactor = (*Driver)(nil)
	_ broker.Admin      = (*Driver)(nil)
)

// defaultMaxRecord is what Kafka takes unless it was told otherwise, in bytes.
const defaultMaxRecord = 1048588

// Open connects to the servers of url, kafka://host:port,host:port/?options; the
// package's comment lists the options. It tries each host once. Errors are
// Config where the URL, a password or a certificate is wrong, and Transient
// where nobody answers.
func Open(ctx context.Context, url string, o Options) (*Driver, error) {
	s, err := readSettings(url, o.Env)
	if err != nil {
		return nil, fmt.Errorf("open Kafka: %w", err)
	}
	d := &Driver{s: s, log: o.Logger, parts: map[io.Closer]struct{}{}, done: make(chan struct{})}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.batches.New, d.outgoing.New = newBatch, newOutgoing
	d.packing, _ = kgo.DefaultCompressor(s.compression) // fails for codecs that there are not
	d.unpacking = kgo.DefaultDecompressor()
	d.own.name = rand.Text()[:12]
	if err := d.connect(ctx); err != nil {
		d.stop()
		d.closeClients()
		return nil, fmt.Errorf("open %s: %w", s.endpoint, err)
	}
	return d, nil
}

func (d *Driver) connect(ctx context.Context) error {
	ctx, cancel := d.begin(ctx)
	defer cancel()
	first, err := d.s.client()
	if err != nil {
		return errkind.With(errkind.Config, err)
	}
	defer first.Close()
	if err := d.greet(ctx, first); err != nil {
		return err
	}
	if d.client, err = d.s.client(kgo.MaxVersions(versions(d.tx2))); err != nil {
		return errkind.With(errkind.Config, err)
	}
	d.admin = kadm.NewClient(d.client)
	limit := d.s.maxRecord
	if limit == 0 {
		limit = d.serverLimit(ctx)
	}
	d.caps = broker.Capabilities{
		Transactions: true, Admin: true, Durable: true,
		MaxRecordBytes: maxRecord(limit),
	}
	d.producer, err = d.s.client(
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(d.s.compression),
		kgo.ProducerBatchMaxBytes(int32(limit)),
		kgo.ProducerLinger(0),
		kgo.MaxBufferedRecords(1<<20),
		kgo.MaxBufferedBytes(256<<20),
		kgo.RecordDeliveryTimeout(d.s.timeout),
		kgo.ProduceRequestTimeout(d.s.timeout),
	)
	return errkind.With(errkind.Config, err)
}

// greet asks the hosts of the URL, one after the other, who they are. Requests
// to seeds are not repeated, so what is wrong comes out.
func (d *Driver) greet(ctx context.Context, cl *kgo.Client) error {
	var failures []error
	for _, seed := range cl.SeedBrokers() {
		resp, err := seed.Request(ctx, apiVersions())
		if err == nil {
			for _, f := range resp.(*kmsg.ApiVersionsResponse).FinalizedFeatures {
				if f.Name == "transaction.version" && f.MaxVersionLevel >= 2 {
					d.tx2 = true
				}
			}
			return nil
		}
		if ctx.Err() != nil {
			return d.failed(ctx, err, "connect")
		}
		failures = append(failures, d.explain(err))
	}
	for _, err := range failures {
		if errkind.Is(err, errkind.Config) {
			return err
		}
	}
	return failures[0]
}

func apiVersions() *kmsg.ApiVersionsRequest {
	r := kmsg.NewPtrApiVersionsRequest()
	r.ClientSoftwareName, r.ClientSoftwareVersion = "freshet", "1"
	return r
}

// explain says what an error of a first connection may mean.
func (d *Driver) explain(err error) error {
	kind := kindOf(err)
	var eof *kgo.ErrFirstReadEOF
	switch {
	case d.s.saslName == "oauthbearer" && strings.Contains(err.Error(), "oauth response"):
		return errkind.Errorf(errkind.Config, "the server refused sasl=oauthbearer with this token: %w", err)
	case kind == errkind.Config && d.s.saslName != "" && strings.Contains(err.Error(), "SASL"):
		return errkind.Errorf(kind, "the server refused sasl=%s with these credentials: %w", d.s.saslName, err)
	case strings.Contains(err.Error(), "invalid large response size"): // an answer in another protocol
		return errkind.Errorf(errkind.Config, "what answers speaks no Kafka, or demands TLS (kafka+tls://): %w", err)
	case errors.As(err, &eof) && d.s.endpoint.TLS() == nil:
		return errkind.Errorf(errkind.Config, "the server closed the connection at the first request: it may demand TLS (kafka+tls://) or SASL (sasl=…): %w", err)
	case errors.As(err, &eof):
		return errkind.Errorf(errkind.Config, "the server closed the connection at the first request: it may demand SASL (sasl=…) or a client's certificate (tls_cert): %w", err)
	case errors.Is(err, context.DeadlineExceeded):
		return errkind.Errorf(kind, "no answer within %v", d.s.timeout)
	}
	return errkind.Errorf(kind, "%w", err)
}

// serverLimit is the largest batch that the server takes, in bytes: its
// message.max.bytes where it tells, otherwise Kafka's default.
func (d *Driver) serverLimit(ctx context.Context) int {
	meta, err := d.admin.BrokerMetadata(ctx)
	if err != nil || len(meta.Brokers) == 0 {
		return defaultMaxRecord
	}
	configs, err := d.admin.DescribeBrokerConfigs(ctx, meta.Brokers[0].NodeID)
	if err != nil {
		return defaultMaxRecord
	}
	for _, c := range configs {
		for _, x := range c.Configs {
			if x.Key == "message.max.bytes" && x.Value != nil {
				if n, err := strconv.Atoi(*x.Value); err == nil && n > 0 {
					return min(n, largestBatch)
				}
			}
		}
	}
	return defaultMaxRecord
}

const (
	largestBatch = 64 << 20
	// overhead is what a record needs in a batch beyond event.Record.Size, with many headers.
	overhead = 512
)

// maxRecord is the largest record of a batch of at most limit bytes.
func maxRecord(limit int) int { return max(limit-overhead, limit/2) }

// Capabilities implements broker.Driver.
func (d *Driver) Capabilities() broker.Capabilities { return d.caps }

// keep makes Close close c; it fails after Close.
func (d *Driver) keep(c io.Closer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errkind.New(errkind.Closed, "the driver is closed")
	}
	d.parts[c] = struct{}{}
	return nil
}

func (d *Driver) forget(c io.Closer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.parts, c)
}

// spawn runs f beside its caller; Close waits for it.
func (d *Driver) spawn(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waited {
		go f()
		return
	}
	d.behind.Go(f)
}

// Close implements broker.Driver. Groups are left first, so that their
// partitions go to other members at once.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		<-d.done
		return nil
	}
	d.closed = true
	parts := d.parts
	d.parts = map[io.Closer]struct{}{}
	d.mu.Unlock()
	d.stop()
	var wg sync.WaitGroup
	for p := range parts {
		wg.Go(func() { _ = p.Close() })
	}
	wg.Wait()
	d.mu.Lock()
	d.waited = true
	d.mu.Unlock()
	d.behind.Wait()
	d.closeClients()
	close(d.done)
	return nil
}

func (d *Driver) closeClients() {
	for _, cl := range []*kgo.Client{d.producer, d.client} {
		if cl != nil {
			cl.Close()
		}
	}
	d.own.Lock()
	defer d.own.Unlock()
	for _, p := range d.own.idle {
		p.client.Close()
	}
	d.own.idle = nil
}
