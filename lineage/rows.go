package lineage

import (
	"math"
	"slices"
	"strconv"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/expr"
)

// rowVar is a value of a prediction that expressions may name.
type rowVar struct {
	name string
	kind event.Kind
	fill func(m *Message, c *event.Column)
}

// variables lists what expressions over the rows of m may name: what every
// prediction has, then of each step its answer (the second step's with _2 behind the
// name, and so on), its outputs, and the features. A name that is taken is not given again.
func variables(m *Message) []rowVar {
	vars := slices.Clone(common)
	have := map[string]bool{}
	for i := range vars {
		have[vars[i].name] = true
	}
	add := func(v rowVar) {
		if !have[v.name] {
			have[v.name] = true
			vars = append(vars, v)
		}
	}
	for i := range m.Batch.Steps {
		suffix := ""
		if i > 0 {
			suffix = "_" + strconv.Itoa(i+1)
		}
		for _, v := range answers {
			add(rowVar{v.name + suffix, v.kind, func(m *Message, c *event.Column) { v.fill(&m.Batch.Steps[i], c) }})
		}
	}
	for i := range m.Batch.Steps {
		for j, o := range m.Batch.Steps[i].Outputs {
			add(rowVar{m.Source.Steps[i].Outputs[j], o.Kind, func(m *Message, c *event.Column) { c.Copy(m.Batch.Steps[i].Outputs[j]) }})
		}
	}
	for i, f := range m.Batch.Features {
		add(rowVar{m.Source.Features[i].Name, f.Kind, func(m *Message, c *event.Column) { c.Copy(m.Batch.Features[i]) }})
	}
	return vars
}

// common are the variables of every prediction.
var common = []rowVar{
	{"id", event.String, func(m *Message, c *event.Column) { copy(c.Strings, m.Batch.IDs) }},
	{"key", event.String, func(m *Message, c *event.Column) { copy(c.Strings, m.Batch.Keys) }},
	{"result_id", event.String, func(m *Message, c *event.Column) {
		for i, r := range m.Batch.Results {
			c.Strings[i] = string(r)
		}
	}},
	{"topic", event.String, func(m *Message, c *event.Column) { fillAll(c.Strings, m.Source.Topic) }},
	{"contract", event.String, func(m *Message, c *event.Column) { fillAll(c.Strings, m.Source.Contract) }},
	{"config", event.String, func(m *Message, c *event.Column) { fillAll(c.Strings, m.Source.Config) }},
	{"partition", event.Int, func(m *Message, c *event.Column) {
		for i, p := range m.Batch.Partition {
			c.Ints[i] = int64(p)
		}
	}},
	{"position", event.Int, func(m *Message, c *event.Column) { copy(c.Ints, m.Batch.Position) }},
	{"time", event.Time, func(m *Message, c *event.Column) { copy(c.Ints, m.Batch.Time) }},
	{"arrival", event.Time, func(m *Message, c *event.Column) { copy(c.Ints, m.Batch.Arrival) }},
	{"published", event.Time, func(m *Message, c *event.Column) { fillAll(c.Ints, m.Published) }},
	{"freshness", event.Float, func(m *Message, c *event.Column) {
		for i, t := range m.Batch.Time {
			c.Floats[i] = seconds(m.Published, t)
		}
	}},
	{"route", event.String, func(m *Message, c *event.Column) {
		for i, r := range m.Batch.Route {
			if r >= 0 && r < len(m.Source.Routes) {
				c.Strings[i] = m.Source.Routes[r]
			}
		}
	}},
	{"traceparent", event.String, func(m *Message, c *event.Column) { copy(c.Strings, m.Batch.Trace) }},
}

func fillAll[T any](vs []T, v T) {
	for i := range vs {
		vs[i] = v
	}
}

// seconds is the time from one instant to another.
func seconds(to, from int64) float64 { return (float64(to) - float64(from)) / 1e9 }

type answerVar struct {
	name string
	kind event.Kind
	fill func(a *Answers, c *event.Column)
}

