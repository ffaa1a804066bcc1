package ops

import (
	"fmt"
	"math"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/attribution"
	"github.com/freshet-io/freshet/inference/onnx/internal/forest"
)

func treeOps() []Entry {
	return []Entry{
		{Domain: "ai.onnx.ml", Op: "TreeEnsembleClassifier", Min: 1, Max: MaxMLOpset, InMin: 1, InMax: 1, OutMax: 2, Compile: compileTreeClassifier},
		{Domain: "ai.onnx.ml", Op: "TreeEnsembleRegressor", Min: 1, Max: MaxMLOpset, InMin: 1, InMax: 1, OutMax: 1, Compile: compileTreeRegressor},
		{Domain: "ai.onnx.ml", Op: "TreeEnsemble", Min: 5, Max: MaxMLOpset, InMin: 1, InMax: 1, OutMax: 1, Compile: compileTreeEnsemble},
	}
}

// treeScratch is the part of a Frame that tree operators use.
type treeScratch struct {
	s32    forest.Scratch[float32]
	s64    forest.Scratch[float64]
	sums32 []float32
	sums64 []float64
	seen   []bool
}

// ensemble is a forest with what its operator adds: base values and transform.
type ensemble struct {
	f32  *forest.Forest[float32] // one of the two
	f64  *forest.Forest[float64]
	base []float64
	post transform
	agg  forest.Aggregate
	// needSeen says that it matters whether a target got any contribution.
	needSeen bool
	// shape is what explanations need of the trees.
	shape *attribution.Ensemble
}

func (e *ensemble) features() int {
	if e.f64 != nil {
		return e.f64.Features()
	}
	return e.f32.Features()
}

func (e *ensemble) targets() int {
	if e.f64 != nil {
		return e.f64.Targets()
	}
	return e.f32.Targets()
}

func (e *ensemble) trees() int {
	if e.f64 != nil {
		return e.f64.Trees()
	}
	return e.f32.Trees()
}

// matrix reads a tensor of rank 1 or 2 as rows × width.
func matrix(t *Tensor) (rows, width int, err error) {
	switch len(t.Shape) {
	case 1:
		return 1, t.Shape[0], nil
	case 2:
		return t.Shape[0], t.Shape[1], nil
	}
	return 0, 0, fmt.Errorf("an input of shape %v, expected [rows, features]", append([]int(nil), t.Shape...))
}

// sum evaluates the trees; exactly one of the results is set.
func (e *ensemble) sum(f *Frame, x *Tensor) (rows int, s32 []float32, s64 []float64, seen []bool, err error) {
	rows, width, err := matrix(x)
	if err != nil {
		return 0, nil, nil, nil, err
	}
	if width < e.features() {
		return 0, nil, nil, nil, fmt.Errorf("the trees use %d features, the input has %d", e.features(), width)
	}
	t := &f.trees
	k := e.targets()
	shape := [2]int{rows, k}
	n, err := f.take(shape[:])
	if err != nil {
		return 0, nil, nil, nil, err
	}
	if e.needSeen {
		if cap(t.seen) < n {
			t.seen = make([]bool, n)
		}
		seen = t.seen[:n]
	}
	if e.f64 != nil {
		if cap(t.sums64) < n {
			t.sums64 = make([]float64, n)
		}
		s64 = t.sums64[:n]
		e.f64.Sum(x.F64, rows, width, s64, seen, &t.s64)
		return rows, nil, s64, seen, nil
	}
	if cap(t.sums32) < n {
		t.sums32 = make([]float32, n)
	}
	s32 = t.sums32[:n]
	e.f32.Sum(f.floats(x), rows, width, s32, seen, &t.s32)
	return rows, s32, nil, seen, nil
}

// regress fills the scores of a regression: aggregate, base value, transform.
func (e *ensemble) regress(f *Frame, in, out []*Tensor) error {
	rows, s32, s64, seen, err := e.sum(f, in[0])
	if err != nil {
		return err
	}
	if s64 != nil {
		return regressRows(f, e, out[0], rows, s64, seen)
	}
	return regressRows(f, e, out[0], rows, s32, seen)
}

