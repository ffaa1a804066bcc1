package httpjson

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/tensors"
	"github.com/freshet-io/freshet/inference/internal/web"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Options is what a driver is opened with.
type Options struct {
	// Settings are the pipeline's options; see the package's comment.
	Settings map[string]any
	// Inputs are the model's inputs, by which templates name them: Shape nil for
	// one value a row. A body needs at least one.
	Inputs []inference.Signature
	Logger *slog.Logger
	// Env looks up the environment, for secrets.
	Env func(string) (string, bool)
}

// Driver is one model of one server.
type Driver struct {
	meta   inference.Metadata
	c      *config
	body   *body
	client *web.Client
	gate   *tensors.Gate
	url    string
	auth   func(*http.Request)
	spare  sync.Pool    // *bytes.Buffer, for answers
	size   atomic.Int64 // of the last request, in bytes
}

// keepBytes is the size above which the memory of an answer is not kept for the next.
const keepBytes = 4 << 20

var _ inference.Driver = (*Driver)(nil)

// Open reads the settings and asks the server once; see the package's comment.
// Config: the URL, the settings, the credentials or the certificate are wrong, or
// nothing there speaks HTTP. Transient: nobody listens.
func Open(ctx context.Context, url string, o Options) (*Driver, error) {
	e, err := endpoint.Parse(url, o.Env, "https")
	if err != nil {
		return nil, fmt.Errorf("open model over HTTP: %w", err)
	}
	where := e.String()
	token, err := e.Secret("token", o.Env)
	if err != nil {
		return nil, err
	}
	if err := e.Done(); err != nil {
		return nil, err
	}
	switch {
	case e.Scheme != "http" && e.Scheme != "https" || len(e.Hosts) != 1:
		return nil, errkind.Errorf(errkind.Config, "open model %s: expected http://host:port/path or https://, with one host", where)
	case len(o.Inputs) == 0:
		return nil, errkind.Errorf(errkind.Config, "open model %s: the step names no inputs, which the request is made of", where)
	}
	c, err := readSettings("options of "+where, o)
	if err != nil {
		return nil, err
	}
	d := &Driver{c: c}
	if d.body, err = newBody(c, o.Inputs); err != nil {
		return nil, errkind.Errorf(errkind.Config, "options of %s: %w", where, err)
	}
	scheme := "http"
	if e.TLS() != nil {
		scheme = "https"
	}
	base := scheme + "://" + e.Hosts[0]
	d.url = base + "/" + e.Path
	if c.path != "" {
		d.url = base + "/" + strings.TrimPrefix(c.path, "/")
	}
	d.auth = func(r *http.Request) {
		switch {
		case token != "":
			r.Header.Set("Authorization", "Bearer "+token)
		case e.User != "" || e.Password != "":
			r.SetBasicAuth(e.User, e.Password)
		}
	}
	d.meta = inference.Metadata{
		Name: c.name, Version: c.version, Format: "httpjson", Producer: where, MaxBatch: c.batch,
		Inputs: slices.Clone(o.Inputs),
	}
	if d.meta.Name == "" {
		d.meta.Name = e.Hosts[0] + "/" + e.Path
	}
	for _, a := range c.answers {
		d.meta.Outputs = append(d.meta.Outputs, a.sig)
	}
	d.client = web.New(web.Config{Where: "model " + where, TLS: e.TLS(), Connections: c.slots, MaxAnswer: int64(c.maxAnswer)})
	d.gate = tensors.NewGate(d.meta.Name, c.slots)
	if err := d.ask(ctx, base); err != nil {
		d.client.Close()
		return nil, err
	}
	return d, nil
}

// ask finds out whether a server of HTTP is there that takes the credentials.
func (d *Driver) ask(ctx context.Context, base string) error {
	ctx, cancel := context.WithTimeout(ctx, d.c.timeout)
	defer cancel()
	method, url := http.MethodHead, d.url
	if d.c.ready != "" {
		method, url = http.MethodGet, base+"/"+strings.TrimPrefix(d.c.ready, "/")
	}
	req, err := d.request(ctx, method, url, nil)
	if err != nil {
		return err
	}
	resp, err := d.client.Send(req)
	if err == nil {
		return resp.Body.Close()
	}
	var status *web.StatusError
	if errors.As(err, &status) {
		if d.c.ready == "" && status.Code != http.StatusUnauthorized && status.Code != http.StatusForbidden {
			return nil // it speaks HTTP, and need not take HEAD
		}
	} else if errkind.Is(err, errkind.Permanent) {
		return errkind.With(errkind.Config, err) // no HTTP
	}
	return err
}

func (d *Driver) request(ctx context.Context, method, url string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, d.client.Errorf(errkind.Config, "the URL or path cannot be used: %s", endpoint.Redact(url))
	}
	for name, values := range d.c.headers {
		req.Header[name] = values
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	d.auth(req)
	return req, nil
}

// Metadata implements inference.Driver.
func (d *Driver) Metadata() inference.Metadata { return d.meta }

// Concurrency implements inference.Driver.
func (d *Driver) Concurrency() int { return d.c.slots }

// Close implements inference.Driver.
func (d *Driver) Close() error {
	if d.gate.Close() {
		d.client.Close()
	}
	return nil
}

// Infer implements inference.Driver, by one request.
func (d *Driver) Infer(ctx context.Context, in, out []inference.Tensor) error {
	if err := d.gate.Enter(ctx); err != nil {
		return err
	}
	defer d.gate.Leave()
	n, err := tensors.Check(&d.meta, in, out)
	if err != nil {
		return err
	}
	if n == 0 {
		for i := range out {
			tensors.Make(&out[i], &d.meta.Outputs[i], 0)
		}
		return nil
	}
	// Of its own for each call: the client may read it for a moment after the answer.
	request := bytes.NewBuffer(make([]byte, 0, d.size.Load()))
	if err := d.body.write(request, in, n); err != nil {
		return d.client.Errorf(errkind.Of(err), "%w", err)
	}
	d.size.Store(int64(request.Len()))
	answer, _ := d.spare.Get().(*bytes.Buffer)
	if answer == nil {
		answer = new(bytes.Buffer)
	}
	defer func() {
		if answer.Cap() <= keepBytes {
			d.spare.Put(answer)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, d.c.timeout)
	defer cancel()
	req, err := d.request(ctx, d.c.method, d.url, bytes.NewReader(request.Bytes()))
	if err != nil {
		return err
	}
	if err := d.client.Call(req, answer); err != nil {
		return err
	}
	if err := d.c.read(answer.Bytes(), n, out); err != nil {
		return d.client.Errorf(errkind.Permanent, "%w", err)
	}
	return nil
}
