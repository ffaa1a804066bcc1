package feature

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/freshet-io/freshet/event"
)

// naive computes windows by the definition, looking at every row of the key.
type naive struct {
	c            Config
	rows, labels []Field
	horizon      uint64
	kept         map[string][]*modelRow
}

type naiveRow struct {
	t      int64
	values []any // nil for null
}

type modelRow struct {
	naiveRow
	id     string
	labels []any
}

func newNaive(t testing.TB, c Config) (*naive, *Windows) {
	t.Helper()
	w, err := NewWindows(c)
	if err != nil {
		t.Fatal(err)
	}
	longest := time.Duration(0)
	for _, x := range c.Windows {
		longest = max(longest, x.Over+x.Delay)
	}
	return &naive{c: c, rows: w.Fields(), labels: w.LabelFields(), horizon: uint64(longest + c.Retain), kept: map[string][]*modelRow{}}, w
}

// row takes in one row and returns what each window holds.
func (n *naive) row(key, id string, t int64, values []any) []any {
	me := &modelRow{naiveRow: naiveRow{t, values}, id: id}
	rows := n.kept[key]
	if n.c.Labels == ByKey {
		me = nil // labels are the rows
	} else {
		rows = n.keep(key, me)
	}
	out := make([]any, len(n.c.Windows))
	label := 0
	for i, w := range n.c.Windows {
		unlabelled := math.NaN()
		if w.Label {
			if n.c.Unlabelled != nil {
				unlabelled = n.c.Unlabelled[label]
			}
			label++
		}
		out[i] = aggregate(rows, me, t, w, func(r *modelRow) any { return n.value(r, w, unlabelled) })
	}
	return out
}

// keep adds a row to those kept and drops what is too old; a row that is too old itself is alone.
func (n *naive) keep(key string, me *modelRow) []*modelRow {
	newest := int64(math.MinInt64)
	for _, r := range n.kept[key] {
		newest = max(newest, r.t)
	}
	if newest > me.t && uint64(newest)-uint64(me.t) >= n.horizon && len(n.kept[key]) > 0 {
		return []*modelRow{me}
	}
	newest = max(newest, me.t)
	var rows []*modelRow
	for _, r := range n.kept[key] {
		if uint64(newest)-uint64(r.t) < n.horizon {
			rows = append(rows, r)
		}
	}
	n.kept[key] = append(rows, me)
	return n.kept[key]
}

// label takes in one label.
func (n *naive) label(id string, t int64, values []any) {
	if n.c.Labels == ByKey {
		n.kept[id] = append(n.kept[id], &modelRow{naiveRow: naiveRow{t: t}, labels: values})
		return
	}
	for _, rows := range n.kept {
		for _, r := range rows {
			if r.id == id {
				r.labels = values
			}
		}
	}
}

// value is a row's value for a window; nil for none.
func (n *naive) value(r *modelRow, w Window, unlabelled float64) any {
	fields, values := n.rows, r.values
	if w.Label {
		fields, values = n.labels, r.labels
	}
	for f, x := range fields {
		if x == (Field{w.Field, w.Kind}) && values != nil && values[f] != nil {
			return values[f]
		}
	}
	if math.IsNaN(unlabelled) {
		return nil
	}
	switch w.Kind {
	case event.Float:
		return unlabelled
	case event.Bool:
		return unlabelled != 0
	}
	return int64(unlabelled)
}

func aggregate(rows []*modelRow, me *modelRow, t int64, w Window, value func(*modelRow) any) any {
	var (
		count    int64
		values   []any
		distinct = map[any]bool{}
		newest   = int64(math.MinInt64)
		oldest   = int64(math.MaxInt64)
		before   any // time since the row before
		first    any
		last     any
	)
	for _, r := range rows {
		age := uint64(t) - uint64(r.t)
		if r.t > t || age < uint64(w.Delay) || age >= uint64(w.Over+w.Delay) {
			continue
		}
		v := any(nil)
		if w.Field != "" {
			if v = value(r); v == nil {
				continue
			}
			values = append(values, v)
			distinct[v] = true
		}
		count++
		if since := float64(age) / 1e9; r != me && (before == nil || since <= before.(float64)) {
			before = since
		}
		if r.t >= newest { // a tie: the later in processing order
			newest, last = r.t, v
		}
		if r.t < oldest {
			oldest, first = r.t, v
		}
	}
	switch w.Aggregate {
	case Count:
		return count
	case Rate:
		return float64(count) / w.Over.Seconds()
	case Distinct:
		return int64(len(distinct))
	case First:
		return first
	case Last:
		return last
	case SinceLast:
		return before
	}
	return compute(w.Aggregate, values)
}

