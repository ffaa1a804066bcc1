package attribution

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/freshet-io/freshet/inference/onnx/internal/forest"
)

// random makes an ensemble of random trees over few features, so that they repeat on paths, with
// values on a grid, so that rows tie with thresholds.
func random(r *rand.Rand, features, trees, depth, targets int) *forest.Spec[float64] {
	s := &forest.Spec[float64]{Targets: targets}
	grid := func() float64 {
		if r.IntN(12) == 0 {
			return []float64{math.Inf(1), math.Inf(-1), math.NaN(), math.Copysign(0, -1)}[r.IntN(4)]
		}
		return float64(r.IntN(7) - 3)
	}
	var grow func(depth int) int
	grow = func(depth int) int {
		at := len(s.Nodes)
		s.Nodes = append(s.Nodes, forest.Node[float64]{})
		if depth == 0 || r.IntN(6) == 0 {
			n := forest.Node[float64]{Mode: forest.Leaf, First: len(s.Weights)}
			for t := range targets {
				if targets == 1 || r.IntN(3) > 0 {
					s.Weights = append(s.Weights, forest.Weight[float64]{Target: t, Value: r.NormFloat64()})
					n.Count++
				}
			}
			s.Nodes[at] = n
			return at
		}
		n := forest.Node[float64]{Mode: forest.Mode(r.IntN(int(forest.Leaf))), Feature: r.IntN(features), Value: grid(), MissingTrue: r.IntN(2) == 0}
		if n.Mode == forest.Member {
			for range r.IntN(4) {
				n.Members = append(n.Members, grid())
			}
		}
		n.True = grow(depth - 1)
		n.False = grow(depth - 1)
		s.Nodes[at] = n
		return at
	}
	for range trees {
		s.Roots = append(s.Roots, grow(depth))
	}
	return s
}

func randomRows(r *rand.Rand, rows, features int) []float64 {
	x := make([]float64, rows*features)
	for i := range x {
		switch r.IntN(12) {
		case 0:
			x[i] = math.NaN()
		case 1:
			x[i] = math.Inf(1 - 2*r.IntN(2))
		case 2:
			x[i] = math.Copysign(0, -1)
		default:
			x[i] = float64(r.IntN(7) - 3)
		}
	}
	return x
}

// worthOf is the worth of the features in known, by the definition.
func worthOf(e *Ensemble, c Covers, target int, at int32, row []float64, known uint) float64 {
	n := &e.nodes[at]
	if n.mode == forest.Leaf {
		v, _ := e.leafValue(n, target)
		return v
	}
	if known>>n.feature&1 == 1 {
		if e.goes(n, row[n.feature]) {
			return worthOf(e, c, target, n.yes, row, known)
		}
		return worthOf(e, c, target, n.no, row, known)
	}
	z := c.share(at, n)
	return z*worthOf(e, c, target, n.yes, row, known) + (1-z)*worthOf(e, c, target, n.no, row, known)
}

// bruteForce takes the mean of what each feature adds over all subsets of the others.
func bruteForce(e *Ensemble, c Covers, target int, row []float64) (phi []float64, base, raw float64) {
	m := len(row)
	worth := make([]float64, 1<<m)
	for known := range worth {
		for _, root := range e.roots {
			worth[known] += worthOf(e, c, target, root, row, uint(known))
		}
	}
	factorial := func(n int) float64 { return math.Gamma(float64(n) + 1) }
	phi = make([]float64, m)
	for i := range phi {
		for known := range worth {
			if known>>i&1 == 0 {
				k := bits.OnesCount(uint(known))
				phi[i] += factorial(k) * factorial(m-k-1) / factorial(m) * (worth[known|1<<i] - worth[known])
			}
		}
	}
	return phi, worth[0], worth[len(worth)-1]
}

func identity(n int) []int32 {
	to := make([]int32, n)
	for i := range to {
		to[i] = int32(i)
	}
	return to
}

func far(got, want float64) bool { return math.Abs(got-want) > 1e-11*max(1, math.Abs(want)) }

// TestShapleyIsTheMeanOverAllSubsets compares with the definition on random trees with repeated features, every
// comparison, ties, NaN and infinities, nodes that the sample does not reach, and several targets.
func TestShapleyIsTheMeanOverAllSubsets(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			features, targets := 1+r.IntN(8), 1+r.IntN(2)
			s := random(r, features, 1+r.IntN(4), 1+r.IntN(7), targets)
			if _, err := forest.Build(s); err != nil {
				t.Fatal(err)
			}
			e := New(s)
			sample := 1 + r.IntN(60)
			c := e.Cover(randomRows(r, sample, features), sample, features)
			var scratch Scratch
			for target := range targets {
				p := NewPlan(e, c, target, 1)
				for _, rows := range []int{1, 8, 13, -13} {
					p.vectors = vectors() && rows > 0
					rows = max(rows, -rows)
					x := randomRows(r, rows, features)
					out, alone := make([]float64, rows*features), make([]float64, features)
					p.Shapley(&scratch, x, rows, features, out, features, identity(features))
					for k := range rows {
						row := x[k*features : (k+1)*features]
						clear(alone)
						p.Shapley(&scratch, row, 1, features, alone, features, identity(features))
						if !slices.Equal(alone, out[k*features:(k+1)*features]) {
							t.Fatalf("row %d of %d: %v, alone %v", k, rows, out[k*features:(k+1)*features], alone)
						}
						want, base, _ := bruteForce(e, c, target, row)
						if far(p.Base(), base) {
							t.Fatalf("base %v, expected %v", p.Base(), base)
						}
						for i, w := range want {
							if g := out[k*features+i]; far(g, w) {
								t.Fatalf("row %d of %d, feature %d: %v, expected %v", k, rows, i, g, w)
							}
						}
					}
				}
			}
		})
	}
}

