package console

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/internal/histogram"
	"github.com/freshet-io/freshet/pipeline"
)

// Collector gives the counters of a running pipeline the names that Prometheus
// and dashboards know; names are never changed by how the pipeline runs.
type Collector struct {
	stats func() pipeline.Stats
	lag   func(context.Context) (broker.Lag, error)

	consumed, predictions, failures, fallbacks, letters *prometheus.Desc
	expressionFaults, lookupMisses                      *prometheus.Desc
	behind, age, freshness, sinceArrival, lookup        *prometheus.Desc
	batch, inference, inferenceBatch, flushes, busy     *prometheus.Desc
	stateKeys, stateBytes                               *prometheus.Desc
}

// lagTimeout bounds the look at the broker during a scrape.
const lagTimeout = 2 * time.Second

// NewCollector reads a pipeline's counters at each scrape.
func NewCollector(p *pipeline.Pipeline) *Collector {
	name := p.Stats().Name
	desc := func(metric, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("freshet_"+metric, help, labels, prometheus.Labels{"pipeline": name})
	}
	return &Collector{
		stats: p.Stats, lag: p.Lag,
		consumed:         desc("events_total", "Events read from the source."),
		predictions:      desc("predictions_total", "Results published durably.", "model", "version"),
		failures:         desc("prediction_failures_total", "Events that the model did not score."),
		fallbacks:        desc("prediction_fallbacks_total", "Events scored by the fallback."),
		letters:          desc("dead_letters_total", "Events that could not be processed.", "reason"),
		expressionFaults: desc("expression_faults_total", "Values that an expression could not compute."),
		lookupMisses:     desc("lookup_misses_total", "Keys that a lookup table did not have."),
		behind:           desc("consumer_lag", "Events of the source that are not processed yet."),
		age:              desc("oldest_event_age_seconds", "Time since the oldest of them was stored."),
		freshness:        desc("freshness_seconds", "Publication time minus event time."),
		sinceArrival:     desc("arrival_to_publish_seconds", "Publication time minus the time the broker stored the event."),
		lookup:           desc("feature_lookup_seconds", "Time of one feature step over one batch."),
		batch:            desc("commit_events", "Events of each commit."),
		inference:        desc("inference_seconds", "Time of one call of the model."),
		inferenceBatch:   desc("inference_batch_size", "Rows of one call of the model."),
		flushes:          desc("inference_flush_total", "Batches by the reason they were closed for.", "reason"),
		busy:             desc("model_utilization_ratio", "Share of the model's instances that was busy since the start of the process."),
		stateKeys:        desc("state_keys", "Keys with state."),
		stateBytes:       desc("state_bytes", "Approximate size of the keyed state in memory."),
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	counter(c.consumed, s.Consumed)
	counter(c.predictions, s.Predictions, s.Model, s.Version)
	counter(c.failures, s.Failures)
	counter(c.fallbacks, s.Fallbacks)
	for reason, n := range s.DeadLetters {
		counter(c.letters, n, reason)
	}
	counter(c.expressionFaults, s.ExpressionFaults)
	counter(c.lookupMisses, s.LookupMisses)
	for reason, n := range s.Flushes {
		counter(c.flushes, n, reason)
	}
	histograms := []struct {
		d *prometheus.Desc
		h *histogram.Snapshot
		b []float64
		// unit is what one counted value is worth in the metric's unit.
		unit float64
	}{
		{c.freshness, &s.Freshness, seconds, 1e-9},
		{c.sinceArrival, &s.SinceArrival, seconds, 1e-9},
		{c.lookup, &s.FeatureLookup, seconds, 1e-9},
		{c.inference, &s.Inference, seconds, 1e-9},
		{c.inferenceBatch, &s.InferenceBatch, sizes, 1},
		{c.batch, &s.BatchRows, sizes, 1},
	}
	for _, x := range histograms {
		buckets := make(map[float64]uint64, len(x.b))
		for _, le := range x.b {
			buckets[le] = x.h.AtMost(int64(le / x.unit))
		}
		ch <- prometheus.MustNewConstHistogram(x.d, x.h.Count, float64(x.h.Sum)*x.unit, buckets)
	}
	if s.Instances > 0 && s.Running > 0 {
		gauge(c.busy, s.BusySeconds/(s.Running.Seconds()*float64(s.Instances)))
	}
	gauge(c.stateKeys, float64(s.StateKeys))
	gauge(c.stateBytes, float64(s.StateBytes))

	ctx, cancel := context.WithTimeout(context.Background(), lagTimeout)
	defer cancel()
	if lag, err := c.lag(ctx); err == nil {
		gauge(c.behind, float64(lag.Records))
		gauge(c.age, lag.OldestAge.Seconds())
	}
}

var (
	seconds = []float64{
		0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
		0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 3600,
	}
	sizes = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}
)
