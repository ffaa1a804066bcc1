package policy

import (
	"fmt"
	"math"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

// HPAConfig is a HorizontalPodAutoscaler with one metric.
type HPAConfig struct {
	// Metric is "cpu" (a Resource metric) or "rate" (a Pods metric: events served a
	// second, against Target·Capacity.Rate).
	Metric string
	// Target is the use of a pod to keep, as a share of its request: averageUtilization ÷ 100.
	Target float64
	// Busy is what the metric cpu reads.
	Busy Busy
	// Sync is horizontal-pod-autoscaler-sync-period.
	Sync time.Duration
	// ToleranceUp and ToleranceDown: ratios within 1-down and 1+up change nothing.
	ToleranceUp, ToleranceDown float64
	// CPUInitialization is how long after its start a pod's first samples may be
	// ignored; MetricWindow how long it has to be ready before one counts then.
	CPUInitialization, MetricWindow time.Duration
	Behavior                        HPABehavior
}

// DefaultHPA is what an HPA on CPU does when nothing is said.
func DefaultHPA() HPAConfig {
	return HPAConfig{
		Metric: "cpu", Target: 0.8, Busy: BusyCalls, Sync: 15 * time.Second, ToleranceUp: 0.1, ToleranceDown: 0.1,
		CPUInitialization: 5 * time.Minute, MetricWindow: 15 * time.Second, Behavior: DefaultHPABehavior(),
	}
}

func (c *HPAConfig) validate() error {
	if c.Metric != "cpu" && c.Metric != "rate" {
		return errkind.Errorf(errkind.Config, "metric is %q: it is cpu or rate", c.Metric)
	}
	if c.CPUInitialization < 0 || c.MetricWindow < 0 {
		return errkind.Errorf(errkind.Config, "cpu_initialization is %v and metric_window %v: neither may be negative", c.CPUInitialization, c.MetricWindow)
	}
	return firstError(within("target", c.Target, 0.01, 10), c.Busy.validate(), positive("sync", c.Sync),
		within("tolerance", c.ToleranceUp, 0, 10), within("tolerance_down", c.ToleranceDown, 0, 1), c.Behavior.validate())
}

// NewHPA returns Kubernetes' HorizontalPodAutoscaler, as in k8s.io/kubernetes
// pkg/controller/podautoscaler: the ratio of use to target times the pods that count, with its
// rules for missing and unready pods, then Behavior. It knows neither the
// backlog nor how long a pod takes to start. A pod that is ordered and not ready is
// unready to the metric cpu, and missing to the metric rate, as it exports none.
func NewHPA(c HPAConfig) (orchestrator.Policy, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("configure hpa: %w", err)
	}
	return &hpa{config: c, governor: hpaGovernor{behavior: c.Behavior}, ready: -1}, nil
}

type hpa struct {
	config   HPAConfig
	governor hpaGovernor
	ready    int        // at the last round; -1 before the first
	young    []hpaCount // when pods became ready, oldest first
}

func (h *hpa) Name() string          { return "hpa" }
func (h *hpa) Period() time.Duration { return h.config.Sync }

func (h *hpa) Decide(in *orchestrator.Input) orchestrator.Decision {
	if !complete(in) {
		return hold(in, "no signals: nothing is done")
	}
	s, c := in.Signals, &h.config
	low, high := limits(in.Objective, 1)
	switch {
	case in.Target <= 0:
		return hold(in, "scaling is disabled while no worker is ordered")
	case in.Target > high:
		return orchestrator.Decision{Workers: high, Reason: explain(in, "%d workers are more than the maximum of %d", in.Target, high)}
	case in.Target < low:
		return orchestrator.Decision{Workers: low, Reason: explain(in, "%d workers are fewer than the minimum of %d", in.Target, low)}
	}
	use, ok := h.use(s, in.Capacity)
	if !ok {
		return hold(in, "the metric %s is not there: nothing is done", c.Metric)
	}
	pods := h.count(in)
	if pods.ready == 0 {
		return hold(in, "no metric of a ready worker yet: nothing is done")
	}
	m := hpaMetric{use: use, target: c.Target, missing: max(1, c.Target), whole: c.Metric == "cpu"}
	if c.Metric == "rate" {
		m.missing = c.Target
	}
	want, ratio := m.replicas(pods, in.Target, c.ToleranceUp, c.ToleranceDown)
	n, why := h.governor.apply(in.Now, in.Target, want, low, high)
	d := orchestrator.Decision{Workers: n}
	if in.Explain {
		d.Reason = fmt.Sprintf("%s at %.0f %% of a target of %.0f %% over %d ready workers (%d unready, %d without metric): ratio %.2f, so %d%s",
			c.Metric, 100*use, 100*c.Target, pods.ready, pods.unready, pods.missing, ratio, want, because(n, want, why))
	}
	return d
}

