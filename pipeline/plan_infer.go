package pipeline

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
)

func (p *planner) inferStep(in *Infer) {
	ip := &inferPlan{spec: in, score: -1}
	var columns []int
	for i, name := range in.Inputs {
		columns = append(columns, p.find(name, in.inputPos[i], "infer.inputs"))
	}
	d := p.openModel(in)
	if d != nil {
		p.plan.Model = d
		meta := d.Metadata()
		p.bindInputs(in, ip, meta, columns)
		p.bindOutputs(in, ip, meta)
	} else {
		for _, o := range outputsOf(in) { // so that later names resolve
			p.add(o.Name, event.Float, o.pos)
		}
	}
	if in.Fallback != nil {
		ip.fallback = p.program(in.Fallback, "infer.fallback", event.Float)
		if d != nil && ip.score < 0 {
			p.fault(in.Fallback.pos, "fallback", "name one of the outputs `score`", "a fallback gives the score, and no output is called score")
		}
	}
	for i, c := range columns {
		if c >= 0 && !slices.Contains(p.plan.results, c) && !slices.Contains(columns[:i], c) {
			p.plan.results = append(p.plan.results, c)
		}
	}
	p.plan.infer = ip
}

func (p *planner) openModel(in *Infer) inference.Driver {
	if in.Model == "" {
		return nil
	}
	if scheme, _, ok := strings.Cut(in.Model, "://"); ok {
		p.fault(in.modelPos, "model", "give the path of an .onnx file", "infer.model: there is no runtime for %q in this binary", scheme+"://")
		return nil
	}
	path := p.spec.path(in.Model)
	if fileMissing(path) {
		p.fault(in.modelPos, "model", "paths are relative to the pipeline file; check this one", "infer.model: there is no file %s", path)
		return nil
	}
	d, err := p.open(path)
	if err != nil {
		p.fault(in.modelPos, "model", "export the model again, or choose another; docs/models.md says what runs", "infer.model: %v", err)
		return nil
	}
	return d
}

func (p *planner) bindInputs(in *Infer, ip *inferPlan, meta inference.Metadata, columns []int) {
	if in.InputNames != nil || len(meta.Inputs) > 1 {
		p.bindNamed(in, ip, meta, columns)
		return
	}
	sig := meta.Inputs[0]
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
	ip.inputs = [][]int{columns}
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
		if want := rowElements(sig); want > 1 {
			p.fault(in.inputPos[i], "input-shape", "", "the model's input %q takes %d values a row; named inputs take one", sig.Name, want)
		}
		p.checkInput(in, i, columns[i], sig)
		ip.inputs = append(ip.inputs, []int{columns[i]})
	}
	for i, n := range names {
		if !slices.Contains(known, n) {
			p.fault(in.inputPos[i], "input-unknown", didYouMean(n, known), "the model has no input %q", n)
		}
	}
}

func (p *planner) checkInput(in *Infer, i, column int, sig inference.Signature) {
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
		tensor, element, err := chooseOutput(meta, o.Value)
		if err != nil {
			p.fault(o.pos, "model-output", describeOutputs(meta), "infer.outputs.%s: %v", o.Name, err)
			p.add(o.Name, event.Float, o.pos) // so that later names resolve
			continue
		}
		if slices.ContainsFunc(p.plan.columns, func(c columnDef) bool { return c.name == o.Name }) {
			p.fault(o.pos, "name-taken", "choose another name", "infer.outputs: the name %q is taken", o.Name)
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
