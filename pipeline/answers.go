package pipeline

import (
	"cmp"
	"math"
	"slices"

	"github.com/freshet-io/freshet/lineage"
	"github.com/freshet-io/freshet/model"
)

// outName is an output as results show it, with what stands in front of it.
type outName struct {
	name []byte
	step int
	out  *outputPlan
}

// answer writes what the models said of a row: the version that gave the score
// (or, without a score, the last step's), its answers, and how they came about.
func (r *results) answer(b []byte, f *frame, row int) []byte {
	sc := &f.scorings[r.main.index]
	b = append(b, r.head(sc, row)...)
	if s := r.main.score; s >= 0 {
		b = append(b, `,"score":`...)
		b = appendValue(b, f.columns[s], row, r.scoreB, &r.clock)
	}
	b = r.outputs(b, f, row)
	if p := sc.path[row]; p != lineage.Scored {
		if p >= lineage.FallbackVersion && p <= lineage.FallbackValue {
			b = append(b, `,"fallback":true`...)
		}
		b = append(append(append(b, `,"path":"`...), p.String()...), '"')
	}
	if len(r.plan.infers) > 1 {
		b = r.steps(b, f, row)
	}
	if e := r.main.spec.Explain; e != nil && e.Top > 0 {
		b = r.explanation(b, sc, row, e.Top)
	}
	return b
}

// head is the model, the version and, in a rollout, the role, of the row's arm.
func (r *results) head(sc *scoring, row int) []byte {
	if int(sc.arm[row]) >= len(sc.arms) {
		return nil // late, and given to no version
	}
	arm := sc.arms[sc.arm[row]]
	if h, ok := r.heads[arm]; ok {
		return h
	}
	if len(r.heads) > 64 {
		clear(r.heads) // versions come and go
	}
	h := appendString([]byte(`,"model":`), arm.Name)
	h = appendString(append(h, `,"version":`...), arm.Version)
	if arm.Role != model.Champion {
		h = appendString(append(h, `,"arm":`...), arm.Role.String())
	}
	r.heads[arm] = h
	return h
}

// steps says which version of each step's model answered, and how.
func (r *results) steps(b []byte, f *frame, row int) []byte {
	b = append(b, `,"steps":{`...)
	for i, ip := range r.plan.infers {
		if i > 0 {
			b = append(b, ',')
		}
		sc := &f.scorings[i]
		b = append(appendString(b, ip.spec.Name), `:{"path":"`...)
		b = append(append(b, sc.path[row].String()...), '"')
		b = append(append(b, r.head(sc, row)...), '}')
	}
	return append(b, '}')
}

// outputs writes the models' outputs besides the score.
func (r *results) outputs(b []byte, f *frame, row int) []byte {
	open := false
	for i := range r.outs {
		o := &r.outs[i]
		if !open {
			b = append(b, `,"outputs":{`...)
			open = true
		} else {
			b = append(b, ',')
		}
		b = append(b, o.name...)
		bits := 64
		if o.out.f32 {
			bits = 32
		}
		if o.out.column < 0 {
			b = appendVector(b, &f.scorings[o.step].vectors[o.out.vector], row)
			continue
		}
		b = appendValue(b, f.columns[o.out.column], row, bits, &r.clock)
	}
	if open {
		b = append(b, '}')
	}
	return b
}

func appendVector(b []byte, v *vector, row int) []byte {
	if v.null[row] || v.width == 0 {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i, x := range v.values[row*v.width : (row+1)*v.width] {
		if i > 0 {
			b = append(b, ',')
		}
		bits := 64
		if float64(float32(x)) == x {
			bits = 32
		}
		b = appendNumber(b, x, bits)
	}
	return append(b, ']')
}

// explanation writes the greatest attributions of a row that was explained.
func (r *results) explanation(b []byte, sc *scoring, row, top int) []byte {
	i, ok := slices.BinarySearchFunc(sc.explained, row, func(x lineage.Explained, row int) int { return cmp.Compare(x.Row, row) })
	if !ok {
		return b
	}
	x := &sc.explained[i]
	r.order = r.order[:0]
	for j := range x.Values {
		r.order = append(r.order, j)
	}
	slices.SortStableFunc(r.order, func(i, j int) int { return cmp.Compare(math.Abs(x.Values[j]), math.Abs(x.Values[i])) })
	b = append(append(append(b, `,"explanation":{"method":"`...), x.Method.String()...), '"')
	b = append(append(append(b, `,"link":"`...), x.Link.String()...), '"')
	b = appendNumber(append(b, `,"base":`...), x.Base, 64)
	b = appendNumber(append(b, `,"raw":`...), x.Raw, 64)
	b = append(b, `,"top":{`...)
	for n, j := range r.order[:min(top, len(r.order))] {
		if n > 0 {
			b = append(b, ',')
		}
		b = appendNumber(append(appendString(b, r.inputs[j]), ':'), x.Values[j], 64)
	}
	return append(b, '}', '}')
}
