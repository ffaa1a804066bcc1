package observe

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/endpoint"
	"github.com/freshet-io/freshet/orchestrator"
)

const (
	scrapeTimeout = 5 * time.Second
	mostBytes     = 32 << 20 // of one page of metrics
)

// Scraper reads the /metrics of processes that run one pipeline. It is an
// orchestrator.Observer, for one goroutine.
type Scraper struct {
	pipeline string
	pages    []string
	token    string
	client   *http.Client
	meter    Meter
	now      func() time.Time
}

// Scrape reads http://host:port[,host:port…] or https://…, the addresses of processes that run a pipeline. Options
// are those of every URL (tls_ca, password_env …), where the password is the bearer token. Quantile is
// that of the objective.
func Scrape(url, pipeline string, quantile float64, env func(string) (string, bool)) (*Scraper, error) {
	e, err := endpoint.Parse(url, env, "https")
	if err != nil {
		return nil, err
	}
	if err := e.Done(); err != nil {
		return nil, err
	}
	if len(e.Hosts) == 0 || e.Scheme != "http" && e.Scheme != "https" {
		return nil, errkind.Errorf(errkind.Config, "observe %s: expected http://HOST:PORT, the address at which freshet run listens", e)
	}
	scheme, transport := "http", http.DefaultTransport.(*http.Transport).Clone()
	if transport.TLSClientConfig = e.TLS(); transport.TLSClientConfig != nil {
		scheme = "https"
	}
	s := &Scraper{
		pipeline: pipeline, token: e.Password, meter: Meter{Quantile: quantile}, now: time.Now,
		client: &http.Client{Transport: transport, Timeout: scrapeTimeout},
	}
	for _, h := range e.Hosts {
		s.pages = append(s.pages, scheme+"://"+h+"/metrics")
	}
	return s, nil
}

// Observe reads every page. A process that cannot be reached is left out, and makes the rates
// of two windows unknown; with none left the error is that of the first.
func (s *Scraper) Observe(ctx context.Context) (orchestrator.Signals, error) {
	total := Counters{Time: s.now(), Arrived: math.NaN(), Lag: math.NaN(), Oldest: math.NaN()}
	var first error
	for _, page := range s.pages {
		c, err := s.read(ctx, page)
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		total.add(&c)
	}
	if total.Processes == 0 {
		return orchestrator.Signals{}, first
	}
	return s.meter.Signals(total), nil
}

// Close lets go of connections.
func (s *Scraper) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

func (s *Scraper) read(ctx context.Context, page string) (Counters, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return Counters{}, errkind.Errorf(errkind.Config, "read %s: %w", page, err)
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return Counters{}, errkind.Errorf(endpoint.NetworkKind(err), "read metrics: %w", err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized, http.StatusForbidden:
		return Counters{}, errkind.Errorf(errkind.Config, "read %s: it refuses the token (%s): give it with password_env or password_file in the URL", page, resp.Status)
	default:
		return Counters{}, errkind.Errorf(errkind.Transient, "read %s: it answers %s", page, resp.Status)
	}
	c, err := Parse(io.LimitReader(resp.Body, mostBytes), s.pipeline)
	if err != nil {
		return c, fmt.Errorf("read %s: %w", page, err)
	}
	return c, nil
}

// add sums the counters of another process. The lag is the broker's: all processes tell the same.
func (c *Counters) add(o *Counters) {
	c.Processed += o.Processed
	c.Read += o.Read
	c.Results += o.Results
	c.Overdue += o.Overdue
	c.Busy += o.Busy
	c.Places += o.Places
	c.Calls += o.Calls
	c.Rows += o.Rows
	c.Seconds += o.Seconds
	c.Processes += o.Processes
	c.Lag, c.Oldest, c.Arrived = larger(c.Lag, o.Lag), larger(c.Oldest, o.Oldest), larger(c.Arrived, o.Arrived)
	if c.Freshness == nil {
		c.Freshness = slices.Clone(o.Freshness)
		return
	}
	for i := range min(len(c.Freshness), len(o.Freshness)) {
		c.Freshness[i].Count += o.Freshness[i].Count
	}
}

// larger of two numbers, either of which may be unknown.
func larger(a, b float64) float64 {
	if math.IsNaN(a) || b > a {
		return b
	}
	return a
}

// Parse reads the counters of a pipeline out of a page of metrics in Prometheus's text format. It is
// NotFound where the page has no such pipeline.
func Parse(r io.Reader, pipeline string) (Counters, error) {
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(r)
	if err != nil {
		return Counters{}, errkind.Errorf(errkind.Permanent, "read metrics: %w", err)
	}
	return (&page{families, pipeline}).counters()
}

// counters of the page's pipeline.
func (p *page) counters() (Counters, error) {
	source := ""
	pipelines := p.each("pipeline_info", "", func(m *dto.Metric) { source = label(m, "source") })
	if pipelines == 0 {
		return Counters{}, errkind.Errorf(errkind.NotFound, "there are no metrics of a pipeline %q: it is run by another process, or has another name", p.pipeline)
	}
	c := Counters{Processes: 1}
	c.Processed, c.Read = p.sum("processed_events_total", ""), p.sum("events_total", "")
	c.Results, c.Overdue = p.sum("results_total", ""), p.sum("overdue_results_total", "")
	c.Arrived, c.Lag, c.Oldest = p.sum("stored_records_total", source), p.sum("consumer_lag", source), math.NaN()
	p.each("oldest_event_age_seconds", "", func(m *dto.Metric) { c.Oldest = larger(c.Oldest, value(m)) })
	c.Busy, c.Places = p.sum("inference_busy_seconds_total", ""), p.sum("inference_concurrency_limit", "")
	p.each("inference_batch_size", "", func(m *dto.Metric) {
		c.Calls += float64(m.GetHistogram().GetSampleCount())
		c.Rows += m.GetHistogram().GetSampleSum()
	})
	p.each("inference_seconds", "", func(m *dto.Metric) { c.Seconds += m.GetHistogram().GetSampleSum() })
	p.each("arrival_to_publish_seconds", "", func(m *dto.Metric) {
		for _, b := range m.GetHistogram().GetBucket() {
			c.Freshness = append(c.Freshness, Bucket{b.GetUpperBound(), float64(b.GetCumulativeCount())})
		}
	})
	return c, nil
}

// page is the metrics of one pipeline.
type page struct {
	families map[string]*dto.MetricFamily
	pipeline string
}

// each calls do for the metrics of a family, of one topic where one is named, and counts them.
func (p *page) each(name, topic string, do func(*dto.Metric)) (n int) {
	for _, m := range p.families["freshet_"+name].GetMetric() {
		if label(m, "pipeline") == p.pipeline && (topic == "" || label(m, "topic") == topic) {
			do(m)
			n++
		}
	}
	return n
}

// sum of a family's metrics; NaN without any.
func (p *page) sum(name, topic string) float64 {
	total := 0.0
	if p.each(name, topic, func(m *dto.Metric) { total += value(m) }) == 0 {
		return math.NaN()
	}
	return total
}

func value(m *dto.Metric) float64 {
	switch {
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	}
	return m.Untyped.GetValue()
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
