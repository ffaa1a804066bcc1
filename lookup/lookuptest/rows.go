package lookuptest

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/lookup"
)

func (e *env) capabilities() {
	d := e.open(makeRows("a", 1)...)
	caps := d.Capabilities()
	if caps.MaxKeys < 1 {
		e.Errorf("MaxKeys is %d, want at least 1", caps.MaxKeys)
	}
	_ = try(e.ctx, d, "a")
	if after := d.Capabilities(); after != caps {
		e.Errorf("Capabilities change from %+v to %+v", caps, after)
	}
	if diff := cmp.Diff(Fields, d.Fields()); diff != "" {
		e.Errorf("Fields (−want +got):\n%s", diff)
	}
}

func (e *env) kinds() {
	day := time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC)
	zero := math.Copysign(0, -1)
	if e.h.NoNegativeZero {
		zero = 0
	}
	values := [][5]any{
		{0.1 + 0.2, int64(1), true, "Łódź", day},
		{zero, int64(0), false, "", time.Unix(0, 0).UTC()},
		{math.MaxFloat64, int64(math.MaxInt64), true, "'; DROP TABLE x; --", time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC)},
		{math.SmallestNonzeroFloat64, int64(math.MinInt64 + 1), false, "{\"a\": [1, null]}\n\t\\", time.Date(1969, 7, 20, 20, 17, 40, 0, time.UTC)},
		{-1e-300, int64(1<<53 + 1), true, "null", day},
		{123456789.123, int64(-1), false, "true 1 \U0001f600", day},
		{1.0, int64(7), true, strings.Repeat("long ", 5000), day},
	}
	var rows []Row
	var keys []string
	var want []*Row
	for i, v := range values {
		rows = append(rows, Row{Key: fmt.Sprintf("k%d", i), Values: v, At: day})
		keys = append(keys, rows[i].Key)
		want = append(want, &rows[i])
	}
	d := e.open(rows...)
	e.want(d, e.get(d, keys...), keys, want)
}

func (e *env) nulls() {
	full := makeRows("", 1)[0]
	var rows []Row
	var keys []string
	var want []*Row
	for i := range 5 {
		one, others := full, full
		one.Key, others.Key = fmt.Sprintf("one%d", i), fmt.Sprintf("others%d", i)
		one.Values[i] = nil
		for j := range others.Values {
			if j != i {
				others.Values[j] = nil
			}
		}
		rows = append(rows, one, others)
	}
	for i := range rows {
		keys = append(keys, rows[i].Key)
		want = append(want, &rows[i])
	}
	d := e.open(rows...)
	got := e.get(d, keys...)
	e.want(d, got, keys, want)
	for j := range got.Columns {
		if c := &got.Columns[j]; c.Kind == event.Float && c.Floats[2*j] != 0 {
			e.Errorf("field %s: a null holds %v, want a zero", c.Name, c.Floats[2*j])
		}
	}
}

func (e *env) times() {
	rows := makeRows("t", 2)
	rows[0].At = time.Date(2020, 2, 29, 12, 0, 1, 0, time.UTC)
	if !e.h.AlwaysTimed {
		rows[1].At = time.Time{}
	}
	d := e.open(rows...)
	if !d.Capabilities().Times {
		e.Skip("the driver's Capabilities say that rows have no times")
	}
	e.want(d, e.get(d, rows[0].Key, rows[1].Key), []string{rows[0].Key, rows[1].Key}, []*Row{&rows[0], &rows[1]})
	if got := e.get(d, "nobody"); got.At[0] != lookup.Unknown {
		e.Errorf("a missing row has the time %d", got.At[0])
	}
}

func (e *env) order() {
	rows := makeRows("o", 60)
	r := rand.New(rand.NewPCG(1, 2))
	d := e.open(rows...)
	for range 5 {
		var keys []string
		var want []*Row
		for _, i := range r.Perm(len(rows)) {
			keys, want = append(keys, rows[i].Key), append(want, &rows[i])
			if i%3 == 0 {
				keys, want = append(keys, fmt.Sprintf("nobody%d", i)), append(want, nil)
			}
		}
		e.want(d, e.get(d, keys...), keys, want)
	}
}

