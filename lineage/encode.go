package lineage

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/freshet-io/freshet/event"
)

// A message is
//
//	"FL", version, flags; CRC-32C of all behind it (4 bytes)
//	rows; least and greatest event time; the source, with its size in front
//	event ids; results' ids; keys; partitions; positions; event times; arrivals; routes; traces
//	the features' and the look-ups' columns
//	for each step: arms, arm of each row, paths, outputs, calls, call of each row, shadows, explanations
//
// docs/formats/predictions.md has all of it.
const (
	magic0, magic1 = 'F', 'L'
	wireVersion    = 1
	headBytes      = 8
)

const (
	maxRows = 1 << 14
	// maxCells bounds the values of a message, so that a small one cannot claim a large memory.
	maxCells = 1 << 22
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encoder writes batches of one source as messages. It belongs to one goroutine
// and allocates nothing once it has seen batches of a size.
type Encoder struct {
	source []byte
	width  int // values of a row, at most

	ints     []int64
	floats   []float64
	few      few
	set      []bool
	some     []string
	texts    []string
	aliases  []string
	distinct map[string]int64
}

// NewEncoder returns an Encoder for the predictions of a source.
func NewEncoder(s *Source) *Encoder {
	e := &Encoder{source: s.append(nil), width: 16 + 2*len(s.Features)}
	for _, st := range s.Steps {
		e.width += 16 + len(st.Outputs) + len(st.Inputs)
	}
	return e
}

// MaxRows is how many rows one message may have: 16,384, and fewer where a row
// has more than 256 values.
func (e *Encoder) MaxRows() int { return max(1, min(maxRows, maxCells/e.width)) }

// Append appends the message of all rows of b to dst. Rows beyond MaxRows, and
// messages above the broker's limit, are for the caller to part with AppendRows.
func (e *Encoder) Append(dst []byte, b *Batch) []byte { return e.AppendRows(dst, b, 0, b.N) }

// AppendRows appends a message of the rows from ≤ i < to, at most MaxRows. It
// stands for itself like that of a whole batch.
func (e *Encoder) AppendRows(dst []byte, b *Batch, from, to int) []byte {
	n := to - from
	start := len(dst)
	dst = append(dst, magic0, magic1, wireVersion, 0, 0, 0, 0, 0)
	dst = binary.AppendUvarint(dst, uint64(n))
	var least, most int64
	for i, t := range b.Time[from:to] {
		if i == 0 {
			least, most = t, t
		}
		least, most = min(least, t), max(most, t)
	}
	dst = appendZigzag(dst, least)
	dst = appendZigzag(dst, most)
	dst = appendText(dst, e.source)

	dst = e.appendTexts(dst, b.IDs[from:to])
	dst = e.appendBytes(dst, b.Results, from, to)
	dst = e.appendTexts(dst, b.Keys[from:to])
	dst = appendInts(dst, widen(&e.ints, b.Partition[from:to]))
	dst = appendInts(dst, widen(&e.ints, b.Position[from:to]))
	dst = appendTimes(dst, widen(&e.ints, b.Time[from:to]))
	dst = appendTimes(dst, widen(&e.ints, b.Arrival[from:to]))
	dst = appendInts(dst, widen(&e.ints, b.Route[from:to]))
	if len(b.Trace) > 0 {
		dst = e.appendTexts(dst, b.Trace[from:to])
	} else if n > 0 {
		dst = append(dst, textSame, 0)
	}
	for _, c := range b.Features {
		dst = e.appendColumn(dst, c, from, to)
	}
	dst = binary.AppendUvarint(dst, uint64(len(b.Lookups)))
	for _, c := range b.Lookups {
		dst = e.appendColumn(dst, c, from, to)
	}
	for i := range b.Steps {
		dst = e.appendAnswers(dst, &b.Steps[i], from, to)
	}
	clear(e.some)
	clear(e.texts)
	clear(e.distinct)
	seal(dst[start:])
	return dst
}

// seal writes the checksum of a message into it.
func seal(message []byte) {
	binary.LittleEndian.PutUint32(message[4:], crc32.Checksum(message[headBytes:], castagnoli))
}

func widen[T ~int | ~int32 | ~int64 | ~uint8 | ~uint16](into *[]int64, vs []T) []int64 {
	out := sized(*into, len(vs))
	*into = out
	for i, v := range vs {
		out[i] = int64(v)
	}
	return out
}

// columnNull is set in a column's kind where a set of rows without a value follows.
const columnNull = 1 << 7

func (e *Encoder) appendColumn(b []byte, c *event.Column, from, to int) []byte {
	kind := byte(c.Kind)
	null := false
	if c.Null != nil {
		for _, v := range c.Null[from:to] {
			null = null || v
		}
	}
	if null {
		b = appendSet(append(b, kind|columnNull), c.Null[from:to])
	} else {
		b = append(b, kind)
	}
	switch c.Kind {
	case event.Float:
		return e.appendFloats(b, c.Floats[from:to])
	case event.Bool:
		return appendSet(b, c.Bools[from:to])
	case event.String:
		return e.appendTexts(b, c.Strings[from:to])
	case event.Time:
		return appendTimes(b, widen(&e.ints, c.Ints[from:to]))
	default:
		return appendInts(b, widen(&e.ints, c.Ints[from:to]))
	}
}

func (e *Encoder) appendAnswers(b []byte, a *Answers, from, to int) []byte {
	b = binary.AppendUvarint(b, uint64(len(a.Arms)))
	for i := range a.Arms {
		arm := &a.Arms[i]
		for _, s := range [...]string{arm.Model, arm.Version, arm.Digest, arm.Role, arm.Rollout} {
			b = appendText(b, s)
		}
	}
	b = appendInts(b, widen(&e.ints, a.Arm[from:to]))
	b = appendInts(b, widen(&e.ints, a.Path[from:to]))
	for _, c := range a.Outputs {
		b = e.appendColumn(b, c, from, to)
	}
	b = e.appendCalls(b, a, from, to)
	b = e.appendShadow(b, a, from, to)
	return e.appendExplained(b, a, from, to)
}

// appendCalls writes the calls that the rows name. A row that names none has the
// number behind the last.
func (e *Encoder) appendCalls(b []byte, a *Answers, from, to int) []byte {
	if len(a.Calls) == 0 || from == to {
		return append(b, 0)
	}
	least, end := len(a.Calls), 0
	for _, c := range a.Called[from:to] {
		if at := int(c); at < len(a.Calls) {
			least, end = min(least, at), max(end, at+1)
		}
	}
	if end == 0 {
		return append(b, 0)
	}
	calls := a.Calls[least:end]
	b = binary.AppendUvarint(b, uint64(len(calls)))
	e.ints = sized(e.ints, len(calls))
	for i := range calls {
		e.ints[i] = calls[i].Answered
	}
	b = appendTimes(b, e.ints)
	for i := range calls {
		c := &calls[i]
		b = binary.AppendUvarint(b, uint64(max(c.Rows, 0)))
		b = append(b, byte(c.Reason))
		b = binary.AppendUvarint(b, uint64(max(c.Attempts, 0)))
	}
	ints := widen(&e.ints, a.Called[from:to])
	for i, c := range ints {
		if int(c) < len(a.Calls) {
			ints[i] = c - int64(least)
		} else {
			ints[i] = int64(len(calls))
		}
	}
	return appendInts(b, ints)
}

func (e *Encoder) appendShadow(b []byte, a *Answers, from, to int) []byte {
	n := 0
	for i := range a.Shadow {
		if s := &a.Shadow[i]; s.Row >= from && s.Row < to {
			n++
		}
	}
	b = binary.AppendUvarint(b, uint64(n))
	if n == 0 {
		return b
	}
	e.ints, e.floats = sized(e.ints, n)[:0], sized(e.floats, n)[:0]
	for i := range a.Shadow {
		if s := &a.Shadow[i]; s.Row >= from && s.Row < to {
			e.ints = append(e.ints, int64(s.Row-from))
			e.floats = append(e.floats, s.Score)
		}
	}
	b = appendInts(b, e.ints)
	b = e.appendFloats(b, e.floats)
	e.ints = e.ints[:0]
	for i := range a.Shadow {
		if s := &a.Shadow[i]; s.Row >= from && s.Row < to {
			e.ints = append(e.ints, int64(s.Arm))
		}
	}
	return appendInts(b, e.ints)
}

// appendExplained writes explanations side by side: rows, methods, links, bases,
// raw outputs, and the values of each input.
func (e *Encoder) appendExplained(b []byte, a *Answers, from, to int) []byte {
	first, end := -1, 0
	for i := range a.Explained {
		if x := &a.Explained[i]; x.Row >= from && x.Row < to {
			if first < 0 {
				first = i
			}
			end = i + 1
		}
	}
	if first < 0 {
		return append(b, 0)
	}
	xs := a.Explained[first:end] // they rise by row
	width := 0
	for i := range xs {
		width = max(width, len(xs[i].Values))
	}
	b = binary.AppendUvarint(b, uint64(len(xs)))
	b = binary.AppendUvarint(b, uint64(width))
	for _, of := range [...]func(*Explained) int64{
		func(x *Explained) int64 { return int64(x.Row - from) },
		func(x *Explained) int64 { return int64(x.Method) },
		func(x *Explained) int64 { return int64(x.Link) },
	} {
		e.ints = sized(e.ints, len(xs))
		for i := range xs {
			e.ints[i] = of(&xs[i])
		}
		b = appendInts(b, e.ints)
	}
	e.floats = sized(e.floats, len(xs))
	for i := range xs {
		e.floats[i] = xs[i].Base
	}
	b = e.appendFloats(b, e.floats)
	for i := range xs {
		e.floats[i] = xs[i].Raw
	}
	b = e.appendFloats(b, e.floats)
	for j := range width {
		for i := range xs {
			e.floats[i] = 0
			if j < len(xs[i].Values) {
				e.floats[i] = xs[i].Values[j]
			}
		}
		b = e.appendFloats(b, e.floats)
	}
	return b
}

func (s *Source) append(b []byte) []byte {
	for _, t := range [...]string{s.Pipeline, s.Config, s.Topic, s.Contract} {
		b = appendText(b, t)
	}
	b = binary.AppendUvarint(b, uint64(len(s.Features)))
	for i := range s.Features {
		f := &s.Features[i]
		b = appendText(b, f.Name)
		b = appendZigzag(b, f.Delay)
		b = appendZigzag(b, f.Window)
		b = appendZigzag(b, int64(f.Lookup))
	}
	b = binary.AppendUvarint(b, uint64(len(s.Steps)))
	for i := range s.Steps {
		b = appendNames(appendNames(b, s.Steps[i].Outputs), s.Steps[i].Inputs)
	}
	return appendNames(b, s.Routes)
}

func appendNames(b []byte, names []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, n := range names {
		b = appendText(b, n)
	}
	return b
}