func compute(a Aggregate, values []any) any {
	prec := uint(400)
	for _, v := range values {
		if x := math.Abs(v.(float64)); x > 1e12 || x != 0 && x < 1e-12 {
			prec = 4400
		}
	}
	exact := func(v float64) *big.Float { return new(big.Float).SetPrec(prec).SetFloat64(v) }
	if len(values) == 0 {
		if a == Sum {
			return 0.0
		}
		return nil
	}
	total, n := exact(0), exact(float64(len(values)))
	lo, hi := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		total.Add(total, exact(v.(float64)))
		lo, hi = min(lo, v.(float64)), max(hi, v.(float64))
	}
	mean := exact(0).Quo(total, n)
	switch a {
	case Min:
		return lo
	case Max:
		return hi
	case Mean:
		m, _ := mean.Float64()
		return m
	case StdDev:
		if len(values) < 2 {
			return nil
		}
		squares := exact(0)
		for _, v := range values {
			d := exact(v.(float64))
			d.Sub(d, mean)
			squares.Add(squares, exact(0).Mul(d, d))
		}
		sd, _ := squares.Quo(squares, exact(float64(len(values)-1))).Sqrt(squares).Float64()
		return sd
	}
	s, _ := total.Float64()
	if math.IsInf(s, 0) {
		return nil
	}
	return s
}

// same reports whether got is want: floats to one ulp, all else exactly.
func same(got, want any) bool {
	g, ok1 := got.(float64)
	f, ok2 := want.(float64)
	if ok1 && ok2 {
		return g == f || math.Nextafter(g, f) == f
	}
	return got == want
}

func cell(c *event.Column, i int) any {
	if c.IsNull(i) {
		return nil
	}
	switch c.Kind {
	case event.Float:
		return c.Floats[i]
	case event.Bool:
		return c.Bools[i]
	case event.String:
		return c.Strings[i]
	default:
		return c.Ints[i]
	}
}

// batch is rows in the shape that Update takes.
type batch struct {
	keys   []string
	times  []int64
	fields []*event.Column
	values [][]any
}

func newBatch(fields []Field, n int) *batch {
	return &batch{keys: make([]string, n), times: make([]int64, n), fields: columnsOf(fields, n)}
}

func columnsOf(fields []Field, n int) []*event.Column {
	var all []*event.Column
	for _, f := range fields {
		c := &event.Column{Name: f.Name, Kind: f.Kind}
		c.Reset(n)
		all = append(all, c)
	}
	return all
}

func (b *batch) set(i int, key string, t int64, values []any) {
	b.keys[i], b.times[i] = key, t
	setCells(b.fields, i, values)
	b.values = append(b.values, values)
}

func setCells(columns []*event.Column, i int, values []any) {
	for f, v := range values {
		c := columns[f]
		switch v := v.(type) {
		case nil:
			c.SetNull(i)
		case float64:
			c.Floats[i] = v
		case int64:
			c.Ints[i] = v
		case bool:
			c.Bools[i] = v
		case string:
			c.Strings[i] = v
		}
	}
}

// labelled is a batch with ids and labels.
type labelled struct {
	*batch
	ids    []string
	Labels Labels
	labels [][]any
}

func newLabelled(w *Windows, n, labels int) *labelled {
	return &labelled{batch: newBatch(w.Fields(), n), ids: make([]string, n), Labels: Labels{
		Before: make([]int32, labels), IDs: make([]string, labels), Times: make([]int64, labels), Fields: columnsOf(w.LabelFields(), labels),
	}}
}

func (b *labelled) setLabel(i, before int, id string, t int64, values []any) {
	l := &b.Labels
	l.Before[i], l.IDs[i], l.Times[i] = int32(before), id, t
	setCells(l.Fields, i, values)
	b.labels = append(b.labels, values)
}

func (b *labelled) input() *Batch {
	return &Batch{N: len(b.keys), Keys: b.keys, Times: b.times, IDs: b.ids, Fields: b.fields, Labels: b.Labels}
}

func newOut(w *Windows) []*event.Column {
	out := make([]*event.Column, len(w.ops))
	for i := range out {
		out[i] = &event.Column{}
	}
	return out
}

