package pipeline

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/feature"
)

var kinds = []event.Kind{event.Float, event.Int, event.Bool, event.String, event.Time}

// movingFrame is a frame of random rows with columns of all kinds, and the rows chosen.
func movingFrame(r *rand.Rand) (f *frame, defs []columnDef, rows []int32, keys []string) {
	pick := func(vs ...float64) float64 { return vs[r.IntN(len(vs))] }
	texts := []string{"", "a", "\x00", "ü", "\xff\xfe", string(make([]byte, 300))}
	text := func() string { return texts[r.IntN(len(texts))] }
	ints := []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1 << 53, 1<<53 + 1}
	f = &frame{watermark: ints[r.IntN(len(ints))]}
	n := r.IntN(20)
	f.rows.N = n
	for range n {
		f.rows.ID = append(f.rows.ID, text())
		f.rows.Key = append(f.rows.Key, text())
		keys = append(keys, text())
		f.rows.Time = append(f.rows.Time, ints[r.IntN(len(ints))])
		f.rows.Arrival = append(f.rows.Arrival, ints[r.IntN(len(ints))])
		o := origin{partition: int32(r.IntN(5)), position: r.Int64N(1 << 40)}
		if r.IntN(4) == 0 {
			o.trace = o.trace.AppendString("traceparent", "00-1").AppendString("tracestate", text())
		}
		f.origins = append(f.origins, o)
	}
	for c := range r.IntN(8) {
		kind := kinds[r.IntN(len(kinds))]
		defs = append(defs, columnDef{name: string(rune('a' + c)), kind: kind})
		col := &event.Column{Name: defs[c].name, Kind: kind}
		col.Reset(n)
		form := r.IntN(3)
		for i := range n {
			switch kind {
			case event.Float:
				switch form {
				case 0:
					col.Floats[i] = pick(0, 1, -7, 1<<39)
				case 1:
					col.Floats[i] = pick(0.01, -12.34, 5, 123456.78, -0.07)
				default:
					col.Floats[i] = pick(0.1+0.2, math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 1e300, 5e-324, 0.001, 1<<40, 1)
				}
			case event.Bool:
				col.Bools[i] = r.IntN(2) == 0
			case event.String:
				col.Strings[i] = text()
			default:
				col.Ints[i] = ints[r.IntN(len(ints))]
			}
		}
		for i := range n {
			if form == 1 && r.IntN(3) == 0 {
				col.SetNull(i)
			}
		}
		f.columns = append(f.columns, col)
	}
	for i := range n {
		if r.IntN(3) > 0 {
			rows = append(rows, int32(i))
		}
	}
	return f, defs, rows, keys
}

// valueAt is a value bit for bit.
func valueAt(c *event.Column, i int) any {
	switch {
	case c.IsNull(i):
		return nil
	case c.Kind == event.Float:
		return math.Float64bits(c.Floats[i])
	case c.Kind == event.Bool:
		return c.Bools[i]
	case c.Kind == event.String:
		return c.Strings[i]
	}
	return c.Ints[i]
}

func TestRowsComeOutOfAShuffleBitForBit(t *testing.T) {
	b := &block{} // used again and again, as the intake does
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 4))
		f, defs, rows, keys := movingFrame(r)
		inputs := make([]int, len(defs))
		for i := range inputs {
			inputs[i] = i
		}
		from := r.IntN(9)
		rec := event.Record{Value: appendMove(nil, f, rows, from, 9, keys, inputs), Position: 17}
		task, watermark, ok := readMove(&rec, b, defs)
		if !ok || task != from || watermark != f.watermark || b.rows.N != len(rows) || b.at != 17 || b.left != len(rows) {
			t.Fatalf("seed %d: task %d, watermark %d, %v, %d rows", seed, task, watermark, ok, b.rows.N)
		}
		for j, i := range rows {
			if b.keys[j] != keys[i] || b.rows.ID[j] != f.rows.ID[i] || b.rows.Key[j] != f.rows.Key[i] ||
				b.rows.Time[j] != f.rows.Time[i] || b.rows.Arrival[j] != f.rows.Arrival[i] {
				t.Fatalf("seed %d: row %d differs", seed, j)
			}
			if d := cmp.Diff(f.origins[i], b.origins[j], cmp.AllowUnexported(origin{}), cmpopts.EquateEmpty()); d != "" {
				t.Fatalf("seed %d: origin of row %d\n%s", seed, j, d)
			}
			for c := range defs {
				if got, want := valueAt(&b.rows.Columns[c], j), valueAt(f.columns[c], int(i)); got != want {
					t.Fatalf("seed %d: row %d, column %d (%v): %v, not %v", seed, j, c, defs[c].kind, got, want)
				}
			}
		}
		if len(rec.Value) > 0 {
			cut := rec
			cut.Value = rec.Value[:r.IntN(len(rec.Value))]
			if _, _, ok := readMove(&cut, &block{}, defs); ok {
				t.Fatalf("seed %d: a record cut at %d of %d bytes was read", seed, len(cut.Value), len(rec.Value))
			}
		}
	}
}

