package policy

import (
	"testing"

	"github.com/freshet-io/freshet/orchestrator"
)

func TestKEDADividesTheLag(t *testing.T) {
	for _, c := range []struct {
		name       string
		set        func(*KEDAConfig)
		lag        float64
		partitions int
		lagging    int
		target     int
		want       int
	}{
		{"95 by 10", nil, 95, 0, 0, 5, 10}, // 5 + max(4, 5)
		{"no more than double in 15 s", nil, 950, 0, 0, 5, 10},
		{"ratio 1.08 is tolerated", nil, 54, 0, 0, 5, 5},
		{"ratio 1.12", nil, 56, 0, 0, 5, 6},
		{"capped to 6 partitions", nil, 95, 6, 0, 5, 6},
		{"not above the cap: 69 ÷ 10 is 6 in whole numbers", nil, 69, 6, 0, 5, 7},
		{"idle consumers allowed", func(c *KEDAConfig) { c.AllowIdle = true }, 95, 6, 0, 5, 10},
		{"only 3 partitions lag", func(c *KEDAConfig) { c.LimitToLagging = true }, 95, 12, 3, 5, 3},
		{"up to a divisor of 12", func(c *KEDAConfig) { c.Even = true }, 45, 12, 0, 3, 6},
		{"beyond all divisors: all partitions", func(c *KEDAConfig) { c.Even = true }, 1e6, 12, 0, 8, 12},
		{"down to what the lag needs", nil, 12, 0, 0, 5, 2},
		{"an empty log: the minimum", nil, 0, 0, 0, 5, 1},
		{"in calls: 95 by 0.5·50", func(c *KEDAConfig) { c.LagCalls = 0.5 }, 95, 0, 0, 5, 4},
		{"in seconds: 950 by 2·100", func(c *KEDAConfig) { c.LagSeconds = 2 }, 950, 0, 0, 3, 5},
	} {
		config := DefaultKEDA()
		config.Behavior.Down.Stabilization = 0
		if c.set != nil {
			c.set(&config)
		}
		p, err := NewKEDA(config)
		s := newSandbox(t, p, err)
		s.in.Capacity.Partitions, s.in.Target = c.partitions, c.target
		sig := s.at(0)
		sig.Lag, sig.Ready = c.lag, c.target
		for i := range c.partitions {
			x := orchestrator.PartitionSignals{}
			if i < c.lagging {
				x.Lag = 1
			}
			sig.Partitions = append(sig.Partitions, x)
		}
		if n := s.order(); n != c.want {
			t.Errorf("%s: %d are ordered, want %d", c.name, n, c.want)
		}
	}
}

func TestKEDAStartsTheFirstWorkerAndStopsTheLast(t *testing.T) {
	config := DefaultKEDA()
	config.ActivationLag = 5
	p, err := NewKEDA(config)
	s := newSandbox(t, p, err)
	s.in.Objective.Min = 0
	for i, r := range []struct {
		at, lag float64
		want    int
	}{
		{0, 5, 0},    // not above the activation
		{15, 100, 0}, // between two polls
		{30, 100, 1}, // active
		{45, 0, 1},   // the HPA's minimum is 1
		{60, 0, 1},   // inactive since 30 s
		{315, 0, 1},  // cooling down
		{330, 6, 1},  // active again
		{630, 0, 0},  // 300 s later
		{645, 50, 0}, // between polls
		{660, 50, 1},
	} {
		s.at(r.at).Lag = r.lag
		if n := s.order(); n != r.want {
			t.Errorf("round %d, at %v s with a lag of %v: %d are ordered, want %d", i, r.at, r.lag, n, r.want)
		}
	}
}

func TestKEDADoesNothingWithoutTheLag(t *testing.T) {
	p, err := NewKEDA(DefaultKEDA())
	s := newSandbox(t, p, err)
	s.in.Target = 7
	s.at(0).Known = 0
	if d := p.Decide(&s.in); !d.Hold {
		t.Errorf("it decided %+v", d)
	}
}
