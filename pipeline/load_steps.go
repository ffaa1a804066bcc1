package pipeline

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
)

var stepKinds = []string{"validate", "features", "infer", "route"}

func (r *reader) steps(n *yaml.Node) (steps []Step) {
	for i, item := range r.items(n, "steps") {
		es := r.entries(item, fmt.Sprintf("step %d", i+1))
		if len(es) == 0 {
			continue
		}
		if len(es) > 1 {
			r.fault(es[1].pos, "two-steps", "begin each step with its own dash", "step %d is both %q and %q", i+1, es[0].key, es[1].key)
			continue
		}
		e := es[0]
		switch e.key {
		case "validate":
			// The contract does it; the step may be written for the reader's sake.
			if i != 0 {
				r.fault(e.pos, "validate-first", "move it to the top or leave it out: the contract is always applied first", "validate can only be the first step")
			}
			if e.value.Tag != "!!null" {
				r.fields(e.value, "validate")
			}
		case "features":
			steps = append(steps, r.features(e))
		case "infer":
			steps = append(steps, r.infer(e))
		case "route":
			steps = append(steps, r.route(e))
		default:
			r.fault(e.pos, "unknown-step", didYouMean(e.key, stepKinds), "there is no step %q", e.key)
		}
	}
	return steps
}

var (
	featureName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	aggregates  = map[string]feature.Aggregate{
		"count": feature.Count, "sum": feature.Sum, "mean": feature.Mean, "min": feature.Min,
		"max": feature.Max, "last": feature.Last, "distinct": feature.Distinct,
	}
	aggregateNames = []string{"count", "sum", "mean", "min", "max", "last", "distinct"}
)

func (r *reader) features(step entry) *Features {
	f := &Features{pos: step.pos}
	for _, e := range r.entries(step.value, "features") {
		it := FeatureItem{Name: e.key, pos: e.pos}
		if !featureName.MatchString(e.key) {
			r.fault(e.pos, "name", "use letters, digits and underscores, beginning with a letter", "feature %q is not a valid name", e.key)
			continue
		}
		what := "feature " + e.key
		known := append([]string{"by", "over", "expr", "lookup", "key", "fields", "default"}, aggregateNames...)
		m := r.fields(e.value, what, known...)
		if len(m) == 0 {
			if e.value.Kind == yaml.MappingNode && len(e.value.Content) == 0 {
				r.fault(e.pos, "feature-kind", "write {by: …, count: true, over: 24h}, {expr: …} or {lookup: …, key: …, fields: […]}", "%s says nothing", what)
			}
			continue
		}
		switch {
		case m["expr"] != nil:
			r.only(e, m, what, "an expression", "expr")
			it.Expr = r.expr(m["expr"], what+".expr")
		case m["lookup"] != nil:
			r.only(e, m, what, "a lookup", "lookup", "key", "fields", "default")
			it.Lookup = r.lookup(e, m, what)
		default:
			if it.Window = r.window(e, m, what); it.Window == nil {
				continue
			}
		}
		f.Items = append(f.Items, it)
	}
	return f
}

// only reports keys that do not belong to this kind of feature.
func (r *reader) only(e entry, m map[string]*yaml.Node, what, kind string, keys ...string) {
	for k, n := range m {
		found := false
		for _, o := range keys {
			found = found || o == k
		}
		if !found {
			r.fault(posOf(n), "feature-kind", "take it out, or make a second feature of it", "%s is %s and cannot have %q", what, kind, k)
		}
	}
}

func (r *reader) expr(n *yaml.Node, what string) *Expr {
	s := r.str(n, what)
	if s == "" {
		return nil
	}
	return &Expr{Source: s, pos: posOf(n)}
}

