package policy

import (
	"fmt"
	"math"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

// KEDAConfig is a ScaledObject with one trigger on the lag of a log (kafka, or nats-jetstream where
// Capacity.Partitions is 0).
type KEDAConfig struct {
	// LagThreshold is the lag per worker to keep, events. LagCalls or LagSeconds, when positive, give it instead in
	// units of a worker: as that many full calls (Capacity.Batch), or seconds of its work (Capacity.Rate).
	LagThreshold, LagCalls, LagSeconds float64
	// ActivationLag is the lag above which the trigger is active.
	ActivationLag float64
	// Polling and Cooldown matter between 0 and 1 workers only: how often the trigger is asked, and
	// how long after it was last active all workers are stopped.
	Polling, Cooldown time.Duration
	// AllowIdle is allowIdleConsumers: more workers than partitions.
	AllowIdle bool
	// LimitToLagging is limitToPartitionsWithLag; it needs Signals.Partitions. Even is
	// ensureEvenDistributionOfPartitions: up to a divisor of the number of partitions.
	LimitToLagging, Even bool
	// The HPA that KEDA creates.
	Sync                       time.Duration
	ToleranceUp, ToleranceDown float64
	Behavior                   HPABehavior
}

// DefaultKEDA is a kafka trigger of which only the topic is said.
func DefaultKEDA() KEDAConfig {
	return KEDAConfig{
		LagThreshold: 10, Polling: 30 * time.Second, Cooldown: 300 * time.Second,
		Sync: 15 * time.Second, ToleranceUp: 0.1, ToleranceDown: 0.1, Behavior: DefaultHPABehavior(),
	}
}

func (c *KEDAConfig) validate() error {
	if c.Cooldown < 0 {
		return errkind.Errorf(errkind.Config, "cooldown is %v: it may not be negative", c.Cooldown)
	}
	if c.LagCalls > 0 && c.LagSeconds > 0 {
		return errkind.Errorf(errkind.Config, "lag_calls is %v and lag_seconds %v: give one of them", c.LagCalls, c.LagSeconds)
	}
	err := firstError(within("lag_calls", c.LagCalls, 0, 1e9), within("lag_seconds", c.LagSeconds, 0, 1e9))
	if c.LagCalls == 0 && c.LagSeconds == 0 && err == nil {
		err = within("lag_threshold", c.LagThreshold, 1, 1e15)
	}
	return firstError(err, within("activation_lag", c.ActivationLag, 0, 1e15),
		positive("polling", c.Polling), positive("sync", c.Sync),
		within("tolerance", c.ToleranceUp, 0, 10), within("tolerance_down", c.ToleranceDown, 0, 1), c.Behavior.validate())
}

// NewKEDA returns KEDA's lag trigger with the HorizontalPodAutoscaler behind it:
// ceil(lag ÷ threshold) by the HPA every Sync, where the lag is capped so that no worker
// is without a partition; KEDA itself only starts the first worker and stops the last.
// The lag includes what workers hold and have not committed, as Signals.Lag does.
func NewKEDA(c KEDAConfig) (orchestrator.Policy, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("configure keda: %w", err)
	}
	return &keda{config: c, governor: hpaGovernor{behavior: c.Behavior}}, nil
}

type keda struct {
	config   KEDAConfig
	governor hpaGovernor
	polled   time.Time
	synced   time.Time
	active   time.Time // when the trigger was last active
}

func (k *keda) Name() string          { return "keda" }
func (k *keda) Period() time.Duration { return min(k.config.Sync, k.config.Polling) }
func (k *keda) WantsPartitions() bool { return k.config.LimitToLagging }

// threshold is in whole events, as the trigger's is.
func (k *keda) threshold(c *orchestrator.Capacity) float64 {
	t := k.config.LagThreshold
	switch {
	case k.config.LagCalls > 0:
		t = k.config.LagCalls * float64(max(c.Batch, 1))
	case k.config.LagSeconds > 0:
		t = k.config.LagSeconds * c.Rate(0)
	}
	if !usable(t) {
		return math.MaxInt64
	}
	return max(1, math.Floor(t))
}

