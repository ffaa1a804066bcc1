package pipeline

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/model"
)

func (p *planner) inferStep(in *Infer) {
	ip := &inferPlan{spec: in, index: len(p.plan.infers), score: -1, key: -1}
	var columns []int // a vector v is -2-v
	for i, name := range in.Inputs {
		columns = append(columns, p.findInput(name, in.inputPos[i]))
	}
	if in.Rollout.Key != "" {
		ip.key = p.find(in.Rollout.Key, in.Rollout.keyPos, "infer.rollout.key")
	}
	ip.service = p.openModel(in, columns, func(v *model.Version) error {
		if len(ip.inputs) == 0 {
			return nil // the first version: the plan is made from it
		}
		return ip.fits(v.Inputs, v.Outputs)
	})
	if ip.service != nil {
		sv := ip.service.Acquire()
		ip.meta = sv.Champion().Model.Metadata()
		sv.Release()
		p.bindInputs(in, ip, ip.meta, columns)
		p.bindOutputs(in, ip, ip.meta)
	} else {
		for _, o := range outputsOf(in) { // so that later names resolve
			p.add(o.Name, event.Float, o.pos)
		}
	}
	ip.label = p.qualityLabel(in, ip)
	for _, f := range in.Fallbacks {
		p.fallback(f, ip)
	}
	if e := in.Explain; e != nil {
		p.explain(e, ip)
	}
	for i, c := range columns {
		if c >= 0 && !slices.Contains(p.plan.results, c) && !slices.Contains(columns[:i], c) && !p.isOutput(c) {
			p.plan.results = append(p.plan.results, c)
		}
	}
	p.plan.infers = append(p.plan.infers, ip)
}

// isOutput reports whether a column is an earlier model's answer.
func (p *planner) isOutput(c int) bool {
	for _, ip := range p.plan.infers {
		if slices.ContainsFunc(ip.outputs, func(o outputPlan) bool { return o.column == c }) {
			return true
		}
	}
	return false
}

// findInput is find, for names that may be vectors: vector v is -2-v.
func (p *planner) findInput(name string, pos Pos) int {
	if v := slices.IndexFunc(p.plan.vectors, func(d vectorDef) bool { return d.name == name }); v >= 0 {
		return -2 - v
	}
	return p.find(name, pos, "infer.inputs")
}

// inputSignatures are the step's inputs as its names and columns have them.
func (p *planner) inputSignatures(in *Infer, columns []int) (sigs []inference.Signature) {
	names := in.InputNames
	if names == nil {
		names = in.Inputs
	}
	for i, c := range columns {
		s := inference.Signature{Name: names[i], Type: inference.Float64}
		switch {
		case c <= -2:
			s.Shape = []int{p.plan.vectors[-2-c].width}
		case c >= 0:
			switch p.plan.columns[c].kind {
			case event.Int:
				s.Type = inference.Int64
			case event.Bool:
				s.Type = inference.Bool
			case event.String:
				s.Type = inference.String
			}
		}
		sigs = append(sigs, s)
	}
	return sigs
}

// fits reports why a version cannot take the place of the one that the plan was made with.
func (ip *inferPlan) fits(inputs, outputs []inference.Signature) error {
	if len(inputs) != len(ip.meta.Inputs) {
		return errkind.Errorf(errkind.Invalid, "it takes %d inputs, and the step feeds %d", len(inputs), len(ip.meta.Inputs))
	}
	for i, want := range ip.meta.Inputs {
		got := inputs[i]
		if got.Name != want.Name || (got.Type == inference.String) != (want.Type == inference.String) || !sameShape(got.Shape, want.Shape) {
			return errkind.Errorf(errkind.Invalid, "its input %d is %s %s%v, and the step feeds %s %s%v", i+1, got.Name, got.Type, got.Shape, want.Name, want.Type, want.Shape)
		}
	}
	for _, o := range ip.outputs {
		want := ip.meta.Outputs[o.tensor]
		if o.tensor >= len(outputs) || outputs[o.tensor].Name != want.Name || outputs[o.tensor].Type != want.Type || !sameShape(outputs[o.tensor].Shape, want.Shape) {
			return errkind.Errorf(errkind.Invalid, "it does not give the output %s %s%v at place %d, which the step takes", want.Name, want.Type, want.Shape, o.tensor+1)
		}
	}
	return nil
}

