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
const names = "pipeline_info|processed_events_total|events_total|results_total|overdue_results_total|stored_records_total|consumer_lag|oldest_event_age_seconds|" +
	"inference_busy_seconds_total|inference_concurrency_limit|inference_batch_size_(sum|count)|inference_seconds_(sum|count)|arrival_to_publish_seconds_bucket"

// reach is how far back the last samples of a process may lie: scrapes are at most half as far apart.
const reach = 2 * time.Minute

// Observe asks for the raw samples of the last minutes, in one query, so that values and the times at which they were
// scraped belong together. The signals' time is that of the process that was scraped longest ago. A process
// that has missed three scrapes is left out.
func (s *Server) Observe(ctx context.Context) (orchestrator.Signals, error) {
	samples, err := s.query(ctx, fmt.Sprintf("{__name__=~%q,pipeline=%q}[%ds]", "freshet_("+names+")", s.pipeline, int(reach.Seconds())))
	if err != nil {
		return orchestrator.Signals{}, err
	}
	if len(samples) == 0 {
		return orchestrator.Signals{}, errkind.Errorf(errkind.NotFound, "Prometheus at %s has no samples of a pipeline %q from the last %v: check that it scrapes the processes that run it, and the name", s.url, s.pipeline, reach)
	}
	pages := byProcess(samples, s.pipeline)
	newest := 0.0
	for _, p := range pages {
		newest = max(newest, p.at)
	}
	at := newest
	total := Counters{Arrived: math.NaN(), Lag: math.NaN(), Oldest: math.NaN()}
	for _, p := range pages {
		c, err := p.page.counters()
		if err != nil || newest-p.at > 3*max(1, p.gap) {
			continue
		}
		at = min(at, p.at)
		total.add(&c)
	}
	total.Time = time.UnixMilli(int64(at * 1000))
	return s.meter.Signals(total), nil
}

// Close lets go of connections.
func (s *Server) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// sample is the last value of a series, when it was scraped, and how long after the one before; in seconds.
type sample struct {
	labels         map[string]string
	value, at, gap float64
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
				Values [][2]any
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
		n := len(r.Values)
		if n == 0 {
			continue // native histograms
		}
		text, _ := r.Values[n-1][1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue
		}
		x := sample{labels: r.Metric, value: v}
		x.at, _ = r.Values[n-1][0].(float64)
		if n > 1 {
			before, _ := r.Values[n-2][0].(float64)
			x.gap = x.at - before
		} else {
			x.gap = reach.Seconds()
		}
		out = append(out, x)
	}
	return out, nil
}

// scraped is the page of one process, when it was taken and how long after the one before.
type scraped struct {
	page    *page
	at, gap float64
}

// byProcess puts samples back into pages, one for each process that was scraped. What was not on a process's last
// page, such as the metrics of a version that is gone, is left out.
func byProcess(samples []sample, pipeline string) (pages []*scraped) {
	found := map[string]*scraped{}
	id := func(x *sample) string { return x.labels["job"] + "\x00" + x.labels["instance"] }
	for i := range samples {
		x := &samples[i]
		p := found[id(x)]
		if p == nil {
			p = &scraped{page: &page{map[string]*dto.MetricFamily{}, pipeline}}
			found[id(x)] = p
			pages = append(pages, p)
		}
		if x.at > p.at {
			p.at, p.gap = x.at, x.gap
		}
	}
	for i := range samples {
		if p := found[id(&samples[i])]; samples[i].at == p.at {
			p.page.put(samples[i])
		}
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