func regressRows[T forest.Float](f *Frame, e *ensemble, out *Tensor, rows int, sums []T, seen []bool) error {
	k := e.targets()
	y, err := Alloc[float32](f, out, rows, k)
	if err != nil {
		return err
	}
	div := T(1)
	if e.agg == forest.Average {
		div = T(e.trees())
	}
	for i, s := range sums {
		if k > 1 && !seen[i] {
			y[i] = 0 // without the base value, as in ONNX Runtime
			continue
		}
		if div != 1 {
			s /= div
		}
		if len(e.base) > 0 {
			s += T(e.base[i%k])
		}
		y[i] = float32(s)
	}
	switch {
	case e.post == transformNone:
	case k > 1:
		for r := 0; r < rows; r++ {
			e.post.apply(y[r*k : (r+1)*k])
		}
	case e.post == transformProbit: // the only transform of a single target, as in ONNX Runtime
		e.post.apply(y)
	}
	return nil
}

func compileTreeRegressor(n *Node) (Kernel, error) {
	a, err := readTrees(n, "target")
	if err != nil {
		return nil, err
	}
	targets, err := n.intAttr("n_targets", 1)
	if err != nil {
		return nil, err
	}
	name, err := n.stringAttr("aggregate_function", "SUM")
	if err != nil {
		return nil, err
	}
	agg := map[string]forest.Aggregate{"SUM": forest.Sum, "AVERAGE": forest.Average, "MIN": forest.Min, "MAX": forest.Max}
	g, ok := agg[name]
	if !ok {
		return nil, fmt.Errorf("aggregate_function %q, expected SUM, AVERAGE, MIN or MAX", name)
	}
	e, err := a.build(n, int(min(max(targets, 0), math.MaxInt32)), g)
	if err != nil {
		return nil, err
	}
	if len(a.base) == 1 && targets != 1 {
		return nil, fmt.Errorf("one base value for %d targets", targets)
	}
	n.result(0, inference.Float32)
	n.Trees = e.shape
	n.Source = func() *Source { return e.source(e.regressionScores(), 0) }
	return e.regress, nil
}

func compileTreeClassifier(n *Node) (Kernel, error) {
	a, err := readTrees(n, "class")
	if err != nil {
		return nil, err
	}
	ints, err := n.intsAttr("classlabels_int64s")
	if err != nil {
		return nil, err
	}
	strs, err := n.stringsAttr("classlabels_strings")
	if err != nil {
		return nil, err
	}
	if (len(ints) > 0) == (len(strs) > 0) {
		return nil, fmt.Errorf("expected either classlabels_int64s or classlabels_strings")
	}
	classes := len(ints) + len(strs)
	e, err := a.build(n, classes, forest.Sum)
	if err != nil {
		return nil, err
	}
	c := &treeClassifier{ensemble: e, classes: classes, ints: ints, strs: strs, positive: true, binary: classes == 2}
	if len(a.leafTarget) > 0 {
		c.lone = int(a.leafTarget[0])
	}
	for i, w := range a.weights {
		c.positive = c.positive && !(w < 0)
		c.binary = c.binary && a.leafTarget[i] == a.leafTarget[0]
	}
	n.result(0, inference.Int64)
	if strs != nil {
		n.result(0, inference.String)
	}
	n.result(1, inference.Float32)
	n.Trees = e.shape
	n.Source = func() *Source { return e.source(c.scores(), 1) }
	return c.run, nil
}

// treeClassifier follows ONNX Runtime where the operator's text leaves choices: two classes
// whose leaves name only one of them, and one score for two classes.
type treeClassifier struct {
	*ensemble
	classes int
	ints    []int64
	strs    []string
	// binary: two classes, and all leaves name the same one, lone.
	binary bool
	lone   int
	// positive: no weight is negative, so that a lone score is a probability.
	positive bool
}

