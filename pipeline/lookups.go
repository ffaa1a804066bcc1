package pipeline

import (
	"context"
	"strconv"
	"time"
	"unsafe"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
	"github.com/freshet-io/freshet/lookup"
)

// LookupOpener opens the server of a table whose spec has a URL.
type LookupOpener func(ctx context.Context, t *Table) (lookup.Driver, error)

// rowSource is what a look-up asks: a server, a topic held in memory, or a file.
type rowSource interface {
	// Lookup is lookup.Table.Lookup.
	Lookup(ctx context.Context, keys []string, n int, out []*event.Column, at []int64, state []lookup.Outcome) error
}

// lookupStep reads fields of a table. It belongs to one task.
type lookupStep struct {
	plan      *lookupPlan
	source    rowSource
	counters  *tableCounters
	partition int
	out       []*event.Column
	keys      []string
	text      []byte
	at        []int64
	state     []lookup.Outcome
}

func (t *task) newLookupStep(l *lookupPlan) *lookupStep {
	return &lookupStep{plan: l, source: t.p.tables[l], counters: t.p.counters.table(l.spec.Name), partition: t.claim.Partition(), out: make([]*event.Column, len(l.out))}
}

// run fills the fields, says which rows were there, and how old they are.
func (s *lookupStep) run(ctx context.Context, f *frame) (missing int, err error) {
	n := f.rows.N
	s.keyRows(f)
	for i, c := range s.plan.out {
		s.out[i] = f.columns[c]
	}
	s.at, s.state = sized(s.at, n), sized(s.state, n)
	if n > 0 {
		if err := s.ask(ctx, f, n); err != nil {
			return 0, err
		}
	} else {
		for i, c := range s.out {
			c.Kind = s.plan.kinds[i]
			c.Reset(0)
		}
	}
	found := f.columns[s.plan.found]
	found.Reset(n)
	for row, o := range s.state[:n] {
		if found.Bools[row] = o == lookup.Found; o != lookup.Found {
			missing++
		}
	}
	for i, c := range s.out {
		if d := s.plan.defaults[i]; d != nil && c.Null != nil {
			for row, null := range c.Null {
				if null {
					d.set(c, row)
				}
			}
		}
	}
	s.times(f, n)
	s.count(n)
	return missing, nil
}

// ask looks up, and does with a failure what the table's policy says.
func (s *lookupStep) ask(ctx context.Context, f *frame, n int) error {
	err := s.source.Lookup(ctx, s.keys, n, s.out, s.at, s.state)
	for err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch s.plan.spec.OnError {
		case LookupDeadLetter:
			for row, o := range s.state[:n] {
				if o == lookup.Failed && !f.skip[row] {
					f.refuse(row, s.partition, "lookup", "features", 1, errkind.Errorf(errkind.Of(err), "look up in table %q: %w", s.plan.spec.Name, err))
				}
			}
			return nil
		case LookupWait:
			w, ok := s.source.(*lookup.Table)
			if !ok || !lookup.MayPass(err) {
				return errkind.Errorf(errkind.Of(err), "look up in table %q: %w", s.plan.spec.Name, err)
			}
			if err := w.Wait(ctx); err != nil {
				return err
			}
			err = s.source.Lookup(ctx, s.keys, n, s.out, s.at, s.state)
		default:
			return nil
		}
	}
	return nil
}

// times fills the column of the rows' own time and those of their age.
func (s *lookupStep) times(f *frame, n int) {
	if s.plan.at < 0 {
		return
	}
	at := f.columns[s.plan.at]
	at.Reset(n)
	for row := range n {
		if s.state[row] != lookup.Found || s.at[row] == lookup.Unknown {
			at.SetNull(row)
			continue
		}
		at.Ints[row] = s.at[row]
	}
	for _, c := range s.plan.ages {
		age := f.columns[c]
		age.Reset(n)
		for row := range n {
			if at.IsNull(row) {
				age.SetNull(row)
				continue
			}
			age.Floats[row] = time.Duration(f.rows.Time[row] - at.Ints[row]).Seconds()
		}
	}
}

