package simulate_test

import (
	"fmt"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/simulate"
	"github.com/freshet-io/freshet/orchestrator/trace"
)

// two always wants two workers.
type two struct{}

func (two) Name() string          { return "two" }
func (two) Period() time.Duration { return 15 * time.Second }
func (two) Step(time.Time, *orchestrator.Signals, orchestrator.Orders) orchestrator.Decision {
	return orchestrator.Decision{Workers: 2}
}

func ExampleRun() {
	counts := make([]float64, 600)
	for i := range counts {
		counts[i] = 150
	}
	world := simulate.World{
		Arrivals:  &trace.Trace{Name: "steady", Step: time.Second, Counts: counts},
		Capacity:  orchestrator.Capacity{Overhead: 0.05, PerEvent: 0.005, Batch: 10, StartUp: time.Minute, Partitions: 4},
		Objective: orchestrator.Objective{Target: 5 * time.Second, Quantile: 0.99, Min: 1, Max: 10},
		Start:     1,
	}
	r, err := simulate.Run(world, two{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%.0f of %.0f events, %.0f worker-seconds, %.1f %% late\n", r.Served, r.Events, r.WorkerSeconds, 100*r.Late/r.Events)
	// Output: 90000 of 90000 events, 1185 worker-seconds, 20.1 % late
}
