package tfserving

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/settings"
	"github.com/freshet-io/freshet/inference/internal/tensors"
	"github.com/freshet-io/freshet/inference/internal/web"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Options is what a driver is opened with.
type Options struct {
	// Settings are the pipeline's options; see the package's comment.
	Settings map[string]any
	// Inputs is not needed: the server says what the model's inputs are.
	Inputs []inference.Signature
	Logger *slog.Logger
	// Env looks up the environment, for secrets.
	Env func(string) (string, bool)
}

// config is the URL and the settings, read.
type config struct {
	where, model, version, label string
	signature                    string
	inputs, outputs, features    []string
	labels                       map[string][]string
	batch, slots, maxAnswer      int
	timeout                      time.Duration
	host                         string
}

// Driver is one model of one server.
type Driver struct {
	c               *config
	meta            inference.Metadata
	inputs, outputs []port
	single          bool // the signature has one output
	client          *web.Client
	gate            *tensors.Gate
	url             string // of the model
	auth            func(*http.Request)
	spare           sync.Pool    // *bytes.Buffer, for answers
	size            atomic.Int64 // of the last request, in bytes
}

// keepBytes is the size above which the memory of an answer is not kept for the next.
const keepBytes = 4 << 20

var _ inference.Driver = (*Driver)(nil)

// Open reads the URL and the settings and asks the server for the model; see the
// package's comment. Config: the URL, the settings, the credentials or the certificate
// are wrong, or the signature cannot be used. NotFound: the server has no such model
// or version. Transient: nobody listens, or the model is loading.
func Open(ctx context.Context, url string, o Options) (*Driver, error) {
	e, err := endpoint.Parse(url, o.Env)
	if err != nil {
		return nil, fmt.Errorf("open model of TensorFlow Serving: %w", err)
	}
	c := &config{where: e.String()}
	token, err := e.Secret("token", o.Env)
	if err != nil {
		return nil, err
	}
	c.version, c.label = e.Option("version", ""), e.Option("label", "")
	if c.timeout, err = e.Duration("timeout", 10*time.Second); err != nil {
		return nil, err
	}
	if err := e.Done(); err != nil {
		return nil, err
	}
	prefix := ""
	c.model = strings.Trim(e.Path, "/")
	if i := strings.LastIndexByte(c.model, '/'); i >= 0 {
		prefix, c.model = c.model[:i], c.model[i+1:]
	}
	switch {
	case e.Scheme != "tfserving" || len(e.Hosts) != 1 || c.model == "":
		return nil, errkind.Errorf(errkind.Config, "open model %s: expected tfserving://host:port/MODEL, with one host", c.where)
	case c.version != "" && c.label != "":
		return nil, errkind.Errorf(errkind.Config, "open model %s: name a version or a label, not both", c.where)
	}
	if err := readSettings(c, o.Settings); err != nil {
		return nil, err
	}
	d := &Driver{c: c, gate: tensors.NewGate(c.model, c.slots)}
	d.reach(e, prefix, token)
	if err := d.ask(ctx); err != nil {
		d.client.Close()
		return nil, err
	}
	return d, nil
}

func readSettings(c *config, values map[string]any) error {
	s := settings.Read("options of "+c.where, values)
	c.signature = s.String("signature_name", "serving_default")
	c.inputs, c.outputs, c.features = s.Strings("inputs"), s.Strings("outputs"), s.Strings("features")
	c.batch = s.Int("batch", 256, 1)
	c.slots = s.Int("concurrency", 16, 1)
	c.timeout = s.Duration("timeout", c.timeout)
	c.maxAnswer = s.Int("max_answer", 64<<20, 1<<10)
	c.host = s.String("host", "")
	if strings.ContainsFunc(c.host, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' || r == '@' }) {
		s.Fail("host", "%q is no name of a host", c.host)
	}
	c.labels = map[string][]string{}
	labels := s.Map("labels")
	for _, name := range labels.Keys() {
		c.labels[name] = labels.Strings(name)
	}
	return s.Done()
}

// reach prepares the way to the server.
func (d *Driver) reach(e *endpoint.Endpoint, prefix, token string) {
	base := "http://"
	if e.TLS() != nil {
		base = "https://"
	}
	base += e.Hosts[0] + "/"
	if prefix != "" {
		base += (&url.URL{Path: prefix}).EscapedPath() + "/"
	}
	d.url = base + "v1/models/" + url.PathEscape(d.c.model)
	switch {
	case d.c.version != "":
		d.url += "/versions/" + url.PathEscape(d.c.version)
	case d.c.label != "":
		d.url += "/labels/" + url.PathEscape(d.c.label)
	}
	d.auth = func(r *http.Request) {
		switch {
		case token != "":
			r.Header.Set("Authorization", "Bearer "+token)
		case e.User != "" || e.Password != "":
			r.SetBasicAuth(e.User, e.Password)
		}
	}
	d.client = web.New(web.Config{Where: "model " + d.c.where, TLS: e.TLS(), Connections: d.c.slots, MaxAnswer: int64(d.c.maxAnswer)})
}

func (d *Driver) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, d.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, d.client.Errorf(errkind.Config, "the URL cannot be used")
	}
	if d.c.host != "" {
		req.Host = d.c.host
	}
	req.Header.Set("Content-Type", "application/json")
	d.auth(req)
	// A call may be made twice: where the server closed a kept connection, it is, at once.
	req.Header["X-Idempotency-Key"] = nil // which is not sent
	return req, nil
}

