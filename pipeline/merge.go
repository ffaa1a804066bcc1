package pipeline

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/event"
)

// Rows of several inputs are merged by event time. Each input is a lane: a
// sequence with a watermark, the time before which all of its rows have come. A
// row may go when no other lane can still bring one that belongs before it:
// because the lane's next row is not earlier, because its watermark is later
// than the row, or because the lane was found to have nothing left after the row
// had been taken in. So one that is silent holds nobody back, and how fast each
// input is read does not change the order of events that were sent in order.

// lane is one input of a merge.
type lane struct {
	labels bool
	index  int // among its kind
	// ready are rows in their order, from at on.
	ready []pick
	at    int
	// held are rows of an ordered lane that an earlier one may still precede.
	held []pick
	// watermark: every row with an earlier time has come.
	watermark int64
	// idle is when the lane was last found to have nothing left.
	idle time.Time
	scan int64 // the position behind the records taken in
	// from is where a restored lane goes on: the record, and the first of its rows not yet done.
	from    int64
	fromRow int32
	// parked: rows from this position on were left on the topic; -1 for none.
	parked int64
	// number is that of the last record taken in: a task that starts again may
	// have published some twice.
	number uint64
	// told: the faulty labels before this position have their dead letters.
	told int64
}

func newLane(labels bool, index int) *lane {
	return &lane{labels: labels, index: index, watermark: math.MinInt64, parked: -1}
}

// pick is a row of a block.
type pick struct {
	b   *block
	row int32
}

func (p pick) time() int64 { return p.b.rows.Time[p.row] }

// block is a run of rows that came in together. It is free when all have gone.
type block struct {
	rows    contract.Rows
	keys    []string      // of the stage, or what labels are joined by; nil where they are the events' own
	origins []origin      // of events
	order   *event.Column // of the rows; nil without
	at      int64         // the position of the record that held all of them; -1 where each has its own
	number  uint64        // of that record; before is the number of the lane's record before
	before  uint64
	taken   time.Time // when it was taken in
	left    int
	done    func() // gives back what the rows alias
}

// position is that of the record that held the row.
func (p pick) position() int64 {
	if p.b.at >= 0 {
		return p.b.at
	}
	return p.b.origins[p.row].position
}

// compare orders rows by time and, within an instant, by the order column.
func (p pick) compare(q pick) int {
	if c := cmp.Compare(p.time(), q.time()); c != 0 {
		return c
	}
	if p.b.order == nil || q.b.order == nil {
		return 0
	}
	return compareCells(p.b.order, int(p.row), q.b.order, int(q.row))
}

// compareCells orders two values of one kind, nulls first.
func compareCells(a *event.Column, i int, b *event.Column, j int) int {
	if x, y := a.IsNull(i), b.IsNull(j); x || y {
		switch {
		case x && y:
			return 0
		case x:
			return -1
		}
		return 1
	}
	switch a.Kind {
	case event.Float:
		return cmp.Compare(a.Floats[i], b.Floats[j])
	case event.String:
		return strings.Compare(a.Strings[i], b.Strings[j])
	case event.Bool:
		switch {
		case a.Bools[i] == b.Bools[j]:
			return 0
		case b.Bools[j]:
			return -1
		}
		return 1
	}
	return cmp.Compare(a.Ints[i], b.Ints[j])
}

func (l *lane) empty() bool { return l.at == len(l.ready) }
func (l *lane) head() pick  { return l.ready[l.at] }
func (l *lane) rows() int   { return len(l.ready) - l.at }

// compact forgets the rows that have gone, where they are the most.
func (l *lane) compact() {
	if 2*l.at >= len(l.ready) {
		n := copy(l.ready, l.ready[l.at:])
		clear(l.ready[n:])
		l.ready, l.at = l.ready[:n], 0
	}
}

// add takes in a block's rows behind those that are there.
func (l *lane) add(b *block) {
	l.compact()
	for row := range b.rows.N {
		l.ready = append(l.ready, pick{b, int32(row)})
	}
}

