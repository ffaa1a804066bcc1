package oip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/tensors"
	"github.com/freshet-io/freshet/internal/endpoint"
)

// Options is what a driver is opened with.
type Options struct {
	// Settings are the pipeline's options; see the package's comment.
	Settings map[string]any
	// Inputs are the model's inputs where neither the server nor the settings name
	// any: Shape nil for one value a row.
	Inputs []inference.Signature
	Logger *slog.Logger
	// Env looks up the environment, for secrets.
	Env func(string) (string, bool)
}

// Driver is one model of one server.
type Driver struct {
	c       *config
	m       *model
	client  client
	gate    *tensors.Gate
	given   []inference.Signature
	known   atomic.Bool   // the server was asked for the model
	asking  chan struct{} // holds the one who asks
	logger  *slog.Logger
	address string
}

var _ inference.Driver = (*Driver)(nil)

// client speaks the protocol in one of its two forms.
type client interface {
	// describe asks for the model's metadata.
	describe(ctx context.Context) (*description, error)
	// ready asks whether the model can be called.
	ready(ctx context.Context) (bool, error)
	// use prepares calls of m; it precedes the first.
	use(m *model)
	// infer calls the model with n ≥ 1 rows that fit it, and fills out.
	infer(ctx context.Context, n int, in, out []inference.Tensor) error
	close() error
}

