package lineage

import (
	"sort"
	"strconv"

	"github.com/freshet-io/freshet/event"
)

// placeOf names an event without an id by its place, as results do.
func placeOf(m *Message, row int) string {
	return "@" + strconv.Itoa(int(m.Batch.Partition[row])) + "/" + strconv.FormatInt(m.Batch.Position[row], 10)
}

// pick returns the given rows, rising, as a batch of their own.
func (b *Batch) pick(rows []int) *Batch {
	out := &Batch{
		N: len(rows), IDs: take(b.IDs, rows), Keys: take(b.Keys, rows), Results: take(b.Results, rows),
		Partition: take(b.Partition, rows), Position: take(b.Position, rows), Time: take(b.Time, rows),
		Arrival: take(b.Arrival, rows), Route: take(b.Route, rows), Trace: take(b.Trace, rows),
		Features: takeColumns(b.Features, rows), Lookups: takeColumns(b.Lookups, rows),
	}
	for i := range b.Steps {
		a := &b.Steps[i]
		s := Answers{Arms: a.Arms, Arm: take(a.Arm, rows), Path: take(a.Path, rows), Outputs: takeColumns(a.Outputs, rows), Calls: a.Calls}
		if len(a.Calls) > 0 {
			s.Called = take(a.Called, rows)
		}
		for _, x := range a.Shadow {
			if at, ok := indexOf(rows, x.Row); ok {
				x.Row = at
				s.Shadow = append(s.Shadow, x)
			}
		}
		for _, x := range a.Explained {
			if at, ok := indexOf(rows, x.Row); ok {
				x.Row = at
				s.Explained = append(s.Explained, x)
			}
		}
		out.Steps = append(out.Steps, s)
	}
	return out
}

func indexOf(rows []int, row int) (int, bool) {
	at := sort.SearchInts(rows, row)
	return at, at < len(rows) && rows[at] == row
}

func take[T any](vs []T, rows []int) []T {
	out := make([]T, len(rows))
	for i, r := range rows {
		out[i] = vs[r]
	}
	return out
}

func takeColumns(cols []*event.Column, rows []int) (out []*event.Column) {
	for _, c := range cols {
		t := &event.Column{Name: c.Name, Kind: c.Kind}
		t.Reset(len(rows))
		for i, r := range rows {
			switch c.Kind {
			case event.Float:
				t.Floats[i] = c.Floats[r]
			case event.Bool:
				t.Bools[i] = c.Bools[r]
			case event.String:
				t.Strings[i] = c.Strings[r]
			default:
				t.Ints[i] = c.Ints[r]
			}
			if c.IsNull(r) {
				t.SetNull(i)
			}
		}
		out = append(out, t)
	}
	return out
}
