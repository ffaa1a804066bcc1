package pipeline

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/expr"
	"github.com/freshet-io/freshet/feature"
)

// frame is a batch on its way through a task: the rows that came in, the columns
// computed, the model's answers, and at the end the records to publish. Frames
// are reused, so that a steady stream allocates nothing.
type frame struct {
	rows contract.Rows
	// recs are the records that the rows were decoded from; nil where rows of
	// several inputs were merged, and origins then say where their events lie.
	recs      *broker.Batch
	origins   []origin
	keys      []string // the stage's key of each row
	labels    labelRows
	series    feature.Series  // the rows of a resample step
	spare     contract.Rows   // what rows was before it
	columns   []*event.Column // by Plan.columns; those that came in point into rows
	own       []event.Column  // storage of the computed ones
	letters   []letter
	skip      []bool // rows that became dead letters after decoding
	consumed  int    // records read for it
	next      int64  // the claim's position behind it
	watermark int64  // every row with an earlier time is in this frame or one before, but for late ones

	scorings []scoring // by infer step

	change []byte // the state's changelog record
	stated int    // bytes of change in front of what is sent to the next stage
	number uint64 // that of the record, from 1 on; 0 without state
	trim   uint64 // after the commit, state records before this one are not needed; 0 for none

	arena       []byte
	text        []byte           // of merged rows
	route       []int            // of each row
	results     [][]byte         // of each row that was routed, its result's id
	predictions int              // rows that were routed
	recorded    []byte           // storage of records
	records     []event.Record   // of the predictions
	out         [][]event.Record // by output topic
	moved       []moved          // to the next stage
	dead        []event.Record
	state       []event.Record // change, in as many records as the broker's limit asks for
}

// origin is where the event of a merged row lies on the source topic.
type origin struct {
	partition int32
	position  int64
	trace     event.Headers // traceparent and tracestate, where it has them
}

// labelRows are the labels of a frame, as windows take them.
type labelRows struct {
	feature.Labels
	columns []event.Column
}

// letter is an event that could not be processed. Without rec, it is the one at from.
type letter struct {
	rec       *event.Record
	from      origin
	partition int
	label     bool // it is a label, not an event
	reason    string
	step      string
	attempts  int
	err       error
}

// same reports whether both are of one event and for one reason.
func (l *letter) same(o *letter) bool {
	return l.rec == o.rec && l.from.partition == o.from.partition && l.from.position == o.from.position &&
		l.label == o.label && l.reason == o.reason
}

// refuse makes a dead letter of a row.
func (f *frame) refuse(row int, partition int, reason, step string, attempts int, err error) {
	if f.skip[row] {
		return // it is one already
	}
	f.skip[row] = true
	l := letter{partition: partition, reason: reason, step: step, attempts: attempts, err: err}
	if f.recs != nil {
		l.rec = &f.recs.Records[f.rows.Index[row]]
	} else {
		l.from = f.origins[row]
		l.partition = int(l.from.partition)
	}
	// A reading may give out several rows, side by side: it is one event all the same.
	if n := len(f.letters); n == 0 || !f.letters[n-1].same(&l) {
		f.letters = append(f.letters, l)
	}
}

// place is where the event of a row lies, with the headers that its result takes over.
func (f *frame) place(row, partition int) (int, int64, event.Headers) {
	if f.recs != nil {
		rec := &f.recs.Records[f.rows.Index[row]]
		return partition, rec.Position, rec.Headers
	}
	o := &f.origins[row]
	return int(o.partition), o.position, o.trace
}

// reset makes the frame ready for another intake.
func (f *frame) reset() {
	f.recs, f.consumed, f.records = nil, 0, f.records[:0]
	f.letters = f.letters[:0]
	f.rows.N = 0
	f.origins = f.origins[:0]
	f.text = f.text[:0]
	f.labels.Before, f.labels.IDs, f.labels.Times = f.labels.Before[:0], f.labels.IDs[:0], f.labels.Times[:0]
}

// frameStep computes columns of a frame. It belongs to one task.
type frameStep interface {
	// run fills the step's columns. An error ends the task.
	run(ctx context.Context, f *frame) (faults int, err error)
}

// stateStep is what a task keeps between frames.
type stateStep interface {
	keyed() feature.State
	// change is the change record of the frame at hand; empty for none.
	change() []byte
	// definition describes the state for later programs; two alike can read each other's.
	definition() []byte
	// fresh makes the same state, empty.
	fresh() (feature.State, error)
	// reset makes the step's own state empty.
	reset() error
	// pages is what keeps keys in a store; nil without.
	pages() *pager
	// name tells users which step it is.
	name() string
}

// newFrame makes a frame with room for the plan's columns.
func (p *Plan) newFrame() *frame {
	f := &frame{columns: make([]*event.Column, len(p.columns)), own: make([]event.Column, len(p.columns)), scorings: make([]scoring, len(p.infers))}
	for i, c := range p.columns {
		f.own[i].Name, f.own[i].Kind = c.name, c.kind
		f.columns[i] = &f.own[i]
	}
	return f
}

