package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/actuator"
)

const callTimeout = 10 * time.Second

// Driver orders the capacity of a pipeline in another process.
type Driver struct {
	url    string
	token  string
	client *http.Client
	caps   actuator.Capabilities
	closed atomic.Bool
}

// Open reads http://host:port or https://…, where freshet run listens, with the options of every URL; the
// password is the bearer token. It asks once, so that a wrong address, token or name is found at once.
func Open(ctx context.Context, raw, pipeline string, env func(string) (string, bool)) (*Driver, error) {
	e, err := endpoint.Parse(raw, env, "https")
	if err != nil {
		return nil, err
	}
	if err := e.Done(); err != nil {
		return nil, err
	}
	if len(e.Hosts) != 1 || e.Scheme != "http" && e.Scheme != "https" {
		return nil, errkind.Errorf(errkind.Config, "act on %s: expected http://HOST:PORT, the address at which freshet run listens", e)
	}
	scheme, transport := "http", http.DefaultTransport.(*http.Transport).Clone()
	if transport.TLSClientConfig = e.TLS(); transport.TLSClientConfig != nil {
		scheme = "https"
	}
	d := &Driver{
		url: scheme + "://" + e.Hosts[0] + "/pipelines/" + url.PathEscape(pipeline) + "/capacity", token: e.Password,
		client: &http.Client{Transport: transport, Timeout: callTimeout},
		caps:   actuator.Capabilities{Workers: true, Batch: true, Expires: true, Ready: true},
	}
	c, err := d.call(ctx, http.MethodGet, nil)
	if err != nil {
		return nil, err
	}
	d.caps.Route = c.Fallback
	return d, nil
}

// document is the body of requests and answers, as docs/http-api.md has it.
type document struct {
	Workers   int        `json:"workers"`
	Most      int        `json:"most,omitempty"`
	Batch     int        `json:"batch,omitempty"`
	MostBatch int        `json:"most_batch,omitempty"`
	Route     route      `json:"route"`
	Fallback  bool       `json:"has_fallback,omitempty"`
	Ordered   bool       `json:"ordered,omitempty"`
	Expires   *time.Time `json:"expires,omitempty"`
}

type route struct {
	To    string  `json:"to,omitempty"`
	Share float64 `json:"share,omitempty"`
}

// Status implements actuator.Driver.
func (d *Driver) Status(ctx context.Context) (actuator.Status, error) {
	c, err := d.call(ctx, http.MethodGet, nil)
	if err != nil {
		return actuator.Status{}, err
	}
	s := actuator.Status{Workers: c.Workers, Ready: c.Workers, Batch: c.Batch, Most: c.Most, MostBatch: c.MostBatch, Route: orchestrator.Route(c.Route), Ours: c.Ordered}
	if c.Expires != nil {
		s.Expires = *c.Expires
	}
	return s, nil
}

// Apply implements actuator.Driver.
func (d *Driver) Apply(ctx context.Context, o orchestrator.Orders, expires time.Time) error {
	_, err := d.call(ctx, http.MethodPut, &document{Workers: o.Workers, Batch: o.Batch, Route: route(o.Route), Expires: &expires})
	return err
}

// Revert implements actuator.Driver.
func (d *Driver) Revert(ctx context.Context) error {
	_, err := d.call(ctx, http.MethodDelete, nil)
	return err
}

// Capabilities implements actuator.Driver.
func (d *Driver) Capabilities() actuator.Capabilities { return d.caps }

// Close lets go of connections.
func (d *Driver) Close() error {
	d.closed.Store(true)
	d.client.CloseIdleConnections()
	return nil
}

func (d *Driver) call(ctx context.Context, method string, body *document) (document, error) {
	var c document
	if d.closed.Load() {
		return c, errkind.New(errkind.Closed, "the actuator is closed")
	}
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return c, errkind.Errorf(errkind.Invalid, "order capacity: %w", err) // NaN
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.url, in)
	if err != nil {
		return c, errkind.Errorf(errkind.Config, "%s %s: %w", method, d.url, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return c, errkind.Errorf(endpoint.NetworkKind(err), "order capacity: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return c, errkind.Errorf(errkind.Transient, "order capacity: read the answer of %s: %w", d.url, err)
	}
	if resp.StatusCode != http.StatusOK {
		return c, refusal(d.url, resp, text)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, errkind.Errorf(errkind.Permanent, "order capacity: the answer of %s is not that of freshet run: %w", d.url, err)
	}
	return c, nil
}

// refusal is the error that an answer tells of.
func refusal(url string, resp *http.Response, text []byte) error {
	var p struct{ Detail, Kind string }
	if json.Unmarshal(text, &p) != nil || p.Detail == "" {
		p.Detail = fmt.Sprintf("it answers %s", resp.Status)
	}
	kind := errkind.Permanent
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		kind = errkind.Config
		p.Detail += ": give the token with password_env or password_file in the URL"
	case code == http.StatusNotFound:
		kind = errkind.NotFound
	case code == http.StatusConflict:
		kind = errkind.Conflict
	case code == http.StatusNotImplemented:
		kind = errkind.Unsupported
	case code == http.StatusTooManyRequests:
		kind = errkind.Throttled
	case code == http.StatusBadRequest:
		kind = errkind.Invalid
	case code >= 500:
		kind = errkind.Transient
	}
	return errkind.Errorf(kind, "order capacity at %s: %s", url, p.Detail)
}
