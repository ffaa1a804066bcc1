package builtin

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/httpjson"
	"github.com/freshet-io/freshet/inference/oip"
	"github.com/freshet-io/freshet/inference/openai"
	"github.com/freshet-io/freshet/inference/ort"
	"github.com/freshet-io/freshet/inference/tfserving"
	"github.com/freshet-io/freshet/model"
	"github.com/freshet-io/freshet/pipeline"
)

// Models opens the models that pipelines name: files, servers and names in a registry.
type Models struct {
	// Registry is the URL of the registry for pipelines that name none.
	Registry string
	// Cache is the local folder of fetched versions.
	Cache  string
	Logger *slog.Logger
	Env    func(string) (string, bool)

	mu      sync.Mutex
	sources map[string]model.Source // by URL
	closers []func() error
}

// serverOptions is what a server's adapter is opened with.
type serverOptions struct {
	settings map[string]any
	inputs   []inference.Signature
	logger   *slog.Logger
	env      func(string) (string, bool)
}

// modelServers lists the servers of models by the schemes of their URLs, without "+tls".
var modelServers = []struct {
	schemes []string
	open    func(ctx context.Context, url string, o serverOptions) (inference.Driver, error)
}{
	{[]string{"oip", "oip+http", "oip+https"}, func(ctx context.Context, url string, o serverOptions) (inference.Driver, error) {
		return oip.Open(ctx, url, oip.Options{Settings: o.settings, Inputs: o.inputs, Logger: o.logger, Env: o.env})
	}},
	{[]string{"tfserving"}, func(ctx context.Context, url string, o serverOptions) (inference.Driver, error) {
		return opened(tfserving.Open(ctx, url, tfserving.Options{Settings: o.settings, Inputs: o.inputs, Logger: o.logger, Env: o.env}))
	}},
	{[]string{"openai"}, func(ctx context.Context, url string, o serverOptions) (inference.Driver, error) {
		return opened(openai.Open(ctx, url, openai.Options{Settings: o.settings, Inputs: o.inputs, Logger: o.logger, Env: o.env}))
	}},
	{[]string{"http", "https"}, func(ctx context.Context, url string, o serverOptions) (inference.Driver, error) {
		return opened(httpjson.Open(ctx, url, httpjson.Options{Settings: o.settings, Inputs: o.inputs, Logger: o.logger, Env: o.env}))
	}},
}

// opened keeps a nil driver from hiding in an interface.
func opened[D inference.Driver](d D, err error) (inference.Driver, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Open opens what an infer step names.
func (m *Models) Open(ctx context.Context, ref *pipeline.ModelRef) (*model.Service, error) {
	if ref.Kind == pipeline.ModelName {
		return m.serve(ctx, ref)
	}
	d, err := m.driver(ctx, ref)
	if err != nil {
		return nil, err
	}
	service, err := pipeline.Serve(d, ref)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return service, nil
}

// driver opens a file or a server.
func (m *Models) driver(ctx context.Context, ref *pipeline.ModelRef) (inference.Driver, error) {
	if ref.Kind == pipeline.ModelURL {
		return m.server(ctx, ref.Model, ref)
	}
	return m.file(ctx, ref.Model, ref)
}

// file opens a file with the runtime that the step asks for.
func (m *Models) file(ctx context.Context, path string, ref *pipeline.ModelRef) (inference.Driver, error) {
	if ref.Runtime == "onnxruntime" {
		return opened(ort.Open(ctx, path, ort.Options{Settings: ref.Options, Logger: m.Logger, Env: m.Env}))
	}
	if len(ref.Options) > 0 {
		return nil, errkind.Errorf(errkind.Config, "options are of servers and of `runtime: onnxruntime`, and %s is a file", path)
	}
	return OpenModel(path)
}

// server connects to the server of a URL.
func (m *Models) server(ctx context.Context, url string, ref *pipeline.ModelRef) (inference.Driver, error) {
	scheme, _, _ := strings.Cut(url, "://")
	scheme = strings.TrimSuffix(scheme, "+tls")
	var known []string
	for _, s := range modelServers {
		if slices.Contains(s.schemes, scheme) {
			return s.open(ctx, url, serverOptions{ref.Options, ref.Inputs, m.Logger, m.Env})
		}
		for _, x := range s.schemes {
			known = append(known, x+"://")
		}
	}
	return nil, errkind.Errorf(errkind.Unsupported, "there is no runtime for %s:// in this program; it has %s", scheme, strings.Join(known, ", "))
}

// serve follows a name in a registry.
func (m *Models) serve(ctx context.Context, ref *pipeline.ModelRef) (*model.Service, error) {
	source, err := m.Source(ctx, cmp.Or(ref.Registry, m.Registry))
	if err != nil {
		return nil, err
	}
	host, _ := os.Hostname()
	var unique [4]byte
	rand.Read(unique[:])
	c := model.ServiceConfig{
		Name: ref.Model, Source: source, Model: ref.Config, Check: ref.Check, Policy: ref.Policy, Logger: m.Logger,
		Previous: ref.Previous,
		Process:  fmt.Sprintf("%s-%d-%s", cmp.Or(host, "localhost"), os.Getpid(), hex.EncodeToString(unique[:])),
		Open: func(ctx context.Context, v *model.Version, dir string) (inference.Driver, error) {
			if v.URL != "" {
				return m.server(ctx, v.URL, ref)
			}
			return m.file(ctx, filepath.Join(dir, v.File), ref)
		},
	}
	if ref.Explain {
		c.Explain = func(d inference.Driver, _ *model.Version, dir string) (inference.Explainer, error) {
			var rows []inference.Tensor
			if dir != "" {
				var err error
				// A version that was added without a sample has what needs none.
				if rows, err = model.LoadBackground(dir); err != nil && !errkind.Is(err, errkind.NotFound) {
					return nil, fmt.Errorf("read the background sample: %w", err)
				}
			}
			return model.ExplainerOf(d, rows)
		}
	}
	return model.NewService(ctx, c)
}

// Source opens a registry: a folder (file:///…), an S3-compatible store
// (s3://bucket/prefix) or MLflow (mlflow+http://host). It stays open until Close.
func (m *Models) Source(ctx context.Context, url string) (model.Source, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.sources[url]; ok {
		return s, nil
	}
	var s model.Source
	var err error
	if strings.HasPrefix(url, "mlflow+") {
		s, err = m.mlflow(ctx, url)
	} else {
		s, err = m.registry(ctx, url)
	}
	if err != nil {
		return nil, err
	}
	if m.sources == nil {
		m.sources = map[string]model.Source{}
	}
	m.sources[url] = s
	return s, nil
}

func (m *Models) registry(ctx context.Context, url string) (*model.Registry, error) {
	objects, err := OpenObjects(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("open the registry of models: %w", err)
	}
	m.closers = append(m.closers, objects.Close)
	return model.NewRegistry(objects, model.RegistryOptions{
		Cache: m.Cache, Logger: m.Logger,
		Open: func(path string, v *model.Version) (inference.Driver, error) {
			ref := &pipeline.ModelRef{Model: path, Kind: pipeline.ModelFile}
			if v.URL != "" {
				return m.server(ctx, v.URL, ref)
			}
			return m.file(ctx, path, ref)
		},
	}), nil
}

// Close closes the registries that were opened.
func (m *Models) Close() (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.closers {
		err = errors.Join(err, c())
	}
	m.closers, m.sources = nil, nil
	return err
}
