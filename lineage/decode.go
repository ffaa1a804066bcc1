package lineage

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"unsafe"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
	"github.com/freshet-io/freshet/inference"
)

// Header is what the beginning of a message says.
type Header struct {
	// Rows is how many predictions it holds.
	Rows int
	// From and To are the least and the greatest event time, in Unix nanoseconds.
	From, To int64
}

// Message is a decoded message. Its texts alias the bytes that it was made of.
type Message struct {
	Header
	Source *Source
	// Published is when the message was stored, in Unix nanoseconds; who reads it
	// from the topic sets it.
	Published int64
	// Batch holds the rows side by side.
	Batch Batch
}

var errMessage = errkind.New(errkind.Corrupt, "prediction record: the message is cut off or damaged")

// open checks a message's checksum and reads its header; the cursor is behind it.
func open(message []byte) (c cursor, h Header, err error) {
	switch {
	case len(message) < headBytes || message[0] != magic0 || message[1] != magic1:
		return c, h, errkind.New(errkind.Corrupt, "prediction record: this is no message of predictions")
	case message[2] != wireVersion || message[3] != 0:
		return c, h, errkind.Errorf(errkind.Unsupported, "prediction record: the message has version %d (flags %d), this program reads version %d: use a newer program", message[2], message[3], wireVersion)
	case crc32.Checksum(message[headBytes:], castagnoli) != binary.LittleEndian.Uint32(message[4:]):
		return c, h, errMessage
	}
	c = cursor{b: message[headBytes:], cells: maxCells}
	rows := c.uvarint()
	if rows > maxRows {
		return c, h, errMessage
	}
	h = Header{Rows: int(rows), From: c.zigzag(), To: c.zigzag()}
	if c.bad {
		return c, h, errMessage
	}
	return c, h, nil
}

// Peek reads the beginning of a message. Errors are as for Decode.
func Peek(message []byte) (Header, error) {
	_, h, err := open(message)
	return h, err
}

// EventIDs reads only the ids of a message's events, in order of rows; "" is one
// without an id. Errors are as for Decode.
func EventIDs(message []byte) ([]string, error) {
	c, h, err := open(message)
	if err != nil {
		return nil, err
	}
	c.bytes() // the source
	ids := c.strings(h.Rows)
	if c.bad {
		return nil, errMessage
	}
	return ids, nil
}

// Decode reads a message, which must not change while the Message is in use. One
// that is damaged, or no message at all, is Corrupt; one of a later version
// Unsupported.
func Decode(message []byte) (*Message, error) {
	c, h, err := open(message)
	if err != nil {
		return nil, err
	}
	m := &Message{Header: h}
	s := cursor{b: c.bytes()}
	m.Source = s.source()
	if c.bad || s.bad {
		return nil, errMessage
	}
	n := h.Rows
	b := &m.Batch
	b.N = n
	b.IDs = c.strings(n)
	results := c.strings(n)
	b.Results = make([][]byte, len(results))
	for i, r := range results {
		b.Results[i] = unsafe.Slice(unsafe.StringData(r), len(r))
	}
	b.Keys = c.strings(n)
	b.Partition = narrow[int32](&c, n, -1, math.MaxInt32)
	b.Position = c.ints(n)
	b.Time = c.ints(n)
	b.Arrival = c.ints(n)
	b.Route = narrow[int](&c, n, -1, math.MaxInt32)
	b.Trace = c.strings(n)
	for _, f := range m.Source.Features {
		b.Features = append(b.Features, c.column(f.Name, n))
	}
	lookups := c.count()
	for range lookups {
		col := c.column("", n)
		b.Lookups = append(b.Lookups, col)
		if c.bad {
			return nil, errMessage
		}
	}
	for i := range m.Source.Features {
		if f := &m.Source.Features[i]; f.Lookup >= 0 && (f.Lookup >= lookups || b.Lookups[f.Lookup].Kind != event.Time) {
			c.fail()
		}
	}
	for i := range m.Source.Steps {
		b.Steps = append(b.Steps, c.answers(&m.Source.Steps[i], n))
		if c.bad {
			break
		}
	}
	if c.bad || len(c.b) > 0 {
		return nil, errMessage
	}
	return m, nil
}

// narrow reads n integers from least to most.
func narrow[T ~int | ~int32 | ~uint8 | ~uint16](c *cursor, n int, least, most int64) []T {
	ints := c.ints(n)
	out := make([]T, len(ints))
	for i, v := range ints {
		if v < least || v > most {
			c.fail()
			return nil
		}
		out[i] = T(v)
	}
	return out
}

