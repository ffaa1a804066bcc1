package journal

import (
	"context"
	"math"
	"slices"

	"github.com/freshet-io/freshet/broker"
	"github.com/freshet-io/freshet/errkind"
	"github.com/freshet-io/freshet/event"
)

func errNoTopic(name string) error {
	return errkind.Errorf(errkind.NotFound, "there is no topic %q: create it first", name)
}

// topicByName finds a topic that is there.
func (j *Journal) topicByName(name string) (*topic, error) {
	j.view.RLock()
	t := j.byName[name]
	j.view.RUnlock()
	if j.isClosed() {
		return nil, errClosed
	}
	if t == nil {
		return nil, errNoTopic(name)
	}
	return t, nil
}

func (j *Journal) checkRecords(topic string, recs []event.Record) error {
	for i := range recs {
		if n := recs[i].Size(); n > j.maxRecord {
			return errkind.Errorf(errkind.Invalid, "record %d for topic %q has %d bytes; the journal takes at most %d", i, topic, n, j.maxRecord)
		}
	}
	return nil
}

// Publish stores recs, in order, and returns when they are durable. Records
// without a key are spread over the partitions one by one.
func (j *Journal) Publish(ctx context.Context, topic string, recs []event.Record) (broker.Published, error) {
	var done broker.Published
	t, err := j.topicByName(topic)
	if err != nil {
		return done, err
	}
	if err := j.checkRecords(topic, recs); err != nil {
		return done, err
	}
	// A call larger than one frame goes in pieces; a group's failure fails every
	// later one that was appended before it was known, so that waiting for the
	// last piece of each group is enough.
	var last ticket
	var stored int
	for len(recs) > 0 {
		n, size := 0, 0
		for n < len(recs) && (n == 0 || size+recs[n].Size() <= pieceBytes) {
			size += recs[n].Size() + 8
			n++
		}
		tk, dups, err := j.publishPiece(ctx, t, recs[:n])
		if err != nil {
			return done, err
		}
		if last.g != nil && last.g != tk.g {
			if err := last.wait(ctx); err != nil {
				return done, err
			}
			done.Stored, stored = done.Stored+stored, 0
		}
		if tk.g != nil {
			last = tk
		}
		stored += n - dups
		done.Duplicates += dups
		recs = recs[n:]
	}
	if err := last.wait(ctx); err != nil {
		return done, err
	}
	done.Stored += stored
	return done, nil
}

// publishPiece appends one frame. What it found to be duplicates is durable
// when it returns; the rest when the ticket says so.
func (j *Journal) publishPiece(ctx context.Context, t *topic, recs []event.Record) (ticket, int, error) {
	if err := j.waitRoom(ctx); err != nil {
		return ticket{}, 0, err
	}
	o := j.newOp()
	if t.dedup == nil {
		o.encode(t, broker.AnyPartition, recs)
		j.mu.Lock()
		tk, err := j.enqueue(o)
		j.mu.Unlock()
		if err != nil {
			j.freeOp(o)
		}
		return tk, 0, err
	}

	o.ids = t.dedup.hash(o.ids, recs)
	o.encode(t, broker.AnyPartition, recs)
	now := j.clock().UnixNano()
	t.dedup.mu.Lock()
	dups := t.dedup.admit(o, now, recs)
	if dups > 0 { // rare: encode again what is left
		o.buf, o.blocks = o.buf[:frameHeader], o.blocks[:0]
		o.encode(t, broker.AnyPartition, o.keep)
	}
	var tk ticket
	var err error
	var before [2]ticket
	j.mu.Lock()
	if dups > 0 {
		before = j.barrier()
	}
	if dups < len(recs) {
		tk, err = j.enqueue(o)
	}
	j.mu.Unlock()
	if err != nil {
		t.dedup.takeBack(o.added)
	}
	t.dedup.mu.Unlock()
	if err != nil || dups == len(recs) {
		j.freeOp(o)
	}
	if err == nil && dups > 0 {
		// The first of each pair may still be on its way: its failure is ours.
		err = waitAll(ctx, before)
	}
	return tk, dups, err
}

