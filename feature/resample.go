package feature

import (
	"fmt"
	"hash/fnv"
	"math"
	"strings"
	"time"
	"unsafe"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

var fillNames = [...]string{"none", "linear", "last"}

// String returns the name of the fill as it is written in pipelines.
func (f Fill) String() string {
	if int(f) < len(fillNames) {
		return fillNames[f]
	}
	return fmt.Sprintf("fill(%d)", uint8(f))
}

// ParseFill returns the fill with the given name.
func ParseFill(name string) (Fill, error) {
	for i, n := range fillNames {
		if n == name {
			return Fill(i), nil
		}
	}
	return 0, errkind.Errorf(errkind.Config, "no fill %q: use one of %v", name, fillNames)
}

// maxFilled bounds the grid points that one reading can give out.
const maxFilled = 100_000

// ResampleConfig defines a series with a fixed step.
type ResampleConfig struct {
	// Every is the step: grid points are its multiples, counted from the Unix epoch.
	Every time.Duration
	// Limit is the longest gap that is filled, from Every to 100,000 times Every.
	Limit time.Duration
	// Retain is how much older than the newest reading of any key a reading may
	// be and still find the state of a key that is silent.
	Retain time.Duration
	// Fields are the fields of the readings that the series has, at most 64.
	Fields []ResampleField
}

// ResampleField is one field of a series.
type ResampleField struct {
	Name string
	// Kind is the kind of the readings' column and of the series'. Where it is
	// Float, the readings' may be Int or Bool. FillLinear needs Float.
	Kind event.Kind
	Fill Fill
}

// Series is the rows that a Resample gave out: those of one reading ascending
// in time, those of several in the order of the readings. Its strings may be
// the batch's.
type Series struct {
	// Row is, for each row, the reading that made it known, by its number in the batch.
	Row []int32
	// Keys and Times are the series' keys and grid points, in Unix nanoseconds.
	Keys  []string
	Times []int64
	// Columns are the series' values, one column for each field, in order.
	Columns []*event.Column
	// Filled says of a row that its key has no reading in (time − Every, time].
	Filled []bool
	// Late is the number of readings that were older than their key's newest.
	Late int

	nulls [][]bool
}

// Len is the number of rows.
func (s *Series) Len() int { return len(s.Row) }

func (s *Series) reset(fields []ResampleField) {
	if len(s.Columns) != len(fields) {
		s.Columns = make([]*event.Column, len(fields))
		s.nulls = make([][]bool, len(fields))
		for i := range s.Columns {
			s.Columns[i] = &event.Column{}
		}
	}
	s.Row, s.Keys, s.Times, s.Filled, s.Late = s.Row[:0], s.Keys[:0], s.Times[:0], s.Filled[:0], 0
	for i, c := range s.Columns {
		c.Name, c.Kind = fields[i].Name, fields[i].Kind
		c.Reset(0)
		s.nulls[i] = s.nulls[i][:0]
	}
}

// finish shows the null marks of the columns that have any.
func (s *Series) finish() {
	for i, c := range s.Columns {
		for _, null := range s.nulls[i] {
			if null {
				c.Null = s.nulls[i]
				break
			}
		}
	}
}

// Resampler turns each key's irregular readings into a series with a fixed
// step. It belongs to one goroutine. Its state is the consequence of the bytes
// that Resample and AppendSnapshot return, as that of Windows is.
type Resampler struct {
	fields        []ResampleField
	every         int64
	limit, retain uint64
	print         uint64
	index         index
	watermark     int64 // newest time of any reading

	// Per key, by number.
	newest []int64  // time of the newest reading
	known  []uint64 // bit f: field f has had a reading
	marks  []uint32 // the last call that changed the key; 0 where the number has no key

	// Per key and field: the newest reading of the field.
	times []int64
	words []uint64
	texts []string // only if there is a String field

	// Snapshot cycle.
	cursor, end int

	// Scratch of one call.
	call    uint32
	changed []uint32
	reading []fieldReading
}

// fieldReading is what one reading says of one field.
type fieldReading struct {
	ok   bool
	word uint64
	text string
}

var _ State = (*Resampler)(nil)

// NewResampler compiles the definition. Errors are of kind Config.
func NewResampler(c ResampleConfig) (*Resampler, error) {
	switch {
	case c.Every <= 0:
		return nil, errkind.Errorf(errkind.Config, "resample every %v: must be positive", c.Every)
	case c.Limit < c.Every:
		return nil, errkind.Errorf(errkind.Config, "resample limit %v: must be at least the step of %v", c.Limit, c.Every)
	case c.Limit/c.Every > maxFilled:
		return nil, errkind.Errorf(errkind.Config, "resample limit %v: must be at most %d steps of %v", c.Limit, maxFilled, c.Every)
	case c.Retain < 0:
		return nil, errkind.Errorf(errkind.Config, "resample retain %v: must not be negative", c.Retain)
	case len(c.Fields) == 0:
		return nil, errkind.New(errkind.Config, "resample has no fields: give at least one")
	case len(c.Fields) > maxFields:
		return nil, errkind.Errorf(errkind.Config, "resample has %d fields: at most %d are possible", len(c.Fields), maxFields)
	}
	h := fnv.New64a()
	fmt.Fprintf(h, "freshet resample %d every %d limit %d retain %d\n", formatVersion, c.Every, c.Limit, c.Retain)
	r := &Resampler{
		every:     int64(c.Every),
		limit:     uint64(c.Limit),
		retain:    uint64(c.Retain),
		index:     newIndex(0),
		watermark: math.MinInt64,
		call:      noCall,
		reading:   make([]fieldReading, len(c.Fields)),
	}
	names := map[string]bool{}
	for _, f := range c.Fields {
		switch {
		case f.Name == "" || names[f.Name]:
			return nil, errkind.Errorf(errkind.Config, "resample field %q: names must be given, and different", f.Name)
		case f.Kind > event.Time:
			return nil, errkind.Errorf(errkind.Config, "resample field %q: unknown kind %d", f.Name, uint8(f.Kind))
		case int(f.Fill) >= len(fillNames):
			return nil, errkind.Errorf(errkind.Config, "resample field %q: unknown fill %d", f.Name, uint8(f.Fill))
		case f.Fill == FillLinear && f.Kind != event.Float:
			return nil, errkind.Errorf(errkind.Config, "resample field %q: linear needs a number, but it is a %v: use last or none", f.Name, f.Kind)
		}
		names[f.Name] = true
		r.fields = append(r.fields, f)
		fmt.Fprintf(h, "%q %d %d\n", f.Name, f.Kind, f.Fill)
	}
	r.print = h.Sum64()
	return r, nil
}

// Fields returns the columns of readings that Resample wants, in order. Where it
// says Float, Resample takes Int and Bool columns as well.
func (r *Resampler) Fields() []Field {
	fields := make([]Field, len(r.fields))
	for i, f := range r.fields {
		fields[i] = Field{f.Name, f.Kind}
	}
	return fields
}

// Fingerprint is State.Fingerprint.
func (r *Resampler) Fingerprint() uint64 { return r.print }

// Keys is the number of keys with state.
func (r *Resampler) Keys() int { return r.index.len() }

// Bytes is the approximate size of the state in memory; of texts, only their headers.
func (r *Resampler) Bytes() int64 {
	n := r.index.memory()
	n += 8*(cap(r.newest)+cap(r.known)+cap(r.times)+cap(r.words)) + 4*cap(r.marks)
	return int64(n + cap(r.texts)*int(unsafe.Sizeof("")))
}

// Resample takes in the readings b.Keys, b.Times and b.Fields from the number
// from on, in order, until all are in or out has maxRows rows or more; one
// reading can give out Limit / Every + 1. It replaces what out holds, appends to
// delta the change that ApplyDelta replays, nothing where nothing changed, and
// returns the number of the next reading, b.N behind the last: with fewer, call
// again from there. At least one reading is taken. Nothing of b is kept. Wrong kinds or short columns panic:
// they are mistakes in the program. NaN and infinite values count as null.
//
// docs/features.md, "Resampling", defines the series.
func (r *Resampler) Resample(b *Batch, from, maxRows int, out *Series, delta []byte) (next int, _ []byte) {
	out.reset(r.fields)
	r.begin()
	for next = from; next < b.N && (next == from || out.Len() < maxRows); next++ {
		for f := range r.reading {
			r.reading[f] = readField(b.Fields[f], next, r.fields[f].Kind)
		}
		r.take(b.Keys[next], b.Times[next], int32(next), out)
	}
	out.finish()
	clear(r.reading)
	return next, r.appendDelta(delta)
}

func readField(c *event.Column, i int, kind event.Kind) fieldReading {
	if c.IsNull(i) {
		return fieldReading{}
	}
	switch {
	case kind == event.String:
		return fieldReading{ok: true, text: c.Strings[i]}
	case c.Kind == event.Bool:
		v := 0
		if c.Bools[i] {
			v = 1
		}
		if kind == event.Float {
			return fieldReading{ok: true, word: math.Float64bits(float64(v))}
		}
		return fieldReading{ok: true, word: uint64(v)}
	case kind != event.Float:
		return fieldReading{ok: true, word: uint64(c.Ints[i])}
	case c.Kind == event.Int:
		return fieldReading{ok: true, word: math.Float64bits(float64(c.Ints[i]))}
	}
	v := c.Floats[i]
	return fieldReading{ok: v-v == 0, word: math.Float64bits(v)}
}

// take gives out the grid points that a reading makes known, and keeps it.
func (r *Resampler) take(key string, t int64, row int32, out *Series) {
	k, ok := r.index.find(key)
	if !ok {
		k = r.add(key)
		r.newest[k] = t
		r.change(k)
		if t%r.every == 0 {
			r.giveOut(k, key, t, t, row, out)
		}
		r.keep(k, t)
		return
	}
	newest := r.newest[k]
	switch {
	case t < newest:
		out.Late++
		r.keep(k, t)
		return
	case uint64(t)-uint64(newest) <= r.limit:
		for g, ok := r.after(newest); ok && g <= t; g, ok = g+r.every, t-g >= r.every {
			r.giveOut(k, key, g, t, row, out)
		}
	case t%r.every == 0:
		r.giveOut(k, key, t, t, row, out)
	}
	r.newest[k] = t
	r.change(k)
	r.keep(k, t)
}

// after returns the first grid point after t; there is none where time ends.
func (r *Resampler) after(t int64) (int64, bool) {
	rest := t % r.every
	if rest < 0 {
		rest += r.every // t is before the epoch
	}
	step := r.every - rest
	return t + step, t <= math.MaxInt64-step
}

// giveOut appends the row of grid point g, which the reading at t ≥ g made
// known. All of the key's readings before this one lie before g.
func (r *Resampler) giveOut(k uint32, key string, g, t int64, row int32, out *Series) {
	out.Row = append(out.Row, row)
	out.Keys = append(out.Keys, key)
	out.Times = append(out.Times, g)
	out.Filled = append(out.Filled, g != t && uint64(g)-uint64(r.newest[k]) >= uint64(r.every))
	for f := range r.fields {
		v := r.valueAt(int(k)*len(r.fields)+f, k, f, g, t)
		c := out.Columns[f]
		switch c.Kind {
		case event.Float:
			c.Floats = append(c.Floats, math.Float64frombits(v.word))
		case event.Bool:
			c.Bools = append(c.Bools, v.word != 0)
		case event.String:
			c.Strings = append(c.Strings, v.text)
		default:
			c.Ints = append(c.Ints, int64(v.word))
		}
		out.nulls[f] = append(out.nulls[f], !v.ok)
	}
}

// valueAt is field f at grid point g; slot is where the key's state of the field lies.
func (r *Resampler) valueAt(slot int, k uint32, f int, g, t int64) fieldReading {
	if g == t && r.reading[f].ok {
		return r.reading[f]
	}
	if r.known[k]>>f&1 == 0 {
		return fieldReading{}
	}
	before := r.times[slot]
	switch r.fields[f].Fill {
	case FillLinear:
		if g == t || !r.reading[f].ok || uint64(t)-uint64(before) > r.limit {
			return fieldReading{}
		}
		a, b := math.Float64frombits(r.words[slot]), math.Float64frombits(r.reading[f].word)
		return fieldReading{ok: true, word: math.Float64bits(between(a, b, float64(g-before)/float64(t-before)))}
	case FillLast:
		if uint64(g)-uint64(before) > r.limit {
			return fieldReading{}
		}
	default:
		if uint64(g)-uint64(before) >= uint64(r.every) {
			return fieldReading{}
		}
	}
	v := fieldReading{ok: true, word: r.words[slot]}
	if r.texts != nil {
		v.text = r.texts[slot]
	}
	return v
}

// between is a + w (b − a), rounded after each operation, for 0 < w < 1.
func between(a, b, w float64) float64 {
	if d := b - a; d-d == 0 {
		return a + float64(w*d)
	}
	return float64(a*(1-w)) + float64(b*w) // the difference is beyond the largest double
}

// keep makes the reading the newest of its fields, unless they have a newer one.
func (r *Resampler) keep(k uint32, t int64) {
	for f := range r.reading {
		slot := int(k)*len(r.fields) + f
		v := &r.reading[f]
		if !v.ok || r.known[k]>>f&1 != 0 && t < r.times[slot] {
			continue
		}
		r.set(k, f, t, v.word, v.text)
		r.change(k)
	}
	r.watermark = max(r.watermark, t)
}

func (r *Resampler) set(k uint32, f int, t int64, word uint64, text string) {
	slot := int(k)*len(r.fields) + f
	r.known[k] |= 1 << f
	r.times[slot], r.words[slot] = t, word
	if r.texts != nil && r.texts[slot] != text {
		r.texts[slot] = strings.Clone(text)
	}
}
