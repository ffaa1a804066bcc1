package pipeline

import (
	"fmt"

	"go.yaml.in/yaml/v4"

	"github.com/freshet-io/freshet/feature"
)

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
				r.object(e.value, "validate", &validateKeys)
			}
		case "resample":
			if len(steps) > 0 {
				r.fault(e.pos, "resample-first", "move it to the top: the steps behind it see the rows of the series", "resample can only be the first step")
			}
			steps = append(steps, r.resample(e))
		case "features":
			steps = append(steps, r.features(e))
		case "infer":
			steps = append(steps, r.infer(e))
		case "route":
			steps = append(steps, r.route(e))
		default:
			r.fault(e.pos, "unknown-step", didYouMean(e.key, stepKeys.names()), "there is no step %q", e.key)
		}
	}
	return steps
}

func (r *reader) resample(step entry) *Resample {
	rs := &Resample{pos: step.pos}
	m := r.object(step.value, "resample", &resampleKeys)
	rs.By, rs.byPos = r.str(m["by"], "resample.by"), posOf(m["by"])
	rs.Every = r.positive(m["every"], "resample.every", "10s", 0)
	rs.Limit = r.positive(m["limit"], "resample.limit", "2m", 0)
	if rs.Limit > 0 && rs.Limit < rs.Every {
		r.fault(posOf(m["limit"]), "range", "write the longest gap that should be filled", "resample.limit is %v, and the series' step is longer already: %v", rs.Limit, rs.Every)
	}
	if rs.Every > 0 && rs.Limit/rs.Every > maxFilled {
		r.fault(posOf(m["limit"]), "range", "write the longest gap that should be filled", "resample.limit is %v, and a gap must be at most %d steps of %v", rs.Limit, maxFilled, rs.Every)
	}
	if f := m["fields"]; f != nil {
		for _, e := range r.entries(f, "resample.fields") {
			rs.Fields = append(rs.Fields, ResampleField{e.key, feature.Fill(r.choice(e.value, "resample.fields."+e.key, fillWords)), e.pos})
		}
		if rs.Fields == nil && f.Kind == yaml.MappingNode {
			r.fault(posOf(f), "empty", "add for example `pressure: linear`", "resample.fields is empty")
		}
	}
	if n := m["flag"]; n != nil {
		rs.Flag = r.str(n, "resample.flag")
		if rs.Flag != "" {
			r.column(posOf(n), "resample.flag", rs.Flag)
		}
	}
	return rs
}

// column checks the name of a new column, and reports whether it can be one.
func (r *reader) column(p Pos, what, name string) bool {
	if name == completeName {
		r.fault(p, "name-taken", "choose another name", "%s %q has the name of a field of every result", what, name)
	}
	if !validFeature.MatchString(name) {
		r.fault(p, "name", "use letters, digits and underscores, beginning with a letter", "%s %q is not a valid name", what, name)
		return false
	}
	return true
}

func (r *reader) route(step entry) *Route {
	rt := &Route{pos: step.pos}
	for _, n := range r.items(step.value, "route") {
		c := RouteCase{pos: posOf(n)}
		m := r.object(n, "route case", &caseKeys)
		c.When = r.expr(m["when"], "route.when")
		if t := m["to"]; t != nil {
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
