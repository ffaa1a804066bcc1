package oip

import (
	"fmt"
	"slices"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/internal/tensors"
	"github.com/freshet-io/freshet/internal/spell"
)

// maxRank bounds the dimensions of a tensor.
const maxRank = 16

// tensorInfo is what a server says of an input or output.
type tensorInfo struct {
	Name     string  `json:"name"`
	Datatype string  `json:"datatype"`
	Shape    []int64 `json:"shape"`
}

// description is what a server says of a model.
type description struct {
	Name     string       `json:"name"`
	Versions []string     `json:"versions"`
	Platform string       `json:"platform"`
	Inputs   []tensorInfo `json:"inputs"`
	Outputs  []tensorInfo `json:"outputs"`
}

// port is an input or output as it travels.
type port struct {
	dt     datatype
	sig    inference.Signature
	column bool // values without a dimension travel as rows of one
	params []parameter
}

// wireShape appends the shape of n rows, those of t where it is there.
func (p *port) wireShape(shape []int, n int, t *inference.Tensor) []int {
	shape = append(shape, n)
	if t != nil {
		shape = append(shape, t.Shape[1:]...)
	} else {
		shape = append(shape, p.sig.Shape...)
	}
	if p.column && len(shape) == 1 {
		shape = append(shape, 1)
	}
	return shape
}

// model is what is called: the server's word, completed by the settings.
type model struct {
	inputs, outputs []port
	meta            inference.Metadata
}

// newModel puts together what the server said of a model and what the settings say.
// Every error is Config.
func newModel(d *description, c *config, given []inference.Signature) (*model, error) {
	m := &model{meta: inference.Metadata{
		Name: c.model, Version: c.version, Format: "oip", Producer: d.Platform, MaxBatch: c.batch, FeatureNames: c.features,
	}}
	if m.meta.Version == "" {
		m.meta.Version = "remote"
	}
	var err error
	if m.inputs, err = m.ports("input", d.Inputs, c.inputs); err != nil {
		return nil, err
	}
	if len(m.inputs) == 0 {
		for _, sig := range given {
			m.inputs = append(m.inputs, port{dt: natural(sig.Type), sig: sig, column: true})
		}
	}
	if m.outputs, err = m.ports("output", d.Outputs, c.outputs); err != nil {
		return nil, err
	}
	switch {
	case len(m.inputs) == 0:
		return nil, errkind.New(errkind.Config, "the server names no inputs of the model: name them with the option inputs: [{name: x, datatype: FP32, shape: [8]}]")
	case len(m.outputs) == 0:
		return nil, errkind.New(errkind.Config, "the server names no outputs of the model: name them with the option outputs: [{name: predict, datatype: INT64}]")
	}
	for i := range m.inputs {
		m.meta.Inputs = append(m.meta.Inputs, m.inputs[i].sig)
	}
	for i := range m.outputs {
		m.meta.Outputs = append(m.meta.Outputs, m.outputs[i].sig)
	}
	for side, sigs := range map[string][]inference.Signature{"input": m.meta.Inputs, "output": m.meta.Outputs} {
		for i := range sigs {
			if slices.ContainsFunc(sigs[:i], func(s inference.Signature) bool { return s.Name == sigs[i].Name }) {
				return nil, errkind.Errorf(errkind.Config, "two %ss are called %q", side, sigs[i].Name)
			}
		}
	}
	if len(c.features) > 0 {
		if len(m.inputs) != 1 || len(m.inputs[0].sig.Shape) != 1 || m.inputs[0].sig.Shape[0] >= 0 && m.inputs[0].sig.Shape[0] != len(c.features) {
			return nil, errkind.Errorf(errkind.Config, "the option features names the %d values of a row of the only input, and the inputs are %v", len(c.features), m.meta.Inputs)
		}
		m.inputs[0].sig.Shape = []int{len(c.features)}
		m.meta.Inputs[0].Shape = m.inputs[0].sig.Shape
	}
	return m, nil
}

