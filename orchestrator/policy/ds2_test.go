package policy

import (
	"testing"

	"github.com/freshet-io/freshet/orchestrator"
)

func TestDS2FollowsTheTrueRate(t *testing.T) {
	for _, c := range []struct {
		name     string
		set      func(*DS2Config)
		arrivals float64
		want     int
	}{
		// 5 workers serve 500/s in half of their time: 200/s each is their true rate.
		{"900 ÷ 200 is 4.5", nil, 900, 5},
		{"1300 ÷ 200 is 6.5", nil, 1300, 7},
		{"a fifth more: 7.8", func(c *DS2Config) { c.Factor = 0.2 }, 1300, 8},
		{"one less is no change", nil, 800, 5},
		{"two less is", nil, 600, 3},
		{"the ratio of arrivals to served where nothing else asks for more: 5·1.8", func(c *DS2Config) { c.RateRatio = 1.5 }, 900, 9},
	} {
		config := DefaultDS2()
		config.WarmUp = 0
		if c.set != nil {
			c.set(&config)
		}
		p, err := NewDS2(config)
		s := newSandbox(t, p, err)
		s.in.Target = 5
		sig := s.at(10)
		sig.Ready, sig.Served, sig.Busy, sig.Arrivals = 5, 500, 0.5, c.arrivals
		if n := s.order(); n != c.want {
			t.Errorf("%s: %d are ordered, want %d", c.name, n, c.want)
		}
	}
}

func TestDS2WarmsUpAndActivates(t *testing.T) {
	config := DefaultDS2()
	config.Activation = 2
	p, err := NewDS2(config)
	s := newSandbox(t, p, err)
	s.in.Target = 2
	// Two epochs warm up; of two evaluations the second may act; then workers start, and all begins again.
	for i, r := range []struct{ ready, want int }{{2, 2}, {2, 2}, {2, 2}, {2, 4}, {2, 4}, {4, 4}, {4, 4}, {4, 4}, {4, 8}} {
		sig := s.at(float64(10 * (i + 1)))
		sig.Ready, sig.Starting = r.ready, s.in.Target-r.ready
		sig.Served, sig.Busy, sig.Arrivals = 100*float64(r.ready), 1, 200*float64(r.ready)
		if n := s.order(); n != r.want {
			t.Errorf("epoch %d: %d are ordered, want %d", i+1, n, r.want)
		}
	}
}

func TestDS2IgnoresAnEpochWithoutRates(t *testing.T) {
	p, err := NewDS2(DefaultDS2())
	s := newSandbox(t, p, err)
	s.in.Target = 5
	sig := s.at(10)
	sig.Ready, sig.Known = 5, orchestrator.KnownWorkers|orchestrator.KnownBusy
	if d := p.Decide(&s.in); !d.Hold {
		t.Errorf("it decided %+v", d)
	}
}
