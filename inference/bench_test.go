package inference

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// ensemble stands for a model in the process: about 1 µs a row of 30 values.
type ensemble struct{}

func (ensemble) Metadata() Metadata {
	return Metadata{
		Name:    "ensemble",
		Inputs:  []Signature{{Name: "x", Type: Float32, Shape: []int{30}}},
		Outputs: []Signature{{Name: "y", Type: Float32, Shape: []int{1}}},
	}
}
func (ensemble) Concurrency() int { return runtime.GOMAXPROCS(0) }
func (ensemble) Close() error     { return nil }
func (ensemble) Local()           {}
func (ensemble) Infer(_ context.Context, in, out []Tensor) error {
	n := in[0].Rows()
	out[0].Type, out[0].Shape = Float32, append(out[0].Shape[:0], n, 1)
	out[0].F32 = out[0].F32[:0]
	for r := range n {
		row := in[0].F32[r*30 : r*30+30]
		var s float32
		for range 5 {
			for _, v := range row {
				s = s*0.5 + v
			}
		}
		out[0].F32 = append(out[0].F32, s)
	}
	return nil
}

// BenchmarkEmbedded is the way of rows through a model of which nothing is
// configured: rows/s by the number of rows of a request.
func BenchmarkEmbedded(b *testing.B) {
	for _, n := range []int{1, 32, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := New(ensemble{}, Config{})
			defer m.Close()
			b.ReportAllocs()
			var tasks sync.WaitGroup
			const each = 4 // requests a task has under way
			for range 4 {
				tasks.Go(func() {
					rs := make([]Request, each)
					for i := range rs {
						rs[i].In = []Tensor{{Name: "x", Type: Float32, Shape: []int{n, 30}, F32: make([]float32, n*30)}}
					}
					for i := range b.N/4 + 1 {
						r := &rs[i%each]
						if i >= each {
							_ = r.Wait(context.Background())
						}
						if err := m.Submit(context.Background(), r); err != nil {
							b.Error(err)
							return
						}
					}
					for i := range rs {
						if rs[i].done != nil {
							_ = rs[i].Wait(context.Background())
						}
					}
				})
			}
			tasks.Wait()
			b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