// FuzzReadMove holds that any bytes are read or refused, and what is read can be used.
func FuzzReadMove(f *testing.F) {
	for seed := range uint64(20) {
		fr, defs, rows, keys := movingFrame(rand.New(rand.NewPCG(seed, 5)))
		inputs, shape := make([]int, len(defs)), []byte{}
		for i := range inputs {
			inputs[i] = i
			shape = append(shape, byte(defs[i].kind))
		}
		f.Add(appendMove(nil, fr, rows, int(seed), uint64(seed), keys, inputs), shape)
	}
	huge := binary.AppendUvarint([]byte{moveVersion}, math.MaxUint64) // a task that is none
	f.Add(append(huge, 0, 0), []byte{})
	f.Fuzz(func(t *testing.T, data, shape []byte) {
		var defs []columnDef
		for _, k := range shape[:min(len(shape), 9)] {
			defs = append(defs, columnDef{kind: kinds[int(k)%len(kinds)]})
		}
		b := &block{}
		task, _, ok := readMove(&event.Record{Value: data}, b, defs)
		if !ok {
			return
		}
		if task < 0 || b.rows.N < 0 {
			t.Fatalf("task %d, %d rows", task, b.rows.N)
		}
		l := newLane(false, 0)
		if b.rows.N > 0 && len(defs) > 0 {
			b.order = &b.rows.Columns[0]
		}
		l.hold(b)
		l.release(math.MaxInt64)
		m := merge{events: l.ready}
		b.done = func() {}
		fr := &frame{}
		m.fill(fr, defs, nil)
		for i := range fr.rows.N {
			if partition, _, _ := fr.place(i, 0); partition < 0 {
				t.Fatalf("partition %d", partition)
			}
		}
	})
}

// FuzzRestoreInputs holds that any bytes are taken as the state of inputs or
// refused, and what is taken is written again as it was.
func FuzzRestoreInputs(f *testing.F) {
	intakes := func() []*mergeIntake {
		first := &mergeIntake{source: &sourceDecoder{}, done: newTracker(0), events: []*lane{newLane(false, 0)}, labels: []*lane{newLane(true, 0), newLane(true, 1)}}
		later := &mergeIntake{events: []*lane{newLane(false, 0), newLane(false, 1), newLane(false, 2)}, labels: []*lane{newLane(true, 0)}}
		return []*mergeIntake{first, later}
	}
	for i, m := range intakes() {
		m.newest, m.scan = 77, 40
		for j, l := range append(m.events, m.labels...) {
			l.from, l.fromRow, l.watermark = int64(50+j), int32(j), int64(-j)
		}
		if m.done != nil {
			for p := range int64(5) {
				m.done.read(p, p+1)
			}
			m.done.add(3)
			m.done.add(0)
		}
		f.Add(m.appendState(nil), i == 1)
	}
	f.Fuzz(func(t *testing.T, data []byte, second bool) {
		which := 0
		if second {
			which = 1
		}
		m := intakes()[which]
		if m.restore(data) != nil {
			return
		}
		again := intakes()[which]
		state := m.appendState(nil)
		if err := again.restore(state); err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		if d := cmp.Diff(state, again.appendState(nil)); d != "" {
			t.Fatalf("restored twice (-once +twice)\n%s", d)
		}
		d := direct{source: &sourceDecoder{}}
		_ = d.restore(data) // must not panic
	})
}

