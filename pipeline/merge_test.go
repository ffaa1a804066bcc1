package pipeline

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/freshet-io/freshet/event"
)

// sent is a row of a simulated input.
type sent struct {
	lane  int
	label bool
	at    int64
	order int64 // negative for null
	seq   int   // among all, in the order of sending
}

func (r sent) String() string {
	kind := "event"
	if r.label {
		kind = "label"
	}
	return fmt.Sprintf("%s %d of lane %d at %d, %d", kind, r.seq, r.lane, r.at, r.order)
}

// blockOf makes a block of rows, whose origins say which they are.
func blockOf(rows []sent, taken time.Time) *block {
	b := &block{at: -1, taken: taken, left: len(rows), order: &event.Column{Kind: event.Int}}
	b.rows.N = len(rows)
	b.order.Reset(len(rows))
	for i, r := range rows {
		b.rows.Time = append(b.rows.Time, r.at)
		b.origins = append(b.origins, origin{position: int64(r.seq)})
		if r.order < 0 {
			b.order.SetNull(i)
		}
		b.order.Ints[i] = max(0, r.order)
	}
	return b
}

// TestMergedRowsComeInTheOrderInWhichTheyWereSent lets rows of several inputs
// arrive at random, late as it may be, with whatever is known of their silence:
// what is given out is always the next in order.
func TestMergedRowsComeInTheOrderInWhichTheyWereSent(t *testing.T) {
	for seed := range uint64(1500) {
		r := rand.New(rand.NewPCG(seed, 2))
		m, rows := scene(r)
		n := len(m.lanes)
		waiting := make([][]sent, n) // by lane, not arrived
		for _, s := range rows {
			waiting[s.lane] = append(waiting[s.lane], s)
		}
		began := time.Unix(1000, 0)
		clock := 0 // rows sent before it are on their topics
		now := func() time.Time { return began.Add(time.Duration(clock) * time.Second) }
		var got []sent
		for steps := 0; ; steps++ {
			if steps > 100000 {
				t.Fatalf("seed %d: no end; %d of %d", seed, len(got), len(rows))
			}
			l := m.lanes[r.IntN(n)]
			i := slices.Index(m.lanes, l)
			there := 0
			for there < len(waiting[i]) && waiting[i][there].seq < clock {
				there++
			}
			switch k := r.IntN(4); {
			case k == 0:
				clock = min(clock+r.IntN(4), len(rows)+1)
			case k == 1 && there > 0:
				take := 1 + r.IntN(there)
				l.add(blockOf(waiting[i][:take], now()))
				l.watermark = max(l.watermark, waiting[i][take-1].at)
				waiting[i] = waiting[i][take:]
			case k == 2 && there == 0:
				// Strictly later than all that was taken in up to this moment.
				l.idle = now().Add(time.Millisecond)
			}
			m.take(1 + r.IntN(6))
			at := 0
			for e := 0; e <= len(m.events); e++ {
				for ; at < len(m.labels) && int(m.before[at]) == e; at++ {
					got = append(got, rows[m.labels[at].b.origins[m.labels[at].row].position])
				}
				if e < len(m.events) {
					got = append(got, rows[m.events[e].b.origins[m.events[e].row].position])
				}
			}
			if clock > len(rows) && !slices.ContainsFunc(waiting, func(w []sent) bool { return len(w) > 0 }) &&
				!slices.ContainsFunc(m.lanes, func(l *lane) bool { return !l.labels && !l.empty() }) {
				break
			}
		}
		want := rows
		for len(want) > 0 && want[len(want)-1].label { // labels wait for an event that may see them
			want = want[:len(want)-1]
		}
		if d := gocmp.Diff(want, got, gocmp.AllowUnexported(sent{}), cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("seed %d (-sent +given out)\n%s", seed, d)
		}
	}
}

