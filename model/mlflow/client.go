package mlflow

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/backoff"
	"github.com/freshet-io/freshet/internal/endpoint"
)

const (
	// maxAnswer bounds an answer of the REST API in bytes.
	maxAnswer  = 16 << 20
	maxMessage = 400
)

// client makes requests of one MLflow server.
type client struct {
	base     string // without a trailing slash
	shown    string
	http     *http.Client
	user     string
	password string
	token    string
	timeout  time.Duration
	retry    backoff.Retry
}

// call makes a request of the REST API. Reads are repeated where that may help; a
// write is, too: each of them sets something to a value.
func (c *client) call(ctx context.Context, method, path string, query url.Values, body, answer any) error {
	var payload []byte
	if body != nil {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return err
		}
	}
	return c.repeat(ctx, func() error {
		r, err := c.do(ctx, method, "/api/2.0/mlflow/"+path, query, bytes.NewReader(payload), "application/json")
		if err != nil {
			return err
		}
		defer r.Close()
		b, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
		switch {
		case err != nil:
			return c.network(err)
		case len(b) > maxAnswer:
			return errkind.Errorf(errkind.Permanent, "%s answers more than %d bytes to %s", c.shown, maxAnswer, path)
		case answer == nil:
			return nil
		}
		if err := json.Unmarshal(b, answer); err != nil {
			return errkind.Errorf(errkind.Permanent, "%s answers no JSON to %s: is it an MLflow server? %w", c.shown, path, err)
		}
		return nil
	})
}

func (c *client) repeat(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		kind := errkind.Of(err)
		if err == nil || !kind.Retryable() || n >= c.retry.Attempts || ctx.Err() != nil {
			return err
		}
		if err := pause(ctx, c.retry.Wait(n-1, kind)); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// do makes one request. The answer's body is the caller's to close, within the timeout.
func (c *client) do(ctx context.Context, method, path string, query url.Values, body io.Reader, kind string) (io.ReadCloser, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	target := c.base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		cancel()
		return nil, errkind.Errorf(errkind.Config, "request of %s: %w", c.shown, err)
	}
	if body != nil && method != http.MethodGet {
		req.Header.Set("Content-Type", kind)
	}
	switch {
	case c.token != "":
		req.Header.Set("Authorization", "Bearer "+c.token)
	case c.user != "" || c.password != "":
		req.SetBasicAuth(c.user, c.password)
	}
	res, err := c.http.Do(req)
	if err != nil {
		cancel()
		return nil, c.network(err)
	}
	if res.StatusCode == http.StatusOK {
		return &answerBody{res.Body, cancel}, nil
	}
	defer cancel()
	defer res.Body.Close()
	b, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	return nil, c.refusal(res.StatusCode, path, b)
}

// answerBody ends the request's time with the body.
type answerBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *answerBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}

// network gives an error of the connection its kind, without the URL, whose query may hold much.
func (c *client) network(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	kind := endpoint.NetworkKind(err)
	if kind == errkind.Unknown {
		kind = errkind.Transient
	}
	return errkind.Errorf(kind, "reach MLflow at %s: %w", c.shown, err)
}

func (c *client) refusal(status int, path string, body []byte) error {
	var e struct {
		Code    string `json:"error_code"`
		Message string `json:"message"`
	}
	message := strings.TrimSpace(string(body))
	if json.Unmarshal(body, &e) == nil && e.Message != "" {
		message = e.Code + ": " + e.Message
	}
	if len(message) > maxMessage {
		message = message[:maxMessage] + "…"
	}
	kind := errkind.Permanent
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		kind = errkind.Config
	case status == http.StatusNotFound || e.Code == "RESOURCE_DOES_NOT_EXIST":
		kind = errkind.NotFound
	case status == http.StatusTooManyRequests:
		kind = errkind.Throttled
	case status >= 500:
		kind = errkind.Transient
	case status == http.StatusBadRequest:
		kind = errkind.Invalid
	}
	return errkind.Errorf(kind, "MLflow at %s answers %d to %s: %s", c.shown, status, path, message)
}
