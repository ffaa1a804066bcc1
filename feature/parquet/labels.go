package parquet

import (
	"context"
	"fmt"
	"math"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/contract"
	"github.com/freshet-io/freshet/event"
)

// Labels says which labels are joined to rows.
type Labels struct {
	// Topic is where they are.
	Topic    string
	Contract *contract.Contract
	// Event is the label's field with the id of the event that it is about.
	Event string
	// Time overrides the contract's rule where set.
	Time contract.TimeRule
	// Default holds a float64, bool or string for the fields of events without a label.
	Default map[string]any
}

// columns are the label's fields: those of the contract without the event's id, and the label's own id and time.
func (l *Labels) columns() (cs []Column) {
	if l == nil {
		return nil
	}
	cs = []Column{}
	timeField := l.Contract.Time.Field
	if l.Time.Field != "" {
		timeField = l.Time.Field
	}
	for _, f := range l.Contract.Fields() {
		if f.Path != l.Event && f.Path != timeField && f.Path != l.Contract.ID {
			cs = append(cs, Column{f.Path, f.Kind})
		}
	}
	return cs
}

// LabelSummary says what became of the labels.
type LabelSummary struct {
	// Read is how many labels there were, Invalid how many of them are not labels of the contract.
	Read    int64 `json:"read"`
	Invalid int64 `json:"invalid"`
	// Joined is how many rows have one.
	Joined int64 `json:"joined"`
}

// labelTable finds the label that counts by the id of its event: the last by
// time, and of labels with the same time the one read last.
type labelTable struct {
	columns []Column
	index   map[id]int32
	times   []int64
	values  [][]uint64 // by field
	null    [][]bool
	texts   map[string]uint64 // a text's place in list
	list    []string
	none    []value // of events without a label
}

// readLabels reads the labels topic up to its end at this moment.
func readLabels(ctx context.Context, b *broker.Broker, l *Labels, progress func(records int64)) (*labelTable, *LabelSummary, error) {
	t := &labelTable{columns: l.columns(), index: map[id]int32{}, texts: map[string]uint64{}}
	t.values, t.null = make([][]uint64, len(t.columns)), make([][]bool, len(t.columns))
	var fields []string
	for _, c := range t.columns {
		fields = append(fields, c.Name)
		t.none = append(t.none, defaultValue(c.Kind, l.Default[c.Name]))
	}
	decoder, err := l.Contract.NewDecoder(contract.Options{Fields: fields, ID: l.Event, Time: l.Time})
	if err != nil {
		return nil, nil, err
	}
	sum := &LabelSummary{}
	topic, err := b.Describe(ctx, l.Topic, "")
	if err != nil {
		return nil, nil, err
	}
	var rows contract.Rows
	for p, state := range topic.Partitions {
		if state.Start >= state.End {
			continue
		}
		c, err := openCursor(ctx, b, l.Topic, p, state)
		if err != nil {
			return nil, nil, err
		}
		for err == nil {
			var recs []event.Record
			if recs, err = c.fetch(ctx); err != nil || recs == nil {
				break
			}
			decoder.Decode(recs, &rows)
			sum.Read += int64(len(recs))
			sum.Invalid += int64(len(rows.Faults))
			for i := range rows.N {
				t.put(&rows, i)
			}
			progress(int64(len(recs)))
		}
		if cerr := c.close(); err == nil {
			err = cerr
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read labels of %s: %w", l.Topic, err)
		}
	}
	return t, sum, nil
}

func (t *labelTable) put(rows *contract.Rows, i int) {
	if rows.ID[i] == "" {
		return // about no event
	}
	key := hashID([]byte(rows.ID[i]))
	at, there := t.index[key]
	switch {
	case !there:
		at = int32(len(t.times))
		t.index[key] = at
		t.times = append(t.times, rows.Time[i])
		for f := range t.columns {
			t.values[f], t.null[f] = append(t.values[f], 0), append(t.null[f], false)
		}
	case rows.Time[i] < t.times[at]:
		return
	}
	t.times[at] = rows.Time[i]
	for f := range t.columns {
		c := &rows.Columns[f]
		if t.null[f][at] = c.IsNull(i); t.null[f][at] {
			continue
		}
		var bits uint64
		switch c.Kind {
		case event.Float:
			bits = math.Float64bits(c.Floats[i])
		case event.Int, event.Time:
			bits = uint64(c.Ints[i])
		case event.Bool:
			if c.Bools[i] {
				bits = 1
			}
		default:
			bits = t.intern(c.Strings[i])
		}
		t.values[f][at] = bits
	}
}

func (t *labelTable) intern(s string) uint64 {
	at, ok := t.texts[s]
	if !ok {
		s = string([]byte(s)) // it aliases the record
		at = uint64(len(t.list))
		t.texts[s] = at
		t.list = append(t.list, s)
	}
	return at
}

// join fills in a row's label; it reports whether there is one.
func (t *labelTable) join(s *schema, r *row) bool {
	at, ok := t.index[hashID(r.values[colID].text)]
	if !ok {
		for f, c := range s.labels {
			r.values[c] = t.none[f]
		}
		return false
	}
	r.setInt(s.labelTime, t.times[at])
	for f, c := range s.labels {
		switch {
		case t.null[f][at]:
			r.values[c] = value{}
		case t.columns[f].Kind == event.String:
			r.values[c] = value{set: true, text: []byte(t.list[t.values[f][at]])}
		default:
			r.values[c] = value{set: true, bits: t.values[f][at]}
		}
	}
	return true
}

func defaultValue(k event.Kind, v any) value {
	switch v := v.(type) {
	case float64:
		if k == event.Int {
			return value{set: true, bits: uint64(int64(v))}
		}
		return value{set: true, bits: math.Float64bits(v)}
	case bool:
		if v {
			return value{set: true, bits: 1}
		}
		return value{set: true}
	case string:
		return value{set: true, text: []byte(v)}
	}
	return value{}
}
