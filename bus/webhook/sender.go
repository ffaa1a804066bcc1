package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/freshet-io/freshet/bus"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Options are what the program gives beside the URL.
type Options struct {
	// Env looks up the environment, for secrets.
	Env func(string) (string, bool)
}

// Sender is a bus.Sender to one endpoint.
type Sender struct {
	where       string // for errors
	target      string // with secrets in its query, perhaps
	header      http.Header
	mode        mode
	batch       int
	concurrency int
	timeout     time.Duration
	origin      string
	secret      []byte // nil where nothing is signed
	tls         *tls.Config
	client      *http.Client
	slots       chan struct{} // requests in flight
	pace        pace

	ctx    context.Context // ends with Close
	end    context.CancelFunc
	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup
}

type mode string

const (
	binary     mode = "binary"
	structured mode = "structured"
	batched    mode = "batched"
)

const (
	maxConcurrency = 1024
	maxRedirects   = 3
	// maxAnswer is how much of an answer is read, so that its connection can be used again.
	maxAnswer = 64 << 10
	// shownAnswer is how much of it an error shows.
	shownAnswer = 120
)

// OpenSender connects to an endpoint, and asks it where origin is set.
func OpenSender(ctx context.Context, raw string, o Options) (*Sender, error) {
	s, host, err := parse(raw, o)
	if err != nil {
		return nil, err
	}
	s.ctx, s.end = context.WithCancel(context.Background())
	s.slots = make(chan struct{}, s.concurrency)
	s.client = &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: s.tls.Clone(), ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: s.concurrency, MaxConnsPerHost: s.concurrency, IdleConnTimeout: 90 * time.Second,
			ResponseHeaderTimeout: s.timeout, TLSHandshakeTimeout: s.timeout,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects || r.Method != via[0].Method || r.URL.Scheme != via[0].URL.Scheme || r.URL.Host != via[0].URL.Host {
				return http.ErrUseLastResponse
			}
			return nil
		},
	}
	if err := s.check(ctx, host); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func parse(raw string, o Options) (s *Sender, host string, err error) {
	e, err := endpoint.Parse(raw, o.Env, "https")
	if err != nil {
		return nil, "", err
	}
	s = &Sender{where: e.String(), tls: e.TLS(), header: http.Header{"User-Agent": {"freshet"}}}
	bad := func(format string, args ...any) (*Sender, string, error) {
		return nil, "", errkind.Errorf(errkind.Config, "%s: "+format, append([]any{e}, args...)...)
	}
	if e.Scheme != "http" && e.Scheme != "https" || len(e.Hosts) != 1 {
		return bad("expected https://host/path, or http")
	}
	scheme, port := "http", "80"
	if s.tls != nil {
		scheme, port = "https", "443"
	}
	target := url.URL{Scheme: scheme, Host: e.Hosts[0], Path: "/" + e.Path}
	if host = e.Hosts[0]; target.Port() == "" {
		host = net.JoinHostPort(target.Hostname(), port)
	}
	secrets := map[string]string{}
	for _, name := range []string{"token", "secret", "header", "query"} {
		if secrets[name], err = e.Secret(name, o.Env); err != nil {
			return nil, "", err
		}
	}
	target.RawQuery = strings.TrimPrefix(secrets["query"], "?")
	s.target = target.String()
	if s.secret, err = readSecret(secrets["secret"]); err != nil {
		return bad("option secret: %w", err)
	}
	switch {
	case secrets["token"] != "":
		s.header.Set("Authorization", "Bearer "+secrets["token"])
	case e.User != "":
		r := http.Request{Header: s.header}
		r.SetBasicAuth(e.User, e.Password)
	}
	if h := secrets["header"]; h != "" {
		name, value, ok := strings.Cut(h, ":")
		if !ok || name == "" {
			return bad("option header: expected the form NAME: VALUE")
		}
		s.header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	switch s.mode = mode(e.Option("mode", string(binary))); s.mode {
	case binary, structured, batched:
	default:
		return bad("option mode=%s: expected binary, structured or batched", s.mode)
	}
	if s.batch, err = e.Int("batch", 100, 1); err != nil {
		return nil, "", err
	}
	if s.concurrency, err = e.Int("concurrency", 8, 1); err != nil {
		return nil, "", err
	}
	if s.concurrency > maxConcurrency {
		return bad("option concurrency: expected at most %d", maxConcurrency)
	}
	if s.timeout, err = e.Duration("timeout", 10*time.Second); err != nil {
		return nil, "", err
	}
	s.origin = e.Option("origin", "")
	return s, host, e.Done()
}

// check finds out whether the endpoint is there, and wants events.
func (s *Sender) check(ctx context.Context, host string) error {
	if s.origin != "" {
		return s.handshake(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var conn net.Conn
	var err error
	if s.tls != nil {
		conn, err = (&tls.Dialer{Config: s.tls.Clone()}).DialContext(ctx, "tcp", host)
	} else {
		conn, err = (&net.Dialer{}).DialContext(ctx, "tcp", host)
	}
	if err != nil {
		return s.failed("connect to", err)
	}
	_ = conn.Close()
	return nil
}

// handshake asks for the permission to send, as CloudEvents' webhooks demand.
func (s *Sender) handshake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodOptions, s.target, nil)
	if err != nil {
		return errkind.Errorf(errkind.Config, "%s: the URL makes no request", s.where)
	}
	r.Header = s.header.Clone()
	r.Header.Set("WebHook-Request-Origin", s.origin)
	answer, err := s.client.Do(r)
	if err != nil {
		return s.failed("ask", err)
	}
	_, _ = io.CopyN(io.Discard, answer.Body, maxAnswer)
	_ = answer.Body.Close()
	if k := kindOfStatus(answer.StatusCode); answer.StatusCode/100 != 2 && k.Retryable() {
		return errkind.Errorf(k, "ask %s for permission to send: it answers %s", s.where, answer.Status)
	}
	if allowed := answer.Header.Get("WebHook-Allowed-Origin"); allowed != "*" && !strings.EqualFold(allowed, s.origin) || answer.StatusCode/100 != 2 {
		return errkind.Errorf(errkind.Config, "ask %s for permission to send: it answers %s and allows the origin %q, not %q", s.where, answer.Status, allowed, s.origin)
	}
	if rate, err := strconv.Atoi(answer.Header.Get("WebHook-Allowed-Rate")); err == nil && rate > 0 {
		s.pace.every = time.Minute / time.Duration(rate)
	}
	return nil
}

func (s *Sender) closedError() error {
	return errkind.Errorf(errkind.Closed, "send to %s: the sender is closed", s.where)
}

// failed gives a kind to an error of the network, and takes the URL out of it.
func (s *Sender) failed(verb string, err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	kind := endpoint.NetworkKind(err)
	if kind == errkind.Unknown {
		kind = errkind.Transient
		if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
			kind = errkind.Config
		}
	}
	return errkind.Errorf(kind, "%s %s: %w", verb, s.where, err)
}

