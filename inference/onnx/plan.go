package onnx

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/inference"
	"github.com/freshet-io/freshet/inference/onnx/internal/attribution"
	"github.com/freshet-io/freshet/inference/onnx/internal/ops"
	"github.com/freshet-io/freshet/inference/onnx/internal/wire"
)

// foldElements bounds the result of a node that is evaluated at load, and four times as much all
// of them together.
const foldElements = 1 << 22

// program is a graph ready to run; it is immutable.
type program struct {
	slots       int // values held by an instance
	steps       []step
	consts      []constant
	views       []int // slots that share storage with others
	inputs      []int // slots of the graph's inputs
	inputInfo   []wire.ValueInfo
	outputs     []output
	labels      map[string][]string
	maxElements int
	// For explanations: the number of values of a row of all inputs, sources, and the columns of each output.
	width int
	sites []*site
	forms [][]form
	trees []*attribution.Ensemble // until they are counted
}

// step is a compiled node. A slot of −1 stands for nothing.
type step struct {
	name    string
	kernel  ops.Kernel
	in, out []int
}

type constant struct {
	slot  int
	value *ops.Tensor
}

// output is a graph output; copied says that its value lies in a slot that
// another output, an input, a constant or a view needs.
type output struct {
	name   string
	slot   int
	typ    inference.DataType
	info   wire.ValueInfo
	copied bool
}

// value is an edge of the graph while it is planned.
type value struct {
	ops.Value
	producer int // index of the node, −1 for inputs and constants
	slot     int // −1 until it is needed
	alias    *value
	mapped   bool // declared as a list of maps
	view     bool
	labels   []string
	broken   bool // its producer could not be compiled
	uses     int  // nodes and outputs that name it
	// dense is the layer that produces it, in step denseStep; more can be added to it.
	dense     *ops.Dense
	denseStep int
}

// resolve follows aliases.
func (v *value) resolve() *value {
	for v.alias != nil {
		v = v.alias
	}
	return v
}

type planner struct {
	model  *wire.Model
	opts   Options
	reg    *ops.Registry
	values map[string]*value
	order  []int
	p      *program
	// missing gathers what is not supported.
	missing []string
	frame   ops.Frame
	folded  int // elements
	// sources, by node, tell how its output adds up.
	sources map[int]func() *ops.Source
}

func invalid(format string, args ...any) error {
	return errkind.Errorf(errkind.Invalid, format, args...)
}

// plan turns a model into a program.
func plan(m *wire.Model, o Options) (*program, error) {
	pl := &planner{
		model: m, opts: o, reg: ops.NewRegistry(), values: map[string]*value{},
		p:       &program{maxElements: o.MaxElements, labels: map[string][]string{}},
		sources: map[int]func() *ops.Source{},
	}
	pl.frame.MaxElements = min(o.MaxElements, foldElements)
	pl.frame.Limited, pl.frame.Work = true, o.work
	for _, f := range []func() error{pl.checkVersions, pl.declare, pl.sort, pl.compile, pl.bindOutputs, pl.trace} {
		if err := f(); err != nil {
			return nil, err
		}
	}
	if len(pl.missing) > 0 {
		return nil, errkind.New(errkind.Unsupported, "the model needs what is not supported:\n  "+strings.Join(pl.missing, "\n  ")+
			"\nexport it with other settings (see docs/models.md), or serve it elsewhere and call it over the network")
	}
	return pl.p, nil
}

func (pl *planner) lacks(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if !slices.Contains(pl.missing, s) && len(pl.missing) < 100 {
		pl.missing = append(pl.missing, s)
	}
}

func (pl *planner) checkVersions() error {
	for domain, v := range pl.model.Opsets {
		least, most := int64(1), int64(ops.MaxMLOpset)
		switch domain {
		case "":
			least, most = ops.MinOpset, ops.MaxOpset
		case "ai.onnx.ml":
		default:
			continue // its operators, if used, are reported one by one
		}
		if v < least || v > most {
			name := domain
			if name == "" {
				name = "ai.onnx"
			}
			pl.lacks("operator set %s %d; supported are %d to %d: set target_opset when exporting", name, v, least, most)
		}
	}
	if pl.model.Graph.SparseInitializers > 0 {
		pl.lacks("sparse initializers")
	}
	return nil
}

