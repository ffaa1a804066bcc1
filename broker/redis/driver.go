package redis

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

const (
	defaultPort    = "6379"
	defaultTimeout = 10 * time.Second
	defaultSession = 10 * time.Second
	// maxPartitions keeps a group's script short.
	maxPartitions = 1024
	// maxBatch bounds how long one script keeps the server from others: some 20 ms.
	maxBatch = 4000
	// maxRecordBytes is far below what Redis takes, for the same reason.
	maxRecordBytes = 4 << 20
	// chunkBytes is how much one call of Publish sends at a time.
	chunkBytes = 8 << 20
	// maxTxBytes bounds what one transaction makes the server hold twice.
	maxTxBytes = 128 << 20
)

// Options is what the program passes to Open.
type Options struct {
	// Logger tells of lost connections; nil is silent.
	Logger *slog.Logger
	// Env looks up the environment, for password_env.
	Env func(string) (string, bool)
}

// Driver is a broker.Driver on Redis Streams.
type Driver struct {
	client  *redis.Client
	options redis.Options // for connections that wait for records
	where   string        // for errors
	log     *slog.Logger
	prefix  string
	typed   bool
	timeout time.Duration
	session time.Duration
	// replicas is how many replicas must have a write before it is acknowledged.
	replicas int

	next atomic.Uint64 // partition of the next records without a key

	mu        sync.Mutex
	topics    map[string]*topic
	consumers map[*consumer]struct{}
	wires     map[*wire]struct{}
	closed    bool

	done    chan struct{} // closed by Close
	stop    context.CancelFunc
	life    context.Context // ends with Close
	running sync.WaitGroup
}

// silence turns off go-redis' own log, which is the process's and goes to
// stderr: every failure that it tells of is an error that is returned as well.
var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// newToken returns a name that nobody else has.
func newToken() string { return strings.ToLower(rand.Text()[:16]) }

// Open connects to the server that url names; the package's comment lists the
// URL's options. Errors are Config where the server refuses the credentials or
// the certificate is not trusted, Transient where nobody answers, and
// Unsupported for a cluster and for servers older than Redis 7.
func Open(ctx context.Context, url string, o Options) (*Driver, error) {
	silence()
	where := endpoint.Redact(url)
	e, err := endpoint.Parse(url, o.Env, "rediss")
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", where, err)
	}
	d := &Driver{
		where: where, log: o.Logger, prefix: e.Option("prefix", ""),
		topics: map[string]*topic{}, consumers: map[*consumer]struct{}{}, wires: map[*wire]struct{}{},
		done: make(chan struct{}),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if err := d.configure(e); err != nil {
		return nil, errkind.Errorf(errkind.Config, "open broker: %w", err)
	}
	d.life, d.stop = context.WithCancel(context.Background())
	d.client = redis.NewClient(&d.options)
	if err := d.greet(ctx); err != nil {
		_ = d.Close()
		return nil, err
	}
	return d, nil
}

// configure reads the URL's parts and options.
func (d *Driver) configure(e *endpoint.Endpoint) error {
	if e.Scheme != "redis" && e.Scheme != "rediss" {
		return errkind.Errorf(errkind.Config, "%s: expected redis:// or rediss://", e)
	}
	if len(e.Hosts) != 1 {
		return errkind.Errorf(errkind.Config, "%s: expected one host, got %d", e, len(e.Hosts))
	}
	address := e.Hosts[0]
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(strings.Trim(address, "[]"), defaultPort)
	}
	db := 0
	if e.Path != "" {
		n, err := strconv.Atoi(e.Path)
		if err != nil || n < 0 {
			return errkind.Errorf(errkind.Config, "%s: the path is the number of a database, such as /0", e)
		}
		db = n
	}
	var err error
	if d.timeout, err = e.Duration("timeout", defaultTimeout); err != nil {
		return err
	}
	if d.session, err = e.Duration("session", defaultSession); err != nil {
		return err
	}
	if d.replicas, err = e.Int("wait_replicas", 0, 0); err != nil {
		return err
	}
	switch rows := e.Option("rows", "typed"); rows {
	case "typed", "strings":
		d.typed = rows == "typed"
	default:
		return errkind.Errorf(errkind.Config, "%s: option rows=%s: expected typed or strings", e, rows)
	}
	if err := e.Done(); err != nil {
		return err
	}
	tls := e.TLS()
	if tls != nil && tls.ServerName == "" {
		tls.ServerName, _, _ = net.SplitHostPort(address)
	}
	d.options = redis.Options{
		Addr: address, Username: e.User, Password: e.Password, DB: db, TLSConfig: tls, Protocol: 2,
		DialTimeout: d.timeout, ReadTimeout: d.timeout, WriteTimeout: d.timeout, ContextTimeoutEnabled: true,
		// Attempts and pauses are the Broker's.
		MaxRetries: -1, DialerRetries: 1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	return nil
}

