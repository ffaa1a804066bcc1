package pipeline

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
)

// A task's keyed state is carried by an internal topic with the source's
// partitions. Each commit appends one record: the change that the batch made,
// and a slice of the full state of some keys. When the slices have gone once
// through all keys, a cycle is complete: the records before its beginning are
// not needed any more and are trimmed. So a restart reads at most about twice
// the state, and no commit ever carries the whole of it.
//
// The record, version 2: version byte, flags byte, the position behind the
// batch's last event (uvarint), the state of the intake (bytes), the fingerprint
// of the definitions (8 bytes), with flagDefined the definition of each step
// (bytes, behind their number as uvarint), the number of steps (uvarint), then
// for each step its change (bytes), its slice (bytes) and states of single keys
// (bytes: each behind its length). Bytes are a length (uvarint) and so many bytes.
const (
	changeVersion  = 2
	flagCycleBegin = 1 << 0
	flagCycleEnd   = 1 << 1
	flagDefined    = 1 << 2
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
	next       int64 // position of the next record
	at         int64 // the source position of the record applied last
	cycleAt    int64 // where the running cycle began; -1 without
	sinceCycle int64 // bytes written since the last cycle began
	group      int   // the step whose keys the cycle is at
	inMemory   bool  // that step's keys in memory are through
	defined    bool  // the definitions stand on the topic
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
		f.trim = c.cycleAt
		c.cycleAt = -1
	}
	if flags&flagCycleBegin != 0 || !c.defined {
		flags |= flagDefined
		c.defined = true
	}
	b := f.change[:0]
	b = append(b, changeVersion, flags)
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
	f.change, f.changeAt = b, c.next
	c.sinceCycle += int64(len(b))
	c.next++
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

// restore reads the state topic from begin to end and leaves the state as it was
// at the source position start. With based, something was restored before; with
// a checkpoint, what is read is appended to it.
func (c *changelog) restore(ctx context.Context, b *broker.Broker, start, begin, end int64, based bool, to *checkpoint) (records int64, err error) {
	c.next = end
	if begin < end {
		r, err := b.Read(ctx, c.topic, c.partition, begin)
		if err != nil {
			return 0, fmt.Errorf("read the state of partition %d: %w", c.partition, err)
		}
		defer r.Close()
		for next := begin; next < end; {
			batch, err := r.Fetch(ctx, 256)
			if err != nil {
				return records, fmt.Errorf("read the state of partition %d: %w", c.partition, err)
			}
			for i := range batch.Records {
				rec := &batch.Records[i]
				err := c.applyBytes(rec.Value, !based && rec.Position == begin && begin > 0)
				if err == nil && to != nil {
					err = to.append(ctx, &frame{change: rec.Value, changeAt: rec.Position})
				}
				if err != nil {
					batch.Release()
					return records, fmt.Errorf("state topic %s, partition %d, position %d: %w", c.topic, c.partition, rec.Position, err)
				}
				records++
			}
			next = batch.Next()
			batch.Release()
		}
	}
	if !based && records == 0 {
		return 0, nil
	}
	if err := c.reading.finish(c); err != nil {
		return records, err
	}
	if err := c.intake.restore(c.inputs); err != nil {
		return records, err
	}
	if c.at != start {
		return records, errkind.Errorf(errkind.Conflict,
			"the state of partition %d belongs to position %d of the source, but the group stands at %d: move the group back, or delete the topic %s to begin with empty windows",
			c.partition, c.at, start, c.topic)
	}
	return records, nil
}

// applyBytes replays one record.
func (c *changelog) applyBytes(b []byte, first bool) error {
	if len(b) < 2 || b[0] != changeVersion {
		return errkind.New(errkind.Corrupt, "not a state record of a version known here")
	}
	flags := b[1]
	if first && flags&flagCycleBegin == 0 {
		return errkind.New(errkind.Corrupt, "the first record kept does not begin a cycle: older ones are missing, or in a checkpoint that this pipeline does not name")
	}
	d := cursor{b: b[2:]}
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
		return errkind.New(errkind.Corrupt, "the record is cut short")
	}
	if err := c.reading.turn(c, print, definitions); err != nil {
		return err
	}
	if groups != uint64(len(c.reading.steps)) {
		return errkind.Errorf(errkind.Corrupt, "the record has %d steps, and its definitions %d", groups, len(c.reading.steps))
	}
	for _, g := range c.reading.steps[:groups] {
		change, slice, pages := d.bytes(), d.bytes(), d.bytes()
		if d.bad {
			return errkind.New(errkind.Corrupt, "the record is cut short")
		}
		if err := g.apply(change, slice, pages); err != nil {
			return err
		}
	}
	c.at = int64(next)
	c.inputs = append(c.inputs[:0], inputs...)
	c.sinceCycle += int64(len(b))
	return nil
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