// Send implements bus.Sender.
func (s *Sender) Send(caller context.Context, b bus.Batch) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return s.closedError()
	}
	s.calls.Add(1)
	s.mu.Unlock()
	defer s.calls.Done()
	if err := caller.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(caller)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	err := s.sendLanes(ctx, cancel, &b)
	var refused *bus.RefusedError
	switch {
	case err == nil, errors.As(err, &refused):
		return err
	case caller.Err() != nil:
		return caller.Err()
	case s.ctx.Err() != nil:
		return s.closedError()
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
	s.calls.Wait()
	s.client.CloseIdleConnections()
	return nil
}

// kindOfStatus sorts the answers that are no success; Invalid means that the event is refused.
func kindOfStatus(status int) errkind.Kind {
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return errkind.Throttled
	case http.StatusRequestTimeout, http.StatusTooEarly:
		return errkind.Transient
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired, http.StatusMethodNotAllowed:
		return errkind.Config
	case http.StatusNotFound:
		return errkind.NotFound
	case http.StatusGone:
		return errkind.Permanent
	}
	switch status / 100 {
	case 3:
		return errkind.Config
	case 4:
		return errkind.Invalid
	}
	return errkind.Transient
}

// describe says what an endpoint answered.
func describe(answer *http.Response, body []byte) string {
	text := fmt.Sprintf("the endpoint answers %s", answer.Status)
	if answer.StatusCode/100 == 3 {
		if to, err := answer.Location(); err == nil {
			text += " to " + endpoint.Redact(to.String()) + ", which is not followed"
		}
	}
	if len(body) > shownAnswer {
		body = body[:shownAnswer]
	}
	if len(body) > 0 && answer.StatusCode/100 == 4 {
		text += fmt.Sprintf(": %q", body)
	}
	return text
}
