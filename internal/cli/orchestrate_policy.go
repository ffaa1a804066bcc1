package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/internal/builtin"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/learn"
)

// trainedName is the policy that comes trained with the program.
const trainedName = "ppo"

// policyNames are the policies that openPolicy knows.
func policyNames() string { return strings.Join(append(builtin.PolicyNames(), trainedName), ", ") }

// openPolicy makes the policy that a text names.
func openPolicy(text string, period time.Duration) (orchestrator.Policy, error) {
	if text != trainedName {
		return builtin.OpenPolicy(text, period)
	}
	if period > 0 {
		return nil, usagef("policy %s: it decides in the period that it was trained for", text)
	}
	m, err := builtin.OpenONNX(trainedName, learn.Policy())
	if err != nil {
		return nil, fmt.Errorf("open the trained policy: %w", err)
	}
	p, err := learn.NewPPO(&policyNet{model: m, in: make([]inference.Tensor, 1), out: make([]inference.Tensor, 1)})
	if err != nil {
		return nil, fmt.Errorf("open the trained policy: %w", err)
	}
	return p, nil
}

// policyNet is a model as a policy's network. It holds memory only, so nobody has to close it.
type policyNet struct {
	model   inference.Driver
	in, out []inference.Tensor
}

// Infer implements learn.Net.
func (n *policyNet) Infer(obs, out []float32) error {
	n.in[0] = inference.Tensor{Type: inference.Float32, Shape: []int{1, len(obs)}, F32: obs}
	if err := n.model.Infer(context.Background(), n.in, n.out); err != nil {
		return fmt.Errorf("ask the trained policy: %w", err)
	}
	copy(out, n.out[0].F32)
	return nil
}

// openPilot makes the pilot that the flags describe; past is the folder of the journal that it learns from, or empty.
func (f *orchestrateFlags) openPilot(c orchestrator.Capacity, past string) (orchestrator.Pilot, error) {
	p, err := openPolicy(f.policy, f.period)
	if err != nil {
		return nil, err
	}
	return builtin.NewPilot(builtin.PilotOptions{Policy: p, Capacity: c, Objective: f.goal, Tiers: f.places, Past: past})
}
