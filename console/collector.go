package console

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/internal/histogram"
	"github.com/freshet-io/freshet/lookup"
	"github.com/freshet-io/freshet/pipeline"
)

// Collector gives the counters of a running pipeline the names that Prometheus
// and dashboards know; names are never changed by how the pipeline runs.
type Collector struct {
	stats func() pipeline.Stats
	lags  func(context.Context) ([]pipeline.StageLag, error)
	now   func() time.Time

	consumed, predictions, failures, fallbacks, letters              *prometheus.Desc
	results, paths, explained, rollout, swaps                        *prometheus.Desc
	calls, cached, expired, breaker, breakers                        *prometheus.Desc
	outstanding, limit, waiting, labels                              *prometheus.Desc
	late, filled, lateReadings                                       *prometheus.Desc
	expressionFaults, lookupMisses                                   *prometheus.Desc
	behind, age, stored, freshness, sinceArrival, lookup             *prometheus.Desc
	batch, inference, inferenceBatch, flushes, busy                  *prometheus.Desc
	info, target, processed, overdue, busySeconds                    *prometheus.Desc
	watermark, held, stateKeys, stateBytes                           *prometheus.Desc
	storedKeys, storedBytes                                          *prometheus.Desc
	checkpointAge, checkpointBytes                                   *prometheus.Desc
	sourceRepeats, repeats, received, receivedAgain, handed, refused *prometheus.Desc
	tables                                                           tableDescs
}

// tableDescs are the metrics of one look-up table; all have the label table.
type tableDescs struct {
	rows, staleness                             *prometheus.Desc
	hits, misses, evicted, invalid              *prometheus.Desc
	requests, repeats, failures, requestSeconds *prometheus.Desc
}

// lagTimeout bounds the look at the broker during a scrape.
const lagTimeout = 2 * time.Second

// NewCollector reads a pipeline's counters at each scrape.
func NewCollector(p *pipeline.Pipeline) *Collector {
	return newCollector(p.Stats().Name, p.Stats, p.Lags)
}