// hold takes in a block's rows that may have to wait for their order, and lets
// those go before which nothing can come any more; it returns what release does.
func (l *lane) hold(b *block) (early int) {
	old := len(l.held)
	for row := range b.rows.N {
		l.held = append(l.held, pick{b, int32(row)})
	}
	// Most rows come in order: only what they overlap with is sorted with them.
	if added := l.held[old:]; len(added) > 0 {
		slices.SortStableFunc(added, pick.compare)
		from := sort.Search(old, func(i int) bool { return l.held[i].compare(added[0]) > 0 })
		if from < old {
			slices.SortStableFunc(l.held[from:], pick.compare)
		}
	}
	return l.release(l.watermark)
}

// release lets go held rows with a time before t, and, where more are held than
// may be, the earliest of them. It returns the number of those.
func (l *lane) release(t int64) (early int) {
	n := 0
	for n < len(l.held) && l.held[n].time() < t {
		n++
	}
	if len(l.held)-n > heldRows {
		early = len(l.held) - n - heldRows/2
		n += early
	}
	if n == 0 {
		return 0
	}
	l.compact()
	l.ready = append(l.ready, l.held[:n]...)
	l.held = l.held[:copy(l.held, l.held[n:])]
	return early
}

// heldRows is how many rows of a lane may wait for their order.
const heldRows = 1 << 20

// merge is lanes taken together.
type merge struct {
	lanes []*lane
	// What take took: events, and labels, each before one of them.
	events, labels []pick
	before         []int32
}

// least is the lane with the event that is next, by time, order and then place
// of the lane; nil where no event waits.
func (m *merge) least() *lane {
	var best *lane
	for _, l := range m.lanes {
		if !l.labels && !l.empty() && (best == nil || l.head().compare(best.head()) < 0) {
			best = l
		}
	}
	return best
}

// holder is a lane that may still bring a row that belongs before p; nil for none.
func (m *merge) holder(p pick) *lane {
	for _, l := range m.lanes {
		if l.empty() && l.watermark <= p.time() && !l.idle.After(p.b.taken) {
			return l
		}
	}
	return nil
}

// left is a lane whose next rows were left on the topic; nil for none.
func (m *merge) left() *lane {
	for _, l := range m.lanes {
		if l.empty() && l.parked >= 0 {
			return l
		}
	}
	return nil
}

// horizon is a time up to which, exclusively, events of lane l may go without
// another look at the other lanes.
func (m *merge) horizon(l *lane) int64 {
	h := int64(math.MaxInt64)
	for _, o := range m.lanes {
		switch {
		case o == l:
		case !o.empty():
			h = min(h, o.head().time())
		default:
			h = min(h, o.watermark)
		}
	}
	return h
}

// take moves up to max events, and as many labels, out of the lanes, and reports
// the lane that holds back the next event, if one does. A label goes before the
// first event that is not earlier, and not before there is one: so it never
// reaches events that were earlier than it.
func (m *merge) take(max int) (blocked *lane) {
	m.events, m.labels, m.before = m.events[:0], m.labels[:0], m.before[:0]
	for len(m.events) < max {
		l := m.least()
		if l == nil {
			return nil
		}
		if h := m.holder(l.head()); h != nil {
			return h
		}
		if full, h := m.takeLabels(l.head(), max); full || h != nil {
			return h
		}
		for h := m.horizon(l); ; {
			m.events = append(m.events, l.head())
			l.at++
			if len(m.events) == max || l.empty() || l.head().time() >= h {
				break
			}
		}
	}
	return nil
}

// takeLabels takes the labels that go before an event. It reports whether there
// was no room for all of them, and a lane that holds back the event now that its
// labels are taken.
func (m *merge) takeLabels(p pick, max int) (full bool, blocked *lane) {
	for {
		var best *lane
		for _, l := range m.lanes {
			if l.labels && !l.empty() && l.head().time() <= p.time() && (best == nil || l.head().time() < best.head().time()) {
				best = l
			}
		}
		if best == nil {
			return false, nil
		}
		if len(m.labels) == max {
			return true, nil
		}
		m.labels = append(m.labels, best.head())
		m.before = append(m.before, int32(len(m.events)))
		best.at++
		if best.empty() {
			if h := m.holder(p); h != nil {
				return false, h
			}
		}
	}
}

