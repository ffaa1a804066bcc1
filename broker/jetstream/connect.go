package jetstream

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

const (
	defaultTimeout = 10 * time.Second
	defaultSession = 10 * time.Second
	reconnectWait  = 200 * time.Millisecond
	defaultPort    = "4222"
)

// config is what a URL says.
type config struct {
	servers  []string
	options  []nats.Option
	api      string
	domain   string
	prefix   string
	timeout  time.Duration
	session  time.Duration
	replicas int
}

func readConfig(e *endpoint.Endpoint, env func(string) (string, bool)) (*config, error) {
	c := &config{api: "$JS.API."}
	if len(e.Hosts) == 0 {
		return nil, errkind.Errorf(errkind.Config, "%s: the URL names no host", e)
	}
	if e.Path != "" {
		return nil, errkind.Errorf(errkind.Config, "%s: a NATS URL has no path", e)
	}
	for _, h := range e.Hosts {
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(strings.Trim(h, "[]"), defaultPort)
		}
		c.servers = append(c.servers, "nats://"+h)
	}
	var err error
	if c.timeout, err = e.Duration("timeout", defaultTimeout); err != nil {
		return nil, err
	}
	if c.session, err = e.Duration("session", defaultSession); err != nil {
		return nil, err
	}
	if c.replicas, err = e.Int("replicas", 0, 1); err != nil {
		return nil, err
	}
	c.domain, c.prefix = e.Option("domain", ""), e.Option("api_prefix", "")
	switch {
	case c.domain != "" && c.prefix != "":
		return nil, errkind.Errorf(errkind.Config, "%s: options domain and api_prefix exclude each other", e)
	case c.domain != "":
		c.api = "$JS." + c.domain + ".API."
	case c.prefix != "":
		c.api = strings.TrimSuffix(c.prefix, ".") + "."
	}
	if inbox := e.Option("inbox_prefix", ""); inbox != "" {
		c.options = append(c.options, nats.CustomInboxPrefix(inbox))
	}
	auth, err := readAuth(e, env)
	if err != nil {
		return nil, err
	}
	c.options = append(c.options, auth...)
	if t := e.TLS(); t != nil {
		c.options = append(c.options, nats.Secure(t))
		if e.Option("tls_first", "false") == "true" {
			c.options = append(c.options, nats.TLSHandshakeFirst())
		}
	}
	return c, e.Done()
}

// readAuth takes who we are: user and password, a token, an NKey or credentials.
func readAuth(e *endpoint.Endpoint, env func(string) (string, bool)) ([]nats.Option, error) {
	token, err := e.Secret("token", env)
	if err != nil {
		return nil, err
	}
	creds, nkey := e.Option("creds", ""), e.Option("nkey", "")
	ways := 0
	for _, given := range []bool{e.User != "" || e.Password != "", token != "", creds != "", nkey != ""} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		return nil, errkind.Errorf(errkind.Config, "%s: give one of user and password, token_file or token_env, creds and nkey", e)
	}
	switch {
	case token != "":
		return []nats.Option{nats.Token(token)}, nil
	case creds != "":
		if _, err := os.Stat(creds); err != nil {
			return nil, errkind.Errorf(errkind.Config, "%s: option creds: %w", e, err)
		}
		return []nats.Option{nats.UserCredentials(creds)}, nil
	case nkey != "":
		opt, err := readNKey(nkey)
		if err != nil {
			return nil, errkind.Errorf(errkind.Config, "%s: option nkey: %w", e, err)
		}
		return []nats.Option{opt}, nil
	case e.User != "" && e.Password == "": // as NATS URLs have it
		return []nats.Option{nats.Token(e.User)}, nil
	case e.User != "":
		return []nats.Option{nats.UserInfo(e.User, e.Password)}, nil
	}
	return nil, nil
}

// readNKey reads the seed of a user from a file, and signs with it.
func readNKey(file string) (nats.Option, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pair, err := nkeys.ParseDecoratedNKey(b)
	if err != nil {
		return nil, errkind.New(errkind.Config, "the file holds no seed of a user (SU…)")
	}
	public, err := pair.PublicKey()
	if err != nil || !nkeys.IsValidPublicUserKey(public) {
		return nil, errkind.New(errkind.Config, "the file holds no seed of a user (SU…)")
	}
	return nats.Nkey(public, pair.Sign), nil
}

// connect dials once; a connection that is lost later comes back by itself.
func (d *Driver) connect(ctx context.Context, c *config) error {
	options := slices.Concat(c.options, []nats.Option{
		nats.Name("freshet"),
		nats.Timeout(d.timeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectWait/2, reconnectWait),
		// What was not sent when the connection broke must not be sent later,
		// behind what its caller has repeated meanwhile.
		nats.ReconnectBufSize(-1),
		nats.IgnoreAuthErrorAbort(),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			d.lost()
			if err != nil {
				d.log.Warn("connection lost", "broker", d.where, "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			d.log.Info("connected again", "broker", d.where, "server", nc.ConnectedServerName())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			d.log.Warn("the server complains", "broker", d.where, "error", err)
		}),
	})
	type outcome struct {
		nc  *nats.Conn
		err error
	}
	dialled := make(chan outcome, 1)
	go func() {
		nc, err := nats.Connect(strings.Join(c.servers, ","), options...)
		dialled <- outcome{nc, err}
	}()
	select {
	case o := <-dialled:
		if o.err != nil {
			return d.failed("open", o.err)
		}
		d.nc = o.nc
	case <-ctx.Done():
		go func() { // ends with the dial's own timeout
			if o := <-dialled; o.nc != nil {
				o.nc.Close()
			}
		}()
		return ctx.Err()
	}
	var err error
	switch {
	case c.domain != "":
		d.js, err = jetstream.NewWithDomain(d.nc, c.domain)
	case c.prefix != "":
		d.js, err = jetstream.NewWithAPIPrefix(d.nc, strings.TrimSuffix(c.prefix, "."))
	default:
		d.js, err = jetstream.New(d.nc)
	}
	if err != nil {
		d.nc.Close()
		return errkind.Errorf(errkind.Config, "open %s: %w", d.where, err)
	}
	return nil
}
