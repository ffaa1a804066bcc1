package pipeline

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/freshet-io/freshet/event"
)

// A record of a shuffle topic holds the rows of one frame of one task that go to
// one partition; without rows it only brings the watermark. Version 2:
//
//	version byte; partition of the task before (uvarint); its number among that
//	task's records (uvarint, 0 without one); watermark (zigzag);
//	rows (uvarint); then side by side: keys, event ids, source keys (texts),
//	event times, arrivals (each the difference to the one before, zigzag),
//	origins (partition uvarint, position zigzag difference), a byte that says
//	whether traces follow (texts), and the stage's columns.
//
// A text is its length (uvarint) and its bytes. A column is a form byte and its
// values; bit 7 of the form says that a bitmap of nulls comes first.
const moveVersion = 2

const (
	formRaw   = 0 // float64s, little endian
	formInts  = 1 // zigzag varints
	formCents = 2 // zigzag varints of hundredths
	formBits  = 3 // bools, a byte each
	formTexts = 4
	formNulls = 1 << 7
)

func zigzag(v int64) uint64   { return uint64(v<<1) ^ uint64(v>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

func appendZigzag(b []byte, v int64) []byte { return binary.AppendUvarint(b, zigzag(v)) }

func (c *cursor) zigzag() int64 { return unzigzag(c.uvarint()) }

func (c *cursor) byte() byte {
	if len(c.b) == 0 {
		c.bad = true
		return 0
	}
	v := c.b[0]
	c.b = c.b[1:]
	return v
}

// text returns a string that aliases the record.
func (c *cursor) text() string { return textOf(c.bytes()) }

func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendMove writes the given rows of a frame as one record.
func appendMove(b []byte, f *frame, rows []int32, task int, number uint64, keys []string, inputs []int) []byte {
	b = append(b, moveVersion)
	b = binary.AppendUvarint(b, uint64(task))
	b = binary.AppendUvarint(b, number)
	b = appendZigzag(b, f.watermark)
	b = binary.AppendUvarint(b, uint64(len(rows)))
	if len(rows) == 0 {
		return b
	}
	for _, i := range rows {
		b = appendText(b, keys[i])
	}
	for _, i := range rows {
		b = appendText(b, f.rows.ID[i])
	}
	for _, i := range rows {
		b = appendText(b, f.rows.Key[i])
	}
	b = appendDeltas(b, f.rows.Time, rows)
	b = appendDeltas(b, f.rows.Arrival, rows)
	traced := false
	last := int64(0)
	for _, i := range rows {
		partition, position, headers := f.place(int(i), task)
		b = binary.AppendUvarint(b, uint64(partition))
		b = appendZigzag(b, position-last)
		last = position
		traced = traced || len(headers) > 0
	}
	if !traced {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		for _, i := range rows {
			_, _, headers := f.place(int(i), task)
			var h event.Headers
			for _, name := range [...]string{"traceparent", "tracestate"} {
				if v, ok := headers.Get(name); ok {
					h = h.Append(name, v)
				}
			}
			b = append(binary.AppendUvarint(b, uint64(len(h))), h...)
		}
	}
	for _, c := range inputs {
		b = appendMoved(b, f.columns[c], rows)
	}
	return b
}

func appendDeltas(b []byte, vs []int64, rows []int32) []byte {
	last := int64(0)
	for _, i := range rows {
		b = appendZigzag(b, vs[i]-last)
		last = vs[i]
	}
	return b
}

// appendMoved writes rows of a column.
func appendMoved(b []byte, c *event.Column, rows []int32) []byte {
	form := byte(0)
	switch c.Kind {
	case event.Float:
		form = floatForm(c.Floats, rows)
	case event.Int, event.Time:
		form = formInts
	case event.Bool:
		form = formBits
	case event.String:
		form = formTexts
	}
	null := false
	if c.Null != nil {
		for _, i := range rows {
			null = null || c.Null[i]
		}
	}
	if null {
		b = append(b, form|formNulls)
		from := len(b)
		b = append(b, make([]byte, (len(rows)+7)/8)...)
		for j, i := range rows {
			if c.Null[i] {
				b[from+j/8] |= 1 << (j % 8)
			}
		}
	} else {
		b = append(b, form)
	}
	switch form {
	case formRaw:
		for _, i := range rows {
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(c.Floats[i]))
		}
	case formInts:
		if c.Kind == event.Float {
			for _, i := range rows {
				b = appendZigzag(b, int64(c.Floats[i]))
			}
			break
		}
		for _, i := range rows {
			b = appendZigzag(b, c.Ints[i])
		}
	case formCents:
		for _, i := range rows {
			b = appendZigzag(b, int64(math.Round(c.Floats[i]*100)))
		}
	case formBits:
		for _, i := range rows {
			v := byte(0)
			if c.Bools[i] {
				v = 1
			}
			b = append(b, v)
		}
	case formTexts:
		for _, i := range rows {
			b = appendText(b, c.Strings[i])
		}
	}
	return b
}

// floatForm chooses how floats are written: exactly in any case.
func floatForm(vs []float64, rows []int32) byte {
	const limit = 1 << 40
	ints, cents := true, true
	for _, i := range rows {
		v := vs[i]
		if !(math.Abs(v) < limit) || v == 0 && math.Signbit(v) {
			return formRaw
		}
		ints = ints && v == math.Trunc(v)
		cents = cents && math.Round(v*100)/100 == v
		if !cents { // every whole number is one of hundredths
			return formRaw
		}
	}
	if ints {
		return formInts
	}
	return formCents
}

// readMove decodes a record into a block, whose texts alias it. It returns the
// partition of the task that wrote it, and its watermark.
func readMove(rec *event.Record, b *block, inputs []columnDef) (task int, watermark int64, ok bool) {
	c := cursor{b: rec.Value}
	if c.byte() != moveVersion {
		return 0, 0, false
	}
	from := c.uvarint()
	b.number = c.uvarint()
	watermark = c.zigzag()
	count := c.uvarint()
	if c.bad || from > math.MaxInt32 || count > uint64(len(c.b)) {
		return 0, 0, false
	}
	task = int(from)
	n := int(count)
	b.at, b.left = rec.Position, n
	r := &b.rows
	r.N = n
	r.ID, r.Key, b.keys = sized(r.ID, n), sized(r.Key, n), sized(b.keys, n)
	r.Time, r.Arrival, b.origins = sized(r.Time, n), sized(r.Arrival, n), sized(b.origins, n)
	if n == 0 {
		return task, watermark, !c.bad && len(c.b) == 0
	}
	for i := range n {
		b.keys[i] = c.text()
	}
	for i := range n {
		r.ID[i] = c.text()
	}
	for i := range n {
		r.Key[i] = c.text()
	}
	c.deltas(r.Time)
	c.deltas(r.Arrival)
	last := int64(0)
	for i := range n {
		p := c.uvarint()
		last += c.zigzag()
		c.bad = c.bad || p > math.MaxInt32
		b.origins[i] = origin{partition: int32(p), position: last}
	}
	if c.byte() == 1 {
		for i := range n {
			if h := c.bytes(); len(h) > 0 {
				b.origins[i].trace = append(event.Headers(nil), h...)
			}
		}
	}
	r.Columns = columnsOf(r.Columns, inputs)
	for i := range r.Columns {
		c.moved(&r.Columns[i], n)
	}
	return task, watermark, !c.bad && len(c.b) == 0
}

func (c *cursor) deltas(dst []int64) {
	last := int64(0)
	for i := range dst {
		last += c.zigzag()
		dst[i] = last
	}
}

// moved reads a column that appendMoved wrote.
func (c *cursor) moved(dst *event.Column, n int) {
	form := c.byte()
	dst.Reset(n)
	if form&formNulls != 0 {
		if len(c.b) < (n+7)/8 {
			c.bad = true
			return
		}
		for i := range n {
			if c.b[i/8]>>(i%8)&1 != 0 {
				dst.SetNull(i)
			}
		}
		c.b = c.b[(n+7)/8:]
	}
	switch form &^ formNulls {
	case formRaw:
		if dst.Kind != event.Float || len(c.b) < 8*n {
			c.bad = true
			return
		}
		for i := range n {
			dst.Floats[i] = math.Float64frombits(binary.LittleEndian.Uint64(c.b[8*i:]))
		}
		c.b = c.b[8*n:]
	case formInts:
		switch dst.Kind {
		case event.Float:
			for i := range n {
				dst.Floats[i] = float64(c.zigzag())
			}
		case event.Int, event.Time:
			for i := range n {
				dst.Ints[i] = c.zigzag()
			}
		default:
			c.bad = true
		}
	case formCents:
		if dst.Kind != event.Float {
			c.bad = true
			return
		}
		for i := range n {
			dst.Floats[i] = float64(c.zigzag()) / 100
		}
	case formBits:
		if dst.Kind != event.Bool {
			c.bad = true
			return
		}
		for i := range n {
			dst.Bools[i] = c.byte() != 0
		}
	case formTexts:
		if dst.Kind != event.String {
			c.bad = true
			return
		}
		for i := range n {
			dst.Strings[i] = c.text()
		}
	default:
		c.bad = true
	}
}