// fuzzedChangelog is that of one step of windows.
func fuzzedChangelog(t testing.TB) (*changelog, *windowsStep) {
	g := &windowsPlan{config: feature.Config{Windows: []feature.Window{
		{Name: "n", Aggregate: feature.Count, Over: time.Hour},
		{Name: "s", Aggregate: feature.Sum, Field: "amount", Over: time.Hour},
	}}, fields: []int{-1, 0}, out: []int{1, 2}, defaults: make([]*Literal, 2)}
	plan := &Plan{columns: []columnDef{{name: "amount", kind: event.Float}, {name: "n", kind: event.Int}, {name: "s", kind: event.Float}}}
	w, err := newWindowsStep(plan, g)
	if err != nil {
		t.Fatal(err)
	}
	return newChangelog("state", 0, &direct{source: &sourceDecoder{newest: math.MinInt64}}, []stateStep{w}, 256), w
}

// FuzzChangelogRecord holds that any bytes are applied to a state or refused.
func FuzzChangelogRecord(f *testing.F) {
	c, w := fuzzedChangelog(f)
	plan := &Plan{columns: []columnDef{{name: "amount", kind: event.Float}, {name: "n", kind: event.Int}, {name: "s", kind: event.Float}}}
	for i := range 12 {
		fr := plan.newFrame()
		fr.rows.N, fr.keys = 3, []string{"a", "b", "c"}
		fr.rows.ID = []string{"1", "2", "3"}
		fr.rows.Time = []int64{int64(i) * 1e12, int64(i)*1e12 + 1, int64(i)*1e12 + 2}
		fr.columns[0].Reset(3)
		if _, err := w.run(f.Context(), fr); err != nil {
			f.Fatal(err)
		}
		if err := c.record(fr, int64(3*i)); err != nil {
			f.Fatal(err)
		}
		f.Add(fr.change)
	}
	// The pipeline's own fingerprint with other definitions than it has.
	other := append(binary.BigEndian.AppendUint64([]byte{changeVersion, flagDefined, 0, 0, 0}, c.fingerprint), 3, 0, 0, 0, 0)
	f.Add(other)
	state, _ := w.windows.(pagedState).AppendKey(nil, "a")
	f.Add(appendBytes(nil, state))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _ := fuzzedChangelog(t)
		for range 2 {
			if _, _, err := c.applyBytes(data); err != nil {
				break
			}
		}
		_, w := fuzzedChangelog(t)
		_ = applyPages(w.windows, data)
	})
}

// TestOnlyTheLastPartOfAFrameBringsItsWatermark splits the rows of frames into many records.
func TestOnlyTheLastPartOfAFrameBringsItsWatermark(t *testing.T) {
	s := newShuffle(&stagePlan{key: -1}, 0, 1, 128)
	before := int64(math.MinInt64)
	for _, watermark := range []int64{50, 90} {
		f := &frame{watermark: watermark, skip: make([]bool, 40), origins: make([]origin, 40)}
		f.rows.N = 40
		f.rows.ID, f.rows.Key = make([]string, 40), make([]string, 40)
		f.rows.Time, f.rows.Arrival = make([]int64, 40), make([]int64, 40)
		s.write(f)
		if len(f.moved) < 3 {
			t.Fatalf("%d records", len(f.moved))
		}
		rows := 0
		for i := range f.moved {
			b := &block{}
			_, got, ok := readMove(&f.moved[i].record[0], b, nil)
			want := before
			if i == len(f.moved)-1 {
				want = watermark
			}
			if rows += b.rows.N; !ok || got != want {
				t.Errorf("record %d of %d: watermark %d, %v; want %d", i+1, len(f.moved), got, ok, want)
			}
		}
		if rows != 40 {
			t.Errorf("%d rows, want 40", rows)
		}
		before = watermark
	}
}
