package learn

import (
	"fmt"
	"math"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/orchestrator"
)

// Actions is how many choices a policy's network has: to keep the orders, or one of the Multipliers.
const Actions = 1 + len(multipliers)

var multipliers = [...]float64{0.7, 0.85, 0.95, 1.05, 1.15, 1.3, 1.6, 2.2, 3.5}

// Multipliers are the actions from the second on: so many times the fluid need are ordered, rounded up.
func Multipliers() []float64 { return append([]float64(nil), multipliers[:]...) }

// Period is how often PPO is asked, and was in training.
const Period = 15 * time.Second

// PPO is a policy that a network gives: see Train. It is meant for a Controller,
// whose rails bound what it cannot know.
type PPO struct {
	net         Net
	watch       watch
	obs, logits []float32
}

var _ orchestrator.Policy = (*PPO)(nil)

// NewPPO returns the policy of a network. It fails (Invalid) where the network has other sizes than Observations and Actions or
// answers with what are no numbers.
func NewPPO(net Net) (*PPO, error) {
	p := &PPO{net: net, obs: make([]float32, Observations), logits: make([]float32, Actions)}
	for _, v := range [...]float32{0, 1, -3, 4} {
		for i := range p.obs {
			p.obs[i] = v
		}
		if err := net.Infer(p.obs, p.logits); err != nil {
			return nil, errkind.Errorf(errkind.Invalid, "try policy's network: %w", err)
		}
		if _, ok := largest(p.logits); !ok {
			return nil, errkind.Errorf(errkind.Invalid, "try policy's network: it answers %v where all values are %v", p.logits, v)
		}
	}
	return p, nil
}

// Name is "ppo".
func (p *PPO) Name() string { return "ppo" }

// Period is Period.
func (p *PPO) Period() time.Duration { return Period }

// Decide takes the action that the network likes best. Without usable signals, or where the
// network fails, it holds.
func (p *PPO) Decide(in *orchestrator.Input) orchestrator.Decision {
	if !usable(in.Signals) {
		return hold(in, "Arrivals and lag are not known, or are no numbers.")
	}
	p.watch.see(in.Signals)
	batch := batchFor(in)
	n := p.watch.need(in, batch)
	p.watch.observe(in, n, batch, p.obs)
	if err := p.net.Infer(p.obs, p.logits); err != nil {
		return hold(in, fmt.Sprintf("The network failed: %v.", err))
	}
	action, ok := largest(p.logits)
	if !ok {
		return hold(in, "The network's answers are no numbers.")
	}
	d := orchestrator.Decision{Workers: workersFor(action, n, in), Batch: batch}
	if in.Explain {
		p.explain(&d, in, n, action, batch)
	}
	return d
}

func hold(in *orchestrator.Input, why string) orchestrator.Decision {
	d := orchestrator.Decision{Workers: in.Target, Hold: true}
	if in.Explain {
		d.Reason = why
	}
	return d
}

// workersFor says what an action orders, within the objective's bounds.
func workersFor(action int, n need, in *orchestrator.Input) int {
	w := in.Target
	if action > 0 {
		w = int(math.Ceil(n.workers * multipliers[action-1]))
	}
	if in.Objective.Max > 0 {
		w = min(w, in.Objective.Max)
	}
	return max(w, in.Objective.Min, 0)
}

// batchFor is the largest batch whose call takes no more than a sixteenth of the target, and no smaller than
// the one configured: larger calls are cheaper by the event, and take longer.
func batchFor(in *orchestrator.Input) int {
	c := in.Capacity
	least, most := max(1, c.Batch), max(1, c.Batch, c.MaxBatch)
	slack := in.Objective.Target.Seconds()/16 - c.Overhead
	if c.PerEvent <= 0 {
		return most
	}
	if b := slack / c.PerEvent; b < float64(most) {
		return max(int(max(b, 0)), min(least, most))
	}
	return most
}

func (p *PPO) explain(d *orchestrator.Decision, in *orchestrator.Input, n need, action, batch int) {
	what := fmt.Sprintf("orders %.2f times that", multipliers[max(action, 1)-1])
	if action == 0 {
		what = "keeps the orders"
	}
	d.Reason = fmt.Sprintf("%.0f events/s and a backlog of %.0f need %.2f workers in calls of %d; the network %s.",
		n.base, n.backlog, n.workers, batch, what)
	probs, logits := make([]float64, Actions), make([]float64, Actions)
	for i, l := range p.logits {
		logits[i] = float64(l)
	}
	softmax(logits, probs)
	for a := range Actions {
		c := orchestrator.Candidate{Workers: workersFor(a, n, in), Batch: batch, Cost: -1, Late: -1}
		if a != action {
			c.Why = fmt.Sprintf("the network gives it %.1f %%, and %.1f %% to the best", 100*probs[a], 100*probs[action])
		}
		d.Candidates = append(d.Candidates, c)
	}
}