// history draws random rows and labels.
type history struct {
	rng    *rand.Rand
	keys   int
	late   float64 // share of rows out of order
	far    float64 // share of late rows that are very late
	slow   int64   // how late a row that is not very late is at most; 40 steps for 0
	now    int64
	step   int64
	values func(rng *rand.Rand) float64
	ids    []string
}

func (h *history) next(fields []Field, n int) *batch {
	b := newBatch(fields, n)
	for i := range n {
		h.row(b, i, fields)
	}
	return b
}

func (h *history) row(b *batch, i int, fields []Field) {
	h.now += h.rng.Int64N(h.step) * h.rng.Int64N(2)
	t := h.time()
	values := h.cells(fields)
	b.set(i, h.key(), t, values)
}

// nextLabelled draws rows, some with an id that was there before, and labels among them.
func (h *history) nextLabelled(w *Windows, n int) *labelled {
	labels := 0
	if w.join != NoLabels {
		labels = h.rng.IntN(n + 1)
	}
	b := newLabelled(w, n, labels)
	l := 0
	for i := range n {
		for ; l < labels && h.rng.IntN(2) == 0; l++ {
			h.label(w, b, l, i)
		}
		b.ids[i] = fmt.Sprint("e", len(h.ids))
		if len(h.ids) > 0 && h.rng.IntN(20) == 0 {
			b.ids[i] = h.ids[h.rng.IntN(len(h.ids))]
		}
		h.ids = append(h.ids, b.ids[i])
		h.row(b.batch, i, w.Fields())
	}
	for ; l < labels; l++ {
		h.label(w, b, l, n)
	}
	return b
}

func (h *history) key() string { return fmt.Sprint("k", h.rng.IntN(h.keys)) }

func (h *history) time() int64 {
	t := h.now
	if h.rng.Float64() < h.late {
		slow := h.slow
		if slow == 0 {
			slow = 40 * h.step
		}
		t -= h.rng.Int64N(slow)
		if h.rng.Float64() < h.far {
			t -= h.rng.Int64N(2000 * h.step)
		}
	}
	return t
}

func (h *history) label(w *Windows, b *labelled, i, before int) {
	id := h.key()
	if w.join == ByEvent {
		id = fmt.Sprint("e", len(h.ids)-h.rng.IntN(120))
	}
	b.setLabel(i, before, id, h.time(), h.cells(w.LabelFields()))
}

func (h *history) cells(fields []Field) []any {
	values := make([]any, len(fields))
	for f := range values {
		values[f] = h.value(fields[f].Kind)
	}
	return values
}

func (h *history) value(k event.Kind) any {
	if h.rng.IntN(8) == 0 {
		return nil
	}
	switch k {
	case event.Float:
		return h.values(h.rng)
	case event.Bool:
		return h.rng.IntN(2) == 0
	case event.String:
		return fmt.Sprint("s", h.rng.IntN(6))
	default:
		return h.rng.Int64N(5) - 2
	}
}

// seeds is n, or a third of it under the race detector: there is one goroutine to watch.
func seeds(n uint64) uint64 {
	if raceDetector {
		return n / 3
	}
	return n
}

func cents(rng *rand.Rand) float64 { return float64(rng.IntN(30000)-100) / 100 }
func small(rng *rand.Rand) float64 { return float64(rng.IntN(7)) - 3 }

// clustered draws values whose squares cancel almost wholly.
func clustered(rng *rand.Rand) float64 { return 1e9 + float64(rng.IntN(3))/1024 }

func nasty(rng *rand.Rand) float64 {
	v := math.Ldexp(rng.Float64()*2-1, rng.IntN(400)-200)
	switch rng.IntN(6) {
	case 0:
		return math.Ldexp(rng.NormFloat64(), 1020)
	case 1:
		return -1e300
	case 2:
		return 1e300
	}
	return v
}

// extent is a length and a delay.
type extent struct{ over, delay time.Duration }

