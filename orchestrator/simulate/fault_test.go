package simulate

import (
	"testing"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
)

func TestLostWorkersAreReplacedAfterTheirStartUp(t *testing.T) {
	for _, partitions := range []int{0, 2, 8} {
		w := plain(constant(200, 150)...)
		w.Capacity.StartUp, w.Capacity.Partitions, w.Start = 20*time.Second, partitions, 2
		w.Faults = []Fault{{Kind: WorkerLoss, At: 10 * time.Second, Size: 1}}
		var ready []int
		p := workers(2)
		p.step = func(_ time.Duration, s *orchestrator.Signals, _ orchestrator.Orders) orchestrator.Decision {
			ready = append(ready, s.Ready)
			return orchestrator.Decision{Workers: 2}
		}
		r := run(t, w, p)
		if ready[0] != 1 || ready[1] != 1 || ready[2] != 2 || r.Started != 0 || r.Actions != 0 {
			t.Errorf("ready %v, %d started, %d actions", ready[:3], r.Started, r.Actions)
		}
		near(t, "worker seconds", r.WorkerSeconds, 400, 1e-9) // who comes instead is paid from the loss on
		// 50 a second wait more, 1000 at 30 s, then 50 less: 5 s old ones are 750 behind (the partitions that
		// moved last are a little older).
		if partitions == 0 {
			near(t, "recovery", r.Recovery[0].Seconds(), 25, 1)
		}
		near(t, "recovery", r.Recovery[0].Seconds(), 25, 8)
	}
}

func TestASlowWorkerIsSlowForItsTime(t *testing.T) {
	w := plain(constant(60, 1000)...)
	w.Start = 2
	w.Faults = []Fault{{Kind: SlowWorker, At: 10 * time.Second, Duration: 20 * time.Second, Size: 1, Factor: 4}}
	near(t, "served", run(t, w, workers(2)).Served, 40*200+20*125, 1e-6)
}

func TestASpikeMultipliesArrivalsForItsTime(t *testing.T) {
	w := plain(constant(60, 10)...)
	w.Faults = []Fault{
		{Kind: Spike, At: 10500 * time.Millisecond, Duration: 10 * time.Second, Size: 10},
		{Kind: Spike, At: 15500 * time.Millisecond, Duration: 10 * time.Second, Size: 2},
	}
	r := run(t, w, workers(1))
	near(t, "events", r.Events, 10*(10.5+5*10+5*20+5*2+34.5), 1e-6)
}

func TestNothingIsServedOrSeenWhileTheBrokerPauses(t *testing.T) {
	for _, partitions := range []int{0, 3} {
		w := plain(constant(200, 50)...)
		w.Capacity.Partitions = partitions
		w.Faults = []Fault{{Kind: BrokerPause, At: 20 * time.Second, Duration: 12 * time.Second}}
		p := workers(1)
		p.period = 5 * time.Second
		p.step = func(at time.Duration, s *orchestrator.Signals, _ orchestrator.Orders) orchestrator.Decision {
			switch at {
			case 20 * time.Second, 25 * time.Second, 30 * time.Second:
				if s.Known != 0 || !s.Time.Equal(begin.Add(15*time.Second)) || s.Arrivals != 0 {
					t.Errorf("at %v: known %b of %v", at, s.Known, s.Time)
				}
			case 35 * time.Second: // since 15 s: 20 s of arrivals, 5 + 3 s of serving
				near(t, "window", s.Window.Seconds(), 20, 1e-9)
				near(t, "arrivals", s.Arrivals, 50, 1e-9)
				near(t, "served", s.Served*20, 5*50+3*100, 1e-6)
				near(t, "oldest", s.Oldest.Seconds(), 12-3+0.15, 1e-6)
				near(t, "lag", s.Lag, 12*50-3*50+15, 1e-6)
			default:
				if s.Known == 0 {
					t.Errorf("at %v nothing is known", at)
				}
			}
			return orchestrator.Decision{Workers: 1}
		}
		r := run(t, w, p)
		// At 32 s 12 s are behind, and it is 5 s at 32 + 7 s.
		near(t, "recovery", r.Recovery[0].Seconds(), 19, 1)
		// An event of 20 + x s was served at 32 + x/2, and a call later.
		near(t, "late", r.Late, 50*2*(12-4.9), 1)
		near(t, "busy", r.Busy, (20*1+24+156)/200.0-12/200.0, 0.07)
	}
}

func TestSignalsAreMissingInABlindSpot(t *testing.T) {
	w := plain(constant(120, 50)...)
	w.Delay = 3 * time.Second
	w.Faults = []Fault{{Kind: BlindSpot, At: 25 * time.Second, Duration: 20 * time.Second}}
	p := workers(1)
	p.step = func(at time.Duration, s *orchestrator.Signals, _ orchestrator.Orders) orchestrator.Decision {
		blind := at == 30*time.Second || at == 40*time.Second
		want := at - 3*time.Second
		if blind {
			want = 17 * time.Second
		}
		if (s.Known == 0) != blind || !s.Time.Equal(begin.Add(want)) {
			t.Errorf("at %v: known %b, of %v", at, s.Known, s.Time.Sub(begin))
		}
		return orchestrator.Decision{Workers: 1}
	}
	r := run(t, w, p)
	near(t, "served", r.Served, 6000, 1e-6)
	if r.Recovery[0] != 0 {
		t.Errorf("recovery took %v where nothing was late", r.Recovery[0])
	}
}

func TestAFaultWithoutRecoveryIsNegative(t *testing.T) {
	w := plain(constant(100, 90)...)
	w.Faults = []Fault{{Kind: Spike, At: 20 * time.Second, Duration: time.Minute, Size: 10}, {Kind: BlindSpot, At: 95 * time.Second, Duration: time.Second}}
	if r := run(t, w, workers(1)); r.Recovery[0] >= 0 || r.Recovery[1] >= 0 {
		t.Errorf("recovery %v", r.Recovery)
	}
}