// sameShape compares row shapes; a size left open fits any.
func sameShape(a, b []int) bool {
	return slices.EqualFunc(a, b, func(x, y int) bool { return x == y || x < 0 || y < 0 })
}

func (p *planner) fallback(f Fallback, ip *inferPlan) {
	fp := fallbackPlan{previous: f.Previous, cached: f.Cached > 0}
	for _, o := range f.Rule {
		i := slices.IndexFunc(ip.outputs, func(x outputPlan) bool { return x.name == o.Name && x.column >= 0 })
		if i < 0 {
			if ip.service != nil {
				p.fault(o.pos, "fallback", "name one of the outputs `"+o.Name+"`", "a fallback gives the %s, and no output is called %s", o.Name, o.Name)
			}
			p.program(o.Expr, "infer.fallback")
			continue
		}
		c := ip.outputs[i].column
		fp.rule = append(fp.rule, rulePlan{c, p.program(o.Expr, "infer.fallback", p.plan.columns[c].kind)})
	}
	if f.Value != nil {
		if f.Value.Kind != event.Float {
			p.fault(f.Value.pos, "fallback", "write a number", "infer.fallback.value must be a number")
		}
		fp.value = &f.Value.Float
		if ip.service != nil && ip.score < 0 {
			p.fault(f.pos, "fallback", "name one of the outputs `score`", "a fallback gives the score, and no output is called score")
		}
	}
	if f.Previous && kindOfModel(ip.spec.Model) != ModelName {
		p.fault(f.pos, "fallback", "register the model with `freshet models add`, and name it here", "only a model of the registry has a previous version")
	}
	ip.fallbacks = append(ip.fallbacks, fp)
}

func (p *planner) explain(e *Explain, ip *inferPlan) {
	ip.explain = p.program(e.When, "infer.explain.when", event.Bool)
	if ip.service == nil {
		return
	}
	if ip.score < 0 {
		p.fault(e.pos, "explain", "name one of the outputs `score`", "explanations are of the score, and no output is called score")
		return
	}
	for _, o := range ip.outputs {
		if o.column == ip.score {
			ip.target = inference.Target{Output: o.tensor, Element: o.element}
		}
	}
	sv := ip.service.Acquire()
	defer sv.Release()
	var offered []string
	if x := sv.Champion().Explainer; x != nil {
		for _, m := range x.Methods(ip.target) {
			offered = append(offered, m.String())
		}
	}
	switch {
	case len(offered) == 0:
		p.fault(e.pos, "explain", "give a background sample: `background: rows.csv`, or register the version with one", "this model's score cannot be explained")
	case e.Method != "" && !slices.Contains(offered, e.Method):
		p.fault(e.methodPos, "explain", "offered are: "+strings.Join(offered, ", "), "this model's score cannot be explained by %q", e.Method)
	}
}

// policy is how package model takes a step's rollouts.
func (r *Rollout) policy(target time.Duration) model.Policy {
	p := model.Policy{Key: r.Key, Steps: r.Steps, Hold: r.Hold, MinRows: r.MinRows, Target: target}
	for name, v := range r.Gates {
		switch g := &p.Gates; name {
		case "errors":
			g.Errors = v
		case "late":
			g.Late = v
		case "slower":
			g.Slower = v
		case "agreement":
			g.Agreement = v
		case "within":
			g.Within = v
		case "shift":
			g.Shift = v
		case "quality":
			g.Quality = v
		case "min_labels":
			g.MinLabels = int(v)
		case "alpha":
			g.Alpha = v
		}
	}
	return p
}

func (p *planner) bindInputs(in *Infer, ip *inferPlan, meta inference.Metadata, columns []int) {
	if in.InputNames != nil || len(meta.Inputs) > 1 {
		p.bindNamed(in, ip, meta, columns)
		return
	}
	sig := meta.Inputs[0]
	if len(columns) == 1 && columns[0] <= -2 {
		p.bindVector(in, ip, 0, columns[0], sig)
		return
	}
	if want := rowElements(sig); want >= 0 && want != len(columns) {
		remedy := "give them in the model's order"
		if names := meta.FeatureNames; len(names) == want {
			remedy = "the model was trained on: " + strings.Join(names, ", ")
		}
		p.fault(in.pos, "input-count", remedy, "the model takes %d values a row, and infer.inputs names %d", want, len(columns))
	}
	for i, c := range columns {
		p.checkInput(in, i, c, sig)
	}
	ip.inputs = []inputPlan{{columns: columns, vector: -1}}
}

