package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/expr"
	"github.com/freshet-io/freshet/feature"
)

// Plan is a pipeline file that fits its contract, tables and model: what each
// task does, with every name resolved to a column. It is read-only, shared by
// all tasks, and owns the model until Close.
type Plan struct {
	Spec     *Spec
	Contract *contract.Contract

	// LabelContract is that of Spec.Labels; nil without.
	LabelContract *contract.Contract

	columns []columnDef
	decode  []decodedField // contract fields that are extracted, in decoder order
	series  *seriesPlan    // nil without a resample step
	order   int            // the column of Source.Order; -1 without
	stages  []*stagePlan   // before the model
	infers  []*inferPlan
	digest  string // of the file and the contract
	vectors []vectorDef
	routes  []routePlan
	results []int // columns that a result shows as features, in order
	lookups []*lookupPlan
}

type columnDef struct {
	name string
	kind event.Kind
	pos  Pos
}

type decodedField struct {
	path   string
	column int
}

// planStep is one computation over the frame's columns, some of which it reads and some it makes.
type planStep interface {
	reads() []int
	writes() []int
}

// windowsPlan is windows of one key that share state.
type windowsPlan struct {
	config   feature.Config
	fields   []int // of each window, its field's column; -1 without, or a label's
	out      []int
	defaults []*Literal
}

type exprPlan struct {
	program *expr.Program
	vars    []int
	out     int
	what    string
}

// maskPlan makes a column of the values of those rows for which a condition holds.
type maskPlan struct {
	cond  int
	field int // -1: the column holds 1 where the condition does
	out   int
}

// lookupPlan reads fields of one table by one key.
type lookupPlan struct {
	spec     *Table
	fields   []string
	kinds    []event.Kind
	key      int
	out      []int
	defaults []*Literal
	found    int   // a column that says whether the row was there
	at       int   // a column with the time of the row's values; -1 where the table has none
	ages     []int // columns with the seconds from there to the event
}

func (g *windowsPlan) reads() (cs []int) {
	for _, c := range g.fields {
		if c >= 0 {
			cs = append(cs, c)
		}
	}
	return cs
}
func (g *windowsPlan) writes() []int { return g.out }
func (x *exprPlan) reads() []int     { return x.vars }
func (x *exprPlan) writes() []int    { return []int{x.out} }
func (l *lookupPlan) reads() []int   { return []int{l.key} }
func (l *lookupPlan) writes() []int {
	cs := append(slices.Clone(l.out), l.found)
	if l.at >= 0 {
		cs = append(cs, l.at)
	}
	return append(cs, l.ages...)
}
func (m *maskPlan) writes() []int { return []int{m.out} }
func (m *maskPlan) reads() []int {
	if m.field < 0 {
		return []int{m.cond}
	}
	return []int{m.cond, m.field}
}

type routePlan struct {
	name string
	when *exprPlan // nil: always
	to   []int     // indices into Plan.topics()
}

// timeName is the name under which expressions see the event's time.
const timeName = "time"

// Close releases the plan's models; not needed once New has been given the plan.
func (p *Plan) Close() (err error) {
	for _, in := range p.infers {
		if in.service != nil {
			err = errors.Join(err, in.service.Close())
		}
	}
	return err
}

// path resolves a path of the file against the file's folder.
func (s *Spec) path(p string) string {
	if filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(filepath.Dir(s.File), p)
}

// topics are the topics that results go to, each once.
func (s *Spec) topics() (ts []string) {
	if rt, ok := s.Steps[len(s.Steps)-1].(*Route); ok {
		for _, c := range rt.Cases {
			for _, t := range c.To {
				if !slices.Contains(ts, t) {
					ts = append(ts, t)
				}
			}
		}
	}
	return ts
}

// MakePlan checks a spec against its contract, tables and model. Faults are
// complete: what can be checked without the faulty parts is checked.
func MakePlan(s *Spec, open ModelOpener) (*Plan, []Fault) {
	p := &planner{
		reader: reader{file: s.File, env: os.LookupEnv},
		plan:   &Plan{Spec: s, order: -1}, spec: s, open: open,
		tables: map[string]*loadedTable{}, later: map[string]Pos{},
	}
	p.contract()
	if p.plan.Contract != nil {
		p.labels()
		p.loadTables()
		p.steps()
		p.tryWindows()
	}
	if c := p.plan.Contract; c != nil {
		sum := sha256.Sum256([]byte(s.digest + c.Digest))
		p.plan.digest = hex.EncodeToString(sum[:])
	}
	if len(p.faults) > 0 {
		if err := p.plan.Close(); err != nil {
			p.fault(Pos{}, "model", "", "close the model: %v", err)
		}
		return nil, p.faults
	}
	return p.plan, nil
}

