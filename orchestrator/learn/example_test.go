package learn_test

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
	"github.com/freshet-io/freshet/orchestrator"
	"github.com/freshet-io/freshet/orchestrator/learn"
)

// runtime makes a learn.Net of our own ONNX runtime.
type runtime struct {
	model   inference.Driver
	in, out []inference.Tensor
}

func (r *runtime) Infer(obs, out []float32) error {
	r.in[0] = inference.Tensor{Type: inference.Float32, Shape: []int{1, len(obs)}, F32: obs}
	if err := r.model.Infer(context.Background(), r.in, r.out); err != nil {
		return err
	}
	copy(out, r.out[0].F32)
	return nil
}

func ExampleNewPPO() {
	model, err := onnx.Parse("ppo", learn.Policy(), onnx.Options{Instances: 1})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer model.Close()
	policy, err := learn.NewPPO(&runtime{model: model, in: make([]inference.Tensor, 1), out: make([]inference.Tensor, 1)})
	if err != nil {
		fmt.Println(err)
		return
	}
	pilot := orchestrator.NewController(orchestrator.Settings{
		Policy: policy, Rails: orchestrator.DefaultRails(),
		Capacity:  orchestrator.Capacity{Overhead: 0.02, PerEvent: 0.002, Batch: 64, MaxBatch: 256, StartUp: time.Minute},
		Objective: orchestrator.Objective{Target: 30 * time.Second, Quantile: 0.99, Min: 1, Max: 50},
	})
	now := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	d := pilot.Step(now, nil, orchestrator.Orders{Workers: 4})
	fmt.Println(d.Workers, "workers stay without signals:", d.Hold)
	// Output: 4 workers stay without signals: true
}
