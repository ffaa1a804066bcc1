package policy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/orchestrator"
)

// sandbox asks a policy as a loop would, carrying its decisions out at once.
type sandbox struct {
	t      *testing.T
	policy orchestrator.Policy
	in     orchestrator.Input
}

// newSandbox has workers of 100 events/s in calls of 50, and 1 to 100 of them.
func newSandbox(t *testing.T, p orchestrator.Policy, err error) *sandbox {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return &sandbox{t: t, policy: p, in: orchestrator.Input{
		Now: begin, Signals: &orchestrator.Signals{Time: begin, Known: orchestrator.KnownAll, Window: p.Period()},
		Capacity:  &orchestrator.Capacity{PerEvent: 0.01, Batch: 50, StartUp: time.Minute},
		Objective: &orchestrator.Objective{Target: 30 * time.Second, Quantile: 0.99, Min: 1, Max: 100},
		Explain:   true,
	}}
}

// at moves the clock to seconds after the beginning.
func (s *sandbox) at(seconds float64) *orchestrator.Signals {
	s.in.Now = begin.Add(time.Duration(seconds * float64(time.Second)))
	s.in.Signals.Time = s.in.Now
	return s.in.Signals
}

// order decides, and carries the decision out.
func (s *sandbox) order() int {
	s.t.Helper()
	d := s.policy.Decide(&s.in)
	if d.Reason == "" {
		s.t.Fatalf("%s gave no reason", s.policy.Name())
	}
	if !d.Hold && d.Workers != s.in.Target {
		s.in.Target, s.in.Changed = d.Workers, s.in.Now
	}
	return s.in.Target
}