// allWindows is every aggregate over every extent; of labels too where they are joined.
func allWindows(join Join, extents ...extent) []Window {
	var ws []Window
	for _, o := range extents {
		add := func(a Aggregate, field string, k event.Kind, label bool) {
			ws = append(ws, Window{
				Name: fmt.Sprint(a, " ", field, " ", o, label), Aggregate: a, Field: field, Kind: k,
				Over: o.over, Delay: o.delay, Label: label,
			})
		}
		for _, label := range []bool{false, true} {
			if label && join == NoLabels || !label && join == ByKey {
				continue
			}
			x, s, n, b := "x", "s", "i", "b"
			if label {
				x, s, n, b = "lx", "ls", "li", "lb"
			}
			for _, a := range []Aggregate{Count, Rate, SinceLast} {
				if !label || join == ByKey {
					add(a, "", event.Float, label)
				}
				add(a, x, event.Float, label)
				add(a, b, event.Bool, label)
			}
			for _, a := range []Aggregate{Sum, Mean, StdDev, Min, Max, First, Last, Distinct} {
				add(a, x, event.Float, label)
			}
			add(Mean, x+"2", event.Float, label)
			for _, a := range []Aggregate{First, Last, Distinct} {
				add(a, s, event.String, label)
				add(a, n, event.Int, label)
			}
			add(First, b, event.Bool, label)
			add(Last, b, event.Bool, label)
		}
	}
	return ws
}

// everything is all windows of three lengths and two delays, some rows counting without a label.
func everything(join Join, retain time.Duration, begin bool) Config {
	c := Config{
		Windows: allWindows(join, extent{20, 0}, extent{100, 0}, extent{1000, 0}, extent{30, 15}, extent{200, 15}, extent{100, 700}),
		Retain:  retain, Labels: join,
	}
	if begin && join == ByEvent {
		for i := range c.Windows {
			switch w := &c.Windows[i]; {
			case !w.Label:
			case w.Kind == event.String || len(c.Unlabelled)%4 == 3:
				c.Unlabelled = append(c.Unlabelled, math.NaN())
			default:
				c.Unlabelled = append(c.Unlabelled, float64(len(c.Unlabelled)%3))
			}
		}
	}
	return c
}

func TestWindowsEqualTheDefinitionOnRandomHistories(t *testing.T) {
	cases := []struct {
		name   string
		late   float64
		far    float64
		retain time.Duration
		values func(*rand.Rand) float64
		labels Join
		begin  bool
	}{
		{name: "in order, cents", values: cents},
		{name: "in order, ties and repeats", values: small},
		{name: "in order, values that cancel and overflow", values: nasty},
		{name: "in order, far from zero and close together", values: clustered},
		{name: "late, cents", late: 0.3, far: 0.2, values: cents},
		{name: "late, retained", late: 0.3, far: 0.2, retain: 500, values: small},
		{name: "late, values that cancel and overflow", late: 0.2, far: 0.1, retain: 50, values: nasty},
		{name: "labels of events", values: cents, labels: ByEvent},
		{name: "labels of events, counted before", values: small, labels: ByEvent, begin: true},
		{name: "labels of events, late, values that cancel", late: 0.2, far: 0.1, retain: 50, values: nasty, labels: ByEvent},
		{name: "labels of keys", retain: 1, values: cents, labels: ByKey},
		{name: "labels of keys, late", late: 0.3, retain: 300, values: nasty, labels: ByKey},
	}
	compared := 0
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for seed := range seeds(3) {
				h := &history{
					rng: rand.New(rand.NewPCG(seed, 1)), keys: 1 + int(seed)*2, late: c.late, far: c.far,
					now: -500, step: 1 + int64(seed)*4, values: c.values,
				}
				if c.labels == ByKey {
					h.slow = int64(c.retain)
				}
				compared += compareHistory(t, everything(c.labels, c.retain, c.begin), h)
			}
		})
	}
	t.Logf("%d values compared", compared)
}

// compareHistory runs a history through the windows and through the model.
func compareHistory(t *testing.T, c Config, h *history) (compared int) {
	t.Helper()
	ref, w := newNaive(t, c)
	out := newOut(w)
	for range 24 {
		b := h.nextLabelled(w, 1+h.rng.IntN(20))
		w.Update(b.input(), out, nil)
		label := 0
		for i := range len(b.keys) {
			for ; label < len(b.labels) && int(b.Labels.Before[label]) <= i; label++ {
				ref.label(b.Labels.IDs[label], b.Labels.Times[label], b.labels[label])
			}
			for j, want := range ref.row(b.keys[i], b.ids[i], b.times[i], b.values[i]) {
				compared++
				if got := cell(out[j], i); !same(got, want) {
					t.Fatalf("key %s time %d window %s: got %v, want %v", b.keys[i], b.times[i], c.Windows[j].Name, got, want)
				}
			}
		}
		for ; label < len(b.labels); label++ {
			ref.label(b.Labels.IDs[label], b.Labels.Times[label], b.labels[label])
		}
	}
	return compared
}
