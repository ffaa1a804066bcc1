package policy

import (
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

// kpaRounds drives a KPA every 2 s with what rate says, workers being ready at once.
func kpaRounds(t *testing.T, config KPAConfig, start int, from, to int, rate func(second int) float64) (*sandbox, map[int]int) {
	t.Helper()
	p, err := NewKPA(config)
	s := newSandbox(t, p, err)
	s.in.Target = start
	orders := map[int]int{}
	for at := from; at <= to; at += 2 {
		sig := s.at(float64(at))
		sig.Arrivals, sig.Ready = rate(at), s.in.Target
		orders[at] = s.order()
	}
	return s, orders
}

func TestKPATargetsArrivals(t *testing.T) {
	// Target 70 of 100 a worker.
	_, orders := kpaRounds(t, DefaultKPA(), 1, 2, 200, func(int) float64 { return 130 })
	if orders[2] != 2 || orders[200] != 2 {
		t.Errorf("130/s against 70 order %d, later %d; want 2", orders[2], orders[200])
	}
}

func TestKPAPanicsOnTheShortWindowAndHolds(t *testing.T) {
	// 5 workers hold 350/s. From 100 s on 1000/s arrive: after 3 samples the panic window of 6 s is full of
	// them and wants 15, at least twice 5. From 130 s on, 300/s.
	_, orders := kpaRounds(t, DefaultKPA(), 1, 2, 400, func(at int) float64 {
		switch {
		case at < 100:
			return 340
		case at < 130:
			return 1000
		}
		return 300
	})
	for _, c := range []struct {
		at, want int
		why      string
	}{
		{98, 5, "340 ÷ 70"},
		{100, 6, "(2·340 + 1000) ÷ 3 ÷ 70 is 8, less than 10; the stable mean is 5.2"},
		{102, 12, "(340 + 2·1000) ÷ 3 ÷ 70 is at least twice 6: panic"},
		{104, 15, "1000 ÷ 70"},
		{128, 15, "the panic maximum"},
		{160, 15, "it never lowers in panic"},
		{162, 15, "60 s after it was last over the threshold"},
		{164, 9, "out of panic: (12·1000 + 18·300) ÷ 30 ÷ 70"},
		{240, 5, "300 ÷ 70"},
	} {
		if orders[c.at] != c.want {
			t.Errorf("at %d s %d are ordered, want %d: %s", c.at, orders[c.at], c.want, c.why)
		}
	}
}

func TestKPABoundsOneDecision(t *testing.T) {
	config := DefaultKPA()
	config.MaxUp = 2
	_, up := kpaRounds(t, config, 1, 2, 8, func(int) float64 { return 1000 })
	for at, want := range map[int]int{2: 2, 4: 4, 6: 8, 8: 15} {
		if up[at] != want {
			t.Errorf("up at most twofold: at %d s %d are ordered, want %d", at, up[at], want)
		}
	}
	// From 40 down, by half at most; it begins in panic, which ends after the stable window.
	_, down := kpaRounds(t, DefaultKPA(), 40, 2, 80, func(int) float64 { return 70 })
	for at, want := range map[int]int{62: 40, 64: 20, 66: 10, 68: 5, 70: 2, 72: 1} {
		if down[at] != want {
			t.Errorf("down at most to half: at %d s %d are ordered, want %d", at, down[at], want)
		}
	}
}

func TestKPADelaysScalingDown(t *testing.T) {
	config := DefaultKPA()
	config.ScaleDownDelay, config.Stable = time.Minute, 10*time.Second
	_, orders := kpaRounds(t, config, 1, 2, 200, func(at int) float64 {
		if at <= 100 {
			return 140
		}
		return 70
	})
	for at, want := range map[int]int{100: 2, 166: 2, 168: 1} { // the last window with 140/s in it ends at 108 s
		if orders[at] != want {
			t.Errorf("at %d s %d are ordered, want %d", at, orders[at], want)
		}
	}
}

func TestKPAScalesToZeroAfterGrace(t *testing.T) {
	p, err := NewKPA(DefaultKPA())
	s := newSandbox(t, p, err)
	s.in.Objective.Min = 0
	orders := map[int]int{}
	for at := 2; at <= 200; at += 2 {
		sig := s.at(float64(at))
		sig.Arrivals, sig.Ready = 0, s.in.Target
		if at == 2 || at == 190 {
			sig.Arrivals = 10
		}
		orders[at] = s.order()
	}
	for at, want := range map[int]int{2: 1, 60: 1, 90: 1, 92: 0, 188: 0, 190: 1} { // the 10/s leave the window at 62 s
		if orders[at] != want {
			t.Errorf("at %d s %d are ordered, want %d", at, orders[at], want)
		}
	}
}

func TestKPAOnConcurrencyCountsWhatWaits(t *testing.T) {
	config := DefaultKPA()
	config.Metric = "concurrency"
	p, err := NewKPA(config)
	s := newSandbox(t, p, err)
	sig := s.at(2)
	sig.Lag, sig.Ready = 200, 1
	if n := s.order(); n != 3 { // 200 ÷ (100·0.7)
		t.Errorf("%d are ordered, want 3", n)
	}
}

func TestKPADoesNothingWithoutData(t *testing.T) {
	p, err := NewKPA(DefaultKPA())
	s := newSandbox(t, p, err)
	s.in.Target = 3
	sig := s.at(2)
	sig.Known = orchestrator.KnownWorkers
	if d := p.Decide(&s.in); !d.Hold {
		t.Errorf("it decided %+v", d)
	}
	sig.Known, sig.Arrivals, sig.Ready = orchestrator.KnownAll, 100, 3
	if d := p.Decide(&s.in); d.Hold {
		t.Errorf("with data it held: %s", d.Reason)
	}
	s.in.Now = s.in.Now.Add(2 * time.Minute) // and no signals since
	if d := p.Decide(&s.in); !d.Hold {
		t.Errorf("with an empty stable window it decided %+v", d)
	}
}
