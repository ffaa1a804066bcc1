package rabbitmq

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Options are what the program gives beside the URL.
type Options struct {
	// Logger hears of lost connections; nil is silent.
	Logger *slog.Logger
	// Env looks up the environment, for secrets.
	Env func(string) (string, bool)
}

// settings are what a URL says.
type settings struct {
	where                 string // for errors
	hosts                 []string
	vhost, user, password string
	external              bool
	tls                   *tls.Config
	timeout               time.Duration
	queue, declare        string
	exchange, routingKey  string
	maxBytes              int
	log                   *slog.Logger
	met                   atomic.Bool // a connection was open once
}

func parse(raw string, o Options, receive bool) (*settings, error) {
	e, err := endpoint.Parse(raw, o.Env, "amqps")
	if err != nil {
		return nil, err
	}
	s := &settings{where: e.String(), user: e.User, password: e.Password, tls: e.TLS(), vhost: e.Path, log: o.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if e.Scheme != "amqp" && e.Scheme != "amqps" || len(e.Hosts) == 0 {
		return nil, errkind.Errorf(errkind.Config, "%s: expected amqp://user:password@host:5672/vhost?queue=…", e)
	}
	if s.vhost == "" {
		s.vhost = "/"
	}
	if v, err := url.PathUnescape(s.vhost); err == nil {
		s.vhost = v
	}
	if s.timeout, err = e.Duration("timeout", 10*time.Second); err != nil {
		return nil, err
	}
	s.queue, s.declare = e.Option("queue", ""), e.Option("declare", "")
	if s.declare != "" && s.declare != "quorum" && s.declare != "classic" {
		return nil, errkind.Errorf(errkind.Config, "%s: option declare=%s: expected quorum or classic", e, s.declare)
	}
	switch m := e.Option("sasl", "plain"); m {
	case "plain":
	case "external":
		s.external = true
	default:
		return nil, errkind.Errorf(errkind.Config, "%s: option sasl=%s: expected plain or external", e, m)
	}
	if s.external && s.tls == nil {
		return nil, errkind.Errorf(errkind.Config, "%s: sasl=external needs TLS and a certificate of the client's", e)
	}
	if !receive {
		s.exchange, s.routingKey = e.Option("exchange", ""), e.Option("routing_key", "")
		if s.maxBytes, err = e.Int("max_bytes", 16<<20, 1); err != nil {
			return nil, err
		}
		if s.exchange == "" && s.queue == "" {
			return nil, errkind.Errorf(errkind.Config, "%s: expected option queue=… or exchange=…", e)
		}
	}
	if err := e.Done(); err != nil {
		return nil, err
	}
	if receive && s.queue == "" || s.declare != "" && s.queue == "" {
		return nil, errkind.Errorf(errkind.Config, "%s: expected option queue=…", e)
	}
	standard := "5672"
	if s.tls != nil {
		standard = "5671"
	}
	for _, h := range e.Hosts {
		if _, _, err := net.SplitHostPort(h); err != nil {
			h = net.JoinHostPort(h, standard)
		}
		s.hosts = append(s.hosts, h)
	}
	return s, nil
}

// impatient is a connection whose writes have a deadline.
type impatient struct {
	net.Conn
	timeout time.Duration
}

func (c impatient) Write(b []byte) (int, error) {
	_ = c.SetWriteDeadline(time.Now().Add(c.timeout))
	return c.Conn.Write(b)
}

// connect opens a connection to the first host that answers.
func (s *settings) connect(ctx context.Context) (*amqp.Connection, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var err error
	for _, h := range s.hosts {
		var c *amqp.Connection
		if c, err = s.dial(ctx, h); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func (s *settings) dial(ctx context.Context, host string) (*amqp.Connection, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	if s.tls != nil {
		c := s.tls.Clone()
		if c.ServerName == "" {
			c.ServerName, _, _ = net.SplitHostPort(host)
		}
		t := tls.Client(nc, c)
		if err := t.HandshakeContext(ctx); err != nil {
			_ = nc.Close()
			return nil, err
		}
		nc = t
	}
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	config := amqp.Config{Vhost: s.vhost, Heartbeat: 10 * time.Second, Locale: "en_US", Properties: amqp.Table{"product": "Freshet", "connection_name": "freshet"}}
	config.SASL = []amqp.Authentication{&amqp.PlainAuth{Username: s.user, Password: s.password}}
	if s.external {
		config.SASL = []amqp.Authentication{&amqp.ExternalAuth{}}
	}
	c, err := amqp.Open(impatient{nc, s.timeout}, config)
	if !stop() && err == nil {
		_ = c.Close()
		err = ctx.Err()
	}
	if err != nil {
		_ = nc.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		// With TLS 1.3 the server refuses a client without a certificate after the
		// handshake, and the reset may overtake the reason.
		if s.tls != nil && len(s.tls.Certificates) == 0 && !s.met.Load() && ctx.Err() == nil && kindOf(err) == errkind.Transient {
			err = errkind.Errorf(errkind.Config, "the server ends the connection after the handshake; if it demands a certificate, give tls_cert and tls_key: %w", err)
		}
		return nil, err
	}
	s.met.Store(true)
	return c, nil
}

// open makes a channel, with the queue where it is to be declared.
func (s *settings) open(c *amqp.Connection) (*amqp.Channel, error) {
	ch, err := c.Channel()
	if err != nil || s.declare == "" {
		return ch, err
	}
	_, err = ch.QueueDeclare(s.queue, true, false, false, false, amqp.Table{"x-queue-type": s.declare})
	return ch, err
}

// failed gives an error its kind.
func (s *settings) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	return errkind.Errorf(kindOf(err), "%s: %s: %w", s.where, what, err)
}

func kindOf(err error) errkind.Kind {
	if k := errkind.Of(err); k != errkind.Unknown {
		return k
	}
	if k := endpoint.NetworkKind(err); k != errkind.Unknown {
		return k
	}
	var a *amqp.Error
	switch {
	case errors.Is(err, amqp.ErrSASL), errors.Is(err, amqp.ErrCredentials), errors.Is(err, amqp.ErrVhost), errors.Is(err, amqp.ErrSyntax):
		return errkind.Config
	case errors.Is(err, amqp.ErrClosed):
		return errkind.Transient
	case errors.As(err, &a):
		switch a.Code {
		case amqp.NotFound:
			return errkind.NotFound
		case amqp.AccessRefused, amqp.NotAllowed, amqp.InvalidPath:
			return errkind.Config
		case amqp.PreconditionFailed:
			if strings.Contains(a.Reason, "message size") {
				return errkind.Invalid
			}
			if strings.Contains(a.Reason, "unknown delivery tag") {
				return errkind.Conflict
			}
			return errkind.Config // a queue that exists otherwise
		}
	}
	return errkind.Transient
}
