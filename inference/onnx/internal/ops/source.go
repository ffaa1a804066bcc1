package ops

import (
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/attribution"
	"github.com/freshet-io/freshet/inference/onnx/internal/forest"
)

// Link is what a sum goes through on its way to an output.
type Link uint8

// The links.
const (
	NoLink Link = iota
	LogisticLink
	SoftmaxLink // over the row
)

// Score is a column of an output: the link of Constant + Scale × the source's target.
type Score struct {
	Link     Link
	Constant float64
	Target   int
	Scale    float64
}

// Source is a node whose output is made of sums over the features of its first input: of the
// leaves of trees, or of weighted features. It is immutable.
type Source struct {
	// Trees are the trees, or nil.
	Trees *attribution.Ensemble
	f32   *forest.Forest[float32]
	f64   *forest.Forest[float64]
	// Linear are the weights of the features, by target, where there are no trees.
	Linear [][]float64
	// Scores are the columns of output number Output.
	Scores []Score
	Output int
}

// MaxScores bounds the columns that can be explained.
const MaxScores = 4096

// maxWeights bounds the matrix of a linear function that can be explained.
const maxWeights = 1 << 20

// Features is how many features the source reads; a row must have as many or, for trees, more.
func (s *Source) Features() int {
	if s.Trees != nil {
		return s.Trees.Features()
	}
	return len(s.Linear[0])
}

// LeafNodes are the nodes that the numbers told by Leaves stand for.
func (s *Source) LeafNodes() []int32 {
	if s.f64 != nil {
		return s.f64.LeafNodes()
	}
	return s.f32.LeafNodes()
}

// Leaves walks the rows of x down the trees.
func (s *Source) Leaves(f *Frame, x *Tensor, first, rows, width int, v forest.Visitor) {
	if s.f64 != nil {
		s.f64.Leaves(x.F64[first*width:(first+rows)*width], rows, width, &f.trees.s64, v)
		return
	}
	s.f32.Leaves(f.floats(x)[first*width:(first+rows)*width], rows, width, &f.trees.s32, v)
}

// Values are the rows of x as the source reads them, in float64; to lends its storage.
func (s *Source) Values(f *Frame, x *Tensor, to []float64) []float64 {
	if x.Type == inference.Float64 && (s.f64 != nil || s.Trees == nil) {
		return append(to[:0], x.F64...)
	}
	data := f.floats(x)
	if cap(to) < len(data) {
		to = make([]float64, len(data))
	}
	return convertTo(to[:len(data)], data)
}

// source is the ensemble with its scores; nil for none.
func (e *ensemble) source(scores []Score, output int) *Source {
	if scores == nil {
		return nil
	}
	return &Source{Trees: e.shape, f32: e.f32, f64: e.f64, Scores: scores, Output: output}
}

// link is the link of a transform; ok is false where it has none.
func (t transform) link() (l Link, ok bool) {
	switch t {
	case transformNone:
		return NoLink, true
	case transformLogistic:
		return LogisticLink, true
	case transformSoftmax:
		return SoftmaxLink, true
	}
	return 0, false
}

// baseOf is the base value of a target.
func (e *ensemble) baseOf(target int) float64 {
	if target < len(e.base) {
		return e.base[target]
	}
	return 0
}

// regressionScores says what regress does; nil where that is no sum.
func (e *ensemble) regressionScores() []Score {
	if e.agg == forest.Min || e.agg == forest.Max || e.targets() > MaxScores {
		return nil
	}
	k := e.targets()
	link, ok := e.post.link()
	if k == 1 {
		link, ok = NoLink, e.post != transformProbit
	}
	if !ok {
		return nil
	}
	scale := 1.0
	if e.agg == forest.Average {
		scale = 1 / float64(e.trees())
	}
	var out []Score
	for t := range k {
		base := e.baseOf(t)
		if k > 1 && base != 0 && !e.shape.Always(t) {
			return nil // rows without a weight have no base value
		}
		out = append(out, Score{Link: link, Constant: base, Target: t, Scale: scale})
	}
	return out
}

// scores says what classifyRows does; nil where that is no sum.
func (c *treeClassifier) scores() []Score {
	link, ok := c.post.link()
	switch {
	case c.classes > MaxScores || !ok && c.classes > 1:
		return nil
	case c.classes == 1:
		return []Score{{Constant: c.baseOf(0), Scale: 1}}
	case c.classes > 2:
		var out []Score
		for t := range c.classes {
			out = append(out, Score{Link: link, Constant: c.baseOf(t), Target: t, Scale: 1})
		}
		return out
	}
	return c.pairScores(link)
}

