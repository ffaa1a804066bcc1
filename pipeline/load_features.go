package pipeline

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
)

func (r *reader) features(step entry) *Features {
	f := &Features{pos: step.pos}
	known := union(&windowKeys, &exprKeys, &lookupKeys)
	for _, e := range r.entries(step.value, "features") {
		it := FeatureItem{Name: e.key, pos: e.pos}
		if !r.column(e.pos, "feature", e.key) {
			continue
		}
		what := "feature " + e.key
		m := r.fields(e.value, what, known...)
		if len(m) == 0 {
			if e.value.Kind == yaml.MappingNode && len(e.value.Content) == 0 {
				r.fault(e.pos, "feature-kind", "write {by: …, count: true, over: 24h}, {expr: …} or {lookup: …, key: …, fields: […]}", "%s says nothing", what)
			}
			continue
		}
		switch {
		case m["expr"] != nil:
			r.only(m, known, "feature", what, "an expression", &exprKeys)
			it.Expr = r.expr(m["expr"], what+".expr")
		case m["lookup"] != nil:
			r.only(m, known, "feature", what, "a lookup", &lookupKeys)
			r.missing(e.value, m, what, &lookupKeys)
			it.Lookup = r.lookup(m, what)
		default:
			if it.Window = r.window(e, m, what); it.Window == nil {
				continue
			}
		}
		f.Items = append(f.Items, it)
	}
	return f
}

func (r *reader) expr(n *yaml.Node, what string) *Expr {
	s := r.str(n, what)
	if s == "" {
		return nil
	}
	return &Expr{Source: s, pos: posOf(n)}
}

// window reads a feature that is neither an expression nor a lookup; nil where it cannot be told what it computes.
func (r *reader) window(e entry, m map[string]*yaml.Node, what string) *WindowFeature {
	for _, k := range lookupKeys.names() {
		if n := m[k]; n != nil && !slices.Contains(windowKeys.names(), k) {
			r.fault(posOf(n), "feature-kind", "add `lookup: TABLE`, or take it out", "%s has %q, which belongs to a lookup", what, k)
		}
	}
	chosen := present(m, aggregateKeys)
	names := keyNames(aggregateKeys)
	switch {
	case len(chosen) == 0 && unknownIn(e.value, m):
		return nil // it was probably meant to say it
	case len(chosen) == 0:
		r.fault(e.pos, "feature-kind", "add one of "+strings.Join(names, ", ")+", or expr, or lookup", "%s says what window but not what to compute", what)
		return nil
	case len(chosen) > 1:
		r.fault(e.pos, "two-aggregates", "make one feature for each", "%s computes both %s and %s", what, chosen[0], chosen[1])
		return nil
	}
	name := chosen[0]
	w := &WindowFeature{Aggregate: feature.Aggregate(slices.Index(names, name)), pos: posOf(m[name])}
	w.By, w.byPos = r.str(m["by"], what+".by"), posOf(m["by"])
	r.aggregated(m[name], what+"."+name, w)
	r.shape(e, m, what, w)
	r.settings(m, what, w)
	return w
}

// present returns which of some keys are there.
func present(m map[string]*yaml.Node, keys []key) (names []string) {
	for _, k := range keys {
		if m[k.name] != nil {
			names = append(names, k.name)
		}
	}
	return names
}

// aggregated reads what is aggregated: a field, or true for the events themselves.
func (r *reader) aggregated(n *yaml.Node, what string, w *WindowFeature) {
	switch w.Aggregate {
	case feature.Count, feature.Rate, feature.SinceLast:
		if n.Tag == "!!bool" {
			if n.Value != "true" {
				r.fault(posOf(n), "type", "write true, or a field", "%s takes true, for the events themselves, or a field", what)
			}
			return
		}
	case feature.Duration:
		if s, ok := r.scalar(n, what, "true"); ok && s != "true" {
			r.fault(posOf(n), "type", "write true", "%s takes true, for it concerns the session as a whole", what)
		}
		return
	}
	w.Field, w.fieldPos = r.str(n, what), posOf(n)
}