func (d *Driver) get(ctx context.Context, path string, v any) error {
	req, err := d.request(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	if err := d.client.Call(req, &buf); err != nil {
		if errkind.Is(err, errkind.Permanent) {
			return errkind.With(errkind.Config, err)
		}
		if errkind.Is(err, errkind.Invalid) {
			return errkind.With(errkind.NotFound, err) // there were no rows to be wrong
		}
		return err
	}
	if err := json.Unmarshal(buf.Bytes(), v); err != nil {
		return d.client.Errorf(errkind.Config, "what answers is not TensorFlow Serving: %s", web.Shown(buf.Bytes()))
	}
	return nil
}

// available asks whether a version can be called.
func (d *Driver) available(ctx context.Context) error {
	var status struct {
		Versions []struct {
			Version, State string
			Status         struct {
				Code    string `json:"error_code"`
				Message string `json:"error_message"`
			}
		} `json:"model_version_status"`
	}
	if err := d.get(ctx, "", &status); err != nil {
		return err
	}
	kind, why := errkind.Config, "the server names no version of the model: is it TensorFlow Serving?"
	for _, v := range status.Versions {
		switch v.State {
		case "AVAILABLE":
			return nil
		case "START", "LOADING":
			kind = errkind.Transient
		default:
			if kind != errkind.Transient {
				kind = errkind.NotFound
			}
		}
		why = fmt.Sprintf("version %s is %s: %s", v.Version, v.State, web.Shown([]byte(v.Status.Message)))
	}
	return d.client.Errorf(kind, "%s", why)
}

// ask finds out what the model is.
func (d *Driver) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.c.timeout)
	defer cancel()
	if err := d.available(ctx); err != nil {
		return err
	}
	var m metadata
	if err := d.get(ctx, "/metadata", &m); err != nil {
		return err
	}
	all := m.Metadata.SignatureDef.SignatureDef
	def, ok := all[d.c.signature]
	if !ok {
		var names []string
		for name := range all {
			names = append(names, name)
		}
		slices.Sort(names)
		return d.client.Errorf(errkind.Config, "the model has no signature %q, but [%s]: name one with the option signature_name", d.c.signature, strings.Join(names, ", "))
	}
	meta := inference.Metadata{Name: d.c.model, Version: d.c.version, Format: "tfserving", Producer: "TensorFlow Serving", FeatureNames: d.c.features, MaxBatch: d.c.batch}
	switch {
	case d.c.label != "":
		meta.Version = "label " + d.c.label
	case meta.Version == "":
		meta.Version = "remote"
	}
	var err error
	if d.inputs, err = ports("input", def.Inputs, d.c.inputs, &meta.MaxBatch); err == nil {
		d.outputs, err = ports("output", def.Outputs, d.c.outputs, &meta.MaxBatch)
	}
	if err != nil {
		return d.client.Errorf(errkind.Config, "signature %s: %w", d.c.signature, err)
	}
	d.single = len(def.Outputs) == 1
	for i := range d.outputs {
		sig := &d.outputs[i].sig
		labels, ok := d.c.labels[sig.Name]
		if !ok {
			continue
		}
		if w := len(sig.Shape); w == 0 || sig.Shape[w-1] >= 0 && sig.Shape[w-1] != len(labels) {
			return d.client.Errorf(errkind.Config, "output %s has %d labels for rows of shape %v", sig.Name, len(labels), sig.Shape)
		}
		sig.Labels = labels
		delete(d.c.labels, sig.Name)
	}
	for name := range d.c.labels {
		return d.client.Errorf(errkind.Config, "labels are given for %q, which is no output", name)
	}
	if n := len(d.c.features); n > 0 {
		s := d.inputs[0].sig.Shape
		if len(d.inputs) != 1 || len(s) != 1 || s[0] >= 0 && s[0] != n {
			return d.client.Errorf(errkind.Config, "the option features names %d values of the only input, and there are %d inputs, the first with rows of %v", n, len(d.inputs), s)
		}
		s[0] = n
	}
	for i := range d.inputs {
		meta.Inputs = append(meta.Inputs, d.inputs[i].sig)
	}
	for i := range d.outputs {
		meta.Outputs = append(meta.Outputs, d.outputs[i].sig)
	}
	d.meta = meta
	return nil
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

// Infer implements inference.Driver, by one call of the server.
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
			sig := d.meta.Outputs[i]
			sig.Shape = slices.Clone(sig.Shape)
			for j := range sig.Shape {
				sig.Shape[j] = max(sig.Shape[j], 0)
			}
			tensors.Make(&out[i], &sig, 0)
		}
		return nil
	}
	// Of its own for each call: the client may read it for a moment after the answer.
	body, err := d.write(make([]byte, 0, d.size.Load()), in)
	if err != nil {
		return d.client.Errorf(errkind.Invalid, "%w", err)
	}
	d.size.Store(int64(len(body)))
	ctx, cancel := context.WithTimeout(ctx, d.c.timeout)
	defer cancel()
	req, err := d.request(ctx, http.MethodPost, ":predict", body)
	if err != nil {
		return err
	}
	answer, _ := d.spare.Get().(*bytes.Buffer)
	if answer == nil {
		answer = new(bytes.Buffer)
	}
	defer func() {
		if answer.Cap() <= keepBytes {
			d.spare.Put(answer)
		}
	}()
	if err := d.client.Call(req, answer); err != nil {
		return err
	}
	if err := d.read(answer.Bytes(), n, out); err != nil {
		return d.client.Errorf(errkind.Permanent, "%w: %s", err, web.Shown(answer.Bytes()))
	}
	return nil
}
