package workload

import (
	"strconv"
	"time"
)

// LabelDelay is how long after its payment a label becomes known in the published method: 7 days.
const LabelDelay = 7 * 24 * time.Hour

// Label says what a payment turned out to be.
type Label struct {
	// Payment is the ID of the payment.
	Payment int64
	// KnownAt is when the label became known, in Unix seconds (UTC).
	KnownAt int64
	// Terminal is the terminal of the payment.
	Terminal int32
	Fraud    bool
}

// Label returns the payment's label, known after delay, which is cut to whole seconds.
func (p *Payment) Label(delay time.Duration) Label {
	return Label{Payment: p.ID, KnownAt: p.Time + int64(delay/time.Second), Terminal: p.Terminal, Fraud: p.Fraud()}
}

// LabelColumns are the names of a label's fields, in order.
func LabelColumns() []string {
	return []string{"label_id", "transaction_id", "terminal_id", "fraud", "known_at"}
}

// AppendID appends the label's own id: the payment's and "-1", since it is the
// first label of the payment; a correction would be another label.
func (l *Label) AppendID(b []byte) []byte {
	return append(strconv.AppendInt(b, l.Payment, 10), "-1"...)
}

// AppendJSON appends the label as one JSON object with the fields of LabelColumns.
func (l *Label) AppendJSON(b []byte) []byte {
	b = l.AppendID(append(b, `{"label_id":"`...))
	b = append(b, `","transaction_id":`...)
	b = strconv.AppendInt(b, l.Payment, 10)
	b = append(b, `,"terminal_id":`...)
	b = strconv.AppendInt(b, int64(l.Terminal), 10)
	b = append(b, `,"fraud":`...)
	b = append(b, l.digit())
	b = append(b, `,"known_at":"`...)
	return append(appendTime(b, l.KnownAt), `"}`...)
}

// AppendCSV appends the label as one CSV line in the order of LabelColumns, with its line feed.
func (l *Label) AppendCSV(b []byte) []byte {
	b = append(l.AppendID(b), ',')
	b = strconv.AppendInt(b, l.Payment, 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, int64(l.Terminal), 10)
	b = append(b, ',', l.digit(), ',')
	return append(appendTime(b, l.KnownAt), '\n')
}

func (l *Label) digit() byte {
	if l.Fraud {
		return '1'
	}
	return '0'
}

// Event is a payment or, where IsLabel says so, a label.
type Event struct {
	IsLabel bool
	Payment Payment
	Label   Label
}

// Labelled yields a generator's payments and their labels in one order of time.
// At equal times labels come first, and labels keep the order of their payments.
// It holds the labels that are not due: with the default population and delay about
// 67,000. It is not safe for concurrent use.
type Labelled struct {
	gen   *Generator
	delay time.Duration
	tail  bool

	due     []Label // a ring: first of n, len is a power of two
	first   int
	n       int
	next    Payment
	have    bool // next is the payment to come
	drained bool // the generator has ended
}

// NewLabelled joins labels that become known after delay to g's payments. With
// tail the labels that are not due at the last payment come behind it; else they are left out.
// The delay is cut to whole seconds; a negative one counts as none.
func NewLabelled(g *Generator, delay time.Duration, tail bool) *Labelled {
	return &Labelled{gen: g, delay: max(0, delay), tail: tail, due: make([]Label, 1024)}
}

// Next fills e with the next event. It returns false after the last.
func (l *Labelled) Next(e *Event) bool {
	if !l.have && !l.drained {
		l.have = l.gen.Next(&l.next)
		l.drained = !l.have
	}
	oldest := &l.due[l.first]
	switch {
	case l.n > 0 && (l.have && oldest.KnownAt <= l.next.Time || l.drained && l.tail):
		e.IsLabel, e.Label = true, *oldest
		l.first = (l.first + 1) & (len(l.due) - 1)
		l.n--
	case l.have:
		e.IsLabel, e.Payment = false, l.next
		l.have = false
		l.push(l.next.Label(l.delay))
	default:
		return false
	}
	return true
}

func (l *Labelled) push(label Label) {
	if l.n == len(l.due) {
		grown := make([]Label, 2*len(l.due))
		k := copy(grown, l.due[l.first:])
		copy(grown[k:], l.due[:l.first])
		l.due, l.first = grown, 0
	}
	l.due[(l.first+l.n)&(len(l.due)-1)] = label
	l.n++
}