// scene makes lanes and the rows that are sent to them, in their order: by time,
// labels before events, by order, by lane.
func scene(r *rand.Rand) (*merge, []sent) {
	m := &merge{}
	labels := r.IntN(3)
	for i := range labels {
		m.lanes = append(m.lanes, newLane(true, i))
	}
	for i := range 1 + r.IntN(4) {
		m.lanes = append(m.lanes, newLane(false, i))
	}
	var rows []sent
	for range 1 + r.IntN(60) {
		lane := r.IntN(len(m.lanes))
		rows = append(rows, sent{lane: lane, label: lane < labels, at: int64(r.IntN(12)), order: int64(r.IntN(4)) - 1})
	}
	slices.SortStableFunc(rows, func(a, b sent) int {
		c := cmp.Compare(a.at, b.at)
		if c == 0 && a.label != b.label {
			if a.label {
				return -1
			}
			return 1
		}
		if c == 0 && !a.label {
			c = cmp.Compare(a.order, b.order)
		}
		return cmp.Or(c, cmp.Compare(a.lane, b.lane))
	})
	for i := range rows {
		rows[i].seq = i
	}
	return m, rows
}

// TestAHeldLaneIsPutInOrderWithinTheLateness compares with a plain sort.
func TestAHeldLaneIsPutInOrderWithinTheLateness(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 3))
		lateness := int64(r.IntN(30))
		var rows []sent
		newest := int64(0)
		for i := range 200 {
			newest += int64(r.IntN(4))
			rows = append(rows, sent{at: max(0, newest-int64(r.IntN(int(lateness)+1))), order: int64(r.IntN(5)) - 1, seq: i})
		}
		l, newest := newLane(false, 0), int64(math.MinInt64)
		for rest := rows; len(rest) > 0; {
			n := min(len(rest), 1+r.IntN(20))
			for _, s := range rest[:n] {
				newest = max(newest, s.at)
			}
			l.watermark = newest - lateness
			l.hold(blockOf(rest[:n], time.Time{}))
			rest = rest[n:]
			for _, p := range l.ready {
				if p.time() >= l.watermark {
					t.Fatalf("seed %d: a row at %d went, and one at %d may come", seed, p.time(), l.watermark)
				}
			}
		}
		l.release(math.MaxInt64)
		var got []sent
		for _, p := range l.ready[l.at:] {
			got = append(got, rows[p.b.origins[p.row].position])
		}
		want := slices.Clone(rows)
		slices.SortStableFunc(want, func(a, b sent) int {
			return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.order, b.order))
		})
		if d := gocmp.Diff(want, got, gocmp.AllowUnexported(sent{}), cmpopts.EquateEmpty()); d != "" {
			t.Fatalf("seed %d (-want +got)\n%s", seed, d)
		}
	}
}

func TestValuesOfEachKindAreOrderedWithNullsFirst(t *testing.T) {
	columns := []*event.Column{
		{Kind: event.Float, Floats: []float64{0, -1, 2.5}},
		{Kind: event.Int, Ints: []int64{0, -5, math.MaxInt64}},
		{Kind: event.Time, Ints: []int64{0, math.MinInt64, 1}},
		{Kind: event.Bool, Bools: []bool{false, false, true}},
		{Kind: event.String, Strings: []string{"", "", "a"}},
	}
	for _, c := range columns {
		c.Null = []bool{true, false, false}
		for i := range 3 {
			for j := range 3 {
				if got, want := compareCells(c, i, c, j), cmp.Compare(i, j); got != want {
					t.Errorf("%v: %d and %d compare as %d", c.Kind, i, j, got)
				}
			}
		}
	}
}

// TestColumnsOfAnotherInputAreMadeAnew: blocks are used for events and labels in turn.
func TestColumnsOfAnotherInputAreMadeAnew(t *testing.T) {
	have := columnsOf(nil, []columnDef{{name: "a", kind: event.Int}})
	if have = columnsOf(have, []columnDef{{name: "b", kind: event.String}}); have[0].Kind != event.String || have[0].Name != "b" {
		t.Errorf("column %+v", have[0])
	}
}
