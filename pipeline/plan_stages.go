package pipeline

import (
	"fmt"
	"math"
	"slices"

	"github.com/freshet-io/freshet/feature"
)

// A stage is the part of a plan between two changes of key: what one task does
// with the events of one partition. The first stage reads the source, each later
// one an internal topic that the stage before keyed anew. The last stage scores,
// routes and writes results.
type stagePlan struct {
	index int
	// by is the field whose values are the keys, and key its column; -1 for the
	// source's key, which comes with every event.
	by  string
	key int
	// topic is where the events come from, state where the stage's state goes.
	topic, state string
	// inputs are the columns that come with an event, in order.
	inputs []int
	steps  []planStep
	// labels are the label fields that the stage's windows use, in the order of their decoder.
	labels []string
}

// windowPlan is one window before it joins those that it shares state with.
type windowPlan struct {
	by         string
	window     feature.Window
	unlabelled float64 // what a row without a label counts as; NaN for nothing
	byKey      bool    // over labels joined by key
	field      int     // its column; -1 without, or a label's
	out        int
	def        *Literal
}

func (w *windowPlan) reads() []int {
	if w.field < 0 {
		return nil
	}
	return []int{w.field}
}

func (w *windowPlan) writes() []int { return []int{w.out} }

// class tells windows apart that cannot share state.
func (w *windowPlan) class() string {
	switch {
	case w.byKey:
		return "labels"
	case w.window.Exact():
		return "exact"
	}
	return "sums"
}

// stages divides the steps before the model into stages. A window goes to the
// earliest stage of its key in which what it reads is known, and opens a new
// stage behind the others where there is none. Everything else is computed as
// late as its readers allow, so that less has to travel.
func (p *planner) stages(front []planStep) {
	plan := p.plan
	first := &stagePlan{by: p.key, key: -1, topic: p.spec.Source.Topic, state: p.spec.StateTopic()}
	plan.stages = []*stagePlan{first}
	made := map[int]int{} // the stage in which a column is made at the earliest
	ready := func(s planStep) (at int) {
		for _, c := range s.reads() {
			at = max(at, made[c])
		}
		return at
	}
	at := make([]int, len(front))
	for i, s := range front {
		at[i] = ready(s)
		if w, ok := s.(*windowPlan); ok {
			at[i] = p.stageOf(w.by, at[i])
		}
		for _, c := range s.writes() {
			made[c] = at[i]
		}
	}
	// From behind: what is not a window moves to its first reader's stage.
	last := len(plan.stages) - 1
	readers := map[int]int{} // of a column: the first stage that reads it
	for _, st := range plan.stages[1:] {
		if r, ok := readers[st.key]; st.key >= 0 && (!ok || st.index-1 < r) {
			readers[st.key] = st.index - 1 // the stage before sends it
		}
	}
	for i := len(front) - 1; i >= 0; i-- {
		s := front[i]
		if _, ok := s.(*windowPlan); !ok {
			at[i] = last
			for _, c := range s.writes() {
				if r, ok := readers[c]; ok {
					at[i] = min(at[i], r)
				}
			}
		}
		for _, c := range s.reads() {
			if r, ok := readers[c]; !ok || at[i] < r {
				readers[c] = at[i]
			}
		}
	}
	for i, st := range plan.stages {
		var steps []planStep
		for j, s := range front {
			if at[j] == i {
				steps = append(steps, s)
			}
		}
		st.steps = p.group(st, steps)
	}
	p.carry()
}

// stageOf finds the stage of a key at or behind a stage, and makes it if there is none.
func (p *planner) stageOf(by string, from int) int {
	for i := from; i < len(p.plan.stages); i++ {
		if p.plan.stages[i].by == by {
			return i
		}
	}
	n := len(p.plan.stages)
	name := p.spec.Name + shuffleInfix + topicPart(by)
	for i := 2; slices.ContainsFunc(p.plan.stages, func(s *stagePlan) bool { return s.topic == name }); i++ {
		name = fmt.Sprintf("%s%s%s-%d", p.spec.Name, shuffleInfix, topicPart(by), i)
	}
	key := -1
	if by != p.key {
		key = slices.IndexFunc(p.plan.columns, func(c columnDef) bool { return c.name == by })
	}
	p.plan.stages = append(p.plan.stages, &stagePlan{index: n, by: by, key: key, topic: name, state: name + stateSuffix})
	return n
}

// topicPart makes a field's path part of a topic's name.
func topicPart(field string) string {
	b := []byte(field)
	for i, c := range b {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-' || c == '.') {
			b[i] = '-'
		}
	}
	return string(b)
}

