package orchestrator

import (
	"math"
	"testing"
	"time"
)

// fixed orders what it is told to, in turn.
type fixed struct {
	orders []int
	period time.Duration
	inputs []Input
}

func (f *fixed) Name() string          { return "fixed" }
func (f *fixed) Period() time.Duration { return f.period }
func (f *fixed) Decide(in *Input) Decision {
	f.inputs = append(f.inputs, *in)
	n := f.orders[min(len(f.inputs)-1, len(f.orders)-1)]
	return Decision{Workers: n, Hold: n < 0}
}

// recorded is a row of rounds with this many workers, 10 s apart, at a load that needs four.
func recorded(workers ...int) []*Entry {
	var out []*Entry
	for i, n := range workers {
		before := workers[max(i-1, 0)]
		e := &Entry{
			ID: uint64(i + 1), Kind: KindRound, Time: noon.Add(time.Duration(i) * 10 * time.Second), Mode: ModeAct, Period: 10 * time.Second,
			Round: &Round{
				Signals:   Signals{Known: KnownArrivals | KnownLag, Arrivals: 350},
				Capacity:  Capacity{PerEvent: 0.01, Batch: 10, StartUp: 20 * time.Second, Stop: 5 * time.Second, Cost: 2},
				Objective: Objective{Target: 10 * time.Second, Quantile: 0.99, Max: 6},
			},
			Before: Orders{Workers: before}, After: Orders{Workers: n},
		}
		out = append(out, e, &Entry{Kind: KindStart})
	}
	return out
}

func TestWhatWasDoneIsCountedFromTheOrders(t *testing.T) {
	c := Done(recorded(4, 4, 5, 4, 4))
	if c.WorkerSeconds != 10*(4+4+5+4)+5 || c.Cost != 2*c.WorkerSeconds || c.Actions != 2 || c.Peak != 5 || c.Differs != 0 || c.Late != 0 {
		t.Errorf("%+v", c)
	}
}

func TestAPolicyIsReplayedOnWhatWasThere(t *testing.T) {
	p := &fixed{orders: []int{4, 2, -1, 9, 9}, period: 10 * time.Second}
	c := Replay(recorded(4, 4, 5, 4, 4), p)
	// Where it holds, the four that were in force stay.
	if c.Rounds != 5 || c.WorkerSeconds != 10*(4+2+4+6)+2*5 || c.Peak != 6 || c.Actions != 3 || c.Differs != 4 {
		t.Errorf("%+v", c)
	}
	for i, want := range []int{4, 4, 4, 5, 4} {
		if got := p.inputs[i].Target; got != want {
			t.Errorf("round %d: %d in force, not %d", i, got, want)
		}
	}
	if !c.Orders[2].Hold || c.Orders[3].Workers != 6 {
		t.Errorf("%+v", c.Orders)
	}
}

func TestAPolicyIsAskedInItsOwnPeriod(t *testing.T) {
	p := &fixed{orders: []int{4}, period: 20 * time.Second}
	if Replay(recorded(4, 4, 4, 4, 4), p); len(p.inputs) != 3 {
		t.Errorf("asked %d times", len(p.inputs))
	}
}

func TestTooFewWorkersWouldHaveBeenLate(t *testing.T) {
	many := make([]int, 60)
	for i := range many {
		many[i] = 4
	}
	entries := recorded(many...)
	c := Replay(entries, &fixed{orders: []int{2}, period: 10 * time.Second})
	// 350 events/s against 200: the backlog is 10 s of work after 2000/150 = 13.3 s.
	if c.Late < 0.9 || c.LateSeconds < 550 {
		t.Errorf("late %.3g for %.3g s", c.Late, c.LateSeconds)
	}
	if c := Done(entries); c.Late != 0 {
		t.Errorf("as done: %+v", c.Late)
	}
	// One that comes late with the right number is late until the backlog is gone.
	c = Replay(entries, &fixed{orders: []int{2, 2, 2, 6}, period: 10 * time.Second})
	if !(c.Late > 0.01 && c.Late < 0.5) {
		t.Errorf("late %.3g", c.Late)
	}
}

func TestAGapIsNotCounted(t *testing.T) {
	entries := recorded(4, 4, 4, 4)
	for _, e := range entries[4:] {
		e.Time = e.Time.Add(time.Hour)
	}
	if c := Done(entries); c.WorkerSeconds != 80 {
		t.Errorf("%v worker-seconds", c.WorkerSeconds)
	}
	if c := Done(nil); c.Rounds != 0 || !math.IsNaN(c.Late) {
		t.Errorf("%+v", c)
	}
}
