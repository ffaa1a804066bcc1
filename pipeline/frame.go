package pipeline

import (
	"slices"
	"strconv"
	"unsafe"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/expr"
	"github.com/freshet-io/freshet/feature"
	"github.com/freshet-io/freshet/inference"
)

// frame is a batch on its way through a task: the records as fetched, the rows
// decoded from them, the columns computed, the model's answers, and at the end
// the records to publish. Frames are reused, so that a steady stream allocates nothing.
type frame struct {
	recs    *broker.Batch
	rows    contract.Rows
	columns []*event.Column // by Plan.columns; those of the contract point into rows
	own     []event.Column  // storage of the computed ones
	letters []letter
	skip    []bool // rows that became dead letters after decoding

	requests []*inference.Request // the first busy are in use
	busy     int
	fallback []bool // rows scored by the fallback; empty where none was

	change []byte // the state's changelog record
	trim   int64  // after the commit, state records before this are not needed; 0 for none

	arena       []byte
	route       []int            // of each row
	predictions int              // rows that were routed
	out         [][]event.Record // by output topic
	dead        []event.Record
	state       [1]event.Record
}

// letter is an event that could not be processed.
type letter struct {
	record   int32
	reason   string
	step     string
	attempts int
	err      error
}

// frameStep computes columns of a frame. It belongs to one task.
type frameStep interface {
	run(f *frame) (faults int)
}

// newFrame makes a frame with room for the plan's columns.
func (p *Plan) newFrame() *frame {
	f := &frame{columns: make([]*event.Column, len(p.columns)), own: make([]event.Column, len(p.columns))}
	for i, c := range p.columns {
		f.own[i].Name, f.own[i].Kind = c.name, c.kind
		f.columns[i] = &f.own[i]
	}
	return f
}

// bind points the contract's columns at the rows just decoded.
func (p *Plan) bind(f *frame) {
	for i, d := range p.decode {
		f.columns[d.column] = &f.rows.Columns[i]
	}
	for i, c := range p.columns {
		if c.name == timeName && c.kind == event.Time {
			f.own[i].Ints, f.own[i].Null = f.rows.Time, nil
			f.columns[i] = &f.own[i]
		}
	}
	f.skip = f.skip[:0]
	for range f.rows.N {
		f.skip = append(f.skip, false)
	}
	f.fallback = f.fallback[:0]
}

// windowsStep keeps the windows of one key.
type windowsStep struct {
	plan    *windowsPlan
	windows *feature.Windows
	sources []int        // columns that feed the windows, by Windows.Fields
	kinds   []event.Kind // what the windows want of them
	fields  []*event.Column
	numbers []event.Column // integer columns as the floats that windows take
	out     []*event.Column
	delta   []byte
}

func newWindowsStep(p *Plan, g *windowsPlan) (*windowsStep, error) {
	w, err := feature.NewWindows(feature.Config{Windows: g.windows, Retain: p.Spec.Source.timeRule(p.Contract).Lateness})
	if err != nil {
		return nil, err
	}
	s := &windowsStep{plan: g, windows: w, out: make([]*event.Column, len(g.out))}
	for _, f := range w.Fields() {
		s.sources = append(s.sources, slices.IndexFunc(p.columns, func(c columnDef) bool { return c.name == f.Name }))
		s.kinds = append(s.kinds, f.Kind)
	}
	s.fields = make([]*event.Column, len(s.sources))
	s.numbers = make([]event.Column, len(s.sources))
	return s, nil
}

func (s *windowsStep) run(f *frame) int {
	for i, c := range s.sources {
		s.fields[i] = f.columns[c]
		if s.kinds[i] == event.Float && f.columns[c].Kind == event.Int {
			n := &s.numbers[i]
			n.Kind = event.Float
			n.Reset(f.rows.N)
			for r, v := range f.columns[c].Ints {
				n.Floats[r] = float64(v)
			}
			n.Null = f.columns[c].Null
			s.fields[i] = n
		}
	}
	for i, c := range s.plan.out {
		s.out[i] = f.columns[c]
	}
	s.delta = s.windows.Update(&feature.Batch{N: f.rows.N, Keys: f.rows.Key, Times: f.rows.Time, Fields: s.fields}, s.out, s.delta[:0])
	return 0
}

// exprStep evaluates an expression into a column.
type exprStep struct {
	plan *exprPlan
	eval *expr.Evaluator
	vars []*event.Column
	out  *event.Column // nil: the plan's column
}

func newExprStep(x *exprPlan) *exprStep {
	return &exprStep{plan: x, eval: x.program.Evaluator(), vars: make([]*event.Column, len(x.vars))}
}

func (s *exprStep) run(f *frame) int {
	for i, c := range s.plan.vars {
		s.vars[i] = f.columns[c]
	}
	out := s.out
	if out == nil {
		out = f.columns[s.plan.out]
	}
	return len(s.eval.Eval(s.vars, f.rows.N, out))
}

// lookupStep reads columns of a static table.
type lookupStep struct {
	plan *lookupPlan
	out  []*event.Column
	keys []string
	text []byte
}

func (s *lookupStep) run(f *frame) int {
	key := f.columns[s.plan.key]
	keys := key.Strings
	if key.Kind == event.Int {
		keys = s.format(key.Ints)
	}
	for i, c := range s.plan.out {
		s.out[i] = f.columns[c]
	}
	s.plan.table.Lookup(keys, f.rows.N, s.out)
	missing := 0
	for i, c := range s.out {
		if c.Null == nil {
			continue
		}
		for r, null := range c.Null {
			if !null {
				continue
			}
			missing++
			if d := s.plan.defaults[i]; d != nil {
				d.set(c, r)
			}
		}
	}
	return missing
}

// format writes integer keys as texts that live until the next call.
func (s *lookupStep) format(ints []int64) []string {
	s.keys, s.text = s.keys[:0], s.text[:0]
	if need := 20 * len(ints); cap(s.text) < need {
		s.text = make([]byte, 0, need) // never grows below, so that the strings stay valid
	}
	for _, v := range ints {
		from := len(s.text)
		s.text = strconv.AppendInt(s.text, v, 10)
		b := s.text[from:]
		s.keys = append(s.keys, unsafe.String(&b[0], len(b)))
	}
	return s.keys
}

// set makes the literal the value of a row that has none.
func (l *Literal) set(c *event.Column, row int) {
	c.Null[row] = false
	switch l.Kind {
	case event.Float:
		c.Floats[row] = l.Float
	case event.Bool:
		c.Bools[row] = l.Bool
	case event.String:
		c.Strings[row] = l.String
	}
}
