package policy

import "time"

// Grid returns the settings to try when a baseline is tuned: what a good engineer would turn, at most 25
// of each, in units of what a worker can do, so that one grid serves every trace, from a
// smooth one that wants little room to one whose jumps want several times the capacity.
// A good engineer lets workers make large calls where the target leaves time, so nearly all points do.
// static and static-peak want SettingArrivals added: the arrivals that they are tuned
// on. Unknown names, and foresight, which has nothing to tune, give one empty setting.
func Grid(name string) []map[string]any {
	large := axis("large_calls", true)
	switch name {
	case "static":
		return cross(large,
			axis("quantile", 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995, 1.0),
			axis("head_room", 0.9, 1.0, 1.15))
	case "static-peak":
		return cross(large)
	case "hpa":
		// The CPU of workers that take what there is says little; an engineer who sees that lets them wait
		// for full calls (busy: work) or turns to events a second.
		return join(
			cross(large, axis("busy", string(BusyWork)), axis("target", 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85), axis("stabilization_down", 60*time.Second, 300*time.Second)),
			cross(large, axis("metric", "rate"), axis("target", 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95), axis("tolerance", 0.0), axis("tolerance_down", 0.0)),
			cross(axis("target", 0.5, 0.7, 0.9), axis("stabilization_down", 0*time.Second)))
	case "keda":
		// A worker's share of the lag is what it holds, up to about one and a half calls; above that only a
		// backlog asks for more, and growth has to be slowed down lest it saw-tooth.
		slow := []HPAPolicy{{Type: "Pods", Value: 4, Period: time.Minute}}
		return join(
			cross(large, axis("lag_calls", 0.1, 0.2, 0.35, 0.6, 0.9, 1.2, 1.4), axis("stabilization_down", 0*time.Second, 60*time.Second, 300*time.Second)),
			cross(large, axis("lag_seconds", 1.0, 3.0), axis("policies_up", slow)),
			cross(large, axis("lag_seconds", 10.0)),
			cross(axis("lag_threshold", 10.0)))
	case "kpa":
		return join(
			cross(large, axis("utilization", 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)),
			cross(large, axis("utilization", 0.6, 0.7, 0.8, 0.9, 0.95), axis("stable", 30*time.Second, 120*time.Second)),
			cross(large, axis("utilization", 0.5, 0.7, 0.8, 0.9), axis("scale_down_delay", 600*time.Second)),
			cross(large, axis("metric", "concurrency"), axis("target_seconds", 0.5, 1.0, 2.0)))
	case "ds2":
		return join(
			cross(large, axis("busy", string(BusyWork)), axis("factor", 0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0), axis("interval", 10*time.Second, 60*time.Second)),
			cross(large, axis("busy", string(BusyWork)), axis("factor", 0.1, 0.35, 0.75), axis("rate_ratio", 1.1)),
			cross(axis("factor", 0.1, 0.5)))
	case "flink":
		// Windows and intervals down to what its users set where freshness matters, and its own.
		return join(
			cross(large, axis("busy", string(BusyWork)), axis("utilization", 0.3, 0.5, 0.6, 0.7, 0.8, 0.9), axis("boundary", 0.1),
				axis("window", 1*time.Minute, 3*time.Minute), axis("scale_down_interval", 5*time.Minute, 20*time.Minute),
				axis("stabilization", 30*time.Second), axis("restart", 30*time.Second), axis("catch_up", 10*time.Minute), axis("reconcile", 15*time.Second)),
			cross(large, axis("busy", string(BusyWork))))
	}
	return []map[string]any{{}}
}

// join is all of them in a row.
func join(grids ...[]map[string]any) []map[string]any {
	var out []map[string]any
	for _, g := range grids {
		out = append(out, g...)
	}
	return out
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