func (r *reader) window(e entry, m map[string]*yaml.Node, what string) *WindowFeature {
	w := &WindowFeature{}
	var chosen []string
	for _, a := range aggregateNames {
		n := m[a]
		if n == nil {
			continue
		}
		chosen = append(chosen, a)
		w.Aggregate = aggregates[a]
		if a == "count" {
			if s, _ := r.scalar(n, what+".count", "true"); s != "true" {
				r.fault(posOf(n), "type", "write `count: true`", "%s.count takes true, for it counts events", what)
			}
			continue
		}
		w.Field, w.fieldPos = r.str(n, what+"."+a), posOf(n)
	}
	r.onlyWindow(m, what)
	switch {
	case len(chosen) == 0:
		r.fault(e.pos, "feature-kind", "add one of "+strings.Join(aggregateNames, ", ")+", or expr, or lookup", "%s says what window but not what to compute", what)
		return nil
	case len(chosen) > 1:
		r.fault(e.pos, "two-aggregates", "make one feature for each", "%s computes both %s and %s", what, chosen[0], chosen[1])
		return nil
	}
	if n := m["by"]; n != nil {
		w.By, w.byPos = r.str(n, what+".by"), posOf(n)
	}
	n, ok := r.need(e.value, m, what, "over", "over: 24h")
	if !ok {
		return nil
	}
	if w.Over, ok = r.duration(n, what+".over"); ok && w.Over <= 0 {
		r.fault(posOf(n), "range", "write for example 24h or 7d", "%s.over must be longer than nothing", what)
	}
	return w
}

func (r *reader) onlyWindow(m map[string]*yaml.Node, what string) {
	for _, k := range []string{"key", "fields", "default"} {
		if n := m[k]; n != nil {
			r.fault(posOf(n), "feature-kind", "add `lookup: TABLE`, or take it out", "%s has %q, which belongs to a lookup", what, k)
		}
	}
}

func (r *reader) lookup(e entry, m map[string]*yaml.Node, what string) *LookupFeature {
	l := &LookupFeature{Table: r.str(m["lookup"], what+".lookup"), tablePos: posOf(m["lookup"])}
	if n, ok := r.need(e.value, m, what, "key", "key: merchant_id"); ok {
		l.Key, l.keyPos = r.str(n, what+".key"), posOf(n)
	}
	if n, ok := r.need(e.value, m, what, "fields", "fields: [risk]"); ok {
		for _, f := range r.items(n, what+".fields") {
			l.Fields = append(l.Fields, r.str(f, what+".fields"))
			l.fieldPos = append(l.fieldPos, posOf(f))
		}
		if len(l.Fields) == 0 && n.Kind == yaml.SequenceNode {
			r.fault(posOf(n), "empty", "name at least one field of the table", "%s.fields is empty", what)
		}
	}
	if n := m["default"]; n != nil {
		l.defaultPos = posOf(n)
		l.Default = map[string]Literal{}
		for _, d := range r.entries(n, what+".default") {
			found := false
			for _, f := range l.Fields {
				found = found || f == d.key
			}
			if !found {
				r.fault(d.pos, "unknown-key", didYouMean(d.key, l.Fields), "%s.default names %q, which is not one of its fields", what, d.key)
			}
			l.Default[d.key] = r.literal(d.value, what+".default."+d.key)
		}
	}
	return l
}

func (r *reader) literal(n *yaml.Node, what string) Literal {
	s, ok := r.scalar(n, what, "a number, true, false or a text")
	l := Literal{pos: posOf(n), Kind: event.String, String: s}
	if !ok {
		return l
	}
	switch n.Tag {
	case "!!int", "!!float":
		if v, err := strconv.ParseFloat(s, 64); err == nil {
			l.Kind, l.Float = event.Float, v
		}
	case "!!bool":
		l.Kind, l.Bool = event.Bool, s == "true"
	}
	return l
}

