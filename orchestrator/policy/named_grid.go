package policy

import "time"

// Grid returns the settings to try when a baseline is tuned: what a good engineer would turn, at most 25
// of each, in units of what a worker can do, so that one grid serves every trace.
// The product's defaults are among them where they can be stated so. static and static-peak
// want SettingArrivals added: the arrivals that they are tuned on. Unknown
// names, and foresight, which has nothing to tune, give one empty setting.
func Grid(name string) []map[string]any {
	switch name {
	case "static":
		return cross(
			axis("quantile", 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.999, 1.0),
			axis("head_room", 1.0, 1.15, 1.3))
	case "static-peak":
		return cross(axis("head_room", 1.0))
	case "hpa":
		// The CPU of workers that take what there is says little; an engineer who sees that lets them wait
		// for full calls (busy: work) or turns to events a second.
		return append(append(
			cross(axis("target", 0.3, 0.5, 0.7, 0.9), axis("stabilization_down", 0*time.Second, 300*time.Second)),
			cross(axis("busy", string(BusyWork)), axis("target", 0.4, 0.5, 0.6, 0.7, 0.8), axis("stabilization_down", 60*time.Second, 300*time.Second))...),
			cross(axis("metric", "rate"), axis("target", 0.5, 0.6, 0.7, 0.8, 0.9), axis("tolerance", 0.0), axis("stabilization_down", 300*time.Second))...)
	case "keda":
		// A worker's own share of the lag is what it holds, rate × time in hand. The larger
		// thresholds rely on a backlog of some seconds.
		return append(
			cross(axis("lag_seconds", 0.05, 0.1, 0.2, 0.4, 1.0, 3.0, 10.0), axis("stabilization_down", 0*time.Second, 60*time.Second, 300*time.Second)),
			cross(axis("lag_threshold", 10.0), axis("stabilization_down", 0*time.Second, 60*time.Second, 300*time.Second))...)
	case "kpa":
		return append(
			cross(axis("utilization", 0.5, 0.6, 0.7, 0.8, 0.9, 0.95), axis("stable", 30*time.Second, 60*time.Second, 120*time.Second)),
			cross(axis("utilization", 0.7, 0.8, 0.9), axis("scale_down_delay", 120*time.Second, 600*time.Second))...)
	case "ds2":
		return append(
			cross(axis("busy", string(BusyWork)), axis("factor", 0.0, 0.1, 0.2, 0.35, 0.5, 0.75), axis("interval", 10*time.Second, 30*time.Second, 60*time.Second)),
			cross(axis("factor", 0.0, 0.2, 0.5), axis("interval", 10*time.Second, 60*time.Second))...)
	case "flink":
		// Windows and intervals down to what its users set for minutes of freshness, and the defaults.
		quick := cross(
			axis("busy", string(BusyWork)), axis("utilization", 0.5, 0.6, 0.7, 0.8),
			axis("window", 1*time.Minute, 3*time.Minute), axis("stabilization", 30*time.Second),
			axis("scale_down_interval", 5*time.Minute, 20*time.Minute), axis("restart", 60*time.Second),
			axis("catch_up", 2*time.Minute), axis("boundary", 0.1), axis("reconcile", 15*time.Second))
		slow := cross(
			axis("busy", string(BusyCalls), string(BusyWork)), axis("utilization", 0.4, 0.6, 0.7))
		return append(quick, slow...)
	}
	return []map[string]any{{}}
}

// choice is one setting and its values.
type choice struct {
	key    string
	values []any
}

func axis[T any](key string, values ...T) choice {
	c := choice{key: key}
	for _, v := range values {
		c.values = append(c.values, v)
	}
	return c
}

// cross returns every combination.
func cross(choices ...choice) []map[string]any {
	out := []map[string]any{{}}
	for _, c := range choices {
		var next []map[string]any
		for _, m := range out {
			for _, v := range c.values {
				n := make(map[string]any, len(m)+1)
				for k, old := range m {
					n[k] = old
				}
				n[c.key] = v
				next = append(next, n)
			}
		}
		out = next
	}
	return out
}