// keyRows makes texts of the keys; a row without one has the empty key.
func (s *lookupStep) keyRows(f *frame) {
	key := f.columns[s.plan.key]
	n := f.rows.N
	if key.Kind == event.Int {
		s.format(key.Ints[:n])
	} else {
		s.keys = append(s.keys[:0], key.Strings[:n]...)
	}
	for row := range s.keys {
		if key.IsNull(row) {
			s.keys[row] = ""
		}
	}
}

// format writes integer keys as texts that live until the next call.
func (s *lookupStep) format(ints []int64) {
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
}

// fileTable is a static table as a source of rows.
type fileTable struct {
	table *feature.Table
	times map[string]int64 // by key; nil where the rows have no time
}

func openFileTable(path string, l *lookupPlan) (*fileTable, error) {
	t, err := feature.LoadTable(path, l.spec.Key, l.fields)
	if err != nil {
		return nil, err
	}
	f := &fileTable{table: t}
	if l.spec.Time != "" {
		f.times, err = feature.LoadTimes(path, l.spec.Key, l.spec.Time)
	}
	return f, err
}

// Lookup never fails.
func (f *fileTable) Lookup(_ context.Context, keys []string, n int, out []*event.Column, at []int64, state []lookup.Outcome) error {
	f.table.Lookup(keys, n, out)
	for i, k := range keys[:n] {
		state[i], at[i] = lookup.Missing, lookup.Unknown
		if f.table.Has(k) {
			state[i] = lookup.Found
			if t, ok := f.times[k]; ok {
				at[i] = t
			}
		}
	}
	return nil
}

// openTables opens what the plan looks up in. What it opened is closed by closeTables.
func (p *Pipeline) openTables(ctx context.Context) error {
	p.tables = map[*lookupPlan]rowSource{}
	for _, l := range p.plan.lookups {
		switch {
		case l.spec.File != "":
			t, err := openFileTable(p.plan.Spec.path(l.spec.File), l)
			if err != nil {
				return err
			}
			p.tables[l] = t
		case l.spec.Topic != "":
			t, err := p.openTopicTable(ctx, l)
			if err != nil {
				return err
			}
			p.tables[l] = t
			p.closers = append(p.closers, t.close)
		default:
			t, err := p.openServer(ctx, l)
			if err != nil {
				return err
			}
			p.tables[l] = t
			p.counters.table(l.spec.Name).serve(t)
			p.closers = append(p.closers, t.Close)
		}
	}
	return nil
}

func (p *Pipeline) openServer(ctx context.Context, l *lookupPlan) (*lookup.Table, error) {
	if p.openLookup == nil {
		return nil, errkind.Errorf(errkind.Unsupported, "table %q is on a server, and this program cannot open one", l.spec.Name)
	}
	spec := *l.spec
	spec.Fields = nil
	for i, f := range l.fields {
		spec.Fields = append(spec.Fields, TableField{Name: f, Kind: l.kinds[i]})
	}
	d, err := p.openLookup(ctx, &spec)
	if err != nil {
		return nil, errkind.Errorf(errkind.Of(err), "open table %q: %w", l.spec.Name, err)
	}
	rows := l.spec.CacheRows
	if rows == 0 {
		rows = -1 // none, where lookup's own zero is its default
	}
	t := lookup.New(d, lookup.Config{Rows: rows, TTL: l.spec.CacheTTL, Timeout: l.spec.Timeout, Logger: p.log})
	if err := t.Check(ctx); err != nil && !lookup.MayPass(err) {
		_ = t.Close() // the check's error says what matters
		return nil, errkind.Errorf(errkind.Of(err), "table %q: %w", l.spec.Name, err)
	}
	return t, nil
}
