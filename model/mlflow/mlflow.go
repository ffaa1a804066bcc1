package mlflow

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/internal/backoff"
	"github.com/freshet-io/freshet/internal/endpoint"
	"github.com/freshet-io/freshet/model"
)

// Options are what a source needs beside its URL.
type Options struct {
	// Cache is the local folder of fetched files.
	Cache string
	// Open loads a fetched model file: the signature is then the file's own. Nil
	// leaves it to MLmodel, whose names of inputs may be missing.
	Open func(path string, v *model.Version) (inference.Driver, error)
	// By names the process and its user in states; host and process id by default.
	By     string
	Logger *slog.Logger
	Env    func(string) (string, bool)
	Now    func() time.Time
}

// Source is MLflow's registry as a model.Catalog.
type Source struct {
	c      *client
	o      Options
	settle time.Duration

	mu sync.Mutex
	// fetched are the versions whose files are in the cache, by name and version.
	fetched map[[2]string]*model.Version
	// claims are the claims that were seen, and since when.
	claims map[string]seenClaim
	fetch  sync.Mutex // one download at a time
}

var _ model.Catalog = (*Source)(nil)

// Open connects to the registry at rawURL. Errors are Config for a URL, a token or
// a server that is wrong, Transient where nobody answers.
func Open(ctx context.Context, rawURL string, o Options) (*Source, error) {
	e, err := endpoint.Parse(rawURL, o.Env, "mlflow+https")
	if err != nil {
		return nil, fmt.Errorf("open MLflow: %w", err)
	}
	scheme := map[string]string{"mlflow+http": "http", "mlflow+https": "https"}[e.Scheme]
	if scheme == "" || len(e.Hosts) != 1 {
		return nil, errkind.Errorf(errkind.Config, "open MLflow at %s: expected mlflow+http://HOST:PORT or mlflow+https://HOST", e)
	}
	tls := e.TLS()
	if tls != nil {
		scheme = "https"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.By == "" {
		host, _ := os.Hostname()
		o.By = host + ":" + strconv.Itoa(os.Getpid())
	}
	c := &client{
		base: scheme + "://" + e.Hosts[0] + strings.TrimSuffix("/"+strings.Trim(e.Path, "/"), "/"), shown: e.String(), user: e.User, password: e.Password,
		retry: backoff.Retry{}.Or(backoff.Retry{Attempts: 4, Min: 100 * time.Millisecond, Max: 2 * time.Second}),
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = tls
	c.http = &http.Client{Transport: transport}
	s := &Source{c: c, o: o, fetched: map[[2]string]*model.Version{}, claims: map[string]seenClaim{}}
	if c.token, err = e.Secret("token", o.Env); err == nil {
		c.timeout, err = e.Duration("timeout", 10*time.Second)
	}
	if err == nil {
		s.settle, err = e.Duration("settle", 300*time.Millisecond)
	}
	if err == nil {
		err = e.Done()
	}
	if err == nil {
		_, err = s.search(ctx, 1)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("open MLflow: %w", err)
	}
	return s, nil
}

// Close gives up idle connections.
func (s *Source) Close() error {
	s.c.http.CloseIdleConnections()
	return nil
}

// The answers of the REST API, as far as they are read.
type (
	tag struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	}
	registeredModel struct {
		Name    string `json:"name"`
		Tags    []tag  `json:"tags"`
		Aliases []struct {
			Alias   string `json:"alias"`
			Version string `json:"version"`
		} `json:"aliases"`
	}
	modelVersion struct {
		Name        string `json:"name"`
		Version     string `json:"version"`
		Created     int64  `json:"creation_timestamp"`
		Description string `json:"description"`
		RunID       string `json:"run_id"`
		Status      string `json:"status"`
		User        string `json:"user_id"`
		Tags        []tag  `json:"tags"`
	}
)

func tagOf(tags []tag, key string) string {
	for _, t := range tags {
		if t.Key == key {
			return t.Value
		}
	}
	return ""
}

func (m *registeredModel) alias(name string) string {
	for _, a := range m.Aliases {
		if a.Alias == name {
			return a.Version
		}
	}
	return ""
}

func (s *Source) search(ctx context.Context, size int) (names []string, err error) {
	query := url.Values{"max_results": {strconv.Itoa(size)}}
	for {
		var page struct {
			Models []registeredModel `json:"registered_models"`
			Next   string            `json:"next_page_token"`
		}
		if err := s.c.call(ctx, http.MethodGet, "registered-models/search", query, nil, &page); err != nil {
			return nil, err
		}
		for _, m := range page.Models {
			names = append(names, m.Name)
		}
		if page.Next == "" || size == 1 {
			return names, nil
		}
		query.Set("page_token", page.Next)
	}
}

// Models is in model.Catalog.
func (s *Source) Models(ctx context.Context) ([]string, error) {
	names, err := s.search(ctx, 200)
	if err != nil {
		return nil, fmt.Errorf("list models: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

func (s *Source) registered(ctx context.Context, name string) (*registeredModel, error) {
	var answer struct {
		Model registeredModel `json:"registered_model"`
	}
	if err := s.c.call(ctx, http.MethodGet, "registered-models/get", url.Values{"name": {name}}, nil, &answer); err != nil {
		return nil, fmt.Errorf("read model %s: %w", name, err)
	}
	return &answer.Model, nil
}

// Versions is in model.Catalog: of versions that were not fetched the digest is
// the one that is pinned, or missing, and signature and size are MLmodel's.
func (s *Source) Versions(ctx context.Context, name string) ([]*model.Version, error) {
	found, err := s.versions(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("list versions of model %s: %w", name, err)
	}
	if len(found) == 0 {
		if _, err := s.registered(ctx, name); err != nil {
			return nil, err
		}
	}
	var all []*model.Version
	for i := range found {
		v, _, err := s.describe(ctx, &found[i])
		if errkind.Is(err, errkind.Unsupported) || errkind.Is(err, errkind.NotFound) || errkind.Is(err, errkind.Corrupt) {
			s.o.Logger.Debug("a version is not for Freshet", "model", name, "version", found[i].Version, "error", err)
			v, err = found[i].plain(), nil
		}
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

// versions returns those that are ready, the oldest first.
func (s *Source) versions(ctx context.Context, name string) (all []modelVersion, err error) {
	if strings.Contains(name, "'") {
		return nil, errkind.Errorf(errkind.Config, "model name %q: it has a quote in it", name)
	}
	query := url.Values{"filter": {"name='" + name + "'"}, "max_results": {"200"}}
	for {
		var page struct {
			Versions []modelVersion `json:"model_versions"`
			Next     string         `json:"next_page_token"`
		}
		if err := s.c.call(ctx, http.MethodGet, "model-versions/search", query, nil, &page); err != nil {
			return nil, err
		}
		for _, v := range page.Versions {
			if v.Status == "" || v.Status == "READY" {
				all = append(all, v)
			}
		}
		if page.Next == "" {
			break
		}
		query.Set("page_token", page.Next)
	}
	slices.SortFunc(all, func(a, b modelVersion) int {
		x, _ := strconv.Atoi(a.Version)
		y, _ := strconv.Atoi(b.Version)
		return x - y
	})
	return all, nil
}

// plain is what MLflow alone says of a version.
func (m *modelVersion) plain() *model.Version {
	v := &model.Version{
		Name: m.Name, Version: m.Version, Owner: m.User, Notes: m.Description, Digest: tagOf(m.Tags, digestTag),
		Created: time.UnixMilli(m.Created).UTC(), Format: "mlflow",
	}
	if m.RunID != "" {
		v.Data = "mlflow run " + m.RunID
	}
	return v
}

// Version is in model.Source. It fetches the model's file, whose digest is the version's.
func (s *Source) Version(ctx context.Context, name, version string) (*model.Version, error) {
	number := version
	switch version {
	case model.LatestAlias:
		all, err := s.versions(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("read the latest version of model %s: %w", name, err)
		}
		if len(all) == 0 {
			return nil, errkind.Errorf(errkind.NotFound, "model %s has no version that is ready in MLflow", name)
		}
		number = all[len(all)-1].Version
	case model.ChampionAlias, model.PreviousAlias:
		st, err := s.State(ctx, name)
		if err != nil {
			return nil, err
		}
		if number, err = st.Resolve(name, version); err != nil {
			return nil, err
		}
	}
	key := [2]string{name, number}
	s.mu.Lock()
	known := s.fetched[key]
	s.mu.Unlock()
	if known != nil {
		copied := *known
		return &copied, nil
	}
	var answer struct {
		Version modelVersion `json:"model_version"`
	}
	err := s.c.call(ctx, http.MethodGet, "model-versions/get", url.Values{"name": {name}, "version": {number}}, nil, &answer)
	if err != nil {
		return nil, fmt.Errorf("read version %s of model %s: %w", number, name, err)
	}
	v, path, err := s.describe(ctx, &answer.Version)
	if err != nil {
		return nil, err
	}
	if err := s.metrics(ctx, v, answer.Version.RunID); err != nil {
		return nil, err
	}
	s.fetch.Lock()
	defer s.fetch.Unlock()
	if err := s.download(ctx, v, path); err != nil {
		return nil, fmt.Errorf("fetch version %s of model %s: %w", v.Version, v.Name, err)
	}
	s.mu.Lock()
	s.fetched[key] = v
	s.mu.Unlock()
	copied := *v
	return &copied, nil
}

// metrics takes the metrics and the user of the run that made the version; a run
// that is gone has none.
func (s *Source) metrics(ctx context.Context, v *model.Version, run string) error {
	if run == "" {
		return nil
	}
	var answer struct {
		Run struct {
			Info struct {
				User string `json:"user_id"`
			} `json:"info"`
			Data struct {
				Metrics []struct {
					Key   string  `json:"key"`
					Value float64 `json:"value"`
				} `json:"metrics"`
				Tags []tag `json:"tags"`
			} `json:"data"`
		} `json:"run"`
	}
	err := s.c.call(ctx, http.MethodGet, "runs/get", url.Values{"run_id": {run}}, nil, &answer)
	if err != nil {
		if errkind.Of(err).Retryable() {
			return fmt.Errorf("read run %s: %w", run, err)
		}
		return nil
	}
	for _, m := range answer.Run.Data.Metrics {
		if v.Metrics == nil {
			v.Metrics = map[string]float64{}
		}
		v.Metrics[m.Key] = m.Value
	}
	for _, owner := range []string{answer.Run.Info.User, tagOf(answer.Run.Data.Tags, "mlflow.user")} {
		if v.Owner == "" {
			v.Owner = owner
		}
	}
	return nil
}

// artifact opens a file of a version by way of the server: from its own artifacts,
// or from wherever the server keeps them.
func (s *Source) artifact(ctx context.Context, v *model.Version, path string) (body io.ReadCloser, err error) {
	root, err := s.root(ctx, v)
	if err != nil {
		return nil, err
	}
	target, query := "/model-versions/get-artifact", url.Values{"name": {v.Name}, "version": {v.Version}, "path": {path}}
	// The server cannot fetch its own artifacts for some sources.
	if own, ok := strings.CutPrefix(root, "mlflow-artifacts:"); ok {
		if rest, ok := strings.CutPrefix(own, "//"); ok {
			_, own, _ = strings.Cut(rest, "/")
		}
		target, query = artifacts+"/"+escape(strings.Trim(own, "/")+"/"+path), nil
	}
	err = s.c.repeat(ctx, func() (err error) {
		body, err = s.c.do(ctx, http.MethodGet, target, query, nil, "")
		return err
	})
	return body, err
}

// root is where a version's artifacts lie.
func (s *Source) root(ctx context.Context, v *model.Version) (string, error) {
	var answer struct {
		URI string `json:"artifact_uri"`
	}
	err := s.c.call(ctx, http.MethodGet, "model-versions/get-download-uri", url.Values{"name": {v.Name}, "version": {v.Version}}, nil, &answer)
	if err != nil {
		return "", err
	}
	run, ok := strings.CutPrefix(answer.URI, "runs:/")
	if !ok {
		return answer.URI, nil
	}
	id, below, _ := strings.Cut(run, "/")
	var found struct {
		Run struct {
			Info struct {
				URI string `json:"artifact_uri"`
			} `json:"info"`
		} `json:"run"`
	}
	if err := s.c.call(ctx, http.MethodGet, "runs/get", url.Values{"run_id": {id}}, nil, &found); err != nil {
		return "", fmt.Errorf("read run %s: %w", id, err)
	}
	return strings.TrimSuffix(found.Run.Info.URI, "/") + "/" + below, nil
}

// escape makes a path part of a URL.
func escape(path string) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}
