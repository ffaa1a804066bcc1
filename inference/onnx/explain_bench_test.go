package onnx

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/freshet-io/freshet/inference"
)

func benchExplain(b *testing.B, data []byte, features, batch int, method inference.Method) {
	m, err := Parse("bench", data, Options{Instances: 1})
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	const rows = 1024
	x := make([]float32, rows*features)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	if err := m.SetBackground([]inference.Tensor{{Type: inference.Float32, Shape: []int{rows, features}, F32: x}}); err != nil {
		b.Fatal(err)
	}
	in := []inference.Tensor{{Type: inference.Float32, Shape: []int{batch, features}}}
	var a inference.Attributions
	at := 0
	b.ReportAllocs()
	for b.Loop() {
		in[0].F32 = x[at*features : (at+batch)*features]
		if err := m.Explain(context.Background(), in, secondClass, method, &a); err != nil {
			b.Fatal(err)
		}
		at = (at + batch) % rows
	}
	b.ReportMetric(float64(b.N)*float64(batch)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkExplain(b *testing.B) {
	for _, size := range []struct{ trees, depth int }{{100, 6}, {500, 8}} {
		data := boosted(size.trees, size.depth, 30, false)
		for _, method := range []inference.Method{inference.PathAttribution, inference.TreeSHAP} {
			for _, batch := range []int{1, 32, 256} {
				b.Run(fmt.Sprintf("%dx%d/%v/batch=%d", size.trees, size.depth, method, batch), func(b *testing.B) {
					benchExplain(b, data, 30, batch, method)
				})
			}
		}
	}
}