func newCollector(name string, stats func() pipeline.Stats, lags func(context.Context) ([]pipeline.StageLag, error)) *Collector {
	desc := func(metric, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("freshet_"+metric, help, labels, prometheus.Labels{"pipeline": name})
	}
	return &Collector{
		stats: stats, lags: lags, now: time.Now,
		consumed:         desc("events_total", "Events read from the source."),
		info:             desc("pipeline_info", "1; the label says which topic is the source.", "source"),
		target:           desc("freshness_target_seconds", "The freshness that is promised."),
		processed:        desc("processed_events_total", "Events of the source that are done with and committed."),
		overdue:          desc("overdue_results_total", "Results published later than freshness_target_seconds after the broker stored their event."),
		busySeconds:      desc("inference_busy_seconds_total", "Time that all instances spent in calls.", "step", "version"),
		predictions:      desc("predictions_total", "Results published durably, by the version that answered each infer step.", "step", "model", "version", "arm"),
		results:          desc("results_total", "Results published durably."),
		paths:            desc("prediction_paths_total", "Results by the way to their answer: scored, cached, a fallback, skipped.", "step", "path"),
		explained:        desc("explanations_total", "Results that were to be explained, by outcome.", "step", "outcome"),
		rollout:          desc("rollout_share", "Share of the keys that the version on trial scores.", "step", "version", "arm"),
		calls:            desc("inference_calls_total", "Calls of the model that were out of the ordinary: repeated, second ones (hedges), without an answer in time.", "step", "version", "kind"),
		cached:           desc("inference_cached_rows_total", "Rows answered by the cache.", "step", "version"),
		expired:          desc("inference_expired_rows_total", "Rows whose answer would have come too late.", "step", "version"),
		breaker:          desc("inference_breaker_open", "1 while the circuit breaker refuses calls.", "step", "version"),
		breakers:         desc("inference_breaker_openings_total", "Times that the circuit breaker opened.", "step", "version"),
		outstanding:      desc("inference_outstanding_calls", "Calls that the runtime has not returned from.", "step", "version"),
		limit:            desc("inference_concurrency_limit", "Batches that may be under way at once.", "step", "version"),
		waiting:          desc("inference_waiting_rows", "Rows that wait for the model.", "step", "version"),
		labels:           desc("rollout_labels_total", "Labels that came while a rollout ran: counted, of an unknown prediction, or faulty.", "step", "outcome"),
		swaps:            desc("model_swaps_total", "Changes of the versions at work.", "step"),
		failures:         desc("prediction_failures_total", "Events that the model did not score."),
		fallbacks:        desc("prediction_fallbacks_total", "Events scored by the fallback."),
		letters:          desc("dead_letters_total", "Events that could not be processed.", "reason"),
		late:             desc("late_events_total", "Events that came later than allowed, by what becomes of them.", "policy"),
		filled:           desc("filled_rows_total", "Rows that resampling made in gaps between readings."),
		lateReadings:     desc("late_readings_total", "Readings that resampling made no rows of because their key had a newer one."),
		sourceRepeats:    desc("repeated_events_total", "Events that were on the source twice, and were processed once."),
		repeats:          desc("repeated_batches_total", "Records between stages that came twice after a restart, and were dropped."),
		received:         desc("received_messages_total", "Messages of a queue or bus that are durable on the source topic.", "topic", "from"),
		receivedAgain:    desc("received_repeats_total", "Messages that were on the source topic already.", "topic", "from"),
		handed:           desc("handed_over_results_total", "Results that a queue, database, file or webhook has taken, repeats included.", "topic", "to"),
		refused:          desc("refused_results_total", "Results that it will never take.", "topic", "to"),
		expressionFaults: desc("expression_faults_total", "Values that an expression could not compute."),
		lookupMisses:     desc("lookup_misses_total", "Rows for which a look-up gave nothing."),
		behind:           desc("consumer_lag", "Records of a topic that are not processed yet: events of the source, batches of events between stages.", "topic"),
		stored:           desc("stored_records_total", "Records that a topic has taken since it was made, where the broker counts them.", "topic"),
		age:              desc("oldest_event_age_seconds", "Time since the oldest record of a topic that is not processed yet was stored there.", "topic"),
		freshness:        desc("freshness_seconds", "Publication time minus event time."),
		sinceArrival:     desc("arrival_to_publish_seconds", "Publication time minus the time the broker stored the event."),
		lookup:           desc("feature_lookup_seconds", "Time of one feature step over one batch."),
		batch:            desc("commit_events", "Events of each batch that was committed, in any stage."),
		inference:        desc("inference_seconds", "Time of one call of the model.", "step", "version"),
		inferenceBatch:   desc("inference_batch_size", "Rows of one call of the model.", "step", "version"),
		flushes:          desc("inference_flush_total", "Batches by the reason they were closed for.", "step", "version", "reason"),
		busy:             desc("model_utilization_ratio", "Share of the version's instances that was busy since the start of the process.", "step", "version"),
		watermark:        desc("watermark_seconds", "Event time that the tasks on a topic have reached, in Unix seconds.", "topic", "partition"),
		held:             desc("held_events", "Events that were read and wait for their turn in the order of time.", "topic"),
		stateKeys:        desc("state_keys", "Keys whose state is in memory, by the topic whose events it is of.", "topic"),
		stateBytes:       desc("state_bytes", "Approximate size of the keyed state in memory.", "topic"),
		storedKeys:       desc("state_store_keys", "Keys whose state is in the local store, an estimate.", "topic"),
		storedBytes:      desc("state_store_bytes", "Size of that state on disk, an estimate.", "topic"),
		checkpointAge:    desc("checkpoint_age_seconds", "Time since the checkpoint that is furthest behind held everything."),
		checkpointBytes:  desc("checkpoint_bytes", "Size of the checkpoints in their store."),
		tables: tableDescs{
			rows:           desc("lookup_rows_total", "Rows looked up: found, missing in the table, or failed because it could not be asked.", "table", "outcome"),
			staleness:      desc("feature_staleness_seconds", "Age of looked-up values by the clock, of a sample.", "table"),
			hits:           desc("lookup_cache_hits_total", "Rows that the cache answered.", "table"),
			misses:         desc("lookup_cache_misses_total", "Rows that the cache did not have.", "table"),
			evicted:        desc("lookup_cache_evictions_total", "Rows that left the cache to make room.", "table"),
			invalid:        desc("lookup_invalid_total", "Rows read from the server whose values do not fit their fields.", "table"),
			requests:       desc("lookup_requests_total", "Requests to the table's server.", "table"),
			repeats:        desc("lookup_request_repeats_total", "Requests that repeat one that failed.", "table"),
			failures:       desc("lookup_request_errors_total", "Requests that failed.", "table"),
			requestSeconds: desc("lookup_request_seconds", "Time of one request to the table's server.", "table"),
		},
	}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c *Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.stats()
	out := sink(ch)
	out.gauge(c.info, 1, s.Source)
	out.gauge(c.target, s.Target.Seconds())
	out.counter(c.consumed, s.Consumed)
	out.counter(c.processed, s.Processed)
	out.counter(c.overdue, s.SinceArrival.Count-s.SinceArrival.AtMost(int64(s.Target)))
	c.models(out, &s)
	out.counter(c.failures, s.Failures)
	out.counter(c.fallbacks, s.Fallbacks)
	for reason, n := range s.DeadLetters {
		out.counter(c.letters, n, reason)
	}
	out.counter(c.late, s.Late, s.LatePolicy.String())
	out.counter(c.filled, s.Filled)
	out.counter(c.lateReadings, s.LateReadings)
	out.counter(c.sourceRepeats, s.SourceRepeats)
	out.counter(c.repeats, s.Repeats)
	for _, b := range s.Bridges {
		if b.In {
			out.counter(c.received, b.Carried, b.Topic, b.URL)
			out.counter(c.receivedAgain, b.Repeats, b.Topic, b.URL)
		} else {
			out.counter(c.handed, b.Carried, b.Topic, b.URL)
			out.counter(c.refused, b.Refused, b.Topic, b.URL)
		}
	}
	out.counter(c.expressionFaults, s.ExpressionFaults)
	out.counter(c.lookupMisses, s.LookupMisses)
	out.seconds(c.freshness, &s.Freshness)
	out.seconds(c.sinceArrival, &s.SinceArrival)
	out.seconds(c.lookup, &s.FeatureLookup)
	out.histogram(c.batch, &s.BatchRows, sizes, 1)
	for _, st := range s.Stages {
		for partition, at := range st.Watermarks {
			out.gauge(c.watermark, float64(at)/1e9, st.Topic, strconv.Itoa(partition))
		}
		out.gauge(c.held, float64(st.Held), st.Topic)
		out.gauge(c.stateKeys, float64(st.Keys), st.Topic)
		out.gauge(c.stateBytes, float64(st.Bytes), st.Topic)
		if st.Store {
			out.gauge(c.storedKeys, float64(st.StoredKeys), st.Topic)
			out.gauge(c.storedBytes, float64(st.StoredBytes), st.Topic)
		}
	}
	if !s.CheckpointAt.IsZero() {
		out.gauge(c.checkpointAge, max(0, c.now().Sub(s.CheckpointAt)).Seconds())
		out.gauge(c.checkpointBytes, float64(s.CheckpointBytes))
	}
	for i := range s.Tables {
		c.tables.collect(out, &s.Tables[i])
	}
	ctx, cancel := context.WithTimeout(context.Background(), lagTimeout)
	defer cancel()
	if lags, err := c.lags(ctx); err == nil {
		for _, l := range lags {
			out.gauge(c.behind, float64(l.Records), l.Topic)
			out.gauge(c.age, l.OldestAge.Seconds(), l.Topic)
			if l.Stored >= 0 {
				out.counter(c.stored, uint64(l.Stored), l.Topic)
			}
		}
	}
}

