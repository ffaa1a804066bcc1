package pulsar

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// rest talks to the brokers' admin API, with a deadline for each request.
type rest struct {
	base    string // scheme://host:port
	client  *http.Client
	timeout time.Duration
}

// largest is how much of an answer is read, in bytes.
const largest = 64 << 20

// do sends a request to path, below /admin/v2/ unless it begins with a slash, and reads the answer into out.
// The kinds of its errors are those of the port: NotFound, Conflict, Config
// for refused credentials, Transient.
func (r *rest) do(ctx context.Context, method, path string, in, out any) error {
	body, _, err := r.send(ctx, method, path, "application/json", in)
	if err != nil || out == nil || len(body) == 0 {
		return err
	}
	if err := json.Unmarshal(body, out); err != nil {
		return errkind.Errorf(errkind.Config, "%s %s: the answer is not that of a Pulsar broker: %w", method, path, err)
	}
	return nil
}

// create makes a partitioned topic with properties, which has a media type of its own.
func (r *rest) create(ctx context.Context, path string, m metadata) error {
	_, _, err := r.send(ctx, http.MethodPut, path, "application/vnd.partitioned-topic-metadata+json", m)
	return err
}

func (r *rest) send(ctx context.Context, method, path, mediaType string, in any) ([]byte, http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, nil, errkind.With(errkind.Invalid, err)
		}
		body = bytes.NewReader(b)
	}
	if !strings.HasPrefix(path, "/") {
		path = "/admin/v2/" + path
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, body)
	if err != nil {
		return nil, nil, errkind.With(errkind.Config, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		kind := endpoint.NetworkKind(err)
		if kind == errkind.Unknown {
			kind = errkind.Transient
			if strings.Contains(err.Error(), "oauth2") || strings.Contains(err.Error(), "HTTP response to HTTPS") {
				kind = errkind.Config
			}
		}
		return nil, nil, errkind.With(kind, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, largest))
	if err != nil {
		return nil, nil, errkind.With(errkind.Transient, err)
	}
	if resp.StatusCode/100 == 2 {
		return answer, resp.Header, nil
	}
	var reason struct {
		Reason string `json:"reason"`
	}
	_ = json.Unmarshal(answer, &reason)
	kind := statusKind(resp.StatusCode)
	if strings.Contains(reason.Reason, "find owner") {
		kind = errkind.Transient // no broker serves the topic at the moment
	}
	return nil, nil, errkind.Errorf(kind, "%s %s: status %d: %.300s", method, path, resp.StatusCode, reason.Reason)
}

func statusKind(status int) errkind.Kind {
	switch status {
	case http.StatusNotFound:
		return errkind.NotFound
	case http.StatusConflict:
		return errkind.Conflict
	case http.StatusUnauthorized, http.StatusForbidden:
		return errkind.Config
	case http.StatusTooManyRequests:
		return errkind.Throttled
	case http.StatusPreconditionFailed, http.StatusBadRequest, http.StatusNotAcceptable:
		return errkind.Invalid
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return errkind.Unsupported
	}
	return errkind.Transient
}

// path is that of one topic's part of the admin API.
func (d *Driver) path(physical, rest string) string {
	p := "persistent/" + url.PathEscape(d.tenant) + "/" + url.PathEscape(d.namespace)
	if physical != "" {
		p += "/" + url.PathEscape(physical)
	}
	if rest != "" {
		p += "/" + rest
	}
	return p
}

// call is rest.do, which also ends with the driver.
func (d *Driver) call(ctx context.Context, method, path string, in, out any) error {
	ctx, stop := d.scope(ctx)
	defer stop()
	return d.rest.do(ctx, method, path, in, out)
}

func partitionName(topic string, i int) string { return fmt.Sprintf("%s-partition-%d", topic, i) }
