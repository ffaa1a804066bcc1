package onnx

import (
	"slices"

	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/ops"
	"github.com/freshet-io/freshet/inference/onnx/internal/wire"
)

// sameColumns are operators of one value that keep every column where it is.
var sameColumns = []string{
	"Identity", "Dropout", "Cast", "Scaler", "Imputer", "Binarizer", "LabelEncoder", "CategoryMapper", "Abs", "Ceil", "Clip", "Erf", "Exp", "Floor", "IsInf", "IsNaN",
	"Log", "Neg", "Not", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Softplus", "Sqrt", "Tanh",
}

// pairs are operators of two values, or three, that combine elements of the same place.
var pairs = []string{"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Where", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Xor"}

// one follows a node all of whose inputs but one are constant.
func (t *tracer) one(n *wire.Node, v traced, live int, consts []*ops.Tensor) traced {
	switch n.Op {
	case "Reshape", "Flatten", "Squeeze", "Unsqueeze":
		return t.reshape(n, v, consts)
	case "ArrayFeatureExtractor", "Gather":
		return pick(n, v, live, consts)
	case "OneHotEncoder":
		return oneHot(n, v)
	}
	if v.forms != nil {
		return affine(n, v, live, consts)
	}
	if slices.Contains(sameColumns, n.Op) {
		return v
	}
	if slices.Contains(pairs, n.Op) {
		for _, c := range consts {
			if c != nil && !spreads(c, v) {
				return traced{}
			}
		}
		return v
	}
	return traced{}
}

// spreads says whether a constant has one element, or one for each column, and leaves the shape of v.
func spreads(c *ops.Tensor, v traced) bool {
	n := ops.Len(c)
	if len(c.Shape) > v.rank || v.rank > 2 {
		return false
	}
	return n == 1 || v.rank == 2 && n == len(v.origins)+len(v.forms) && c.Shape[len(c.Shape)-1] == n
}

// two follows a node with several inputs that are not constant.
func (t *tracer) two(n *wire.Node, in []traced) traced {
	if n.Domain == "" && (n.Op == "Add" || n.Op == "Sub") && len(in) == 2 {
		sign := 1.0
		if n.Op == "Sub" {
			sign = -1
		}
		return sum(in[0], in[1], sign)
	}
	// Of the same columns, such as Where(IsNaN(x), 0, x): constants beside them must spread.
	if !slices.Contains(pairs, n.Op) {
		return traced{}
	}
	var out traced
	for k, name := range n.Inputs {
		if name == "" {
			return traced{}
		}
		if c := t.pl.values[name].resolve().Const; c != nil {
			if ops.Len(c) != 1 || len(c.Shape) > 2 {
				return traced{}
			}
			continue
		}
		v := in[k]
		if v.origins == nil || v.rank > 2 || out.origins != nil && (out.rank != v.rank || !slices.Equal(out.origins, v.origins)) {
			return traced{}
		}
		out = v
	}
	return out
}

// sum adds forms, the second times sign.
func sum(a, b traced, sign float64) traced {
	if a.rank != b.rank || len(a.forms) == 0 || len(a.forms) != len(b.forms) {
		return traced{}
	}
	out := traced{rank: a.rank}
	for i := range a.forms {
		x, y := a.forms[i], b.forms[i]
		if x.link != ops.NoLink || y.link != ops.NoLink || len(x.terms)+len(y.terms) > maxTerms {
			return traced{}
		}
		f := form{constant: x.constant + sign*y.constant, terms: slices.Clone(x.terms)}
		for _, term := range y.terms {
			term.scale *= sign
			f.terms = append(f.terms, term)
		}
		out.forms = append(out.forms, f)
	}
	return out
}

// several follows a sum of any number of values, or columns side by side.
func (t *tracer) several(n *wire.Node, in []traced, consts []*ops.Tensor) traced {
	var out traced
	for k, v := range in {
		if v.rank == 0 || consts[k] != nil {
			return traced{}
		}
		switch {
		case n.Op == "Sum":
			if k == 0 {
				out = v
			} else {
				out = sum(out, v, 1)
			}
			if out.forms == nil {
				return traced{}
			}
			continue
		case n.Op == "Concat" && !lastAxis(n, v.rank) || v.rank != 2 && (v.rank != 3 || v.middle != 1):
			return traced{}
		case n.Op == "FeatureVectorizer" && !takesAll(n, k, len(v.origins)+len(v.forms)):
			return traced{}
		case k > 0 && (out.rank != v.rank || (out.forms == nil) != (v.forms == nil)):
			return traced{}
		}
		out.rank, out.middle = v.rank, v.middle
		out.origins = append(slices.Clip(out.origins), v.origins...)
		out.forms = append(slices.Clip(out.forms), v.forms...)
	}
	return out
}

// takesAll says whether a FeatureVectorizer takes the k-th input as it is, with all its columns.
func takesAll(n *wire.Node, k, width int) bool {
	for _, a := range n.Attrs {
		if a.Name == "inputdimensions" && len(a.Ints) > 0 {
			return k < len(a.Ints) && a.Ints[k] == int64(width)
		}
	}
	return true
}

// lastAxis says whether the node's axis is the last of so many dimensions.
func lastAxis(n *wire.Node, rank int) bool {
	for _, a := range n.Attrs {
		if a.Name == "axis" {
			return a.I == -1 || a.I == int64(rank-1)
		}
	}
	return rank == 1
}

// reshape keeps the order of elements; the columns stay those of a row.
func (t *tracer) reshape(n *wire.Node, v traced, consts []*ops.Tensor) traced {
	width := len(v.origins) + len(v.forms)
	switch n.Op {
	case "Flatten":
		for _, a := range n.Attrs {
			if a.Name == "axis" && a.I != 1 {
				return traced{}
			}
		}
		v.rank = 2
		return v
	case "Reshape":
		if len(consts) < 2 || consts[1] == nil || len(consts[1].I64) == 0 {
			return traced{}
		}
		shape := consts[1].I64
		rest := int64(1)
		for _, d := range shape[1:] {
			rest *= d
		}
		// The rows stay rows: their size is the same, whatever is left open.
		if len(shape) > 3 || shape[0] == 0 && rest != -1 && rest != int64(width) || shape[0] == -1 && rest != int64(width) || shape[0] > 0 {
			return traced{}
		}
		v.rank = len(shape)
		if v.rank == 3 {
			v.middle = int(max(shape[1], 0))
		}
		return v
	}
	return traced{}
}

// pick follows the choice of columns by constant places.
func pick(n *wire.Node, v traced, live int, consts []*ops.Tensor) traced {
	if live != 0 || v.rank != 2 || len(consts) != 2 || n.Op == "Gather" && !lastAxis(n, 2) || len(consts[1].Shape) != 1 && n.Op == "Gather" {
		return traced{}
	}
	at := consts[1].I64
	if consts[1].Type == inference.Int32 {
		at = nil
		for _, i := range consts[1].I32 {
			at = append(at, int64(i))
		}
	}
	if len(at) == 0 || len(at) > maxTraced {
		return traced{}
	}
	out := traced{rank: 2}
	width := int64(len(v.origins) + len(v.forms))
	for _, i := range at {
		if i < 0 {
			i += width
		}
		if i < 0 || i >= width {
			return traced{}
		}
		if v.forms != nil {
			out.forms = append(out.forms, v.forms[i])
		} else {
			out.origins = append(out.origins, v.origins[i])
		}
	}
	return out
}

// oneHot makes each column several.
func oneHot(n *wire.Node, v traced) traced {
	cats := 0
	for _, a := range n.Attrs {
		if a.Name == "cats_int64s" || a.Name == "cats_strings" {
			cats += len(a.Ints) + len(a.Strings)
		}
	}
	if v.rank > 2 || v.origins == nil || len(v.origins) > maxTraced/max(cats, 1) {
		return traced{}
	}
	out := traced{rank: v.rank + 1, middle: len(v.origins)}
	for _, o := range v.origins {
		for range cats {
			out.origins = append(out.origins, o)
		}
	}
	return out
}

// affine follows what is done to scores with constants.
func affine(n *wire.Node, v traced, live int, consts []*ops.Tensor) traced {
	each := func(change func(i int, f form) (form, bool)) traced {
		out := traced{rank: v.rank}
		for i, f := range v.forms {
			f.terms = slices.Clone(f.terms)
			f, ok := change(i, f)
			if !ok {
				return traced{}
			}
			out.forms = append(out.forms, f)
		}
		return out
	}
	scaled := func(f form, by float64) form {
		f.constant *= by
		for k := range f.terms {
			f.terms[k].scale *= by
		}
		return f
	}
	link := func(to ops.Link) traced {
		return each(func(_ int, f form) (form, bool) {
			ok := f.link == ops.NoLink
			f.link = to
			return f, ok
		})
	}
	switch n.Op {
	case "Identity", "Dropout":
		return v
	case "Cast":
		for _, a := range n.Attrs {
			if a.Name == "to" && (a.I == wire.TypeFloat || a.I == wire.TypeDouble) {
				return v
			}
		}
	case "Sigmoid":
		return link(ops.LogisticLink)
	case "Softmax":
		if v.rank == 2 && lastAxisOr(n, 2) {
			return link(ops.SoftmaxLink)
		}
	case "Normalizer":
		// Probabilities of a softmax add up to one already.
		for _, a := range n.Attrs {
			if a.Name == "norm" && a.S == "L1" && v.rank == 2 {
				return each(func(_ int, f form) (form, bool) { return f, f.link == ops.SoftmaxLink })
			}
		}
	case "Neg":
		return each(func(_ int, f form) (form, bool) { return scaled(f, -1), f.link == ops.NoLink })
	case "Add", "Sub", "Mul", "Div":
		if len(consts) != 2 || !spreads(consts[1-live], v) {
			return traced{}
		}
		c := floatsOf(consts[1-live])
		if c == nil {
			return traced{}
		}
		return each(func(i int, f form) (form, bool) { return arithmetic(n.Op, f, c[i%len(c)], live, scaled) })
	}
	return traced{}
}

// arithmetic combines a form with a number, which is the second operand where live is 0.
func arithmetic(op string, f form, c float64, live int, scaled func(form, float64) form) (form, bool) {
	switch {
	case (op == "Mul" || op == "Div" && live == 0) && c == 1:
		return f, true
	case op == "Sub" && live == 1 && c == 1 && f.link == ops.LogisticLink:
		return scaled(f, -1), true // 1 − 1/(1+exp(−s)) = 1/(1+exp(s))
	case f.link != ops.NoLink:
		return f, false
	case op == "Add":
		f.constant += c
	case op == "Sub" && live == 0:
		f.constant -= c
	case op == "Sub":
		f = scaled(f, -1)
		f.constant += c
	case op == "Mul":
		f = scaled(f, c)
	case op == "Div" && live == 0 && c != 0:
		f = scaled(f, 1/c)
	default:
		return f, false
	}
	return f, true
}

// lastAxisOr is lastAxis where the axis may be left out.
func lastAxisOr(n *wire.Node, rank int) bool {
	return !slices.ContainsFunc(n.Attrs, func(a wire.Attr) bool { return a.Name == "axis" }) || lastAxis(n, rank)
}

func floatsOf(t *ops.Tensor) []float64 {
	switch t.Type {
	case inference.Float64:
		return t.F64
	case inference.Float32:
		out := make([]float64, len(t.F32))
		for i, v := range t.F32 {
			out[i] = float64(v)
		}
		return out
	}
	return nil
}