// bindVector feeds an input with a whole row of an earlier model's output.
func (p *planner) bindVector(in *Infer, ip *inferPlan, i, column int, sig inference.Signature) {
	v := p.plan.vectors[-2-column]
	switch want := rowElements(sig); {
	case sig.Type != inference.Float32 && sig.Type != inference.Float64:
		p.fault(in.inputPos[i], "input-type", "", "the input %q is a vector of numbers, and the model's input %q takes %s", v.name, sig.Name, sig.Type)
	case want >= 0 && v.width >= 0 && want != v.width:
		p.fault(in.inputPos[i], "input-shape", "", "the vector %q has %d values a row, and the model's input %q takes %d", v.name, v.width, sig.Name, want)
	}
	ip.inputs = append(ip.inputs, inputPlan{vector: -2 - column})
}

func (p *planner) bindNamed(in *Infer, ip *inferPlan, meta inference.Metadata, columns []int) {
	names := in.InputNames
	if names == nil {
		names = in.Inputs
	}
	var known []string
	for _, sig := range meta.Inputs {
		known = append(known, sig.Name)
		i := slices.Index(names, sig.Name)
		if i < 0 {
			p.fault(in.pos, "input-missing", fmt.Sprintf("add `%s: FEATURE` to infer.inputs", sig.Name), "the model's input %q gets no value", sig.Name)
			continue
		}
		if columns[i] <= -2 {
			p.bindVector(in, ip, i, columns[i], sig)
			continue
		}
		if want := rowElements(sig); want > 1 {
			p.fault(in.inputPos[i], "input-shape", "", "the model's input %q takes %d values a row; named inputs take one", sig.Name, want)
		}
		p.checkInput(in, i, columns[i], sig)
		ip.inputs = append(ip.inputs, inputPlan{columns: []int{columns[i]}, vector: -1})
	}
	for i, n := range names {
		if !slices.Contains(known, n) {
			p.fault(in.inputPos[i], "input-unknown", didYouMean(n, known), "the model has no input %q", n)
		}
	}
}

func (p *planner) checkInput(in *Infer, i, column int, sig inference.Signature) {
	if column <= -2 {
		p.fault(in.inputPos[i], "input-type", "feed it to an input of its own, by the input's name", "the input %q is a vector, and the model's input %q takes numbers side by side", in.Inputs[i], sig.Name)
	}
	if column < 0 {
		return
	}
	c := p.plan.columns[column]
	text := sig.Type == inference.String
	switch {
	case c.kind == event.Time:
		p.fault(in.inputPos[i], "input-type", "make a number of it with an expression, for example time.hour()", "the input %q is a time", c.name)
	case text != (c.kind == event.String):
		p.fault(in.inputPos[i], "input-type", fmt.Sprintf("choose a feature that is a %s", map[bool]string{true: "text", false: "number"}[text]), "the input %q is a %s, and the model's input %q takes %s", c.name, c.kind, sig.Name, sig.Type)
	}
}

// rowElements is the number of values of one row; -1 where the model leaves it open.
func rowElements(s inference.Signature) int {
	n := 1
	for _, d := range s.Shape {
		if d < 0 {
			return -1
		}
		n *= d
	}
	return n
}

// outputsOf are the outputs asked for; without any, score.
func outputsOf(in *Infer) []ModelOutput {
	if len(in.Outputs) > 0 {
		return in.Outputs
	}
	return []ModelOutput{{Name: "score", pos: in.pos}}
}