// greet looks at what answers.
func (d *Driver) greet(ctx context.Context) error {
	var hello []any
	err := d.call(ctx, func(ctx context.Context) error {
		var err error
		hello, err = d.client.Do(ctx, "HELLO").Slice()
		return err
	})
	if err != nil {
		err = d.diagnose(ctx, d.failed(ctx, "connect to", err))
		if strings.Contains(err.Error(), "can't parse") {
			return errkind.Errorf(errkind.Config, "%w: this is no Redis server, or it wants TLS (rediss://)", err)
		}
		return err
	}
	about := map[string]string{}
	for i := 0; i+1 < len(hello); i += 2 {
		name, _ := hello[i].(string)
		about[name], _ = hello[i+1].(string)
	}
	if about["mode"] == "cluster" {
		return errkind.Errorf(errkind.Unsupported, "connect to %s: the server is part of a Redis Cluster, whose transactions do not span nodes: use a server of its own, or one with Sentinel", d.where)
	}
	major, _, _ := strings.Cut(about["version"], ".")
	if n, err := strconv.Atoi(major); err != nil || n < 7 {
		return errkind.Errorf(errkind.Unsupported, "connect to %s: the server is %s %s, at least version 7 is needed", d.where, about["server"], about["version"])
	}
	d.warn(ctx)
	return nil
}

// warn tells of a server that would forget what it has acknowledged. Where it
// does not let us ask, nothing is said.
func (d *Driver) warn(ctx context.Context) {
	var info string
	err := d.call(ctx, func(ctx context.Context) error {
		var err error
		info, err = d.client.Info(ctx, "persistence").Result()
		return err
	})
	if err == nil && strings.Contains(info, "aof_enabled:0") {
		d.log.WarnContext(ctx, "the server keeps no append-only file: what it acknowledged is lost when it ends; set appendonly yes and appendfsync always", "broker", d.where)
	}
}

// Capabilities implements broker.Driver.
func (d *Driver) Capabilities() broker.Capabilities {
	return broker.Capabilities{
		Transactions: true, Admin: true, Dedup: true, Durable: true,
		MaxBatch: maxBatch, MaxRecordBytes: maxRecordBytes,
	}
}

// call runs f with a deadline and returns when ctx or the driver has ended,
// which the client by itself notices only at its deadline. What f uses stays
// its own until then.
func (d *Driver) call(ctx context.Context, f func(ctx context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !d.begin() {
		return d.errClosed()
	}
	ended := make(chan error, 1)
	go func() {
		defer d.running.Done()
		ctx, cancel := context.WithTimeout(ctx, d.timeout)
		defer cancel()
		ended <- f(ctx)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-d.done:
		return d.errClosed()
	}
}

// begin counts one more thing that Close waits for; false after Close.
func (d *Driver) begin() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return false
	}
	d.running.Add(1)
	return true
}

func (d *Driver) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// Close implements broker.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	consumers := make([]*consumer, 0, len(d.consumers))
	for c := range d.consumers {
		consumers = append(consumers, c)
	}
	d.mu.Unlock()
	// They leave their groups while there is still a connection for it.
	var leaving sync.WaitGroup
	for _, c := range consumers {
		leaving.Go(func() { _ = c.Close() })
	}
	leaving.Wait()

	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	close(d.done)
	wires := make([]*wire, 0, len(d.wires))
	for w := range d.wires {
		wires = append(wires, w)
	}
	d.mu.Unlock()
	d.stop()
	for _, w := range wires {
		w.close()
	}
	_ = d.client.Close() // ends what calls wait for
	d.running.Wait()
	return nil
}

// run runs a script by its digest, and with its text where the server does not
// know it, after a restart for instance.
func (d *Driver) run(ctx context.Context, s *redis.Script, keys []string, args ...any) *redis.Cmd {
	cmd := s.EvalSha(ctx, d.client, keys, args...)
	if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
		cmd = s.Eval(ctx, d.client, keys, args...)
	}
	return cmd
}

// script is run within call, for scripts that answer with a list.
func (d *Driver) script(ctx context.Context, s *redis.Script, keys []string, args ...any) (answer []any, err error) {
	var got []any
	err = d.call(ctx, func(ctx context.Context) error {
		var err error
		got, err = d.run(ctx, s, keys, args...).Slice()
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.Clip(got), nil
}
