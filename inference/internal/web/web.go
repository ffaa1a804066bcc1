// Package web is how adapters of servers behind HTTP talk to them: with bounded
// answers, no redirects, kept connections, and errors of a kind.
package web

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/internal/endpoint"
)

const (
	// maxReason bounds what is read of an answer that is an error.
	maxReason = 4 << 10
	// maxShown bounds, in bytes, what an error shows of an answer.
	maxShown = 200
	// maxPause bounds the pause that a server may ask for.
	maxPause = time.Hour
	// maxHeader bounds the head of an answer.
	maxHeader = 64 << 10

	dialTimeout = 5 * time.Second
)

// Config is how to reach a server.
type Config struct {
	// Where names the server in errors, without secrets.
	Where string
	// TLS is nil for a plain connection.
	TLS *tls.Config
	// Connections are kept open for further calls.
	Connections int
	// MaxAnswer bounds an answer in bytes, unpacked.
	MaxAnswer int64
}

// Client talks to one server.
type Client struct {
	c    Config
	http http.Client
}

// New makes a client; it connects with the first call.
func New(c Config) *Client {
	return &Client{c: c, http: http.Client{
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSClientConfig:        c.TLS,
			TLSHandshakeTimeout:    dialTimeout,
			MaxIdleConns:           c.Connections,
			MaxIdleConnsPerHost:    c.Connections,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: maxHeader,
			ForceAttemptHTTP2:      true,
			Proxy:                  http.ProxyFromEnvironment,
		},
		// A redirected POST loses its body or carries the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close gives the idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Send sends a request and returns the answer's head, its body open, where the
// status is 200 to 299. Any other status is an error of Status.
func (c *Client) Send(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.Fault(err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	reason, _ := io.ReadAll(io.LimitReader(resp.Body, maxReason))
	return nil, c.Status(resp, reason)
}

// Call sends a request and reads the whole answer into buf, which it empties first.
func (c *Client) Call(req *http.Request, buf *bytes.Buffer) error {
	resp, err := c.Send(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = c.Body(resp, buf)
	return err
}

// Body reads the whole of an answer into buf, which it empties first.
func (c *Client) Body(resp *http.Response, buf *bytes.Buffer) ([]byte, error) {
	if resp.ContentLength > c.c.MaxAnswer {
		return nil, c.TooLong()
	}
	buf.Reset()
	if _, err := buf.ReadFrom(io.LimitReader(resp.Body, c.c.MaxAnswer+1)); err != nil {
		return nil, c.Fault(err)
	}
	if int64(buf.Len()) > c.c.MaxAnswer {
		return nil, c.TooLong()
	}
	return buf.Bytes(), nil
}

// TooLong is the error of an answer beyond MaxAnswer.
func (c *Client) TooLong() error {
	return c.Errorf(errkind.Permanent, "the answer is longer than %d bytes", c.c.MaxAnswer)
}

// Errorf is an error that begins with the server.
func (c *Client) Errorf(kind errkind.Kind, format string, args ...any) error {
	return errkind.Errorf(kind, "%s: %w", c.c.Where, fmt.Errorf(format, args...))
}

// Fault gives what happened on the way a kind, and leaves the URL out.
func (c *Client) Fault(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	kind := endpoint.NetworkKind(err)
	switch {
	case kind != errkind.Unknown:
	case lost(err.Error()):
		kind = errkind.Transient
	default:
		// What is left is no network's fault: an answer that is no HTTP, or too long a head.
		kind = errkind.Permanent
	}
	return c.Errorf(kind, "%w", err)
}

// lost says whether a connection went away: net/http has errors for that which are texts alone.
func lost(text string) bool {
	for _, sign := range []string{"server closed idle connection", "http2: client connection lost", "http2: server sent GOAWAY", "stream error: stream ID"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// Status is the error of an answer that is not 200 to 299: Invalid where the rows
// are at fault (400, 413, 422), Config where the call is not allowed (401, 403), NotFound
// for 404, Throttled for 429, Transient for what may pass (408, 425, 5xx), else
// Permanent. The pause that the server asks for goes with it.
func (c *Client) Status(resp *http.Response, reason []byte) error {
	kind := errkind.Permanent
	switch code := resp.StatusCode; {
	case code == http.StatusBadRequest, code == http.StatusRequestEntityTooLarge, code == http.StatusUnprocessableEntity:
		kind = errkind.Invalid
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		kind = errkind.Config
	case code == http.StatusNotFound:
		kind = errkind.NotFound
	case code == http.StatusTooManyRequests:
		kind = errkind.Throttled
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly,
		code >= 500 && code != http.StatusNotImplemented && code != http.StatusHTTPVersionNotSupported:
		kind = errkind.Transient
	}
	text := Shown(reason)
	if code := resp.StatusCode; code >= 300 && code < 400 {
		text = "it sends elsewhere" + elsewhere(resp.Header.Get("Location")) + ": use the final URL"
	}
	err := c.Errorf(kind, "%w", &StatusError{resp.StatusCode, text, reason})
	if kind.Retryable() {
		return inference.RetryAfterError(err, RetryAfter(resp.Header, time.Now()))
	}
	return err
}

// elsewhere shows where a redirect leads, without what may be secret.
func elsewhere(location string) string {
	u, err := url.Parse(location)
	if err != nil || location == "" {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return ", to " + Shown([]byte(u.String()))
}

// StatusError is an answer that is none, with the beginning of what it says, as it is
// shown and as it came.
type StatusError struct {
	Code   int
	Reason string
	Body   []byte
}

func (e *StatusError) Error() string { return fmt.Sprintf("HTTP status %d: %s", e.Code, e.Reason) }

// RetryAfter is the pause that a server asks for, by Retry-After (seconds or a
// date) or retry-after-ms; 0 for none, an hour at most.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return time.Duration(min(ms*1e6, float64(maxPause)))
	}
	v := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(v, 64); err == nil {
		if s > 0 {
			return time.Duration(min(s*1e9, float64(maxPause)))
		}
		return 0
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, min(at.Sub(now), maxPause))
	}
	return 0
}

// Shown is the beginning of an answer as errors show it: on one line.
func Shown(b []byte) string {
	cut := len(b) > maxShown
	if cut {
		b = b[:maxShown]
	}
	text := strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\r', r == '\t':
			return ' '
		case r == utf8.RuneError, !unicode.IsPrint(r):
			return -1
		}
		return r
	}, string(b))
	if text = strings.TrimSpace(text); text == "" {
		return "nothing"
	}
	if cut {
		text += "…"
	}
	return text
}
