package pulsar

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
	"github.com/apache/pulsar-client-go/pulsar/log"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Options is what the program passes to Open.
type Options struct {
	// Logger takes what the client library says: its errors as information, the rest to debug by; nil drops it.
	Logger *slog.Logger
	// Env looks up the environment for options that name a variable.
	Env func(string) (string, bool)
}

// Driver is a broker.Driver on one namespace of a Pulsar cluster.
type Driver struct {
	shown             string
	tenant, namespace string
	caps              broker.Capabilities
	set               settings
	client            pulsar.Client
	rest              *rest

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup // of spawn

	topics  sync.Map // name → *topic
	oldest  sync.Map // place → id and time of the record asked for last
	members sync.Map // *consumer → struct{}
}

var (
	_ broker.Admin    = (*Driver)(nil)
	_ broker.Appender = (*Driver)(nil)
)

// Open connects to the cluster that rawURL names. Its errors are Config for
// what the user has to change (credentials, certificates, a namespace that is
// not there) and Transient where nobody answers.
func Open(ctx context.Context, rawURL string, o Options) (*Driver, error) {
	e, err := endpoint.Parse(rawURL, o.Env, "pulsar+ssl")
	if err != nil {
		return nil, err
	}
	set, err := readSettings(e, o.Env)
	if err != nil {
		return nil, err
	}
	d := &Driver{shown: e.String(), tenant: set.tenant, namespace: set.namespace, set: set}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.caps = broker.Capabilities{
		Admin: true, Durable: true, Append: true,
		MaxBatch: maxMessages, MaxRecordBytes: set.maxMessage - overhead,
	}
	transport := &http.Transport{TLSClientConfig: set.tls, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute, Proxy: http.ProxyFromEnvironment}
	d.rest = &rest{base: set.admin, client: &http.Client{Transport: transport}, timeout: set.timeout}
	if set.auth != nil {
		if err := set.auth.Init(); err != nil {
			return nil, errkind.Errorf(errkind.Config, "%s: credentials: %w", e, err)
		}
		if err := set.auth.WithTransport(transport); err != nil {
			return nil, errkind.Errorf(errkind.Config, "%s: credentials: %w", e, err)
		}
		d.rest.client.Transport = set.auth
	}
	if err := d.probe(ctx, e.Hosts); err != nil {
		d.cancel()
		return nil, fmt.Errorf("connect to %s: %w", e, err)
	}
	options := pulsar.ClientOptions{
		URL:               set.service,
		TLSConfig:         set.tls,
		ConnectionTimeout: set.timeout,
		OperationTimeout:  set.timeout,
		KeepAliveInterval: max(set.timeout, 5*time.Second),
		Logger:            log.DefaultNopLogger(),
		MetricsRegisterer: prometheus.NewRegistry(),
		MemoryLimitBytes:  -1, // every producer's queue is bounded
	}
	if set.auth != nil {
		options.Authentication = set.auth
	}
	if o.Logger != nil {
		options.Logger = log.NewLoggerWithSlog(slog.New(quieter{o.Logger.Handler()}))
	}
	if d.client, err = pulsar.NewClient(options); err != nil {
		d.cancel()
		return nil, errkind.Errorf(errkind.Config, "connect to %s: %w", e, err)
	}
	return d, nil
}

// probe makes one connection to a broker and asks the admin API for the
// namespace, so that what is wrong is known before the first event.
func (d *Driver) probe(ctx context.Context, hosts []string) error {
	ctx, cancel := context.WithTimeout(ctx, d.set.timeout)
	defer cancel()
	var err error
	for _, host := range hosts {
		if err = d.dial(ctx, withPort(host, d.set.port)); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	var topics []string
	err = d.rest.do(ctx, http.MethodGet, d.path("", ""), nil, &topics)
	switch {
	case errkind.Is(err, errkind.NotFound):
		return errkind.Errorf(errkind.Config, "the namespace %s/%s is not there: create it, or name another one in the URL's path: %w", d.tenant, d.namespace, err)
	case err != nil:
		return fmt.Errorf("admin API at %s (option admin): %w", d.rest.base, err)
	}
	return nil
}

func (d *Driver) dial(ctx context.Context, host string) error {
	var c net.Conn
	var err error
	if d.set.tls != nil {
		c, err = (&tls.Dialer{Config: d.set.tls}).DialContext(ctx, "tcp", host)
	} else {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", host)
	}
	if err != nil {
		kind := endpoint.NetworkKind(err)
		if kind == errkind.Unknown {
			kind = errkind.Transient
		}
		if d.set.tls != nil && errors.Is(err, io.EOF) {
			return errkind.Errorf(kind, "%s ends the connection when TLS begins; is that its port for TLS? %w", host, err)
		}
		return errkind.With(kind, err)
	}
	return c.Close()
}

// Capabilities implements broker.Driver.
func (d *Driver) Capabilities() broker.Capabilities { return d.caps }

// Close implements broker.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	d.mu.Unlock()
	d.cancel()
	d.members.Range(func(c, _ any) bool {
		c.(*consumer).end()
		return true
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.client.Close() // with all producers, consumers and readers
		d.wg.Wait()
		d.rest.client.CloseIdleConnections()
	}()
	// The library has calls that never return where a connection is lost at the
	// wrong moment: what they hold is theirs.
	t := time.NewTimer(2 * d.set.timeout)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
	return nil
}

// spawn runs f as one of the goroutines that Close waits for; false after Close.
func (d *Driver) spawn(f func()) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.wg.Go(f)
	return true
}

// enter refuses calls after Close and calls whose context has ended.
func (d *Driver) enter(ctx context.Context) error {
	if d.ctx.Err() != nil {
		return errClosed
	}
	return ctx.Err()
}

// scope is ctx with the driver's timeout; it ends with the driver too.
func (d *Driver) scope(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, d.set.timeout)
	stop := context.AfterFunc(d.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// quieter lowers the level of what the client library logs: its errors are
// attempts that it repeats, its warnings mostly what happens at every Close.
type quieter struct{ slog.Handler }

const lower = slog.LevelError - slog.LevelInfo

func (q quieter) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, l-lower)
}

func (q quieter) Handle(ctx context.Context, r slog.Record) error {
	r.Level -= lower
	return q.Handler.Handle(ctx, r)
}

func (q quieter) WithAttrs(a []slog.Attr) slog.Handler { return quieter{q.Handler.WithAttrs(a)} }
func (q quieter) WithGroup(name string) slog.Handler   { return quieter{q.Handler.WithGroup(name)} }