// answers are the variables of each step.
var answers = []answerVar{
	{"model", event.String, ofArm(func(a *Arm) string { return a.Model })},
	{"version", event.String, ofArm(func(a *Arm) string { return a.Version })},
	{"digest", event.String, ofArm(func(a *Arm) string { return a.Digest })},
	{"role", event.String, ofArm(func(a *Arm) string { return a.Role })},
	{"rollout", event.String, ofArm(func(a *Arm) string { return a.Rollout })},
	{"path", event.String, func(a *Answers, c *event.Column) {
		for i, p := range a.Path {
			c.Strings[i] = p.String()
		}
	}},
	{"fallback", event.Bool, func(a *Answers, c *event.Column) {
		for i, p := range a.Path {
			c.Bools[i] = p.Fallback()
		}
	}},
	{"attempts", event.Int, ofCall(func(a *Call) int { return a.Attempts })},
	{"batch_rows", event.Int, ofCall(func(a *Call) int { return a.Rows })},
	{"flush_reason", event.String, func(a *Answers, c *event.Column) {
		for i := range c.Strings {
			if call, ok := a.call(i); ok {
				c.Strings[i] = call.Reason.String()
			} else {
				c.SetNull(i)
			}
		}
	}},
	{"shadow", event.Float, func(a *Answers, c *event.Column) {
		for i := range c.Floats {
			c.Floats[i] = math.NaN()
		}
		for _, s := range a.Shadow {
			c.Floats[s.Row] = s.Score
		}
		nullNaN(c)
	}},
	{"explained", event.Bool, func(a *Answers, c *event.Column) {
		for _, x := range a.Explained {
			c.Bools[x.Row] = true
		}
	}},
}

func nullNaN(c *event.Column) {
	for i, v := range c.Floats {
		if math.IsNaN(v) {
			c.SetNull(i)
			c.Floats[i] = 0
		}
	}
}

func (a *Answers) call(i int) (*Call, bool) {
	if len(a.Calls) == 0 || int(a.Called[i]) >= len(a.Calls) {
		return nil, false
	}
	return &a.Calls[a.Called[i]], true
}

// Fallback reports whether the answer is not the arm's own.
func (p Path) Fallback() bool { return p >= FallbackVersion && p <= FallbackValue }

func ofArm(f func(*Arm) string) func(*Answers, *event.Column) {
	return func(a *Answers, c *event.Column) {
		for i, at := range a.Arm {
			if int(at) < len(a.Arms) {
				c.Strings[i] = f(&a.Arms[at])
			}
		}
	}
}

func ofCall(f func(*Call) int) func(*Answers, *event.Column) {
	return func(a *Answers, c *event.Column) {
		for i := range c.Ints {
			if call, ok := a.call(i); ok {
				c.Ints[i] = int64(f(call))
			} else {
				c.SetNull(i)
			}
		}
	}
}

// condition is an expression over rows. It compiles anew where messages come with
// other columns, as they do when a pipeline has been changed.
type condition struct {
	source   string
	programs map[string]*bound
	key      []byte
	out      event.Column
	// known is whether the columns of any message so far had all names in it; err
	// says what was wrong with others.
	known bool
	err   error
}

// bound is an expression over messages with the same columns.
type bound struct {
	eval *expr.Evaluator
	vars []rowVar // in the order of the program's
	cols []*event.Column
	err  error
}

// newCondition returns the condition; "" holds for every row.
func newCondition(source string) *condition {
	return &condition{source: source, programs: map[string]*bound{}}
}

// rows says for which rows of m the condition holds. A row for which it has no
// value (null, or a fault such as a division by zero) is out, and so are those of
// messages that have not all of its names.
func (c *condition) rows(m *Message) []bool {
	n := m.Rows
	if c.source == "" {
		all := make([]bool, n)
		fillAll(all, true)
		c.known = true
		return all
	}
	p := c.bind(m)
	if p.err != nil {
		c.err = p.err
		return make([]bool, n)
	}
	c.known = true
	for i := range p.vars {
		p.cols[i].Reset(n)
		p.vars[i].fill(m, p.cols[i])
	}
	p.eval.Eval(p.cols, n, &c.out)
	holds := make([]bool, n)
	for i := range holds {
		holds[i] = c.out.Bools[i] && !c.out.IsNull(i)
	}
	return holds
}

// bind compiles the expression for messages with the columns of m.
func (c *condition) bind(m *Message) *bound {
	vars := variables(m)
	c.key = c.key[:0]
	for i := range vars {
		c.key = append(append(c.key, vars[i].name...), 0, byte(vars[i].kind))
	}
	if p := c.programs[string(c.key)]; p != nil {
		return p
	}
	p := &bound{}
	c.programs[string(c.key)] = p
	names := make([]expr.Var, len(vars))
	for i := range vars {
		names[i] = expr.Var{Name: vars[i].name, Kind: vars[i].kind}
	}
	program, err := expr.Compile(c.source, names, event.Bool)
	if err != nil {
		p.err = err
		return p
	}
	p.eval = program.Evaluator()
	for _, name := range program.Vars() {
		at := slices.IndexFunc(vars, func(v rowVar) bool { return v.name == name })
		p.vars = append(p.vars, vars[at])
		p.cols = append(p.cols, &event.Column{Name: name, Kind: vars[at].kind})
	}
	return p
}

// fault is the error of a condition that no message had the names for; nil where
// one had, or where there was none at all.
func (c *condition) fault() error {
	if c.known {
		return nil
	}
	return c.err
}