func (k *keda) Decide(in *orchestrator.Input) orchestrator.Decision {
	if !complete(in) {
		return hold(in, "no signals: nothing is done")
	}
	s := in.Signals
	known := s.Known.Has(orchestrator.KnownLag) && usable(s.Lag)
	if k.active.IsZero() {
		k.active = in.Now // the cooldown of a new object begins when it is made
	}
	if due(in.Now, &k.polled, k.config.Polling) && known {
		active := s.Lag > k.config.ActivationLag
		if active {
			k.active = in.Now
		}
		if in.Target <= 0 && active {
			n := max(in.Objective.Min, 1)
			return orchestrator.Decision{Workers: n, Reason: explain(in, "a lag of %.0f is above %.0f: %d workers to begin with", s.Lag, k.config.ActivationLag, n)}
		}
		if in.Target > 0 && !active && in.Objective.Min <= 0 && in.Now.Sub(k.active) >= k.config.Cooldown {
			return orchestrator.Decision{Reason: explain(in, "nothing waited for %v: no workers", k.config.Cooldown)}
		}
	}
	if in.Target <= 0 {
		if in.Objective.Min > 0 {
			n := in.Objective.Min
			return orchestrator.Decision{Workers: n, Reason: explain(in, "no worker is ordered, the minimum is %d", n)}
		}
		return hold(in, "nothing waits: no workers")
	}
	if !due(in.Now, &k.synced, k.config.Sync) {
		return hold(in, "the next look at the lag is due %v after the last", k.config.Sync)
	}
	if !known {
		return hold(in, "the lag is not known: nothing is done")
	}
	low, high := limits(in.Objective, 1)
	if in.Target > high || in.Target < low {
		n := min(max(in.Target, low), high)
		return orchestrator.Decision{Workers: n, Reason: explain(in, "%d workers are outside %d to %d", in.Target, low, high)}
	}
	threshold := k.threshold(in.Capacity)
	lag := k.counted(in, math.Floor(s.Lag), threshold)
	want := in.Target
	ratio := lag / (threshold * float64(in.Target))
	if ratio < 1-k.config.ToleranceDown-1e-12 || ratio > 1+k.config.ToleranceUp+1e-12 {
		want = roundUp(lag / threshold)
	}
	n, why := k.governor.apply(in.Now, in.Target, want, low, high)
	d := orchestrator.Decision{Workers: n}
	if in.Explain {
		d.Reason = fmt.Sprintf("a lag of %.0f (%.0f counted) against %.0f a worker: ratio %.2f to %d workers, so %d%s",
			s.Lag, lag, threshold, ratio, in.Target, want, because(n, want, why))
	}
	return d
}

// counted is the lag that the scaler reports: capped to the partitions that can be
// worked on (kafka_scaler.go, getTotalLag).
func (k *keda) counted(in *orchestrator.Input, lag, threshold float64) float64 {
	partitions := in.Capacity.Partitions
	if partitions <= 0 {
		return lag
	}
	if k.config.Even {
		for d := 1; d <= partitions; d++ {
			if partitions%d == 0 && (float64(d)*threshold >= lag || d == partitions) {
				return float64(d) * threshold
			}
		}
	}
	upper := partitions
	if k.config.LimitToLagging && in.Signals.Known.Has(orchestrator.KnownPartitions) {
		upper = 0
		for i := range in.Signals.Partitions {
			if in.Signals.Partitions[i].Lag > 0 {
				upper++
			}
		}
	} else if k.config.AllowIdle {
		return lag
	}
	if math.Floor(lag/threshold) > float64(upper) {
		return float64(upper) * threshold
	}
	return lag
}
