package onnx

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/freshet-io/freshet/inference"
)

// boosted writes a binary classifier of full trees with random splits, as gradient boosting
// makes them; missing sends half of the nodes' missing values left.
func boosted(count, depth int, features int64, missing bool) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	t := &trees{}
	for tree := range int64(count) {
		inner := int64(1)<<depth - 1
		for n := range inner {
			track := int64(0)
			if missing && r.IntN(2) == 0 {
				track = 1
			}
			t.branch(tree, n, r.Int64N(features), "BRANCH_LEQ", float32(r.NormFloat64()), 2*n+1, 2*n+2, track)
		}
		for n := inner; n < 2*inner+1; n++ {
			t.leaf(tree, n, 0, float32(r.NormFloat64())/10)
		}
	}
	return modelOf(graphPB{
		nodes: []pb{node("TreeEnsembleClassifier", "ai.onnx.ml", []string{"x"}, []string{"label", "probabilities"},
			append(t.attrs("class"), attr("classlabels_int64s", []int64{0, 1}), attr("post_transform", "LOGISTIC"))...)},
		ins:  []pb{tensorInfo("x", 1, -1, features)},
		outs: []pb{tensorInfo("label", 7, -1), tensorInfo("probabilities", 1, -1, 2)},
	})
}

// benchBatches reports rows per second over 4096 distinct rows: a batch sent again and again
// would teach the branch predictor its answers.
func benchBatches(b *testing.B, data []byte, features int, nan float64) {
	m, err := Parse("bench", data, Options{Instances: 1})
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	const rows = 4096
	x := make([]float32, rows*features)
	for i := range x {
		x[i] = float32(r.NormFloat64())
		if r.Float64() < nan {
			x[i] = float32(math.NaN())
		}
	}
	for _, batch := range []int{1, 8, 32, 128, 512} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			in := []inference.Tensor{{Type: inference.Float32, Shape: []int{batch, features}}}
			out := make([]inference.Tensor, len(m.Metadata().Outputs))
			ctx := context.Background()
			b.ReportAllocs()
			at := 0
			for b.Loop() {
				in[0].F32 = x[at*features : (at+batch)*features]
				if err := m.Infer(ctx, in, out); err != nil {
					b.Fatal(err)
				}
				if at += batch; at == rows {
					at = 0
				}
			}
			b.ReportMetric(float64(b.N)*float64(batch)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkTrees100x6(b *testing.B) { benchBatches(b, boosted(100, 6, 30, false), 30, 0) }

func BenchmarkTrees100x6Missing(b *testing.B) { benchBatches(b, boosted(100, 6, 30, true), 30, 0.03) }

func BenchmarkTrees500x8(b *testing.B) { benchBatches(b, boosted(500, 8, 30, false), 30, 0) }

func BenchmarkTrees100x12(b *testing.B) { benchBatches(b, boosted(100, 12, 30, false), 30, 0) }

func BenchmarkNetwork(b *testing.B) { benchBatches(b, network(30, 64, 64, 1), 30, 0) }

// BenchmarkTransformer runs a small encoder of text: 2 layers, width 64, 4 heads, 32 tokens.
func BenchmarkTransformer(b *testing.B) {
	m, err := Load("testdata/models/transformer-encoder.onnx", Options{Instances: 1})
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for _, batch := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			in := []inference.Tensor{{Type: inference.Int64, Shape: []int{batch, 32}, I64: make([]int64, batch*32)}}
			for i := range in[0].I64 {
				in[0].I64[i] = r.Int64N(64)
			}
			out := make([]inference.Tensor, 1)
			b.ReportAllocs()
			for b.Loop() {
				if err := m.Infer(context.Background(), in, out); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*float64(batch)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// network writes a perceptron with ReLU between layers and a sigmoid at the end.
func network(sizes ...int64) []byte {
	r := rand.New(rand.NewPCG(5, 6))
	g := graphPB{ins: []pb{tensorInfo("x", 1, -1, sizes[0])}, outs: []pb{tensorInfo("y", 1, -1, sizes[len(sizes)-1])}}
	from := "x"
	for i := 1; i < len(sizes); i++ {
		k, n := sizes[i-1], sizes[i]
		w, c := make([]float32, k*n), make([]float32, n)
		for j := range w {
			w[j] = float32(r.NormFloat64() / math.Sqrt(float64(k)))
		}
		for j := range c {
			c[j] = float32(r.NormFloat64())
		}
		s := fmt.Sprint(i)
		g.inits = append(g.inits, pb(tensorOf("w"+s, []int64{k, n}, w)), pb(tensorOf("c"+s, []int64{n}, c)))
		g.nodes = append(g.nodes, node("Gemm", "", []string{from, "w" + s, "c" + s}, []string{"g" + s}))
		from = "r" + s
		if i < len(sizes)-1 {
			g.nodes = append(g.nodes, node("Relu", "", []string{"g" + s}, []string{from}))
		} else {
			g.nodes = append(g.nodes, node("Sigmoid", "", []string{"g" + s}, []string{"y"}))
		}
	}
	return modelOf(g)
}
