package policy

import (
	"fmt"
	"math"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

// KPAConfig is a Knative revision's autoscaling annotations.
type KPAConfig struct {
	// Metric is "rps" (arrivals a second) or "concurrency" (events that wait or are in hand).
	Metric string
	// Target is what one worker takes of the metric in all. 0 means, for rps, Capacity.Rate (Knative's own
	// 200 is a guess about web servers); for concurrency Knative's 100.
	Target float64
	// TargetSeconds, when positive, gives Target for concurrency as that many seconds of one worker's work.
	TargetSeconds float64
	// Utilization is the share of Target to keep: target-utilization-percentage ÷ 100.
	Utilization float64
	// Tick is how often it decides. Stable is the window of the mean; Panic the share of it that is the panic window;
	// PanicThreshold the wanted ÷ ready workers at which panic begins.
	Tick, Stable          time.Duration
	Panic, PanicThreshold float64
	// MaxUp and MaxDown bound one decision to ready·MaxUp and ready ÷ MaxDown.
	MaxUp, MaxDown float64
	// ScaleDownDelay is the window of which the largest decision counts; ScaleToZeroGrace how long
	// the last worker stays after nobody wants it.
	ScaleDownDelay, ScaleToZeroGrace time.Duration
}

// DefaultKPA is config-autoscaler as it is installed.
func DefaultKPA() KPAConfig {
	return KPAConfig{
		Metric: "rps", Utilization: 0.7, Tick: 2 * time.Second, Stable: 60 * time.Second, Panic: 0.1,
		PanicThreshold: 2, MaxUp: 1000, MaxDown: 2, ScaleToZeroGrace: 30 * time.Second,
	}
}

func (c *KPAConfig) validate() error {
	if c.Metric != "rps" && c.Metric != "concurrency" {
		return errkind.Errorf(errkind.Config, "metric is %q: it is rps or concurrency", c.Metric)
	}
	if c.ScaleDownDelay < 0 || c.ScaleDownDelay > time.Hour || c.ScaleToZeroGrace < 0 {
		return errkind.Errorf(errkind.Config, "scale_down_delay is %v and scale_to_zero_grace %v: the first has to be 0 to 1h, the second at least 0", c.ScaleDownDelay, c.ScaleToZeroGrace)
	}
	if c.Stable < 6*time.Second || c.Stable > time.Hour {
		return errkind.Errorf(errkind.Config, "stable is %v: it has to be 6s to 1h", c.Stable)
	}
	return firstError(within("target", c.Target, 0, 1e15), within("target_seconds", c.TargetSeconds, 0, 1e9),
		within("utilization", c.Utilization, 0.01, 1), positive("tick", c.Tick), within("panic", c.Panic, 0.01, 1),
		within("panic_threshold", c.PanicThreshold, 1.1, 10), within("max_up", c.MaxUp, 1.0000001, 1e9), within("max_down", c.MaxDown, 1.0000001, 1e9))
}

// NewKPA returns Knative's pod autoscaler, as in knative.dev/serving
// pkg/autoscaler/scaling/autoscaler.go: the mean of a metric over a stable and a short
// panic window ÷ its target, bounded by what is ready; in panic it never lowers. A stream has
// no requests, so its arrivals are taken for them. Windows end at the newest signals.
func NewKPA(c KPAConfig) (orchestrator.Policy, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("configure kpa: %w", err)
	}
	return &kpa{config: c}, nil
}

type kpa struct {
	config   KPAConfig
	begun    bool
	samples  []kpaSample // oldest first
	panicked time.Time   // zero: not in panic
	most     int         // while in panic
	delayed  []hpaCount
	unwanted time.Time // since when no worker is wanted; zero: one is
}

type kpaSample struct {
	at           time.Time
	value, width float64
}

func (k *kpa) Name() string          { return "kpa" }
func (k *kpa) Period() time.Duration { return k.config.Tick }

func (k *kpa) target(c *orchestrator.Capacity) float64 {
	total := k.config.Target
	rate := c.Rate(0)
	switch {
	case k.config.Metric == "concurrency" && k.config.TargetSeconds > 0 && usable(rate):
		total = k.config.TargetSeconds * rate
	case total == 0 && k.config.Metric == "concurrency":
		total = 100
	case total == 0 && usable(rate):
		total = rate
	}
	return max(0.01, total*k.config.Utilization)
}

