package policy_test

import (
	"fmt"
	"time"

	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/policy"
)

func ExampleNamed() {
	keda, err := policy.Named("keda", map[string]any{"lag_threshold": 50, "stabilization_down": "1m"})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	d := keda.Decide(&orchestrator.Input{
		Now: now, Signals: &orchestrator.Signals{Time: now, Known: orchestrator.KnownLag, Lag: 420},
		Capacity: &orchestrator.Capacity{Batch: 64}, Objective: &orchestrator.Objective{Min: 1, Max: 20},
		Target: 6, Explain: true,
	})
	fmt.Println(d.Workers)
	fmt.Println(d.Reason)
	// Output:
	// 9
	// a lag of 420 (420 counted) against 50 a worker: ratio 1.40 to 6 workers, so 9 workers
}