// Commit stores the records and moves the positions of tx as one frame. Records
// are stored whatever their IDs; the IDs count as seen for later calls of Publish.
func (j *Journal) Commit(ctx context.Context, tx *broker.Tx) error {
	if err := j.waitRoom(ctx); err != nil {
		return err
	}
	o := j.newOp()
	seen, err := j.encodeTx(o, tx)
	if err != nil {
		j.freeOp(o)
		return err
	}
	if len(o.blocks) == 0 {
		j.freeOp(o)
		return nil
	}
	for _, t := range seen {
		t.dedup.mu.Lock()
	}
	now := j.clock().UnixNano()
	for i := range tx.Publish {
		if t := topicIn(seen, tx.Publish[i].Topic); t != nil {
			o.ids = t.dedup.hash(o.ids[:0], tx.Publish[i].Records)
			t.dedup.remember(o, now)
		}
	}
	j.mu.Lock()
	var tk ticket
	for i := range tx.Positions {
		if err = tx.Positions[i].Claim.(*claim).held(); err != nil {
			break
		}
	}
	if err == nil {
		tk, err = j.enqueue(o)
	}
	j.mu.Unlock()
	for _, t := range seen {
		if err != nil {
			t.dedup.takeBack(o.added)
		}
		t.dedup.mu.Unlock()
	}
	if err != nil {
		j.freeOp(o)
		return err
	}
	return tk.wait(ctx)
}

func topicIn(seen []*topic, name string) *topic {
	for _, t := range seen {
		if t.conf.Name == name {
			return t
		}
	}
	return nil
}

// encodeTx writes tx into o. It returns the topics that remember IDs, in the
// order in which they are locked.
func (j *Journal) encodeTx(o *op, tx *broker.Tx) ([]*topic, error) {
	var seen []*topic
	for i := range tx.Publish {
		pub := &tx.Publish[i]
		t, err := j.topicByName(pub.Topic)
		if err != nil {
			return nil, err
		}
		if err := j.checkRecords(pub.Topic, pub.Records); err != nil {
			return nil, err
		}
		if pub.Partition < broker.AnyPartition || pub.Partition >= len(t.parts) {
			return nil, errNoPartition(t, pub.Partition)
		}
		size := len(o.buf)
		for k := range pub.Records {
			size += pub.Records[k].Size() + 8
		}
		if size > maxFrame/2 {
			return nil, errkind.Errorf(errkind.Invalid, "the transaction has more than %d bytes: split it", maxFrame/2)
		}
		o.encode(t, pub.Partition, pub.Records)
		if t.dedup != nil && !slices.Contains(seen, t) {
			seen = append(seen, t)
		}
	}
	slices.SortFunc(seen, func(a, b *topic) int { return int(a.id) - int(b.id) })
	var moves [1]move
	for i := range tx.Positions {
		c, ok := tx.Positions[i].Claim.(*claim)
		if !ok || c.j != j {
			return nil, errkind.New(errkind.Invalid, "the transaction moves a claim that is not of this journal")
		}
		if err := c.checkNext(tx.Positions[i].Next); err != nil {
			return nil, err
		}
		moves[0] = move{c.p.num, tx.Positions[i].Next}
		o.addMoves(c.p.topic, c.group.name, moves[:])
	}
	return seen, nil
}

func errNoPartition(t *topic, partition int) error {
	return errkind.Errorf(errkind.NotFound, "topic %q has no partition %d: it has %d, counted from 0", t.conf.Name, partition, len(t.parts))
}

// checkNext refuses positions that no record can have made.
func (c *claim) checkNext(next int64) error {
	c.j.view.RLock()
	end := c.p.end
	c.j.view.RUnlock()
	if next < 0 || next > end || next == math.MaxInt64 {
		return errkind.Errorf(errkind.Invalid, "position %d of topic %q partition %d cannot be committed: the partition ends at %d", next, c.p.topic.conf.Name, c.p.num, end)
	}
	return nil
}