// TestPathsGiveTheChangesOfWorth follows rows node by node.
func TestPathsGiveTheChangesOfWorth(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		features, targets := 1+r.IntN(8), 1+r.IntN(2)
		s := random(r, features, 1+r.IntN(6), 1+r.IntN(7), targets)
		f, err := forest.Build(s)
		if err != nil {
			t.Fatal(err)
		}
		e := New(s)
		c := e.Cover(randomRows(r, 40, features), 40, features)
		const rows = 75
		x := randomRows(r, rows, features)
		for target := range targets {
			p := NewPaths(e, c, f.LeafNodes(), target, 2, true)
			worth := e.worth(c, target, 2)
			w := Walk{Paths: p, Raw: make([]float64, rows), Out: make([]float64, rows*features), Stride: features, To: identity(features)}
			var scratch forest.Scratch[float64]
			f.Leaves(x, rows, features, &scratch, &w)
			for k := range rows {
				row := x[k*features : (k+1)*features]
				want, raw := make([]float64, features), 0.0
				for _, i := range e.roots {
					for e.nodes[i].mode != forest.Leaf {
						n, next := &e.nodes[i], e.nodes[i].no
						if e.goes(n, row[n.feature]) {
							next = n.yes
						}
						want[n.feature] += worth[next] - worth[i]
						i = next
					}
					raw += worth[i]
				}
				sum := p.Base()
				for i, v := range want {
					sum += v
					if g := w.Out[k*features+i]; far(g, v) {
						t.Fatalf("seed %d row %d feature %d: %v, expected %v", seed, k, i, g, v)
					}
				}
				if far(w.Raw[k], raw) || far(sum, raw) {
					t.Fatalf("seed %d row %d: raw %v and sum %v, expected %v", seed, k, w.Raw[k], sum, raw)
				}
			}
		}
	}
}

func TestQuadratureIsExactUpToItsDegree(t *testing.T) {
	for n := 1; n <= 64; n++ {
		points, weights := gauss(n)
		for degree := range 2 * n {
			var sum float64
			for i, x := range points {
				sum += weights[i] * math.Pow(x, float64(degree))
			}
			if want := 1 / float64(degree+1); math.Abs(sum-want) > 1e-14 {
				t.Fatalf("%d points, t^%d: %v, expected %v", n, degree, sum, want)
			}
		}
	}
}

// full makes perfect trees with random splits on normal numbers.
func full(trees, depth, features int) *forest.Spec[float64] {
	r := rand.New(rand.NewPCG(1, 2))
	s := &forest.Spec[float64]{Targets: 1}
	for range trees {
		base := len(s.Nodes)
		s.Roots = append(s.Roots, base)
		inner := 1<<depth - 1
		for n := range 2*inner + 1 {
			if n < inner {
				s.Nodes = append(s.Nodes, forest.Node[float64]{Mode: forest.LT, Feature: r.IntN(features), Value: r.NormFloat64(), True: base + 2*n + 1, False: base + 2*n + 2})
				continue
			}
			s.Nodes = append(s.Nodes, forest.Node[float64]{Mode: forest.Leaf, First: len(s.Weights), Count: 1})
			s.Weights = append(s.Weights, forest.Weight[float64]{Value: r.NormFloat64()})
		}
	}
	return s
}

func BenchmarkShapley(b *testing.B) {
	for _, size := range []struct{ trees, depth, features, batch int }{{100, 6, 30, 256}, {100, 6, 30, 1}, {500, 8, 30, 256}} {
		b.Run(fmt.Sprintf("%dx%d/batch=%d", size.trees, size.depth, size.batch), func(b *testing.B) {
			e := New(full(size.trees, size.depth, size.features))
			r := rand.New(rand.NewPCG(3, 4))
			const rows = 1024
			x := make([]float64, rows*size.features)
			for i := range x {
				x[i] = r.NormFloat64()
			}
			p := NewPlan(e, e.Cover(x, rows, size.features), 0, 1)
			out := make([]float64, size.batch*size.features)
			var s Scratch
			at := 0
			to := identity(size.features)
			b.ReportAllocs()
			for b.Loop() {
				p.Shapley(&s, x[at*size.features:], size.batch, size.features, out, size.features, to)
				at = (at + size.batch) % rows
			}
			b.ReportMetric(float64(b.N)*float64(size.batch)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}