// pairScores says what twoClasses does.
func (c *treeClassifier) pairScores(link Link) []Score {
	if len(c.base) > 1 {
		return nil
	}
	base := c.baseOf(0)
	if !c.binary {
		// Both classes have weights of their own.
		if base != 0 || len(c.base) > 0 || !c.shape.Always(1) {
			return nil
		}
		return []Score{{Link: link, Scale: 1}, {Link: link, Target: 1, Scale: 1}}
	}
	if c.lone != 0 || link == SoftmaxLink {
		return nil // the only class with weights is the second: its scores do not mirror each other
	}
	switch {
	case link == LogisticLink:
		return []Score{{Link: link, Constant: -base, Scale: -1}, {Link: link, Constant: base, Scale: 1}}
	case c.positive:
		return []Score{{Constant: 1 - base, Scale: -1}, {Constant: base, Scale: 1}}
	}
	return []Score{{Constant: -base, Scale: -1}, {Constant: base, Scale: 1}}
}

func (l *linear) interceptOf(t int) float64 {
	if t < len(l.intercept) {
		return float64(l.intercept[t])
	}
	return 0
}

// plainScores are one score a target.
func (l *linear) plainScores(link Link) []Score {
	var out []Score
	for t := range l.targets {
		out = append(out, Score{Link: link, Constant: l.interceptOf(t), Target: t, Scale: 1})
	}
	return out
}

// source is the functions with their scores.
func (l *linear) source(scores []Score, output int) *Source {
	s := &Source{Scores: scores, Output: output}
	k := len(l.coef) / l.targets
	for t := range l.targets {
		s.Linear = append(s.Linear, convertTo(make([]float64, k), l.coef[t*k:(t+1)*k]))
	}
	return s
}

// regressionSource says what compileLinearRegressor's kernel does; nil where that is no sum.
func (l *linear) regressionSource() *Source {
	link, ok := l.post.link()
	if l.targets == 1 {
		link, ok = NoLink, l.post != transformProbit
	}
	if !ok || l.targets > MaxScores || len(l.coef) > maxWeights {
		return nil
	}
	return l.source(l.plainScores(link), 0)
}

// classifierSource says what compileLinearClassifier's kernel does, whose scores are width.
func (l *linear) classifierSource(width int) *Source {
	link, ok := l.post.link()
	if !ok || l.targets > MaxScores || len(l.coef) > maxWeights {
		return nil
	}
	b := l.interceptOf(0)
	switch {
	case l.targets > 1:
		return l.source(l.plainScores(link), 1)
	case width == 1:
		return l.source(l.plainScores(NoLink), 1)
	case link == LogisticLink:
		return l.source([]Score{{Link: link, Constant: -b, Scale: -1}, {Link: link, Constant: b, Scale: 1}}, 1)
	}
	return l.source([]Score{{Constant: 1 - b, Scale: -1}, {Constant: b, Scale: 1}}, 1)
}

// matrixSource is the source of a product with a constant matrix of k×n, or n×k when turned, times alpha.
func matrixSource(w *Tensor, turned bool, alpha float64, bias []float64) *Source {
	if len(w.Shape) != 2 || w.Type != inference.Float32 && w.Type != inference.Float64 {
		return nil
	}
	k, n := w.Shape[0], w.Shape[1]
	down, across := n, 1
	if turned {
		k, n = n, k
		down, across = 1, k
	}
	if n > MaxScores || k == 0 || n == 0 || k > maxWeights/n {
		return nil
	}
	at := func(i int) float64 {
		if w.Type == inference.Float64 {
			return w.F64[i]
		}
		return float64(w.F32[i])
	}
	s := &Source{}
	for t := range n {
		row := make([]float64, k)
		for i := range row {
			row[i] = alpha * at(i*down+t*across)
		}
		s.Linear = append(s.Linear, row)
		score := Score{Target: t, Scale: 1}
		switch {
		case len(bias) == 1:
			score.Constant = bias[0]
		case bias != nil:
			score.Constant = bias[t]
		}
		s.Scores = append(s.Scores, score)
	}
	return s
}

// floats64 copies a tensor of floats; nil for other types.
func floats64(t *Tensor) []float64 {
	switch t.Type {
	case inference.Float32:
		return convertTo(make([]float64, len(t.F32)), t.F32)
	case inference.Float64:
		return append([]float64(nil), t.F64...)
	}
	return nil
}

// gemmSource is the source of A·B·alpha + beta·C with constant B and C.
func gemmSource(n *Node, g *gemm) *Source {
	b, c := n.In[1].Const, n.in(2)
	if b == nil || g.transA || len(b.Shape) != 2 {
		return nil
	}
	var bias []float64
	if c != nil {
		if c.Const == nil {
			return nil
		}
		width := b.Shape[1]
		if g.transB {
			width = b.Shape[0]
		}
		bias = floats64(c.Const)
		if len(bias) != 1 && (len(bias) != width || columns(c.Const) != width) {
			return nil
		}
		for i := range bias {
			bias[i] *= float64(g.beta)
		}
	}
	return matrixSource(b, g.transB, float64(g.alpha), bias)
}