// shape reads which events the window holds.
func (r *reader) shape(e entry, m map[string]*yaml.Node, what string, w *WindowFeature) {
	// Two aggregates go by a length of their own.
	want, example := "", "over: 24h"
	switch w.Aggregate {
	case feature.Decayed:
		want, example = "half_life", "half_life: 6h"
	case feature.Duration:
		want, example = "session", "session: 30m"
	}
	chosen := present(m, shapeKeys)
	switch {
	case len(chosen) == 0 && unknownIn(e.value, m):
		return
	case len(chosen) == 0 && want != "":
		r.fault(posOf(e.value), "missing-key", "add `"+example+"`", "%s needs the key %q", what, want)
		return
	case len(chosen) == 0:
		r.fault(posOf(e.value), "missing-key", "add `"+example+"`", `%s needs the key "over", "tumbling" or "session"`, what)
		return
	case len(chosen) > 1:
		r.fault(posOf(m[chosen[1]]), "two-windows", "make one feature for each", "%s goes by both %s and %s", what, chosen[0], chosen[1])
		return
	}
	is := chosen[0]
	switch {
	case want != "" && is != want:
		r.fault(posOf(m[is]), "window-shape", "write `"+example+"`", "%s: %v goes by %s, not by %s", what, w.Aggregate, want, is)
	case want == "" && is == "half_life":
		r.fault(posOf(m[is]), "window-shape", "write `over: 24h`, or sum with `decayed: FIELD`", "%s: half_life belongs to decayed, not to %v", what, w.Aggregate)
	}
	w.Over = r.positive(m[is], what+"."+is, "24h or 7d", 0)
	switch is {
	case "tumbling":
		w.Shape = feature.Tumbling
	case "session":
		w.Shape = feature.Session
	case "over":
		if m["panes"] != nil {
			w.Shape = feature.Panes
		}
	}
}

// belongs says beside which key another has a meaning.
var belongs = []struct{ key, to string }{{"panes", "over"}, {"delay", "over"}, {"q", "quantile"}, {"sketch", "distinct"}}

// settings reads what else a window can have.
func (r *reader) settings(m map[string]*yaml.Node, what string, w *WindowFeature) {
	for _, b := range belongs {
		if m[b.key] != nil && m[b.to] == nil {
			r.fault(posOf(m[b.key]), "window-setting", "take it out", "%s has %q, which belongs to %s", what, b.key, b.to)
		}
	}
	w.Panes = r.integer(m["panes"], what+".panes", 2, maxPanes, 0)
	w.Delay = r.positive(m["delay"], what+".delay", "168h", 0)
	if m["delay"] != nil && m["panes"] != nil {
		r.fault(posOf(m["delay"]), "window-setting", "take `panes` out: with a delay the events themselves are kept", "%s has panes, which cannot be delayed", what)
	}
	exact := m["over"] != nil && m["panes"] == nil
	inSums := "add `panes: 30`, or write tumbling or session for over"
	if n := m["q"]; n != nil {
		w.Q = r.share(n, what+".q", "0.95")
	} else if w.Aggregate == feature.Quantile {
		r.fault(w.pos, "missing-key", "add `q: 0.95`", `%s needs the key "q"`, what)
	}
	if w.Aggregate == feature.Quantile && exact {
		r.fault(posOf(m["over"]), "window-shape", inSums, "%s: a quantile is estimated, which a sliding window without panes is not", what)
	}
	if w.Sketch = r.truth(m["sketch"], what+".sketch"); w.Sketch && w.Aggregate == feature.Distinct && exact {
		r.fault(posOf(m["sketch"]), "window-setting", "take it out, or "+inSums, "%s: a sliding window without panes counts exactly, and needs no sketch", what)
	}
	w.Where = r.expr(m["where"], what+".where")
	if n := m["default"]; n != nil {
		d := r.literal(n, what+".default")
		w.Default = &d
		if slices.Contains([]feature.Aggregate{feature.Count, feature.Sum, feature.Distinct, feature.Rate, feature.Decayed}, w.Aggregate) {
			r.fault(posOf(n), "unused-default", "take it out", "%s.default is never used: over no events %v is 0", what, w.Aggregate)
		}
	}
}

func (r *reader) lookup(m map[string]*yaml.Node, what string) *LookupFeature {
	l := &LookupFeature{Table: r.str(m["lookup"], what+".lookup"), tablePos: posOf(m["lookup"])}
	l.Key, l.keyPos = r.str(m["key"], what+".key"), posOf(m["key"])
	if n := m["fields"]; n != nil {
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
			if !slices.Contains(l.Fields, d.key) {
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
		l.Kind, l.Bool = event.Bool, strings.EqualFold(s, "true")
	}
	return l
}
