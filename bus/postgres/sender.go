package postgres

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Options are what the program gives beside the URL.
type Options struct {
	// Env looks up the environment, for secrets.
	Env func(string) (string, bool)
}

const (
	defaultTimeout = 10 * time.Second
	defaultPort    = 5432
	// closeGrace is how long Close lets connections end in an orderly way.
	closeGrace = 200 * time.Millisecond
)

// Sender is a bus.Sender for one table.
type Sender struct {
	pool     *pgxpool.Pool
	sockets  sockets
	where    string // for errors
	table    string // quoted
	create   bool
	nothing  bool // on conflict
	timeout  time.Duration
	ctx      context.Context // ends with Close
	end      context.CancelFunc
	mu       sync.Mutex
	closed   bool
	columns  *columns // nil until the table has been described
	describe sync.Mutex
	running  sync.WaitGroup
}

// OpenSender connects to a server.
func OpenSender(ctx context.Context, url string, o Options) (*Sender, error) {
	e, err := endpoint.Parse(url, o.Env)
	if err != nil {
		return nil, err
	}
	if e.Scheme != "postgres" && e.Scheme != "postgresql" {
		return nil, errkind.Errorf(errkind.Config, "%s: expected postgres://", e)
	}
	if len(e.Hosts) == 0 || e.Path == "" || strings.Contains(e.Path, "/") {
		return nil, errkind.Errorf(errkind.Config, "%s: expected postgres://host/DATABASE", e)
	}
	name := e.Option("table", "results")
	s := &Sender{where: e.String() + " table " + name}
	if s.table, err = quoteTable(name); err != nil {
		return nil, errkind.Errorf(errkind.Config, "%s: option table: %w", e, err)
	}
	if s.create, err = strconv.ParseBool(e.Option("create", "false")); err != nil {
		return nil, errkind.Errorf(errkind.Config, "%s: option create: expected true or false", e)
	}
	switch on := e.Option("on_conflict", "update"); on {
	case "update":
	case "nothing":
		s.nothing = true
	default:
		return nil, errkind.Errorf(errkind.Config, "%s: option on_conflict=%s: expected update or nothing", e, on)
	}
	connections, err := e.Int("connections", 4, 1)
	if err != nil {
		return nil, err
	}
	if s.timeout, err = e.Duration("timeout", defaultTimeout); err != nil {
		return nil, err
	}
	if err := e.Done(); err != nil {
		return nil, err
	}
	c, err := s.config(e)
	if err != nil {
		return nil, err
	}
	c.MaxConns = int32(min(connections, 1000))
	s.ctx, s.end = context.WithCancel(context.Background())
	if s.pool, err = pgxpool.NewWithConfig(s.ctx, c); err != nil {
		s.end()
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", s.where, err)
	}
	if err := s.do(ctx, func(ctx context.Context, _ func()) error { return s.pool.Ping(ctx) }); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// config makes pgx's configuration of ours; the environment's PG variables have no part in it.
func (s *Sender) config(e *endpoint.Endpoint) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig("host=127.0.0.1 sslmode=disable")
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "open %s: %w", s.where, err)
	}
	cc := c.ConnConfig
	cc.User, cc.Password, cc.Database = e.User, e.Password, e.Path
	cc.ConnectTimeout, cc.TLSConfig, cc.Fallbacks = s.timeout, nil, nil
	cc.RuntimeParams = map[string]string{
		"application_name":  "freshet",
		"statement_timeout": strconv.FormatInt(max(1, s.timeout.Milliseconds()), 10),
	}
	s.sockets = sockets{dial: cc.DialFunc, open: map[net.Conn]bool{}}
	cc.DialFunc = s.sockets.connect
	for i, h := range e.Hosts {
		host, port := h, defaultPort
		if name, p, err := net.SplitHostPort(h); err == nil {
			n, err := strconv.ParseUint(p, 10, 16)
			if err != nil || n == 0 {
				return nil, errkind.Errorf(errkind.Config, "%s: the port of %s is not a number from 1 to 65535", e, h)
			}
			host, port = name, int(n)
		}
		secure := e.TLS()
		if secure != nil && secure.ServerName == "" {
			secure.ServerName = strings.Trim(host, "[]")
		}
		host = strings.Trim(host, "[]")
		if i == 0 {
			cc.Host, cc.Port, cc.TLSConfig = host, uint16(port), secure
			continue
		}
		cc.Fallbacks = append(cc.Fallbacks, &pgconn.FallbackConfig{Host: host, Port: uint16(port), TLSConfig: secure})
	}
	return c, nil
}

func (s *Sender) closedError() error {
	return errkind.Errorf(errkind.Closed, "write to %s: the sender is closed", s.where)
}

// do runs f under a context that ends with the sender, and when f has not called
// alive for too long, and gives its error a kind.
func (s *Sender) do(caller context.Context, f func(ctx context.Context, alive func()) error) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return s.closedError()
	}
	s.running.Add(1)
	s.mu.Unlock()
	defer s.running.Done()
	if err := caller.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(caller)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	// The server ends a statement that takes too long; this is for one that is gone.
	gone := time.AfterFunc(2*s.timeout, cancel)
	defer gone.Stop()
	err := f(ctx, func() { gone.Reset(2 * s.timeout) })
	var refused *bus.RefusedError
	switch {
	case err == nil, errors.As(err, &refused):
		return err
	case caller.Err() != nil:
		return caller.Err()
	case s.ctx.Err() != nil:
		return s.closedError()
	case ctx.Err() != nil:
		return errkind.Errorf(errkind.Transient, "write to %s: the server does not answer: %w", s.where, err)
	}
	return errkind.Errorf(kindOf(err), "write to %s: %w", s.where, err)
}

// Send implements bus.Sender.
func (s *Sender) Send(ctx context.Context, b bus.Batch) error {
	return s.do(ctx, func(ctx context.Context, alive func()) error {
		if len(b.Records) == 0 {
			return nil
		}
		cols, err := s.described(ctx)
		if err != nil {
			return err
		}
		rows, refused := cols.rows(&b, s.nothing)
		refusedByServer, err := s.write(ctx, cols, rows, alive)
		if err != nil {
			return err
		}
		return bus.Refuse(merge(refused, refusedByServer))
	})
}

// described returns the table's columns, read at the first call.
func (s *Sender) described(ctx context.Context) (*columns, error) {
	s.describe.Lock()
	defer s.describe.Unlock()
	if s.columns != nil {
		return s.columns, nil
	}
	if s.create {
		if err := s.createTable(ctx); err != nil {
			return nil, err
		}
	}
	c, err := describe(ctx, s.pool, s.table)
	if err != nil {
		return nil, err
	}
	s.columns = c
	return c, nil
}

// forget has the table described again after an error that says that it changed.
func (s *Sender) forget() {
	s.describe.Lock()
	defer s.describe.Unlock()
	s.columns = nil
}

func (s *Sender) createTable(ctx context.Context) error {
	_, err := s.pool.Exec(ctx, `CREATE TABLE IF NOT EXISTS `+s.table+` (id text PRIMARY KEY, source_id text, "time" timestamptz, `+
		`key text, score float8, route text, payload jsonb)`)
	var pe *pgconn.PgError
	if errors.As(err, &pe) && (pe.Code == "23505" || pe.Code == "42P07") {
		return nil // another one made it at the same moment
	}
	return err
}

// Close implements bus.Sender.
func (s *Sender) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.end()
	s.running.Wait()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.pool.Close()
	}()
	grace := time.NewTimer(closeGrace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
		s.sockets.cutAll()
		<-ended
	}
	return nil
}