// declare registers inputs, initializers and node outputs.
func (pl *planner) declare() error {
	g := &pl.model.Graph
	for i := range g.Initializers {
		t := &g.Initializers[i]
		v, err := pl.define(t.Name, -1)
		if err != nil {
			return err
		}
		c, err := ops.FromWire(t, pl.opts.MaxElements)
		if ops.Unsupported(err) {
			pl.lacks("initializer %q: %v", t.Name, err)
			v.broken = true
			continue
		}
		if err != nil {
			return invalid("initializer %q: %w", t.Name, err)
		}
		v.Type, v.Const = c.Type, c
	}
	for _, in := range g.Inputs {
		if v := pl.values[in.Name]; v != nil && v.producer < 0 && (v.Const != nil || v.broken) {
			continue // an initializer listed as input too, as old files do
		}
		v, err := pl.define(in.Name, -1)
		if err != nil {
			return err
		}
		d, ok := ops.TypeFromWire(in.Type)
		switch {
		case in.Kind != wire.KindTensor:
			pl.lacks("input %q is not a tensor", in.Name)
			v.broken = true
		case !ok:
			pl.lacks("input %q is %s", in.Name, wire.TypeName(in.Type))
			v.broken = true
		}
		v.Type = d
		pl.p.inputs = append(pl.p.inputs, pl.slot(v))
		pl.p.inputInfo = append(pl.p.inputInfo, in)
	}
	for i := range g.Nodes {
		for _, name := range g.Nodes[i].Outputs {
			if name == "" {
				continue
			}
			if _, err := pl.define(name, i); err != nil {
				return err
			}
		}
	}
	if len(g.Outputs) == 0 {
		return invalid("the graph has no outputs")
	}
	return nil
}

func (pl *planner) define(name string, producer int) (*value, error) {
	if name == "" {
		return nil, invalid("a value without a name")
	}
	if pl.values[name] != nil {
		return nil, invalid("value %q is defined twice", name)
	}
	v := &value{Value: ops.Value{Name: name}, producer: producer, slot: -1}
	pl.values[name] = v
	return v, nil
}

func (pl *planner) slot(v *value) int {
	if v.slot < 0 {
		v.slot = pl.p.slots
		pl.p.slots++
	}
	return v.slot
}

// nodeName names a node for messages.
func (pl *planner) nodeName(i int) string {
	n := &pl.model.Graph.Nodes[i]
	op := n.Op
	if n.Domain != "" {
		op = n.Domain + "." + op
	}
	if n.Name != "" {
		return fmt.Sprintf("node %d (%s %q)", i, op, n.Name)
	}
	return fmt.Sprintf("node %d (%s)", i, op)
}

func (pl *planner) compile() error {
	for _, i := range pl.order {
		if err := pl.compileNode(i); err != nil {
			return err
		}
	}
	return nil
}

