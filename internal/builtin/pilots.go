package builtin

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
	"github.com/freshet-io/freshet/internal/spell"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/forecast"
	"github.com/freshet-io/freshet/orchestrator/policy"
)

// Horizon and floor are ours; the others are the rules of others.
const (
	horizonName = "horizon"
	floorName   = "floor"
)

// PolicyNames are the policies that OpenPolicy knows.
func PolicyNames() []string {
	names := []string{horizonName, floorName}
	for _, n := range policy.Names() {
		// Those that want arrivals to come are for comparisons.
		if n != "foresight" && n != "static-peak" {
			names = append(names, n)
		}
	}
	return names
}

// OpenPolicy makes the policy that a text names: NAME or NAME:SETTING=VALUE,SETTING=VALUE.
// Period is how often it decides, where that can be chosen; 0 leaves its own. What is unknown is Config.
func OpenPolicy(text string, period time.Duration) (orchestrator.Policy, error) {
	name, list, _ := strings.Cut(text, ":")
	settings, err := policySettings(list)
	if err != nil {
		return nil, errkind.Errorf(errkind.Config, "policy %s: %w", text, err)
	}
	switch {
	case name == horizonName || name == floorName:
		set := policy.DefaultHorizon()
		risk, given := settings["risk"]
		if delete(settings, "risk"); given && name == horizonName {
			r, ok := risk.(float64)
			if !ok || !(r > 0 && r < 1) {
				return nil, errkind.Errorf(errkind.Config, "policy %s: a risk of %v, expected a quantile of the demand between 0 and 1, such as 0.9", text, risk)
			}
			// Who chooses the risk wants no other.
			set.Risk, set.Tail, set.Pace = r, min(set.Tail, r), -1
		}
		if len(settings) > 0 || given && name != horizonName {
			return nil, errkind.Errorf(errkind.Config, "policy %s: %s has %s", text, name, map[string]string{horizonName: "one setting, risk", floorName: "no settings"}[name])
		}
		if name == floorName {
			return paced(policy.NewFloor(policy.DefaultFloor()), period), nil
		}
		if period > 0 {
			set.Every = period
		}
		return policy.NewHorizon(set), nil
	case !slices.Contains(PolicyNames(), name):
		hint := ""
		if near := spell.Nearest(name, PolicyNames()); near != "" {
			hint = "; did you mean " + near + "?"
		}
		return nil, errkind.Errorf(errkind.Config, "policy %q is not known; there are %s%s", name, strings.Join(PolicyNames(), ", "), hint)
	case period > 0:
		return nil, errkind.Errorf(errkind.Config, "policy %s: it decides in its own period, which is one of its settings", name)
	}
	return policy.Named(name, settings)
}

// paced lets a policy decide in another period.
func paced(p orchestrator.Policy, period time.Duration) orchestrator.Policy {
	if period <= 0 {
		return p
	}
	return &pacedPolicy{p, period}
}

type pacedPolicy struct {
	orchestrator.Policy
	period time.Duration
}

func (p *pacedPolicy) Period() time.Duration { return p.period }

// policySettings reads SETTING=VALUE,SETTING=VALUE.
func policySettings(list string) (map[string]any, error) {
	settings := map[string]any{}
	if list == "" {
		return settings, nil
	}
	for _, part := range strings.Split(list, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || name == "" {
			return nil, errkind.Errorf(errkind.Config, "%q: expected SETTING=VALUE", part)
		}
		settings[name] = value
		if x, err := strconv.ParseFloat(value, 64); err == nil && !math.IsNaN(x) {
			settings[name] = x
		} else if b, err := strconv.ParseBool(value); err == nil {
			settings[name] = b
		}
	}
	return settings, nil
}

// PilotOptions is what a pilot is made of.
type PilotOptions struct {
	Policy    orchestrator.Policy
	Capacity  orchestrator.Capacity
	Objective orchestrator.Objective
	Tiers     []orchestrator.Tier
	// Past is the folder of a journal whose arrivals a forecaster learns before it begins; it may be empty.
	Past string
}

// NewPilot binds a policy into rails, with reasons for the journal, a capacity that is corrected by what
// is seen, and a forecast where it looks ahead.
func NewPilot(o PilotOptions) (orchestrator.Pilot, error) {
	set := orchestrator.Settings{
		Policy: o.Policy, Rails: orchestrator.DefaultRails(), Capacity: o.Capacity, Objective: o.Objective, Tiers: o.Tiers, Fit: true, Explain: true,
	}
	if o.Policy.Name() == horizonName {
		f := forecast.New(forecast.ForScaling())
		if o.Past != "" {
			begun := false
			err := orchestrator.Arrivals(o.Past, func(end time.Time, window time.Duration, rate float64) {
				if !begun {
					// What is asked for first settles of what the errors are learned.
					begun = true
					d := orchestrator.Demand{Time: end.Add(-window), Step: 30 * time.Second, Levels: orchestrator.DefaultLevels()}
					f.Forecast(&d, 20)
				}
				f.Observe(end, window, rate)
			})
			if err != nil {
				return nil, fmt.Errorf("learn what arrived before: %w", err)
			}
		}
		set.Forecaster = f
	}
	return orchestrator.NewController(set), nil
}

// OpenONNX opens a model in memory.
func OpenONNX(name string, data []byte) (inference.Driver, error) {
	m, err := onnx.Parse(name, data, onnx.Options{Instances: 1})
	if err != nil {
		return nil, err
	}
	return m, nil
}
