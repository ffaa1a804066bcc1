package policy

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/spell"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// SettingArrivals is the setting that holds a *trace.Trace: what will arrive, for
// foresight; what arrived in the past, for static.
const SettingArrivals = "arrivals"

// Names returns the names that Named knows.
func Names() []string {
	return []string{"static", "static-peak", "hpa", "keda", "kpa", "ds2", "flink", "foresight"}
}

// Named returns a new policy by its name, with its product's defaults but for the settings.
// Durations are time.Duration, text such as "5m", or seconds; numbers may be of any
// type. Beside the fields of its Config each but foresight has the setting large_calls: true lets
// workers make the largest calls that the target leaves time for. Names, settings and values that are unknown or out of range are errors of kind Config.
func Named(name string, settings map[string]any) (orchestrator.Policy, error) {
	build, fields := known(name)
	if build == nil {
		return nil, unknown("policy", name, Names())
	}
	large := false
	if name != "foresight" {
		fields["large_calls"] = &large
	}
	keys := make([]string, 0, len(settings))
	for key := range settings {
		keys = append(keys, key)
	}
	slices.Sort(keys) // so that the same settings give the same error
	for _, key := range keys {
		field, ok := fields[key]
		if !ok {
			return nil, unknown("setting of "+name, key, sortedKeys(fields))
		}
		if err := assign(field, settings[key]); err != nil {
			return nil, errkind.Errorf(errkind.Config, "setting %s of %s: %w", key, name, err)
		}
	}
	p, err := build()
	if err == nil && large {
		p = &largeCalls{Policy: p}
	}
	return p, err
}

// largeCalls is a policy whose workers were told, once and for all, to make the largest calls that the target
// leaves time for; to the policy that is how workers are.
type largeCalls struct {
	orchestrator.Policy
	in       orchestrator.Input
	capacity orchestrator.Capacity
}

func (p *largeCalls) Decide(in *orchestrator.Input) orchestrator.Decision {
	if in.Capacity == nil || in.Objective == nil {
		return p.Policy.Decide(in)
	}
	p.in, p.capacity = *in, *in.Capacity
	p.capacity.Batch = largestCall(&p.capacity, in.Objective.Target/4)
	p.in.Capacity = &p.capacity
	d := p.Policy.Decide(&p.in)
	d.Batch = p.capacity.Batch
	return d
}

// WantsPartitions passes on what the policy wants.
func (p *largeCalls) WantsPartitions() bool {
	w, ok := p.Policy.(interface{ WantsPartitions() bool })
	return ok && w.WantsPartitions()
}

// known returns what makes the policy of a name, and where its settings go.
func known(name string) (func() (orchestrator.Policy, error), map[string]any) {
	switch name {
	case "static", "static-peak":
		c := DefaultStatic()
		fields := map[string]any{"workers": &c.Workers, SettingArrivals: &c.Arrivals, "quantile": &c.Quantile, "head_room": &c.HeadRoom}
		if name == "static-peak" {
			fields = map[string]any{SettingArrivals: &c.Arrivals, "head_room": &c.HeadRoom}
		}
		return func() (orchestrator.Policy, error) {
			p, err := NewStatic(c)
			if err != nil {
				return nil, err
			}
			p.(*static).named = name
			return p, nil
		}, fields
	case "hpa":
		c := DefaultHPA()
		return func() (orchestrator.Policy, error) { return NewHPA(c) }, behaviorFields(&c.Behavior, map[string]any{
			"metric": &c.Metric, "target": &c.Target, "busy": &c.Busy, "sync": &c.Sync, "tolerance": &c.ToleranceUp,
			"tolerance_down": &c.ToleranceDown, "cpu_initialization": &c.CPUInitialization, "metric_window": &c.MetricWindow,
		})
	case "keda":
		c := DefaultKEDA()
		return func() (orchestrator.Policy, error) { return NewKEDA(c) }, behaviorFields(&c.Behavior, map[string]any{
			"lag_threshold": &c.LagThreshold, "lag_calls": &c.LagCalls, "lag_seconds": &c.LagSeconds, "activation_lag": &c.ActivationLag, "polling": &c.Polling,
			"cooldown": &c.Cooldown, "allow_idle": &c.AllowIdle, "limit_to_lagging": &c.LimitToLagging, "even": &c.Even,
			"sync": &c.Sync, "tolerance": &c.ToleranceUp, "tolerance_down": &c.ToleranceDown,
		})
	case "kpa":
		c := DefaultKPA()
		return func() (orchestrator.Policy, error) { return NewKPA(c) }, map[string]any{
			"metric": &c.Metric, "target": &c.Target, "target_seconds": &c.TargetSeconds, "utilization": &c.Utilization, "tick": &c.Tick,
			"stable": &c.Stable, "panic": &c.Panic, "panic_threshold": &c.PanicThreshold, "max_up": &c.MaxUp, "max_down": &c.MaxDown,
			"scale_down_delay": &c.ScaleDownDelay, "scale_to_zero_grace": &c.ScaleToZeroGrace,
		}
	case "ds2":
		c := DefaultDS2()
		return func() (orchestrator.Policy, error) { return NewDS2(c) }, map[string]any{
			"interval": &c.Interval, "warm_up": &c.WarmUp, "activation": &c.Activation, "factor": &c.Factor, "rate_ratio": &c.RateRatio, "busy": &c.Busy,
		}
	case "flink":
		c := DefaultFlink()
		return func() (orchestrator.Policy, error) { return NewFlink(c) }, map[string]any{
			"reconcile": &c.Reconcile, "window": &c.Window, "stabilization": &c.Stabilization, "utilization": &c.Utilization, "boundary": &c.Boundary,
			"catch_up": &c.CatchUp, "restart": &c.Restart, "scale_down_interval": &c.ScaleDownInterval, "max_down": &c.MaxDown, "max_up": &c.MaxUp,
			"max_parallelism": &c.MaxParallelism, "backlog_lag": &c.BacklogLag, "observed_lag": &c.ObservedLag, "observed_switch": &c.ObservedSwitch,
			"observed_min": &c.ObservedMin, "align": &c.Align, "busy": &c.Busy,
		}
	case "foresight":
		c := DefaultForesight()
		return func() (orchestrator.Policy, error) { return NewForesight(c) }, map[string]any{
			SettingArrivals: &c.Arrivals, "ask": &c.Ask, "jitter": &c.Jitter, "head_room": &c.HeadRoom, "slack": &c.Slack, "late": &c.Late,
		}
	}
	return nil, nil
}