func (c *cursor) column(name string, n int) *event.Column {
	kind := c.byte()
	col := &event.Column{Name: name, Kind: event.Kind(kind &^ columnNull)}
	if col.Kind > event.Time {
		c.fail()
	}
	if kind&columnNull != 0 {
		col.Null = c.set(n)
	}
	switch col.Kind {
	case event.Float:
		col.Floats = c.floats(n)
	case event.Bool:
		col.Bools = c.set(n)
	case event.String:
		col.Strings = c.strings(n)
	default:
		col.Ints = c.ints(n)
	}
	return col
}

func (c *cursor) answers(s *Step, n int) (a Answers) {
	arms := c.count()
	for range arms {
		a.Arms = append(a.Arms, Arm{c.text(), c.text(), c.text(), c.text(), c.text()})
		if c.bad {
			return a
		}
	}
	// What no version answered has an arm that is not there.
	a.Arm = narrow[uint8](c, n, 0, math.MaxUint8)
	a.Path = narrow[Path](c, n, 0, int64(len(PathNames)-1))
	for _, name := range s.Outputs {
		a.Outputs = append(a.Outputs, c.column(name, n))
	}
	if calls := c.count(); calls > 0 && !c.bad {
		answered := c.ints(calls)
		a.Calls = make([]Call, len(answered))
		for i, t := range answered {
			a.Calls[i] = Call{Answered: t, Rows: int(int32(c.uvarint())), Reason: inference.FlushReason(c.byte()), Attempts: int(int32(c.uvarint()))}
			if int(a.Calls[i].Reason) >= len(inference.FlushReasons) {
				c.fail()
			}
		}
		a.Called = narrow[uint16](c, n, 0, int64(min(calls, math.MaxUint16)))
	}
	c.shadow(&a, n)
	c.explained(&a, n, len(s.Inputs))
	return a
}

func (c *cursor) shadow(a *Answers, n int) {
	count := c.uvarint()
	if count == 0 || c.bad {
		return
	}
	if count > uint64(n)*256 {
		c.fail()
		return
	}
	k := int(count)
	rows, scores := narrow[int](c, k, 0, int64(n-1)), c.floats(k)
	arms := narrow[uint8](c, k, 0, math.MaxUint8)
	if c.bad || len(scores) != k {
		c.fail()
		return
	}
	for i := range rows {
		a.Shadow = append(a.Shadow, Shadowed{Row: rows[i], Score: scores[i], Arm: arms[i]})
	}
}

func (c *cursor) explained(a *Answers, n, inputs int) {
	count := c.uvarint()
	if count == 0 || c.bad {
		return
	}
	width := c.uvarint()
	if count > uint64(n) || width > uint64(inputs) {
		c.fail()
		return
	}
	k, w := int(count), int(width)
	rows := narrow[int](c, k, 0, int64(n-1))
	methods := narrow[inference.Method](c, k, 0, int64(inference.SampledShapley))
	links := narrow[inference.Link](c, k, 0, int64(inference.Logistic))
	bases, raws := c.floats(k), c.floats(k)
	if c.bad || len(bases) != k || len(raws) != k {
		c.fail()
		return
	}
	values := make([]float64, k*w)
	for j := range w {
		col := c.floats(k)
		if len(col) != k {
			c.fail()
			return
		}
		for i, v := range col {
			values[i*w+j] = v
		}
	}
	for i := range rows {
		if i > 0 && rows[i] <= rows[i-1] {
			c.fail()
			return
		}
		a.Explained = append(a.Explained, Explained{
			Row: rows[i], Method: methods[i], Link: links[i], Base: bases[i], Raw: raws[i], Values: values[i*w : (i+1)*w : (i+1)*w],
		})
	}
}

func (c *cursor) source() *Source {
	s := &Source{Pipeline: c.text(), Config: c.text(), Topic: c.text(), Contract: c.text()}
	for n := c.count(); n > 0 && !c.bad; n-- {
		s.Features = append(s.Features, Feature{c.text(), c.zigzag(), c.zigzag(), int(int32(c.zigzag()))})
	}
	for n := c.count(); n > 0 && !c.bad; n-- {
		s.Steps = append(s.Steps, Step{Outputs: c.names(), Inputs: c.names()})
	}
	s.Routes = c.names()
	return s
}

func (c *cursor) names() (names []string) {
	for n := c.count(); n > 0 && !c.bad; n-- {
		names = append(names, c.text())
	}
	return names
}