// Open reads the URL and the settings and asks every host for the model; see the
// package's comment. It is one Driver for one host, and a balance of them for
// several. Config: the URL, the settings, the credentials, the certificate or the
// protocol are wrong, or what the server says of the model cannot be used. NotFound:
// the server has no such model or version. Transient: nobody listens, or the model
// is not ready. Of several hosts one has to answer; the others are asked before
// their first call.
func Open(ctx context.Context, url string, o Options) (inference.Driver, error) {
	e, err := endpoint.Parse(url, o.Env, "oip+https")
	if err != nil {
		return nil, fmt.Errorf("open model by the Open Inference Protocol: %w", err)
	}
	c := &config{where: e.String()}
	token, err := e.Secret("token", o.Env)
	if err != nil {
		return nil, err
	}
	c.version = e.Option("version", "")
	if c.timeout, err = e.Duration("timeout", 10*time.Second); err != nil {
		return nil, err
	}
	if err := e.Done(); err != nil {
		return nil, err
	}
	overHTTP := e.Scheme == "oip+http" || e.Scheme == "oip+https"
	prefix := ""
	c.model = strings.Trim(e.Path, "/")
	if i := strings.LastIndexByte(c.model, '/'); i >= 0 && overHTTP {
		prefix, c.model = c.model[:i], c.model[i+1:]
	}
	if e.Scheme != "oip" && !overHTTP || len(e.Hosts) == 0 || c.model == "" || strings.Contains(c.model, "/") {
		return nil, errkind.Errorf(errkind.Config, "open model %s: expected oip://host:port/MODEL, oip+tls://, oip+http:// or oip+https://", c.where)
	}
	if err := readSettings(c, o.Settings, overHTTP); err != nil {
		return nil, err
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	drivers := make([]*Driver, len(e.Hosts))
	closeAll := func() {
		for _, d := range drivers {
			if d != nil {
				_ = d.Close()
			}
		}
	}
	for i, host := range e.Hosts {
		var cl client
		if overHTTP {
			cl = newHTTP(c, e, host, prefix, token)
		} else if cl, err = newGRPC(c, e, host, token); err != nil {
			closeAll()
			return nil, err
		}
		drivers[i] = &Driver{
			c: c, client: cl, given: o.Inputs, gate: tensors.NewGate(c.model, c.slots), asking: make(chan struct{}, 1), logger: logger, address: host,
		}
	}
	if err := openAll(ctx, drivers); err != nil {
		closeAll()
		return nil, err
	}
	if len(drivers) == 1 {
		return drivers[0], nil
	}
	many := make([]inference.Driver, len(drivers))
	for i, d := range drivers {
		many[i] = d
	}
	return inference.Balance(many)
}

// openAll asks all hosts at once. What the first that answers says holds for those
// that do not answer now.
func openAll(ctx context.Context, drivers []*Driver) error {
	models, errs := make([]*model, len(drivers)), make([]error, len(drivers))
	var wg sync.WaitGroup
	for i, d := range drivers {
		wg.Go(func() { models[i], errs[i] = d.ask(ctx) })
	}
	wg.Wait()
	var first *model
	for i, m := range models {
		if errs[i] != nil && !errkind.Of(errs[i]).Retryable() {
			return errs[i]
		}
		if first == nil {
			first = m
		}
	}
	if first == nil {
		return errs[0]
	}
	for i, d := range drivers {
		m := models[i]
		if m == nil {
			m = first
			d.logger.Warn("a server of the model does not answer yet", "model", d.c.model, "server", d.address, "error", errs[i])
		}
		d.use(m)
		d.known.Store(models[i] != nil)
	}
	return nil
}

func (d *Driver) use(m *model) {
	d.m = m
	d.client.use(m)
}

// ask asks the server what the model is and whether it is ready.
func (d *Driver) ask(ctx context.Context) (*model, error) {
	ctx, cancel := context.WithTimeout(ctx, d.c.timeout)
	defer cancel()
	desc, err := d.client.describe(ctx)
	switch {
	case err == nil:
	case unimplemented(err) && (len(d.c.inputs) > 0 || len(d.given) > 0) && len(d.c.outputs) > 0:
		desc = &description{} // the settings say it all
	case errkind.Is(err, errkind.Invalid):
		return nil, errkind.With(errkind.NotFound, err) // there were no rows to be wrong
	case errkind.Is(err, errkind.Permanent):
		return nil, errkind.With(errkind.Config, err)
	default:
		return nil, err
	}
	m, err := newModel(desc, d.c, d.given)
	if err != nil {
		return nil, fmt.Errorf("open model %s: %w", d.c.where, err)
	}
	for i := range m.inputs {
		if d.c.typed && m.inputs[i].dt.field() == 0 {
			return nil, errkind.Errorf(errkind.Config, "open model %s: input %q is %s, which has no typed contents", d.c.where, m.inputs[i].sig.Name, m.inputs[i].dt.name)
		}
	}
	ready, err := d.client.ready(ctx)
	if err != nil && !unimplemented(err) {
		return nil, err
	}
	if err == nil && !ready {
		return nil, errkind.Errorf(errkind.Transient, "open model %s: the model is not ready at %s", d.c.where, d.address)
	}
	return m, nil
}

// meet asks a server that was away when the model was opened, before its first call.
func (d *Driver) meet(ctx context.Context) error {
	select {
	case d.asking <- struct{}{}:
		defer func() { <-d.asking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if d.known.Load() {
		return nil
	}
	m, err := d.ask(ctx)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(m.meta.Inputs, d.m.meta.Inputs) || !reflect.DeepEqual(m.meta.Outputs, d.m.meta.Outputs) {
		return errkind.Errorf(errkind.Config, "model %s at %s has inputs %v and outputs %v, the other servers have %v and %v",
			d.c.model, d.address, m.meta.Inputs, m.meta.Outputs, d.m.meta.Inputs, d.m.meta.Outputs)
	}
	d.known.Store(true)
	return nil
}

// Metadata implements inference.Driver.
func (d *Driver) Metadata() inference.Metadata { return d.m.meta }

// Concurrency implements inference.Driver.
func (d *Driver) Concurrency() int { return d.c.slots }

// Close implements inference.Driver.
func (d *Driver) Close() error {
	if !d.gate.Close() {
		return nil
	}
	if err := d.client.close(); err != nil {
		return fmt.Errorf("close model %s: %w", d.c.where, err)
	}
	return nil
}

// Infer implements inference.Driver, by one call of the server.
func (d *Driver) Infer(ctx context.Context, in, out []inference.Tensor) error {
	if err := d.gate.Enter(ctx); err != nil {
		return err
	}
	defer d.gate.Leave()
	n, err := tensors.Check(&d.m.meta, in, out)
	if err != nil {
		return err
	}
	if n == 0 {
		for i := range out {
			d.m.outputs[i].none(&out[i])
		}
		return nil
	}
	for i := range in {
		if err := d.m.inputs[i].dt.check(&in[i]); err != nil {
			return errkind.Errorf(errkind.Invalid, "model %s: input %q: %w", d.c.model, d.m.inputs[i].sig.Name, err)
		}
	}
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > d.c.timeout {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.c.timeout)
		defer cancel()
	}
	if !d.known.Load() {
		if err := d.meet(ctx); err != nil {
			return err
		}
	}
	err = d.client.infer(ctx, n, in, out)
	if err != nil && errkind.Is(err, errkind.Invalid) {
		return d.blame(ctx, err)
	}
	return err
}

// blame finds out whether the rows were refused for what they are, or because the
// model cannot be called just now, which some servers say in the same way.
func (d *Driver) blame(ctx context.Context, refused error) error {
	ready, err := d.client.ready(ctx)
	switch {
	case err == nil && !ready:
		return errkind.With(errkind.Transient, refused)
	case err != nil && errkind.Is(err, errkind.NotFound):
		return errkind.With(errkind.NotFound, refused)
	case err != nil && errkind.Of(err).Retryable():
		return errkind.With(errkind.Transient, errors.Join(refused, err))
	}
	return refused
}