// models writes what the infer steps did.
func (c *Collector) models(out sink, s *pipeline.Stats) {
	out.counter(c.results, s.Predictions)
	for i := range s.Steps {
		st := &s.Steps[i]
		for _, v := range st.Versions {
			out.counter(c.predictions, v.Predictions, st.Name, v.Model, v.Version, v.Role)
		}
		for path, n := range st.Paths {
			out.counter(c.paths, n, st.Name, path)
		}
		out.counter(c.explained, st.Explained, st.Name, "explained")
		out.counter(c.explained, st.Unexplained, st.Name, "failed")
		out.counter(c.labels, st.Labels.Counted, st.Name, "counted")
		out.counter(c.labels, st.Labels.Unknown, st.Name, "unknown")
		out.counter(c.labels, st.Labels.Faulty, st.Name, "faulty")
		out.counter(c.swaps, st.Status.Swaps, st.Name)
		if r := st.Status.Rollout; r != nil {
			out.gauge(c.rollout, r.Share, st.Name, r.Version, r.Role.String())
		}
		for j := range st.Served {
			m := &st.Served[j]
			out.seconds(c.inference, &m.Seconds, st.Name, m.Version)
			out.histogram(c.inferenceBatch, &m.Batch, sizes, 1, st.Name, m.Version)
			for reason, n := range m.Flushes {
				out.counter(c.flushes, n, st.Name, m.Version, reason)
			}
			out.counter(c.calls, m.Retries, st.Name, m.Version, "retry")
			out.counter(c.calls, m.Hedges, st.Name, m.Version, "hedge")
			out.counter(c.calls, m.Timeouts, st.Name, m.Version, "timeout")
			out.counter(c.cached, m.Cached, st.Name, m.Version)
			out.counter(c.expired, m.Expired, st.Name, m.Version)
			out.counter(c.breakers, m.Opened, st.Name, m.Version)
			open := 0.0
			if m.Health.Breaker == inference.BreakerOpen {
				open = 1
			}
			out.gauge(c.breaker, open, st.Name, m.Version)
			out.gauge(c.outstanding, float64(m.Health.Outstanding), st.Name, m.Version)
			out.gauge(c.limit, float64(m.Health.Limit), st.Name, m.Version)
			out.gauge(c.waiting, float64(m.Health.Waiting), st.Name, m.Version)
			out <- prometheus.MustNewConstMetric(c.busySeconds, prometheus.CounterValue, m.BusySeconds, st.Name, m.Version)
			if m.Instances > 0 && s.Running > 0 {
				out.gauge(c.busy, m.BusySeconds/(s.Running.Seconds()*float64(m.Instances)), st.Name, m.Version)
			}
		}
	}
}