// ports are those that the settings name, in their order, or all that the server names.
func (m *model) ports(side string, said []tensorInfo, named []portSetting) ([]port, error) {
	var out []port
	if len(named) == 0 {
		for _, t := range said {
			p, err := m.said(side, t)
			if err != nil {
				return nil, err
			}
			out = append(out, p)
		}
		return out, nil
	}
	for _, s := range named {
		p := port{dt: s.dt, sig: inference.Signature{Name: s.name, Type: s.dt.of, Shape: s.shape}}
		i := slices.IndexFunc(said, func(t tensorInfo) bool { return t.Name == s.name })
		switch {
		case i >= 0 && (!s.typed || !s.shaped):
			q, err := m.said(side, said[i])
			if err != nil {
				return nil, err
			}
			if !s.typed {
				p.dt, p.sig.Type = q.dt, q.dt.of
			}
			if !s.shaped {
				p.sig.Shape = q.sig.Shape
			}
		case i < 0 && !s.typed:
			var names []string
			for _, t := range said {
				names = append(names, t.Name)
			}
			hint := "; say what it is: {name: " + s.name + ", datatype: FP32, shape: [8]}"
			if near := spell.Nearest(s.name, names); near != "" {
				hint = fmt.Sprintf("; did you mean %q?", near)
			}
			return nil, errkind.Errorf(errkind.Config, "the server names no %s %q of the model, but [%s]%s", side, s.name, strings.Join(names, ", "), hint)
		}
		p.sig.Labels, p.params = s.labels, s.params
		if w := len(p.sig.Shape); len(s.labels) > 0 && (w == 0 || p.sig.Shape[w-1] >= 0 && p.sig.Shape[w-1] != len(s.labels)) {
			return nil, errkind.Errorf(errkind.Config, "%s %s has %d labels for rows of shape %v", side, s.name, len(s.labels), p.sig.Shape)
		}
		out = append(out, p)
	}
	return out, nil
}

// said is a port as the server describes it.
func (m *model) said(side string, t tensorInfo) (port, error) {
	wrong := func(format string, args ...any) (port, error) {
		return port{}, errkind.Errorf(errkind.Config, "the server says of %s %q: %w; say what it is with the option %ss", side, t.Name, fmt.Errorf(format, args...), side)
	}
	dt, ok := lookUp(strings.TrimPrefix(t.Datatype, "TYPE_"))
	switch {
	case t.Name == "":
		return wrong("it has no name")
	case !ok:
		return wrong("datatype %q, which is none of %s", t.Datatype, strings.Join(datatypeNames(), ", "))
	case len(t.Shape) == 0 || len(t.Shape) > maxRank:
		return wrong("shape %v, expected [-1, …] with the batch first", t.Shape)
	case t.Shape[0] > 1 || t.Shape[0] == 0:
		return wrong("shape %v, which takes no other number of rows than %d", t.Shape, t.Shape[0])
	}
	if t.Shape[0] == 1 {
		m.meta.MaxBatch = 1
	}
	p := port{dt: dt, sig: inference.Signature{Name: t.Name, Type: dt.of}}
	width := int64(1)
	for _, d := range t.Shape[1:] {
		if d < -1 || d == 0 || d > 1<<31 {
			return wrong("shape %v", t.Shape)
		}
		if d > 0 {
			if width *= d; width > 1<<31 {
				return wrong("shape %v, too large", t.Shape)
			}
		}
		p.sig.Shape = append(p.sig.Shape, int(d))
	}
	return p, nil
}

// fit holds the shape of an output against its port and returns the sizes of a row,
// in dims, and the number of elements. Sizes of 1 may be missing or too many.
func (p *port) fit(shape []int64, n int, dims []int) ([]int, int, error) {
	if len(shape) == 0 || len(shape) > maxRank {
		return nil, 0, fmt.Errorf("has shape %v, expected rows of %v", shape, p.sig.Shape)
	}
	if shape[0] != int64(n) {
		return nil, 0, fmt.Errorf("has shape %v for %d rows", shape, n)
	}
	dims = dims[:0]
	count := n
	ones := true
	exact := len(shape) == len(p.sig.Shape)+1
	for i, d := range shape[1:] {
		if d < 0 || d > 1<<40 || count > 0 && d > (1<<40)/int64(count) {
			return nil, 0, fmt.Errorf("has shape %v", shape)
		}
		count *= int(d)
		exact = exact && (p.sig.Shape[i] == int(d) || p.sig.Shape[i] < 0)
		if d != 1 {
			dims = append(dims, int(d))
		}
	}
	if exact {
		dims = dims[:0]
		for _, d := range shape[1:] {
			dims = append(dims, int(d))
		}
		return dims, count, nil
	}
	// As [n, 1] for rows of one value, which servers write that put the batch in front.
	i := 0
	for _, d := range p.sig.Shape {
		switch {
		case d == 1:
			continue
		case i >= len(dims) || dims[i] != d:
			ones = false
		}
		i++
	}
	if !ones || i != len(dims) {
		return nil, 0, fmt.Errorf("has shape %v, expected rows of %v", shape, p.sig.Shape)
	}
	return append(dims[:0], p.sig.Shape...), count, nil
}

// room makes t ready for n rows of the sizes dims.
func (p *port) room(t *inference.Tensor, dims []int, n int) {
	sig := p.sig
	sig.Shape = dims
	tensors.Make(t, &sig, n)
}

// none makes t the answer for no rows.
func (p *port) none(t *inference.Tensor) {
	var dims []int
	for _, d := range p.sig.Shape {
		dims = append(dims, max(d, 0))
	}
	p.room(t, dims, 0)
}