// group orders the steps of a stage so that as many windows as possible share
// state and one pass over the rows: by turns come all steps that can be computed
// without a window, and all windows that can be.
func (p *planner) group(st *stagePlan, steps []planStep) (out []planStep) {
	waiting := map[int]bool{} // columns that are not made yet
	for _, s := range steps {
		for _, c := range s.writes() {
			waiting[c] = true
		}
	}
	ready := func(s planStep) bool {
		return !slices.ContainsFunc(s.reads(), func(c int) bool { return waiting[c] })
	}
	made := func(s planStep) {
		for _, c := range s.writes() {
			delete(waiting, c)
		}
	}
	for len(steps) > 0 {
		var rest []planStep
		var windows []*windowPlan
		for _, s := range steps { // a step reads only what stands before it
			if w, ok := s.(*windowPlan); ok && ready(s) {
				windows = append(windows, w)
			} else if !ok && ready(s) {
				out = append(out, s)
				made(s)
			} else {
				rest = append(rest, s)
			}
		}
		groups := map[string]*windowsPlan{}
		for _, w := range windows {
			g := groups[w.class()]
			if g == nil {
				g = &windowsPlan{config: feature.Config{Retain: p.spec.Source.timeRule(p.plan.Contract).Lateness + p.plan.series.disorder()}}
				groups[w.class()] = g
				out = append(out, g)
			}
			g.join(st, w)
			made(w)
		}
		steps = rest
	}
	return out
}

// join adds a window to the group.
func (g *windowsPlan) join(st *stagePlan, w *windowPlan) {
	if w.window.Label || w.byKey {
		g.config.Labels = feature.ByEvent
		if w.byKey {
			g.config.Labels = feature.ByKey
		}
		g.config.Unlabelled = append(g.config.Unlabelled, w.unlabelled)
		if w.window.Label && !slices.Contains(st.labels, w.window.Field) {
			st.labels = append(st.labels, w.window.Field)
		}
	}
	g.config.Windows = append(g.config.Windows, w.window)
	g.out = append(g.out, w.out)
	g.defaults = append(g.defaults, w.def)
	g.fields = append(g.fields, w.field)
}

// usesLabels reports whether a stage reads the labels.
func (s *stagePlan) usesLabels() bool {
	return slices.ContainsFunc(s.steps, func(st planStep) bool {
		g, ok := st.(*windowsPlan)
		return ok && g.config.Labels != feature.NoLabels
	})
}

// byKey reports whether a stage needs all events of a key, in one place and from the beginning.
func (p *Plan) byKey(st *stagePlan) bool {
	return st.stateful() || st.index == 0 && p.series != nil
}

// stateful reports whether a stage keeps windows.
func (s *stagePlan) stateful() bool {
	return slices.ContainsFunc(s.steps, func(st planStep) bool {
		_, ok := st.(*windowsPlan)
		return ok
	})
}

// carry says which columns travel into each stage: those made before and needed
// in it or behind it.
func (p *planner) carry() {
	plan := p.plan
	first := plan.stages[0]
	first.inputs = first.inputs[:0]
	for _, d := range plan.decode {
		first.inputs = append(first.inputs, d.column)
	}
	needed := map[int]bool{}
	for _, c := range plan.results {
		needed[c] = true
	}
	for _, l := range plan.lookups {
		needed[l.found] = true
		if l.at >= 0 {
			needed[l.at] = true
		}
	}
	for _, in := range plan.infers {
		for _, c := range in.reads() {
			needed[c] = true
		}
		for _, s := range in.after {
			for _, c := range s.reads() {
				needed[c] = true
			}
		}
	}
	for _, r := range plan.routes {
		if r.when != nil {
			for _, c := range r.when.vars {
				needed[c] = true
			}
		}
	}
	made := map[int]int{}
	for i, st := range plan.stages {
		for _, s := range st.steps {
			for _, c := range s.writes() {
				made[c] = i
			}
		}
	}
	if plan.series != nil {
		for _, c := range plan.series.columns() {
			made[c] = 0
		}
	}
	behind := func(c int) bool { // made behind the front, or by every frame itself
		_, ok := made[c]
		return !ok && !slices.Contains(first.inputs, c)
	}
	for i := len(plan.stages) - 1; i > 0; i-- {
		st := plan.stages[i]
		for _, s := range st.steps {
			for _, c := range s.reads() {
				needed[c] = true
			}
		}
		if plan.order >= 0 && plan.series == nil {
			needed[plan.order] = true
		}
		for c := range plan.columns {
			if needed[c] && made[c] < i && !behind(c) {
				st.inputs = append(st.inputs, c)
			}
		}
		needed[st.key] = true // the stage before has to know it
	}
}

// unlabelled is what a row without a label counts as in a window over a label field.
func (p *planner) unlabelled(field string) float64 {
	d, ok := p.spec.Labels.Default[field]
	switch {
	case !ok:
		return math.NaN()
	case d.Bool:
		return 1
	}
	return d.Float
}
