package forest

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// naive evaluates a Spec as its text says, row by row.
func naive[T Float](s *Spec[T], x []T) (sums []T, seen []bool) {
	sums, seen = make([]T, s.Targets), make([]bool, s.Targets)
	for _, at := range s.Roots {
		for s.Nodes[at].Mode != Leaf {
			n := &s.Nodes[at]
			v := x[n.Feature]
			var yes bool
			switch n.Mode {
			case LEQ:
				yes = v <= n.Value
			case LT:
				yes = v < n.Value
			case GTE:
				yes = v >= n.Value
			case GT:
				yes = v > n.Value
			case EQ:
				yes = v == n.Value
			case NEQ:
				yes = v != n.Value
			case Member:
				for _, m := range n.Members {
					yes = yes || m == v
				}
			}
			if yes || v != v && n.MissingTrue {
				at = n.True
			} else {
				at = n.False
			}
		}
		n := &s.Nodes[at]
		for _, w := range s.Weights[n.First : n.First+n.Count] {
			t := w.Target
			switch {
			case s.Aggregate == Sum || s.Aggregate == Average:
				sums[t] += w.Value
			case !seen[t] || s.Aggregate == Min && w.Value < sums[t] || s.Aggregate == Max && w.Value > sums[t]:
				sums[t] = w.Value
			}
			seen[t] = true
		}
	}
	return sums, seen
}

// awkward are thresholds and features where comparisons differ most.
var awkward = []float64{0, math.Copysign(0, -1), 1, -1, 2, math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat32,
	-math.MaxFloat32, math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32}

type shape struct {
	trees, depth, features, targets int
	modes                           []Mode
	leaf                            string // weights of a leaf: one, tree (one, by tree), all, some
	missing                         int    // of ten nodes, those that send NaN to true
	agg                             Aggregate
	odd                             float64 // share of awkward thresholds
}

func random[T Float](r *rand.Rand, c shape) *Spec[T] {
	s := &Spec[T]{Targets: c.targets, Aggregate: c.agg}
	var grow func(tree, depth int) int
	grow = func(tree, depth int) int {
		at := len(s.Nodes)
		s.Nodes = append(s.Nodes, Node[T]{})
		if depth == 0 || r.IntN(8) == 0 {
			n := Node[T]{Mode: Leaf, First: len(s.Weights)}
			for t := range c.targets {
				if c.leaf == "one" && t == 0 || c.leaf == "tree" && t == tree%c.targets || c.leaf == "all" || c.leaf == "some" && r.IntN(2) == 0 {
					s.Weights = append(s.Weights, Weight[T]{t, T(r.NormFloat64())})
					n.Count++
				}
			}
			s.Nodes[at] = n
			return at
		}
		n := Node[T]{Mode: c.modes[r.IntN(len(c.modes))], Feature: r.IntN(c.features), Value: T(r.NormFloat64()), MissingTrue: r.IntN(10) < c.missing}
		if r.Float64() < c.odd {
			n.Value = T(awkward[r.IntN(len(awkward))])
		}
		if n.Mode == Member {
			n.Members = []T{n.Value, 1, 2}
		}
		n.True = grow(tree, depth-1)
		n.False = grow(tree, depth-1)
		s.Nodes[at] = n
		return at
	}
	for t := range c.trees {
		s.Roots = append(s.Roots, grow(t, c.depth))
	}
	return s
}

func TestSumAgreesWithNaiveWalk(t *testing.T) {
	t.Run("float32", agree[float32])
	t.Run("float64", agree[float64])
}