func (r *reader) infer(step entry) *Infer {
	in := &Infer{pos: step.pos, MaxBatch: 256}
	m := r.fields(step.value, "infer", "model", "inputs", "outputs", "batch", "prefer", "fallback")
	if n, ok := r.need(step.value, m, "infer", "model", "model: models/fraud-risk.onnx"); ok {
		in.Model, in.modelPos = r.str(n, "infer.model"), posOf(n)
	}
	if n, ok := r.need(step.value, m, "infer", "inputs", "inputs: [amount, customer_tx_1d]"); ok {
		r.inferInputs(n, in)
	}
	if n := m["outputs"]; n != nil {
		for _, e := range r.entries(n, "infer.outputs") {
			if !featureName.MatchString(e.key) {
				r.fault(e.pos, "name", "use letters, digits and underscores", "output %q is not a valid name", e.key)
			}
			in.Outputs = append(in.Outputs, ModelOutput{Name: e.key, Value: r.str(e.value, "infer.outputs."+e.key), pos: posOf(e.value)})
		}
	}
	if n := m["batch"]; n != nil {
		b := r.fields(n, "infer.batch", "max")
		if x := b["max"]; x != nil {
			in.MaxBatch = r.integer(x, "infer.batch.max", 1, maxBatch)
		}
	}
	if n := m["prefer"]; n != nil {
		switch s, ok := r.scalar(n, "infer.prefer", "latency or throughput"); {
		case s == "throughput":
			in.Throughput = true
		case ok && s != "latency":
			r.fault(posOf(n), "choice", didYouMean(s, []string{"latency", "throughput"}), "infer.prefer must be latency or throughput, not %q", s)
		}
	}
	if n := m["fallback"]; n != nil {
		f := r.fields(n, "infer.fallback", "expr")
		if x, ok := r.need(n, f, "infer.fallback", "expr", `expr: "0.0"`); ok {
			in.Fallback = r.expr(x, "infer.fallback.expr")
		}
	}
	return in
}

func (r *reader) inferInputs(n *yaml.Node, in *Infer) {
	if n.Kind == yaml.MappingNode {
		for _, e := range r.entries(n, "infer.inputs") {
			in.InputNames = append(in.InputNames, e.key)
			in.Inputs = append(in.Inputs, r.str(e.value, "infer.inputs."+e.key))
			in.inputPos = append(in.inputPos, posOf(e.value))
		}
	} else {
		for _, i := range r.items(n, "infer.inputs") {
			in.Inputs = append(in.Inputs, r.str(i, "infer.inputs"))
			in.inputPos = append(in.inputPos, posOf(i))
		}
	}
	if len(in.Inputs) == 0 && n.Kind != yaml.ScalarNode {
		r.fault(posOf(n), "empty", "name the features that feed the model, in its order", "infer.inputs is empty")
	}
}

func (r *reader) route(step entry) *Route {
	rt := &Route{pos: step.pos}
	for _, n := range r.items(step.value, "route") {
		c := RouteCase{pos: posOf(n)}
		m := r.fields(n, "route case", "name", "when", "to")
		if w := m["when"]; w != nil {
			c.When = r.expr(w, "route.when")
		}
		if t, ok := r.need(n, m, "route case", "to", "to: scored-transactions"); ok {
			targets := []*yaml.Node{t}
			if t.Kind == yaml.SequenceNode {
				targets = r.items(t, "route.to")
			}
			for _, x := range targets {
				if name := r.name(x, "route.to"); name != "" {
					c.To = append(c.To, name)
					c.toPos = append(c.toPos, posOf(x))
				}
			}
			if len(targets) == 0 {
				r.fault(posOf(t), "empty", "name at least one topic", "route.to is empty")
			}
		}
		if x := m["name"]; x != nil {
			c.Name = r.str(x, "route.name")
		} else if len(c.To) > 0 {
			c.Name = c.To[0]
		}
		rt.Cases = append(rt.Cases, c)
	}
	if len(rt.Cases) == 0 && step.value.Kind == yaml.SequenceNode {
		r.fault(step.pos, "empty", "add `- {to: results}`", "route has no case")
	}
	return rt
}