func (e *env) awkwardKeys() {
	keys := []string{
		"'", `"`, `\`, `a'b"c\d`, " ", " a ", "a\nb", "a\tb", "%", "%s", "_", "*", "[a]", "{tag}", "a:b", "a/b", "$1", "NULL", "null", "0", "-1",
		"007", "1e3", "true", "[]", "{}", "é", "e\u0301", "日本語", "\U0001f600", "\u2028", "A", "a", strings.Repeat("k", 900), "\u007f", "\u0001",
	}
	if e.binaryKeys() {
		keys = append(keys, "\xff\xfe", "a\x00b", "\xc3")
	}
	var rows []Row
	var want []*Row
	for i, key := range keys {
		rows = append(rows, Row{Key: key, Values: [5]any{float64(i), int64(i), true, "city", time.Unix(int64(i), 0).UTC()}, At: time.Unix(1, 0).UTC()})
	}
	for i := range rows {
		want = append(want, &rows[i])
	}
	d := e.open(rows...)
	e.want(d, e.get(d, keys...), keys, want)
	similar := []string{"''", `a'b"c`, "", "a ", " a", "aa", "00", "7", "É", "NIL", "a%"}
	e.want(d, e.get(d, similar...), similar, make([]*Row, len(similar)))
}

func (e *env) binaryKeys() bool {
	d := e.h.Open(e.T, e.h.Address, e.h.Put(e.T, makeRows("b", 1)))
	defer d.Close()
	return d.Capabilities().BinaryKeys
}

func (e *env) impossibleKeys() {
	rows := makeRows("i", 1)
	d := e.open(rows...)
	keys := []string{"\xff\xfe", rows[0].Key, "a\x00b", "\xed\xa0\x80", strings.Repeat("k", 20_000)}
	e.want(d, e.get(d, keys...), keys, []*Row{nil, &rows[0], nil, nil, nil})
	e.want(d, e.get(d, keys[0]), keys[:1], []*Row{nil})
}

func (e *env) fullBatch() {
	const limit = 5000
	rows := makeRows("f", 500)
	d := e.open(rows...)
	n := min(d.Capabilities().MaxKeys, limit)
	var keys []string
	var want []*Row
	for i := range n {
		if i%2 == 0 && i/2 < len(rows) {
			keys, want = append(keys, rows[i/2].Key), append(want, &rows[i/2])
		} else {
			keys, want = append(keys, fmt.Sprintf("nobody%d", i)), append(want, nil)
		}
	}
	e.want(d, e.get(d, keys...), keys, want)
}

func (e *env) emptyBatch() {
	d := e.open(makeRows("e", 1)...)
	if got := e.get(d); got.Len() != 0 {
		e.Errorf("got %d rows for no keys", got.Len())
	}
}

func (e *env) ownership() {
	rows := makeRows("own", 20)
	d := e.open(rows...)
	keys := make([]string, len(rows))
	for i := range rows {
		keys[i] = rows[i].Key
	}
	var got lookup.Rows
	got.Reset(d.Fields(), len(keys))
	if err := d.Get(e.ctx, keys, &got); err != nil {
		e.Fatal(err)
	}
	cities := slices.Clone(got.Columns[3].Strings)
	copies := make([]string, len(cities))
	for i := range cities {
		copies[i] = strings.Clone(cities[i])
	}
	for range 3 { // other answers may overwrite what the strings point at
		slices.Reverse(keys)
		got.Reset(d.Fields(), len(keys))
		if err := d.Get(e.ctx, keys, &got); err != nil {
			e.Fatal(err)
		}
	}
	if diff := cmp.Diff(copies, cities); diff != "" {
		e.Errorf("strings of an earlier answer changed:\n%s", diff)
	}
}

func (e *env) concurrent() {
	rows := makeRows("c", 200)
	d := e.open(rows...)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			for range 10 {
				perm := r.Perm(len(rows))[:50]
				keys := make([]string, len(perm))
				for i, p := range perm {
					keys[i] = rows[p].Key
				}
				var got lookup.Rows
				got.Reset(d.Fields(), len(keys))
				if err := d.Get(e.ctx, keys, &got); err != nil {
					e.Errorf("Get: %v", err)
					return
				}
				for i, p := range perm {
					if !got.IsFound(i) || got.Columns[1].Ints[i] != int64(p) {
						e.Errorf("key %q: found %v, visits %d, want %d", keys[i], got.IsFound(i), got.Columns[1].Ints[i], p)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func (e *env) check() {
	d := e.open(makeRows("k", 1)...)
	if err := d.Check(e.ctx); err != nil {
		e.Errorf("Check: %v", err)
	}
}

func (e *env) closeTwice() {
	d := e.h.Open(e.T, e.h.Address, e.h.Put(e.T, makeRows("x", 1)))
	_ = try(e.ctx, d, "a")
	for range 2 {
		if err := d.Close(); err != nil {
			e.Errorf("Close: %v", err)
		}
	}
}

func (e *env) afterClose() {
	d := e.h.Open(e.T, e.h.Address, e.h.Put(e.T, makeRows("x", 1)))
	if err := d.Close(); err != nil {
		e.Fatal(err)
	}
	e.wantKind("Get after Close", try(e.ctx, d, "a"), errkind.Closed)
	e.wantKind("Check after Close", d.Check(e.ctx), errkind.Closed)
}
