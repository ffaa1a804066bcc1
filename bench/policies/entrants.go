package policies

import (
	"maps"
	"slices"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/internal/spell"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/policy"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// task is what a pilot is made for.
type task struct {
	world *World
	// arrivals are those to come: only policies of the group Offline look at them. first are those of
	// the first third.
	arrivals, first *trace.Trace
}

// setting is one way to set up an entrant.
type setting struct {
	text string
	make func(*task) (orchestrator.Pilot, error)
}

// entrant is a policy in the comparison.
type entrant struct {
	name  string
	group Group // of entrants that are neither tuned nor shown with defaults
	// tuned entrants run with the best of settings; defaultName, where set, runs defaults as well.
	tuned       bool
	settings    []setting
	defaultName string
	defaults    setting
}

// defaults is the index of entrant.defaults.
const defaults = -1

// groups are the rows that an entrant has in a table.
func (e *entrant) groups() []Group {
	var gs []Group
	if e.tuned {
		gs = append(gs, Tuned)
	}
	if e.defaultName != "" {
		gs = append(gs, Default)
	}
	if e.group != "" {
		gs = append(gs, e.group)
	}
	return gs
}

// OursName is what reports call our policy: an ensemble of forecasters, a receding horizon over a reactive floor, within rails.
const OursName = "freshet"

// Names are the policies that Config.Policies may name.
func Names() []string {
	var names []string
	for _, e := range entrants() {
		names = append(names, e.name)
	}
	return names
}

func entrants() []*entrant {
	es := []*entrant{oursEntrant()}
	for _, b := range []struct{ name, shown string }{
		{"static", ""}, {"hpa", "hpa at 50 % CPU"}, {"keda", "keda default"}, {"kpa", "kpa default"}, {"ds2", "ds2 default"}, {"flink", "flink default"},
	} {
		es = append(es, baseline(b.name, b.shown))
	}
	peak := baseline("static-peak", "static peak")
	peak.tuned = false
	foresight := &entrant{name: "foresight", group: Offline, settings: []setting{{make: func(t *task) (orchestrator.Pilot, error) {
		return named("foresight", map[string]any{policy.SettingArrivals: t.arrivals, "jitter": t.world.Jitter}, t)
	}}}}
	return append(es, peak, foresight)
}

// baseline is a policy of others with the grid that it is tuned over.
func baseline(name, shown string) *entrant {
	e := &entrant{name: name, tuned: true, defaultName: shown}
	for _, m := range policy.Grid(name) {
		e.settings = append(e.settings, settingOf(name, m))
	}
	m := map[string]any{}
	if name == "hpa" {
		m["target"] = 0.5
	}
	e.defaults = settingOf(name, m)
	if e.defaults.text == "" {
		e.defaults.text = "defaults"
	}
	return e
}

func settingOf(name string, m map[string]any) setting {
	return setting{text: settingText(m), make: func(t *task) (orchestrator.Pilot, error) {
		m := maps.Clone(m)
		if strings.HasPrefix(name, "static") {
			m[policy.SettingArrivals] = t.first
		}
		return named(name, m, t)
	}}
}

func named(name string, m map[string]any, t *task) (orchestrator.Pilot, error) {
	p, err := policy.Named(name, m)
	if err != nil {
		return nil, err
	}
	return orchestrator.Bare(p, t.world.Capacity, t.world.Objective), nil
}

// chosenEntrants are those with the names, ours always among them.
func chosenEntrants(names []string, ablation bool) ([]*entrant, error) {
	all := entrants()
	known := Names()
	for _, n := range names {
		if n == "all" || slices.Contains(known, n) {
			continue
		}
		if near := spell.Nearest(n, known); near != "" {
			return nil, errkind.Errorf(errkind.Config, "unknown policy %q: did you mean %q?", n, near)
		}
		return nil, errkind.Errorf(errkind.Config, "unknown policy %q: there are all, %s", n, strings.Join(known, ", "))
	}
	chosen := slices.DeleteFunc(all, func(e *entrant) bool {
		return len(names) > 0 && !slices.Contains(names, "all") && !slices.Contains(names, e.name) && e.name != OursName
	})
	if ablation {
		chosen = append(chosen, ablations()...)
	}
	return chosen, nil
}
