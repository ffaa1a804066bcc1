package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/tensors"
	"github.com/freshet-io/freshet/inference/internal/web"
	"github.com/freshet-io/freshet/internal/endpoint"
	"github.com/freshet-io/freshet/internal/spell"
)

// recallBatches bounds what recall keeps, in batches.
const recallBatches = 8

// Open reads the settings and asks the server for its models; see the package's
// comment. Config: the URL, the settings, the key or the certificate are wrong.
// NotFound: the server has no such model. Transient: nobody listens.
func Open(ctx context.Context, url string, o Options) (*Driver, error) {
	e, err := endpoint.Parse(url, o.Env)
	if err != nil {
		return nil, fmt.Errorf("open model of an OpenAI-compatible server: %w", err)
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
	case e.Scheme != "openai" || len(e.Hosts) != 1:
		return nil, errkind.Errorf(errkind.Config, "open model %s: expected openai://host:port/v1 or openai+tls://, with one host", where)
	case e.User != "" || e.Password != "":
		return nil, errkind.Errorf(errkind.Config, "open model %s: a key goes into the environment: token_env=NAME", where)
	case len(o.Inputs) == 0:
		return nil, errkind.Errorf(errkind.Config, "open model %s: the step names no inputs, which the prompt is made of", where)
	}
	c, err := readSettings("options of "+where, o.Settings)
	if err != nil {
		return nil, err
	}
	scheme := "http://"
	if e.TLS() != nil {
		scheme = "https://"
	}
	d := &Driver{
		c: c, token: token, base: strings.TrimSuffix(scheme+e.Hosts[0]+"/"+e.Path, "/"),
		client: web.New(web.Config{Where: where, TLS: e.TLS(), Connections: c.slots, MaxAnswer: int64(c.maxAnswer)}),
		calls:  make(chan struct{}, c.slots),
	}
	d.perByte.Store(math.Float64bits(1.0 / 3))
	d.recall.limit = recallBatches * c.batch
	d.meta = inference.Metadata{Name: c.model, Inputs: slices.Clone(o.Inputs), MaxBatch: c.batch, Format: "openai-" + c.api, Producer: where}
	if err := d.tryPrompt(); err != nil {
		return nil, errkind.Errorf(errkind.Config, "options of %s: %w", where, err)
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if err := d.findModel(ctx); err != nil {
		d.client.Close()
		return nil, err
	}
	d.meta.Name = c.model
	if d.meta.Version = c.version; c.version == "" {
		d.meta.Version = c.model
	}
	d.gate = tensors.NewGate(d.meta.Name, c.slots)
	d.pacer = pacer{wait: c.wait, closing: d.gate.Closing(), tokens: window{limit: c.tokensPerMinute}, cost: window{limit: c.costPerMinute}}
	if err := d.outputs(ctx); err != nil {
		d.client.Close()
		return nil, err
	}
	return d, nil
}

// outputs are named by the API, and an embedding's width is asked for where it is not known.
func (d *Driver) outputs(ctx context.Context) error {
	c := d.c
	switch {
	case c.schema != nil:
		d.meta.Outputs = c.schema.outputs
		return nil
	case c.api != embeddings:
		d.meta.Outputs = []inference.Signature{{Name: "text", Type: inference.String}}
		return nil
	case c.width == 0:
		vectors, err := d.vectors(ctx, []string{"width"})
		if err != nil {
			return fmt.Errorf("ask for the width of embeddings: %w", err)
		}
		if c.width = len(vectors[0]); c.width > maxWidth {
			return d.client.Errorf(errkind.Unsupported, "an embedding has %d numbers, more than %d", c.width, maxWidth)
		}
	}
	d.meta.Outputs = []inference.Signature{{Name: "embedding", Type: inference.Float32, Shape: []int{c.width}}}
	return nil
}

func (d *Driver) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, d.base+path, r)
	if err != nil {
		return nil, d.client.Errorf(errkind.Config, "the URL cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	if d.token != "" {
		req.Header.Set("Authorization", "Bearer "+d.token)
	}
	return req, nil
}

// findModel asks for the server's models and finds the one that is named, or the only
// one. A server that has no list is believed.
func (d *Driver) findModel(ctx context.Context) error {
	req, err := d.request(ctx, http.MethodGet, "/models", nil)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	err = d.client.Call(req, &buf)
	var status *web.StatusError
	switch {
	case errors.As(err, &status) && (status.Code == http.StatusNotFound || status.Code == http.StatusMethodNotAllowed || status.Code == http.StatusNotImplemented):
		if d.c.model == "" {
			return d.client.Errorf(errkind.Config, "the server does not list its models: name one with the option model")
		}
		return nil
	case err != nil && status == nil && errkind.Is(err, errkind.Permanent):
		return errkind.With(errkind.Config, err) // no HTTP, or nothing that ends
	case err != nil:
		return err
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(buf.Bytes(), &list); err != nil {
		return d.client.Errorf(errkind.Config, "the list of models is none, so that this is no OpenAI-compatible server: %s", web.Shown(buf.Bytes()))
	}
	var ids []string
	for _, m := range list.Data {
		ids = append(ids, m.ID)
	}
	shown := web.Shown([]byte(strings.Join(ids, ", ")))
	switch {
	case d.c.model == "" && len(ids) == 1:
		d.c.model = ids[0]
	case d.c.model == "":
		return d.client.Errorf(errkind.Config, "name one of the server's models with the option model: %s", shown)
	case len(ids) > 0 && !slices.ContainsFunc(ids, func(id string) bool { return id == d.c.model || strings.HasPrefix(id, d.c.model+":") }):
		hint := "it has " + shown
		if near := spell.Nearest(d.c.model, ids); near != "" {
			hint = fmt.Sprintf("did you mean %q?", near)
		}
		return d.client.Errorf(errkind.NotFound, "the server has no model %q; %s", d.c.model, hint)
	}
	return nil
}
