package postgres

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

const (
	defaultPort    = 5432
	defaultTimeout = 10 * time.Second
	defaultSession = 10 * time.Second
	maxPartitions  = 1024
	// maxBatch bounds how long one call holds the lock of a partition.
	maxBatch       = 4000
	maxRecordBytes = 16 << 20
	// chunkBytes is how much one statement carries.
	chunkBytes = 8 << 20
	// maxTxBytes bounds what one transaction holds in memory on both sides.
	maxTxBytes = 256 << 20
	// closeGrace is how long Close lets connections end in an orderly way.
	closeGrace = 200 * time.Millisecond
)

// Options is what the program passes to Open.
type Options struct {
	// Logger tells of lost connections; nil is silent.
	Logger *slog.Logger
	// Env looks up the environment, for password_env.
	Env func(string) (string, bool)
}

// Driver is a broker.Driver on PostgreSQL.
type Driver struct {
	pool    *pgxpool.Pool
	sockets sockets
	where   string // for errors
	schema  string
	log     *slog.Logger
	timeout time.Duration
	session time.Duration
	table   *table
	bells   *bells

	next atomic.Uint64 // partition of the next records without a key

	closing chan struct{}   // closed when Close begins
	life    context.Context // ends when the consumers have left
	end     context.CancelFunc

	mu        sync.Mutex
	closed    bool
	topics    map[string]*topic
	consumers map[*consumer]struct{}
	running   sync.WaitGroup
	listening sync.Once
	swept     chan struct{} // asks the sweeper to look
}

var (
	_ broker.Driver     = (*Driver)(nil)
	_ broker.Transactor = (*Driver)(nil)
	_ broker.Admin      = (*Driver)(nil)
)

// Open connects to the server that url names and makes the schema where it is
// missing; the package's comment lists the URL's options. Errors are Config where
// the server refuses the credentials or the database, or its certificate is not
// trusted, and Transient where nobody answers.
func Open(ctx context.Context, url string, o Options) (*Driver, error) {
	e, err := endpoint.Parse(url, o.Env)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", endpoint.Redact(url), err)
	}
	d := &Driver{
		where: e.String(), log: o.Logger, topics: map[string]*topic{}, consumers: map[*consumer]struct{}{},
		bells: newBells(), closing: make(chan struct{}), swept: make(chan struct{}, 1),
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	d.table = &table{d}
	c, err := d.configure(e)
	if err != nil {
		return nil, err
	}
	d.life, d.end = context.WithCancel(context.Background())
	if d.pool, err = pgxpool.NewWithConfig(d.life, c); err != nil {
		d.end()
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", d.where, err)
	}
	if err := d.greet(ctx); err != nil {
		_ = d.Close()
		return nil, err
	}
	d.running.Go(d.announce)
	d.running.Go(d.sweepOften)
	return d, nil
}

// configure reads the URL and makes pgx's configuration of it; the environment's
// PG variables have no part in it.
func (d *Driver) configure(e *endpoint.Endpoint) (*pgxpool.Config, error) {
	if e.Scheme != "postgres" && e.Scheme != "postgresql" {
		return nil, errkind.Errorf(errkind.Config, "%s: expected postgres://", e)
	}
	if len(e.Hosts) == 0 || e.Path == "" || strings.Contains(e.Path, "/") {
		return nil, errkind.Errorf(errkind.Config, "%s: expected postgres://host/DATABASE", e)
	}
	d.schema = e.Option("schema", "freshet")
	if d.schema == "" || len(d.schema) > 40 || strings.ContainsRune(d.schema, 0) {
		return nil, errkind.Errorf(errkind.Config, "%s: option schema: expected a name of 1 to 40 characters", e)
	}
	connections, err := e.Int("connections", 8, 2)
	if err != nil {
		return nil, err
	}
	if d.timeout, err = e.Duration("timeout", defaultTimeout); err != nil {
		return nil, err
	}
	if d.session, err = e.Duration("session", defaultSession); err != nil {
		return nil, err
	}
	if err := e.Done(); err != nil {
		return nil, err
	}
	c, err := pgxpool.ParseConfig("host=127.0.0.1 sslmode=disable target_session_attrs=read-write")
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", e, err)
	}
	c.MaxConns = int32(min(connections, 1000))
	cc := c.ConnConfig
	cc.User, cc.Password, cc.Database = e.User, e.Password, e.Path
	cc.ConnectTimeout, cc.TLSConfig, cc.Fallbacks = d.timeout, nil, nil
	ms := strconv.FormatInt(max(1, d.timeout.Milliseconds()), 10)
	cc.RuntimeParams = map[string]string{
		"application_name":                    "freshet",
		"search_path":                         pgx.Identifier{d.schema}.Sanitize(),
		"statement_timeout":                   ms,
		"idle_in_transaction_session_timeout": ms,
		// Statements of a transaction see what was committed while they waited for its locks.
		"default_transaction_isolation": "read committed",
		// Every statement goes by an index; tables that just began to grow must not mislead the planner.
		"enable_seqscan": "off", "jit": "off", "plan_cache_mode": "force_generic_plan",
		// A client that is gone in the middle of a transaction gives its locks back within some 10 s.
		"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3",
	}
	d.sockets = sockets{dial: cc.DialFunc, open: map[net.Conn]struct{}{}}
	cc.DialFunc = d.sockets.connect
	for i, h := range e.Hosts {
		host, port := h, defaultPort
		if name, p, err := net.SplitHostPort(h); err == nil {
			n, err := strconv.ParseUint(p, 10, 16)
			if err != nil || n == 0 {
				return nil, errkind.Errorf(errkind.Config, "%s: the port of %s is not a number from 1 to 65535", e, h)
			}
			host, port = name, int(n)
		}
		host = strings.Trim(host, "[]")
		secure := e.TLS()
		if secure != nil && secure.ServerName == "" {
			secure.ServerName = host
		}
		if i == 0 {
			cc.Host, cc.Port, cc.TLSConfig = host, uint16(port), secure
			continue
		}
		cc.Fallbacks = append(cc.Fallbacks, &pgconn.FallbackConfig{Host: host, Port: uint16(port), TLSConfig: secure})
	}
	return c, nil
}