// behaviorFields adds the settings of the HPA's behavior.
func behaviorFields(b *HPABehavior, fields map[string]any) map[string]any {
	fields["legacy"] = &b.Legacy
	fields["stabilization_up"], fields["stabilization_down"] = &b.Up.Stabilization, &b.Down.Stabilization
	fields["select_up"], fields["select_down"] = &b.Up.Select, &b.Down.Select
	fields["policies_up"], fields["policies_down"] = &b.Up.Policies, &b.Down.Policies
	return fields
}

// assign puts a value into the field that p points to.
func assign(p, value any) error {
	switch p := p.(type) {
	case *string:
		if s, ok := value.(string); ok {
			*p = s
			return nil
		}
	case *Busy:
		if s, ok := value.(string); ok {
			*p = Busy(s)
			return nil
		}
		if b, ok := value.(Busy); ok {
			*p = b
			return nil
		}
	case *bool:
		if b, ok := value.(bool); ok {
			*p = b
			return nil
		}
	case *float64:
		if x, ok := number(value); ok {
			*p = x
			return nil
		}
	case *int:
		if x, ok := number(value); ok && x == math.Trunc(x) && math.Abs(x) <= math.MaxInt32 {
			*p = int(x)
			return nil
		}
	case *time.Duration:
		switch v := value.(type) {
		case time.Duration:
			*p = v
			return nil
		case string:
			d, err := time.ParseDuration(v)
			if err != nil {
				return errkind.Errorf(errkind.Config, "%q is no duration, such as 30s or 5m", v)
			}
			*p = d
			return nil
		}
		if x, ok := number(value); ok && math.Abs(x) < 1e9 {
			*p = time.Duration(x * float64(time.Second))
			return nil
		}
	case **trace.Trace:
		if t, ok := value.(*trace.Trace); ok {
			*p = t
			return nil
		}
	case *[]HPAPolicy:
		if v, ok := value.([]HPAPolicy); ok {
			*p = v
			return nil
		}
	}
	return errkind.Errorf(errkind.Config, "%v does not fit: %s is expected", value, expected(p))
}

func expected(p any) string {
	switch p.(type) {
	case *string, *Busy:
		return "a word"
	case *bool:
		return "true or false"
	case *float64:
		return "a number"
	case *int:
		return "a whole number"
	case *time.Duration:
		return "a duration"
	case **trace.Trace:
		return "a *trace.Trace"
	}
	return "a []policy.HPAPolicy"
}

func number(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, !math.IsNaN(v) && !math.IsInf(v, 0)
	case float32:
		return float64(v), !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0)
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	}
	return 0, false
}

func unknown(what, word string, options []string) error {
	if near := spell.Nearest(word, options); near != "" {
		return errkind.Errorf(errkind.Config, "unknown %s %q: did you mean %q?", what, word, near)
	}
	return errkind.Errorf(errkind.Config, "unknown %s %q: there are %s", what, word, strings.Join(options, ", "))
}

func sortedKeys(m map[string]any) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
