package journal

import (
	"context"
	"encoding/binary"
	"sync"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

const (
	// maxPending bounds what waits for the committer; appenders wait beyond it.
	maxPending = 16 << 20
	// maxBlock is how many bytes of records a block holds, unless one alone is larger.
	maxBlock = 256 << 10
	// pieceBytes is how much of a Publish goes into one frame.
	pieceBytes = 4 << 20
	// keepBuffer is the largest buffer that is kept for another append.
	keepBuffer = 8 << 20
)

// op is one frame on its way into the log: the encoded blocks, with room for the
// headers, and what each block changes.
type op struct {
	buf    []byte // frame header, then blocks
	blocks []opBlock
	moves  []move    // of the positions blocks
	added  []idAdded // ids that a failure takes back

	// Scratch of encode.
	which []uint32 // block of each record, with repeatBit
	open  []uint32 // block that a partition's records go to, plus 1
	ids   []idHash
	keep  []event.Record
}

// repeatBit marks a record whose headers are those of the record before it in its block.
const repeatBit = 1 << 31

// opBlock is one block of an op.
type opBlock struct {
	head blockHead
	off  int // of the header in op.buf
	last int // while encoding: index of the latest record
	fill int // while encoding: where the next record goes

	p         *partition // records, trim
	t         *topic     // topic, topicGone, positions
	s         *segment   // segmentGone
	group     string     // positions
	movesFrom int        // positions: op.moves[movesFrom:movesTo]
	movesTo   int
}

// move is one change of a group's position.
type move struct {
	partition int
	next      int64
}

// group is the ops that are written together; done is closed when their fate is known.
type group struct {
	ops   []*op
	bytes int
	done  chan struct{}
	// Set before done is closed: the ops from failedFrom on have failed with err.
	err        error
	failedFrom int
}

// ticket is an op's place in its group.
type ticket struct {
	g *group
	n int
}

// wait returns when the op is as durable as the journal makes it. When ctx ends
// first, the op's fate is open.
func (t ticket) wait(ctx context.Context) error {
	if t.g == nil {
		return nil
	}
	select {
	case <-t.g.done:
	case <-ctx.Done():
		select {
		case <-t.g.done:
		default:
			return ctx.Err()
		}
	}
	if t.g.err != nil && t.n >= t.g.failedFrom {
		return t.g.err
	}
	return nil
}

func newOpPool() *sync.Pool {
	return &sync.Pool{New: func() any { return &op{buf: make([]byte, frameHeader, 4<<10)} }}
}

func (j *Journal) newOp() *op { return j.ops.Get().(*op) }

func (j *Journal) freeOp(o *op) {
	if cap(o.buf) > keepBuffer {
		return
	}
	clear(o.blocks)
	clear(o.keep)
	o.buf, o.blocks, o.moves, o.added, o.ids, o.keep = o.buf[:frameHeader], o.blocks[:0], o.moves[:0], o.added[:0], o.ids[:0], o.keep[:0]
	j.ops.Put(o)
}

// grow makes the buffer n bytes longer.
func (o *op) grow(n int) {
	need := len(o.buf) + n
	if need <= cap(o.buf) {
		o.buf = o.buf[:need]
		return
	}
	b := make([]byte, need, max(need, 2*cap(o.buf)))
	copy(b, o.buf)
	o.buf = b
}

// encode appends recs as blocks: one for each partition that they select, more
// where one would grow past maxBlock. partition is broker.AnyPartition or fixed.
func (o *op) encode(t *topic, partition int, recs []event.Record) {
	n := len(t.parts)
	if cap(o.open) < n {
		o.open = make([]uint32, n)
	}
	o.open = o.open[:n]
	clear(o.open)
	if cap(o.which) < len(recs) {
		o.which = make([]uint32, len(recs))
	}
	which := o.which[:len(recs)]
	first := len(o.blocks)
	for i := range recs {
		r := &recs[i]
		p := partition
		switch {
		case p >= 0:
		case n == 1:
			p = 0
		case len(r.Key) > 0:
			p = broker.PartitionFor(r.Key, n)
		default:
			p = int((t.robin.Add(1) - 1) % uint32(n))
		}
		b := o.open[p]
		repeat := b != 0 && repeats(r.Headers, recs[o.blocks[b-1].last].Headers)
		size := encodedSize(r, repeat)
		if b == 0 || o.blocks[b-1].head.length+size > maxBlock {
			repeat, size = false, encodedSize(r, false)
			o.blocks = append(o.blocks, opBlock{p: t.parts[p], head: blockHead{kind: kindRecords, topic: t.id, partition: p}})
			b = uint32(len(o.blocks))
			o.open[p] = b
		}
		ob := &o.blocks[b-1]
		ob.head.length += size
		ob.head.count++
		ob.last = i
		which[i] = b - 1
		if repeat {
			which[i] |= repeatBit
		}
	}
	at := len(o.buf)
	for i := first; i < len(o.blocks); i++ {
		b := &o.blocks[i]
		b.off = at
		b.fill = at + blockHeader
		at += blockHeader + b.head.length
	}
	o.grow(at - len(o.buf))
	for i := range recs {
		b := &o.blocks[which[i]&^repeatBit]
		b.fill += putRecord(o.buf[b.fill:], &recs[i], which[i]&repeatBit != 0)
	}
	for i := first; i < len(o.blocks); i++ {
		b := &o.blocks[i]
		b.head.dataCRC = checksum(o.buf[b.off+blockHeader : b.fill])
	}
}

// addBlock appends a block with data.
func (o *op) addBlock(b opBlock, data []byte) {
	b.off = len(o.buf)
	b.head.length = len(data)
	b.head.dataCRC = checksum(data)
	o.grow(blockHeader + len(data))
	copy(o.buf[b.off+blockHeader:], data)
	o.blocks = append(o.blocks, b)
}

// addMoves appends a positions block for one group on one topic.
func (o *op) addMoves(t *topic, group string, moves []move) {
	from := len(o.moves)
	o.moves = append(o.moves, moves...)
	b := opBlock{t: t, group: group, movesFrom: from, movesTo: len(o.moves), off: len(o.buf)}
	b.head = blockHead{kind: kindPositions, topic: t.id, count: len(moves)}
	o.grow(blockHeader)
	o.buf = binary.AppendUvarint(o.buf, uint64(len(group)))
	o.buf = append(o.buf, group...)
	for _, m := range moves {
		o.buf = binary.AppendUvarint(o.buf, uint64(m.partition))
		o.buf = binary.AppendUvarint(o.buf, uint64(m.next))
	}
	data := o.buf[b.off+blockHeader:]
	b.head.length = len(data)
	b.head.dataCRC = checksum(data)
	o.blocks = append(o.blocks, b)
}

// decodeMoves reads the data of a positions block.
func decodeMoves(h *blockHead, data []byte) (group string, moves []move, ok bool) {
	g, data, ok := cutBytes(data)
	if !ok || h.count > len(data)/2 {
		return "", nil, false
	}
	moves = make([]move, h.count)
	for i := range moves {
		p, w := binary.Uvarint(data)
		if w <= 0 {
			return "", nil, false
		}
		next, v := binary.Uvarint(data[w:])
		if v <= 0 {
			return "", nil, false
		}
		moves[i] = move{int(p), int64(next)}
		data = data[w+v:]
	}
	return string(g), moves, len(data) == 0
}

// waitRoom waits until the committer has caught up far enough.
func (j *Journal) waitRoom(ctx context.Context) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		j.mu.Lock()
		if j.pending.bytes < maxPending || j.refuse() != nil {
			j.mu.Unlock()
			return nil
		}
		room := j.room
		j.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// refuse says why nothing more can be appended. Under mu.
func (j *Journal) refuse() error {
	if j.closing {
		return errClosed
	}
	return j.broken
}

var errClosed = errkind.New(errkind.Closed, "the journal is closed")

// enqueue gives the op's records their positions and hands it to the committer.
// Under mu, so that callers can look at what must hold at this very moment.
func (j *Journal) enqueue(o *op) (ticket, error) {
	if err := j.refuse(); err != nil {
		return ticket{}, err
	}
	for i := range o.blocks {
		b := &o.blocks[i]
		if b.head.kind == kindRecords && b.p.topic.deleting {
			return ticket{}, errNoTopic(b.p.topic.conf.Name)
		}
		if b.head.kind == kindPositions && b.t.deleting {
			return ticket{}, errNoTopic(b.t.conf.Name)
		}
	}
	now := j.clock().UnixNano()
	for i := range o.blocks {
		b := &o.blocks[i]
		if b.head.kind != kindRecords || b.head.flags&flagMoved != 0 {
			continue
		}
		b.p.nextTime = max(b.p.nextTime, now)
		b.head.base, b.head.time = b.p.next, b.p.nextTime
		b.p.next += int64(b.head.count)
	}
	g := j.pending
	g.ops = append(g.ops, o)
	g.bytes += len(o.buf)
	if len(g.ops) == 1 {
		select {
		case j.kick <- struct{}{}:
		default:
		}
	}
	return ticket{g, len(g.ops) - 1}, nil
}

// submit is enqueue for callers that have nothing to look at; it returns when
// the op is durable.
func (j *Journal) submit(ctx context.Context, o *op) error {
	j.mu.Lock()
	t, err := j.enqueue(o)
	j.mu.Unlock()
	if err != nil {
		j.freeOp(o)
		return err
	}
	return t.wait(ctx)
}

// barrier is what is on its way to disk at this moment. Under mu.
func (j *Journal) barrier() [2]ticket {
	var b [2]ticket
	if j.inflight != nil {
		b[0] = ticket{j.inflight, len(j.inflight.ops) - 1}
	}
	if n := len(j.pending.ops); n > 0 {
		b[1] = ticket{j.pending, n - 1}
	}
	return b
}

func waitAll(ctx context.Context, b [2]ticket) error {
	for _, t := range b {
		if err := t.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}