func TestHPACountsPodsAsTheReplicaCalculatorDoes(t *testing.T) {
	for _, c := range []struct {
		name                    string
		use, target             float64
		ready, unready, missing int
		want                    int
	}{
		{"ratio 90/50 of 4", 0.9, 0.5, 4, 0, 0, 8},
		{"ratio 1.08 is tolerated", 0.54, 0.5, 4, 0, 0, 4},
		{"ratio 1.1 is tolerated", 0.55, 0.5, 4, 0, 0, 4},
		{"use is in whole percent: 55.9 is 55", 0.559, 0.5, 4, 0, 0, 4},
		{"ratio 1.12", 0.56, 0.5, 4, 0, 0, 5},
		{"ratio 0.9 is tolerated", 0.45, 0.5, 40, 0, 0, 40},
		{"ratio 0.88", 0.44, 0.5, 40, 0, 0, 36},
		{"unready pods count as idle on the way up: 360/8 = 45 % is tolerated", 0.9, 0.5, 4, 4, 0, 8},
		{"unready pods on the way up: 400/6 = 66 %, 1.65·6", 1, 0.4, 4, 2, 0, 10},
		{"unready pods are left out on the way down: 0.4·4", 0.2, 0.5, 4, 4, 0, 2},
		{"missing pods count as full on the way down: 280/6 = 46 %", 0.2, 0.5, 4, 0, 2, 6},
		{"missing pods on the way down: 180/9 = 20 %, 0.4·9", 0.1, 0.5, 8, 0, 1, 4},
		{"missing pods count as idle on the way up: 360/5 = 72 %, 1.44·5", 0.9, 0.5, 4, 0, 1, 8},
		{"down turned up by missing pods changes nothing", 0.3, 0.5, 2, 0, 3, 5},
		{"up turned down by unready pods changes nothing", 0.6, 0.5, 1, 3, 0, 4},
		{"both: 400/8 = 50 %", 1, 0.4, 4, 2, 2, 10},
	} {
		m := hpaMetric{use: c.use, target: c.target, missing: 1, whole: true}
		p := hpaPods{ready: c.ready, unready: c.unready, missing: c.missing}
		got, _ := m.replicas(p, c.ready+c.unready+c.missing, 0.1, 0.1)
		if got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

func TestHPAStabilizesThenLimitsItsRate(t *testing.T) {
	type round struct{ at, desired, want int }
	minutes := func(b HPABehavior, f func(*HPABehavior)) HPABehavior { f(&b); return b }
	for _, c := range []struct {
		name     string
		behavior HPABehavior
		start    int
		rounds   []round
	}{
		{"grows by 4 or double every 15 s", DefaultHPABehavior(), 1,
			[]round{{0, 50, 5}, {5, 50, 5}, {15, 50, 10}, {30, 50, 20}, {45, 50, 40}, {60, 50, 50}}},
		{"falls to the highest wish of 300 s", DefaultHPABehavior(), 10,
			[]round{{0, 10, 10}, {15, 4, 10}, {150, 6, 10}, {299, 4, 10}, {300, 4, 6}, {449, 3, 6}, {450, 3, 4}}},
		{"a new object keeps what it finds", DefaultHPABehavior(), 10, []round{{0, 2, 10}, {299, 2, 10}, {300, 2, 2}}},
		{"without a behavior it grows to 4, or double", minutes(DefaultHPABehavior(), func(b *HPABehavior) { b.Legacy = true }), 1,
			[]round{{0, 50, 4}, {15, 50, 8}, {30, 50, 16}}},
		{"a window upwards takes the lowest wish", minutes(DefaultHPABehavior(), func(b *HPABehavior) { b.Up.Stabilization = time.Minute }), 2,
			[]round{{0, 8, 2}, {30, 4, 2}, {61, 8, 4}, {91, 8, 8}}},
		{"10 % down in whole pods, and no more in a period", minutes(DefaultHPABehavior(), func(b *HPABehavior) {
			b.Down = HPARules{Select: "Max", Policies: []HPAPolicy{{Type: "Percent", Value: 10, Period: time.Minute}}}
		}), 25, []round{{0, 5, 22}, {15, 5, 22}, {60, 5, 19}, {120, 5, 17}}},
		{"Min selects the smaller change", minutes(DefaultHPABehavior(), func(b *HPABehavior) { b.Up.Select = "Min" }), 10,
			[]round{{0, 50, 14}, {15, 50, 18}}},
		{"Min selects the smaller change downwards", minutes(DefaultHPABehavior(), func(b *HPABehavior) {
			b.Down = HPARules{Select: "Min", Policies: []HPAPolicy{{Type: "Percent", Value: 50, Period: time.Minute}, {Type: "Pods", Value: 3, Period: time.Minute}}}
		}), 20, []round{{0, 5, 17}}},
		{"Disabled forbids a direction", minutes(DefaultHPABehavior(), func(b *HPABehavior) { b.Down = HPARules{Select: "Disabled"} }), 20,
			[]round{{0, 5, 20}, {600, 5, 20}}},
		{"what was lowered in a period may come back in it", minutes(DefaultHPABehavior(), func(b *HPABehavior) {
			b.Up.Policies = []HPAPolicy{{Type: "Pods", Value: 1, Period: time.Minute}}
			b.Down.Stabilization = 0
		}), 20, []round{{0, 5, 5}, {15, 50, 21}, {30, 50, 21}}},
	} {
		g := hpaGovernor{behavior: c.behavior}
		n := c.start
		for _, r := range c.rounds {
			if n, _ = g.apply(begin.Add(time.Duration(r.at)*time.Second), n, r.desired, 1, 100); n != r.want {
				t.Errorf("%s: at %d s %d are ordered, want %d", c.name, r.at, n, r.want)
			}
		}
	}
}

func TestHPAFollowsCPU(t *testing.T) {
	c := DefaultHPA()
	c.Target = 0.5
	p, err := NewHPA(c)
	s := newSandbox(t, p, err)
	s.in.Target = 4
	var got []int
	for _, r := range []struct {
		at    float64
		busy  float64
		ready int
	}{
		{0, 0.9, 4},    // 1.8·4
		{15, 1, 4},     // 4 of 8 unready: 50 % is tolerated
		{60, 1, 8},     // the 4 that just became ready count as unready: 50 %
		{75, 1, 8},     // 2·8 = 16
		{90, 0.2, 8},   // 0.4·8 = 4, but 16 was wished within 300 s
		{380, 0.2, 16}, // 16 at 75 s is older than 300 s; 8 of 16 just became ready and are left out: 0.4·8
	} {
		sig := s.at(r.at)
		sig.Busy, sig.Ready = r.busy, r.ready
		got = append(got, s.order())
	}
	if diff := cmp.Diff([]int{8, 8, 8, 16, 16, 4}, got); diff != "" {
		t.Errorf("orders differ (-want +got):\n%s", diff)
	}
}

func TestHPAOnARateTakesStartingPodsForMissing(t *testing.T) {
	c := DefaultHPA()
	c.Metric, c.Target = "rate", 0.5
	p, err := NewHPA(c)
	s := newSandbox(t, p, err)
	s.in.Target = 6
	sig := s.at(0)
	sig.Ready, sig.Served = 4, 400 // 100/s each, twice the target of 50; with 2 idle ones 66.7/s: 1.33·6
	if n := s.order(); n != 8 {
		t.Errorf("%d are ordered, want 8", n)
	}
}

func TestHPADoesNothingWithoutItsMetric(t *testing.T) {
	p, err := NewHPA(DefaultHPA())
	s := newSandbox(t, p, err)
	s.in.Target = 4
	sig := s.at(0)
	sig.Ready, sig.Busy, sig.Known = 4, 1, orchestrator.KnownAll&^orchestrator.KnownBusy
	if d := p.Decide(&s.in); !d.Hold {
		t.Errorf("without CPU it decided %+v", d)
	}
	sig.Known, sig.Ready = orchestrator.KnownAll, 0
	if d := p.Decide(&s.in); !d.Hold {
		t.Errorf("without a ready pod it decided %+v", d)
	}
	s.in.Target = 0
	if d := p.Decide(&s.in); !d.Hold {
		t.Errorf("at zero, where scaling is disabled, it decided %+v", d)
	}
}

func TestBusyIsReadInTwoWays(t *testing.T) {
	c := &orchestrator.Capacity{PerEvent: 0.01, Batch: 50}
	s := &orchestrator.Signals{Known: orchestrator.KnownAll, Ready: 4, Busy: 0.9, Served: 100}
	if use, ok := BusyCalls.of(s, c); !ok || use != 0.9 {
		t.Errorf("calls: %v %v, want 0.9", use, ok)
	}
	if use, ok := BusyWork.of(s, c); !ok || use != 0.25 {
		t.Errorf("work: %v %v, want 100 of 400", use, ok)
	}
}