// use is the mean of the metric over ready workers, as a share of what one can do.
func (h *hpa) use(s *orchestrator.Signals, c *orchestrator.Capacity) (float64, bool) {
	if h.config.Metric == "cpu" {
		return h.config.Busy.of(s, c)
	}
	rate := c.Rate(0)
	if !s.Known.Has(orchestrator.KnownServed|orchestrator.KnownWorkers) || s.Ready <= 0 || !usable(s.Served) || !usable(rate) || rate == 0 {
		return 0, false
	}
	return s.Served / (rate * float64(s.Ready)), true
}

// count sorts the pods as groupPods does. The pod list is fresh (Target) where the metric is old
// (Signals): pods that are being deleted are left out, pods just ordered are not ready.
func (h *hpa) count(in *orchestrator.Input) hpaPods {
	s, c := in.Signals, &h.config
	ready := min(max(s.Ready, 0), in.Target)
	p := hpaPods{ready: ready, unready: in.Target - ready}
	if c.Metric == "rate" {
		return hpaPods{ready: ready, missing: in.Target - ready}
	}
	h.young = since(h.young, s.Time.Add(-c.MetricWindow))
	if h.ready >= 0 && s.Ready > h.ready {
		h.young = append(h.young, hpaCount{s.Time, s.Ready - h.ready})
	}
	for gone := h.ready - s.Ready; gone > 0 && len(h.young) > 0; {
		last := &h.young[len(h.young)-1] // the youngest are deleted first
		k := min(gone, last.n)
		last.n -= k
		gone -= k
		if last.n == 0 {
			h.young = h.young[:len(h.young)-1]
		}
	}
	h.ready = s.Ready
	if in.Capacity.StartUp < c.CPUInitialization {
		young := min(changed(h.young, time.Time{}), p.ready)
		p.ready -= young
		p.unready += young
	}
	return p
}

// hpaPods are the pods of a target, as the replica calculator groups them.
type hpaPods struct{ ready, unready, missing int }

// hpaMetric is a mean per pod and its target. missing is what a pod without metric is
// taken to use when the rest would scale down; whole computes in whole percent, as
// the Resource metric does.
type hpaMetric struct {
	use, target, missing float64
	whole                bool
}

func (m *hpaMetric) ratio(total float64, pods int) float64 {
	v, target := 100*total/float64(pods), 100*m.target
	if m.whole {
		v, target = math.Floor(v+1e-6), math.Round(target)
	}
	return v / target
}

// replicas is replica_calculator.go: GetResourceReplicas and calcPlainMetricReplicas. It also
// returns the ratio that it rests on.
func (m *hpaMetric) replicas(p hpaPods, current int, up, down float64) (int, float64) {
	tolerated := func(r float64) bool { return r >= 1-down-1e-12 && r <= 1+up+1e-12 }
	total, n := m.use*float64(p.ready), p.ready
	first := m.ratio(total, n)
	withUnready := p.unready > 0 && first > 1
	if !withUnready && p.missing == 0 {
		if tolerated(first) {
			return current, first
		}
		return roundUp(first * float64(n)), first
	}
	if p.missing > 0 && first != 1 {
		n += p.missing
		if first < 1 {
			total += m.missing * float64(p.missing)
		}
	}
	if withUnready {
		n += p.unready
	}
	second := m.ratio(total, n)
	if tolerated(second) || first < 1 && second > 1 || first > 1 && second < 1 {
		return current, second
	}
	want := roundUp(second * float64(n))
	if second < 1 && want > current || second > 1 && want < current {
		return current, second
	}
	return want, second
}

// explain formats a reason where one is asked for.
func explain(in *orchestrator.Input, format string, args ...any) string {
	if !in.Explain {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// because ends a reason with what bound the wish.
func because(n, want int, why string) string {
	if n == want || why == "" {
		return " workers"
	}
	return fmt.Sprintf(" workers; %s to %d", why, n)
}
