package policy

import (
	"math"
	"time"

	"github.com/freshet-io/freshet/errkind"
)

// HPABehavior is how fast a HorizontalPodAutoscaler may follow its metric: `behavior` of
// autoscaling/v2.
type HPABehavior struct {
	Up, Down HPARules
	// Legacy is an object without a behavior: growth to at most max(2·current, 4) a
	// round, no policies; Down.Stabilization holds all the same.
	Legacy bool
}

// HPARules are the rules of one direction.
type HPARules struct {
	// Stabilization is the window of which the lowest (up) or highest (down) recommendation counts.
	Stabilization time.Duration
	Policies      []HPAPolicy
	// Select is "Max", "Min" or "Disabled".
	Select string
}

// HPAPolicy allows a change of Value pods or percent each Period.
type HPAPolicy struct {
	Type   string // "Pods" or "Percent"
	Value  int
	Period time.Duration
}

// DefaultHPABehavior is what Kubernetes fills in: up at once by 4 pods or 100 % every 15 s,
// whichever is more; down by any number after 300 s.
func DefaultHPABehavior() HPABehavior {
	return HPABehavior{
		Up: HPARules{Select: "Max", Policies: []HPAPolicy{
			{Type: "Pods", Value: 4, Period: 15 * time.Second},
			{Type: "Percent", Value: 100, Period: 15 * time.Second},
		}},
		Down: HPARules{Stabilization: 300 * time.Second, Select: "Max", Policies: []HPAPolicy{
			{Type: "Percent", Value: 100, Period: 15 * time.Second},
		}},
	}
}

func (b *HPABehavior) validate() error {
	for _, r := range []*HPARules{&b.Up, &b.Down} {
		if r.Stabilization < 0 || r.Stabilization > time.Hour {
			return errkind.Errorf(errkind.Config, "stabilization is %v: it has to be 0 to 1h", r.Stabilization)
		}
		if r.Select != "Max" && r.Select != "Min" && r.Select != "Disabled" {
			return errkind.Errorf(errkind.Config, "select is %q: it is Max, Min or Disabled", r.Select)
		}
		if len(r.Policies) == 0 && r.Select != "Disabled" && !b.Legacy {
			return errkind.New(errkind.Config, "a direction has no policies: give one, or select Disabled")
		}
		for _, p := range r.Policies {
			if p.Type != "Pods" && p.Type != "Percent" {
				return errkind.Errorf(errkind.Config, "policy type is %q: it is Pods or Percent", p.Type)
			}
			if p.Value <= 0 || p.Period <= 0 || p.Period > 30*time.Minute {
				return errkind.Errorf(errkind.Config, "policy %s has value %d and period %v: both have to be above 0, the period at most 30m", p.Type, p.Value, p.Period)
			}
		}
	}
	return nil
}

// hpaGovernor is what an HPA remembers between rounds, and does to a recommendation: stabilise
// first, then limit the rate (podautoscaler/horizontal.go, normalizeDesiredReplicasWithBehaviors).
type hpaGovernor struct {
	behavior        HPABehavior
	recommendations []hpaCount
	ups, downs      []hpaCount
}

type hpaCount struct {
	at time.Time
	n  int
}

// apply returns what is ordered when the metric recommends desired, and which rule bound it.
func (g *hpaGovernor) apply(now time.Time, current, desired, low, high int) (int, string) {
	if len(g.recommendations) == 0 {
		// The controller enters the present count when it sees an object first, so that
		// a new one does not scale down at once.
		g.recommendations = append(g.recommendations, hpaCount{now, current})
	}
	why := ""
	n := g.stabilize(now, current, desired)
	if n != desired {
		why = "stabilized"
	}
	limited := g.limit(now, current, n)
	if limited != n {
		why = "rate limited"
	}
	n = limited
	if n < low {
		n, why = low, "minimum"
	} else if n > high {
		n, why = high, "maximum"
	}
	if n > current {
		g.ups = append(g.ups, hpaCount{now, n - current})
	} else if n < current {
		g.downs = append(g.downs, hpaCount{now, current - n})
	}
	return n, why
}

func (g *hpaGovernor) stabilize(now time.Time, current, desired int) int {
	upWindow, downWindow := g.behavior.Up.Stabilization, g.behavior.Down.Stabilization
	if g.behavior.Legacy {
		upWindow = 0
	}
	g.recommendations = since(g.recommendations, now.Add(-max(upWindow, downWindow)))
	up, down := desired, desired
	for _, r := range g.recommendations {
		if r.at.After(now.Add(-upWindow)) {
			up = min(up, r.n)
		}
		if r.at.After(now.Add(-downWindow)) {
			down = max(down, r.n)
		}
	}
	g.recommendations = append(g.recommendations, hpaCount{now, desired})
	return min(max(current, up), down)
}

func (g *hpaGovernor) limit(now time.Time, current, desired int) int {
	if g.behavior.Legacy {
		return min(desired, max(2*current, 4))
	}
	g.ups = since(g.ups, now.Add(-30*time.Minute))
	g.downs = since(g.downs, now.Add(-30*time.Minute))
	switch {
	case desired > current:
		return min(desired, max(g.proposal(now, current, &g.behavior.Up, true), current))
	case desired < current:
		return max(desired, min(g.proposal(now, current, &g.behavior.Down, false), current))
	}
	return desired
}

// proposal is the count that the policies of one direction allow.
func (g *hpaGovernor) proposal(now time.Time, current int, r *HPARules, up bool) int {
	if r.Select == "Disabled" {
		return current
	}
	// The largest change is the largest count on the way up and the smallest on the way down.
	largest := (r.Select != "Min") == up
	result := math.MaxInt32
	if largest {
		result = math.MinInt32
	}
	for _, p := range r.Policies {
		start := current - changed(g.ups, now.Add(-p.Period)) + changed(g.downs, now.Add(-p.Period))
		var n int
		switch {
		case p.Type == "Pods" && up:
			n = start + p.Value
		case p.Type == "Pods":
			n = start - p.Value
		case up:
			n = roundUp(float64(start) * (1 + float64(p.Value)/100))
		default:
			n = int(float64(start) * (1 - float64(p.Value)/100))
		}
		if largest {
			result = max(result, n)
		} else {
			result = min(result, n)
		}
	}
	return result
}

// since drops what is not after cutoff, in place.
func since(counts []hpaCount, cutoff time.Time) []hpaCount {
	kept := counts[:0]
	for _, c := range counts {
		if c.at.After(cutoff) {
			kept = append(kept, c)
		}
	}
	return kept
}

// changed sums the changes after cutoff.
func changed(counts []hpaCount, cutoff time.Time) int {
	sum := 0
	for _, c := range counts {
		if c.at.After(cutoff) {
			sum += c.n
		}
	}
	return sum
}
