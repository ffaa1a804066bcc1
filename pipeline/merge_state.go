package pipeline

import (
	"encoding/binary"

	"github.com/freshet-io/freshet/errkind"
)

type lanePlace struct {
	position int64
	row      int32
}

// place is where the lane goes on: the first row that has not been taken.
func (l *lane) place(scan int64) lanePlace {
	switch {
	case !l.empty():
		p := l.head()
		if p.b.at < 0 {
			return lanePlace{p.position(), 0}
		}
		return lanePlace{p.b.at, p.row}
	case l.parked >= 0:
		return lanePlace{l.parked, 0}
	case scan <= l.from:
		return lanePlace{l.from, l.fromRow} // restored, and not read again yet
	}
	return lanePlace{scan, 0}
}

// The state of a merge, behind the source's: the newest time given out; of the
// first stage the position up to which events were taken in, and which of them
// are done (see tracker); of a later one the place, row, number of the record
// before and watermark of each lane; then the place and watermark of each lane of labels, and the position
// up to which its faulty labels have their dead letters.
func (m *mergeIntake) appendState(b []byte) []byte {
	b = appendZigzag(b, m.newest)
	if m.source != nil {
		b = m.source.appendState(b)
		b = binary.AppendUvarint(b, uint64(max(m.scan, m.source.judged)))
		b = m.done.append(b)
	} else {
		b = binary.AppendUvarint(b, uint64(len(m.events)))
		for _, l := range m.events {
			b = l.appendPlace(b, m.scan)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(m.labels)))
	for _, l := range m.labels {
		b = l.appendPlace(b, l.scan)
		b = binary.AppendUvarint(b, uint64(max(l.scan, l.told)))
	}
	return b
}

func (l *lane) appendPlace(b []byte, scan int64) []byte {
	p := l.place(scan)
	b = binary.AppendUvarint(b, uint64(p.position))
	b = binary.AppendUvarint(b, uint64(p.row))
	number := l.number
	if !l.empty() && l.head().b.at >= 0 {
		number = l.head().b.before
	}
	b = binary.AppendUvarint(b, number)
	w := l.watermark
	if !l.empty() {
		w = min(w, l.head().time()) // what is left will bring the rest again
	}
	return appendZigzag(b, w)
}

func (l *lane) restore(c *cursor) {
	l.from, l.fromRow, l.number, l.watermark = int64(c.uvarint()), int32(c.uvarint()), c.uvarint(), c.zigzag()
	l.scan = l.from
}

func (m *mergeIntake) restore(b []byte) error {
	c := cursor{b: b}
	m.newest = c.zigzag()
	if m.source != nil {
		m.source.restore(&c)
		m.source.judged = int64(c.uvarint())
		m.done = readTracker(&c)
	} else {
		if n := c.uvarint(); !c.bad && n != uint64(len(m.events)) {
			return errkind.Errorf(errkind.Config, "the state is of %d partitions, and the topic has %d: delete the pipeline's internal topics to begin with empty windows", n, len(m.events))
		}
		for _, l := range m.events {
			l.restore(&c)
		}
	}
	if n := c.uvarint(); !c.bad && n != uint64(len(m.labels)) {
		return errkind.Errorf(errkind.Config, "the state is of %d partitions of labels, and their topic has %d: delete the pipeline's internal topics to begin with empty windows", n, len(m.labels))
	}
	for _, l := range m.labels {
		l.restore(&c)
		l.told = int64(c.uvarint())
	}
	if c.bad || len(c.b) > 0 {
		return errkind.New(errkind.Corrupt, "the state of the inputs is cut short or too long")
	}
	return nil
}

func (m *mergeIntake) begin(position int64) {
	m.scan, m.next0 = position, position
	if m.source != nil && m.done == nil {
		m.done = newTracker(position)
	}
}