// fill makes the taken rows the frame's: values are copied, so that nothing of
// the blocks is needed afterwards.
func (m *merge) fill(f *frame, inputs, labels []columnDef) {
	f.gather(m.events, inputs)
	f.gatherLabels(m.labels, m.before, labels)
	for _, picks := range [...][]pick{m.events, m.labels} {
		for _, p := range picks {
			if p.b.left--; p.b.left == 0 {
				p.b.done()
			}
		}
	}
}

// gather copies picked rows side by side into the frame's.
func (f *frame) gather(picks []pick, inputs []columnDef) {
	r, n := &f.rows, len(picks)
	r.N = n
	r.Index, r.ID, r.Key = sized(r.Index, n), sized(r.ID, n), sized(r.Key, n)
	r.Time, r.Arrival = sized(r.Time, n), sized(r.Arrival, n)
	f.keys, f.origins = sized(f.keys, n), sized(f.origins, n)
	for row, p := range picks {
		b, i := p.b, p.row
		r.Index[row] = int32(row)
		r.ID[row], r.Key[row] = f.copyText(b.rows.ID[i]), f.copyText(b.rows.Key[i])
		r.Time[row], r.Arrival[row] = b.rows.Time[i], b.rows.Arrival[i]
		f.keys[row] = r.Key[row]
		if b.keys != nil {
			f.keys[row] = f.copyText(b.keys[i])
		}
		f.origins[row] = b.origins[i]
	}
	r.Columns = columnsOf(r.Columns, inputs)
	for c := range r.Columns {
		f.gatherColumn(&r.Columns[c], picks, c)
	}
}

// gatherLabels copies picked labels side by side into the frame's.
func (f *frame) gatherLabels(picks []pick, before []int32, fields []columnDef) {
	l := &f.labels
	l.Before = append(l.Before[:0], before...)
	l.IDs, l.Times = sized(l.IDs, len(picks)), sized(l.Times, len(picks))
	for i, p := range picks {
		l.IDs[i], l.Times[i] = f.copyText(p.b.keys[p.row]), p.time()
	}
	l.columns = columnsOf(l.columns, fields)
	for c := range l.columns {
		f.gatherColumn(&l.columns[c], picks, c)
	}
}

// columnsOf makes columns of the given definitions unless they are.
func columnsOf(have []event.Column, defs []columnDef) []event.Column {
	same := len(have) == len(defs)
	for i := 0; same && i < len(defs); i++ {
		same = have[i].Kind == defs[i].kind && have[i].Name == defs[i].name
	}
	if same {
		return have
	}
	have = make([]event.Column, len(defs))
	for i, d := range defs {
		have[i].Name, have[i].Kind = d.name, d.kind
	}
	return have
}

// gatherColumn copies one column of the picked rows.
func (f *frame) gatherColumn(dst *event.Column, picks []pick, c int) {
	dst.Reset(len(picks))
	for row, p := range picks {
		src := &p.b.rows.Columns[c]
		switch dst.Kind {
		case event.Float:
			dst.Floats[row] = src.Floats[p.row]
		case event.Bool:
			dst.Bools[row] = src.Bools[p.row]
		case event.String:
			dst.Strings[row] = f.copyText(src.Strings[p.row])
		default:
			dst.Ints[row] = src.Ints[p.row]
		}
		if src.Null != nil && src.Null[p.row] {
			dst.SetNull(row)
		}
	}
}

// copyText keeps a text as long as the frame. Where the buffer grows, texts
// written before stay in the old one.
func (f *frame) copyText(s string) string {
	if s == "" {
		return ""
	}
	from := len(f.text)
	f.text = append(f.text, s...)
	return textOf(f.text[from:])
}