func (d *tableDescs) collect(out sink, t *pipeline.TableStats) {
	out.counter(d.rows, t.Found, t.Name, lookup.Found.String())
	out.counter(d.rows, t.Missing, t.Name, lookup.Missing.String())
	out.counter(d.rows, t.Failed, t.Name, lookup.Failed.String())
	if t.Staleness.Count > 0 { // else the table has no times
		out.histogram(d.staleness, &t.Staleness, ages, 1e-9, t.Name)
	}
	s := t.Server
	if s == nil {
		return
	}
	out.counter(d.hits, s.Hits, t.Name)
	out.counter(d.misses, s.Misses, t.Name)
	out.counter(d.evicted, s.Evicted, t.Name)
	out.counter(d.invalid, s.Invalid, t.Name)
	out.counter(d.requests, s.Requests, t.Name)
	out.counter(d.repeats, s.Repeats, t.Name)
	out.counter(d.failures, s.Errors, t.Name)
	out.seconds(d.requestSeconds, &s.Seconds, t.Name)
}

// sink takes the metrics of one scrape.
type sink chan<- prometheus.Metric

func (ch sink) counter(d *prometheus.Desc, v uint64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (ch sink) gauge(d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// seconds is a histogram of nanoseconds.
func (ch sink) seconds(d *prometheus.Desc, h *histogram.Snapshot, labels ...string) {
	ch.histogram(d, h, seconds, 1e-9, labels...)
}

// histogram has the given buckets; unit is what one counted value is worth in the metric's unit.
func (ch sink) histogram(d *prometheus.Desc, h *histogram.Snapshot, bounds []float64, unit float64, labels ...string) {
	buckets := make(map[float64]uint64, len(bounds))
	for _, le := range bounds {
		buckets[le] = h.AtMost(int64(le / unit))
	}
	ch <- prometheus.MustNewConstHistogram(d, h.Count, float64(h.Sum)*unit, buckets, labels...)
}

var (
	seconds = []float64{
		0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
		0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 3600,
	}
	// ages are seconds too, of values that may be as old as months.
	ages  = []float64{0.1, 1, 10, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 7 * 86400, 30 * 86400, 365 * 86400}
	sizes = []float64{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096}
)
