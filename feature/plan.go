package feature

import (
	"fmt"
	"hash/fnv"
	"math"
	"slices"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// formatVersion is the first byte of deltas and snapshots.
const formatVersion = 3

// maxFields bounds the columns of one Windows: null marks lie in one word.
const maxFields = 64

// plan is the compiled definition: windows that can share state do.
type plan struct {
	config  Config
	join    Join
	ops     []op
	columns []column // of an entry
	rows    []Field  // columns that Update wants of rows
	labels  []Field  // columns that Update wants of labels
	spans   []span   // ascending by delay, then length
	groups  []group  // spans with one delay, ascending

	heads     int // slots of each kind that a key has
	sums      int
	counts    int
	moments   int
	firsts    int
	extremes  []extreme
	lasts     []last
	distincts bool
	record    record

	masked  bool   // an entry carries a word of null marks
	ids     bool   // an entry carries two words of its event's id
	strings bool   // there is a String column
	maskAt  int    // place of the null marks in an entry
	idAt    int    // place of the id in an entry
	stride  int    // words of an entry: time, columns, null marks, id
	horizon uint64 // age at which an entry is dropped
	print   uint64
}

// record is where the parts of a key's state lie in its record in the index: behind
// the key its ring, then heads, counts, firsts and lasts of 32 bits each, then the rest.
type record struct{ small, sums, moments, queues, clock, size int }

// op is one window, compiled: where its state lies in a key's arrays.
type op struct {
	agg  Aggregate
	kind event.Kind
	span int // index into plan.spans
	col  int // index into plan.columns; -1 for rows
	slot int // in the array that belongs to agg
	self bool
	// prior is the slot in plan.lasts of the value before the newest, for
	// SinceLast of a column where the row itself is in the window.
	prior int
}

// column is one value of an entry.
type column struct {
	Field
	label  bool
	source int    // index into plan.rows or plan.labels
	begin  uint64 // a label's word before it is known
	null   bool   // that word is no value
}

// span is one window's extent in time with the accumulators that belong to it.
type span struct {
	delay, over, far uint64
	group            int
	lead             int // slot in heads of the near end; -1 where that is the newest entry
	sums             []accumulator
	counts           []accumulator
	dist             []accumulator // also slots of counts
	moments          []accumulator
	firsts           []accumulator
	more             bool // it has counts, distinct values or moments
}

// group is the spans that begin at the same age, so that an entry enters all of them at once.
type group struct {
	delay    uint64
	lead     int // as span.lead
	from, to int // its spans
	distinct []int
	extremes []int
	lasts    []int
}

// accumulator is one per-key slot fed by a column.
type accumulator struct{ col, slot int }

// extreme is one monotonic queue, shared by all windows of a group on the column.
type extreme struct {
	col   int
	max   bool
	group int
	span  int // the longest span that reads it
}

// last tracks a column's newest value, or the one before it.
type last struct {
	col, group int
	prior      bool
	newest     int // a prior's newest value
}

func newPlan(c Config) (*plan, error) {
	p := &plan{config: Config{Windows: slices.Clone(c.Windows), Retain: c.Retain, Labels: c.Labels, Unlabelled: slices.Clone(c.Unlabelled)}, join: c.Labels}
	switch {
	case len(c.Windows) == 0:
		return nil, errkind.New(errkind.Config, "no windows: give at least one")
	case c.Retain < 0:
		return nil, errkind.Errorf(errkind.Config, "retain %v: must not be negative", c.Retain)
	case c.Labels > ByKey:
		return nil, errkind.Errorf(errkind.Config, "unknown join of labels %d", c.Labels)
	}
	for i := range c.Windows {
		w := &c.Windows[i]
		if err := w.check(); err != nil {
			return nil, err
		}
		if err := w.checkJoin(c.Labels); err != nil {
			return nil, err
		}
		p.spans = append(p.spans, span{delay: uint64(w.Delay), over: uint64(w.Over), far: uint64(w.Delay + w.Over)})
		p.horizon = max(p.horizon, uint64(w.Delay+w.Over))
	}
	if p.horizon > math.MaxInt64-uint64(c.Retain) {
		return nil, errkind.Errorf(errkind.Config, "the longest window and retain %v together are beyond 292 years", c.Retain)
	}
	p.horizon += uint64(c.Retain)
	p.order()
	begins, err := unlabelled(c)
	if err != nil {
		return nil, err
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "freshet windows %d retain %d join %d\n", formatVersion, c.Retain, c.Labels)
	for i := range c.Windows {
		w := &c.Windows[i]
		fmt.Fprintf(h, "%v %q %v %d %d %v %x\n", w.Aggregate, w.Field, w.Kind, w.Over, w.Delay, w.Label, math.Float64bits(begins[i]))
		p.add(w, begins[i])
	}
	if len(p.columns) > maxFields {
		return nil, errkind.Errorf(errkind.Config, "windows use %d fields: at most %d are possible for one key", len(p.columns), maxFields)
	}
	p.print = h.Sum64()
	p.number()
	p.layout()
	return p, nil
}

// checkJoin reports windows that the join of labels cannot serve.
func (w *Window) checkJoin(j Join) error {
	switch {
	case !w.Exact():
		return errkind.Errorf(errkind.Config, "window %q: %v is not computed from rows", w.Name, w.Aggregate)
	case w.Label && j == NoLabels:
		return errkind.Errorf(errkind.Config, "window %q: is over labels, but none are joined", w.Name)
	case w.Label && j == ByEvent && w.Field == "":
		return errkind.Errorf(errkind.Config, "window %q: %v over labels of events needs a field of the labels", w.Name, w.Aggregate)
	case !w.Label && j == ByKey:
		return errkind.Errorf(errkind.Config, "window %q: where labels are joined by key, every window is over labels", w.Name)
	}
	return nil
}

// unlabelled gives each window the value that a row without a label counts with; NaN for none.
func unlabelled(c Config) ([]float64, error) {
	begins := make([]float64, len(c.Windows))
	n := 0
	for i := range c.Windows {
		begins[i] = math.NaN()
		if !c.Windows[i].Label {
			continue
		}
		if n < len(c.Unlabelled) && c.Labels == ByEvent {
			if v := c.Unlabelled[n]; v-v == 0 {
				begins[i] = v
			}
		}
		if !math.IsNaN(begins[i]) && c.Windows[i].Kind == event.String {
			return nil, errkind.Errorf(errkind.Config, "window %q: a text cannot have the number %v without a label", c.Windows[i].Name, begins[i])
		}
		n++
	}
	if len(c.Unlabelled) != 0 && len(c.Unlabelled) != n {
		return nil, errkind.Errorf(errkind.Config, "%d values for rows without a label, but %d windows over labels", len(c.Unlabelled), n)
	}
	return begins, nil
}

// order sorts the spans and puts them into groups.
func (p *plan) order() {
	slices.SortFunc(p.spans, func(a, b span) int {
		if a.delay != b.delay {
			return cmpUint(a.delay, b.delay)
		}
		return cmpUint(a.over, b.over)
	})
	p.spans = slices.CompactFunc(p.spans, func(a, b span) bool { return a.delay == b.delay && a.over == b.over })
	p.heads = len(p.spans)
	for i := range p.spans {
		sp := &p.spans[i]
		if n := len(p.groups); n == 0 || p.groups[n-1].delay != sp.delay {
			g := group{delay: sp.delay, lead: -1, from: i}
			if sp.delay > 0 {
				g.lead = p.heads
				p.heads++
			}
			p.groups = append(p.groups, g)
		}
		sp.group = len(p.groups) - 1
		g := &p.groups[sp.group]
		sp.lead, g.to = g.lead, i+1
	}
}

func cmpUint(a, b uint64) int {
	if a < b {
		return -1
	}
	return 1
}

// add compiles one window, sharing whatever slots exist already. The slots of
// accumulators are numbered later, span by span.
func (p *plan) add(w *Window, begin float64) {
	s := slices.IndexFunc(p.spans, func(s span) bool { return s.delay == uint64(w.Delay) && s.over == uint64(w.Over) })
	sp := &p.spans[s]
	g := &p.groups[sp.group]
	o := op{agg: w.Aggregate, kind: w.Kind, span: s, col: -1, slot: -1, prior: -1, self: w.Delay == 0 && p.join != ByKey}
	if w.Field != "" {
		c := column{Field: Field{w.Field, w.Kind}, label: w.Label, null: true}
		if w.Label {
			c.source = indexOrAdd(&p.labels, c.Field)
			c.begin, c.null = beginWord(w.Kind, begin)
		} else {
			c.source = indexOrAdd(&p.rows, c.Field)
		}
		o.col = indexOrAdd(&p.columns, c)
	}
	switch a := (accumulator{col: o.col}); w.Aggregate {
	case Count, Rate:
		if o.col >= 0 {
			indexOrAdd(&sp.counts, a)
		}
	case Sum, Mean:
		indexOrAdd(&sp.sums, a)
	case StdDev:
		indexOrAdd(&sp.moments, a)
	case Distinct:
		indexOrAdd(&sp.dist, a)
		indexOrAdd(&g.distinct, o.col)
	case First:
		indexOrAdd(&sp.firsts, a)
	case Min, Max:
		o.slot = slices.IndexFunc(p.extremes, func(e extreme) bool {
			return e.col == o.col && e.max == (w.Aggregate == Max) && e.group == sp.group
		})
		if o.slot < 0 {
			o.slot = len(p.extremes)
			p.extremes = append(p.extremes, extreme{col: o.col, max: w.Aggregate == Max, group: sp.group})
			g.extremes = append(g.extremes, o.slot)
		}
		p.extremes[o.slot].span = max(p.extremes[o.slot].span, s)
	case Last, SinceLast:
		if o.col < 0 {
			break
		}
		// The prior is brought up to date before the newest: it lies before it.
		if w.Aggregate == SinceLast && o.self {
			o.prior = indexOrAdd(&p.lasts, last{col: o.col, group: sp.group, prior: true})
			indexOrAdd(&g.lasts, o.prior)
		}
		o.slot = indexOrAdd(&p.lasts, last{col: o.col, group: sp.group})
		indexOrAdd(&g.lasts, o.slot)
	}
	p.ops = append(p.ops, o)
}

// number gives the accumulators of each span consecutive slots.
func (p *plan) number() {
	for i := range p.groups {
		// All priors first, whichever window asked for the newest value before.
		slices.SortStableFunc(p.groups[i].lasts, func(a, b int) int {
			switch pa, pb := p.lasts[a].prior, p.lasts[b].prior; {
			case pa == pb:
				return 0
			case pa:
				return -1
			}
			return 1
		})
	}
	for i := range p.lasts {
		if l := &p.lasts[i]; l.prior {
			l.newest = slices.Index(p.lasts, last{col: l.col, group: l.group})
		}
	}
	for s := range p.spans {
		sp := &p.spans[s]
		for _, l := range []struct {
			list []accumulator
			n    *int
		}{{sp.sums, &p.sums}, {sp.counts, &p.counts}, {sp.dist, &p.counts}, {sp.moments, &p.moments}, {sp.firsts, &p.firsts}} {
			for i := range l.list {
				l.list[i].slot = *l.n
				*l.n++
			}
		}
		sp.more = len(sp.counts)+len(sp.dist)+len(sp.moments) > 0
		p.distincts = p.distincts || len(sp.dist) > 0
	}
	for i := range p.ops {
		o := &p.ops[i]
		sp := &p.spans[o.span]
		var list []accumulator
		switch o.agg {
		case Count, Rate:
			list = sp.counts
		case Distinct:
			list = sp.dist
		case Sum, Mean:
			list = sp.sums
		case StdDev:
			list = sp.moments
		case First:
			list = sp.firsts
		}
		for _, a := range list {
			if a.col == o.col {
				o.slot = a.slot
			}
		}
	}
}

// layout places the words of an entry.
func (p *plan) layout() {
	for _, c := range p.columns {
		p.masked = p.masked || needsMask(c.Kind)
		p.strings = p.strings || c.Kind == event.String
	}
	p.stride = 1 + len(p.columns)
	p.maskAt = p.stride
	if p.masked {
		p.stride++
	}
	p.idAt = p.stride
	if p.ids = p.join == ByEvent && len(p.labels) > 0; p.ids {
		p.stride += 2
	}
	r := &p.record
	r.small = p.heads + p.counts + p.firsts + len(p.lasts)
	r.sums = smallAt + (r.small+1)/2
	r.moments = r.sums + sumWords*p.sums
	r.queues = r.moments + momentsWords*p.moments
	r.clock = r.queues + queueWords*len(p.extremes)
	r.size = r.clock
	if p.join == ByKey {
		r.size++
	}
}

// beginWord is a label's word before the label is known.
func beginWord(k event.Kind, v float64) (word uint64, null bool) {
	switch null = math.IsNaN(v); {
	case k == event.Float:
		return floatWord(v), v-v != 0
	case null:
		return 0, true
	case k == event.Bool:
		if v != 0 {
			return 1, false
		}
		return 0, false
	}
	return uint64(int64(v)), false
}

func indexOrAdd[T comparable](s *[]T, v T) int {
	if i := slices.Index(*s, v); i >= 0 {
		return i
	}
	*s = append(*s, v)
	return len(*s) - 1
}

// needsMask reports whether a kind's words cannot express null by themselves:
// a Float's null is NaN, a String's is the id 0.
func needsMask(k event.Kind) bool { return k != event.Float && k != event.String }