func agree[T Float](t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	simple, all := []Mode{LEQ, LT, GTE, GT}, []Mode{LEQ, LT, GTE, GT, EQ, NEQ, Member}
	pick := func(n ...int) int { return n[r.IntN(len(n))] }
	for trial := range 150 {
		c := shape{
			trees: pick(1, 2, 4, 7, 30), depth: pick(0, 1, 3, 6, 8, 9, 12), features: pick(1, 3, 20), targets: pick(1, 1, 2, 3),
			modes: simple, leaf: []string{"one", "one", "tree", "all", "some"}[r.IntN(5)], missing: pick(0, 5, 10),
			agg: Aggregate(pick(0, 0, 0, 1, 2, 3)), odd: []float64{0, 0, 0.3}[r.IntN(3)],
		}
		if r.IntN(3) == 0 {
			c.modes = simple[r.IntN(4):][:1]
		}
		if r.IntN(5) == 0 {
			c.modes = all
		}
		s := random[T](r, c)
		f, err := Build(s)
		if err != nil {
			t.Fatal(err)
		}
		var scratch Scratch[T]
		for _, rows := range []int{1, 3, 4, 67, 130} {
			width := c.features + r.IntN(2)
			x := make([]T, rows*width)
			for i := range x {
				x[i] = T(r.NormFloat64())
				if r.IntN(3) == 0 && trial%3 != 0 {
					x[i] = T(awkward[r.IntN(len(awkward))])
				}
			}
			sums, seen := make([]T, rows*s.Targets), make([]bool, rows*s.Targets)
			f.Sum(x, rows, width, sums, seen, &scratch)
			for row := range rows {
				want, has := naive(s, x[row*width:])
				for k := range want {
					if got := sums[row*s.Targets+k]; got != want[k] || seen[row*s.Targets+k] != has[k] {
						t.Fatalf("trial %d %+v: row %d of %d, target %d: %v %v, expected %v %v", trial, c, row, rows, k,
							got, seen[row*s.Targets+k], want[k], has[k])
					}
				}
			}
		}
	}
}

func TestBuildRefusesWhatIsNotATree(t *testing.T) {
	leaf := Node[float32]{Mode: Leaf, Count: 1}
	for name, s := range map[string]Spec[float32]{
		"cycle":           {Nodes: []Node[float32]{{True: 0, False: 1}, leaf}},
		"shared leaf":     {Nodes: []Node[float32]{{True: 1, False: 1}, leaf}},
		"missing child":   {Nodes: []Node[float32]{{True: 1, False: 2}, leaf}},
		"negative child":  {Nodes: []Node[float32]{{True: 1, False: -1}, leaf}},
		"feature":         {Nodes: []Node[float32]{{Feature: -1, True: 1, False: 2}, leaf, leaf}},
		"feature too big": {Nodes: []Node[float32]{{Feature: MaxDim, True: 1, False: 2}, leaf, leaf}},
		"mode":            {Nodes: []Node[float32]{{Mode: 99, True: 1, False: 2}, leaf, leaf}},
		"weights":         {Nodes: []Node[float32]{{Mode: Leaf, First: 1, Count: 1}}},
		"weights wrap":    {Nodes: []Node[float32]{{Mode: Leaf, First: math.MaxInt, Count: 1}}},
	} {
		s.Roots, s.Targets, s.Weights = []int{0}, 1, []Weight[float32]{{0, 1}}
		if _, err := Build(&s); err == nil {
			t.Errorf("%s: built", name)
		}
	}
	two := Spec[float32]{Nodes: []Node[float32]{leaf}, Roots: []int{0, 0}, Targets: 1, Weights: []Weight[float32]{{0, 1}}}
	if _, err := Build(&two); err == nil {
		t.Error("two trees share a node")
	}
	bad := Spec[float32]{Nodes: []Node[float32]{leaf}, Roots: []int{0}, Targets: 1, Weights: []Weight[float32]{{3, 1}}}
	if _, err := Build(&bad); err == nil {
		t.Error("a weight for a target that does not exist")
	}
}

