package ort

import (
	"context"
	"fmt"
	"testing"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx"
)

// BenchmarkWorker is a call's way to the worker and back, beside the interpreter: rows/s by
// model and batch, rotating over 4,096 rows.
func BenchmarkWorker(b *testing.B) {
	for _, name := range []string{"hist-boosting", "linear-regression", "mlp-30-64-64-1", "transformer-encoder"} {
		o := native(b)
		o.Threads, o.Instances = 2, 1
		worker := openModel(b, testdata(name), o)
		own, err := onnx.Load(testdata(name), onnx.Options{Instances: 1})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = own.Close() })
		for _, n := range []int{1, 32, 256} {
			var batches [][]inference.Tensor
			for i := range 4096 / n {
				batches = append(batches, random(worker.Metadata(), n, uint64(i)))
			}
			for side, d := range map[string]inference.Driver{"worker": worker, "interpreter": own} {
				b.Run(fmt.Sprintf("%s/%d/%s", name, n, side), func(b *testing.B) {
					out := make([]inference.Tensor, len(worker.Metadata().Outputs))
					ctx, cancel := context.WithCancel(b.Context())
					defer cancel()
					b.ReportAllocs()
					for i := range b.N {
						if err := d.Infer(ctx, batches[i%len(batches)], out); err != nil {
							b.Fatal(err)
						}
					}
					b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "rows/s")
				})
			}
		}
	}
}