type planner struct {
	reader
	plan   *Plan
	spec   *Spec
	open   ModelOpener
	key    string
	tables map[string]*loadedTable
	later  map[string]Pos // features not computed yet at this point
	front  []planStep     // before the first model
}

func (p *planner) contract() {
	src := &p.spec.Source
	c, err := contract.Load(p.spec.path(src.Contract))
	if err != nil {
		p.contractFault(src.contractPos, src.Contract, err)
		return
	}
	names := fieldNames(c)
	check := func(field string, pos Pos, what string) bool {
		if field == "" {
			return true
		}
		if _, ok := c.Field(field); !ok {
			p.fault(pos, "unknown-field", didYouMean(field, names), "%s: the contract %s has no field %q", what, src.Contract, field)
			return false
		}
		return true
	}
	ok := check(src.ID, src.idPos, "source.id")
	ok = check(src.Key, src.keyPos, "source.key") && ok
	ok = check(src.TimeField, src.timePos, "source.time.field") && ok
	if !ok {
		return
	}
	if p.key = src.Key; p.key == "" {
		p.key = c.Key
	}
	p.plan.Contract = c
}

// contractFault reports a contract that cannot be read.
func (p *planner) contractFault(pos Pos, file string, err error) {
	remedy := "mend the contract; docs/contracts.md says what it can hold"
	if fileMissing(p.spec.path(file)) {
		remedy = "paths are relative to the pipeline file; check this one"
	}
	p.fault(pos, "contract", remedy, "contract %s: %v", file, err)
}

func fileMissing(path string) bool {
	_, err := os.Stat(path)
	return err != nil
}

func fieldNames(c *contract.Contract) []string {
	fs := c.Fields()
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = f.Path
	}
	return names
}

func (p *planner) steps() {
	for _, st := range p.spec.Steps {
		if f, ok := st.(*Features); ok {
			for _, it := range f.Items {
				if first, dup := p.later[it.Name]; dup {
					p.fault(it.pos, "name-taken", "choose another name", "the feature %q is already defined on line %d", it.Name, first.Line)
					continue
				}
				if _, ok := p.plan.Contract.Field(it.Name); ok {
					p.fault(it.pos, "name-taken", "choose another name", "the feature %q has the name of a field of the contract", it.Name)
				}
				if it.Name == timeName {
					p.fault(it.pos, "name-taken", "choose another name", "`time` is the event's own time")
				}
				p.later[it.Name] = it.pos
			}
		}
	}
	if o := p.spec.Source.Order; o != "" {
		p.plan.order = p.find(o, p.spec.Source.orderPos, "source.time.order")
	}
	for _, st := range p.spec.Steps {
		switch st := st.(type) {
		case *Resample:
			p.resampleStep(st)
		case *Features:
			p.featureStep(st)
		case *Infer:
			p.inferStep(st)
		case *Route:
			p.routeStep(st)
		}
	}
	if len(p.faults) == 0 {
		p.stages(p.front)
	}
}

// tryWindows makes every group of windows once, to learn whether it can be.
func (p *planner) tryWindows() {
	for _, st := range p.plan.stages {
		for _, s := range st.steps {
			if g, ok := s.(*windowsPlan); ok && len(p.faults) == 0 {
				if _, err := newWindowsStep(p.plan, g); err != nil {
					p.fault(p.plan.columns[g.out[0]].pos, "window", "", "%v", err)
				}
			}
		}
	}
}

// add makes a new column.
func (p *planner) add(name string, kind event.Kind, pos Pos) int {
	p.plan.columns = append(p.plan.columns, columnDef{name, kind, pos})
	return len(p.plan.columns) - 1
}

