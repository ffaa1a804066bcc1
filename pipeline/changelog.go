package pipeline

import (
	"bytes"
	"encoding/binary"
	"hash/fnv"
	"math"

	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

// A task's keyed state is carried by an internal topic with the source's
// partitions. Each commit appends one record for each frame: the change that the
// frame made, and a slice of the full state of some keys. When the slices have gone
// once through all keys, a cycle is complete: the records before its beginning are
// not needed any more and are trimmed. So a restart reads at most about twice
// the state, and no commit ever carries the whole of it.
//
// The record, version 3: version byte, flags byte, its number (uvarint: 0 for the
// first of the partition, then each its predecessor's + 1), the position behind the
// frame's last event (uvarint), the state of the intake (bytes), the fingerprint
// of the definitions (8 bytes), with flagDefined the definition of each step
// (bytes, behind their number as uvarint), the number of steps (uvarint), then
// for each step its change (bytes), its slice (bytes) and states of single keys
// (bytes: each behind its length), then, on brokers without transactions, the
// number of the records that the frame sends to the next stage (uvarint) and each
// of them: partition (uvarint) and value (bytes). Bytes are a length (uvarint) and
// so many bytes.
//
// A record too large for the broker lies in several: each but the last has
// flagMore, and each but the first is the version byte, flagPart, perhaps
// flagMore, and a piece.
const (
	changeVersion  = 3
	flagCycleBegin = 1 << 0
	flagCycleEnd   = 1 << 1
	flagDefined    = 1 << 2
	flagMore       = 1 << 3
	flagPart       = 1 << 4
	// flagCommit: the first record of a commit.
	flagCommit = 1 << 5
)

// cycleBytes is how much changelog has to be written before a new cycle begins.
const cycleBytes = 4 << 20

// changelog keeps one task's keyed state on the state topic.
type changelog struct {
	topic       string
	partition   int
	intake      intake
	groups      []stateStep
	fingerprint uint64
	// reading is what records are applied to while the state is restored.
	reading reading
	// mayLose: steps for which the state cannot be kept may begin empty.
	mayLose bool

	cycle      int64 // bytes of changelog before a new cycle begins
	next       int64 // number of the next record
	at         int64 // the source position of the record applied last
	cycleAt    int64 // number of the record in which the running cycle began; -1 without
	sinceCycle int64 // bytes written since the last cycle began
	group      int   // the step whose keys the cycle is at
	inMemory   bool  // that step's keys in memory are through
	defined    bool  // the definitions stand on the topic
	whole      bool  // the records applied are the first one on, or from the begin of a cycle to its end
	slices     [][]byte
	inputs     []byte
}

func newChangelog(topic string, partition int, in intake, groups []stateStep, cycle int64) *changelog {
	return &changelog{
		topic: topic, partition: partition, intake: in, groups: groups, fingerprint: fingerprint(groups),
		cycleAt: -1, cycle: cycle, slices: make([][]byte, len(groups)),
	}
}

func fingerprint(groups []stateStep) uint64 {
	h := fnv.New64a()
	for _, g := range groups {
		h.Write(binary.BigEndian.AppendUint64(nil, g.keyed().Fingerprint()))
	}
	return h.Sum64()
}

// record writes the frame's changelog record behind the windows' updates; next
// is the source position behind the frame.
func (c *changelog) record(f *frame, next int64) error {
	size := 0
	for i, g := range c.groups {
		size += len(g.change())
		c.slices[i] = c.slices[i][:0]
	}
	var flags byte
	f.trim = 0
	if c.cycleAt < 0 && (c.sinceCycle >= c.cycle || !c.defined && c.next > 0) {
		flags |= flagCycleBegin
		c.cycleAt, c.sinceCycle, c.group = c.next, 0, 0
		c.beginStep()
		for _, g := range c.groups {
			if p := g.pages(); p != nil {
				p.begin()
			}
		}
	}
	done, err := c.slice(max(size, 512))
	if err != nil {
		return err
	}
	if c.cycleAt >= 0 && done {
		flags |= flagCycleEnd
		f.trim = uint64(c.cycleAt)
		c.cycleAt = -1
	}
	if flags&flagCycleBegin != 0 || !c.defined {
		flags |= flagDefined
		c.defined = true
	}
	b := f.change[:0]
	b = append(b, changeVersion, flags)
	b = binary.AppendUvarint(b, uint64(c.next))
	b = binary.AppendUvarint(b, uint64(next))
	c.inputs = c.intake.appendState(c.inputs[:0])
	b = appendBytes(b, c.inputs)
	b = binary.BigEndian.AppendUint64(b, c.fingerprint)
	if flags&flagDefined != 0 {
		b = binary.AppendUvarint(b, uint64(len(c.groups)))
		for _, g := range c.groups {
			b = appendBytes(b, g.definition())
		}
	}
	b = binary.AppendUvarint(b, uint64(len(c.groups)))
	for i, g := range c.groups {
		b = appendBytes(b, g.change())
		b = appendBytes(b, c.slices[i])
		var pages []byte
		if p := g.pages(); p != nil {
			pages = p.pages
		}
		b = appendBytes(b, pages)
	}
	c.sinceCycle += int64(len(b))
	c.next++
	f.change, f.number = b, uint64(c.next)
	return nil
}

func appendBytes(b, v []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// beginStep starts the cycle's way through the keys of the step that it is at.
func (c *changelog) beginStep() {
	c.inMemory = false
	if c.group < len(c.groups) {
		c.groups[c.group].keyed().BeginSnapshot()
	}
}

// slice takes the next keys of the running cycle, about budget bytes of them,
// and reports whether the cycle is through. Steps whose keys lie in a store
// write what they brought in, whether the cycle is at them or not.
func (c *changelog) slice(budget int) (done bool, err error) {
	first, paged := c.group, -1 // the steps whose pages are written here, from and to
	for c.cycleAt >= 0 && c.group < len(c.groups) {
		g := c.groups[c.group]
		if !c.inMemory {
			c.slices[c.group], c.inMemory = g.keyed().AppendSnapshot(c.slices[c.group], budget)
			budget -= len(c.slices[c.group])
			if !c.inMemory {
				break
			}
		}
		if p := g.pages(); p != nil {
			through, err := p.page(true, budget)
			if err != nil {
				return false, err
			}
			paged = c.group
			if budget -= len(p.pages); !through {
				break
			}
		}
		c.group++
		c.beginStep()
	}
	for i, g := range c.groups {
		if p := g.pages(); p != nil && (i < first || i > paged) {
			if _, err := p.page(false, 0); err != nil {
				return false, err
			}
		}
	}
	return c.group == len(c.groups), nil
}

// applyBytes replays one record and returns its number, and what it sends to the
// next stage. Without records before it, only one that begins the log or a cycle
// is of use; others are passed over.
func (c *changelog) applyBytes(b []byte) (number int64, sent []moved, err error) {
	if len(b) < 2 || b[0] != changeVersion {
		return 0, nil, errkind.New(errkind.Corrupt, "not a state record of a version known here")
	}
	flags := b[1]
	d := cursor{b: b[2:]}
	number = int64(d.uvarint())
	if !d.bad && !c.reading.began && number > 0 && flags&flagCycleBegin == 0 {
		return number, nil, nil
	}
	next := d.uvarint()
	inputs := d.bytes()
	print := d.fixed64()
	var definitions [][]byte
	if flags&flagDefined != 0 {
		for range d.uvarint() {
			if d.bad {
				break
			}
			definitions = append(definitions, bytes.Clone(d.bytes()))
		}
	}
	groups := d.uvarint()
	if d.bad {
		return 0, nil, errkind.New(errkind.Corrupt, "the record is cut short")
	}
	if err := c.reading.turn(c, print, definitions); err != nil {
		return 0, nil, err
	}
	if groups != uint64(len(c.reading.steps)) {
		return 0, nil, errkind.Errorf(errkind.Corrupt, "the record has %d steps, and its definitions %d", groups, len(c.reading.steps))
	}
	for _, g := range c.reading.steps[:groups] {
		change, slice, pages := d.bytes(), d.bytes(), d.bytes()
		if d.bad {
			return 0, nil, errkind.New(errkind.Corrupt, "the record is cut short")
		}
		if err := g.apply(change, slice, pages); err != nil {
			return 0, nil, err
		}
	}
	if len(d.b) > 0 {
		if sent, err = readSent(&d); err != nil {
			return 0, nil, err
		}
	}
	c.at = int64(next)
	c.inputs = append(c.inputs[:0], inputs...)
	c.sinceCycle += int64(len(b))
	c.next = number + 1
	c.whole = c.whole || number == 0 || flags&flagCycleEnd != 0
	return number, sent, nil
}

// appendSent writes what a frame sends to the next stage behind its record.
func appendSent(b []byte, sent []moved) []byte {
	b = binary.AppendUvarint(b, uint64(len(sent)))
	for i := range sent {
		b = binary.AppendUvarint(b, uint64(sent[i].partition))
		b = appendBytes(b, sent[i].record[0].Value)
	}
	return b
}

func readSent(d *cursor) (sent []moved, err error) {
	for range d.uvarint() {
		p := d.uvarint()
		v := d.bytes()
		if d.bad || p > math.MaxInt32 {
			break
		}
		sent = append(sent, moved{int(p), [1]event.Record{{Value: bytes.Clone(v)}}})
	}
	if d.bad || len(d.b) > 0 {
		return nil, errkind.New(errkind.Corrupt, "the record is cut short or too long")
	}
	return sent, nil
}

// split cuts a record into pieces of at most limit bytes each.
func split(to []event.Record, b []byte, limit int) []event.Record {
	if limit <= 0 || len(b) <= limit {
		return append(to, event.Record{Value: b})
	}
	b[1] |= flagMore
	to = append(to, event.Record{Value: b[:limit:limit]})
	for b = b[limit:]; len(b) > 0; {
		n := min(len(b), limit-2)
		piece := append([]byte{changeVersion, flagPart}, b[:n]...)
		if b = b[n:]; len(b) > 0 {
			piece[1] |= flagMore
		}
		to = append(to, event.Record{Value: piece})
	}
	return to
}

// joiner puts the pieces of records together again.
type joiner struct {
	b    []byte
	open bool
}

// add returns a whole record, when it has all of one. Pieces whose beginning was
// trimmed are passed over.
func (j *joiner) add(v []byte) (record []byte, err error) {
	if len(v) < 2 || v[0] != changeVersion {
		return nil, errkind.New(errkind.Corrupt, "not a state record of a version known here")
	}
	part, more := v[1]&flagPart != 0, v[1]&flagMore != 0
	switch {
	case !part && j.open:
		return nil, errkind.New(errkind.Corrupt, "a record goes on in the next one, and that begins another")
	case part && !j.open:
		return nil, nil
	case !part && !more:
		return v, nil
	case part:
		v = v[2:]
	default:
		j.b, j.open = j.b[:0], true
	}
	j.b = append(j.b, v...)
	if more {
		return nil, nil
	}
	j.open = false
	j.b[1] &^= flagMore
	return j.b, nil
}

// cursor reads a record and remembers that it was too short.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	if n <= 0 {
		c.bad, c.b = true, nil
		return 0
	}
	c.b = c.b[n:]
	return v
}

func (c *cursor) fixed64() uint64 {
	if len(c.b) < 8 {
		c.bad, c.b = true, nil
		return 0
	}
	v := binary.BigEndian.Uint64(c.b)
	c.b = c.b[8:]
	return v
}

func (c *cursor) bytes() []byte {
	n := c.uvarint()
	if n > uint64(len(c.b)) {
		c.bad, c.b = true, nil
		return nil
	}
	v := c.b[:n]
	c.b = c.b[n:]
	return v
}