func (c *treeClassifier) run(f *Frame, in, out []*Tensor) error {
	rows, s32, s64, seen, err := c.sum(f, in[0])
	if err != nil {
		return err
	}
	var z []float32
	if out[1] != nil {
		if z, err = Alloc[float32](f, out[1], rows, c.classes); err != nil {
			return err
		}
	} else {
		z = f.scratch(1, rows*c.classes)
	}
	var l label
	if err := l.alloc(f, out[0], rows, c.ints, c.strs); err != nil {
		return err
	}
	if s64 != nil {
		classifyRows(c, rows, s64, seen, z, &l)
	} else {
		classifyRows(c, rows, s32, seen, z, &l)
	}
	return nil
}

// label writes class labels.
type label struct {
	ints, fromInts []int64
	strs, fromStrs []string
}

func (l *label) alloc(f *Frame, out *Tensor, rows int, ints []int64, strs []string) (err error) {
	if out == nil {
		return nil
	}
	l.fromInts, l.fromStrs = ints, strs
	if strs != nil {
		l.strs, err = Alloc[string](f, out, rows)
	} else {
		l.ints, err = Alloc[int64](f, out, rows)
	}
	return err
}

func (l *label) set(row, class int) {
	if l.strs != nil {
		l.strs[row] = l.fromStrs[class]
	} else if l.ints != nil {
		l.ints[row] = l.fromInts[class]
	}
}

func classifyRows[T forest.Float](c *treeClassifier, rows int, sums []T, seen []bool, z []float32, l *label) {
	k := c.classes
	switch k {
	case 1:
		for r := range rows {
			s := sums[r]
			if len(c.base) > 0 {
				s += T(c.base[0])
			}
			z[r] = float32(s)
			l.set(r, 0)
		}
		return
	case 2:
		for r := range rows {
			pos := twoClasses(c, sums[2*r], sums[2*r+1], seen[2*r], seen[2*r+1], z[2*r:2*r+2])
			l.set(r, pos)
		}
		return
	}
	for r := range rows {
		best, top := -1, T(0)
		for j, s := range sums[r*k : (r+1)*k] {
			has := seen[r*k+j]
			if j < len(c.base) {
				s += T(c.base[j])
				has = true
			}
			if has && (best < 0 || s > top) {
				best, top = j, s
			}
			z[r*k+j] = float32(s)
		}
		l.set(r, max(best, 0))
		c.post.apply(z[r*k : (r+1)*k])
	}
}

// twoClasses writes the two scores of a row and returns its class.
func twoClasses[T forest.Float](c *treeClassifier, s0, s1 T, seen0, seen1 bool, z []float32) (class int) {
	both := seen1
	switch len(c.base) {
	case 2:
		both = true
		if seen1 {
			s1 = T(c.base[1]) + s0
			s0 = -s1
		} else {
			s1 += T(c.base[1])
			s0 += T(c.base[0])
		}
	case 1:
		s0 += T(c.base[0])
	}
	score := s0
	if seen1 {
		score = s1
	}
	threshold := T(0)
	if c.binary && c.positive {
		threshold = 0.5
	}
	if score > threshold {
		class = 1
	}
	if both {
		z[0], z[1] = 0, 0
		if seen0 {
			z[0] = float32(s0)
		}
		if seen1 {
			z[1] = float32(s1)
		}
		c.post.apply(z)
		return class
	}
	switch p := float32(score); {
	case c.post == transformProbit:
		z[0], z[1] = probit(p), 0
	case !c.binary && len(c.base) == 1:
		z[0], z[1] = p, 0
	case c.post == transformLogistic:
		z[0], z[1] = logistic(-p), logistic(p)
	case c.binary && c.positive:
		z[0], z[1] = 1-p, p
	default:
		z[0], z[1] = -p, p
	}
	return class
}