// bind points the columns that came in at the rows.
func (st *stagePlan) bind(p *Plan, f *frame) {
	for i, c := range st.inputs {
		f.columns[c] = &f.rows.Columns[i]
	}
	if p.series != nil && st.index == 0 {
		for i, c := range p.series.out {
			f.columns[c] = f.series.Columns[i]
		}
		if c := p.series.flag; c >= 0 {
			f.own[c].Bools, f.own[c].Null = f.series.Filled, nil
			f.columns[c] = &f.own[c]
		}
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
}

// windowsStep keeps windows of one key.
type windowsStep struct {
	plan    *windowsPlan
	windows feature.Aggregator
	sources []int // columns that feed the windows, by Aggregator.Fields
	labels  []int // fields of the stage's labels that feed them, by Aggregator.LabelFields
	batch   feature.Batch
	out     []*event.Column
	delta   []byte
	pager   *pager // nil where all keys stay in memory
}

func newWindowsStep(p *Plan, g *windowsPlan) (*windowsStep, error) {
	w, err := feature.New(g.config)
	if err != nil {
		return nil, err
	}
	s := &windowsStep{plan: g, windows: w, out: make([]*event.Column, len(g.out))}
	for _, f := range w.Fields() {
		s.sources = append(s.sources, slices.IndexFunc(p.columns, func(c columnDef) bool { return c.name == f.Name }))
	}
	s.batch.Fields = make([]*event.Column, len(s.sources))
	s.batch.Labels.Fields = make([]*event.Column, len(w.LabelFields()))
	return s, nil
}

func (s *windowsStep) keyed() feature.State { return s.windows }
func (s *windowsStep) change() []byte       { return s.delta }
func (s *windowsStep) pages() *pager        { return s.pager }
func (s *windowsStep) definition() []byte   { return s.windows.Definition() }
func (s *windowsStep) fresh() (feature.State, error) {
	return feature.New(s.plan.config)
}

func (s *windowsStep) reset() (err error) {
	if s.windows, err = feature.New(s.plan.config); err != nil || s.pager == nil {
		return err
	}
	old := s.pager
	if err := old.clear(); err != nil {
		return err
	}
	s.pager = newPager(s.windows.(pagedState), old.space, old.budget, time.Duration(old.life))
	return nil
}

func (s *windowsStep) name() string {
	names := make([]string, len(s.plan.config.Windows))
	for i := range names {
		names[i] = s.plan.config.Windows[i].Name
	}
	if len(names) > 3 {
		return fmt.Sprintf("%s, %s and %d more windows", names[0], names[1], len(names)-2)
	}
	return strings.Join(names, ", ")
}

func (s *windowsStep) run(_ context.Context, f *frame) (int, error) {
	b := &s.batch
	b.N, b.Keys, b.Times, b.IDs = f.rows.N, f.keys, f.rows.Time, f.rows.ID
	for i, c := range s.sources {
		b.Fields[i] = f.columns[c]
	}
	if s.plan.config.Labels != feature.NoLabels {
		b.Labels.Before, b.Labels.IDs, b.Labels.Times = f.labels.Before, f.labels.IDs, f.labels.Times
		for i, c := range s.labels {
			b.Labels.Fields[i] = &f.labels.columns[c]
		}
	}
	for i, c := range s.plan.out {
		s.out[i] = f.columns[c]
	}
	if s.pager != nil {
		if err := s.pager.prepare(b); err != nil {
			return 0, err
		}
	}
	s.delta = s.windows.Update(b, s.out, s.delta[:0])
	for i, d := range s.plan.defaults {
		if c := s.out[i]; d != nil && c.Null != nil {
			for row, null := range c.Null {
				if null {
					d.set(c, row)
				}
			}
		}
	}
	return 0, nil
}

// maskStep keeps the values of the rows for which a condition holds.
type maskStep struct{ plan *maskPlan }

func (s *maskStep) run(_ context.Context, f *frame) (int, error) {
	cond, out := f.columns[s.plan.cond], f.columns[s.plan.out]
	out.Reset(f.rows.N)
	var from *event.Column
	if s.plan.field >= 0 {
		from = f.columns[s.plan.field]
		out.Copy(from)
	} else {
		for row := range out.Ints {
			out.Ints[row] = 1
		}
	}
	for row := range f.rows.N {
		if cond.IsNull(row) || !cond.Bools[row] {
			out.SetNull(row)
		}
	}
	return 0, nil
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

func (s *exprStep) run(_ context.Context, f *frame) (int, error) { return s.fill(f), nil }

// fill computes the column and returns how many rows have no value because of a fault.
func (s *exprStep) fill(f *frame) int {
	for i, c := range s.plan.vars {
		s.vars[i] = f.columns[c]
	}
	out := s.out
	if out == nil {
		out = f.columns[s.plan.out]
	}
	return len(s.eval.Eval(s.vars, f.rows.N, out))
}

// set makes the literal the value of a row that has none.
func (l *Literal) set(c *event.Column, row int) {
	c.Null[row] = false
	switch l.Kind {
	case event.Float:
		if c.Kind == event.Int {
			c.Ints[row] = int64(l.Float)
		} else {
			c.Floats[row] = l.Float
		}
	case event.Bool:
		c.Bools[row] = l.Bool
	case event.String:
		c.Strings[row] = l.String
	}
}