func (p *planner) bindOutputs(in *Infer, ip *inferPlan, meta inference.Metadata) {
	for _, o := range outputsOf(in) {
		value, whole := wholeRow(o.Value)
		tensor, element, err := chooseOutput(meta, value)
		if err != nil {
			p.fault(o.pos, "model-output", describeOutputs(meta), "infer.outputs.%s: %v", o.Name, err)
			p.add(o.Name, event.Float, o.pos) // so that later names resolve
			continue
		}
		if slices.ContainsFunc(p.plan.columns, func(c columnDef) bool { return c.name == o.Name }) {
			p.fault(o.pos, "name-taken", "choose another name", "infer.outputs: the name %q is taken", o.Name)
			continue
		}
		if whole {
			ip.outputs = append(ip.outputs, outputPlan{name: o.Name, tensor: tensor, column: -1, vector: len(p.plan.vectors)})
			p.plan.vectors = append(p.plan.vectors, vectorDef{o.Name, rowElements(meta.Outputs[tensor])})
			continue
		}
		out := outputPlan{name: o.Name, tensor: tensor, element: element}
		kind := event.Float
		switch meta.Outputs[tensor].Type {
		case inference.Float32:
			out.f32 = true
		case inference.Int64, inference.Int32:
			kind = event.Int
		case inference.Bool:
			kind = event.Bool
		case inference.String:
			kind = event.String
		}
		out.column = p.add(o.Name, kind, o.pos)
		if o.Name == "score" {
			if kind != event.Float {
				p.fault(o.pos, "model-output", describeOutputs(meta), "infer.outputs.score must be a number, not a %s", kind)
			}
			ip.score = out.column
		}
		ip.outputs = append(ip.outputs, out)
	}
}

// wholeRow takes vector(OUTPUT) apart. Any element finds the output.
func wholeRow(value string) (output string, whole bool) {
	if rest, ok := strings.CutPrefix(value, "vector("); ok && strings.HasSuffix(rest, ")") {
		return strings.TrimSuffix(rest, ")") + "[0]", true
	}
	return value, false
}

var indexed = regexp.MustCompile(`^(.+)\[(.+)\]$`)

// chooseOutput finds the tensor and the element of its row that a name stands for.
func chooseOutput(meta inference.Metadata, value string) (tensor, element int, err error) {
	numeric := func(s inference.Signature) bool { return s.Type == inference.Float32 || s.Type == inference.Float64 }
	find := func(ok func(inference.Signature) bool) int { return slices.IndexFunc(meta.Outputs, ok) }
	switch value {
	case "":
		if t, e, err := chooseOutput(meta, "probability"); err == nil {
			return t, e, nil
		}
		return chooseOutput(meta, "value")
	case "probability":
		if t := find(func(s inference.Signature) bool { return numeric(s) && rowElements(s) == 2 }); t >= 0 {
			return t, 1, nil
		}
		return 0, 0, fmt.Errorf("the model has no output of two class probabilities")
	case "value":
		if t := find(func(s inference.Signature) bool { return numeric(s) && rowElements(s) == 1 }); t >= 0 {
			return t, 0, nil
		}
		return 0, 0, fmt.Errorf("the model has no output of one number")
	case "label":
		if t := find(func(s inference.Signature) bool { return s.Name == "label" }); t >= 0 {
			return t, 0, nil
		}
		if t := find(func(s inference.Signature) bool { return !numeric(s) && rowElements(s) == 1 }); t >= 0 {
			return t, 0, nil
		}
		return 0, 0, fmt.Errorf("the model has no output of labels")
	}
	name, index := value, ""
	if m := indexed.FindStringSubmatch(value); m != nil {
		name, index = m[1], m[2]
	}
	t := find(func(s inference.Signature) bool { return s.Name == name })
	if t < 0 {
		return 0, 0, fmt.Errorf("the model has no output %q", name)
	}
	size := rowElements(meta.Outputs[t])
	if index == "" {
		if size > 1 {
			return 0, 0, fmt.Errorf("the output %q has %d values a row: say which, as %s[0]", name, size, name)
		}
		return t, 0, nil
	}
	if i := slices.Index(meta.Outputs[t].Labels, index); i >= 0 {
		return t, i, nil
	}
	i, err := strconv.Atoi(index)
	if err != nil || i < 0 || size >= 0 && i >= size {
		return 0, 0, fmt.Errorf("the output %q has no element %q", name, index)
	}
	return t, i, nil
}

func describeOutputs(meta inference.Metadata) string {
	var parts []string
	for _, o := range meta.Outputs {
		s := o.Name
		if n := rowElements(o); n != 1 {
			s = fmt.Sprintf("%s[0…%d]", o.Name, n-1)
		}
		parts = append(parts, s)
	}
	return "the model has: " + strings.Join(parts, ", ") + "; probability, value and label are understood too"
}
