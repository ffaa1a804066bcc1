package forest

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// grown is a forest of LEQ trees over one target: full ones, or, with leaves > 0, grown leaf by
// leaf in random places.
func grown[T Float](trees, depth, leaves, features int) *Spec[T] {
	r := rand.New(rand.NewPCG(3, 4))
	s := &Spec[T]{Targets: 1}
	leaf := func() int {
		s.Nodes = append(s.Nodes, Node[T]{Mode: Leaf, First: len(s.Weights), Count: 1})
		s.Weights = append(s.Weights, Weight[T]{0, T(r.NormFloat64())})
		return len(s.Nodes) - 1
	}
	split := func(i int) (int, int) {
		n := Node[T]{Mode: LEQ, Feature: r.IntN(features), Value: T(r.NormFloat64())}
		n.True, n.False = leaf(), leaf()
		s.Nodes[i] = n
		return n.True, n.False
	}
	for range trees {
		root := leaf()
		s.Roots = append(s.Roots, root)
		open := []int{root}
		if leaves > 0 {
			for len(open) < leaves {
				k := r.IntN(len(open))
				a, b := split(open[k])
				open[k] = a
				open = append(open, b)
			}
			continue
		}
		for range depth {
			var below []int
			for _, i := range open {
				a, b := split(i)
				below = append(below, a, b)
			}
			open = below
		}
	}
	return s
}

// BenchmarkSum reports the time of a row; the rows rotate: repeated, they would teach the branch predictor their answers.
func BenchmarkSum(b *testing.B) {
	b.Run("perfect/float32", func(b *testing.B) { benchmarkSum(b, grown[float32](100, 6, 0, 30), 30) })
	b.Run("perfect/float64", func(b *testing.B) { benchmarkSum(b, grown[float64](100, 6, 0, 30), 30) })
	b.Run("linked/float32", func(b *testing.B) { benchmarkSum(b, grown[float32](200, 0, 63, 30), 30) })
	b.Run("linked/float64", func(b *testing.B) { benchmarkSum(b, grown[float64](200, 0, 63, 30), 30) })
}

func benchmarkSum[T Float](b *testing.B, s *Spec[T], features int) {
	f, err := Build(s)
	if err != nil {
		b.Fatal(err)
	}
	const rows = 4096
	r := rand.New(rand.NewPCG(5, 6))
	x := make([]T, rows*features)
	for i := range x {
		x[i] = T(r.NormFloat64())
	}
	for _, batch := range []int{1, 7, 32, 256, 512} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			sums := make([]T, batch)
			var scratch Scratch[T]
			at := 0
			for b.Loop() {
				if at+batch > rows {
					at = 0
				}
				f.Sum(x[at*features:], batch, features, sums, nil, &scratch)
				at += batch
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/row")
		})
	}
}