// TestPaddingIsBounded holds that one deep tree does not make many small ones large.
func TestPaddingIsBounded(t *testing.T) {
	s := &Spec[float32]{Targets: 1, Weights: []Weight[float32]{{0, 1}}}
	full := random[float32](rand.New(rand.NewPCG(1, 2)), shape{trees: 1, depth: 8, features: 3, targets: 1, modes: []Mode{LEQ}, leaf: "one"})
	s.Nodes, s.Roots, s.Weights = full.Nodes, full.Roots, full.Weights
	for range 10_000 {
		s.Roots = append(s.Roots, len(s.Nodes))
		s.Nodes = append(s.Nodes, Node[float32]{Mode: Leaf, Count: 1})
	}
	f, err := Build(s)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(f.perfect) + len(f.linked); n > 8*len(s.Nodes) {
		t.Errorf("%d nodes became %d", len(s.Nodes), n)
	}
}

func TestFeaturesCountsEveryNode(t *testing.T) {
	leaf := Node[float32]{Mode: Leaf, Count: 1}
	s := &Spec[float32]{Targets: 1, Weights: []Weight[float32]{{0, 1}}, Roots: []int{0},
		Nodes: []Node[float32]{{Mode: EQ, True: 1, False: 2}, {Mode: LEQ, Feature: 6, True: 3, False: 4}, leaf, leaf, leaf}}
	f, err := Build(s)
	if err != nil {
		t.Fatal(err)
	}
	if f.Features() != 7 {
		t.Errorf("got %d, expected 7", f.Features())
	}
}

func TestKeysCompareAsNumbersDo(t *testing.T) {
	for _, v := range awkward {
		for _, thr := range awkward {
			a, b := float32(v), float32(thr)
			if b == b {
				k := keyOf(math.Float32bits(a))
				if isNaN(math.Float32bits(a)) {
					k = nanLow
				}
				if got := uint64(k) > threshold(b); got != (a > b) {
					t.Errorf("float32 %v > %v: %v", a, b, got)
				}
			}
			if thr == thr {
				k := keyOf(math.Float64bits(v))
				if isNaN(math.Float64bits(v)) {
					k = nanLow
				}
				if got := k > threshold(thr); got != (v > thr) {
					t.Errorf("float64 %v > %v: %v", v, thr, got)
				}
			}
		}
	}
}

// TestChainsOfEqualsAreSets holds that categories written as a chain with one true child, NaN among the rows, count as a
// set, and that any other sharing of nodes is refused.
func TestChainsOfEqualsAreSets(t *testing.T) {
	leaf := func(i int) Node[float32] { return Node[float32]{Mode: Leaf, First: i, Count: 1} }
	spec := func() *Spec[float32] {
		return &Spec[float32]{
			Nodes: []Node[float32]{
				{Mode: EQ, Value: 3, True: 3, False: 1},
				{Mode: EQ, Value: 5, True: 3, False: 2},
				{Mode: EQ, Value: 7, True: 3, False: 4, MissingTrue: true},
				leaf(0), leaf(1),
			},
			Roots: []int{0}, Targets: 1, Weights: []Weight[float32]{{0, 10}, {0, 20}},
		}
	}
	f, err := Build(spec())
	if err != nil {
		t.Fatal(err)
	}
	x := []float32{3, 4, 5, 7, 8, float32(math.NaN())}
	sums := make([]float32, len(x))
	f.Sum(x, len(x), 1, sums, nil, &Scratch[float32]{})
	if want := []float32{10, 20, 10, 10, 20, 10}; !slices.Equal(sums, want) {
		t.Errorf("%v, expected %v", sums, want)
	}
	for name, change := range map[string]func(s *Spec[float32]){
		"another feature":    func(s *Spec[float32]) { s.Nodes[1].Feature = 1 },
		"another comparison": func(s *Spec[float32]) { s.Nodes[1].Mode = LEQ },
		"a cycle":            func(s *Spec[float32]) { s.Nodes[2].False = 0 },
		"a cycle behind":     func(s *Spec[float32]) { s.Nodes[2].False = 1 },
		"a loop":             func(s *Spec[float32]) { s.Nodes[0].False = 0 },
	} {
		s := spec()
		change(s)
		if _, err := Build(s); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