// greet looks at what answers and makes the schema where it is missing.
func (d *Driver) greet(ctx context.Context) error {
	var version int
	var there bool
	var fsync, synchronous string
	err := d.do(ctx, "connect to", func(ctx context.Context) error {
		return d.pool.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, to_regclass($1) IS NOT NULL, `+
			`current_setting('fsync'), current_setting('synchronous_commit')`, pgx.Identifier{d.schema, "leases"}.Sanitize()).
			Scan(&version, &there, &fsync, &synchronous)
	})
	if err != nil {
		return err
	}
	if version < 130000 {
		return errkind.Errorf(errkind.Unsupported, "connect to %s: the server is PostgreSQL %d, at least 13 is needed", d.where, version/10000)
	}
	if fsync == "off" || synchronous == "off" {
		d.log.WarnContext(ctx, "the server acknowledges what is not on disk yet: set fsync and synchronous_commit to on", "broker", d.where)
	}
	if there {
		return nil
	}
	return d.do(ctx, "make schema "+d.schema+" in", func(ctx context.Context) error {
		_, err := d.pool.Exec(ctx, strings.ReplaceAll(schemaSQL, "SCHEMA_NAME", pgx.Identifier{d.schema}.Sanitize()))
		return err
	})
}

// Capabilities implements broker.Driver.
func (d *Driver) Capabilities() broker.Capabilities {
	return broker.Capabilities{
		Transactions: true, Admin: true, Dedup: true, Durable: true, Gapless: true,
		MaxBatch: maxBatch, MaxRecordBytes: maxRecordBytes,
	}
}

// do runs f with a deadline, under a context that ends with the driver, and gives
// its error a kind and a place. What the caller's own context ended keeps that error.
func (d *Driver) do(caller context.Context, doing string, f func(ctx context.Context) error) error {
	if err := caller.Err(); err != nil {
		return err
	}
	if !d.begin() {
		return d.errClosed()
	}
	defer d.running.Done()
	ctx, cancel := context.WithTimeout(caller, d.timeout)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	err := f(ctx)
	if err == nil {
		return nil
	}
	at, limited := caller.Deadline()
	switch {
	case d.life.Err() != nil:
		return d.errClosed()
	case caller.Err() != nil:
		return caller.Err()
	case limited && !time.Now().Before(at): // the deadline ends calls a moment before its context says so
		return context.DeadlineExceeded
	}
	k := kindOf(err)
	if k == errkind.Canceled {
		k = errkind.Transient // of a context of pgx's own
	}
	if ctx.Err() != nil { // its text alone: the deadline is not the caller's
		return errkind.Errorf(k, "%s %s: no answer within %v: %s", doing, d.where, d.timeout, err.Error())
	}
	return errkind.Errorf(k, "%s %s: %w", doing, d.where, err)
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

func (d *Driver) errClosed() error {
	return errkind.Errorf(errkind.Closed, "%s: the driver is closed", d.where)
}

// Close implements broker.Driver.
func (d *Driver) Close() error {
	d.mu.Lock()
	select {
	case <-d.closing:
		d.mu.Unlock()
		return nil
	default:
	}
	close(d.closing)
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
	d.closed = true
	d.mu.Unlock()
	d.end()
	d.running.Wait()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.pool.Close()
	}()
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
		d.sockets.cutAll()
		<-ended
	}
	return nil
}