func (pl *planner) compileNode(i int) error {
	n := &pl.model.Graph.Nodes[i]
	in, out := make([]*value, len(n.Inputs)), make([]*value, len(n.Outputs))
	broken, constant := false, true
	for k, name := range n.Inputs {
		if name == "" {
			continue
		}
		in[k] = pl.values[name].resolve()
		broken = broken || in[k].broken
		constant = constant && in[k].Const != nil
	}
	for k, name := range n.Outputs {
		if name != "" {
			out[k] = pl.values[name]
		}
	}
	fail := func() error {
		for _, v := range out {
			if v != nil {
				v.broken = true
			}
		}
		return nil
	}
	opset, used := pl.model.Opsets[n.Domain]
	version := int(min(opset, 1<<20))
	if !used {
		version = 1
	}
	if n.Domain == "ai.onnx.ml" && n.Op == "ZipMap" {
		return pl.zipMap(n, in, out, i)
	}
	entry, known := pl.reg.Find(n.Domain, n.Op, version)
	if entry == nil {
		op := n.Op
		if n.Domain != "" {
			op = n.Domain + "." + op
		}
		if known {
			pl.lacks("operator %s of operator set %d", op, version)
		} else {
			pl.lacks("operator %s", op)
		}
		return fail()
	}
	if broken {
		return fail()
	}
	if len(in) < entry.InMin || len(in) > entry.InMax && entry.InMax >= 0 || len(out) == 0 || len(out) > entry.OutMax && entry.OutMax >= 0 {
		return invalid("%s has %d inputs and %d outputs", pl.nodeName(i), len(in), len(out))
	}
	for k := range entry.InMin {
		if in[k] == nil {
			return invalid("%s lacks input %d", pl.nodeName(i), k)
		}
	}
	node := &ops.Node{Node: n, Version: version, MaxElements: pl.opts.MaxElements}
	for _, v := range in {
		node.In = append(node.In, ref(v))
	}
	for _, v := range out {
		node.Out = append(node.Out, ref(v))
	}
	kernel, err := entry.Compile(node)
	switch {
	case ops.Unsupported(err):
		pl.lacks("%s: %v", pl.nodeName(i), err)
		return fail()
	case err != nil:
		return invalid("%s: %w", pl.nodeName(i), err)
	}
	if unread := node.Unread(); len(unread) > 0 {
		pl.lacks("%s: attribute %s", pl.nodeName(i), strings.Join(unread, ", "))
		return fail()
	}
	if node.Source != nil {
		pl.sources[i] = node.Source
	}
	if node.Trees != nil {
		pl.p.trees = append(pl.p.trees, node.Trees)
	}
	pl.label(n, in, out)
	if kernel == nil { // the output is the first input
		out[0].alias = in[0]
		return nil
	}
	if constant && pl.fold(kernel, in, out) {
		return nil
	}
	if pl.extend(n, in, out) {
		return nil
	}
	s := step{name: pl.nodeName(i), kernel: kernel}
	for k, v := range in {
		if k > 0 && node.Dense != nil { // it has its own copy of the constants
			v = nil
		}
		s.in = append(s.in, pl.use(v))
	}
	for _, v := range out {
		if v == nil {
			s.out = append(s.out, -1)
			continue
		}
		v.view = entry.View
		s.out = append(s.out, pl.slot(v))
		if v.view {
			pl.p.views = append(pl.p.views, v.slot)
		}
	}
	if out[0] != nil {
		out[0].dense, out[0].denseStep = node.Dense, len(pl.p.steps)
	}
	for len(s.in) < max(entry.InMax, 0) {
		s.in = append(s.in, -1)
	}
	for len(s.out) < max(entry.OutMax, 0) {
		s.out = append(s.out, -1)
	}
	pl.p.steps = append(pl.p.steps, s)
	return nil
}

func ref(v *value) *ops.Value {
	if v == nil {
		return nil
	}
	return &v.Value
}

// use gives v a slot; a constant is put there once.
func (pl *planner) use(v *value) int {
	if v == nil {
		return -1
	}
	if v.slot < 0 && v.Const != nil {
		pl.p.consts = append(pl.p.consts, constant{pl.slot(v), v.Const})
	}
	return pl.slot(v)
}

func (pl *planner) bindOutputs() error {
	taken := map[int]bool{}
	for _, s := range pl.p.inputs {
		taken[s] = true
	}
	for _, info := range pl.model.Graph.Outputs {
		named := pl.values[info.Name]
		v := named.resolve()
		labels := named.labels
		if labels == nil {
			labels = v.labels
		}
		if labels != nil {
			pl.p.labels[info.Name] = labels
		}
		if named.mapped {
			info.Dims, info.HasShape = nil, false
		}
		if v.broken {
			continue
		}
		if v.Type == 0 {
			return invalid("output %q has no type", info.Name)
		}
		s := pl.use(v)
		o := output{name: info.Name, slot: s, typ: v.Type, info: info}
		o.copied = taken[s] || v.Const != nil || v.view
		taken[s] = true
		pl.p.outputs = append(pl.p.outputs, o)
	}
	return nil
}

// errRun marks errors of a run as the model's or input's fault.
func errRun(step string, err error) error {
	if errors.Is(err, errInternal) {
		return err
	}
	return invalid("%s: %w", step, err)
}

var errInternal = errors.New("internal error")