// take keeps what was measured; signals that came before are not counted twice.
func (k *kpa) take(s *orchestrator.Signals) {
	value, known := s.Arrivals, orchestrator.KnownArrivals
	if k.config.Metric == "concurrency" {
		value, known = s.Lag, orchestrator.KnownLag
	}
	if !s.Known.Has(known) || !usable(value) {
		return
	}
	width := s.Window.Seconds()
	if width <= 0 {
		width = k.config.Tick.Seconds()
	}
	if n := len(k.samples); n > 0 && !s.Time.After(k.samples[n-1].at) {
		return
	}
	cutoff, gone := s.Time.Add(-k.config.Stable), 0
	for gone < len(k.samples) && !k.samples[gone].at.After(cutoff) {
		gone++
	}
	k.samples = append(k.samples[:0], k.samples[gone:]...)
	k.samples = append(k.samples, kpaSample{s.Time, value, width})
}

// mean is over the samples of the last window.
func (k *kpa) mean(window time.Duration) float64 {
	cutoff := k.samples[len(k.samples)-1].at.Add(-window)
	sum, width := 0.0, 0.0
	for i := len(k.samples) - 1; i >= 0 && k.samples[i].at.After(cutoff); i-- {
		sum += k.samples[i].value * k.samples[i].width
		width += k.samples[i].width
	}
	return sum / width
}

func (k *kpa) Decide(in *orchestrator.Input) orchestrator.Decision {
	if !complete(in) {
		return hold(in, "no signals: nothing is done")
	}
	s, c := in.Signals, &k.config
	if !s.Known.Has(orchestrator.KnownWorkers) {
		return hold(in, "how many workers are ready is not known: nothing is done")
	}
	if !k.begun {
		// Begun above one worker it keeps them until it knows enough, by being in panic.
		k.begun = true
		if s.Ready > 1 {
			k.panicked, k.most = in.Now, s.Ready
		}
	}
	k.take(s)
	if len(k.samples) == 0 || in.Now.Sub(k.samples[len(k.samples)-1].at) > c.Stable {
		return hold(in, "no %s in the stable window of %v: nothing is done", c.Metric, c.Stable)
	}
	ready := max(1, float64(s.Ready))
	target := k.target(in.Capacity)
	stable, short := k.mean(c.Stable), k.mean(time.Duration(c.Panic*float64(c.Stable)))
	wantStable, wantPanic := roundUp(stable/target), roundUp(short/target)
	up, down := roundUp(c.MaxUp*ready), int(math.Floor(ready/c.MaxDown))
	over := float64(wantPanic)/ready >= c.PanicThreshold
	if over {
		k.panicked = in.Now
	} else if !k.panicked.IsZero() && in.Now.Sub(k.panicked) > c.Stable {
		k.panicked, k.most = time.Time{}, 0
	}
	n := min(max(wantStable, down), up)
	if !k.panicked.IsZero() {
		k.most = max(k.most, n, min(max(wantPanic, down), up))
		n = k.most
	}
	wanted := n
	if c.ScaleDownDelay > 0 {
		k.delayed = since(k.delayed, in.Now.Add(-c.ScaleDownDelay))
		k.delayed = append(k.delayed, hpaCount{in.Now, n})
		for _, d := range k.delayed {
			n = max(n, d.n)
		}
	}
	n = k.bounded(in, n)
	d := orchestrator.Decision{Workers: n}
	if in.Explain {
		mode := "stable"
		if !k.panicked.IsZero() {
			mode = "panic"
		}
		d.Reason = fmt.Sprintf("%s: %s of %.1f (stable) and %.1f (panic) against %.1f a worker want %d and %d workers; %d ready allow %d to %d, so %d",
			mode, c.Metric, stable, short, target, wantStable, wantPanic, s.Ready, down, up, wanted)
		if n != wanted {
			d.Reason += fmt.Sprintf("; kept at %d", n)
		}
	}
	return d
}

// bounded applies the bounds, and keeps the last worker for the grace period.
func (k *kpa) bounded(in *orchestrator.Input, n int) int {
	low, high := limits(in.Objective, 0)
	n = min(max(n, low), high)
	if n > 0 {
		k.unwanted = time.Time{}
		return n
	}
	if k.unwanted.IsZero() {
		k.unwanted = in.Now
	}
	if in.Target > 0 && in.Now.Sub(k.unwanted) < k.config.ScaleToZeroGrace {
		return 1
	}
	return 0
}