// find resolves a name to a column, which may be a field of the contract that
// nobody asked for before; -1 with a fault where there is none.
func (p *planner) find(name string, pos Pos, what string) int {
	if i := slices.IndexFunc(p.plan.columns, func(c columnDef) bool { return c.name == name }); i >= 0 {
		return i
	}
	if name == timeName {
		return p.add(timeName, event.Time, pos)
	}
	if c, ok := p.ageColumn(name, pos, what); ok {
		return c
	}
	if f, ok := p.plan.Contract.Field(name); ok && p.plan.series == nil {
		i := p.add(name, f.Kind, pos)
		p.plan.decode = append(p.plan.decode, decodedField{name, i})
		return i
	}
	if _, ok := p.plan.Contract.Field(name); ok {
		p.fault(pos, "not-in-series", fmt.Sprintf("add `%s: last` to the resample step's fields", name), "%s: %q is a field of the readings, and behind resample there are only the series' fields", what, name)
		return -1
	}
	if at, ok := p.later[name]; ok {
		if _, lookup := p.lookupOf(name); lookup {
			p.fault(pos, "unknown-name", fmt.Sprintf("write %s.FIELD", name), "%s: %q is a lookup; one of its fields is meant", what, name)
		} else {
			p.fault(pos, "used-before", fmt.Sprintf("move the feature %q before its use", name), "%s uses %q before it exists: it is computed on line %d", what, name, at.Line)
		}
		return -1
	}
	p.fault(pos, "unknown-name", didYouMean(name, p.known()), "%s: there is no field or feature %q", what, name)
	return -1
}

func (p *planner) lookupOf(name string) (*LookupFeature, bool) {
	for _, st := range p.spec.Steps {
		if f, ok := st.(*Features); ok {
			for _, it := range f.Items {
				if it.Name == name && it.Lookup != nil {
					return it.Lookup, true
				}
			}
		}
	}
	return nil, false
}

// known are all names that may be used at this point, sorted.
func (p *planner) known() []string {
	var names []string
	if p.plan.series == nil {
		names = fieldNames(p.plan.Contract)
	}
	for _, c := range p.plan.columns {
		names = append(names, c.name)
	}
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// program compiles an expression over the names known at this point.
func (p *planner) program(e *Expr, what string, want ...event.Kind) *exprPlan {
	if e == nil {
		return nil
	}
	var vars []expr.Var
	if p.plan.series == nil {
		for _, f := range p.plan.Contract.Fields() {
			vars = append(vars, expr.Var{Name: f.Path, Kind: f.Kind})
		}
	}
	for _, c := range p.plan.columns {
		if !slices.ContainsFunc(vars, func(v expr.Var) bool { return v.Name == c.name }) {
			vars = append(vars, expr.Var{Name: c.name, Kind: c.kind})
		}
	}
	if !slices.ContainsFunc(vars, func(v expr.Var) bool { return v.Name == timeName }) {
		vars = append(vars, expr.Var{Name: timeName, Kind: event.Time})
	}
	prog, err := expr.Compile(e.Source, vars, want...)
	if err != nil {
		remedy := "docs/features.md says what expressions can use"
		for name, at := range p.later {
			if !slices.ContainsFunc(vars, func(v expr.Var) bool { return v.Name == name }) && mentions(e.Source, name) {
				remedy = fmt.Sprintf("%q is computed on line %d: move it before its use", name, at.Line)
			}
		}
		p.fault(e.pos, "expression", remedy, "%s: %v", what, err)
		return nil
	}
	x := &exprPlan{program: prog, what: what}
	for _, v := range prog.Vars() {
		x.vars = append(x.vars, p.find(v, e.pos, what))
	}
	return x
}

// scored reports whether the steps at hand stand behind a model.
func (p *planner) scored() bool { return len(p.plan.infers) > 0 }

// step appends a step behind the last model, or in front of all.
func (p *planner) step(s planStep) {
	if p.scored() {
		last := p.plan.infers[len(p.plan.infers)-1]
		last.after = append(last.after, s)
	} else {
		p.front = append(p.front, s)
	}
}

func (p *planner) routeStep(rt *Route) {
	topics := p.spec.topics()
	for _, c := range rt.Cases {
		r := routePlan{name: c.Name, when: p.program(c.When, "route.when", event.Bool)}
		for _, t := range c.To {
			r.to = append(r.to, slices.Index(topics, t))
		}
		p.plan.routes = append(p.plan.routes, r)
	}
}
