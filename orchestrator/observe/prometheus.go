package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
	"github.com/freshet-io/freshet/orchestrator"
)

// Server asks a Prometheus server for the metrics of a pipeline, of all processes that it
// scrapes. It is an orchestrator.Observer, for one goroutine.
type Server struct {
	pipeline string
	url      string
	token    string
	client   *http.Client
	meter    Meter
}

// Prometheus reads prometheus+http://host:port[/prefix] or prometheus+https://…, with the options of
// every URL; the password is the bearer token. Signals are as old as the last scrape: a scrape
// interval of 15 s makes for slow signals, 5 s for quick ones.
func Prometheus(raw, pipeline string, quantile float64, env func(string) (string, bool)) (*Server, error) {
	e, err := endpoint.Parse(strings.TrimPrefix(raw, "prometheus+"), env, "https")
	if err != nil {
		return nil, err
	}
	if err := e.Done(); err != nil {
		return nil, err
	}
	if len(e.Hosts) != 1 || e.Scheme != "http" && e.Scheme != "https" {
		return nil, errkind.Errorf(errkind.Config, "observe %s: expected prometheus+http://HOST:PORT", e)
	}
	scheme, transport := "http", http.DefaultTransport.(*http.Transport).Clone()
	if transport.TLSClientConfig = e.TLS(); transport.TLSClientConfig != nil {
		scheme = "https"
	}
	return &Server{
		pipeline: pipeline, token: e.Password, meter: Meter{Quantile: quantile},
		url:    scheme + "://" + e.Hosts[0] + "/" + strings.TrimSuffix(e.Path, "/"),
		client: &http.Client{Transport: transport, Timeout: scrapeTimeout},
	}, nil
}

// names are the metrics that are read, without the prefix.
const names = "pipeline_info|processed_events_total|events_total|results_total|overdue_results_total|consumer_lag|oldest_event_age_seconds|" +
	"inference_busy_seconds_total|inference_concurrency_limit|inference_batch_size_(sum|count)|inference_seconds_(sum|count)|arrival_to_publish_seconds_bucket"

// Observe asks once for all values and once for when they were scraped. The signals' time is that of the
// process scraped last longest ago.
func (s *Server) Observe(ctx context.Context) (orchestrator.Signals, error) {
	selector := fmt.Sprintf("pipeline=%q", s.pipeline)
	scraped, err := s.query(ctx, "timestamp(freshet_pipeline_info{"+selector+"})")
	if err != nil {
		return orchestrator.Signals{}, err
	}
	if len(scraped) == 0 {
		return orchestrator.Signals{}, errkind.Errorf(errkind.NotFound, "Prometheus at %s knows no pipeline %q: check that it scrapes the processes that run it, and the name", s.url, s.pipeline)
	}
	at := math.Inf(1)
	for _, x := range scraped {
		at = min(at, x.value)
	}
	samples, err := s.query(ctx, `{__name__=~"freshet_(`+names+`)",`+selector+"}")
	if err != nil {
		return orchestrator.Signals{}, err
	}
	total := Counters{Time: time.UnixMilli(int64(at * 1000)), Lag: math.NaN(), Oldest: math.NaN()}
	for _, p := range byProcess(samples, s.pipeline) {
		if c, err := p.counters(); err == nil {
			total.add(&c)
		}
	}
	return s.meter.Signals(total), nil
}

// Close lets go of connections.
func (s *Server) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// sample is one value of an instant vector.
type sample struct {
	labels map[string]string
	value  float64
}

func (s *Server) query(ctx context.Context, q string) ([]sample, error) {
	u := strings.TrimSuffix(s.url, "/") + "/api/v1/query"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, strings.NewReader(url.Values{"query": {q}}.Encode()))
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "ask %s: %w", u, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, errkind.Errorf(endpoint.NetworkKind(err), "ask Prometheus: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, mostBytes))
	if err != nil {
		return nil, errkind.Errorf(errkind.Transient, "ask %s: %w", u, err)
	}
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		return nil, errkind.Errorf(errkind.Config, "%s refuses the token (%s): give it with password_env or password_file in the URL", u, resp.Status)
	}
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status == "" {
		return nil, errkind.Errorf(errkind.Transient, "ask %s: the answer (%s) is not Prometheus's: is this the address of a Prometheus server?", u, resp.Status)
	}
	if answer.Status != "success" {
		return nil, errkind.Errorf(errkind.Transient, "ask %s: %s", u, answer.Error)
	}
	var out []sample
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue // a native histogram, or nonsense
		}
		out = append(out, sample{r.Metric, v})
	}
	return out, nil
}

// byProcess puts samples back into pages, one for each process that was scraped.
func byProcess(samples []sample, pipeline string) (pages []*page) {
	found := map[string]*page{}
	for _, x := range samples {
		id := x.labels["job"] + "\x00" + x.labels["instance"]
		p := found[id]
		if p == nil {
			p = &page{map[string]*dto.MetricFamily{}, pipeline}
			found[id] = p
			pages = append(pages, p)
		}
		p.put(x)
	}
	return pages
}

// put adds a sample to the page, the parts of histograms to the histogram that they are of.
func (p *page) put(x sample) {
	name := x.labels["__name__"]
	base, part := name, ""
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if rest, ok := strings.CutSuffix(name, suffix); ok {
			base, part = rest, suffix
		}
	}
	f := p.families[base]
	if f == nil {
		f = &dto.MetricFamily{}
		p.families[base] = f
	}
	m := &dto.Metric{}
	for _, k := range []string{"pipeline", "topic", "source", "step", "version"} {
		if v, ok := x.labels[k]; ok {
			m.Label = append(m.Label, &dto.LabelPair{Name: &k, Value: &v})
		}
	}
	if part == "" {
		m.Untyped = &dto.Untyped{Value: &x.value}
		f.Metric = append(f.Metric, m)
		return
	}
	h := &dto.Histogram{}
	m.Histogram = h
	at := slices.IndexFunc(f.Metric, func(o *dto.Metric) bool {
		return label(o, "step") == label(m, "step") && label(o, "version") == label(m, "version")
	})
	if at >= 0 {
		h = f.Metric[at].Histogram
	} else {
		f.Metric = append(f.Metric, m)
	}
	n := uint64(max(0, x.value))
	switch part {
	case "_sum":
		h.SampleSum = &x.value
	case "_count":
		h.SampleCount = &n
	case "_bucket":
		le, err := strconv.ParseFloat(x.labels["le"], 64)
		if err != nil {
			return
		}
		b := &dto.Bucket{UpperBound: &le, CumulativeCount: &n}
		i, _ := slices.BinarySearchFunc(h.Bucket, le, func(b *dto.Bucket, le float64) int {
			return int(math.Copysign(1, b.GetUpperBound()-le)) // equal ones do not come
		})
		h.Bucket = slices.Insert(h.Bucket, i, b)
	}
}
