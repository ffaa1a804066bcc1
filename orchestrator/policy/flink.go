package policy

import (
	"fmt"
	"math"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

// FlinkConfig is job.autoscaler.* of the Flink Kubernetes operator.
type FlinkConfig struct {
	// Reconcile is how often the operator looks.
	Reconcile time.Duration
	// Window is metrics.window; Stabilization is stabilization.interval, after a change.
	Window, Stabilization time.Duration
	// Utilization and Boundary are utilization.target and the band around it where nothing is done.
	Utilization, Boundary float64
	// CatchUp is catch-up.duration, in which a backlog is to be worked off; Restart is restart.time,
	// how long a change is taken to stop the job.
	CatchUp, Restart time.Duration
	// ScaleDownInterval is scale-down.interval: how long a wish to lower is held, and then its maximum taken.
	ScaleDownInterval time.Duration
	// MaxDown and MaxUp are scale-down.max-factor and scale-up.max-factor.
	MaxDown, MaxUp float64
	// MaxParallelism is vertex.max-parallelism.
	MaxParallelism int
	// BacklogLag is backlog-processing.lag-threshold.
	BacklogLag time.Duration
	// ObservedLag, ObservedSwitch and ObservedMin are observed-true-processing-rate.{lag-threshold,
	// switch-threshold,min-observations}.
	ObservedLag    time.Duration
	ObservedSwitch float64
	ObservedMin    int
	// Align rounds up to a number of workers that spreads the partitions better (alignment mode BALANCED).
	Align bool
	// Busy is what busyTimeMsPerSecond is taken from.
	Busy Busy
}

// DefaultFlink is what the operator does when only scaling is enabled.
func DefaultFlink() FlinkConfig {
	return FlinkConfig{
		Reconcile: time.Minute, Window: 15 * time.Minute, Stabilization: 5 * time.Minute, Utilization: 0.7, Boundary: 0.3,
		CatchUp: 30 * time.Minute, Restart: 5 * time.Minute, ScaleDownInterval: time.Hour, MaxDown: 0.6, MaxUp: 100000,
		MaxParallelism: 200, BacklogLag: 5 * time.Minute, ObservedLag: 30 * time.Second, ObservedSwitch: 0.15, ObservedMin: 2,
		Align: true, Busy: BusyCalls,
	}
}

func (c *FlinkConfig) validate() error {
	for _, d := range []time.Duration{c.Stabilization, c.CatchUp, c.Restart, c.ScaleDownInterval, c.BacklogLag, c.ObservedLag} {
		if d < 0 {
			return errkind.Errorf(errkind.Config, "an interval is %v: none may be negative", d)
		}
	}
	if c.MaxParallelism < 1 || c.ObservedMin < 1 {
		return errkind.Errorf(errkind.Config, "max_parallelism is %d and observed_min %d: both have to be at least 1", c.MaxParallelism, c.ObservedMin)
	}
	return firstError(positive("reconcile", c.Reconcile), positive("window", c.Window), within("utilization", c.Utilization, 0.01, 1),
		within("boundary", c.Boundary, 0, 1), within("max_down", c.MaxDown, 0, 1), within("max_up", c.MaxUp, 0, 1e9),
		within("observed_switch", c.ObservedSwitch, 0, 100), c.Busy.validate())
}

// NewFlink returns the autoscaler of the Flink Kubernetes operator (FLIP-271) for a job
// that is one vertex, a source: its true processing rate against the capacity that
// arrivals, backlog and a restart need. Here a change adds or stops workers one
// by one, where Flink restarts the whole job: kinder than the original.
func NewFlink(c FlinkConfig) (orchestrator.Policy, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("configure flink: %w", err)
	}
	return &flink{config: c}, nil
}

type flink struct {
	config  FlinkConfig
	asked   int
	updated time.Time // since when the job runs as it is
	samples []flinkSample
	lower   struct { // the wish to lower that waits
		since time.Time
		most  int
	}
}

type flinkSample struct {
	at                       time.Time
	served, busy, lag, width float64
}

func (f *flink) Name() string          { return "flink" }
func (f *flink) Period() time.Duration { return f.config.Reconcile }

func (f *flink) Decide(in *orchestrator.Input) orchestrator.Decision {
	if !complete(in) {
		return hold(in, "no signals: nothing is done")
	}
	s, c := in.Signals, &f.config
	use, ok := c.Busy.of(s, in.Capacity)
	if !ok || !s.Known.Has(orchestrator.KnownServed|orchestrator.KnownLag|orchestrator.KnownWorkers) || !usable(s.Served) || !usable(s.Lag) {
		return hold(in, "metrics are not ready: nothing is done")
	}
	if f.updated.IsZero() || in.Target != f.asked || rescaling(in) {
		f.asked, f.updated, f.samples = in.Target, in.Now, f.samples[:0]
		return hold(in, "the job is being changed to %d workers", in.Target)
	}
	if in.Now.Sub(f.updated) < c.Stabilization {
		return hold(in, "stabilizing until %v after the change", c.Stabilization)
	}
	f.take(s, use)
	first := f.samples[0].at
	if full := s.Time.Sub(first) + time.Duration(f.samples[0].width*float64(time.Second)); full < c.Window || len(f.samples) < 2 {
		return hold(in, "metrics of %v of a window of %v are collected", full, c.Window)
	}
	return f.scale(in, f.evaluate())
}

