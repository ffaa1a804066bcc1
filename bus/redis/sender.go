package redis

import (
	"context"
	_ "embed" // the script
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

//go:embed keep.lua
var keepText string

var keepScript = redis.NewScript(keepText)

const (
	defaultPort    = "6379"
	defaultTimeout = 10 * time.Second
	// chunk and chunkBytes bound how long one script keeps the server from others.
	chunk      = 1000
	chunkBytes = 4 << 20
	// maxValue bounds one result, in bytes.
	maxValue = 16 << 20
	// versionSuffix stands behind a string's key in that of its version.
	versionSuffix = ":version"
)

// Options are what the program gives beside the URL.
type Options struct {
	// Env looks up the environment, for secrets.
	Env func(string) (string, bool)
}

// Sender is a bus.Sender that keeps the newest result of each key.
type Sender struct {
	client  *redis.Client
	where   string // for errors
	prefix  string
	strings bool // keep=string
	byID    bool
	ttl     time.Duration
	timeout time.Duration

	mu      sync.Mutex
	closed  bool
	done    chan struct{} // closed by Close
	running sync.WaitGroup
}

// silence turns off go-redis' own log, which is the process's and goes to
// stderr: every failure that it tells of is an error that is returned as well.
var silence = sync.OnceFunc(func() { redis.SetLogger(silent{}) })

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// OpenSender connects to a server; the package's comment lists the URL's options.
func OpenSender(ctx context.Context, url string, o Options) (*Sender, error) {
	silence()
	e, err := endpoint.Parse(url, o.Env, "rediss")
	if err != nil {
		return nil, err
	}
	s := &Sender{where: e.String(), prefix: e.Option("prefix", ""), done: make(chan struct{})}
	options, err := s.configure(e)
	if err != nil {
		return nil, err
	}
	s.client = redis.NewClient(options)
	if err := s.greet(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sender) configure(e *endpoint.Endpoint) (*redis.Options, error) {
	if e.Scheme != "redis" && e.Scheme != "rediss" {
		return nil, errkind.Errorf(errkind.Config, "%s: expected redis:// or rediss://", e)
	}
	if len(e.Hosts) != 1 {
		return nil, errkind.Errorf(errkind.Config, "%s: expected one host, got %d", e, len(e.Hosts))
	}
	address := e.Hosts[0]
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(strings.Trim(address, "[]"), defaultPort)
	}
	db := 0
	if e.Path != "" {
		n, err := strconv.Atoi(e.Path)
		if err != nil || n < 0 {
			return nil, errkind.Errorf(errkind.Config, "%s: the path is the number of a database, such as /0", e)
		}
		db = n
	}
	for _, choice := range []struct {
		name, usual, other string
		chosen             *bool
	}{{"keep", "hash", "string", &s.strings}, {"by", "key", "id", &s.byID}} {
		v := e.Option(choice.name, choice.usual)
		if v != choice.usual && v != choice.other {
			return nil, errkind.Errorf(errkind.Config, "%s: option %s=%s: expected %s or %s", e, choice.name, v, choice.usual, choice.other)
		}
		*choice.chosen = v == choice.other
	}
	var err error
	if s.ttl, err = e.Duration("ttl", 0); err != nil {
		return nil, err
	}
	if s.timeout, err = e.Duration("timeout", defaultTimeout); err != nil {
		return nil, err
	}
	if err := e.Done(); err != nil {
		return nil, err
	}
	tls := e.TLS()
	if tls != nil && tls.ServerName == "" {
		tls.ServerName, _, _ = net.SplitHostPort(address)
	}
	o := &redis.Options{
		Addr: address, Username: e.User, Password: e.Password, DB: db, TLSConfig: tls, Protocol: 2,
		DialTimeout: s.timeout, ReadTimeout: s.timeout, WriteTimeout: s.timeout, ContextTimeoutEnabled: true,
		// Attempts and pauses are the caller's.
		MaxRetries: -1, DialerRetries: 1, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	return o, nil
}

// greet looks at what answers.
func (s *Sender) greet(ctx context.Context) error {
	var hello []any
	err := s.call(ctx, func(ctx context.Context) error {
		var err error
		hello, err = s.client.Do(ctx, "HELLO").Slice()
		return err
	})
	if err != nil {
		return s.failed(ctx, "connect to", err)
	}
	for i := 0; i+1 < len(hello); i += 2 {
		name, _ := hello[i].(string)
		value, _ := hello[i+1].(string)
		if name == "mode" && value == "cluster" {
			return errkind.Errorf(errkind.Unsupported, "connect to %s: the server is part of a Redis Cluster; use a server of its own, or one with Sentinel", s.where)
		}
		if major, _, _ := strings.Cut(value, "."); name == "version" {
			if n, err := strconv.Atoi(major); err != nil || n < 7 {
				return errkind.Errorf(errkind.Unsupported, "connect to %s: the server has version %s, at least 7 is needed", s.where, value)
			}
		}
	}
	return nil
}

// Send implements bus.Sender.
func (s *Sender) Send(ctx context.Context, b bus.Batch) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	var refused []bus.Refused
	for from := 0; from < len(b.Records); {
		w := newWriting(s)
		for ; from < len(b.Records) && w.n < chunk && len(w.packed) < chunkBytes; from++ {
			if err := w.add(&b.Records[from]); err != nil {
				refused = append(refused, bus.Refused{Index: from, Err: err})
			}
		}
		if w.n == 0 {
			continue
		}
		err := s.call(ctx, func(ctx context.Context) error {
			args := []any{w.keep(), versionSuffix, int64((s.ttl + time.Millisecond - 1) / time.Millisecond), w.bytes()}
			cmd := keepScript.EvalSha(ctx, s.client, w.keys, args...)
			if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
				cmd = keepScript.Eval(ctx, s.client, w.keys, args...)
			}
			return cmd.Err()
		})
		if err != nil {
			return s.failed(ctx, "send to", err)
		}
	}
	return bus.Refuse(refused)
}

// call runs f with a deadline and returns when ctx or the sender has ended,
// which the client by itself notices only at its deadline.
func (s *Sender) call(ctx context.Context, f func(ctx context.Context) error) error {
	if err := s.ready(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return s.errClosed()
	}
	s.running.Add(1)
	s.mu.Unlock()
	ended := make(chan error, 1)
	go func() {
		defer s.running.Done()
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		defer cancel()
		ended <- f(ctx)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.done:
		return s.errClosed()
	}
}

func (s *Sender) ready(ctx context.Context) error {
	select {
	case <-s.done:
		return s.errClosed()
	default:
		return ctx.Err()
	}
}

// Close implements bus.Sender.
func (s *Sender) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	s.mu.Unlock()
	_ = s.client.Close() // ends what calls wait for
	s.running.Wait()
	return nil
}

func (s *Sender) errClosed() error {
	return errkind.Errorf(errkind.Closed, "%s: the sender is closed", s.where)
}

// failed gives an error of a call its kind. What the caller's own context ended
// keeps the context's error.
func (s *Sender) failed(ctx context.Context, doing string, err error) error {
	select {
	case <-s.done:
		return s.errClosed()
	default:
	}
	if at, ok := ctx.Deadline(); ok && !time.Now().Before(at) {
		return context.DeadlineExceeded
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errkind.Errorf(kindOf(err), "%s %s: %w", doing, s.where, err)
}