// take adds a sample and drops what lies before the window.
func (f *flink) take(s *orchestrator.Signals, use float64) {
	width := s.Window.Seconds()
	if width <= 0 {
		width = f.config.Reconcile.Seconds()
	}
	if n := len(f.samples); n > 0 && !s.Time.After(f.samples[n-1].at) {
		return
	}
	cutoff, gone := s.Time.Add(-f.config.Window), 0
	for gone < len(f.samples) && !f.samples[gone].at.After(cutoff) {
		gone++
	}
	f.samples = append(f.samples[:0], f.samples[gone:]...)
	f.samples = append(f.samples, flinkSample{s.Time, s.Served, use, s.Lag, width})
}

// flinkMetrics are the evaluated metrics of the window.
type flinkMetrics struct {
	input    float64 // records/s served, mean
	ingest   float64 // target data rate, records/s
	lag      float64 // now, records
	tpr      float64 // true processing rate of all workers, records/s; +Inf where nothing was served
	observed bool    // tpr is from catching up, not from busy time
}

// evaluate is ScalingMetricEvaluator.
func (f *flink) evaluate() flinkMetrics {
	c := &f.config
	var served, busy, width, observed float64
	seen := 0
	for i := range f.samples {
		s := &f.samples[i]
		served += s.served * s.width
		busy += s.busy * s.width
		width += s.width
		if s.served > 0 && s.lag/s.served > c.ObservedLag.Seconds() {
			observed += s.served
			seen++
		}
	}
	first, last := &f.samples[0], &f.samples[len(f.samples)-1]
	m := flinkMetrics{input: served / width, lag: last.lag, tpr: math.Inf(1)}
	m.ingest = max(0, m.input+(last.lag-first.lag)/last.at.Sub(first.at).Seconds())
	if served > 0 && busy > 0 {
		m.tpr = served / busy
	}
	if seen >= c.ObservedMin {
		if mean := observed / float64(seen); m.tpr > mean*(1+c.ObservedSwitch) {
			m.tpr, m.observed = mean, true
		}
	}
	return m
}

// capacity is AutoScalerUtils.getTargetProcessingCapacity: what the job should be able to process, records/s.
func (c *FlinkConfig) capacity(m *flinkMetrics, utilization float64, restart bool) float64 {
	utilization = min(max(utilization, 0), 1)
	if utilization == 0 {
		return math.Inf(1)
	}
	rate := m.ingest / utilization
	if s := c.CatchUp.Seconds(); s > 0 {
		rate += m.lag / s
		if restart {
			rate += m.ingest * c.Restart.Seconds() / s
		}
	}
	return math.Round(rate)
}

// scale is JobVertexScaler and the check of ScalingExecutor.
func (f *flink) scale(in *orchestrator.Input, m flinkMetrics) orchestrator.Decision {
	c := &f.config
	low, high := limits(in.Objective, 1)
	high = min(high, max(c.MaxParallelism, in.Target))
	if p := in.Capacity.Partitions; p > 0 {
		high = min(high, p)
	}
	low = min(low, high)
	upper, lower := c.Utilization+c.Boundary, c.Utilization-c.Boundary
	if m.input > 0 && m.lag/m.input > c.BacklogLag.Seconds() {
		upper, lower = 1, 0
	}
	needed := c.capacity(&m, c.Utilization, true)
	least, most := c.capacity(&m, upper, false), c.capacity(&m, lower, true)
	factor := min(max(needed/m.tpr, 1-c.MaxDown), 1+c.MaxUp)
	want := min(max(roundUp(factor*float64(in.Target)), low), high)
	if c.Align {
		want = alignPartitions(want, in.Target, high, in.Capacity.Partitions)
	}
	n, why := want, ""
	switch {
	case want >= in.Target:
		f.lower.since = time.Time{}
	case c.ScaleDownInterval > 0:
		if f.lower.since.IsZero() {
			f.lower.since, f.lower.most = in.Now, want
		}
		f.lower.most = max(f.lower.most, want)
		if in.Now.Sub(f.lower.since) < c.ScaleDownInterval {
			n, why = in.Target, "; lowered only a scale-down interval after it was first wished"
		} else {
			n = f.lower.most
		}
	}
	if m.tpr >= least && m.tpr <= most && in.Target <= high {
		n, why = in.Target, "; within the band, so nothing is done"
	}
	d := orchestrator.Decision{Workers: n}
	if n != in.Target {
		f.asked, f.updated, f.samples, f.lower.since = n, in.Now, f.samples[:0], time.Time{}
	}
	if in.Explain {
		d.Reason = fmt.Sprintf("%.1f/s come in with %.0f waiting: capacity %.0f is needed (band %.0f to %.0f) and %.1f/s is the true rate of %d workers: factor %.2f, so %d%s",
			m.ingest, m.lag, needed, least, most, m.tpr, in.Target, factor, want, why)
	}
	return d
}

// alignPartitions is BuiltInAlignmentMode.BALANCED: the first count from want on, up to high (down: to
// current), that divides the partitions or lowers the load of the fullest worker.
func alignPartitions(want, current, high, partitions int) int {
	if partitions <= 0 || want <= 0 {
		return want
	}
	end := min(partitions, high)
	if want <= current {
		end = min(end, current)
	}
	for p := want; p <= end; p++ {
		if partitions%p == 0 || partitions/p < partitions/want {
			return p
		}
	}
	return want
}
